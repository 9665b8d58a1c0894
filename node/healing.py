"""Healing: going on after a copy or a restore, without losing work.

This node was restored or copied: its unsent work goes on under a new incarnation. The centre was restored from a backup:
this node offers it again what its lost history held.

    history.diverged ─► heal: which of the points I remember do you still have? ─► begin (one commit)
      OFFERING   pages of others' rows ─► own work, settled and unsent alike, under an incarnation of its own
      RELOAD     everything in scope is taken anew, under the next incarnation: so nothing of it counts as our echo

Bases are lowered to what both histories share; what is then unseen and different is on record with both values. Every step
is durable and may be repeated. Spec: PROTOCOL.md §7.3, §7.7; RULES H5–H7, H12–H15.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from node import aside, centre, pending, retained, series, staging, verdicts
from node.database import OFFERING, RELOAD, SOUND, State, read_state
from node.pieces import PIECE_BYTES_MAX
from schema.capture import Store
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.images import pack_values, unpack_values
from sync.box import OVERHEAD_BYTES
from sync.digest import BEGINNING
from sync.limits import PAGE_ROWS, PAGE_ROWS_MAX, PUSH_BYTES, PUSH_SEGMENTS_MAX
from sync.messages import HealReply, JoinReply, Offered, Point

UNTOLD = -1
"""The version of a conflict of a lost history, until the centre tells it again: so it is not taken for news."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What a restored centre had lost, as far as this node knows."""

    as_of_ms: int | None  # when this node had last synced with the lost history
    version: int  # what the centre still has
    transactions: int  # own work offered again
    pages: int  # pages of others' rows offered again


def new_incarnation(store: Store) -> None:
    """Begin a new life of this node's history after a fork: what is unsent follows on from what the centre confirmed.

    Nothing is lost: the same segments are sent again under the new history; the centre knows them by their ids.
    """
    state = read_state(store.connection)
    parent, last = (state.incarnation, state.acked) if state.registered else (state.parent, state.parent_last)
    staging.discard(store)
    _go_on(store, parent, last)


def forked(store: Store) -> str:
    """Go on where another copy of this database has, or may have, gone on under its name: under a history, and with receipt numbers,
    of its own. Return their letters.
    """
    new_incarnation(store)
    return series.close(store)


def _go_on(store: Store, parent: bytes | None, last: Point) -> None:
    """Draw an incarnation that continues another, all unsent segments from its beginning."""
    store.connection.execute(
        "UPDATE _node SET incarnation = ?, registered = 0, parent = ?, parent_seq = ?, parent_digest = ?, acked_seq = ?, acked_digest = ?"
        " WHERE id = 1",
        (secrets.token_bytes(16), parent, last.number, last.digest, BEGINNING.number, BEGINNING.digest),
    )
    # a transaction in parts goes together: those acknowledged already are sent again as well
    store.connection.execute("UPDATE _segment SET version = NULL WHERE version = ?", (verdicts.WAITING,))
    store.connection.execute("UPDATE _segment SET rechained = 1 WHERE version IS NULL")
    verdicts.chain_again(store, BEGINNING)


def rejoined(store: Store, reply: JoinReply, incarnation: bytes) -> None:
    """Take over a new id: the centre was restored to a time before this node had joined, or the old one is good no more. The next
    exchange heals the rest, and takes everything anew: the new id may be entitled to other rows.
    """
    state = read_state(store.connection)
    store.connection.execute("UPDATE _node SET node = ?, name = ?, healing = ? WHERE id = 1", (reply.node, reply.name, OFFERING))
    if state.incarnation != incarnation:
        series.close(store)  # another copy, with the identity that was this one's, may go on with the numbers it had
        _go_on(store, None, BEGINNING)
        store.connection.execute("UPDATE _node SET incarnation = ?, registered = 1 WHERE id = 1", (incarnation,))


# --- the centre was restored --------------------------------------------------------------------------------------------


def remembered(store: Store) -> tuple[Point, ...]:
    """Return every point of the centre's history this node knows, from the beginning on."""
    state = read_state(store.connection)
    found = {BEGINNING, state.cursor, state.highest, *retained.points(store)}
    return tuple(sorted(found, key=lambda point: (point.number, point.digest)))


