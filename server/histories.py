"""Histories: each node's own chain of segments as the server knows it, its incarnations and what they may call their own.

A node that was restored or cloned shows another digest at the same place: a fork. It then continues under a new
incarnation whose lineage is the parent's up to the last point both share. Spec: PROTOCOL.md §7; RULES H5–H7.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from schema.capture import Store
from sync.digest import BEGINNING
from sync.errors import Forked, Gap, UnknownIncarnation
from sync.merge import Lineage
from sync.messages import Point, PushRequest

_ALWAYS = 1 << 62


@dataclass(slots=True)
class History:
    """One incarnation's chain: its end at the server, and how far this push has been read."""

    inc: int
    lineage: Lineage
    end: Point
    at: Point

    def segment_at(self, store: Store, number: int) -> tuple[bytes, bytes] | None:
        """Return (digest, segment id) at a place the server already holds."""
        if number > self.end.number:
            return None
        row = store.connection.execute("SELECT digest, segment FROM _chain WHERE inc = ? AND seq = ?", (self.inc, number)).fetchone()
        return (row[0], row[1]) if row else None

    def adopt(self, store: Store, node: int, segment: bytes) -> None:
        """Count a segment of this node that came through another incarnation as its own from here on (RULES H7)."""
        _adopt(store, node, self.inc, (segment,))
        self.lineage = lineage_of(store, self.inc)

    def extend(self, store: Store, point: Point, segment: bytes) -> None:
        """Add a segment to the chain."""
        store.connection.execute(
            "INSERT INTO _chain (inc, seq, digest, segment) VALUES (?, ?, ?, ?)", (self.inc, point.number, point.digest, segment)
        )
        store.connection.execute("UPDATE _incarnation SET seq = ?, digest = ? WHERE inc = ?", (point.number, point.digest, self.inc))
        self.end = self.at = point


def open_history(store: Store, node: int, request: PushRequest) -> History:
    """Return the history a push continues. Raises Forked, Gap or UnknownIncarnation.

    Lineage is registered only after the check that the push continues what the server holds (RULES H6).
    """
    row = known(store, node, request.incarnation)
    if row is None:
        row = _new_incarnation(store, node, request)
    inc, end = row
    if request.before.number > end.number:
        raise Gap(f"The centre holds this node's history up to {end.number}, not {request.before.number}.")
    if point_at(store, inc, request.before.number) != request.before:
        raise Forked(f"The centre holds another history of this node at {request.before.number}.")
    _adopt(store, node, inc, request.adopted)
    return History(inc, lineage_of(store, inc), end, request.before)


def is_of(store: Store, node: int, incarnation: bytes) -> bool:
    """Tell whether an incarnation is one of this node's."""
    return store.connection.execute("SELECT 1 FROM _incarnation WHERE id = ? AND node = ?", (incarnation, node)).fetchone() is not None


def is_known(store: Store, incarnation: bytes) -> bool:
    """Tell whether an incarnation is any node's."""
    return store.connection.execute("SELECT 1 FROM _incarnation WHERE id = ?", (incarnation,)).fetchone() is not None


def known(store: Store, node: int, incarnation: bytes) -> tuple[int, Point] | None:
    """Return an incarnation's number and chain end, None for one that is new. Raises UnknownIncarnation for another node's."""
    row = store.connection.execute("SELECT inc, node, seq, digest FROM _incarnation WHERE id = ?", (incarnation,)).fetchone()
    if row is None:
        return None
    if row[1] != node:
        raise UnknownIncarnation("This history belongs to another node.")
    return row[0], Point(row[2], row[3])


def find(store: Store, node: int, incarnation: bytes) -> tuple[int, Point]:
    """Return an incarnation's number and chain end. Raises UnknownIncarnation."""
    found = known(store, node, incarnation)
    if found is None:
        raise UnknownIncarnation("The centre does not know this node's history.")
    return found


