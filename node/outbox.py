"""The outbox: cutting what was written into transactions, once, oldest first.

    tables, log ─► Look (schema/capture) ─► transactions (here, node/documents.py) ─► segments (node/sealing.py) ─► _segment

Two kinds of writers. Our own code says where its transactions end (`boundaries`). Of other programs we see only what a
commit left, so rows tied by declared references become one transaction each: a sale with its lines and payments, a
contact with its tags (RULES §4). Spec: PROTOCOL.md §5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from node import documents, withdrawing
from node.group import Group
from node.sealing import Sealing
from schema.capture import Change, Look, Row, Store, clean_row
from schema.declare import Table
from sync.change import Withdrawn

CHANGES_MAX = 20_000
"""Changed rows of one look that are tied into transactions together; more are sealed in portions."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where one of our own transactions ended: the highest row number per table, the end of the log, decisions it makes."""

    highest: dict[str, int]
    log: int
    decisions: tuple[bytes, ...] = ()
    withdrawals: tuple[Withdrawn, ...] = ()


def boundary(store: Store, decisions: tuple[bytes, ...] = (), withdrawals: tuple[Withdrawn, ...] = ()) -> Boundary:
    """Return that one of our own transactions ends here."""
    log = store.connection.execute("SELECT COALESCE(MAX(seq), 0) FROM _log").fetchone()[0]
    return Boundary(store.dialect.highest(store.connection), int(log), decisions, withdrawals)


def seal(store: Store, now_ms: int, boundaries: Sequence[Boundary] | None = None) -> int:
    """Seal everything written since the last look, inside the caller's write transaction; return the transactions."""
    look = Look(store)
    if not look and not any(boundary.decisions or boundary.withdrawals for boundary in boundaries or ()):
        return 0
    sealing = _begin(store, look, now_ms)
    if boundaries is None:
        _seal_foreign(sealing, look)
    else:
        for group in _own_groups(store, look, boundaries):
            group.changes = [change for change in group.changes if (change.table.name, change.key) not in sealing.told]
            if group.changes or group.rows or group.decisions or group.withdrawals:
                sealing.add(group)
    sealing.finish()
    documents.require_all(sealing, look)
    look.close()
    return sealing.sealed


def _begin(store: Store, look: Look, now_ms: int) -> Sealing:
    if look.go_on_numbering():
        store.connection.execute("UPDATE _proof SET differing = NULL")  # what it may not have seen is looked for by the next sync
    sealing = Sealing(store, now_ms)
    sealing.send_withheld()
    return sealing


def seal_portion(store: Store, now_ms: int, rows: int) -> bool:
    """Seal what was written, or of many new documents the first `rows` or so; tell whether more waits.

    What is left is sealed later as if it had been written later; no document is cut from what is tied to it.
    """
    look = Look(store)
    if not look:
        return False
    sealing = _begin(store, look, now_ms)
    portion = documents.Portion(look, rows)
    _seal_foreign(sealing, look, portion)
    sealing.finish()
    documents.require_all(sealing, look)
    look.close()
    return portion.is_cut


# --- other programs' commits -------------------------------------------------------------------------------------------------


def _seal_foreign(sealing: Sealing, look: Look, portion: documents.Portion | None = None) -> None:
    schema = sealing.store.schema
    plain = documents.bulk_tables(schema)
    changes: list[Change] = []
    changes_max = math.inf if look.begins_lives() else CHANGES_MAX
    for change in _changes(look, [table for table in schema.tables if table.name not in plain]):
        if (change.table.name, change.key) in sealing.told:
            continue
        changes.append(change)
        if len(changes) >= changes_max:
            _seal_changes(sealing, changes)
            changes = []
    _seal_changes(sealing, changes)
    documents.seal(sealing, look, portion)


def _changes(look: Look, tables: Sequence[Table]) -> Iterator[Change]:
    yield from _told(look)
    for table in tables:
        low, high = look.ranges.get(table.name, (0, 0))
        for chunk in look.inserted(table, low, high):
            for row in chunk:
                yield _new(table, row)


def _told(look: Look) -> Iterator[Change]:
    """Yield what the log says, but for rows whose number alone changed."""
    return (change for change in look.logged() if change.kind != "update" or change.cells)