def begin(store: Store, reply: HealReply) -> Lost | None:
    """Take over the centre's new epoch. Everything the lost history had beyond what is shared counts as not sent.

    Return None if the centre still has all this node ever heard of: then nothing is to be healed.
    """
    state, shared = read_state(store.connection), reply.shared.number
    if reply.shared != state.highest:
        _keep_what_is_here(store, state, shared)
    staging.discard(store)
    store.connection.execute("UPDATE _node SET epoch = ? WHERE id = 1", (reply.epoch,))
    if reply.shared == state.highest:
        return None
    parent, last = _parent(store, state, reply.chain)  # what is unsent then is not told from what was settled
    transactions = _unsend(store, shared)
    is_blind = _forget_verdicts(store, shared)
    _part(store)
    _go_on(store, parent, last)
    _lower(store, shared)
    store.connection.execute("UPDATE _kept_page SET lost = 1 WHERE lost > 1 OR (version > ? AND NOT lost)", (shared,))
    store.connection.execute("UPDATE _kept_page SET offered = NULL WHERE offered > ?", (shared,))  # it lost what that had brought
    pages = store.connection.execute("SELECT COUNT(*) FROM _kept_page WHERE lost AND offered IS NULL").fetchone()[0]
    store.connection.execute("DELETE FROM _point WHERE version > ?", (shared,))
    stale = state.healing != SOUND or state.cursor.number > shared or is_blind
    cursor = reply.shared if state.cursor.number > shared else state.cursor
    store.connection.execute(
        "UPDATE _node SET cursor = ?, cursor_digest = ?, highest = ?, highest_digest = ?, covered = MIN(covered, ?), healing = ?,"
        " recalled = 0 WHERE id = 1",
        (cursor.number, cursor.digest, reply.head.number, reply.head.digest, shared, OFFERING if stale else SOUND),
    )
    return Lost(state.as_of_ms, shared, transactions, pages)


def _keep_what_is_here(store: Store, state: State, shared: int) -> None:
    """Keep what else can be offered: where a backup let us forget pages and the centre was put back to an older one, the rows
    themselves. What was not applied is no such thing: a part of a pull may hold half a sale.
    """
    if shared < min(state.covered, state.cursor.number):
        pull = retained.begin_pull(store)
        for page in centre.pages(store, state):
            retained.keep_page(store, replace(state, covered=shared), page, pull)


def _parent(store: Store, state: State, chain: Point) -> tuple[bytes | None, Point]:
    """Return which history the next incarnation continues, and up to where: what the centre has of it must be ours."""
    if not state.registered:
        return state.parent, state.parent_last
    known = "SELECT 1 FROM _segment WHERE digest = ? UNION ALL SELECT 1 FROM _retained WHERE digest = ?"
    is_ours = chain in (BEGINNING, state.acked) or store.connection.execute(known, (chain.digest, chain.digest)).fetchone()
    return (state.incarnation, chain) if is_ours else (None, BEGINNING)


def _unsend(store: Store, shared: int) -> int:
    """Count as not sent what the lost history had beyond what is shared, and what it never had; return the transactions.

    What had become of it goes with it; verdicts of the lost history are forgotten here, for its versions mean nothing now.
    """
    connection = store.connection
    found = connection.execute("SELECT id, version, again FROM _segment WHERE version IS NULL OR version > ?", (shared,)).fetchall()
    for segment, version, again in found:
        told = _again(store, segment, version, again, shared)
        connection.execute("UPDATE _segment SET version = NULL, again = ? WHERE id = ?", (told, segment))
    kept = connection.execute("SELECT id, version, exceptions, floor FROM _retained WHERE version > ?", (shared,)).fetchall()
    for segment, version, exceptions, floor in kept:
        connection.execute(
            "INSERT INTO _segment (seq, id, first, transactions, part, body, hash, chain_seq, digest, boxed, again)"
            " SELECT seq, id, first, transactions, part, box, hash, chain_seq, digest, 1, ? FROM _retained WHERE id = ?",
            (pack_values([version, shared if floor is None else min(floor, shared), unpack_values(exceptions)]), segment),
        )
    connection.execute("DELETE FROM _retained WHERE version > ?", (shared,))
    sql = "SELECT transactions, again FROM _segment WHERE version IS NULL AND part <> 1"
    return sum(count for count, again in connection.execute(sql).fetchall() if unpack_values(again)[0] >= 0)


