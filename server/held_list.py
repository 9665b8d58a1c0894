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


def refused(store: Store, limit: int | None = None) -> list[Document]:
    """Return work that was refused, by a rule or by the central office, row by row: the first `limit` transactions, or all."""
    return [row for rows in islice(_refused(store), limit) for row in rows]


def _refused(store: Store) -> Iterator[list[Document]]:
    nodes, works = _nodes(store), Works(store)
    for segment, txn, node, code, reason, at_ms in _refused_names(store):
        identity = kept.identity(segment, txn)
        head: Document = {"id": identity, "transaction": identity, **nodes[node], "verdict": "refused", "code": code}
        head |= {"why": advice.WHY.get(code, reason), "reason": reason, "since_ms": at_ms}
        yield [{**head, **kept.row(op)} for op in _ops(works.sealed(segment, txn))]


def _refused_names(store: Store) -> Iterator[tuple[bytes, int, int, str, str, int]]:
    """Yield (segment, index, node, code, reason, when) of refused work, oldest first, a page of it at a time."""
    last = (-1, b"", -1)
    sql = (
        "SELECT v.ver, v.segment, v.txn, v.node, v.code, v.reason, j.at_ms FROM _verdict v JOIN _journal j ON j.ver = v.ver"
        " WHERE v.verdict = 'refused' AND (v.ver, v.segment, v.txn) > (?, ?, ?) ORDER BY v.ver, v.segment, v.txn LIMIT ?"
    )
    while page := store.connection.execute(sql, (*last, PAGE)).fetchall():
        yield from (row[1:] for row in page)
        last = page[-1][:3]


_COUNTS = {
    "held": "SELECT COUNT(*) FROM _held",
    "withdrawn": "SELECT COUNT(*) FROM _withdrawn",
    "refused": "SELECT COUNT(*) FROM _verdict WHERE verdict = 'refused'",
}


def count(store: Store, verdict: str = "held") -> int:
    """Return how many transactions are held, were taken back (`withdrawn`) or `refused`."""
    return int(store.connection.execute(_COUNTS[verdict]).fetchone()[0])


def became(store: Store, held: Held) -> dict[str, str]:
    """Return what is said now of work that was held: its verdict, and the code and reason of one that is against it."""
    sql = "SELECT verdict, code, reason FROM _verdict WHERE segment = ? AND txn = ?"
    return dict(zip(("verdict", "code", "reason"), store.connection.execute(sql, (held.segment, held.txn)).fetchone(), strict=True))


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
    """Return everything held, withdrawn and refused, as a document to keep: values for people, and exactly (`sealed`: hexadecimal).

    Its lists are iterators, to be written while the store is being read: memory holds a page of transactions.
    """
    held, withdrawn, refused = (chain.from_iterable(rows) for rows in (_held(store), _taken_back(store), _refused(store)))
    return {"format": kept.FORMAT, "held": held, "withdrawn": withdrawn, "refused": refused, "sealed": _sealed(store)}


def _sealed(store: Store) -> Iterator[Document]:
    works = Works(store)
    held = ((each.segment, each.txn, "held") for each in _pages(store))
    gone = ((each.segment, each.txn, "withdrawn") for each in withdrawals.listing(store))
    refused = ((segment, txn, "refused") for segment, txn, *_ in _refused_names(store))
    for segment, index, verdict in chain(held, gone, refused):
        yield kept.sealed(segment, index, verdict, works.sealed(segment, index).ops)
