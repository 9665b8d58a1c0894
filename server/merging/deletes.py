"""Deleting a row: it goes unless it, or what dies with it, was written in between by somebody it had not seen (RULES H10, H16)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from schema.capture import Store
from schema.declare import Table
from schema.keys import key_text, where_value
from server import conflicts, healing, rows, scopes, waits
from server.merging.incoming import Incoming, Standing
from sync.change import NEVER, Delete, Key
from sync.merge import CENTRE, Meta, seen

_NEVER_SINCE = 1 << 62
"""A `since` that covers none of a node's own work."""


def delete(incoming: Incoming, op: Delete) -> None:
    """Delete a row. Raises Hold where the node may not."""
    table = incoming.store.schema.by_name[op.table]
    row = incoming.standing(table, op.key)
    if row is None:
        if rows.grave(incoming.store, table, op.key) is None:
            waits.give_up(incoming.store, incoming.pusher.node, table.name, key_text(op.key))
        return
    if op.base == NEVER and incoming.is_strange(row, op.base) and not _is_own(incoming, row, op):
        return  # it takes back a row of its own that never came here; this one is somebody else's
    incoming.require_right(row, op.base)
    writer = _unseen(incoming, row, op)
    if writer is not None:
        incoming.record(table, op.key, (), None, None, row.values, "edit wins", "theirs", writer)
        incoming.touch(row, CENTRE)
        incoming.raise_to("merged")
        return
    is_reborn = (op.table, op.key) in incoming.inserted
    version, writer = incoming.version, incoming.pusher.inc
    bury_row(incoming.store, table, row.rid, row.values, version, writer, row.keys, reborn=is_reborn, moved=incoming.moved)
    incoming.buried.add(table, row.values)


def _is_own(incoming: Incoming, row: Standing, op: Delete) -> bool:
    """Tell whether anything of a row is of its deleter: what it takes back came after all, as somebody had approved it."""
    return any(seen(meta, op.base, op.since, incoming.pusher.lineage) for meta in incoming.metas(row.table, row.rid).values())


def _unseen(incoming: Incoming, row: Standing, op: Delete) -> int | None:
    """Return who wrote something in a row, or below it, that its deleter has not seen: of its own cells the last one."""
    unseen = [meta for meta in incoming.metas(row.table, row.rid).values() if not _saw(incoming, op, meta)]
    return max(unseen, key=lambda meta: meta.version).writer if unseen else _unseen_child(incoming, row.table, op, op.key[0])


def _saw(incoming: Incoming, op: Delete, meta: Meta, *, below: bool = False) -> bool:
    """Tell whether a deletion has seen a write of its row, or below it. Below it, of its own node's work only what the base
    covers, or what was plainly accepted before a restore: in which order a program without foreign keys typed the rest, after the
    deletion perhaps, nobody knows. A deletion that had lost in the lost history loses again.
    """
    if below and incoming.work.before != NEVER and healing.was_disputed(incoming.store, incoming.pusher.inc, incoming.work.number):
        return meta.version <= op.base
    until = incoming.work.number if op.number is None else op.number
    return seen(meta, op.base, _NEVER_SINCE if below else op.since, incoming.pusher.lineage, until=until)


def _unseen_child(incoming: Incoming, table: Table, op: Delete, identity: Any) -> int | None:
    """Return who wrote something below a row that its deleter has not seen, or None.

    A child counts as an edit of its parent (RULES H16). What dies with the row counts whole, with all below it; of
    a child that outlives it only that it hangs there. One that hangs there still, as its move away did not come, or was lost with the
    centre's history, is unseen.
    """
    for edge in incoming.store.schema.children[table.name]:
        child = edge.table
        hung = rows.cell_number(child, child.cell_of[edge.column]) if edge.column in child.cell_of else rows.BIRTH
        for row in rows.select(incoming.store, child, *where_value(edge.column, identity)):
            key = row[: len(child.key)]
            if (child.name, key) in incoming.moved:
                continue
            if waits.is_back(incoming.store, incoming.pusher.node, child.name, key_text(key), op.base):
                return CENTRE
            if conflicts.had_left(incoming.store, child, key, edge.column, op.base):
                return CENTRE
            for number, meta in incoming.metas(child, row[-1]).items():
                if (edge.owned or number in (rows.BIRTH, hung)) and not _saw(incoming, op, meta, below=True):
                    return meta.writer
            deeper = _unseen_child(incoming, child, op, key[0]) if edge.owned else None
            if deeper is not None:
                return deeper
    return None


def bury_row(
    store: Store,
    table: Table,
    rid: int,
    values: Sequence[Any],
    version: int,
    writer: int,
    before: set[str],
    *,
    reborn: bool = False,
    moved: Collection[tuple[str, Key]] = (),
) -> None:
    """Delete a row; children that exist only through it go with it, under the rule's hand (writer `*`).

    `reborn`: the same transaction inserts the key again, so the children have a parent when it is done; `moved`: children that it
    hangs elsewhere.
    """
    key = values[: len(table.key)]
    for edge in store.schema.children[table.name]:
        if reborn or not edge.owned:
            continue
        for child in rows.select(store, edge.table, *where_value(edge.column, key[0])):
            if (edge.table.name, child[: len(edge.table.key)]) in moved:
                continue
            keys = before | scopes.keys_of(store, edge.table, child[-1])  # a child has every key its parent had
            bury_row(store, edge.table, child[-1], child[:-1], version, CENTRE, keys, moved=moved)
    rows.bury(store, table, rid, values, version, writer)
    scopes.bury(store, table, rid, key, version, writer, before)
