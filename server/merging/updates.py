"""Updating a row; one that was deleted meanwhile comes back (RULES H10)."""

from __future__ import annotations

from schema.declare import Table
from schema.keys import key_text
from server import rows, scopes, waits
from server.holding import Hold, Refuse
from server.merging import cells, parents
from server.merging.incoming import Incoming, Standing
from sync.change import NEVER, Update
from sync.merge import CENTRE


def update(incoming: Incoming, op: Update) -> None:
    """Update a row. Raises Hold where it, or a parent, is not there or not the node's; Refuse where neither will come."""
    table = incoming.store.schema.by_name[op.table]
    base = min(edit.base for edit in op.edits)
    stands = incoming.standing(table, op.key)
    if stands is not None:
        incoming.require_right(stands, base)
    row = stands or _back_from_the_dead(incoming, table, op, base)
    for edit in op.edits:
        parents.require(incoming, table, dict(zip(edit.columns, edit.new, strict=True)))
    altered = cells.edit(incoming, row, op.edits)
    incoming.touch(row, incoming.pusher.inc if stands and not altered else CENTRE)


def _back_from_the_dead(incoming: Incoming, table: Table, op: Update, base: int) -> Standing:
    """Revive a row that was deleted and that the node had. Raises Hold where there was none or it was not the node's, Refuse where
    none will come.
    """
    old = rows.grave(incoming.store, table, op.key)
    if old is None:
        if fate := waits.lost(incoming.store, incoming.pusher.node, table.name, key_text(op.key)):
            raise Refuse("gone", f"{table.name} {key_text(op.key)} was {fate} when it was new")
        raise Hold("row", f"there is no {table.name} {key_text(op.key)} at the centre", (table.name, key_text(op.key)))
    scope = incoming.scope(base)
    if not incoming.approved and not scopes.left_since(incoming.store, table, old.rid, scope, NEVER):
        never = f"{table.name} {key_text(op.key)} was never in this node's scope"
        raise Hold("right", never, (table.name, key_text(op.key)))
    new = tuple(edit.new for edit in op.edits)
    row = parents.revive(incoming, table, op.key, incoming.pusher.inc, recorded=True)
    incoming.record(table, op.key, (), None, [value for part in new for value in part], None, "edit wins", "mine", old.writer)
    incoming.raise_to("merged")
    return row
