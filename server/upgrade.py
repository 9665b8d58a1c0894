"""Upgrade of the centre in place: what central programs wrote is journaled as it was, bookkeeping follows the columns.

    before: journal what central programs wrote, under the old declaration
    after:  clocks by cell, graves and conflicts in today's columns; work that was held for the declaration tried again

Nothing of this is a version: a newer node converts the same values the same way, an older one is sent what it had.
Called by schema/install.py inside its one transaction. Spec: PROTOCOL.md §11.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from schema.capture import Store
from schema.declare import Table
from schema.images import pack_tuple, pack_values, unpack_tuple
from schema.lens import Lens, TableLens
from server import centre, ingest
from server.held import Works, waiting
from server.holding import held_rows
from sync.errors import Altered

CHUNK_ROWS = 5_000


class ServerKeeper:
    """What the centre does with its bookkeeping when the declaration moves on."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms

    def before(self, store: Store) -> None:
        """Journal what central programs wrote under the declaration before."""
        centre.absorb(store, self._clock_ms())

    def gone(self, store: Store, tables: Sequence[Table]) -> None:
        """Refuse to go on without tables that another program has dropped. Raises Altered."""
        raise Altered(f"Another program has dropped {', '.join(table.name for table in tables)} from this database.")

    def after(self, store: Store, lens: Lens) -> None:
        """Bring clocks, graves and conflicts up to date, and release what waited for this declaration."""
        for table in lens.tables.values():
            _clocks(store, table)
            if not table.is_plain:
                _graves(store, table)
                _conflicts(store, table)
        store.connection.execute("UPDATE _server SET schema = ? WHERE id = 1", (store.schema.version,))
        self.redeclared(store)

    def redeclared(self, store: Store) -> None:
        """Release what waited for this declaration."""
        now_ms = self._clock_ms()
        with centre.engine_writes(store, now_ms):
            _read_again(store)
            ingest.release(store, now_ms)


def _clocks(store: Store, table: TableLens) -> None:
    """Give cells their numbers of today: a column in the middle moves those behind it."""
    moved = []
    for number, cell in enumerate(table.older.cells, 1):
        for now, _ in table.cells_of(cell.columns):
            if (place := table.newer.cells.index(now) + 1) != number:
                moved.append((number, place))
    for was, place in moved:  # by way of numbers that no cell has: two may change places
        _renumber(store, table, was, -place)
    for _, place in moved:
        _renumber(store, table, -place, place)


def _renumber(store: Store, table: TableLens, was: int, place: int) -> None:
    t = store.numbers[table.newer.name]
    store.connection.execute("UPDATE _clock SET c = ? WHERE t = ? AND c = ?", (place, t, was))


def _graves(store: Store, table: TableLens) -> None:
    t, last = store.numbers[table.newer.name], -(1 << 62)
    sql = "SELECT rid, image FROM _tombstone WHERE t = ? AND rid > ? ORDER BY rid LIMIT ?"
    while found := store.connection.execute(sql, (t, last, CHUNK_ROWS)).fetchall():
        last = found[-1][0]
        changed = [(pack_values(table.up_row(unpack_tuple(image) or ())), t, rid) for rid, image in found]
        store.connection.executemany("UPDATE _tombstone SET image = ? WHERE t = ? AND rid = ?", changed)


def _conflicts(store: Store, table: TableLens) -> None:
    last = b""
    sql = "SELECT id, columns, base, mine, theirs, decided FROM _conflict WHERE tbl = ? AND id > ? ORDER BY id LIMIT ?"
    update = "UPDATE _conflict SET columns = ?, base = ?, mine = ?, theirs = ?, decided = ? WHERE id = ?"
    while found := store.connection.execute(sql, (table.newer.name, last, CHUNK_ROWS)).fetchall():
        last = found[-1][0]
        for number, packed, *sides in found:
            columns = json.loads(packed)
            names = [newer.name for name in columns if (newer := table.by_older[name].newer) is not None]
            store.connection.execute(update, (json.dumps(names), *(_side(table, columns, side) for side in sides), number))


def _side(table: TableLens, columns: Sequence[str], packed: bytes | None) -> bytes | None:
    values = unpack_tuple(packed)
    if values is None:
        return None
    if columns:
        return pack_tuple(tuple(table.by_older[name].up(value) for name, value in zip(columns, values, strict=True)))
    return pack_tuple(table.up_row(values)) if len(values) == len(table.older.names) else packed


def _read_again(store: Store) -> None:
    """Note anew which rows work touches that was held for the declaration: until now some keys could not be told."""
    works = Works(store)
    for held in waiting(store):
        if held.code == "schema":
            store.connection.execute("DELETE FROM _held_row WHERE held = ?", (held.id,))
            found = [(held.id, held.node, table, key) for table, key in held_rows(store, works.of(held).ops)]
            store.connection.executemany("INSERT INTO _held_row (held, node, tbl, key) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", found)
