"""Verdicts: what became of our work at the centre, noted when it is heard; settled when the cursor covers it (node/settling.py).

An acknowledged transaction stays pending until the cursor reaches its version; only then is it part of the centre's rows
as we know them (RULES H1). What was held or refused is spelled out, change by change, so that it outlives its segment.
Spec: PROTOCOL.md §6.3, §8.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from node import pending
from node.aside import HELD, REFUSED, REPLACED, WITHDRAWN, bring_back, is_aside
from node.database import read_state
from node.skew import translated
from schema.capture import Store
from schema.declare import Table
from sync.change import Insert, Op, Withdrawn
from sync.digest import segment_point_of
from sync.errors import Malformed, MalformedBlock, TooLarge
from sync.messages import Accepted, Exceptional, LateVerdict, Point, SegmentVerdict
from sync.segment import OpenSegment, read_segment, transactions

WAITING = 1 << 62
"""The version of an acknowledged part whose transaction is not complete at the centre yet."""


def acknowledge(store: Store, verdict: SegmentVerdict, now_ms: int) -> None:
    """Note that the centre has a segment, and what became of its transactions."""
    row = store.connection.execute(
        "SELECT seq, part, chain_seq, digest, rechained FROM _segment WHERE id = ? AND version IS NULL", (verdict.segment,)
    ).fetchone()
    if row is None:
        return
    seq, part, chain_seq, digest, rechained = row
    if verdict.body is not None:  # it was boxed: what is held of it can be shown again
        store.connection.execute("UPDATE _segment SET body = ?, boxed = 0 WHERE seq = ? AND boxed", (verdict.body, seq))
    version = WAITING if part == 1 else verdict.version
    store.connection.execute("UPDATE _segment SET version = ? WHERE seq = ?", (version, seq))
    if part == 2:
        store.connection.execute("UPDATE _segment SET version = ? WHERE version = ? AND seq < ?", (version, WAITING, seq))
    store.connection.execute("UPDATE _node SET acked_seq = ?, acked_digest = ?, registered = 1 WHERE id = 1", (chain_seq, digest))
    if rechained:
        store.connection.execute("INSERT OR IGNORE INTO _adopted (segment) VALUES (?)", (verdict.segment,))
    note_verdicts(store, verdict.segment, verdict.exceptions, now_ms)


def accepted(store: Store, entry: Accepted, now_ms: int) -> bool:
    """Note what a page says of a segment whose acknowledgement did not arrive, or came through another incarnation.

    Return False for a segment that was never heard of here: another life of this node pushed it.
    """
    row = store.connection.execute("SELECT chain_seq FROM _segment WHERE id = ? AND version IS NULL", (entry.segment,)).fetchone()
    if row is None:
        sql = "SELECT 1 FROM _segment WHERE id = ? UNION ALL SELECT 1 FROM _retained WHERE id = ?"
        return store.connection.execute(sql, (entry.segment, entry.segment)).fetchone() is not None
    if entry.seq == row[0]:
        acknowledge(store, SegmentVerdict(entry.segment, entry.version, entry.transactions, (), None), now_ms)
        return True
    # in the journal, but not in this incarnation's chain: it is ours (adopted), and what follows moves up (RULES H7)
    acked = read_state(store.connection).acked
    acknowledge(store, SegmentVerdict(entry.segment, entry.version, entry.transactions, (), None), now_ms)
    store.connection.execute("UPDATE _node SET acked_seq = ?, acked_digest = ? WHERE id = 1", (acked.number, acked.digest))
    store.connection.execute("INSERT OR IGNORE INTO _adopted (segment) VALUES (?)", (entry.segment,))
    chain_again(store, acked)
    return True


def chain_again(store: Store, end: Point) -> None:
    """Put the segments that are not acknowledged behind `end` in this node's own chain, in their order."""
    for seq, hashed in store.connection.execute("SELECT seq, hash FROM _segment WHERE version IS NULL ORDER BY seq").fetchall():
        end = segment_point_of(end, hashed)
        store.connection.execute("UPDATE _segment SET chain_seq = ?, digest = ? WHERE seq = ?", (end.number, end.digest, seq))


