"""Upgrade of a node in place: what is unsent is sealed as it was written, what is kept of it is brought up to date.

    before: seal what any program wrote, under the old declaration; forget pages of a pull that is not complete
    after:  pending changes, the centre's rows under them, refused work and conflicts in today's columns; rows drawn again;
            tables of which this version shows more are asked for afresh with the next pull

Sealed segments keep their bytes and their version: whoever reads them translates (schema/lens.py). Called by
schema/install.py inside its one transaction. Spec: PROTOCOL.md §11.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from node import outbox, pending, proof
from node.database import read_state
from schema.capture import Store, mark_all, set_applying
from schema.declare import Table
from schema.images import pack_values, unpack_tuple
from schema.lens import Lens
from schema.notices import up_notice
from sync.limits import MESSAGE_BYTES_MAX
from sync.messages import ConflictNotice
from sync.wire import pack, unpack


class NodeKeeper:
    """What a node does with its bookkeeping when the declaration moves on."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms

    def before(self, store: Store) -> None:
        """Seal everything that is not sealed yet, under the declaration it was written with."""
        outbox.seal(store, self._clock_ms())
        store.connection.execute("DELETE FROM _stage")

    def gone(self, store: Store, tables: Sequence[Table]) -> None:
        """Make tables anew that another program has dropped: the centre has the rows, a repair fetches them. New rows go on
        above the mark, or none of them would be seen (schema/capture.py).
        """
        marks: dict[int, int] = dict(store.connection.execute("SELECT t, rid FROM _mark").fetchall())
        rows = 0
        for table in tables:
            store.connection.execute(store.dialect.create(table, table.name))
            highest = marks.get(store.numbers[table.name], 0)
            store.dialect.go_on_from(store.connection, table.name, highest)
            rows += highest
        proof.note(store, read_state(store.connection).cursor.number, max(rows, 1), self._clock_ms())

    def after(self, store: Store, lens: Lens) -> None:
        """Bring what is kept of pending work up to date, and note what to ask for."""
        set_applying(store, True)
        _changes(store, lens, "_op")
        _changes(store, lens, "_quarantine")
        _shadows(store, lens)
        _conflicts(store, lens)
        mark_all(store)
        set_applying(store, False)
        wanted = {**dict.fromkeys(lens.richer, lens.older.version), **read_state(store.connection).afresh}
        store.connection.execute("UPDATE _node SET afresh = ? WHERE id = 1", (json.dumps(wanted) if wanted else None,))

    def redeclared(self, store: Store) -> None:
        """Do nothing: what waits for another declaration waits at the centre."""


def _changes(store: Store, lens: Lens, where: str) -> None:
    """Bring kept changes of rows up to date; one that touches nothing any more is in its segment, and goes here."""
    for number, name, kind, body in store.connection.execute(f"SELECT id, tbl, kind, body FROM {where}").fetchall():
        table = lens.tables.get(name)
        if table is None or table.is_plain:
            continue
        op = table.up_op(pending.unpack(name, kind, body))
        if op is not None:
            store.connection.execute(f"UPDATE {where} SET body = ? WHERE id = ?", (pending.pack(op)[1], number))
        elif where == "_op":
            store.connection.execute("DELETE FROM _op WHERE id = ?", (number,))


def _shadows(store: Store, lens: Lens) -> None:
    """Bring the centre's rows under pending changes up to date, and draw those rows again."""
    for name, key, packed in store.connection.execute("SELECT tbl, key, image FROM _shadow").fetchall():
        table, image = lens.tables.get(name), unpack_tuple(packed)
        if table is None or table.is_plain:
            continue
        if image is not None:
            sql = "UPDATE _shadow SET image = ? WHERE tbl = ? AND key = ?"
            store.connection.execute(sql, (pack_values(table.up_row(image)), name, key))
        pending.redraw(store, table.newer, key)


def _conflicts(store: Store, lens: Lens) -> None:
    for number, body in store.connection.execute("SELECT id, body FROM _conflict").fetchall():
        found = up_notice(lens, unpack(ConflictNotice, body, MESSAGE_BYTES_MAX))
        if found is None:  # of a column that is gone here; the centre has it on record
            store.connection.execute("DELETE FROM _conflict WHERE id = ?", (number,))
        else:
            store.connection.execute("UPDATE _conflict SET body = ? WHERE id = ?", (pack(found), number))
