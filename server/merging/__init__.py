"""Judging and merging one transaction of a node: the slow, obvious path, and the only one that decides conflicts.

    judging (rights, types, what is held before it) ── Hold / Refuse ─► kept, told, nothing applied
       │
    deletes · inserts · updates ─► cells, one by one (sync/merge.py) ─► rows, clocks, change index, conflicts
       └─ parents: there, brought back, or waited for

Works inside a savepoint that the caller rolls back on Hold and Refuse. Spec: PROTOCOL.md §6.3–6.5; RULES H2, H3, H8–H10,
H16, H17, H19.
"""

from __future__ import annotations

from server import deciding
from server.merging.deletes import delete
from server.merging.incoming import Incoming
from server.merging.inserts import insert
from server.merging.judging import judge
from server.merging.updates import update
from sync.change import Delete, Insert, Op, Update


def merge(incoming: Incoming) -> str:
    """Apply a transaction and return its verdict. Raises Hold or Refuse; the caller then undoes what was done."""
    judge(incoming)
    ops = incoming.work.ops
    incoming.deleted = {(op.table, op.key) for op in ops if isinstance(op, Delete)}
    incoming.inserted = {(op.table, op.key) for op in ops if isinstance(op, Insert)}
    incoming.moved = {(op.table, op.key) for op in ops if isinstance(op, Update) and _moves(incoming, op)} if incoming.deleted else set()
    for op in sorted(ops, key=lambda op: _order(incoming, op)):
        match op:
            case Delete():
                delete(incoming, op)
            case Insert():
                insert(incoming, op)
            case Update():
                update(incoming, op)
    for conflict in incoming.work.decisions:
        deciding.close(incoming.store, conflict, incoming.version, incoming.pusher.node, incoming.at_ms)
    return incoming.verdict


def _moves(incoming: Incoming, op: Update) -> bool:
    named = [dict(zip(edit.columns, edit.new, strict=True)) for edit in op.edits]
    rules = incoming.store.schema.by_name[op.table].parents
    return any(rule.column in new and (rule.table, (new[rule.column],)) not in incoming.deleted for rule in rules for new in named)


def _order(incoming: Incoming, op: Op) -> tuple[int, int]:
    """Order changes, whatever their sender did: children go before parents and come after them, then updates."""
    rank = incoming.store.schema.rank[op.table]
    return {Delete: (0, -rank), Insert: (1, rank), Update: (2, rank)}[type(op)]