def point_at(store: Store, inc: int, number: int) -> Point | None:
    """Return the point of a chain at a place, or None."""
    if number == 0:
        return BEGINNING
    row = store.connection.execute("SELECT digest FROM _chain WHERE inc = ? AND seq = ?", (inc, number)).fetchone()
    return Point(number, row[0]) if row else None


def create(store: Store, node: int, incarnation: bytes) -> int:
    """Create a history that begins empty, and return its number."""
    cursor = store.connection.execute(
        "INSERT INTO _incarnation (id, node, seq, digest) VALUES (?, ?, 0, ?) RETURNING inc", (incarnation, node, BEGINNING.digest)
    )
    inc = int(cursor.fetchone()[0])
    _claim(store, inc, inc, 0, _ALWAYS)
    return inc


def _new_incarnation(store: Store, node: int, request: PushRequest) -> tuple[int, Point]:
    inc = create(store, node, request.incarnation)
    parent = known(store, node, request.parent.incarnation) if request.parent is not None else None
    if request.parent is None or parent is None or point_at(store, parent[0], request.parent.last.number) != request.parent.last:
        return inc, BEGINNING  # a restored centre may not know it: then nothing earlier counts as its own, which is safe
    last = request.parent.last
    own_end = _own_number(store, parent[0], last.number)
    for ancestor, low, high in _ranges(store, parent[0]):
        _claim(store, inc, ancestor, low, min(high, own_end) if ancestor == parent[0] else high)
    return inc, BEGINNING


def _own_number(store: Store, inc: int, seq: int) -> int:
    """Return the own sequence number of the last transaction up to a place in a chain."""
    sql = "SELECT MAX(j.first + j.transactions - 1) FROM _chain c JOIN _journal j ON j.segment = c.segment WHERE c.inc = ? AND c.seq <= ?"
    return store.connection.execute(sql, (inc, seq)).fetchone()[0] or 0


def _adopt(store: Store, node: int, inc: int, segments: tuple[bytes, ...]) -> None:
    """Count own work whose verdict reached the node through another of its incarnations as its own (RULES H7)."""
    sql = "SELECT j.inc, j.first, j.transactions FROM _journal j JOIN _incarnation i ON i.inc = j.inc WHERE j.segment = ? AND i.node = ?"
    for segment in segments:
        row = store.connection.execute(sql, (segment, node)).fetchone()
        if row is not None and row[0] != inc:
            _claim(store, inc, row[0], row[1], row[1] + row[2] - 1)


def _claim(store: Store, inc: int, ancestor: int, low: int, high: int) -> None:
    sql = "INSERT INTO _lineage (inc, ancestor, low, high) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
    store.connection.execute(sql, (inc, ancestor, low, high))


def _ranges(store: Store, inc: int) -> list[tuple[int, int, int]]:
    return store.connection.execute("SELECT ancestor, low, high FROM _lineage WHERE inc = ?", (inc,)).fetchall()


def lineage_of(store: Store, inc: int) -> Lineage:
    """Return what an incarnation may call its own."""
    ranges: dict[int, list[tuple[int, int]]] = defaultdict(list)
    was_restored = False
    sql = "SELECT ancestor, low, high, (SELECT 1 FROM _before LIMIT 1) FROM _lineage WHERE inc = ?"
    for ancestor, low, high, before in store.connection.execute(sql, (inc,)).fetchall():
        ranges[ancestor].append((low, high))
        was_restored = before is not None
    return Lineage(ranges, _before(store, ranges) if was_restored else {})


def _before(store: Store, ancestors: Iterable[int]) -> dict[int, list[tuple[int, int, str]]]:
    """Return what had become of an incarnation's own work before this centre was restored."""
    sql = "SELECT low, high, verdict FROM _before WHERE inc = ?"
    return {inc: store.connection.execute(sql, (inc,)).fetchall() for inc in ancestors}
