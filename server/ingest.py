"""Ingest: a node's push, taken exactly once.

    chain check ─► for each new segment: fast path (bulk) or transaction by transaction (merge) ─► journal, verdicts,
    chain end ─► what was held and can go now ─► one commit ─► reply

Everything happens in the caller's one write transaction: rows, metadata, journal, chain end and verdicts together, so a
repeated push finds either all of it or nothing. Spec: PROTOCOL.md §6; RULES H5–H7, H9, H12.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import heappop, heappush

import msgspec

from schema.capture import Store
from schema.keys import key_text
from server import bulk, centre, hand, healing, horizon, journal, reasons, runs, scopes, waits, withdrawals
from server import held as held_work
from server.edits import Coming
from server.forms import Forms
from server.held import Held, Works, name_of, say
from server.histories import History, lineage_of, open_history
from server.holding import Hold, Refuse, held_rows, is_refused
from server.merging import merge
from server.merging.incoming import Incoming, Pusher
from server.skew import open_segment, waits_for_upgrade
from sync.change import NEVER, Insert, Transaction
from sync.digest import segment_point
from sync.errors import Forked, Gap, Malformed, MalformedBlock, TooLarge
from sync.limits import PUSH_SEGMENTS_MAX
from sync.merge import CENTRE
from sync.messages import Again, Exceptional, PushReply, PushRequest, Sealed, SegmentVerdict
from sync.segment import OpenSegment, transactions

ALONE_MAX, RUN_AGAIN_MIN = 64, 16
"""Transactions taken one by one until a run is looked for again, and how far is looked then at least."""

LOOKS_MAX, TRIES_MAX = 20_000, 500
"""Held transactions that one request looks at, and tries again; the next request goes on from there."""


def push(store: Store, node: int, node_id: str, request: PushRequest, now_ms: int) -> PushReply:
    """Take a push inside a write transaction, while the engine writes (`centre.engine_writes`). Raises PeerError subclasses; the caller
    keeps nothing then.
    """
    if len(request.segments) > PUSH_SEGMENTS_MAX:
        raise TooLarge(f"a push holds more than {PUSH_SEGMENTS_MAX} segments")
    journal.require(store, request.cursor, request.highest)
    history = open_history(store, node, request)
    horizon.require_known(store, request)
    skew = now_ms - request.clock_ms
    pusher = Pusher(node, node_id, history.inc, history.lineage, scopes.entitled(store, node), skew)
    verdicts = [_numbered(index, store, pusher, history, sealed, now_ms) for index, sealed in enumerate(request.segments)]
    release(store, now_ms)
    store.connection.execute(
        "UPDATE _node SET last_push_ms = CASE WHEN ? = 1 THEN ? ELSE last_push_ms END, unsynced = ?, conflicts = ?, held = ?"
        " WHERE node = ?",
        (bool(request.segments), now_ms, request.told.unsynced, request.told.conflicts, request.told.held, node),
    )
    state = journal.state(store)
    return PushReply(state.epoch, state.head, reasons.bounded(verdicts))


def _numbered(index: int, store: Store, pusher: Pusher, history: History, sealed: Sealed, now_ms: int) -> SegmentVerdict:
    """Take a segment; an error that lies in it alone tells which one it is, so that the node can go on without it."""
    try:
        return take(store, pusher, history, sealed, now_ms)
    except (Malformed, MalformedBlock, TooLarge) as error:
        error.extra["segment"] = index
        raise


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
        return _told(store, verdict_of(store, known[1]), sealed, body)
    if point.number != history.end.number + 1:
        raise Gap(f"The centre holds this node's history up to {history.end.number}, not {point.number - 1}.")
    segment, again = open_segment(store, body), healing.checked(store, sealed.again)
    journaled = store.connection.execute("SELECT body, kind FROM _journal WHERE segment = ?", (segment.id,)).fetchone()
    if journaled is not None:
        if not journal.is_of(journaled[0], journaled[1], body):
            raise Malformed("there is another segment with this id")
        history.adopt(store, pusher.node, segment.id)
        if again is not None:
            healing.note_before(store, segment.id, again)
    else:
        if again is not None:
            healing.note_again(store, segment.id, again)
        _take_new(store, replace(pusher, lineage=history.lineage), point.number, body, segment, now_ms, again)
    if again is not None:
        history.lineage = lineage_of(store, history.inc)
    history.extend(store, point, segment.id)
    return _told(store, verdict_of(store, segment.id), sealed, body)


def _told(store: Store, verdict: SegmentVerdict, sealed: Sealed, body: bytes) -> SegmentVerdict:
    """Return a verdict with what the node needs to show held work again, if it cannot open its own box: of a part always, for
    what becomes of it is known only with the last one.
    """
    if sealed.again is None or not sealed.again.boxed:
        return verdict
    kind = store.connection.execute("SELECT kind FROM _journal WHERE segment = ?", (verdict.segment,)).fetchone()[0]
    shows = kind == "part" or any(exception.verdict in ("held", "refused", "withdrawn") for exception in verdict.exceptions)
    return msgspec.structs.replace(verdict, body=body) if shows else verdict


def _take_new(store: Store, pusher: Pusher, seq: int, body: bytes, segment: OpenSegment, now_ms: int, again: Again | None) -> None:
    head = journal.head(store)
    segment = healing.as_told(store, segment) if again is not None else segment
    if max(segment.base) > head.number:
        raise Malformed("a transaction builds on a version that does not exist")
    kind = "part" if segment.part == 1 else "segment"
    entry = journal.Entry(kind, pusher.inc, body, segment.transactions, seq, segment.id, segment.first)
    version = journal.append(store, entry, now_ms, head)
    if again is not None:
        healing.note_before(store, segment.id, again)
    if segment.part == 1:
        return
    if segment.part == 2:
        parts = [*held_work.earlier_parts(store, pusher.inc, seq, segment.first), segment]
        if not bulk.take(store, pusher, parts, version):
            (whole,) = held_work.whole_transactions(store, parts)
            take_one(store, pusher, whole, segment.id, version, now_ms)
        return
    plain, others = bulk.divide(store, segment)
    _in_order(store, pusher, segment, others, version, now_ms)
    if not bulk.take(store, pusher, [plain], version, alone=not others):  # after the others: what waits for held work among them must wait
        _in_order(store, pusher, segment, set(range(segment.transactions)) - others, version, now_ms)


def _in_order(store: Store, pusher: Pusher, segment: OpenSegment, indexes: set[int], version: int, now_ms: int) -> None:
    """Take transactions in their order: those that make a run together, the others each by itself."""
    if not indexes:
        return
    works = transactions(segment, held_work.keys_of_inserts(store, segment), indexes)
    came_again, forms = healing.came_again(store, segment.id), Forms(store, runs.tables(store), segment.schema)
    coming = Coming(store, pusher, segment.id, version, now_ms)
    at, size, alone = 0, runs.RUN_MAX, 0
    while at < len(works):
        taken = runs.take(coming, forms, works[at : at + size]) if not came_again else 0
        at += taken
        if taken < size:  # where runs are short, looking far and often for one does not pay
            alone = 1 if taken else min(2 * alone + 1, ALONE_MAX)
            for work in works[at : at + alone]:
                work.before = healing.version_before(store, segment.id, work.number) if came_again else NEVER
                take_one(store, pusher, work, segment.id, version, now_ms)
            at += alone
        size = min(max(2 * taken, RUN_AGAIN_MIN), runs.RUN_MAX)


def take_one(store: Store, pusher: Pusher, work: Transaction, segment: bytes, version: int, now_ms: int) -> None:
    """Judge and merge one transaction, with the held work whose place it takes; keep what cannot be applied."""
    place = withdrawals.LAST
    if work.withdrawals:
        work, place = withdrawals.carry_out(store, pusher.node, work, segment, version, now_ms)
    waits.made_anew(store, pusher.node, work.ops)
    store.connection.execute("SAVEPOINT one")
    try:
        verdict = _merged(Incoming(store, pusher, work, version, now_ms, name_of(segment, work.index), held_id=place))
    except Hold as hold:
        store.connection.execute("ROLLBACK TO one")
        store.connection.execute("RELEASE one")
        waits_for_upgrade(store, hold, work.schema)
        _keep(store, pusher, work, segment, version, now_ms, hold, place)
        return
    store.connection.execute("RELEASE one")
    if verdict != "accepted":
        say(store, pusher.node, segment, work.index, version, verdict, "", "")


def _merged(incoming: Incoming) -> str:
    """Judge and merge a transaction, and return its verdict. Raises Hold, also where a rule refuses it that another program gave the
    centre's database: one row must not stop its node, nor, once it is held, everybody's requests. A trigger that rolls everything
    back leaves nothing to go on with, and raises what the database raised; so does a disk that is full or locked.
    """
    try:
        return merge(incoming)
    except incoming.store.dialect.errors as error:
        if not is_refused(incoming.store, error):
            raise
        words = incoming.store.dialect.words_of(error)
        raise Hold("check", f"the centre's database refuses it: {words}") from error


def _keep(store: Store, pusher: Pusher, work: Transaction, segment: bytes, version: int, now_ms: int, hold: Hold, place: int) -> None:
    if isinstance(hold, Refuse):
        refuse(store, pusher.node, work, segment, version, hold)
        return
    since = store.connection.execute("SELECT MIN(since_ms) FROM _withdrawn WHERE held = ?", (place,)).fetchone()[0]
    values = {
        **{"segment": segment, "txn": work.index, "inc": pusher.inc, "node": pusher.node, "skew_ms": pusher.skew_ms},
        **{"code": hold.code, "reason": hold.reason, "since_ms": now_ms if since is None else since},
        **dict(zip(("wait_tbl", "wait_key"), hold.waits, strict=True)),
        **({} if place == withdrawals.LAST else {"id": place}),
    }
    sql = f"INSERT INTO _held ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) RETURNING id"
    number = store.connection.execute(sql, tuple(values.values())).fetchone()[0]
    store.connection.executemany(
        "INSERT INTO _held_row (held, node, tbl, key) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(number, pusher.node, table, key) for table, key in held_rows(store, work.ops)],
    )
    waits.note(store, number)
    _show_standing(store, pusher, work, version)
    say(store, pusher.node, segment, work.index, version, "held", hold.code, hand.reason(store, number, hold.reason))


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
        "INSERT INTO _refused_key (node, tbl, key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(node, op.table, key_text(op.key)) for op in work.ops if isinstance(op, Insert)],
    )
    waits.stay(store, node, work.ops, version)
    say(store, node, segment, work.index, version, "refused", why.code, why.reason)


def verdict_of(store: Store, segment: bytes) -> SegmentVerdict:
    """Return what became of a segment the journal holds."""
    found = store.connection.execute(
        "SELECT j.ver, j.transactions, v.txn, v.verdict, v.ver, v.code, v.reason FROM _journal j"
        " LEFT JOIN _verdict v ON v.segment = j.segment WHERE j.segment = ? ORDER BY v.txn",
        (segment,),
    ).fetchall()
    exceptions = tuple(Exceptional(*row[2:]) for row in found if row[2] is not None)
    return SegmentVerdict(segment, found[0][0], found[0][1], exceptions, None)


# --- held work ------------------------------------------------------------------------------------------------------


def release(store: Store, now_ms: int, first: Held | None = None) -> int:
    """Try held work again whose cause may have come, `first` before all, in the order it came; return how much went.

    Bounded: what is left over is `due`, and the next request goes on with it. A pass during which the centre's version rose
    is followed by another, as what came earlier may wait for what came later; every try has a cause, so passes end. Causes are
    versions, or another declaration: without a new one since the last whole pass there is nothing to look at.
    """
    works = Works(store)
    released = _try(store, first, works.of(first), now_ms) if first is not None else 0
    if store.connection.execute("SELECT 1 FROM _held LIMIT 1").fetchone() is None:
        return released
    at, since, schema = store.connection.execute("SELECT at, since, schema FROM _release").fetchone() or (0, -1, 0)
    if at == 0 and (since, schema) == (journal.head(store).number, store.schema.digest_number):
        return released
    walk = _Walk(store, works, now_ms, at, since)
    walk.go()
    sql = (
        "INSERT INTO _release (id, at, since, schema) VALUES (1, ?, ?, ?) ON CONFLICT (id)"
        " DO UPDATE SET at = excluded.at, since = excluded.since, schema = excluded.schema"
    )
    store.connection.execute(sql, (walk.at, walk.since, store.schema.digest_number))
    return released + walk.released


@dataclass(slots=True)
class _Walk:
    """A look through held work, as far as one request goes."""

    store: Store
    works: Works
    now_ms: int
    at: int  # looked through up to this; 0: from the beginning
    since: int  # the centre's version when this pass began
    looks: int = 0
    tries: int = 0
    released: int = 0

    def go(self) -> None:
        """Look and try until a whole pass changed nothing, or the bounds are reached."""
        while self.looks < LOOKS_MAX and self.tries < TRIES_MAX:
            head = journal.head(self.store).number
            self.since = self.since if self.at else head
            count, until = held_work.next_of(self.store, self.at, LOOKS_MAX - self.looks)
            if count:
                self.looks += count
                self._part(until)
                continue
            self.at = 0
            if head == self.since:
                break

    def _part(self, until: int) -> None:
        """Try what may go up to a number; what a release sets free behind it is tried in its own turn."""
        limit = TRIES_MAX - self.tries
        queue = waits.candidates(self.store, self.at, until, limit)  # in order, so a heap
        is_whole = len(queue) < limit
        while queue and self.tries < TRIES_MAX:
            number = heappop(queue)
            held = held_work.by_id(self.store, number)
            if number == self.at or held is None or not waits.may_go(self.store, number):
                continue
            self.at, self.tries, work = number, self.tries + 1, self.works.of(held)
            if _try(self.store, held, work, self.now_ms):
                self.released += 1
                for woken in waits.waiting_on(self.store, held_rows(self.store, work.ops), number, until, limit):
                    heappush(queue, woken)
        if is_whole and not queue:
            self.at = until


def due(store: Store) -> bool:
    """Tell whether a release was cut short by its bounds."""
    return store.connection.execute("SELECT 1 FROM _release WHERE at > 0").fetchone() is not None


def _try(store: Store, held: Held, work: Transaction, now_ms: int) -> int:
    node_id = store.connection.execute("SELECT id FROM _node WHERE node = ?", (held.node,)).fetchone()[0]
    pusher = Pusher(held.node, node_id, held.inc, lineage_of(store, held.inc), scopes.entitled(store, held.node), held.skew_ms)
    store.connection.execute("SAVEPOINT try")
    version = journal.append(store, journal.Entry("release", held.inc, name_of(held.segment, held.txn)), now_ms)
    incoming = Incoming(store, pusher, work, version, now_ms, name_of(held.segment, held.txn), bool(held.approved), held.id)
    try:
        verdict = _merged(incoming)
    except Hold as hold:
        store.connection.execute("ROLLBACK TO try")
        store.connection.execute("RELEASE try")
        waits_for_upgrade(store, hold, work.schema)
        if isinstance(hold, Refuse):
            put_aside(store, held, work, hold, now_ms)
            return 1
        _still_held(store, held, hold, now_ms)
        return 0
    store.connection.execute("RELEASE try")
    held_work.forget(store, held.id)
    # foreign to the node itself as well: it has shown the work as held until now
    say(store, held.node, held.segment, held.txn, version, verdict, "", "")
    return 1


def _still_held(store: Store, held: Held, hold: Hold, now_ms: int) -> None:
    """Keep what held work waits for now, and tell its node if that is something else."""
    store.connection.execute(
        "UPDATE _held SET code = ?, reason = ?, wait_tbl = ?, wait_key = ? WHERE id = ?", (hold.code, hold.reason, *hold.waits, held.id)
    )
    waits.note(store, held.id)
    if (hold.code, hold.reason) != (held.code, held.reason):
        hand.tell(store, held, hold.code, hold.reason, now_ms)


def put_aside(store: Store, held: Held, work: Transaction, why: Hold, now_ms: int) -> None:
    """Refuse held work under a version of its own."""
    version = journal.append(store, journal.Entry("refusal", held.inc, name_of(held.segment, held.txn)), now_ms)
    held_work.forget(store, held.id)
    refuse(store, held.node, work, held.segment, version, why)


# --- what the centre decides --------------------------------------------------------------------------------------------


def decide(store: Store, held_id: int, approve: bool, now_ms: int, note: str = "") -> bool:
    """Carry out the centre's decision on held work, and release what it sets free; a refusal's note goes to its node.

    Returns False if there is no such work. Raises BadValue for a note that is too long.
    """
    held = held_work.by_id(store, held_id)
    if held is None:
        return False
    with centre.engine_writes(store, now_ms):
        if approve:
            store.connection.execute("UPDATE _held SET approved = 1 WHERE id = ?", (held_id,))
            release(store, now_ms, replace(held, approved=1))
        else:
            why = Refuse("refused", withdrawals.with_note("the central office refused it", note))
            put_aside(store, held, Works(store).of(held), why, now_ms)
            release(store, now_ms)
    return True


def withdraw(store: Store, held_id: int, why: str, now_ms: int) -> bool:
    """Take held work back for its node, and let go what waited for it. Returns False if there is no such work. Raises BadValue."""
    held = held_work.by_id(store, held_id)
    if held is None:
        return False
    with centre.engine_writes(store, now_ms):
        withdrawals.by_centre(store, held, why, now_ms)
        release(store, now_ms)
    return True


def hand_over(store: Store, held_id: int, name: str, note: str, now_ms: int) -> bool:
    """Note who looks after held work now. Returns False if there is no such work. Raises BadValue."""
    held = held_work.by_id(store, held_id)
    if held is None:
        return False
    with centre.engine_writes(store, now_ms):
        hand.hand(store, held, name, note, now_ms)
    return True
