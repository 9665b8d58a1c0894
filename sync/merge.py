"""Merging one cell: what was known, what was not, and what the declared policy makes of it.

The whole of conflict resolution is here and in sync/policies; server/merge.py only loads and stores what this decides.

    seen()  ── did the writer know the value that stands? ──► causally later: it wins, nothing to record
       │ no
    equal? ── yes ──► no conflict
       │ no
    the column's policy ──► who stands; both values are recorded

Spec: PROTOCOL.md §6.4; RULES H3, H7, H8, H10, H19. No clock takes part in `seen`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from sync.change import Key
from sync.policy import Cell, Decision, Policy
from sync.values import Value

CENTRE = 0
"""The writer number of rules and of the centre's own work: foreign to every node (RULES H3)."""


class Meta(msgspec.Struct, frozen=True):
    """Who wrote what stands: version, writer (incarnation number), the writer's own sequence, corrected stamp, node."""

    version: int
    writer: int
    sequence: int
    stamp: int
    node: str


FILLED = -1
"""The writer number of values taken from a node's copy after the centre was restored; their sequence is the version of the
lost history they are of (RULES H15). Foreign to every node."""


class Lineage:
    """The histories a pusher may call its own: incarnation → ranges of own sequence numbers (RULES H7).

    `before`: what had become of some of it before the centre was restored, as (low, high, verdict) (RULES H14).
    """

    def __init__(self, ranges: Mapping[int, list[tuple[int, int]]], before: Mapping[int, list[tuple[int, int, str]]] | None = None) -> None:
        self._ranges, self._before = ranges, before or {}

    def has(self, writer: int, sequence: int) -> bool:
        """Tell whether a write belongs to the lineage."""
        return any(low <= sequence <= high for low, high in self._ranges.get(writer, ()))

    def first_told(self, sequence: int, own: int) -> int:
        """Return the incarnation under which own work of a number was told first: one that it was told under by another copy of the
        node, which knows it by that; else the pusher's `own`.
        """
        return min((writer for writer in self._ranges if writer != own and self.has(writer, sequence)), default=own)

    def before(self, writer: int, sequence: int) -> str | None:
        """Return the verdict on a write before the centre was restored, or None."""
        found = (verdict for low, high, verdict in self._before.get(writer, ()) if low <= sequence <= high)
        return next(found, None)


def seen(meta: Meta, base: int, since: int, lineage: Lineage, *, insert: bool = False, until: int | None = None) -> bool:
    """Tell whether a writer with this base and since knew the value that stands (RULES H8).

    After a restore its own earlier work counts also where it lies further back, if it had been plainly accepted, and never
    if it had been refused (RULES H14). An `insert` builds on nothing. Own work beyond `until` was typed later: it may be here
    first, where the change was held meanwhile.
    """
    if meta.version <= base:
        return True
    if not lineage.has(meta.writer, meta.sequence) or (until is not None and meta.sequence > until):
        return False
    before = lineage.before(meta.writer, meta.sequence)
    return (meta.sequence >= since and before != "refused") or (before == "accepted" and not insert)


class Outcome(msgspec.Struct, frozen=True):
    """What becomes of one cell.

    `value` stands afterwards, written at `stamp` if `write`. `conflict`: both sides are recorded, `side` is who stands.
    `altered`: the cell ends other than as pushed, so the pusher must be told (RULES H3).
    """

    value: Key
    stamp: int
    write: bool
    conflict: bool
    side: Literal["mine", "theirs"]
    altered: bool
    ask: bool


def merge_cell(policy: Policy, old: Key, new: Key, stamp: int, node: str, standing: Key, meta: Meta, known: bool) -> Outcome:
    """Return what becomes of a cell that holds `standing` when a node pushes `old` → `new`.

    `known` is `seen()` for this edit; a causally later write is stamped later than what it replaces, so that a wrong
    clock cannot make it lose to a third writer what it has rightly won.
    """
    if policy.differential:
        return _differential(_decided(policy, old, new, stamp, node, standing, meta), new, standing, max(stamp, meta.stamp + 1))
    if known or same_values(new, standing):
        return Outcome(new, max(stamp, meta.stamp + 1) if known else max(stamp, meta.stamp), True, False, "mine", False, False)
    decision = _decided(policy, old, new, stamp, node, standing, meta)
    if decision.side == "mine":
        return Outcome(new, stamp, True, True, "mine", False, False)
    return Outcome(standing, meta.stamp, False, True, "theirs", True, decision.ask)


def _decided(policy: Policy, old: Key, new: Key, stamp: int, node: str, standing: Key, meta: Meta) -> Decision:
    mine, theirs = Cell(_value(new), stamp, node), Cell(_value(standing), meta.stamp, meta.node)
    return policy(Cell(_value(old), stamp, node), mine, theirs)


def _differential(decision: Decision, new: Key, standing: Key, stamp: int) -> Outcome:
    if decision.ask:
        return Outcome(standing, stamp, False, True, "theirs", True, True)
    value = (decision.value,) if not isinstance(decision.value, tuple) else decision.value
    return Outcome(value, stamp, True, False, "mine", False, False)


def replay(policy: Policy, old: Key, new: Key, standing: Key) -> Key:
    """Return what a pending edit makes of a newer server value on the node: differences are added, others stand."""
    if not policy.differential:
        return new
    decision = policy(Cell(_value(old), 0, ""), Cell(_value(new), 0, ""), Cell(_value(standing), 0, ""))
    return decision.value if isinstance(decision.value, tuple) else (decision.value,)


def _value(values: Key) -> Value | Key:
    return values[0] if len(values) == 1 else values


def same_values(one: Key, other: Key) -> bool:
    """Tell whether two cells hold the same values of the same types."""
    return all(type(a) is type(b) and a == b for a, b in zip(one, other, strict=True))
