"""What a pull tells besides rows: segments that were taken, late verdicts, conflicts; each from a place on, up to a page's bounds.

A place is (version, how many entries of it were told). Spec: PROTOCOL.md P-6.16, P-7.11, P-8.6. Driven by server/feed.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from schema.capture import Store
from server import conflicts
from server.draft import Draft
from sync.limits import PAGE_NOTICES_MAX
from sync.messages import Accepted, LateVerdict


@dataclass(frozen=True, slots=True)
class Notices:
    """One node's notices: who asks, under which incarnation, and what it may see."""

    store: Store
    node: int
    inc: int
    scope: frozenset[str]

    def conflicts(self, draft: Draft, version: int, skip: int, high: int) -> tuple[int, int] | None:
        """Tell what became of conflicts, from a place (version, how many of it were told) on; return where the page was full."""
        limit = max(1, PAGE_NOTICES_MAX - len(draft.conflicts))
        room = None if draft.is_empty else draft.room
        found, versions, size, more = conflicts.notices(self.store, self.node, self.scope, (version, skip), high, limit, room)
        draft.add_conflicts(found, size)
        return _place(versions, version, skip) if more else None

    def segments(self, draft: Draft, version: int, skip: int, high: int) -> tuple[int, int] | None:
        """Tell which segments of this node's histories were journaled: the only acknowledgement a lost reply leaves (H1)."""
        limit = max(1, PAGE_NOTICES_MAX - len(draft.segments))
        found = self.store.connection.execute(
            "SELECT j.segment, j.ver, j.transactions, COALESCE(c.seq, 0) FROM _incarnation i JOIN _journal j ON j.inc = i.inc"
            " LEFT JOIN _chain c ON c.inc = ? AND c.seq = j.seq AND c.segment = j.segment"
            " WHERE i.node = ? AND j.ver >= ? AND j.ver <= ? AND j.segment IS NOT NULL ORDER BY j.ver LIMIT ? OFFSET ?",
            (self.inc, self.node, version, high, limit, skip),
        ).fetchall()
        draft.segments += [Accepted(*row) for row in found]
        return _place([row[1] for row in found], version, skip) if len(found) == limit else None

    def verdicts(self, draft: Draft, version: int, skip: int, high: int) -> tuple[int, int] | None:
        """Tell what became of the node's transactions that were not plainly accepted."""
        limit = max(1, PAGE_NOTICES_MAX - len(draft.verdicts))
        found = self.store.connection.execute(
            "SELECT segment, txn, verdict, ver, code, reason FROM _verdict WHERE node = ? AND ver >= ? AND ver <= ?"
            " ORDER BY ver, segment, txn LIMIT ? OFFSET ?",
            (self.node, version, high, limit, skip),
        ).fetchall()
        draft.verdicts += [LateVerdict(*row) for row in found]
        return _place([row[3] for row in found], version, skip) if len(found) == limit else None


def _place(versions: list[int], version: int, skip: int) -> tuple[int, int]:
    """Return where to go on after entries of these versions, begun at (version, skip)."""
    last = versions[-1] if versions else version
    return last, versions.count(last) + (skip if last == version else 0)