def note_verdicts(store: Store, segment: bytes, found: Iterable[Exceptional | LateVerdict], now_ms: int) -> None:
    """Note verdicts on transactions of one segment, unless newer ones are known; the rows of held or refused documents
    become pending changes of their own, but for what was put aside for that before: somebody may have dealt with it since.
    """
    noted = [verdict for verdict in found if _note(store, segment, verdict, now_ms)]
    apart = [verdict for verdict in noted if verdict.verdict in (HELD, REFUSED, WITHDRAWN)]
    aside = [verdict.transaction for verdict in apart if not _was_told(store, segment, verdict)]
    if aside:
        spell_out(store, segment, aside)
        in_view = "SELECT 1 FROM _op o WHERE o.segment = _quarantine.segment AND o.txn = _quarantine.txn"
        bring_back(store, segment, f"EXISTS ({in_view})")


def _note(store: Store, segment: bytes, verdict: Exceptional | LateVerdict, now_ms: int) -> bool:
    changed = store.connection.execute(
        "INSERT INTO _txn (segment, txn, verdict, version, code, reason, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (segment, txn)"
        " DO UPDATE SET verdict = excluded.verdict, version = excluded.version, code = excluded.code, reason = excluded.reason,"
        " at_ms = CASE WHEN verdict = excluded.verdict THEN at_ms ELSE excluded.at_ms END WHERE version < excluded.version RETURNING txn",
        (segment, verdict.transaction, verdict.verdict, verdict.version, verdict.code, verdict.reason, now_ms),
    )
    if changed.fetchall():
        return True
    store.connection.execute(  # a reply may have cut it
        "UPDATE _txn SET reason = ?1 WHERE segment = ?2 AND txn = ?3 AND version = ?4 AND LENGTH(reason) < LENGTH(?1)",
        (verdict.reason, segment, verdict.transaction, verdict.version),
    )
    return False


def _was_told(store: Store, segment: bytes, verdict: Exceptional | LateVerdict) -> bool:
    """Tell whether work was put aside for this very reason, of which a reply may tell the beginning, in an earlier life of the
    centre. What a correction replaces may be needed again, under that.
    """
    if verdict.verdict == HELD or verdict.code == REPLACED or not is_aside(store, segment, verdict.transaction):
        return False
    sql = "SELECT 1 FROM _quarantine WHERE segment = ?1 AND txn = ?2 AND SUBSTR(reason, 1, LENGTH(?3)) = ?3"
    return store.connection.execute(sql, (segment, verdict.transaction, verdict.reason)).fetchone() is not None


def spell_out(store: Store, segment: bytes, indexes: list[int]) -> None:
    """Keep transactions' changes one by one, so that they outlive their segment: its new documents and events, and all of one
    that came again after a restore of the centre.
    """
    cursor = read_state(store.connection).cursor.number
    for number, body in _bodies(store, segment):
        opened = read_segment(body)
        open_again = [(decision.conflict,) for decision in opened.decisions if decision.transaction in indexes]
        store.connection.executemany("UPDATE _conflict SET deciding = 0 WHERE id = ?", open_again)
        for work in transactions(opened, _keys(store, opened), indexes):
            name = (segment, work.index)
            for withdrawn in work.withdrawals:
                note_withdrawal(store, withdrawn, name)
            ops = [op for op in translated(store, opened, work.ops) if not pending.is_kept(store, *name, op)]
            for replaced in (each for each in work.withdrawals if ops and each.replaced):
                _lay(store, name, _in_place_of(store, replaced), cursor)
            _lay(store, name, [(number + work.index, op) for op in ops], cursor)


def _lay(store: Store, name: tuple[bytes, int], ops: Iterable[tuple[int, Op]], cursor: int) -> None:
    """Make changes pending again, each with its own number, under the name of a transaction."""
    for number, op in ops:
        table = store.schema.by_name[op.table]
        pending.shadow(store, table, op.key, None if isinstance(op, Insert) else pending.seen(store, table, op.key))
        pending.lower(op, cursor)
        pending.keep(store, number, *name, op)


