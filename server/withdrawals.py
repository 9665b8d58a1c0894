"""Withdrawals: held work that is taken back by its node, by a correction that takes its place, or by the centre.

    correction ─► what it takes the place of, if that is still held ─► one transaction (sync/compose.py), judged as one

Nothing is lost by it: the journal keeps what was sealed, `_withdrawn` the reason it was held for, and `outpost server held
export` writes both to a file. Spec: PROTOCOL.md §6.7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schema.capture import Store
from schema.keys import key_text
from server import journal, waits
from server.held import Held, Works, by_name, forget, name_of, say
from sync.change import Insert, Transaction
from sync.errors import BadValue

NOTE_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Work that was taken back."""

    held: int
    segment: bytes
    txn: int
    node: int
    code: str  # what it had been held for
    reason: str
    since_ms: int
    at_ms: int
    by: str  # node, centre or correction


_PASS_ON = "UPDATE _handed SET held = ? WHERE held = ? AND NOT EXISTS (SELECT 1 FROM _handed WHERE held = ?)"

LAST = 1 << 62
"""The place of work that takes nobody's: behind everything that is held."""


def carry_out(store: Store, node: int, work: Transaction, segment: bytes, version: int, now_ms: int) -> tuple[Transaction, int]:
    """Take back what a transaction withdraws, as far as it is still held. Work of another node, work that was applied or
    refused, and an unknown name are left alone. An approval is of what was held: it does not pass to a correction.

    Returns the transaction together with what it takes the place of, and that place: the number people know it by.
    """
    works, replaced = Works(store), list[Held]()
    for each in dict.fromkeys(work.withdrawals):
        held = by_name(store, node, each.segment, each.index)
        if held is None:
            continue
        if each.replaced:
            replaced.append(held)
        else:
            _take_back(store, held, works.of(held), version, "node", "it was withdrawn on its node", now_ms)
    if not replaced:
        return work, LAST
    whole, given_up = works.as_one([*(part for held in replaced for part in works.parts(held)), work])
    place = min(held.id for held in replaced)
    for held in replaced:
        _record(store, held, version, "correction", now_ms, (segment, work.index))
        store.connection.execute(_PASS_ON, (place, held.id, place))
        say(store, node, held.segment, held.txn, version, "withdrawn", "replaced", "a correction has taken its place")
    for table, key in given_up:
        waits.give_up(store, node, table, key_text(key))
    return whole, place


def by_centre(store: Store, held: Held, why: str, now_ms: int) -> None:
    """Take held work back on the centre's decision, under a version of its own. Raises BadValue."""
    reason = with_note("the central office withdrew it", why)
    version = journal.append(store, journal.Entry("withdrawal", held.inc, name_of(held.segment, held.txn)), now_ms)
    _take_back(store, held, Works(store).of(held), version, "centre", reason, now_ms)


def with_note(words: str, note: str) -> str:
    """Return what the centre tells a node, with what its people added. Raises BadValue if that is too long: nothing of it is cut."""
    if len(note) > NOTE_CHARS_MAX:
        raise BadValue(f"A note has at most {NOTE_CHARS_MAX} characters.")
    return f"{words}: {note}" if note else words


def _take_back(store: Store, held: Held, work: Transaction, version: int, by: str, reason: str, now_ms: int) -> None:
    for op in work.ops:
        if isinstance(op, Insert):
            waits.give_up(store, held.node, op.table, key_text(op.key))
    waits.stay(store, held.node, work.ops, version)
    _record(store, held, version, by, now_ms, (None, None))
    say(store, held.node, held.segment, held.txn, version, "withdrawn", "withdrawn", reason)


def _record(store: Store, held: Held, version: int, by: str, now_ms: int, into: tuple[bytes | None, int | None]) -> None:
    """Keep why work was held, and what took its place and that of the work it had replaced itself."""
    store.connection.execute(
        "INSERT INTO _withdrawn (held, segment, txn, node, ver, code, reason, since_ms, at_ms, by, into_segment, into_txn)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (held.id, held.segment, held.txn, held.node, version, held.code, held.reason, held.since_ms, now_ms, by, *into),
    )
    if into[0] is not None:
        sql = "UPDATE _withdrawn SET into_segment = ?, into_txn = ? WHERE into_segment = ? AND into_txn = ?"
        store.connection.execute(sql, (*into, held.segment, held.txn))
    forget(store, held.id)


def listing(store: Store, page: int = 100) -> Iterator[Withdrawn]:
    """Yield all work that was taken back, in the order it had come; a page of it is in memory at a time."""
    last = 0
    sql = "SELECT seq, held, segment, txn, node, code, reason, since_ms, at_ms, by FROM _withdrawn WHERE seq > ? ORDER BY seq LIMIT ?"
    while found := store.connection.execute(sql, (last, page)).fetchall():
        yield from (Withdrawn(*row[1:]) for row in found)
        last = found[-1][0]
