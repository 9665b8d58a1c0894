"""Ingest: a node's push, taken exactly once.

    chain check ─► for each new segment: fast path (bulk) or transaction by transaction (merge) ─► journal, verdicts,
    chain end ─► what was held and can go now ─► one commit ─► reply

Everything happens in the caller's one write transaction: rows, metadata, journal, chain end and verdicts together, so a
repeated push finds either all of it or nothing. Spec: PROTOCOL.md §6; RULES H5–H7, H9, H12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from schema.capture import Store
from schema.keys import key_parts, key_text
from server import bulk, centre, healing, journal, rows, scopes
from server.histories import History, lineage_of, open_history
from server.holding import Hold, Refuse, held_rows
from server.merge import Merging, Pusher
from sync.change import Insert, Transaction
from sync.digest import segment_point
from sync.errors import Forked, Gap, Malformed, TooLarge
from sync.limits import PUSH_SEGMENTS_MAX, SEGMENT_PARTS_MAX
from sync.merge import CENTRE
from sync.messages import Exceptional, PushReply, PushRequest, Sealed, SegmentVerdict
from sync.segment import OpenSegment, read_segment, transactions


def push(store: Store, node: int, node_id: str, request: PushRequest, now_ms: int) -> PushReply:
    """Take a push inside a write transaction. Raises PeerError subclasses; nothing is kept then."""
    if len(request.segments) > PUSH_SEGMENTS_MAX:
        raise TooLarge(f"a push holds more than {PUSH_SEGMENTS_MAX} segments")
    with centre.engine_writes(store, now_ms):
        journal.require(store, request.cursor, request.highest)
        history = open_history(store, node, request)
        skew = now_ms - request.clock_ms
        pusher = Pusher(node, node_id, history.inc, history.lineage, scopes.entitled(store, node), skew)
        verdicts = [take(store, pusher, history, sealed, now_ms) for sealed in request.segments]
        release(store, now_ms)
    store.connection.execute(
        "UPDATE _node SET last_push_ms = CASE WHEN ? THEN ? ELSE last_push_ms END, unsynced = ?, conflicts = ?, held = ? WHERE node = ?",
        (bool(request.segments), now_ms, request.told.unsynced, request.told.conflicts, request.told.held, node),
    )
    return PushReply(journal.epoch(store), journal.head(store), tuple(verdicts))


def take(store: Store, pusher: Pusher, history: History, sealed: Sealed, now_ms: int) -> SegmentVerdict:
    """Take the next segment of a history, or find what became of it when it came before."""
    body = healing.body_of(store, sealed)
    point = segment_point(history.at, body)
    if point.digest != sealed.digest:
        raise Malformed("a segment's digest does not follow from its bytes")
    known = history.segment_at(store, point.number)
    if known is not None:
        if known[0] != point.digest:
            raise Forked(f"The centre holds another segment {point.number} of this node's history.")
        history.at = point
        return _told(verdict_of(store, known[1]), sealed, body)
    if point.number != history.end.number + 1:
        raise Gap(f"The centre holds this node's history up to {history.end.number}, not {point.number - 1}.")
    segment = read_segment(body)
    if _journaled(store, segment.id):
        history.adopt(store, pusher.node, segment.id)
    else:
        if sealed.again is not None:
            healing.note_again(store, segment.id, sealed.again)
        _take_new(store, replace(pusher, lineage=history.lineage), point.number, body, segment, now_ms)
    if sealed.again is not None:
        healing.note_before(store, segment.id, sealed.again)
        history.lineage = lineage_of(store, history.inc)
    history.extend(store, point, segment.id)
    return _told(verdict_of(store, segment.id), sealed, body)


def _told(verdict: SegmentVerdict, sealed: Sealed, body: bytes) -> SegmentVerdict:
    """Return a verdict with what the node needs to show held work again, if it cannot open its own box."""
    shows = any(exception.verdict in ("held", "refused") for exception in verdict.exceptions)
    boxed = sealed.again is not None and sealed.again.boxed
    return msgspec.structs.replace(verdict, body=body) if boxed and shows else verdict


def _journaled(store: Store, segment: bytes) -> bool:
    return store.connection.execute("SELECT 1 FROM _journal WHERE segment = ?", (segment,)).fetchone() is not None


def _take_new(store: Store, pusher: Pusher, seq: int, body: bytes, segment: OpenSegment, now_ms: int) -> None:
    head = journal.head(store).number
    segment = healing.as_told(store, segment)
    if max(segment.base) > head:
        raise Malformed("a transaction builds on a version that does not exist")
    kind = "part" if segment.part == 1 else "segment"
    entry = journal.Entry(kind, pusher.inc, body, segment.transactions, seq, segment.id, segment.first)
    version = journal.append(store, entry, now_ms)
    if segment.part == 1:
        return
    if segment.part == 2:
        parts = [*_earlier_parts(store, pusher.inc, seq), segment]
        if not bulk.take(store, pusher, parts, version):
            (whole,) = _transactions(store, parts)
            take_one(store, pusher, whole, segment.id, version, now_ms)
        return
    plain, others = bulk.divide(store, segment)
    _one_by_one(store, pusher, segment, others, version, now_ms)
    if not bulk.take(store, pusher, [plain], version, alone=not others):  # after the others: what waits for held work among them must wait
        _one_by_one(store, pusher, segment, set(range(segment.transactions)) - others, version, now_ms)


def _one_by_one(store: Store, pusher: Pusher, segment: OpenSegment, indexes: set[int], version: int, now_ms: int) -> None:
    if indexes:
        before = healing.version_before(store, segment.id)
        for work in transactions(segment, _keys(store, segment), indexes):
            work.before = before
            take_one(store, pusher, work, segment.id, version, now_ms)


def _earlier_parts(store: Store, inc: int, seq: int) -> list[OpenSegment]:
    """Return the parts of a transaction that came before its last one, oldest first."""
    sql = (
        "SELECT j.kind, j.body FROM _chain c JOIN _journal j ON j.segment = c.segment"
        " WHERE c.inc = ? AND c.seq < ? ORDER BY c.seq DESC LIMIT ?"
    )
    parts: list[OpenSegment] = []
    for kind, body in store.connection.execute(sql, (inc, seq, SEGMENT_PARTS_MAX)):
        if kind != "part":
            break
        parts.append(healing.as_told(store, read_segment(body)))
        if len(parts) == SEGMENT_PARTS_MAX:
            raise TooLarge(f"a transaction comes in more than {SEGMENT_PARTS_MAX} parts")
    return parts[::-1]


def _transactions(store: Store, parts: Sequence[OpenSegment]) -> list[Transaction]:
    """Return the transactions of a segment, or the one transaction its parts make up."""
    found = [transactions(part, _keys(store, part)) for part in parts]
    for work in found[-1]:
        work.before = healing.version_before(store, parts[-1].id)
    if len(parts) == 1:
        return found[0]
    whole = found[-1][0]
    whole.ops = [op for works in found for op in works[0].ops]
    return [whole]


def _keys(store: Store, segment: OpenSegment) -> dict[str, tuple[str, ...]]:
    keys: dict[str, tuple[str, ...]] = {}
    for block in segment.inserts:
        table = store.schema.by_name.get(block.table)
        key = table.key if table else block.columns[:1]
        if any(name not in block.columns for name in key):
            raise Malformed(f"rows of {block.table} come without their key")
        keys[block.table] = key
    return keys


def take_one(store: Store, pusher: Pusher, work: Transaction, segment: bytes, version: int, now_ms: int) -> None:
    """Judge and merge one transaction; keep what cannot be applied."""
    store.connection.execute("SAVEPOINT one")
    try:
        verdict = Merging(store, pusher, work, version, now_ms, seed(segment, work.index)).run()
    except Hold as hold:
        store.connection.execute("ROLLBACK TO one")
        store.connection.execute("RELEASE one")
        _keep(store, pusher, work, segment, version, now_ms, hold)
        return
    store.connection.execute("RELEASE one")
    if verdict != "accepted":
        _say(store, pusher.node, segment, work.index, version, verdict, "", "")


def _keep(store: Store, pusher: Pusher, work: Transaction, segment: bytes, version: int, now_ms: int, hold: Hold) -> None:
    if isinstance(hold, Refuse):
        refuse(store, pusher.node, work, segment, version, hold)
        return
    cursor = store.connection.execute(
        "INSERT INTO _held (segment, txn, inc, node, skew_ms, code, reason, since_ms, wait_tbl, wait_key)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (segment, work.index, pusher.inc, pusher.node, pusher.skew_ms, hold.code, hold.reason, now_ms, *hold.waits),
    )
    held = cursor.fetchone()[0]
    store.connection.executemany(
        "INSERT OR IGNORE INTO _held_row (held, node, tbl, key) VALUES (?, ?, ?, ?)",
        [(held, pusher.node, table, key) for table, key in held_rows(store, work.ops)],
    )
    _show_standing(store, pusher, work, version)
    _say(store, pusher.node, segment, work.index, version, "held", hold.code, hold.reason)


def _show_standing(store: Store, pusher: Pusher, work: Transaction, version: int) -> None:
    """Send the node what stands under documents and events it wrote again: INSERT OR REPLACE captures no old row of them."""
    for op in work.ops:
        table = store.schema.by_name.get(op.table)
        if isinstance(op, Insert) and table is not None and table.immutable:
            rid = scopes.rid_of(store, table, op.key) if all(isinstance(part, str) for part in op.key) else None
            if rid is not None and not pusher.scope.isdisjoint(scopes.keys_of(store, table, rid)):
                scopes.note(store, table, [scopes.node_scope(pusher.node)], version, rid, CENTRE, scopes.ENTER)


def refuse(store: Store, node: int, work: Transaction, segment: bytes, version: int, why: Hold) -> None:
    """Put a transaction aside for good; what was new in it is remembered as refused, for what builds on it."""
    store.connection.executemany(
        "INSERT OR IGNORE INTO _refused_insert (tbl, key) VALUES (?, ?)",
        [(op.table, key_text(op.key)) for op in work.ops if isinstance(op, Insert)],
    )
    _say(store, node, segment, work.index, version, "refused", why.code, why.reason)


def _say(store: Store, node: int, segment: bytes, index: int, version: int, verdict: str, code: str, reason: str) -> None:
    store.connection.execute(
        "INSERT INTO _verdict (segment, txn, node, ver, verdict, code, reason) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (segment, txn)"
        " DO UPDATE SET ver = excluded.ver, verdict = excluded.verdict, code = excluded.code, reason = excluded.reason",
        (segment, index, node, version, verdict, code, reason),
    )


def seed(segment: bytes, index: int) -> bytes:
    """Return what tells one transaction from all others."""
    return segment + index.to_bytes(4, "big")


def verdict_of(store: Store, segment: bytes) -> SegmentVerdict:
    """Return what became of a segment the journal holds."""
    version, count = store.connection.execute("SELECT ver, transactions FROM _journal WHERE segment = ?", (segment,)).fetchone()
    sql = "SELECT txn, verdict, ver, code, reason FROM _verdict WHERE segment = ? ORDER BY txn"
    found = store.connection.execute(sql, (segment,)).fetchall()
    return SegmentVerdict(segment, version, count, tuple(Exceptional(*row) for row in found), None)


# --- held work ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """A transaction that waits."""

    id: int
    segment: bytes
    txn: int
    inc: int
    node: int
    skew_ms: int
    code: str
    reason: str
    since_ms: int
    approved: int
    wait_tbl: str | None  # the row it waits for, where it waits for one
    wait_key: str | None


def release(store: Store, now_ms: int, *, rights: bool = False) -> int:
    """Try held work again, in the order it came, until nothing more can go; return how many went.

    Only what may have changed is tried: a missing row or parent, work held before it, an approval; with `rights` also
    what waits for a right. Each pass releases at least one or ends, so it ends.
    """
    released = 0
    works = Works(store)
    while True:
        went = sum(_try(store, held, works.of(held), now_ms) for held in waiting(store) if _may_go(store, held, rights))
        released += went
        if not went:
            return released


def _may_go(store: Store, held: Held, rights: bool) -> bool:
    """Tell whether what held work waits for may have come."""
    if held.approved or (rights and held.code in ("right", "key")):
        return True
    if held.code == "depends":
        sql = "SELECT 1 FROM _held_row WHERE node = ? AND tbl = ? AND key = ? AND held < ?"
        return store.connection.execute(sql, (held.node, held.wait_tbl, held.wait_key, held.id)).fetchone() is None
    if held.code not in ("parent", "row") or held.wait_tbl is None or held.wait_key is None:
        return False
    table = store.schema.by_name[held.wait_tbl]
    key = key_parts(held.wait_key, len(table.key))
    lost = "SELECT 1 FROM _refused_insert WHERE tbl = ? AND key = ?"
    return (
        scopes.rid_of(store, table, key) is not None
        or rows.grave(store, table, key) is not None
        or store.connection.execute(lost, (held.wait_tbl, held.wait_key)).fetchone() is not None
    )


def waiting(store: Store) -> list[Held]:
    """Return all held work, in the order it came."""
    rows = store.connection.execute(
        "SELECT id, segment, txn, inc, node, skew_ms, code, reason, since_ms, approved, wait_tbl, wait_key FROM _held ORDER BY id"
    ).fetchall()
    return [Held(*row) for row in rows]


class Works:
    """Held transactions as they were sealed; the segment looked at last is opened once for all of them."""

    def __init__(self, store: Store) -> None:
        self._store, self._segment = store, b""
        self._found: dict[int, Transaction] = {}

    def of(self, held: Held) -> Transaction:
        """Return a held transaction."""
        if held.segment != self._segment:
            seq, body, inc = self._store.connection.execute(
                "SELECT seq, body, inc FROM _journal WHERE segment = ?", (held.segment,)
            ).fetchone()
            segment = read_segment(body)
            segment = healing.as_told(self._store, segment)
            parts = [*_earlier_parts(self._store, inc, seq), segment] if segment.part == 2 else [segment]
            self._found = {work.index: work for work in _transactions(self._store, parts)}
            self._segment = held.segment
        return self._found[held.txn]


def _try(store: Store, held: Held, work: Transaction, now_ms: int) -> int:
    node_id = store.connection.execute("SELECT id FROM _node WHERE node = ?", (held.node,)).fetchone()[0]
    pusher = Pusher(held.node, node_id, held.inc, lineage_of(store, held.inc), scopes.entitled(store, held.node), held.skew_ms)
    store.connection.execute("SAVEPOINT try")
    version = journal.append(store, journal.Entry("release", held.inc, held.segment + held.txn.to_bytes(4, "big")), now_ms)
    merging = Merging(store, pusher, work, version, now_ms, seed(held.segment, held.txn), bool(held.approved), held.id)
    try:
        verdict = merging.run()
    except Refuse as why:
        store.connection.execute("ROLLBACK TO try")
        store.connection.execute("RELEASE try")
        put_aside(store, held, work, why, now_ms)
        return 1
    except Hold as hold:
        store.connection.execute("ROLLBACK TO try")
        store.connection.execute("RELEASE try")
        store.connection.execute(
            "UPDATE _held SET code = ?, reason = ?, wait_tbl = ?, wait_key = ? WHERE id = ?",
            (hold.code, hold.reason, *hold.waits, held.id),
        )
        return 0
    store.connection.execute("RELEASE try")
    _forget_held(store, held.id)
    # foreign to the node itself as well: it has shown the work as held until now
    _say(store, held.node, held.segment, held.txn, version, verdict, "", "")
    return 1


def put_aside(store: Store, held: Held, work: Transaction, why: Hold, now_ms: int) -> None:
    """Refuse held work under a version of its own."""
    content = held.segment + held.txn.to_bytes(4, "big")
    version = journal.append(store, journal.Entry("refusal", held.inc, content), now_ms)
    _forget_held(store, held.id)
    refuse(store, held.node, work, held.segment, version, why)


def _forget_held(store: Store, held: int) -> None:
    store.connection.execute("DELETE FROM _held_row WHERE held = ?", (held,))
    store.connection.execute("DELETE FROM _held WHERE id = ?", (held,))


def decide(store: Store, held_id: int, approve: bool, now_ms: int) -> bool:
    """Carry out the centre's decision on held work, and release what it sets free. Returns False if there is no such work."""
    found = [held for held in waiting(store) if held.id == held_id]
    if not found:
        return False
    with centre.engine_writes(store, now_ms):
        if approve:
            store.connection.execute("UPDATE _held SET approved = 1 WHERE id = ?", (held_id,))
        else:
            put_aside(store, found[0], Works(store).of(found[0]), Refuse("refused", "the central office refused it"), now_ms)
        release(store, now_ms)
    return True
