"""What a pull tells besides rows: segments that were taken, late verdicts, conflicts; each from a place on, up to a page's bounds.

A place is (version, number of the entry told last): between two pages an entry may leave its version, by a decision or a later
verdict. Segments stay in theirs, and are counted: (version, how many of it were told). Spec: PROTOCOL.md P-6.16, P-7.11, P-8.6.
Driven by server/feed.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from schema.capture import Store
from server import conflicts
from server.draft import Draft
from sync.limits import PAGE_NOTICES_MAX, SEGMENT_ROWS_MAX
from sync.messages import Accepted, LateVerdict

_INDEXES = SEGMENT_ROWS_MAX + 1
"""More than a segment has transactions."""


@dataclass(frozen=True, slots=True)
class Notices:
    """One node's notices: who asks, under which incarnation, and what it may see."""

    store: Store
    node: int
    inc: int
    scope: frozenset[str]

    def conflicts(self, draft: Draft, version: int, skip: int, high: int) -> tuple[int, int] | None:
        """Tell what became of conflicts, behind a place; return where the page was full."""
        limit = max(1, PAGE_NOTICES_MAX - len(draft.conflicts))
        room = None if draft.is_empty else draft.room
        found, place, size, more = conflicts.notices(self.store, self.node, self.scope, (version, skip), high, limit, room)
        draft.add_conflicts(found, size)
        return place if more else None

    def segments(self, draft: Draft, version: int, skip: int, high: int) -> tuple[int, int] | None:
        """Tell which segments of this node's histories were journaled: the only acknowledgement a lost reply leaves (H1)."""
        limit = max(1, PAGE_NOTICES_MAX - len(draft.segments))
        found = self.store.connection.execute(
            "SELECT j.segment, j.ver, CASE j.kind WHEN 'part' THEN 0 ELSE j.transactions END, COALESCE(c.seq, 0)"
            " FROM _incarnation i JOIN _journal j ON j.inc = i.inc"
            " LEFT JOIN _chain c ON c.inc = ? AND c.seq = j.seq AND c.segment = j.segment"
            " WHERE i.node = ? AND j.ver >= ? AND j.ver <= ? AND j.segment IS NOT NULL ORDER BY j.ver LIMIT ? OFFSET ?",
            (self.inc, self.node, version, high, limit, skip),
        ).fetchall()
        draft.segments += [Accepted(*row) for row in found]
        return _place([row[1] for row in found], version, skip) if len(found) == limit else None

    def verdicts(self, draft: Draft, version: int, skip: int, high: int) -> tuple[int, int] | None:
        """Tell what became of the node's transactions that were not plainly accepted, behind a place: by the segment's version and
        the index in it.
        """
        limit = max(1, PAGE_NOTICES_MAX - len(draft.verdicts))
        place = f"COALESCE(j.ver, 0) * {_INDEXES} + v.txn"
        found = self.store.connection.execute(
            f"SELECT v.segment, v.txn, v.verdict, v.ver, v.code, v.reason, {place} FROM _verdict v LEFT JOIN _journal j"
            f" ON j.segment = v.segment WHERE v.node = ?1 AND v.ver >= ?2 AND v.ver <= ?3 AND (v.ver > ?2 OR {place} > ?4)"
            f" ORDER BY v.ver, {place} LIMIT ?5",
            (self.node, version, high, skip, limit),
        ).fetchall()
        draft.add_verdicts([LateVerdict(*row[:-1]) for row in found])
        return (found[-1][3], found[-1][-1]) if len(found) == limit else None


def _place(versions: list[int], version: int, skip: int) -> tuple[int, int]:
    """Return where to go on after entries of these versions, begun at (version, skip)."""
    last = versions[-1] if versions else version
    return last, versions.count(last) + (skip if last == version else 0)
