"""Rows at the centre, one at a time: their values, who wrote each cell, and the graves of deleted ones.

The slow, obvious half of merging: server/merging/ decides, this stores. Called inside the write transaction with
capture off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schema.capture import Store, clean_row, read_rows
from schema.declare import Cell, Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.images import pack_values, unpack_values
from schema.keys import bound, key_text, where_key
from server.holding import Hold
from server.scopes import rid_of
from sync.merge import Meta

BIRTH = 0


@dataclass(frozen=True, slots=True)
class Grave:
    """A deleted row: its last values, when and by whom it was deleted."""

    rid: int
    version: int
    writer: int
    values: tuple[Any, ...]


def cell_number(table: Table, cell: Cell) -> int:
    """Return the number a cell has in `_clock`; 0 is the row's birth."""
    return table.cells.index(cell) + 1


def load(store: Store, table: Table, key: Sequence[Any]) -> tuple[int, tuple[Any, ...]] | None:
    """Return a living row's number and values."""
    where, parameters = where_key(table, key)
    found = select(store, table, where, parameters)
    return (found[0][-1], found[0][:-1]) if found else None


def select(store: Store, table: Table, where: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return rows, number last. What central programs wrote need not be clean text."""
    columns = ", ".join(map(quote, table.names))
    return [clean_row(row) for row in read_rows(store, f"SELECT {columns}, {ROW_ID} FROM {quote(table.name)} WHERE {where}", parameters)]


def insert(store: Store, table: Table, values: Mapping[str, Any], rid: int | None = None) -> int:
    """Insert a row and return its number; `rid` brings back a buried one under its own. Raises Hold where it is not there then."""
    if rid is None:
        rid = store.dialect.next_row(store.connection, store.numbers[table.name])
    names = [*values, *([ROW_ID] if rid is not None else [])]
    marks, given = bound([*values.values(), *([rid] if rid is not None else [])])
    store.connection.execute(f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, names))}) VALUES ({', '.join(marks)})", given)
    found = rid_of(store, table, [values[name] for name in table.key])
    if found is None:
        raise Hold("check", f"the centre's database leaves out what is new in {table.name}")
    return found


def write(store: Store, table: Table, rid: int, values: Mapping[str, Any]) -> None:
    """Set columns of a row."""
    if values:
        marks, given = bound(values.values())
        sets = ", ".join(f"{quote(name)} = {mark}" for name, mark in zip(values, marks, strict=True))
        store.connection.execute(f"UPDATE {quote(table.name)} SET {sets} WHERE {ROW_ID} = ?", [*given, rid])


def bury(store: Store, table: Table, rid: int, values: Sequence[Any], version: int, writer: int) -> None:
    """Delete a row and keep its last image."""
    store.connection.execute(f"DELETE FROM {quote(table.name)} WHERE {ROW_ID} = ?", (rid,))
    dig(store, table, rid, values, version, writer)


def dig(store: Store, table: Table, rid: int, values: Sequence[Any], version: int, writer: int) -> None:
    """Keep the last image of a row that is gone."""
    store.connection.execute(
        "INSERT INTO _tombstone (t, rid, key, ver, wr, image) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (t, rid)"
        " DO UPDATE SET key = excluded.key, ver = excluded.ver, wr = excluded.wr, image = excluded.image",
        (store.numbers[table.name], rid, key_text(tuple(values[: len(table.key)])), version, writer, pack_values(values)),
    )


def grave(store: Store, table: Table, key: Sequence[Any]) -> Grave | None:
    """Return the newest grave of a key."""
    row = store.connection.execute(
        "SELECT rid, ver, wr, image FROM _tombstone WHERE t = ? AND key = ? ORDER BY ver DESC LIMIT 1",
        (store.numbers[table.name], key_text(tuple(key))),
    ).fetchone()
    return Grave(row[0], row[1], row[2], tuple(unpack_values(row[3]))) if row else None


def open_grave(store: Store, table: Table, rid: int) -> None:
    """Forget a grave: its row lives again."""
    store.connection.execute("DELETE FROM _tombstone WHERE t = ? AND rid = ?", (store.numbers[table.name], rid))


_META = (
    "SELECT k.c, k.ver, k.wr, k.n, k.stamp, COALESCE(d.id, '') FROM _clock k"
    " LEFT JOIN _incarnation i ON i.inc = k.wr LEFT JOIN _node d ON d.node = i.node WHERE k.t = ? AND k.rid = ?"
)


def metas(store: Store, table: Table, rid: int) -> dict[int, Meta]:
    """Return who wrote what: by cell number, BIRTH for all cells that have none of their own."""
    rows = store.connection.execute(_META, (store.numbers[table.name], rid))
    return {c: Meta(version, writer, sequence, stamp, node) for c, version, writer, sequence, stamp, node in rows}


def stamp(store: Store, table: Table, rid: int, cell: int, version: int, writer: int, sequence: int, at: int) -> None:
    """Note who wrote a cell."""
    store.connection.execute(_STAMP, (store.numbers[table.name], rid, cell, version, writer, sequence, at))


def stamp_many(store: Store, version: int, writer: int, stamps: Iterable[tuple[int, int, int, int, int]]) -> None:
    """Note who wrote cells: (table's number, row, cell, the writer's own sequence, stamp) each."""
    store.connection.executemany(_STAMP, [(t, rid, cell, version, writer, sequence, at) for t, rid, cell, sequence, at in stamps])


def stamp_births(store: Store, table: Table, rids: Sequence[int], version: int, writer: int, at: int) -> None:
    """Note who wrote new rows."""
    t = store.numbers[table.name]
    stamp_many(store, version, writer, [(t, rid, BIRTH, 0, at) for rid in rids])


_STAMP = (
    "INSERT INTO _clock (t, rid, c, ver, wr, n, stamp) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (t, rid, c)"
    " DO UPDATE SET ver = excluded.ver, wr = excluded.wr, n = excluded.n, stamp = excluded.stamp"
)