def _forget_verdicts(store: Store, shared: int) -> bool:
    """Forget what the lost history said of our work; tell whether it was said of work this disk has no more: what the centre
    still says of that comes only if all is taken anew.
    """
    known = "SELECT id FROM _segment UNION SELECT id FROM _retained"  # what waits here, withheld, is in neither, and has no version
    gone = f"version > ?1 AND (version < ?2 OR segment IN ({known}))"
    sql = f"DELETE FROM _txn WHERE {gone} RETURNING segment, txn, at_ms, segment IN ({known})"
    is_blind = False
    for segment, index, at_ms, is_here in store.connection.execute(sql, (shared, verdicts.WAITING)).fetchall():
        _held_still(store, segment, index, shared, at_ms)
        is_blind = is_blind or not is_here
    return is_blind


def _held_still(store: Store, segment: bytes, index: int, shared: int, at_ms: int) -> None:
    """Take a transaction for held if it was at what is shared: a pull may not tell it again, for it begins at the cursor."""
    row = store.connection.execute("SELECT exceptions FROM _retained WHERE id = ?", (segment,)).fetchone()
    told = unpack_values(row[0]).get(index) if row else None
    if told is not None and told[0] == aside.HELD and told[1] <= shared:
        sql = "INSERT INTO _txn (segment, txn, verdict, version, code, reason, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)"
        store.connection.execute(sql, (segment, index, *told, at_ms))


def _part(store: Store) -> None:
    """Let what went on in a correction go by its own name again: both are sent, and judged, anew."""
    sent = "FROM _segment s WHERE s.version IS NULL AND s.part <> 1 AND _op.n >= s.first AND _op.n < s.first + s.transactions"
    store.connection.execute(
        f"UPDATE _op SET (segment, txn) = (SELECT s.id, _op.n - s.first {sent}) WHERE EXISTS (SELECT 1 {sent}) AND EXISTS"
        " (SELECT 1 FROM _segment c WHERE c.id = _op.segment AND c.version IS NULL AND c.first + _op.txn <> _op.n)"
    )


def _again(store: Store, segment: bytes, version: int | None, again: bytes | None, shared: int) -> bytes:
    """Return what goes with a segment that is sent after the restore: its old version, the floor, its old verdicts."""
    before, floor = unpack_values(again)[:2] if again is not None else (-1, shared)
    known = version if version is not None and version < verdicts.WAITING else before  # beyond: the centre has not judged it
    told = {txn: verdict for txn, verdict in retained.verdicts_of(store, segment).items() if verdict[1] < verdicts.WAITING}
    return pack_values([known, min(floor, shared), {**told, **retained.disputed(again)}])


def _lower(store: Store, shared: int) -> None:
    """Let no pending change have seen more than both histories share (RULES H14): what is written on top of it follows."""
    for number, table, kind, body in store.connection.execute("SELECT id, tbl, kind, body FROM _op").fetchall():
        op = pending.unpack(table, kind, body)
        if pending.lower(op, shared):
            store.connection.execute("UPDATE _op SET body = ? WHERE id = ?", (pending.pack(op)[1], number))


