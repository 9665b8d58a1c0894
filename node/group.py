"""What becomes one transaction, and how much of a segment it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from schema.capture import Change, Row
from sync.change import Withdrawn
from sync.limits import SEGMENT_ROWS, VALUE_BYTES_MAX
from sync.rows import length_of, weight_of

SEGMENT_BYTES = 4 * 1024 * 1024
"""Bytes of texts and blobs at which a segment is closed."""


@dataclass(slots=True)
class Group:
    """What becomes one transaction: changes of rows that can change, and new rows of documents and events."""

    changes: list[Change] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    decisions: tuple[bytes, ...] = ()
    withdrawals: tuple[Withdrawn, ...] = ()

    @property
    def size(self) -> int:
        """Return how many rows it takes in a segment; what it withdraws is bounded likewise."""
        changes = sum(max(1, len(change.cells)) for change in self.changes)
        return sum(map(len, self.rows.values())) + changes + len(self.withdrawals)

    def weight(self) -> int:
        """Return how many bytes of texts and blobs it carries."""
        return sum(map(weight_of, self.rows.values())) + sum(map(_weight_of_change, self.changes))

    def longest(self) -> int:
        """Return the length in bytes of its longest value; characters are counted as four bytes where that decides."""
        values = [value for change in self.changes for value in _values_of(change)]
        values += [value for rows in self.rows.values() if weight_of(rows) > VALUE_BYTES_MAX // 4 for row in rows for value in row]
        return max((_bytes_of(value) for value in values if length_of(value) > VALUE_BYTES_MAX // 4), default=0)


def _bytes_of(value: Any) -> int:
    return len(value.encode("utf-8", "surrogateescape")) if isinstance(value, str) else length_of(value)


def pieces(group: Group, rank: Callable[[Change], tuple[int, int]]) -> Iterator[Group]:
    """Cut a transaction into pieces of a segment each, its changes in the order they apply; decisions and withdrawals with the last."""
    changes, rows, weight = list[Change](), 0, 0
    for change in sorted(group.changes, key=rank):
        if changes and (rows >= SEGMENT_ROWS or weight > SEGMENT_BYTES):
            yield Group(changes)
            changes, rows, weight = [], 0, 0
        changes.append(change)
        rows, weight = rows + max(1, len(change.cells)), weight + _weight_of_change(change)
    if changes:
        yield Group(changes)
    for name, all_rows in group.rows.items():
        for low in range(0, len(all_rows), SEGMENT_ROWS):
            part = all_rows[low : low + SEGMENT_ROWS]
            step = max(1, len(part) * SEGMENT_BYTES // max(SEGMENT_BYTES, weight_of(part)))
            for first in range(0, len(part), step):
                yield Group([], {name: part[first : first + step]})
    yield Group(decisions=group.decisions, withdrawals=group.withdrawals)


def sendable(value: Any) -> Any:
    """Return an old value as it travels: one that is too long (a central program's) as NULL; it only tells what was before."""
    return None if length_of(value) > VALUE_BYTES_MAX // 4 and _bytes_of(value) > VALUE_BYTES_MAX else value


def _values_of(change: Change) -> list[Any]:
    """Return the new values that a change sends."""
    if change.row is None:
        return []
    if change.kind == "insert":
        return list(change.row)
    return [change.row[change.table.position[c]] for cell in change.cells for c in change.table.cell_named[cell].columns]


def _weight_of_change(change: Change) -> int:
    return sum(map(length_of, [*_values_of(change), *(change.old.values() if change.kind == "update" else ())]))