def _in_place_of(store: Store, replaced: Withdrawn) -> list[tuple[int, Op]]:
    """Return the changes of work whose place a correction took in what a restored centre still has, with their own numbers: they go
    on in the correction, which was judged, and is held again, between what else does. What is sent again itself goes by its own
    name until then.
    """
    if store.connection.execute("SELECT 1 FROM _segment WHERE id = ?", (replaced.segment,)).fetchone() is not None:
        return []
    sql = "SELECT n, tbl, kind, body FROM _quarantine WHERE segment = ? AND txn = ? AND code = ? ORDER BY n, id"
    found = store.connection.execute(sql, (replaced.segment, replaced.index, REPLACED)).fetchall()
    return [(number, pending.unpack(*entry)) for number, *entry in found]


def note_withdrawal(store: Store, work: Withdrawn, by: tuple[bytes, int]) -> None:
    """Remember that a transaction of ours withdraws another, maybe of the segment that is being filled, until what became of
    that is covered; nothing if it is already.
    """
    store.connection.execute(
        "INSERT OR REPLACE INTO _withdrawal (segment, txn, by_segment, by_txn, replaced) SELECT ?1, ?2, ?3, ?4, ?5"
        " WHERE ?1 = ?3 OR EXISTS (SELECT 1 FROM _txn WHERE segment = ?1 AND txn = ?2) OR EXISTS (SELECT 1 FROM _segment WHERE id = ?1)",
        (work.segment, work.index, *by, work.replaced),
    )


def _bodies(store: Store, segment: bytes) -> list[tuple[int, bytes]]:
    """Return (first number, body) of a segment, after those of the parts before it."""
    sql = "SELECT seq, first, part, body FROM _segment WHERE id = ? AND NOT boxed"
    row = store.connection.execute(sql, (segment,)).fetchone()
    if row is None:
        return []
    seq, first, part, body = row
    parts: list[tuple[int, bytes]] = []
    if part == 2:
        parts = store.connection.execute(
            "SELECT first, body FROM _segment WHERE part = 1 AND first = ? AND seq < ? AND NOT boxed ORDER BY seq", (first, seq)
        ).fetchall()
    return [*parts, (first, body)]


def _keys(store: Store, segment: OpenSegment) -> dict[str, tuple[str, ...]]:
    return {block.table: store.schema.by_name[block.table].key for block in segment.inserts}


def find_own(store: Store, table: Table, rid: int, key: Sequence[Any]) -> tuple[int, bytes, int]:
    """Return (own number, segment, index) of the transaction that brought a document or event of ours; of bytes that a disk has
    damaged, which are set aside or will be, the first.
    """
    sql = (
        "SELECT g.first, g.id, g.body FROM _own o JOIN _segment g ON g.id = o.segment"
        " WHERE o.tbl = ? AND o.lo <= ? ORDER BY o.lo DESC LIMIT 1"
    )
    first, segment, body = store.connection.execute(sql, (table.name, rid)).fetchone()
    try:
        opened = read_segment(body)
    except (Malformed, MalformedBlock, TooLarge):
        return first, segment, 0
    for block in opened.inserts:
        if block.table == table.name:
            columns = [block.values[block.columns.index(name)] for name in table.key]
            for index, values in zip(block.transaction, zip(*columns, strict=True), strict=True):
                if values == tuple(key):
                    return first + index, segment, index
    return first, segment, 0


def counts(store: Store) -> tuple[int, int, int]:
    """Return how much is (unsynced transactions, open conflicts, held transactions)."""
    connection = store.connection
    unsynced = connection.execute("SELECT COALESCE(SUM(transactions), 0) FROM _segment WHERE version IS NULL AND part <> 1").fetchone()[0]
    conflicts = connection.execute("SELECT COUNT(*) FROM _conflict WHERE open = 1 AND deciding = 0").fetchone()[0]
    held = connection.execute("SELECT COUNT(*) FROM _txn WHERE verdict = 'held'").fetchone()[0]
    return int(unsynced), int(conflicts), int(held)