def to_offer(store: Store, *, alone: bool = False) -> list[tuple[int, Offered]]:
    """Return the next pages to offer, or the next one `alone`, oldest first, each with its number here; none when all are offered.

    Pages of one pull go together wherever they fit into a request: the centre takes each request in a commit of its own, and
    one alone may hold a part of a transaction.
    """
    sql = "SELECT number, pull, LENGTH(box), rows FROM _kept_page WHERE lost = 1 AND offered IS NULL ORDER BY number LIMIT ?"
    at_most = 1 if alone else PUSH_SEGMENTS_MAX
    numbers, whole = list[int](), 0  # how many of them are of pulls that are in it to their end
    size, entries, last = 0, 0, None
    for number, pull, length, count in store.connection.execute(sql, (at_most + 1,)).fetchall():
        whole = len(numbers) if pull != last else whole
        size, entries, last = size + length, entries + count, pull
        is_full = size > PUSH_BYTES or entries > (PAGE_ROWS_MAX if whole == 0 else PAGE_ROWS) or len(numbers) == at_most
        if numbers and is_full:
            numbers = numbers[: whole or None]
            break
        numbers.append(number)
    sql = "SELECT version, box FROM _kept_page WHERE number = ?"
    return [(number, Offered(*store.connection.execute(sql, (number,)).fetchone())) for number in numbers]


def fits(pages: Sequence[tuple[int, Offered]]) -> bool:
    """Tell whether a request has room for these pages. Of several it has: they are taken together only as far as that."""
    return len(pages) > 1 or len(pages[0][1].box) <= PIECE_BYTES_MAX + OVERHEAD_BYTES


def pass_over(store: Store, number: int) -> int:
    """Let a page that no request can carry stop nothing, and return its rows. It is kept as it is until the next restore, and tried
    again then: a later program may find a way.
    """
    (rows,) = store.connection.execute("UPDATE _kept_page SET lost = 3 WHERE number = ? RETURNING rows", (number,)).fetchone()
    return int(rows)


def keep_back(store: Store, numbers: Iterable[int]) -> None:
    """Keep pages that the centre cannot read yet until it can (`try_again`)."""
    store.connection.executemany("UPDATE _kept_page SET lost = 2 WHERE number = ?", [(number,) for number in numbers])


def try_again(store: Store, head: int) -> None:
    """The centre has this node's declaration, or a later one: offer it one of the pages that it could not read before, another one at
    another version of the centre's. It may lack a table still, and what it once held may be much.
    """
    (count,) = store.connection.execute("SELECT COUNT(*) FROM _kept_page WHERE lost = 2").fetchone()
    if count:
        sql = (
            "UPDATE _kept_page SET lost = 1 WHERE number = (SELECT number FROM _kept_page WHERE lost = 2 ORDER BY number LIMIT 1 OFFSET ?)"
        )
        store.connection.execute(sql, (head % count,))


def try_all_again(store: Store) -> None:
    """The centre has read all it was offered: so it may read what it could not before."""
    store.connection.execute("UPDATE _kept_page SET lost = 1 WHERE lost = 2 AND offered IS NULL")


def offered(store: Store, numbers: list[int], version: int) -> None:
    """Note which pages the centre has again, at which version. They are kept until a backup covers that."""
    store.connection.executemany("UPDATE _kept_page SET offered = ? WHERE number = ?", [(version, number) for number in numbers])


def reload(store: Store) -> None:
    """All is offered: take the centre's rows anew from here on, under an incarnation that has written none of them."""
    new_incarnation(store)
    store.connection.execute("UPDATE _node SET healing = ? WHERE id = 1", (RELOAD,))


def clear(store: Store) -> set[tuple[str, str]]:
    """Take away the rows of the lost history, all but our own that are on their way; return the rows to draw again. What was on
    record of conflicts waits to be told again, or is forgotten by `forget_untold`.
    """
    connection = store.connection
    for table in store.schema.tables:
        connection.execute(
            f"DELETE FROM {quote(table.name)} WHERE NOT EXISTS"
            f" (SELECT 1 FROM _own o WHERE o.tbl = ? AND {quote(table.name)}.{ROW_ID} BETWEEN o.lo AND o.hi)",
            (table.name,),
        )
    connection.execute("UPDATE _shadow SET image = NULL")
    connection.execute("UPDATE _conflict SET version = ?", (UNTOLD,))
    connection.execute("UPDATE _node SET healing = ?, recalled = 0 WHERE id = 1", (SOUND,))
    return set(connection.execute("SELECT tbl, key FROM _shadow").fetchall())


def forget_untold(store: Store) -> None:
    """Forget the conflicts that the centre, restored, has no record of."""
    store.connection.execute("DELETE FROM _conflict WHERE version = ?", (UNTOLD,))
