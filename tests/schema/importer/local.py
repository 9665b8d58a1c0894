"""A local import target: a real database file with the declared columns as plain tables, and what was announced."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlcipher3

from schema.importer import brought

TABLES = {
    "branch": "name, region",
    "employee": "name, branch_id, role",
    "product": "sku, name, category",
    "price": "product_id, branch_id, valid_from_ms, currency, amount_e4",
    "stage": "name, position, probability",
    "contact": "kind NOT NULL, name NOT NULL, organisation_id, phone, email, street, postcode, city, country, note,"
    " owner_id, branch_id, credit_limit_minor, created_ms",
    "deal": "contact_id, owner_id, title, stage_id, currency, amount_minor, expected_on, refusal_reason_id",
    "sale": "number NOT NULL, kind NOT NULL, branch_id NOT NULL, till, employee_id, contact_id, original_sale_id,"
    " sold_ms NOT NULL, business_date, currency NOT NULL, total_minor NOT NULL, tax_minor, discount_minor",
    "sale_line": "sale_id NOT NULL, product_id, name, qty_milli NOT NULL, unit_price_e4 NOT NULL, discount_e4, amount_minor NOT NULL",
    "payment": "sale_id NOT NULL, method NOT NULL, amount_minor NOT NULL",
}
REFERENCE = frozenset({"branch", "employee", "product", "price", "stage"})

everything: Callable[[str], bool] = TABLES.__contains__
reference: Callable[[str], bool] = REFERENCE.__contains__


def records(table: str) -> bool:
    """What a node may write."""
    return table in TABLES and table not in REFERENCE


class LocalTarget:
    """An ImportTarget. `announced` has, per sync transaction, how many rows of all tables there were after it."""

    is_typed = False

    def __init__(self, path: Path, fail_at: int | None = None) -> None:
        self.connection: Any = sqlcipher3.connect(str(path), isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        for table, columns in TABLES.items():
            self.connection.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (_rid INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, {columns})"
            )
        self.connection.execute(brought.TABLE)
        self.calls: list[str] = []
        self.announced: list[int] = []
        self._fail_at = fail_at

    def begin(self) -> None:
        self.calls.append("begin")
        self.connection.execute("BEGIN IMMEDIATE")

    def announce(self) -> None:
        self.announced.append(self.connection.total_changes)
        if len(self.announced) == self._fail_at:
            raise OSError("the disk is full")

    def commit(self) -> None:
        self.calls.append("commit")
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        self.calls.append("rollback")
        self.connection.execute("ROLLBACK")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self.connection.execute(sql))

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables, without their numbers."""
        return {
            table: [row[1:] for row in self.rows(f"SELECT * FROM {table} ORDER BY id")]  # row 0 is _rid
            for table in TABLES
        }
