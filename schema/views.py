"""Views for reading: what reports and BI tools ask for, with names beside the ids. docs/views.md says what the columns mean.

Made in every database that has the tables and columns a view reads: a node's views show what the node holds. Views of the centre read its
bookkeeping as well. Money is in minor units, quantities in thousandths, times in ms since 1970 UTC, as in the tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from schema.registry import Schema


@dataclass(frozen=True, slots=True)
class View:
    """A view: which columns of which tables it reads, and its query. `is_central`: it reads the centre's bookkeeping."""

    name: str
    query: str
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_central: bool = False

    def fits(self, schema: Schema) -> bool:
        """Tell whether a database of this declaration can have it."""
        if self.is_central and not schema.is_centre:
            return False
        return all(
            table in schema.by_name and schema.by_name[table].position.keys() >= set(columns) for table, columns in self.needs.items()
        )


_BRANCH = ("id", "name", "region")
_EMPLOYEE = ("id", "name")
_CONTACT = ("id", "name", "branch_id")
_SALE = (
    *("id", "number", "kind", "branch_id", "till", "employee_id", "contact_id", "original_sale_id", "sold_ms", "business_date", "currency"),
    *("total_minor", "tax_minor", "discount_minor"),
)
_LINE = ("id", "sale_id", "product_id", "name", "qty_milli", "unit_price_e4", "discount_e4", "amount_minor")
_DEAL = ("id", "contact_id", "owner_id", "title", "stage_id", "currency", "amount_minor", "expected_on", "refusal_reason_id")

VIEWS = (
    View(  # balances are sums of events (ENGINE §5)
        "v_stock_balance",
        "SELECT product_id, branch_id, SUM(qty_milli) AS qty_milli FROM stock_move GROUP BY product_id, branch_id",
        {"stock_move": ("product_id", "branch_id", "qty_milli")},
    ),
    View(
        "v_sales",
        "SELECT s.id AS sale_id, s.number, s.kind, s.branch_id, b.name AS branch, b.region, s.till, s.employee_id, e.name AS employee,"
        " s.contact_id, c.name AS contact, s.original_sale_id, s.sold_ms, s.business_date, s.currency, s.total_minor, s.tax_minor,"
        " s.discount_minor FROM sale s LEFT JOIN branch b ON b.id = s.branch_id LEFT JOIN employee e ON e.id = s.employee_id"
        " LEFT JOIN contact c ON c.id = s.contact_id",
        {"sale": _SALE, "branch": _BRANCH, "employee": _EMPLOYEE, "contact": _CONTACT},
    ),
    View(
        "v_sale_lines",
        "SELECT l.id AS line_id, l.sale_id, s.number, s.kind, s.branch_id, s.sold_ms, s.business_date, s.currency, l.product_id, p.sku,"
        " COALESCE(p.name, l.name) AS product, p.category, l.qty_milli, l.unit_price_e4, l.discount_e4, l.amount_minor"
        " FROM sale_line l LEFT JOIN sale s ON s.id = l.sale_id LEFT JOIN product p ON p.id = l.product_id",
        {"sale_line": _LINE, "sale": _SALE, "product": ("id", "sku", "name", "category")},
    ),
    View(
        "v_stage_events",
        "SELECT v.id AS event_id, v.deal_id, d.title, d.contact_id, d.owner_id, v.stage_id, t.name AS stage, t.position, v.employee_id,"
        " e.name AS employee, v.entered_ms FROM stage_event v LEFT JOIN deal d ON d.id = v.deal_id LEFT JOIN stage t ON t.id = v.stage_id"
        " LEFT JOIN employee e ON e.id = v.employee_id",
        {
            "stage_event": ("id", "deal_id", "stage_id", "employee_id", "entered_ms"),
            "deal": _DEAL,
            "stage": ("id", "name", "position"),
            "employee": _EMPLOYEE,
        },
    ),
    View(
        "v_pipeline",
        "SELECT d.id AS deal_id, d.title, d.contact_id, c.name AS contact, c.branch_id, d.owner_id, e.name AS owner, d.stage_id,"
        " t.name AS stage, t.position, t.probability, d.currency, d.amount_minor, d.expected_on, d.refusal_reason_id,"
        " (SELECT MAX(v.entered_ms) FROM stage_event v WHERE v.deal_id = d.id) AS entered_ms FROM deal d"
        " LEFT JOIN contact c ON c.id = d.contact_id LEFT JOIN employee e ON e.id = d.owner_id LEFT JOIN stage t ON t.id = d.stage_id",
        {
            "deal": _DEAL,
            "contact": _CONTACT,
            "employee": _EMPLOYEE,
            "stage": ("id", "name", "position", "probability"),
            "stage_event": ("deal_id", "entered_ms"),
        },
    ),
    View(
        "v_freshness",
        "SELECT n.name AS node, n.joined_ms, n.last_push_ms, n.last_pull_ms, n.unsynced, n.held, n.conflicts, n.cursor AS version,"
        " s.head AS centre_version, s.head - n.cursor AS behind, CASE WHEN n.revoked_ms IS NULL THEN 0 ELSE 1 END AS revoked"
        " FROM _node n CROSS JOIN _server s",
        is_central=True,
    ),
    View(
        "v_completeness",
        "SELECT e.scope, COUNT(*) AS nodes, COUNT(CASE WHEN n.unsynced = 0 THEN n.last_pull_ms END) AS complete,"
        " MIN(CASE WHEN n.unsynced = 0 THEN n.last_pull_ms END) AS complete_ms, CAST(COALESCE(SUM(n.unsynced), 0) AS BIGINT) AS unsynced"
        " FROM _entitled e JOIN _node n ON n.node = e.node WHERE e.until IS NULL AND n.revoked_ms IS NULL AND n.joined_ms IS NOT NULL"
        " GROUP BY e.scope",
        is_central=True,
    ),
)


def fitting(schema: Schema) -> Iterator[View]:
    """Yield the views that a database of this declaration has."""
    return (view for view in VIEWS if view.fits(schema))
