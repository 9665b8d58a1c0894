"""Repair: mending rows that differ from the centre's, without a full reload, and without throwing away what anybody typed.

    missing here      ─► the centre's row is written, under our own pending work
    differs           ─► the same; the row that was here is put aside, where it can be seen
    not at the centre ─► it never had the row, nor refused it: capture never saw it. It is offered as new work
                         it had it, or it is out of our scope: put aside

All in one commit with capture off, so a repair that is killed has changed nothing, and one that is repeated finds nothing.
Why: docs/decisions/0011-repair-keeps-what-was-typed.md. Spec: PROTOCOL.md §9.3.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

from node import centre, changed, outbox, pending, withdrawing
from node.apply import write_rows
from node.aside import BY_REPAIR
from node.database import State, read_state
from node.narrow import EXTRA, Difference, Narrowing
from schema.capture import Store, clean_row, mark_all, set_applying
from schema.declare import Table
from schema.keys import key_json, key_text
from sync.change import Insert
from sync.errors import Moved
from sync.messages import UNKNOWN, Point

NOT_THERE = "it is not at the centre, or no more in this node's scope; found by verify"
OTHER = "the centre has other values for it; found by verify"

SHOWN_ROWS = 1_000
"""Rows that a repair names; it counts all of them."""

_BATCH_ROWS = 500

MENDED, KEPT, OFFERED, LEFT = "mended", "put aside", "offered", "left"


@dataclass(slots=True)
class Repaired:
    """What a repair did, row by row."""

    counts: Counter[str] = field(default_factory=Counter)
    total: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def note(self, each: Difference, *done: str) -> None:
        """Note what was done to a row."""
        self.counts.update(done)
        self.total += 1
        if len(self.rows) < SHOWN_ROWS:
            row = {"table": each.table.name, "key": key_json(each.key), "what": each.what, "done": list(done)}
            self.rows.append(row)

    def document(self) -> dict[str, Any]:
        """Return it as `outpost node verify --repair --json` prints it."""
        counts = {name.replace(" ", "_"): self.counts[name] for name in (MENDED, KEPT, OFFERED, LEFT)}
        return {**counts, "total": self.total, "rows": self.rows}


def repair(found: Narrowing) -> Repaired:
    """Mend the differences that were found, in one commit. Raises Moved if the centre, or this node, has moved on; nothing is changed
    then.
    """
    found.fetch()
    database, done = found.database, Repaired()
    with database.writing() as store:
        if _place(read_state(store.connection)) != _place(found.state):
            raise Moved("another program of this node synced meanwhile")  # what was fetched may be older than what is here
        outbox.seal(store, database.clock_ms())  # what was written meanwhile is ours, and stays on top
        set_applying(store, True)
        changed.begin(store)
        mending = _Mending(store, done, database.clock_ms())
        for table, rows in groupby(found.differences(), key=attrgetter("table")):
            mending.table(table, rows)
        mark_all(store)
        mending.offer()
        set_applying(store, False)
        store.connection.execute("UPDATE _node SET erase = 1 WHERE id = 1")
    database.erase()
    return done


def _place(state: State) -> tuple[Point, bytes, int, int]:
    return state.cursor, state.incarnation, state.epoch, state.healing


class _Mending:
    """Writes the centre's rows and takes away what it does not have, table by table."""

    def __init__(self, store: Store, done: Repaired, now_ms: int) -> None:
        self.store, self.done, self.now_ms = store, done, now_ms
        self.offered: list[Difference] = []

    def table(self, table: Table, differences: Iterator[Difference]) -> None:
        """Mend one table."""
        while batch := list(islice(differences, _BATCH_ROWS)):
            where = centre.parts(self.store, table)
            found = [(each, centre.row_of(self.store, table, each.key, where)) for each in batch]  # before anything is written
            rows = [each.image for each, ours in found if self._look(each, ours)]
            write_rows(self.store, table, [row for row in rows if row is not None])

    def offer(self) -> None:
        """Make capture see the rows that it never saw: they are sent as if they had just been written, those with what was typed on
        them meanwhile each in a transaction of its own.
        """
        over = [each for each in self.offered if centre.is_shadowed(self.store, each.table, each.key)]
        if over:
            outbox.seal(self.store, self.now_ms, [_offer_over(self.store, each) for each in over])
        for each in self.offered:
            if each not in over:
                _offer(self.store, each)
            self.done.note(each, OFFERED)

    def _look(self, each: Difference, ours: tuple[Any, ...] | None) -> bool:
        """Decide what becomes of a row; tell whether the centre's is to be written."""
        if each.what == EXTRA:
            if ours is not None and each.state == UNKNOWN and not _was_refused(self.store, each):
                self.offered.append(each)
            elif ours is not None:
                self._put_aside(each, ours, NOT_THERE)
                _withdraw(self.store, each)
                self.done.note(each, KEPT)
            return False
        if each.image is None:  # larger than any page
            self.done.note(each, LEFT)
            return False
        kept = ours is not None and self._put_aside(each, ours, OTHER)
        self.done.note(each, MENDED, *([KEPT] if kept else []))
        return True

    def _put_aside(self, each: Difference, ours: tuple[Any, ...], reason: str) -> bool:
        """Keep a row where it can be seen and exported; once, however often it is found. Tell whether it was not there yet."""
        values = dict(zip(each.table.names, clean_row(ours), strict=True))
        kind, body = pending.pack(Insert(each.table.name, each.key, values))
        place = (each.table.name, key_text(each.key), kind, body)
        known = "SELECT 1 FROM _quarantine WHERE tbl = ? AND key = ? AND kind = ? AND body = ?"
        if self.store.connection.execute(known, place).fetchone():
            return False
        self.store.connection.execute(
            "INSERT INTO _quarantine (n, segment, txn, tbl, key, kind, body, code, reason, at_ms) VALUES (0, ?, 0, ?, ?, ?, ?, ?, ?, ?)",
            (secrets.token_bytes(16), *place, BY_REPAIR, reason, self.now_ms),
        )
        return True


def _withdraw(store: Store, each: Difference) -> None:
    """Take a row that the centre does not tell this node out of what people see, and what is known of its conflicts."""
    key = key_text(each.key)
    store.connection.execute("DELETE FROM _conflict WHERE tbl = ? AND key = ?", (each.table.name, key))
    if centre.is_shadowed(store, each.table, each.key):
        pending.set_shadow(store, each.table.name, key, None)
        pending.redraw(store, each.table, key)
    else:
        pending.delete_row(store, each.table, each.key)


def _was_refused(store: Store, each: Difference) -> bool:
    """Tell whether the centre refused work of ours on this row: it is kept aside already and must not be sent again."""
    sql = "SELECT 1 FROM _quarantine WHERE tbl = ? AND key = ? AND kind = 'insert' AND code <> ?"
    return store.connection.execute(sql, (each.table.name, key_text(each.key), BY_REPAIR)).fetchone() is not None


def _offer_over(store: Store, each: Difference) -> outbox.Boundary:
    """Offer a row under work of ours that was typed on it: in its place, or each would wait for the other."""
    withdrawals = tuple(withdrawing.typed_on(store, each.table, each.key))
    pending.set_shadow(store, each.table.name, key_text(each.key), None)
    _offer(store, each)
    return outbox.boundary(store, withdrawals=withdrawals)


def _offer(store: Store, each: Difference) -> None:
    rid = pending.number_of_row(store, each.table, each.key)
    if rid is not None:
        store.dialect.renumber(store.connection, each.table.name, rid)
