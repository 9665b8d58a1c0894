"""Healing: this centre was restored from a backup, and nodes offer it again what its lost history held.

Told by the operator or not: the first node that remembers more than the centre has makes it begin a new epoch, and every
other node notices by that. Spec: PROTOCOL.md §7.7; RULES H12–H14. What nodes pulled of others: server/filling.py.
"""

from __future__ import annotations

import secrets

from schema.capture import Store
from server import histories, journal
from sync import box
from sync.digest import BEGINNING
from sync.errors import Malformed
from sync.messages import Again, HealReply, HealRequest, Sealed
from sync.segment import OpenSegment, lowered

EPOCHS_AHEAD_MAX = 1_000
"""Epochs a node may be ahead of a restored centre: each is a restore that somebody made."""


def heal(store: Store, node: int, request: HealRequest, now_ms: int) -> HealReply:
    """Return the newest point both remember; begin a new epoch if the node remembers more in this one. In a write transaction."""
    ours = journal.epoch(store)
    if request.epoch > ours + EPOCHS_AHEAD_MAX:
        raise Malformed("the node's epoch cannot be of this centre")
    points = sorted({BEGINNING, *request.points}, key=lambda point: point.number)
    shared = max((point for point in points if journal.point_at(store, point.number) == point), key=lambda point: point.number)
    unknown = any(point.number >= shared.number and point != shared for point in points)
    inc, chain = histories.known(store, node, request.incarnation) or (0, BEGINNING)
    if request.epoch > ours or (request.epoch == ours and unknown):
        new_epoch(store, max(ours, request.epoch) + 1, now_ms, inc)
    return HealReply(journal.epoch(store), shared, journal.head(store), chain)


def new_epoch(store: Store, number: int, now_ms: int, inc: int = 0) -> None:
    """Begin a life of the centre's history. What is random in it tells it from every other life of the same number; `inc` is
    who made the centre see it, for whoever looks at the journal.
    """
    journal.append(store, journal.Entry("epoch", inc, number.to_bytes(8, "big") + secrets.token_bytes(16)), now_ms)
    store.connection.execute("UPDATE _server SET epoch = ? WHERE id = 1", (number,))


def require_restored(store: Store) -> int:
    """Return the version at which the present epoch began. Raises Malformed if this is the centre's first: nothing was lost."""
    row = store.connection.execute("SELECT MAX(ver) FROM _journal WHERE kind = 'epoch'").fetchone()
    if row[0] is None:
        raise Malformed("this centre was never restored, so nothing can come again")
    return int(row[0])


def box_key(store: Store) -> bytes:
    """Return the private key that opens what nodes keep for this centre."""
    return bytes(store.connection.execute("SELECT box_key FROM _server WHERE id = 1").fetchone()[0])


def body_of(store: Store, sealed: Sealed) -> bytes:
    """Return a segment's bytes, out of its box if it is in one. Raises Malformed."""
    return box.open_box(box_key(store), sealed.body) if sealed.again is not None and sealed.again.boxed else sealed.body


# --- segments that come again -------------------------------------------------------------------------------------------


def checked(store: Store, again: Again | None) -> Again | None:
    """Return what is told with a segment as far as it can be true. Raises Malformed.

    Both histories part before the epoch began, and what the lost one had journaled lies beyond that.
    """
    if again is None:
        return None
    floor = min(again.floor, require_restored(store) - 1)
    if -1 < again.version <= floor:
        raise Malformed("a segment comes again from a version that was not lost")
    return Again(again.version, floor, again.boxed, again.exceptions)


def note_again(store: Store, segment: bytes, again: Again) -> None:
    """Remember what was told with a segment: held work is judged later by it too."""
    store.connection.execute(
        "INSERT INTO _again (segment, version, floor) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (segment, again.version, again.floor)
    )


def note_before(store: Store, segment: bytes, again: Again) -> None:
    """Remember what had become of a segment's transactions before the restore (RULES H14)."""
    if again.version < 0:
        return
    inc, first, count = store.connection.execute("SELECT inc, first, transactions FROM _journal WHERE segment = ?", (segment,)).fetchone()
    store.connection.execute("DELETE FROM _before WHERE inc = ? AND low >= ? AND low < ?", (inc, first, first + count))
    disputed = {exception.transaction: exception.verdict for exception in again.exceptions}
    low = first
    lines: list[tuple[int, int, int, str]] = []
    for index in sorted(index for index in disputed if index < count):
        lines += [(inc, low, first + index - 1, "accepted")] if low < first + index else []
        lines.append((inc, first + index, first + index, disputed[index]))
        low = first + index + 1
    lines += [(inc, low, first + count - 1, "accepted")] if low < first + count else []
    store.connection.executemany("INSERT INTO _before (inc, low, high, verdict) VALUES (?, ?, ?, ?)", lines)


def as_told(store: Store, segment: OpenSegment) -> OpenSegment:
    """Return a segment as it is to be judged: with bases lowered to what both histories share (RULES H14)."""
    row = store.connection.execute("SELECT floor FROM _again WHERE segment = ?", (segment.id,)).fetchone()
    return lowered(segment, row[0]) if row else segment


def was_disputed(store: Store, inc: int, number: int) -> bool:
    """Tell whether a transaction had been let in by the lost history otherwise than it was pushed."""
    sql = "SELECT 1 FROM _before WHERE inc = ? AND ? BETWEEN low AND high AND verdict IN ('merged', 'ask')"
    return store.connection.execute(sql, (inc, number)).fetchone() is not None


def came_again(store: Store, segment: bytes) -> bool:
    """Tell whether a segment had been in a lost history, and came again after a restore."""
    return store.connection.execute("SELECT 1 FROM _again WHERE segment = ?", (segment,)).fetchone() is not None


def version_before(store: Store, segment: bytes, number: int) -> int:
    """Return the version at which the lost history had journaled a segment, -1 for none, and for a transaction of it (by its own
    number) that was not let in there: of that nobody can have pulled anything.
    """
    kept_out = (
        "SELECT 1 FROM _before b JOIN _journal j ON j.inc = b.inc WHERE j.segment = a.segment AND ?2 BETWEEN b.low AND b.high"
        " AND b.verdict IN ('held', 'refused', 'withdrawn')"
    )
    sql = f"SELECT version FROM _again a WHERE segment = ?1 AND NOT EXISTS ({kept_out})"
    row = store.connection.execute(sql, (segment, number)).fetchone()
    return int(row[0]) if row else -1