def _new(table: Table, row: Row) -> Change:
    values = clean_row(row)
    return Change(table, "insert", values[: len(table.key)], row[-1], values[:-1])


def _seal_changes(sealing: Sealing, changes: list[Change]) -> None:
    groups = _tied(changes, withdrawing.corrected(sealing.store, changes))
    sealing.expect(changes)
    rank = sealing.store.schema.rank

    def order(group: list[Change]) -> tuple[int, int]:
        if all(change.kind == "delete" for change in group):
            return 1, -max(rank[change.table.name] for change in group)
        return 0, min(rank[change.table.name] for change in group)

    for are_single, some in groupby(sorted(groups, key=order), key=sealing.is_single):
        if are_single:
            sealing.add_singles([change for (change,) in some])
            continue
        for group in some:
            sealing.add(Group(group))


def _tied(changes: list[Change], corrected: Sequence[tuple[Change, withdrawing.Name]]) -> list[list[Change]]:
    """Return changes in groups of rows tied by declared references, by held work that they correct, or by a deleted row from under
    which they were taken, in the order of each group's first change.
    """
    gone = {(change.table.name, change.key) for change in changes if change.kind == "delete"}
    leader: dict[tuple[str, Any], tuple[str, Any]] = {}

    def find(item: tuple[str, Any]) -> tuple[str, Any]:
        while (above := leader.setdefault(item, item)) != item:
            leader[item] = item = leader[above]
        return item

    for change in changes:
        own = (change.table.name, change.key)
        leader[find(own)] = find((change.table.name, change.rid))  # both halves of a changed key
        for tie in change.table.ties:
            parent = _value(change, tie.column)
            if parent is not None:
                leader[find(own)] = find((tie.table, (parent,)))
        for rule in change.table.parents if gone and change.kind == "update" else ():
            left = (rule.table, (change.old.get(rule.column),))
            if left in gone:
                leader[find(own)] = find(left)
    for change, name in corrected:
        leader[find((change.table.name, change.key))] = find(("", name))
    groups: dict[tuple[str, Any], list[Change]] = {}
    for change in changes:
        groups.setdefault(find((change.table.name, change.key)), []).append(change)
    return list(groups.values())


def _value(change: Change, column: str) -> Any:
    if change.row is not None:
        return change.row[change.table.position[column]]
    return change.old[column]


# --- our own code's transactions -----------------------------------------------------------------------------------------------


def _own_groups(store: Store, look: Look, boundaries: Sequence[Boundary]) -> list[Group]:
    """Return our own transactions, as our code ended them. Those that changed the same row are one (RULES §4)."""
    groups = [Group(decisions=boundary.decisions, withdrawals=boundary.withdrawals) for boundary in boundaries]
    plain = documents.bulk_tables(store.schema)
    joined = list(range(len(boundaries)))

    def place(finds: Callable[[Boundary], bool], start: int = 0) -> int:
        return next((i for i in range(start, len(boundaries)) if finds(boundaries[i])), len(boundaries) - 1)

    for change in _told(look):
        first = place(lambda boundary, order=change.order: boundary.log >= order)  # type: ignore[misc]
        last = place(lambda boundary, order=change.last: boundary.log >= order, first)  # type: ignore[misc]
        groups[first].changes.append(change)
        for between in range(first + 1, last + 1):
            joined[between] = min(joined[between], first)
    for table in store.schema.tables:
        low, high = look.ranges.get(table.name, (0, 0))
        position = 0
        for chunk in look.inserted(table, low, high):
            for row in chunk:
                while position < len(boundaries) - 1 and boundaries[position].highest.get(table.name, 0) < row[-1]:
                    position += 1
                if table.name in plain:
                    groups[position].rows.setdefault(table.name, []).append(row)
                else:
                    groups[position].changes.append(_new(table, row))
    return _joined(groups, joined)


def _joined(groups: list[Group], joined: list[int]) -> list[Group]:
    for index in range(len(groups) - 1, 0, -1):
        if joined[index] != index:
            into, group = groups[joined[index]], groups[index]
            into.changes += group.changes
            into.decisions += group.decisions
            into.withdrawals += group.withdrawals
            for name, rows in group.rows.items():
                into.rows.setdefault(name, []).extend(rows)
            groups[index] = Group()
    return [group for group in groups if group.changes or group.rows or group.decisions or group.withdrawals]
