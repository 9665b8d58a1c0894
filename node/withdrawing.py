"""Taking held work back: which held transactions a correction takes the place of.

Whoever changes or deletes a row of held work corrects that work: what is sealed then names the held transactions whose place
it takes, and the centre judges all of it as one (PROTOCOL.md §6.7). What was held stays on top here until the cursor covers
what became of it (node/settling.py). Driven by node/sealing.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from node import pending
from node.verdicts import WAITING
from schema.capture import Change, Row, Store
from schema.declare import Table
from schema.keys import key_parts
from sync.change import Insert, Withdrawn

Name = tuple[bytes, int]
"""A transaction: its segment and its index there."""


def replaced_by(store: Store, changes: Sequence[Change], sealing: bytes) -> list[Withdrawn]:
    """Return the held work that changes of its rows correct, oldest first; `sealing`: the segment that is being filled.

    A correction takes the place of the first of them. With it goes everything of ours that was typed later, on a row of the
    correction or of what goes with it, and is not known to be accepted: it would come before what it was typed on, or be judged
    without. A new row corrects nothing: it begins another life, or hangs under what is held.
    """
    held, found = _held(store), dict[Name, int]()

    def may_go(entry: pending.Pending) -> bool:
        return _name(entry) in held or entry.segment == sealing or _is_on_its_way(store, entry.segment)

    lives = (_life(store, change.table, change.key) for change, _ in corrected(store, changes))
    place = min((entry.number for life in lives for entry in life if may_go(entry)), default=0)
    todo = [(change.table, change.key) for change in changes] if place else []
    while todo:
        for entry in pending.of_row(store, *todo.pop()):
            if entry.number >= place and _name(entry) not in found and may_go(entry):
                found[_name(entry)] = entry.number
                todo += _rows_of(store, _name(entry))
    return [Withdrawn(*name, replaced=True) for name in sorted(found, key=lambda name: found[name])]


def corrected(store: Store, changes: Sequence[Change]) -> list[tuple[Change, Name]]:
    """Return which changes are of rows of which held work: those of one held transaction correct it together."""
    held = _held(store)
    edited = [change for change in changes if change.kind != "insert"] if held else []
    return [(change, _name(entry)) for change in edited for entry in _life(store, change.table, change.key) if _name(entry) in held]


def _held(store: Store) -> set[Name]:
    return _names(store, "SELECT segment, txn FROM _txn WHERE verdict = 'held' AND version < ?", (WAITING,))


def _life(store: Store, table: Table, key: Row) -> list[pending.Pending]:
    """Return the pending changes of a row from its last insert of ours on: what lies before is another life (RULES H8)."""
    entries = pending.standing(pending.of_row(store, table, key))
    return entries[max((index for index, entry in enumerate(entries) if isinstance(entry.op, Insert)), default=0) :]


def _name(entry: pending.Pending) -> Name:
    return entry.segment, entry.txn


def _rows_of(store: Store, name: Name) -> list[tuple[Table, Row]]:
    rows = store.connection.execute("SELECT DISTINCT tbl, key FROM _op WHERE segment = ? AND txn = ?", name).fetchall()
    tables = [(store.schema.by_name[tbl], key) for tbl, key in rows]
    return [(table, key_parts(key, len(table.key))) for table, key in tables]


def _is_on_its_way(store: Store, segment: bytes) -> bool:
    """Tell whether nobody knows yet what became of a segment."""
    return bool(_names(store, "SELECT id, 0 FROM _segment WHERE id = ? AND version IS NULL", (segment,)))


def _names(store: Store, sql: str, parameters: tuple[object, ...]) -> set[Name]:
    return set(store.connection.execute(sql, parameters).fetchall())
