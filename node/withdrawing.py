"""Taking held work back: which held transactions a correction takes the place of.

Whoever changes or deletes a row of held work corrects that work: what is sealed then names the held transactions whose place
it takes, and the centre judges all of it as one (PROTOCOL.md §6.7). What was held stays on top here until the cursor covers
what became of it (node/settling.py). Driven by node/sealing.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from node import pending
from node.group import Group
from node.verdicts import WAITING
from schema import kept
from schema.capture import Change, Row, Store
from schema.declare import Table
from schema.registry import Schema
from sync.change import Insert, Key, Op, Withdrawn

Name = tuple[bytes, int]
"""A transaction: its segment and its index there."""

RowName = tuple[str, Key]
"""A row: its table and its key."""


def replaced_by(store: Store, group: Group, sealing: bytes) -> list[Withdrawn]:
    """Return the held work that changes of its rows correct, oldest first; `sealing`: the segment that is being filled.

    A correction takes the place of the first of them. With it goes everything of ours that was typed later, on a row of the
    correction or of what goes with it, and is not known to be accepted: it would come before what it was typed on, or be judged
    without. A new row corrects nothing but what waits for it: it begins another life, or hangs under what is held.
    """
    corrected_rows = {(change.table.name, change.key) for change, _ in corrected(store, group.changes)}
    if not corrected_rows:
        return []
    rows = {(change.table.name, change.key) for change in group.changes}
    return _Replaced(store, sealing).by(corrected_rows, rows, _parents_of_new(store, group))


def typed_on(store: Store, table: Table, key: Row) -> list[Withdrawn]:
    """Return our work on a row that capture never saw: who sends the row as it is now, with all that, takes the place of it."""
    rows = {(table.name, key)}
    return _Replaced(store, b"").by(rows, rows, set())


def corrected(store: Store, changes: Sequence[Change]) -> list[tuple[Change, Name]]:
    """Return which changes are of rows of which held work: those of one held transaction correct it together."""
    held = _held(store)
    waiting = {name for name, code in held.items() if code == "row"}
    found = list[tuple[Change, Name]]()
    for change in changes if held else ():
        if change.kind != "insert" or waiting:
            names = [_name(entry) for entry in _life(store, change.table, change.key)]
            found += [(change, name) for name in names if name in (waiting if change.kind == "insert" else held)]
    return found


def _held(store: Store) -> dict[Name, str]:
    """Return the code of the work that the centre holds."""
    rows = store.connection.execute("SELECT segment, txn, code FROM _txn WHERE verdict = 'held' AND version < ?", (WAITING,))
    return {(segment, txn): code for segment, txn, code in rows.fetchall()}


def any_held(store: Store) -> bool:
    """Tell whether the centre holds anything of ours: else there is nothing to correct. What is sealed changes nothing about it."""
    sql = "SELECT 1 FROM _txn WHERE verdict = 'held' AND version < ? LIMIT 1"
    return store.connection.execute(sql, (WAITING,)).fetchone() is not None


class _Replaced:
    """What a correction takes the place of, while it is found out."""

    def __init__(self, store: Store, sealing: bytes) -> None:
        self.store, self.sealing = store, sealing
        self.held = _held(store)
        self.place = 0  # own number of the first
        self.found: dict[Name, int] = {}
        self.rows: set[RowName] = set()
        self.parents: set[RowName] = set()  # that these rows hang under

    def by(self, corrected_rows: set[RowName], rows: set[RowName], parents: set[RowName]) -> list[Withdrawn]:
        """Return it for a correction of some rows, that writes these and others, and hangs rows under parents."""
        lives = (_life(self.store, self.store.schema.by_name[table], key) for table, key in corrected_rows)
        self.place = min((entry.number for life in lives for entry in life if self._may_go(entry)), default=0)
        if self.place:
            self.parents = parents
            self._take(rows)
            while waiting := self._waiting_parents():
                self._take(waiting)
        return [Withdrawn(*name, replaced=True) for name in sorted(self.found, key=lambda name: self.found[name])]

    def _may_go(self, entry: pending.Pending) -> bool:
        return _name(entry) in self.held or entry.segment == self.sealing or _is_on_its_way(self.store, entry.segment)

    def _later(self, row: RowName) -> list[pending.Pending]:
        """Return the changes of a row that were typed since the first of what is replaced, and can go."""
        entries = pending.of_row(self.store, self.store.schema.by_name[row[0]], row[1])
        return [entry for entry in entries if entry.number >= self.place and self._may_go(entry)]

    def _take(self, rows: set[RowName]) -> None:
        """Take all that was typed later on these rows, and on the rows of what is taken."""
        todo = list(rows)
        while todo:
            row = todo.pop()
            self.rows.add(row)
            for name, number in {_name(entry): entry.number for entry in self._later(row)}.items():
                if name not in self.found:
                    self.found[name] = number
                    ops = _ops_of(self.store, name)
                    self.parents |= parents_named(self.store.schema, ops)
                    todo += [(op.table, op.key) for op in ops]

    def _waiting_parents(self) -> set[RowName]:
        """Return rows that later work brings, that the correction hangs rows under, and whose work waits for the correction itself:
        each would wait for the other.
        """
        brought = [(row, entry) for row in self.parents - self.rows for entry in self._later(row) if isinstance(entry.op, Insert)]
        if not brought:
            return set()
        waiting, theirs = set[Name](), set(self.rows)
        for name in _typed_since(self.store, self.place):
            ops = _ops_of(self.store, name)
            own = {(op.table, op.key) for op in ops}
            if not theirs.isdisjoint(own | parents_named(self.store.schema, ops)):
                waiting.add(name)
                theirs |= own
        return {row for row, entry in brought if _name(entry) in waiting}


def _parents_of_new(store: Store, group: Group) -> set[RowName]:
    """Return the rows that a group hangs rows under."""
    rows = [(change.table, change.row) for change in group.changes if change.row is not None]
    rows += [(store.schema.by_name[name], row) for name, new in group.rows.items() for row in new]
    named = {(rule.table, row[table.position[rule.column]]) for table, row in rows for rule in table.parents}
    return {(table, (key,)) for table, key in named if isinstance(key, str)}


def parents_named(schema: Schema, ops: Iterable[Op]) -> set[RowName]:
    """Return the rows that changes hang rows under."""
    found: set[RowName] = set()
    for op in ops:
        _, values = kept.typed_values(op)
        named = {(rule.table, values.get(rule.column)) for rule in schema.by_name[op.table].parents}
        found |= {(table, (key,)) for table, key in named if isinstance(key, str)}
    return found


def _life(store: Store, table: Table, key: Row) -> list[pending.Pending]:
    """Return the pending changes of a row from its last insert of ours on: what lies before is another life (RULES H8)."""
    entries = pending.standing(pending.of_row(store, table, key))
    return entries[max((index for index, entry in enumerate(entries) if isinstance(entry.op, Insert)), default=0) :]


def _name(entry: pending.Pending) -> Name:
    return entry.segment, entry.txn


def _ops_of(store: Store, name: Name) -> list[Op]:
    rows = store.connection.execute("SELECT tbl, kind, body FROM _op WHERE segment = ? AND txn = ? ORDER BY id", name).fetchall()
    return [pending.unpack(*row) for row in rows]


def _typed_since(store: Store, number: int) -> list[Name]:
    """Return our transactions with changes that are pending, from an own number on, in order."""
    sql = "SELECT segment, txn FROM _op WHERE n >= ? GROUP BY n, segment, txn ORDER BY n"
    return list(store.connection.execute(sql, (number,)).fetchall())


def _is_on_its_way(store: Store, segment: bytes) -> bool:
    """Tell whether nobody knows yet what became of a segment."""
    return store.connection.execute("SELECT 1 FROM _segment WHERE id = ? AND version IS NULL", (segment,)).fetchone() is not None
