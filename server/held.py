"""Held work: what it is, where it lies in the journal, and the words of its verdicts.

A held transaction stays as it was sealed; `Works` opens it again, together with earlier held work whose place it has taken
(server/withdrawals.py). Spec: PROTOCOL.md §6.2, §6.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schema.capture import Store
from server import healing
from server.skew import open_segment
from sync.change import Transaction
from sync.compose import Row, compose
from sync.errors import TooLarge
from sync.limits import SEGMENT_PARTS_MAX
from sync.segment import OpenSegment, transactions


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


_COLUMNS = "h.id, h.segment, h.txn, h.inc, h.node, h.skew_ms, h.code, h.reason, h.since_ms, h.approved, h.wait_tbl, h.wait_key FROM _held h"
_ALL = 1 << 62


def waiting(store: Store, after: int = 0, limit: int = _ALL) -> list[Held]:
    """Return held work, in the order it came; at most `limit`, from the one behind `after` on."""
    rows = store.connection.execute(f"SELECT {_COLUMNS} WHERE h.id > ? ORDER BY h.id LIMIT ?", (after, limit)).fetchall()
    return [Held(*row) for row in rows]


def next_of(store: Store, after: int, limit: int) -> tuple[int, int]:
    """Return how much held work comes behind `after`, up to `limit`, and the number of the last of it; (0, 0) if there is none."""
    sql = "SELECT COUNT(*), COALESCE(MAX(id), 0) FROM (SELECT id FROM _held WHERE id > ? ORDER BY id LIMIT ?)"
    count, last = store.connection.execute(sql, (after, limit)).fetchone()
    return int(count), int(last)


def by_id(store: Store, held: int) -> Held | None:
    """Return held work by the number people call it by."""
    row = store.connection.execute(f"SELECT {_COLUMNS} WHERE h.id = ?", (held,)).fetchone()
    return Held(*row) if row else None


def by_name(store: Store, node: int, segment: bytes, index: int) -> Held | None:
    """Return a node's held work by the name of its transaction."""
    row = store.connection.execute(f"SELECT {_COLUMNS} WHERE h.segment = ? AND h.txn = ? AND h.node = ?", (segment, index, node)).fetchone()
    return Held(*row) if row else None


def forget(store: Store, held: int) -> None:
    """Take work off the list of what waits."""
    for table, column in (("_held_row", "held"), ("_waits", "held"), ("_held", "id")):
        store.connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (held,))


def say(store: Store, node: int, segment: bytes, index: int, version: int, verdict: str, code: str, reason: str) -> None:
    """Note a transaction's newest verdict; the node's next pull tells it."""
    store.connection.execute(_SAY, (segment, index, node, version, verdict, code, reason))


def say_many(store: Store, node: int, segment: bytes, verdicts: Mapping[int, str], version: int) -> None:
    """Note the verdicts on a segment's transactions, by their indexes, that need no reason."""
    lines = [(segment, index, node, version, verdict, "", "") for index, verdict in verdicts.items()]
    store.connection.executemany(_SAY, lines)


_SAY = (
    "INSERT INTO _verdict (segment, txn, node, ver, verdict, code, reason) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (segment, txn)"
    " DO UPDATE SET ver = excluded.ver, verdict = excluded.verdict, code = excluded.code, reason = excluded.reason"
)


def name_of(segment: bytes, index: int) -> bytes:
    """Return a transaction's name as the journal writes it."""
    return segment + index.to_bytes(4, "big")


# --- opening it again ---------------------------------------------------------------------------------------------------


class Works:
    """Held transactions, each with the work whose place it took; the segment looked at last is opened once for all of them."""

    def __init__(self, store: Store) -> None:
        self._store, self._segment = store, b""
        self._found: dict[int, Transaction] = {}

    def of(self, held: Held) -> Transaction:
        """Return a held transaction as it is to be judged: as one with what it took the place of."""
        return self.as_one(self.parts(held))[0]

    def parts(self, held: Held) -> list[Transaction]:
        """Return what a held transaction took the place of, and the transaction itself, as they were sealed."""
        sql = "SELECT segment, txn FROM _withdrawn WHERE into_segment = ? AND into_txn = ? ORDER BY seq"
        earlier = self._store.connection.execute(sql, (held.segment, held.txn)).fetchall()
        return [self.sealed(segment, index) for segment, index in [*earlier, (held.segment, held.txn)]]

    def as_one(self, parts: Sequence[Transaction]) -> tuple[Transaction, set[Row]]:
        """Return what transactions of one node make together under the name of the last, in the order in which it numbered them
        ([P-6.37]), and the rows they gave up.
        """
        if len(parts) == 1:
            return parts[0], set()
        return compose([*sorted(parts[:-1], key=lambda work: work.number), parts[-1]], self._store.schema.policy_of)

    def sealed(self, segment: bytes, index: int) -> Transaction:
        """Return a transaction as it was sealed."""
        if segment != self._segment:
            seq, body, inc = self._store.connection.execute("SELECT seq, body, inc FROM _journal WHERE segment = ?", (segment,)).fetchone()
            opened = healing.as_told(self._store, open_segment(self._store, body))
            parts = [*earlier_parts(self._store, inc, seq, opened.first), opened] if opened.part == 2 else [opened]
            self._found = {work.index: work for work in whole_transactions(self._store, parts)}
            self._segment = segment
        return self._found[index]


def earlier_parts(store: Store, inc: int, seq: int, first: int) -> list[OpenSegment]:
    """Return the parts of a transaction (its own number: `first`) that came before its last one, oldest first. Parts of another, of
    which the node could not send the rest, may lie before them.
    """
    sql = (
        "SELECT j.kind, j.first, j.body FROM _chain c JOIN _journal j ON j.segment = c.segment"
        " WHERE c.inc = ? AND c.seq < ? ORDER BY c.seq DESC LIMIT ?"
    )
    parts: list[OpenSegment] = []
    for kind, number, body in store.connection.execute(sql, (inc, seq, SEGMENT_PARTS_MAX)):
        if kind != "part" or number != first:
            break
        parts.append(healing.as_told(store, open_segment(store, body)))
        if len(parts) == SEGMENT_PARTS_MAX:
            raise TooLarge(f"a transaction comes in more than {SEGMENT_PARTS_MAX} parts")
    return parts[::-1]


def whole_transactions(store: Store, parts: Sequence[OpenSegment]) -> list[Transaction]:
    """Return the transactions of a segment, or the one transaction its parts make up."""
    found = [transactions(part, keys_of_inserts(store, part)) for part in parts]
    for work in found[-1]:
        work.before = healing.version_before(store, parts[-1].id, work.number)
    if len(parts) == 1:
        return found[0]
    whole = found[-1][0]
    whole.ops = [op for works in found for op in works[0].ops]
    return [whole]


def keys_of_inserts(store: Store, segment: OpenSegment) -> dict[str, tuple[str, ...]]:
    """Return the key columns of the tables a segment inserts into, as far as the centre has them. Rows that come without their
    key are named by their first column, and held (server/merging/judging.py).
    """
    found = ((block.table, store.schema.by_name.get(block.table)) for block in segment.inserts)
    return {name: table.key if table else () for name, table in found}
