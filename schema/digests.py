"""Rows of declared tables in the order of their keys, and their digests: what node and server compare (PROTOCOL.md §9.3).

What a side compares are parts put together: at the centre one, the rows in the node's scope; on a node the rows people see
but for its own pending work, and the centre's rows under that work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from schema.capture import Store, read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from sync.columns import Column
from sync.digest import RowsDigest, row_digests
from sync.messages import KeyRange, RangeDigest
from sync.rows import columns_of, tuple_of
from sync.values import RawText

CHUNK_ROWS = 2_000
SORTED_ROWS_MAX = 5_000
"""Rows from which a table is read in the order of its keys rather than sorted, if they are much of it."""
_NO_KEY: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one SQL table with the declared columns, in a query called r; of them those that meet the condition."""

    source: str
    where: str = "1 = 1"
    parameters: tuple[Any, ...] = ()


def chunks(
    store: Store, table: Table, parts: Sequence[Part], low: Sequence[Any] | None = None, high: Sequence[Any] | None = None
) -> Iterator[list[Any]]:
    """Yield the rows with low < key <= high, in the order of their keys, some at a time."""
    width = len(table.key)
    while rows := first(store, table, parts, low, high, CHUNK_ROWS):
        yield rows
        if len(rows) < CHUNK_ROWS:
            return
        low = rows[-1][:width]


def first(
    store: Store, table: Table, parts: Sequence[Part], low: Sequence[Any] | None, high: Sequence[Any] | None, limit: int
) -> list[Any]:
    """Return the first rows with low < key <= high."""
    sql, parameters = _select(table, parts, *_bounds(table, low, high))
    return read_rows(store, f"{sql} LIMIT ?", [*parameters, limit])


def _bounds(table: Table, low: Sequence[Any] | None, high: Sequence[Any] | None) -> tuple[str, list[Any]]:
    key = ", ".join(f"r.{quote(name)}" for name in table.key)
    sql, values = "", list[Any]()
    for sign, bound in ((">", low), ("<=", high)):
        if bound is not None:
            marks, given = marks_of(bound)
            sql, values = f"{sql} AND ({key}) {sign} ({marks})", values + given
    return sql, values


def marks_of(row: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return placeholders and parameters for values as they are; a text that is not UTF-8 keeps its bytes."""
    marks, given = [], []
    for value in row:
        raw = value.raw if isinstance(value, RawText) else value.encode("utf-8", "surrogateescape") if _is_escaped(value) else None
        marks.append("?" if raw is None else "CAST(? AS TEXT)")
        given.append(value if raw is None else raw)
    return ", ".join(marks), given


def _is_escaped(value: Any) -> bool:
    return type(value) is str and not value.isascii() and any("\udc80" <= char <= "\udcff" for char in value)


def digest_of(store: Store, table: Table, parts: Sequence[Part], low: Any = None, high: Any = None) -> tuple[int, bytes]:
    """Return how many rows there are with low < key <= high, and their digest (PROTOCOL.md P-9.12)."""
    found = RowsDigest(table.name)
    for rows in chunks(store, table, parts, low, high):
        found.add(rows)
    return found.count, found.digest()


def digest_of_rows(store: Store, table: Table, parts: Sequence[Part], numbers: str, under: Sequence[Part] = ()) -> tuple[int, bytes]:
    """Return the same of those rows of the parts whose numbers are in a table (column `rid`), and of all rows of the parts `under`.

    Few of a large table are found one by one and then sorted. When they are much of it, the whole table is read in the order of
    its keys instead, some rows at a time: nothing is sorted, and memory is that of a page.
    """
    if _is_much(store, table, numbers):
        among = f"r.{ROW_ID} IN (SELECT rid FROM {numbers})"
        return digest_of(store, table, [*(Part(each.source, f"{among} AND ({each.where})", each.parameters) for each in parts), *under])
    found = [Part(f"{numbers} w CROSS JOIN {each.source}", f"r.{ROW_ID} = w.rid AND ({each.where})", each.parameters) for each in parts]
    return digest_sorted(store, table, [*found, *under])


def _is_much(store: Store, table: Table, numbers: str) -> bool:
    """Tell whether rows are many, and at least a quarter of the table."""
    count = int(store.connection.execute(f"SELECT COUNT(*) FROM {numbers}").fetchone()[0])
    if count < SORTED_ROWS_MAX:
        return False
    sql = f"SELECT COUNT(*) FROM (SELECT 1 FROM {quote(table.name)} LIMIT ?)"
    return int(store.connection.execute(sql, (4 * count + 1,)).fetchone()[0]) <= 4 * count


def digest_sorted(store: Store, table: Table, parts: Sequence[Part]) -> tuple[int, bytes]:
    """Return the number and the digest of all rows of the parts, which are found in any order, and sorted at once."""
    for as_bytes in (False, True):
        store.dialect.read_bytes(store.connection, as_bytes)
        try:
            return _digest_as_read(store, table, parts)
        except Exception as error:
            if as_bytes or not store.dialect.is_undecodable(error):
                raise
        finally:
            store.dialect.read_bytes(store.connection, False)
    raise AssertionError("unreachable")


def _digest_as_read(store: Store, table: Table, parts: Sequence[Part]) -> tuple[int, bytes]:
    """A function of its own, so that a cursor that failed is gone before the same statement is run again."""
    found, cursor = RowsDigest(table.name), store.connection.execute(*_select(table, parts, "", []))
    while rows := cursor.fetchmany(CHUNK_ROWS):
        found.add(rows)
    return found.count, found.digest()


def _select(table: Table, parts: Sequence[Part], bounds: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    columns = ", ".join(f"r.{quote(name)}" for name in table.names)
    selects = [f"SELECT {columns} FROM {part.source} r WHERE ({part.where}){bounds}" for part in parts]
    order = ", ".join(str(place + 1) for place in range(len(table.key)))
    parameters = [value for part in parts for value in (*part.parameters, *values)]
    return f"{' UNION ALL '.join(selects)} ORDER BY {order}", parameters


def answer(store: Store, table: Table, parts: Sequence[Part], asked: KeyRange) -> RangeDigest:
    """Return the digest of a range, or the keys and digests of its first rows."""
    low, high = tuple_of(asked.low), tuple_of(asked.high)
    if not asked.rows:
        return RangeDigest(*digest_of(store, table, parts, low, high), _NO_KEY, b"")
    rows = first(store, table, parts, low, high, asked.rows)
    found = RowsDigest(table.name)
    found.add(rows)
    return RangeDigest(len(rows), found.digest(), columns_of(rows, len(table.key)), b"".join(row_digests(table.name, rows)))
