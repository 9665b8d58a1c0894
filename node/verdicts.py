"""Verdicts: what became of our work at the centre, and settling it once the cursor covers it.

An acknowledged transaction stays pending until the cursor reaches its version; only then is it part of the centre's rows
as we know them (RULES H1). Held work stays pending, visible and marked; refused work is put aside, whole, and kept.
Spec: PROTOCOL.md §6.3, §8.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from node import changed, pending, retained
from node.database import read_state
from node.skew import translated
from schema.capture import Store
from schema.declare import Table
from schema.images import unpack_tuple
from schema.keys import key_parts
from sync.change import Insert, Op, Withdrawn
from sync.digest import segment_point_of
from sync.messages import Accepted, Exceptional, LateVerdict, Point, SegmentVerdict
from sync.segment import OpenSegment, read_segment, transactions

WAITING = 1 << 62
"""The version of an acknowledged part whose transaction is not complete at the centre yet."""

HELD, REFUSED, WITHDRAWN = "held", "refused", "withdrawn"

REPLACED = "replaced"
"""The code of withdrawn work whose place a correction has taken."""


@dataclass(slots=True)
class Settled:
    """What became of transactions that had waited, or that left what people see: how many of each."""

    refused: int = 0
    withdrawn: int = 0
    """Taken back for good; what a correction has replaced goes on in that and does not count."""
    let_in: int = 0
    """Held before, now in: approved, or what they waited for has come."""

    def document(self) -> dict[str, int]:
        """Return the counts by name."""
        return {"refused": self.refused, "withdrawn": self.withdrawn, "let_in": self.let_in}


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
        _bring_back(store, segment, f"EXISTS ({in_view})")


def _note(store: Store, segment: bytes, verdict: Exceptional | LateVerdict, now_ms: int) -> bool:
    changed = store.connection.execute(
        "INSERT INTO _txn (segment, txn, verdict, version, code, reason, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (segment, txn)"
        " DO UPDATE SET verdict = excluded.verdict, version = excluded.version, code = excluded.code, reason = excluded.reason,"
        " at_ms = CASE WHEN verdict = excluded.verdict THEN at_ms ELSE excluded.at_ms END WHERE version < excluded.version RETURNING txn",
        (segment, verdict.transaction, verdict.verdict, verdict.version, verdict.code, verdict.reason, now_ms),
    )
    return bool(changed.fetchall())


def _was_told(store: Store, segment: bytes, verdict: Exceptional | LateVerdict) -> bool:
    """Tell whether work was put aside for this very reason in an earlier life of the centre. What a correction replaces may be
    needed again, under that.
    """
    if verdict.verdict == HELD or verdict.code == REPLACED or not _is_aside(store, segment, verdict.transaction):
        return False
    sql = "SELECT 1 FROM _quarantine WHERE segment = ? AND txn = ? AND reason = ?"
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
                _lay(store, name, number + work.index, _in_place_of(store, replaced), cursor)
            _lay(store, name, number + work.index, ops, cursor)


def _lay(store: Store, name: tuple[bytes, int], number: int, ops: Iterable[Op], cursor: int) -> None:
    """Make changes pending again, under the name of a transaction."""
    for op in ops:
        table = store.schema.by_name[op.table]
        pending.shadow(store, table, op.key, None if isinstance(op, Insert) else pending.seen(store, table, op.key))
        pending.lower(op, cursor)
        pending.keep(store, number, *name, op)


def _in_place_of(store: Store, replaced: Withdrawn) -> list[Op]:
    """Return the changes of work whose place a correction took in what a restored centre still has: they go on in the correction,
    which was let in, and is held again. What is sent again itself goes by its own name until then.
    """
    if store.connection.execute("SELECT 1 FROM _segment WHERE id = ?", (replaced.segment,)).fetchone() is not None:
        return []
    sql = "SELECT tbl, kind, body FROM _quarantine WHERE segment = ? AND txn = ? AND code = ? ORDER BY id"
    found = store.connection.execute(sql, (replaced.segment, replaced.index, REPLACED)).fetchall()
    return [pending.unpack(*entry) for entry in found]


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
    """Return (own number, segment, index) of the transaction that brought a document or event of ours."""
    sql = (
        "SELECT g.first, g.id, g.body FROM _own o JOIN _segment g ON g.id = o.segment"
        " WHERE o.tbl = ? AND o.lo <= ? ORDER BY o.lo DESC LIMIT 1"
    )
    first, segment, body = store.connection.execute(sql, (table.name, rid)).fetchone()
    for block in read_segment(body).inserts:
        if block.table == table.name:
            columns = [block.values[block.columns.index(name)] for name in table.key]
            for index, values in zip(block.transaction, zip(*columns, strict=True), strict=True):
                if values == tuple(key):
                    return first + index, segment, index
    return first, segment, 0


# --- settling ---------------------------------------------------------------------------------------------------------------


def settle_segments(store: Store, head: int, now_ms: int, settled: Settled) -> None:
    """Settle everything whose version is covered, in the order of versions: fold what was accepted into the centre's rows,
    put aside what was refused; add up in `settled` what became of what had waited.
    """
    at_once: set[tuple[int, bytes]] = set()  # segments and their versions: verdicts of that version are no late ones
    for version, segment, index in _covered(store, head):
        if index is None:
            _settle_segment(store, segment, version)
            at_once.add((version, segment))
        else:
            verdict = _settle_one(store, segment, index, version, now_ms)
            settled.refused += verdict == REFUSED
            settled.withdrawn += verdict == WITHDRAWN
            settled.let_in += verdict not in (REFUSED, WITHDRAWN, REPLACED, None) and (version, segment) not in at_once


def _covered(store: Store, head: int) -> list[tuple[int, bytes, int | None]]:
    """Return what a head covers: of one version first what was withdrawn, in the order it was sealed (what has that version
    itself last), then segments, then other late verdicts.
    """
    segments = store.connection.execute("SELECT version, id, NULL, 2 FROM _segment WHERE version <= ?", (head,)).fetchall()
    at_once = "EXISTS (SELECT 1 FROM _segment s WHERE s.id = x.segment AND s.version = x.version)"
    order = f"CASE WHEN x.verdict <> 'withdrawn' THEN 3 ELSE {at_once} END"
    sql = f"SELECT x.version, x.segment, x.txn, {order} FROM _txn x WHERE x.version <= ? AND x.verdict <> 'held'"
    late = store.connection.execute(sql, (head,)).fetchall()
    return [entry[:3] for entry in sorted([*segments, *late], key=lambda entry: (entry[0], entry[3], entry[2] or 0))]


def _settle_segment(store: Store, segment: bytes, version: int) -> None:
    """Fold a segment's changes, all but those with a verdict of their own still to come or to be put aside.

    What was held at this version and let in at a later one has that verdict here already if nobody here knew that it was held.
    """
    own = "(x.verdict IN ('held', 'refused', 'withdrawn') OR x.version > ?)"
    where = f"segment = ? AND NOT EXISTS (SELECT 1 FROM _txn x WHERE x.segment = _op.segment AND x.txn = _op.txn AND {own})"
    _fold(store, where, (segment, version))
    changed.settled_segment(store, segment)
    store.connection.execute("DELETE FROM _own WHERE segment = ?", (segment,))
    retained.keep_segment(store, segment)
    if store.connection.execute("SELECT again FROM _segment WHERE id = ?", (segment,)).fetchone()[0] is not None:
        _bring_back(store, segment, "txn NOT IN (SELECT txn FROM _txn x WHERE x.segment = _quarantine.segment)")
    store.connection.execute("DELETE FROM _segment WHERE id = ?", (segment,))
    store.connection.execute("DELETE FROM _txn WHERE segment = ? AND verdict = 'withdrawn' AND version = ?", (segment, version))
    if store.connection.execute(f"SELECT 1 FROM _txn x WHERE segment = ? AND {own}", (segment, version)).fetchone() is None:
        store.connection.execute("DELETE FROM _txn WHERE segment = ?", (segment,))
    known = "SELECT 1 FROM _txn x WHERE x.segment = _withdrawal.segment AND x.txn = _withdrawal.txn"
    store.connection.execute(f"DELETE FROM _withdrawal WHERE segment = ? AND NOT EXISTS ({known})", (segment,))


def _settle_one(store: Store, segment: bytes, index: int, version: int, now_ms: int) -> str | None:
    """Settle one transaction with a verdict of its own; return the verdict (REPLACED: it goes on in a correction), None if it was
    settled before.
    """
    row = store.connection.execute("SELECT verdict, code, reason FROM _txn WHERE segment = ? AND txn = ?", (segment, index)).fetchone()
    if row is None:
        return None
    verdict, code, reason = row
    successor = _successor(store, segment, index, version) if verdict == WITHDRAWN else None
    is_told_again = verdict in (REFUSED, WITHDRAWN) and _is_aside(store, segment, index)  # as all is after a restore of the centre
    if verdict not in (REFUSED, WITHDRAWN):
        _fold(store, "segment = ? AND txn = ?", (segment, index))
        _bring_back(store, segment, f"txn = {index}")
    elif not is_told_again:
        put_aside(store, (segment, index), code, reason, now_ms, successor)
    retained.judged(store, segment, index, version)
    known = "SELECT 1 FROM _segment s WHERE s.id = _txn.segment AND s.version = _txn.version"  # then it goes with its segment
    store.connection.execute(f"DELETE FROM _txn WHERE segment = ? AND txn = ? AND NOT EXISTS ({known})", (segment, index))
    store.connection.execute("DELETE FROM _withdrawal WHERE segment = ? AND txn = ?", (segment, index))
    if is_told_again:
        return None
    return REPLACED if successor is not None else str(verdict)


def _is_aside(store: Store, segment: bytes, index: int) -> bool:
    """Tell whether all of a transaction was put aside before."""
    sql = "SELECT EXISTS (SELECT 1 FROM {} WHERE segment = ?1 AND txn = ?2)"
    aside, pending_here = (store.connection.execute(sql.format(name), (segment, index)).fetchone()[0] for name in ("_quarantine", "_op"))
    return bool(aside and not pending_here)


def _successor(store: Store, segment: bytes, index: int, version: int) -> tuple[bytes, int] | None:
    """Return the transaction of ours that took the place of a withdrawn one: the first one the centre took at that very version."""
    sql = (
        "SELECT w.by_segment, w.by_txn FROM _withdrawal w JOIN _segment s ON s.id = w.by_segment"
        " WHERE w.segment = ? AND w.txn = ? AND w.replaced = 1 AND s.version = ? ORDER BY w.by_txn LIMIT 1"
    )
    row = store.connection.execute(sql, (segment, index, version)).fetchone()
    return (row[0], row[1]) if row else None


def _fold(store: Store, where: str, parameters: Sequence[Any]) -> None:
    """Make pending changes part of the centre's rows. Where nothing else is pending, what people see is the centre's row."""
    connection = store.connection
    rest = f"EXISTS (SELECT 1 FROM _op o WHERE o.tbl = _op.tbl AND o.key = _op.key AND o.id NOT IN (SELECT id FROM _op WHERE {where}))"
    settled: dict[tuple[str, str], set[int]] = {}
    for name, key, number in connection.execute(f"SELECT tbl, key, id FROM _op WHERE {where} AND {rest}", [*parameters, *parameters]):
        settled.setdefault((name, key), set()).add(number)
    for (name, key), numbers in settled.items():
        table = store.schema.by_name[name]
        row = connection.execute("SELECT image FROM _shadow WHERE tbl = ? AND key = ?", (name, key)).fetchone()
        image = unpack_tuple(row[0]) if row else None
        for entry in pending.standing(pending.of_row(store, table, key_parts(key, len(table.key)))):
            if entry.id in numbers:
                image = pending.fold(table, image, entry.op)
        pending.set_shadow(store, name, key, image)
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS _folded (tbl TEXT, key TEXT, PRIMARY KEY (tbl, key)) WITHOUT ROWID")
    connection.execute("DELETE FROM temp._folded")
    connection.execute(f"INSERT OR IGNORE INTO temp._folded SELECT tbl, key FROM _op WHERE {where}", parameters)
    changed.settled_rows(store)
    connection.execute(f"DELETE FROM _op WHERE {where}", parameters)
    connection.execute(
        "DELETE FROM _shadow WHERE (tbl, key) IN (SELECT tbl, key FROM temp._folded f"
        " WHERE NOT EXISTS (SELECT 1 FROM _op o WHERE o.tbl = f.tbl AND o.key = f.key))"
    )
    _forget_conflicts(store)


def _forget_conflicts(store: Store) -> None:
    """Drop what is known of conflicts on rows that our own deletion, now the centre's too, has taken away."""
    sql = (
        "SELECT DISTINCT c.tbl, c.key FROM _conflict c JOIN temp._folded f ON f.tbl = c.tbl AND f.key = c.key"
        " WHERE NOT EXISTS (SELECT 1 FROM _shadow s WHERE s.tbl = c.tbl AND s.key = c.key)"
    )
    for name, key in store.connection.execute(sql).fetchall():
        table = store.schema.by_name[name]
        if pending.number_of_row(store, table, key_parts(key, len(table.key))) is None:
            store.connection.execute("DELETE FROM _conflict WHERE tbl = ? AND key = ?", (name, key))


