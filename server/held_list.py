"""Held and withdrawn work as the centre's people see it: whose, what, why, since when, what hangs on it, what can be done.

The documents are those of `outpost server held --json`. Spec: PROTOCOL.md §6.2, §6.7.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from schema import advice, kept
from schema.capture import Store
from server import hand, withdrawals
from server.held import Held, Works, waiting
from sync.change import Op, Transaction

Document = dict[str, Any]

PAGE = 100
"""Transactions read at a time."""


def listing(store: Store, limit: int | None = None) -> list[Document]:
    """Return held work of all nodes, oldest first, row by row: the first `limit` transactions, or all."""
    return [row for rows in islice(_held(store), limit) for row in rows]


def _held(store: Store) -> Iterator[list[Document]]:
    """Yield each held transaction's rows; one page of transactions is in memory at a time."""
    nodes, works = _nodes(store), Works(store)
    for held in _pages(store):
        head = _head(store, held, nodes)
        yield [{**head, **kept.row(op)} for op in _ops(works.of(held))]


def _pages(store: Store) -> Iterator[Held]:
    after = 0
    while page := waiting(store, after, PAGE):
        yield from page
        after = page[-1].id


def one(store: Store, held: Held) -> Document:
    """Return one piece of held work, without its rows."""
    return _head(store, held, _nodes(store))


def withdrawn(store: Store, limit: int | None = None) -> list[Document]:
    """Return work that was taken back, row by row, as it had been sealed: the first `limit` transactions, or all."""
    return [row for rows in islice(_taken_back(store), limit) for row in rows]


def _taken_back(store: Store) -> Iterator[list[Document]]:
    nodes, works = _nodes(store), Works(store)
    for each in withdrawals.listing(store):
        code = "replaced" if each.by == "correction" else "withdrawn"
        head: Document = {"id": each.held, "transaction": kept.identity(each.segment, each.txn), **nodes[each.node], "verdict": "withdrawn"}
        head |= {"code": code, "why": advice.WHY[code], "by": each.by, "was_held": each.code, "reason": each.reason}
        head |= {"since_ms": each.since_ms, "at_ms": each.at_ms}
        yield [{**head, **kept.row(op)} for op in _ops(works.sealed(each.segment, each.txn))]


def count(store: Store, is_withdrawn: bool = False) -> int:
    """Return how many transactions are held, or were taken back."""
    return int(store.connection.execute(f"SELECT COUNT(*) FROM {'_withdrawn' if is_withdrawn else '_held'}").fetchone()[0])


def _ops(work: Transaction) -> list[Op] | list[None]:
    """Return what a transaction changes; one that only decides or withdraws is told by a line without a row."""
    return work.ops or [None]


def _nodes(store: Store) -> dict[int, Document]:
    rows = store.connection.execute("SELECT node, name, revoked_ms IS NOT NULL FROM _node").fetchall()
    return {node: {"node": name, "revoked": bool(revoked)} for node, name, revoked in rows}


def _head(store: Store, held: Held, nodes: dict[int, Document]) -> Document:
    node, to, approved = nodes[held.node], hand.handed(store, held.id), bool(held.approved)
    return {
        "id": held.id,
        "transaction": kept.identity(held.segment, held.txn),
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


def export(store: Store) -> Document:
    """Return everything held and withdrawn, as a document to keep: values for people, and exactly (`sealed`: hexadecimal).

    Its lists are iterators, to be written while the store is being read: memory holds a page of transactions.
    """
    parts = (row for rows in _held(store) for row in rows), (row for rows in _taken_back(store) for row in rows)
    return {"format": kept.FORMAT, "held": parts[0], "withdrawn": parts[1], "sealed": _sealed(store)}


def _sealed(store: Store) -> Iterator[Document]:
    works = Works(store)
    held = ((each.segment, each.txn, "held") for each in _pages(store))
    gone = ((each.segment, each.txn, "withdrawn") for each in withdrawals.listing(store))
    for segment, index, verdict in chain(held, gone):
        yield kept.sealed(segment, index, verdict, works.sealed(segment, index).ops)
