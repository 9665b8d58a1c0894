"""Verify: what the centre holds in a node's scope, as digests of tables and of key ranges, as keys, as rows (PROTOCOL.md §9.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schema.capture import Store, clean_row, read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.digests import Part, answer, digest_of
from schema.keys import key_text, where_key
from server import histories, journal, scopes
from server.draft import PAGE_BYTES
from server.scope_sql import shown_condition
from server.skew import View
from sync.errors import Malformed, Moved, UnknownTable
from sync.limits import ROW_BYTES_MAX, VERIFY_ROWS_MAX
from sync.messages import (
    ELSEWHERE,
    FOUND,
    LARGE,
    UNKNOWN,
    Found,
    KeyRange,
    RangeDigest,
    TableDigest,
    VerifyReply,
    VerifyRequest,
    Wanted,
)
from sync.rows import rows_of, tuple_of, weight_of
from sync.values import value_order


def verify(store: Store, node: int, request: VerifyRequest) -> VerifyReply:
    """Return what was asked for at the node's cursor. Raises Moved if the centre is past it; the node pulls and asks again."""
    journal.require(store, request.cursor)
    histories.find(store, node, request.incarnation)
    head = journal.head(store)
    if head.number != request.cursor.number:
        raise Moved(f"The centre is at version {head.number} now.")
    show(store, scopes.entitled(store, node))
    view = View.of(store, request.schema, request.edge)
    compared = view.compared(request.only)
    if not request.ranges and request.wanted is None:
        digests = tuple(_table(view, table, names) for table, names in compared)
        return VerifyReply(head.number, digests, (), None, view.version)
    found = _found(view, node, request.wanted) if request.wanted is not None else None
    ranges = _ranges(view, {table.name: table for table, _ in compared}, request.ranges)
    return VerifyReply(head.number, (), ranges, found, view.version)


def show(store: Store, scope: frozenset[str]) -> None:
    """Put scope keys where `shown_condition` finds them (server/scope_sql.py)."""
    connection = store.connection
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS _visible (sc TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM _visible")
    connection.executemany("INSERT INTO _visible (sc) VALUES (?)", [(key,) for key in sorted(scope)])


def _parts(view: View, table: Table) -> list[Part]:
    return [Part(quote(table.name), shown_condition(view.store.schema, table, view.edge))]


def _table(view: View, table: Table, names: tuple[str, ...]) -> TableDigest:
    return TableDigest(table.name, *digest_of(view.store, table, _parts(view, table)), names)


def _known(tables: Mapping[str, Table], name: str) -> Table:
    table = tables.get(name)
    if table is None:
        raise UnknownTable(f"The centre has no table {name}.")
    return table


# --- ranges -------------------------------------------------------------------------------------------------------------


def _ranges(view: View, tables: Mapping[str, Table], asked: Sequence[KeyRange]) -> tuple[RangeDigest, ...]:
    """Answer for ranges that follow each other, so that no row is read twice."""
    if sum(each.rows for each in asked) > VERIFY_ROWS_MAX:
        raise Malformed(f"a request to verify asks for more than {VERIFY_ROWS_MAX} rows")
    last: tuple[str, Any] | None = None
    done = set[str]()
    for each in asked:
        table = _known(tables, each.table)
        low, high = _order(table, each.low), _order(table, each.high)
        follows = last is None or (last[0] != each.table and each.table not in done) or (last[0] == each.table and _meets(last[1], low))
        if not follows:
            raise Malformed("the ranges of a request to verify do not follow each other")
        last = (each.table, high)
        done.add(each.table)
    return tuple(answer(view.store, tables[each.table], _parts(view, tables[each.table]), each) for each in asked)


def _order(table: Table, key: Any) -> Any:
    values = tuple_of(key)
    if values is not None and len(values) != len(table.key):
        raise Malformed("a bound of a range is no key of its table")
    return None if values is None else tuple(map(value_order, values))


def _meets(high: Any, low: Any) -> bool:
    return high is not None and low is not None and bool(high <= low)


# --- rows by key --------------------------------------------------------------------------------------------------------


def _found(view: View, node: int, wanted: Wanted) -> Found:
    """Return as many of the rows as a page holds, in the order they were asked for, in the columns of the node."""
    store, table = view.store, _known(view.tables, wanted.table)
    if wanted.count > VERIFY_ROWS_MAX:
        raise Malformed(f"a request to verify asks for more than {VERIFY_ROWS_MAX} rows")
    states, rows, size = bytearray(), list[Any](), 0
    columns, scope = ", ".join(f"r.{quote(name)}" for name in table.names), shown_condition(store.schema, table, view.edge)
    for key in zip(*rows_of(wanted.key, wanted.count, len(table.key)), strict=True):
        where, parameters = where_key(table, key)
        found = read_rows(store, f"SELECT {columns} FROM {quote(table.name)} r WHERE {where} AND ({scope})", parameters)
        if not found:
            states.append(ELSEWHERE if _was_ever(store, node, table, key) else UNKNOWN)
            continue
        bytes_ = weight_of(found)
        if bytes_ > ROW_BYTES_MAX:
            states.append(LARGE)
            continue
        if rows and size + bytes_ > PAGE_BYTES:
            break
        states.append(FOUND)
        rows.append(clean_row(found[0]))
        size += bytes_
    block = view.rows(table, rows)
    assert block is not None
    return Found(bytes(states), block)


def _was_ever(store: Store, node: int, table: Table, key: tuple[Any, ...]) -> bool:
    """Tell whether the centre has or had a row, refused it of this node, holds work of this node on it, or the node took it back
    before it was here: then the node's own is no news to it.
    """
    where, parameters = where_key(table, key)
    connection, name = store.connection, key_text(key)
    looks: list[tuple[str, list[Any]]] = [
        (f"SELECT {ROW_ID} FROM {quote(table.name)} WHERE {where}", parameters),
        ("SELECT 1 FROM _tombstone WHERE t = ? AND key = ?", [store.numbers[table.name], name]),
        ("SELECT 1 FROM _refused_key WHERE node = ? AND tbl = ? AND key = ?", [node, table.name, name]),
        ("SELECT 1 FROM _held_row WHERE node = ? AND tbl = ? AND key = ?", [node, table.name, name]),
        ("SELECT 1 FROM _given_up WHERE node = ? AND tbl = ? AND key = ?", [node, table.name, name]),
    ]
    return any(connection.execute(f"{sql} LIMIT 1", values).fetchone() for sql, values in looks)
