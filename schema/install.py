"""Creating the declared tables, their capture and the engine's bookkeeping in a database, node's or server's alike.

Runs in one transaction and may run again at any time: what is there stays. Table numbers are given once per database and
kept in `_table`, so that a table that is declared later does not shift the others.
"""

from __future__ import annotations

from collections.abc import Iterable

from schema.dialects.base import Connection, Dialect
from schema.registry import Schema

VIEWS = {
    "v_stock_balance": (
        ("stock_move",),
        "SELECT product_id, branch_id, SUM(qty_milli) AS qty_milli FROM stock_move GROUP BY product_id, branch_id",
    ),
}
"""Views by name: the tables they need, and their query. Balances are sums of events (ENGINE §5)."""


def install(connection: Connection, dialect: Dialect, schema: Schema, own: Iterable[str]) -> None:
    """Create everything that is missing. `own` is further DDL: the bookkeeping of a node or of a server."""
    dialect.begin_write(connection)
    try:
        for statement in (*dialect.bookkeeping(), *own, *dialect.tables(schema.tables)):
            connection.execute(statement)
        numbers = number_tables(connection, schema)
        for table in schema.tables:
            for statement in dialect.capture(table, numbers[table.name]):
                connection.execute(statement)
        for name, (needs, query) in VIEWS.items():
            if all(table in numbers for table in needs):
                connection.execute(f"CREATE VIEW IF NOT EXISTS {name} AS {query}")
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def number_tables(connection: Connection, schema: Schema) -> dict[str, int]:
    """Return each table's number in this database, giving numbers to new ones."""
    for table in schema.tables:
        connection.execute("INSERT OR IGNORE INTO _table (name) VALUES (?)", (table.name,))
    numbers = {str(name): int(t) for t, name in connection.execute("SELECT t, name FROM _table").fetchall()}
    for table in schema.tables:
        connection.execute("INSERT OR IGNORE INTO _mark (t, rid) VALUES (?, 0)", (numbers[table.name],))
    return numbers
