"""Answer: what a node that holds nothing is told when it asks for a snapshot: a part of one, how far one is, or to pull page by page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from schema.capture import Store
from server import histories, journal, scopes, verify, windows
from server.scopes import ENTER
from server.skew import View
from server.snapshot import shelf
from server.snapshot.making import Maker
from server.snapshot.shelf import Wish
from sync.limits import SNAPSHOT_PART_BYTES
from sync.messages import Snapshot, SnapshotReply, SnapshotRequest

STALE: Final = 10
"""A new one is made when what came since is more than this part of the rows; the one before serves meanwhile."""

PULL: Final = SnapshotReply(None, 0, b"", 0, 0)


@dataclass(frozen=True, slots=True)
class Found:
    """A reply, and what is to be done about it: which snapshot is to be made, of about how many rows, and what is to be noted of one."""

    reply: SnapshotReply
    wish: Wish
    wanted: int = 0  # about how many rows one that is to be made has; 0: none is
    begun: Snapshot | None = None  # the node begins it, or is not yet entitled from its version on
    missing: Snapshot | None = None  # its bytes are not there any more

    @property
    def notes(self) -> bool:
        """Tell whether anything is to be noted."""
        return self.begun is not None or self.missing is not None


def answer(store: Store, node: int, request: SnapshotRequest, maker: Maker, now_ms: int) -> Found:
    """Return what a node is told, on the caller's snapshot of the database. Raises Diverged, UnknownIncarnation."""
    journal.require(store, request.highest)
    histories.find(store, node, request.incarnation)
    scope = scopes.entitled(store, node)
    wish, view = Wish(scope, request.schema, windows.keep_days(store, node)), View.of(store, request.schema)
    if view.is_ahead or view.version != request.schema or scopes.has_sent(store, node):
        return Found(PULL, wish)
    verify.show(store, scope)
    least = journal.horizon(store)  # what came after an older one is not all known any more
    made = [each for each in shelf.newest(store, wish) if each.at.number >= least and scopes.may_hold_from(store, node, each.at.number)]
    chosen = next((each for each in made if each.name == request.name), made[0] if made else None)
    if chosen is None:
        return _without(store, wish, maker, now_ms)
    if chosen.name == request.name and 0 < request.have <= chosen.bytes:
        return _part(store, node, wish, chosen, request.have, maker)
    since = _lines(store, chosen.at.number, max(1, chosen.rows))
    if since >= max(1, chosen.rows):  # most of it would be told again
        return _without(store, wish, maker, now_ms)
    found = _part(store, node, wish, chosen, 0, maker)
    is_stale = chosen is made[0] and since * STALE > chosen.rows and maker.may_make(store, wish, now_ms)
    return replace(found, wanted=chosen.rows + since if is_stale else 0)


def _part(store: Store, node: int, wish: Wish, chosen: Snapshot, offset: int, maker: Maker) -> Found:
    part = maker.bytes.part(store, chosen.name, offset, SNAPSHOT_PART_BYTES)
    if len(part) != min(SNAPSHOT_PART_BYTES, chosen.bytes - offset):
        return Found(PULL, wish, missing=chosen)
    is_entitled = scopes.holds_from(store, node, chosen.at.number)
    points = tuple(point for point in journal.backups(store, -1) if point.number <= chosen.at.number)
    return Found(SnapshotReply(chosen, offset, part, 0, 0, points), wish, begun=None if offset and is_entitled else chosen)


def note(store: Store, node: int, found: Found, now_ms: int) -> bool:
    """Note what a reply says; False where it may not be given any more: the node was entitled to something else, or sent something."""
    if found.missing is not None:
        shelf.gone(store, found.wish, found.missing)
    if found.begun is None:
        return True
    shelf.used(store, found.wish, now_ms)
    return scopes.hold_from(store, node, found.begun.at.number, found.wish.scope)


def _without(store: Store, wish: Wish, maker: Maker, now_ms: int) -> Found:
    """Return how far one is, or have one made if there is enough to tell."""
    progress = maker.progress(store, wish, now_ms)
    if progress is not None:
        return Found(SnapshotReply(None, 0, b"", progress[0], max(1, progress[1])), wish)
    rows = _rows(store, maker.rows_min) if maker.may_make(store, wish, now_ms) else 0
    if rows < maker.rows_min:
        return Found(PULL, wish)
    return Found(SnapshotReply(None, 0, b"", 0, rows), wish, rows)


def _lines(store: Store, since: int, rows_max: int) -> int:
    """Return how many rows about were told anything of in the scopes that are shown, after a version; counted up to `rows_max` lines."""
    tables = ", ".join(f"({t})" for t in sorted(store.numbers.values()))
    sql = (
        f"WITH w (t) AS (VALUES {tables}) SELECT COALESCE(SUM(n), 0) FROM (SELECT c.hi - c.lo + 1 AS n FROM w CROSS JOIN _visible v"
        f" CROSS JOIN _change c WHERE c.t = w.t AND c.sc = v.sc AND c.ver > ? AND c.op <= {ENTER} LIMIT ?) x"
    )
    return int(store.connection.execute(sql, (since, rows_max)).fetchone()[0])


def _rows(store: Store, rows_min: int) -> int:
    """Return about how many rows the scopes that are shown have, at least if they are `rows_min` or more."""
    found = _lines(store, -1, rows_min)
    return found if found < rows_min else max(found, _lines(store, -1, 1 << 40))
