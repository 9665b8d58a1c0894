"""Held and withdrawn work as the centre's people see it: whose, what, why, since when, what hangs on it, what can be done.

The documents are those of `outpost server held --json`. Spec: PROTOCOL.md §6.2, §6.7.
"""

from __future__ import annotations

from typing import Any

from schema import advice
from schema.capture import Store
from schema.images import pack_values
from schema.keys import cell_json, key_json
from server import hand, withdrawals
from server.held import Held, Works, waiting
from sync.change import Delete, Insert, Op, Transaction, Update

Document = dict[str, Any]


def listing(store: Store) -> list[Document]:
    """Return all held work of all nodes, oldest first, row by row."""
    nodes = _nodes(store)
    found: list[Document] = []
    works = Works(store)
    for held in waiting(store):
        head = _head(store, held, nodes)
        found += [{**head, **_row(op)} for op in _ops(works.of(held))]
    return found


def one(store: Store, held: Held) -> Document:
    """Return one piece of held work, without its rows."""
    return _head(store, held, _nodes(store))


def withdrawn(store: Store) -> list[Document]:
    """Return all work that was taken back, row by row, as it had been sealed."""
    nodes, works = _nodes(store), Works(store)
    found: list[Document] = []
    for each in withdrawals.listing(store):
        code = "replaced" if each.by == "correction" else "withdrawn"
        head: Document = {"id": each.held, "transaction": _name(each.segment, each.txn), **nodes[each.node], "verdict": "withdrawn"}
        head |= {"code": code, "why": advice.WHY[code], "by": each.by, "was_held": each.code, "reason": each.reason}
        head |= {"since_ms": each.since_ms, "at_ms": each.at_ms}
        found += [{**head, **_row(op)} for op in _ops(works.sealed(each.segment, each.txn))]
    return found


def _ops(work: Transaction) -> list[Op] | list[None]:
    """Return what a transaction changes; one that only decides or withdraws is told by a line without a row."""
    return work.ops or [None]


def _nodes(store: Store) -> dict[int, Document]:
    rows = store.connection.execute("SELECT node, name, revoked_ms IS NOT NULL FROM _node").fetchall()
    return {node: {"node": name, "revoked": bool(revoked)} for node, name, revoked in rows}


def _name(segment: bytes, index: int) -> str:
    return f"{segment.hex()[:8]}.{index}"


def _head(store: Store, held: Held, nodes: dict[int, Document]) -> Document:
    node, to, approved = nodes[held.node], hand.handed(store, held.id), bool(held.approved)
    return {
        "id": held.id,
        "transaction": _name(held.segment, held.txn),
        **node,
        "verdict": "held",
        "code": held.code,
        "why": advice.WHY.get(held.code, held.reason),
        "reason": held.reason,
        "since_ms": held.since_ms,
        "approved": approved,
        "waits_for": _waits_for(store, held),
        "dependants": _dependants(store, held),
        "handed": None if to is None else {"to": to[0], "note": to[1], "at_ms": to[2]},
        "can": advice.for_centre(held.id, held.code, approved, node["revoked"]),
    }


def _waits_for(store: Store, held: Held) -> list[int]:
    """Return the held work that must be decided first."""
    if held.code != "depends":
        return []
    sql = "SELECT held FROM _held_row WHERE node = ? AND tbl = ? AND key = ? AND held < ? ORDER BY held"
    return [row[0] for row in store.connection.execute(sql, (held.node, held.wait_tbl, held.wait_key, held.id))]


def _dependants(store: Store, held: Held) -> list[int]:
    """Return the held work that waits for this, directly."""
    sql = (
        "SELECT h.id FROM _held h WHERE h.node = ? AND h.id > ? AND h.code = 'depends' AND EXISTS"
        " (SELECT 1 FROM _held_row r WHERE r.node = h.node AND r.tbl = h.wait_tbl AND r.key = h.wait_key AND r.held = ?) ORDER BY h.id"
    )
    return [row[0] for row in store.connection.execute(sql, (held.node, held.id, held.id))]


def _row(op: Op | None) -> Document:
    """Return what a change would write; nothing that a person typed is out of reach."""
    match op:
        case Insert():
            change, values = "insert", {name: cell_json([value]) for name, value in op.values.items()}
        case Update():
            typed = {name: value for edit in op.edits for name, value in zip(edit.columns, edit.new, strict=True)}
            change, values = "update", {name: cell_json([value]) for name, value in typed.items()}
        case Delete():
            change, values = "delete", {}
        case _:
            return {"table": None, "key": None, "change": None, "values": {}}
    return {"table": op.table, "key": key_json(op.key), "change": change, "values": values}


def export(store: Store) -> Document:
    """Return everything held and withdrawn, as a document to keep: values for people, and exactly (`sealed`: hexadecimal)."""
    works, exact = Works(store), list[Document]()
    names = [(held.segment, held.txn) for held in waiting(store)] + [(each.segment, each.txn) for each in withdrawals.listing(store)]
    for segment, index in names:
        body = pack_values([[op.table, op.key, type(op).__name__, _exact(op)] for op in works.sealed(segment, index).ops])
        exact.append({"segment": segment.hex(), "index": index, "changes": body.hex()})
    return {"format": "outpost-held-1", "held": listing(store), "withdrawn": withdrawn(store), "sealed": exact}


def _exact(op: Op) -> Any:
    match op:
        case Insert():
            return op.values
        case Update():
            return [[edit.cell, edit.columns, edit.old, edit.new] for edit in op.edits]
        case Delete():
            return None
