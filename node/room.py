"""How much of a segment something takes, and whether it still fits: bounds from above of what travels, so that no segment that is
sealed is larger than a request, or than the centre reads. Spec: PROTOCOL.md §3, P-5.12. Used by node/sealing.py and node/group.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sync.limits import BODY_BYTES_MAX, NAME_BYTES_MAX, SEGMENT_BLOCKS_MAX, SEGMENT_COLUMNS_MAX

SEGMENT_BYTES = 4 * 1024 * 1024
"""Bytes of texts and blobs at which a segment is closed."""

SEGMENT_BYTES_MAX = 12 * 1024 * 1024
"""Bytes of texts and blobs from which a transaction travels in parts, and that no row may take."""

BODY_BYTES = BODY_BYTES_MAX - 512 * 1024
"""Bytes of a segment with everything in it; the rest of a request goes beside it."""

_VALUE_BYTES = 10
"""Bytes that a number takes in any form of a column, and a text or blob beside its own bytes."""

_ROW_BYTES = 6 * _VALUE_BYTES
"""Bytes of what travels with a changed row or cell, and with its transaction: index, base, since, walls; more than a withdrawal takes."""

_COLUMN_BYTES = NAME_BYTES_MAX + 32
_BLOCK_BYTES = 2 * NAME_BYTES_MAX + 128
"""Bytes of a column, and of a block, that holds nothing."""

Block = tuple[str, ...]
"""What one block of a segment is of: its kind, its table, and what else tells it from others."""


@dataclass(frozen=True, slots=True)
class Size:
    """What something takes of a segment: rows as `SEGMENT_ROWS_MAX` counts them, bytes of texts and blobs, values of any type, and
    how many columns each of its blocks has.
    """

    rows: int
    weight: int
    values: int
    blocks: Mapping[Block, int]

    def bytes_max(self) -> int:
        """Return how many bytes its rows travel in at most, without its blocks."""
        return self.weight + _VALUE_BYTES * self.values + _ROW_BYTES * (1 + self.rows)


@dataclass(slots=True)
class Room:
    """What a segment holds already."""

    rows: int = 0
    weight: int = 0
    bytes: int = 0
    columns: int = 0
    blocks: set[Block] = field(default_factory=set)

    def fits(self, size: Size, rows_max: int, weight_max: int) -> bool:
        """Tell whether something still fits in."""
        if self.rows + size.rows > rows_max or self.weight + size.weight > weight_max:
            return False
        blocks, columns = len(self.blocks), self.columns
        for block, width in size.blocks.items():
            if block not in self.blocks:
                blocks, columns = blocks + 1, columns + width
        if blocks > SEGMENT_BLOCKS_MAX or columns > SEGMENT_COLUMNS_MAX:
            return False
        return self.bytes + size.bytes_max() + blocks * _BLOCK_BYTES + columns * _COLUMN_BYTES <= BODY_BYTES

    def take(self, size: Size) -> None:
        """Note that it is put in."""
        self.rows += size.rows
        self.weight += size.weight
        self.bytes += size.bytes_max()
        self.columns += sum(width for block, width in size.blocks.items() if block not in self.blocks)
        self.blocks |= size.blocks.keys()
