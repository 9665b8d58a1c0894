"""The same totals by branch, asked of a database that was imported into."""

from tests.realdata.expected import Totals
from tests.schema.importer.local import LocalTarget

SQL = """
SELECT branch_id, SUM(kind = 'sale'), SUM(kind = 'return'), SUM(n), SUM(qty), SUM(total_minor), SUM(amount)
FROM sale LEFT JOIN (SELECT sale_id, COUNT(*) AS n, SUM(qty_milli) AS qty, SUM(amount_minor) AS amount
                     FROM sale_line GROUP BY sale_id) AS lines ON lines.sale_id = sale.id
GROUP BY branch_id
"""


def sums_by_branch(target: LocalTarget) -> dict[str, Totals]:
    """Return what was imported; the sales' own totals must be those of their lines."""
    found = {}
    for branch, receipts, returns, lines, quantity, total, amount in target.rows(SQL):
        assert total == amount
        found[branch] = Totals(receipts, returns, lines, quantity, total)
    return found
