"""Reasons in a reply to a push: bounded together, so that however much is held the node can read what became of its work.

A cut reason is a beginning of the whole one, which the node's next pull tells (PROTOCOL.md P-6.14, P-6.16).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sync.limits import REASONS_BYTES_MAX
from sync.messages import SegmentVerdict


def bounded(verdicts: Sequence[SegmentVerdict]) -> tuple[SegmentVerdict, ...]:
    """Return verdicts with reasons of at most `REASONS_BYTES_MAX` together: if they are more, each of as many bytes as its share."""
    sizes = [len(each.reason.encode()) for verdict in verdicts for each in verdict.exceptions]
    if sum(sizes) <= REASONS_BYTES_MAX:
        return tuple(verdicts)
    return tuple(_cut(verdict, REASONS_BYTES_MAX // len(sizes)) for verdict in verdicts)


def _cut(verdict: SegmentVerdict, size: int) -> SegmentVerdict:
    shorter = (replace(each, reason=each.reason.encode()[:size].decode(errors="ignore")) for each in verdict.exceptions)
    return replace(verdict, exceptions=tuple(shorter))