def _bring_back(store: Store, segment: bytes, which: str) -> None:
    """Forget that work was put aside: that was in an earlier life of the centre, and in this one it waits again, or is in."""
    store.connection.execute(f"DELETE FROM _quarantine WHERE segment = ? AND {which}", (segment,))


def put_aside(
    store: Store, name: tuple[bytes, int], code: str, reason: str, now_ms: int, successor: tuple[bytes, int] | None = None
) -> None:
    """Keep what was refused or withdrawn where it can be found; its changes go on in the successor, or leave what people see."""
    rows = store.connection.execute("SELECT tbl, key FROM _op WHERE segment = ? AND txn = ?", name).fetchall()
    store.connection.execute("DELETE FROM _quarantine WHERE segment = ? AND txn = ?", name)  # of an earlier life of the centre
    store.connection.execute(
        "INSERT INTO _quarantine (segment, txn, tbl, key, kind, body, code, reason, at_ms)"
        " SELECT segment, txn, tbl, key, kind, body, ?, ?, ? FROM _op WHERE segment = ? AND txn = ? ORDER BY id",
        (code, reason, now_ms, *name),
    )
    if successor is not None:
        store.connection.execute("UPDATE _op SET segment = ?, txn = ? WHERE segment = ? AND txn = ?", (*successor, *name))
        return
    store.connection.execute("DELETE FROM _op WHERE segment = ? AND txn = ?", name)
    for table, key in rows:  # at once: work on the same row that is settled next builds on what people see
        pending.redraw(store, store.schema.by_name[table], key)


def counts(store: Store) -> tuple[int, int, int]:
    """Return how much is (unsynced transactions, open conflicts, held transactions)."""
    connection = store.connection
    unsynced = connection.execute("SELECT COALESCE(SUM(transactions), 0) FROM _segment WHERE version IS NULL AND part <> 1").fetchone()[0]
    conflicts = connection.execute("SELECT COUNT(*) FROM _conflict WHERE open = 1 AND deciding = 0").fetchone()[0]
    held = connection.execute("SELECT COUNT(*) FROM _txn WHERE verdict = 'held'").fetchone()[0]
    return int(unsynced), int(conflicts), int(held)


def put_aside_count(store: Store) -> int:
    """Return how many refused transactions, and rows a repair put aside, are kept here that nobody has dealt with yet."""
    sql = "SELECT COUNT(*) FROM (SELECT DISTINCT segment, txn FROM _quarantine WHERE code NOT IN (?, ?))"
    return int(store.connection.execute(sql, (REPLACED, WITHDRAWN)).fetchone()[0])
