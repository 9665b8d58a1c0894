"""Settling our work once the cursor covers what became of it: it becomes part of the centre's rows, or is put aside.

An acknowledged transaction stays pending until the cursor reaches its version; only then is it part of the centre's rows as
we know them (RULES H1). Held work stays pending, visible and marked.

    noted (node/verdicts.py) ─► covered by the cursor ─► accepted: folded │ refused, withdrawn: put aside (node/aside.py)
                                                         replaced: goes on in its correction │ held: stays

Spec: PROTOCOL.md §6.3, §8.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from node import changed, pending, retained
from node.aside import REFUSED, REPLACED, WITHDRAWN, bring_back, is_aside, put_aside
from schema.capture import Store
from schema.images import unpack_tuple
from schema.keys import key_parts


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
        bring_back(store, segment, "txn NOT IN (SELECT txn FROM _txn x WHERE x.segment = _quarantine.segment)")
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
    successor = _successor(store, segment, index, version) if (verdict, code) == (WITHDRAWN, REPLACED) else None
    is_told_again = verdict in (REFUSED, WITHDRAWN) and is_aside(store, segment, index)  # as all is after a restore of the centre
    # what was not pending was in before: after a restore of the centre all of it is told once more
    was_waiting = store.connection.execute("SELECT 1 FROM _op WHERE segment = ? AND txn = ? LIMIT 1", (segment, index)).fetchone()
    if verdict not in (REFUSED, WITHDRAWN):
        _fold(store, "segment = ? AND txn = ?", (segment, index))
        bring_back(store, segment, f"txn = {index}")
    elif not is_told_again:
        put_aside(store, (segment, index), code, reason, now_ms, successor)
    retained.judged(store, segment, index, version)
    known = "SELECT 1 FROM _segment s WHERE s.id = _txn.segment AND s.version = _txn.version"  # then it goes with its segment
    store.connection.execute(f"DELETE FROM _txn WHERE segment = ? AND txn = ? AND NOT EXISTS ({known})", (segment, index))
    store.connection.execute("DELETE FROM _withdrawal WHERE segment = ? AND txn = ?", (segment, index))
    if is_told_again or was_waiting is None:
        return None
    return REPLACED if successor is not None else str(verdict)


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
    """Drop what is known of conflicts on rows that our own deletion, now the centre's too, has taken away, be there a new row of ours
    under the key that waits: if it never comes, nothing else would drop them.
    """
    sql = (
        "SELECT DISTINCT c.tbl, c.key, s.key IS NOT NULL FROM _conflict c JOIN temp._folded f ON f.tbl = c.tbl AND f.key = c.key"
        " LEFT JOIN _shadow s ON s.tbl = c.tbl AND s.key = c.key WHERE s.image IS NULL"
    )
    for name, key, is_pending in store.connection.execute(sql).fetchall():
        table = store.schema.by_name[name]
        if is_pending or pending.number_of_row(store, table, key_parts(key, len(table.key))) is None:
            store.connection.execute("DELETE FROM _conflict WHERE tbl = ? AND key = ?", (name, key))
