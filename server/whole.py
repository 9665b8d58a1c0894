"""Whole segments: what a node pushed goes on to the others as it came, where all of it is in one scope of theirs.

A line of the change index that is `whole` says: this version is one segment of nothing but new documents and events, all
its rows have this scope key, and it names every column of the version of the declaration given there (server/bulk.py).
Where the node has these very columns, a pull then tells the segment's bytes, unread, instead of the rows: a seventh of the
centre's work. The step of the segment's first table tells it, the steps of its other tables leave its lines out.

Every step, on whatever page, decides for itself whether a segment is told whole. So nothing here may depend on what can
change from no to yes while a pull is under way: rows would be left out that nobody told. From yes to no only tells them
twice. Spec: PROTOCOL.md P-8.16.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schema import window
from schema.capture import Store
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from server import journal
from server.skew import View
from sync.messages import SealedRows

WHOLE_ROWS_MIN = 1_000
"""Rows from which a segment is told whole: many small ones take less as columns of one page, and less to decide."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A segment that may be told whole: the table in whose step, how many rows it has, and bytes."""

    teller: str
    rows: int
    bytes: int


def find(view: View, scope: str, version: int, earlier: Iterable[str]) -> Whole | None:
    """Return the segment of a version if all its rows are in the scope, none in an earlier one, and all as they were pushed, in
    the columns the node has.
    """
    store, lines = view.store, _lines(view, scope, version)
    if not lines or not all(_untouched(store, table, low, high) and _is_inside(view, table, low, high) for table, low, high in lines):
        return None
    told = "SELECT 1 FROM _change WHERE t = ? AND sc = ? AND ver = ?"
    numbers = [store.numbers[table] for table, _, _ in lines]
    if any(store.connection.execute(told, (number, other, version)).fetchone() for other in earlier for number in numbers):
        return None
    (size,) = store.connection.execute("SELECT LENGTH(body) FROM _journal WHERE ver = ?", (version,)).fetchone()  # reads no body
    return Whole(lines[0][0], sum(high - low + 1 for _, low, high in lines), size) if size > journal.DIGEST_BYTES else None


def read(store: Store, version: int, whole: Whole) -> SealedRows:
    """Return a segment as its node pushed it."""
    body = store.connection.execute("SELECT body FROM _journal WHERE ver = ?", (version,)).fetchone()[0]
    return SealedRows(whole.rows, body)


def _lines(view: View, scope: str, version: int) -> list[tuple[str, int, int]]:
    """Return the tables of a whole segment, in the order of steps, each with its first and last row; none if the node has other
    columns of any of them.
    """
    store, found = view.store, list[tuple[str, int, int]]()
    sql = "SELECT lo, hi, whole FROM _change WHERE t = ? AND sc = ? AND ver = ? AND whole > 0"
    for name in (table.name for table in store.schema.tables if table.name in store.schema.fixed):
        for low, high, sealed_at in store.connection.execute(sql, (store.numbers[name], scope, version)).fetchall():
            if sealed_at not in view.unchanged(name):
                return []
            found.append((name, low, high))
    return found


def _is_inside(view: View, table: str, low: int, high: int) -> bool:
    """Tell whether none of the rows is from before the edge of the node's window."""
    if view.edge == window.NONE or table not in window.rolling(view.store.schema):
        return True
    inside = window.condition(view.store.schema, table, "r", view.edge)
    sql = f"SELECT 1 FROM {quote(table)} r WHERE r.{ROW_ID} BETWEEN ? AND ? AND NOT ({inside}) LIMIT 1"
    return view.store.connection.execute(sql, (low, high)).fetchone() is None


def _untouched(store: Store, table: str, low: int, high: int) -> bool:
    """Tell whether rows are all there and were never written again. A number is never given to another row, and a row that
    was changed or brought back has an entry in `_clock`, so there is no way back from no.
    """
    changed = "SELECT 1 FROM _clock WHERE t = ? AND rid BETWEEN ? AND ? LIMIT 1"
    if store.connection.execute(changed, (store.numbers[table], low, high)).fetchone():
        return False
    sql = f"SELECT COUNT(*) FROM {quote(table)} WHERE {ROW_ID} BETWEEN ? AND ?"
    return bool(store.connection.execute(sql, (low, high)).fetchone()[0] == high - low + 1)
