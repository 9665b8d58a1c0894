"""The journal: every accepted version, append-only, each hash-chained to the one before.

Versions are gap-free in commit order because they are given inside the one write transaction (PROTOCOL.md §6.1). The
journal keeps the bytes a node sealed, so that anyone can recompute the chain; of old ones their digests alone (server/compacting.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from schema.capture import Store
from sync.digest import content_digest, version_point
from sync.errors import Diverged
from sync.limits import POINTS_MAX
from sync.messages import Point

DIGEST_BYTES: Final = 32
"""Bytes of a body of which the digest alone is kept; no segment is as short as that."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one version consists of. `kind`: segment, part, central, release, refusal, withdrawal, reason, rescope, backup, epoch, fill."""

    kind: str
    inc: int
    body: bytes
    transactions: int = 0
    seq: int | None = None
    segment: bytes | None = None
    first: int | None = None


class State(NamedTuple):
    """Where the history stands: its life, its newest version with the chain's digest there, up to which version a backup holds everything,
    or by the policy counts as if it did, and up to which it is no longer known what was deleted or left a scope.
    """

    epoch: int
    head: Point
    covered: int
    horizon: int


def state(store: Store) -> State:
    """Return where the history stands, asked in one statement."""
    sql = "SELECT epoch, head, digest, CASE WHEN aged > covered THEN aged ELSE covered END, horizon FROM _server WHERE id = 1"
    epoch, number, digest, covered, horizon = store.once(sql)[0]
    return State(epoch, Point(number, digest), covered, horizon)


def head(store: Store) -> Point:
    """Return the newest version and the chain's digest there."""
    return state(store).head


def epoch(store: Store) -> int:
    """Return which life of the server's history this is."""
    return state(store).epoch


def append(store: Store, entry: Entry, at_ms: int, after: Point | None = None) -> int:
    """Give the next version to an entry and return it. `after`: the head, where that was asked already."""
    point = version_point(after or head(store), entry.kind, entry.body, at_ms)
    store.connection.execute(
        "INSERT INTO _journal (ver, at_ms, kind, inc, seq, segment, first, transactions, digest, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (point.number, at_ms, entry.kind, entry.inc, entry.seq, entry.segment, entry.first, entry.transactions, point.digest, entry.body),
    )
    store.connection.execute("UPDATE _server SET head = ?, digest = ? WHERE id = 1", (point.number, point.digest))
    return point.number


def is_of(kept: bytes, kind: str, body: bytes) -> bool:
    """Tell whether what is kept of an entry is these bytes, or their digest."""
    return kept in (body, content_digest(kind, body))


def point_at(store: Store, version: int) -> Point | None:
    """Return the chain's point at a version, or None if there is none."""
    if version == 0:
        return Point(0, bytes(32))
    found = store.once("SELECT digest FROM _journal WHERE ver = ?", (version,))
    return Point(version, found[0][0]) if found else None


def covered(store: Store) -> int:
    """Return the version up to which a backup holds everything, or by the policy counts as if it did."""
    return state(store).covered


def newest_backup(store: Store) -> tuple[int, int] | None:
    """Return the version of the newest backup that was announced, and when it was made (ms UTC); None before the first."""
    sql = "SELECT j.ver, j.at_ms FROM _server s JOIN _journal j ON j.ver = s.covered WHERE s.id = 1"
    row = store.connection.execute(sql).fetchone()
    return (row[0], row[1]) if row else None


def horizon(store: Store) -> int:
    """Return the version up to which it is no longer known what was deleted, or left a scope (server/compacting.py)."""
    return state(store).horizon


def backups(store: Store, since: int) -> tuple[Point, ...]:
    """Return the newest points after a version that a backup can bring this history back to (RULES H13), oldest first."""
    sql = "SELECT ver, digest FROM _journal WHERE kind = 'backup' AND ver > ? ORDER BY ver DESC LIMIT ?"
    return tuple(Point(*row) for row in reversed(store.once(sql, (since, POINTS_MAX // 2))))


def require(store: Store, *points: Point) -> None:
    """Check that this history holds the points a node remembers (RULES H5, H12). Raises Diverged."""
    for point in points:
        if point_at(store, point.number) != point:
            raise Diverged(f"The centre has no version {point.number} as this node remembers it.")
