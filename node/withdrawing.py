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

    With a transaction goes everything of ours that was typed on top of it and is not known to be accepted: it could not be
    judged without. So does what was typed after it on any other row of these changes, for they take its place, and would come
    before what they change. A new row corrects nothing: it begins another life, or hangs under what is held.
    """
    held, found = _held(store), dict[Name, int]()
    for change, _ in corrected(store, changes):
        _take(store, _life(store, change.table, change.key), held, found, sealing)
    place = min(found.values(), default=0)
    for table, key in [(change.table, change.key) for change in changes if found]:
        _take(store, [entry for entry in _life(store, table, key) if entry.number > place], held, found, sealing)
    return [Withdrawn(*name, replaced=True) for name in sorted(found, key=lambda name: found[name])]


def corrected(store: Store, changes: Sequence[Change]) -> list[tuple[Change, Name]]:
    """Return which changes are of rows of which held work: those of one held transaction correct it together."""
    held = _held(store)
    edited = [change for change in changes if change.kind != "insert"] if held else []
    return [(change, _name(entry)) for change in edited for entry in _life(store, change.table, change.key) if _name(entry) in held]


def _held(store: Store) -> set[Name]:
    return _names(store, "SELECT segment, txn FROM _txn WHERE verdict = 'held' AND version < ?", (WAITING,))


def _take(store: Store, entries: Sequence[pending.Pending], held: set[Name], found: dict[Name, int], sealing: bytes) -> None:
    """Take the transactions of these changes, and what was typed on top of any of their rows."""
    todo = list(entries)
    while todo:
        entry = todo.pop()
        name = _name(entry)
        if name in found or not (name in held or entry.segment == sealing or _is_on_its_way(store, entry.segment)):
            continue
        found[name] = entry.number
        for table, key in _rows_of(store, name):
            life = _life(store, table, key)
            first = next((index for index, each in enumerate(life) if _name(each) == name), len(life))
            todo += life[first:]


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
