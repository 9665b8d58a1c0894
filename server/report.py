"""Report: the consolidated view of sales, and how complete it is.

Heads and lines are summed by two queries over one snapshot, so that a receipt with three lines counts once. Sums are
taken in halves of 32 bits: whatever a program wrote into a column, a sum neither overflows nor rounds.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from schema.capture import Store

DAY_MS: Final = 24 * 3600 * 1000


class By(enum.StrEnum):
    """What sales are grouped by."""

    branch = "branch"
    month = "month"
    region = "region"
    product = "product"
    employee = "employee"
    contact = "contact"


@dataclass(slots=True)
class Totals:
    """One group's sums. Quantities in thousandths, money in minor units, signed as found."""

    key: str | None
    name: str | None
    currency: str
    receipts: int = 0
    returns: int = 0
    lines: int = 0
    qty_milli: int = 0
    total_minor: int = 0

    def document(self) -> dict[str, object]:
        """Return what `report sales` prints of it."""
        return {name: getattr(self, name) for name in self.__slots__}


_KEYS: Final = {
    By.branch: "s.branch_id",
    By.region: "(SELECT b.region FROM branch b WHERE b.id = s.branch_id)",
    By.employee: "s.employee_id",
    By.contact: "s.contact_id",
}
_NAMED: Final = {By.branch: "branch", By.product: "product", By.employee: "employee", By.contact: "contact"}


def _sum(column: str) -> str:
    return f"COALESCE(SUM({column} >> 32), 0), COALESCE(SUM({column} & 4294967295), 0)"


def _count(kind: str) -> str:
    return f"SUM(CASE WHEN s.kind = '{kind}' THEN 1 ELSE 0 END)"


def _month(store: Store) -> str:
    """Return SQL for a sale's month: of its business date, else of the day in UTC on which it was recorded."""
    return store.dialect.month_of("s.business_date", "s.sold_ms")


def _whole(high: int, low: int) -> int:
    return (high << 32) + low


def sales(store: Store, by: By) -> list[Totals]:
    """Return sales by group and currency: by key; products, employees and contacts with the greatest totals first."""
    found = _by_product(store) if by is By.product else _by_head(store, _month(store) if by is By.month else _KEYS[by])
    names = _names(store, _NAMED[by]) if by in _NAMED else None
    for each in found:
        each.name = each.key if names is None else None if each.key is None else names.get(each.key)
    if by in (By.product, By.employee, By.contact):
        return sorted(found, key=lambda each: (each.currency, -each.total_minor, each.key is None, each.key or ""))
    return sorted(found, key=lambda each: (each.key is None, each.key or "", each.currency))


def by_branch_and_month(store: Store) -> list[tuple[str | None, str | None, str, int]]:
    """Return (branch, month, currency, total in minor units), for the picture."""
    sql = f"SELECT s.branch_id, {_month(store)}, s.currency, {_sum('s.total_minor')} FROM sale s GROUP BY 1, 2, 3"
    return [(branch, month, currency, _whole(high, low)) for branch, month, currency, high, low in _rows(store, sql)]


def _by_head(store: Store, key: str) -> list[Totals]:
    heads = f"SELECT {key}, s.currency, {_count('sale')}, {_count('return')}, {_sum('s.total_minor')} FROM sale s GROUP BY 1, 2"
    lines = f"SELECT {key}, s.currency, COUNT(*), {_sum('l.qty_milli')} FROM sale_line l JOIN sale s ON s.id = l.sale_id GROUP BY 1, 2"
    found = {
        (row[0], row[1]): Totals(row[0], None, row[1], row[2] or 0, row[3] or 0, total_minor=_whole(row[4], row[5]))
        for row in _rows(store, heads)
    }
    for group, currency, count, high, low in _rows(store, lines):
        found[group, currency].lines, found[group, currency].qty_milli = count, _whole(high, low)
    return list(found.values())


def _by_product(store: Store) -> list[Totals]:
    sql = (
        "SELECT l.product_id, s.currency, COUNT(DISTINCT CASE s.kind WHEN 'sale' THEN s._rid END),"
        f" COUNT(DISTINCT CASE s.kind WHEN 'return' THEN s._rid END), COUNT(*), {_sum('l.qty_milli')}, {_sum('l.amount_minor')}"
        " FROM sale_line l JOIN sale s ON s.id = l.sale_id GROUP BY 1, 2"
    )
    return [
        Totals(row[0], None, row[1], row[2], row[3], row[4], _whole(row[5], row[6]), _whole(row[7], row[8])) for row in _rows(store, sql)
    ]


def _names(store: Store, table: str) -> dict[str, str]:
    return dict(_rows(store, f"SELECT id, name FROM {table}"))


def _rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    """Return rows with every text made whole: a central program may have written one that is not UTF-8."""
    store.dialect.read_bytes(store.connection, True)
    try:
        return [tuple(map(_text, row)) for row in store.connection.execute(sql)]
    finally:
        store.dialect.read_bytes(store.connection, False)


def _text(value: Any) -> Any:
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if type(value) is str else value


# --- how complete -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Behind:
    """A node whose work is not all here, as far as the centre knows."""

    name: str
    unsynced: int
    last_ms: int | None


@dataclass(frozen=True, slots=True)
class Freshness:
    """Everything that `complete` of `nodes` nodes recorded up to `complete_to_ms` is here; the others are behind."""

    complete_to_ms: int | None
    complete: int
    nodes: int
    behind: tuple[Behind, ...]
    held: int = 0  # transactions that wait at the centre, or were withheld by nodes: not in the figures


def freshness(nodes: Iterable[dict[str, Any]]) -> Freshness:
    """Return how complete the centre's figures are, from the board of nodes.

    A node is complete to its last whole exchange if it told then that nothing waits. Nodes more than a day behind the
    most recent one do not pull the date down: they are named instead. Revoked nodes and invitations do not count.
    """
    counted = [node for node in nodes if node["joined_ms"] is not None and not node["revoked"]]
    complete_to = {node["name"]: node["last_pull_ms"] for node in counted if node["last_pull_ms"] is not None and not node["unsynced"]}
    newest = max(complete_to.values(), default=0)
    complete_to = {name: at for name, at in complete_to.items() if newest - at <= DAY_MS}
    behind = tuple(
        Behind(node["name"], node["unsynced"] or 0, max(filter(None, (node["last_push_ms"], node["last_pull_ms"])), default=None))
        for node in counted
        if node["name"] not in complete_to
    )
    return Freshness(
        min(complete_to.values(), default=None), len(complete_to), len(counted), behind, sum(node["held"] or 0 for node in counted)
    )
