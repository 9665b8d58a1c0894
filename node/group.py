"""What becomes one transaction, how much of a segment it takes, and how it is cut where that is more than one holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from node.room import SEGMENT_BYTES, SEGMENT_BYTES_MAX, Block, Room, Size
from schema.capture import Change, Row
from sync.change import Withdrawn
from sync.limits import SEGMENT_ROWS, VALUE_BYTES_MAX
from sync.rows import length_of, weight_of


@dataclass(slots=True)
class Group:
    """What becomes one transaction: changes of rows that can change, and new rows of documents and events."""

    changes: list[Change] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    decisions: tuple[bytes, ...] = ()
    withdrawals: tuple[Withdrawn, ...] = ()

    def size(self) -> Size:
        """Return what it takes of a segment; what it withdraws, and decides, is bounded like rows."""
        count, weight, values = len(self.withdrawals) + len(self.decisions), 0, 0
        blocks: dict[Block, int] = {}
        for name, rows in self.rows.items():
            width = len(rows[0]) - 1  # its number is not sent
            count, weight, values = count + len(rows), weight + weight_of(rows), values + width * len(rows)
            blocks["insert", name] = width
        for change in self.changes:
            of_change = _size_of(change, blocks)
            count, weight, values = count + of_change[0], weight + of_change[1], values + of_change[2]
        return Size(count, weight, values, blocks)

    def longest(self) -> int:
        """Return the length in bytes of its longest value."""
        values = [value for change in self.changes for value in (*change.key, *_values_of(change))]
        values += [value for rows in self.rows.values() if weight_of(rows) > VALUE_BYTES_MAX for row in rows for value in row]
        return max(map(length_of, values), default=0)

    def can_travel(self) -> bool:
        """Tell whether no value and no row of it is larger than any segment takes."""
        if self.longest() > VALUE_BYTES_MAX:
            return False
        return _fits_whatever_its_rows(self) or all(map(_fits_whatever_its_rows, _singles(self)))


def _fits_whatever_its_rows(group: Group) -> bool:
    size = group.size()
    return Room().fits(size, size.rows, SEGMENT_BYTES_MAX)


def _size_of(change: Change, blocks: dict[Block, int]) -> tuple[int, int, int]:
    """Return how many rows, bytes of texts and blobs, and values a change takes; its blocks are added."""
    table = change.table
    if change.kind == "insert":
        row = change.row or ()
        blocks["insert", table.name] = len(row)
        return 1, sum(map(length_of, row)), len(row)
    key = sum(map(length_of, change.key))
    if change.kind == "delete":
        blocks["delete", table.name] = len(table.key)
        return 1, key, len(table.key)
    widths = 0
    for name in change.cells:
        blocks["update", table.name, name] = width = len(table.key) + 2 * len(table.cell_named[name].columns)
        widths += width
    return max(1, len(change.cells)), _old_values(change)[1], widths


def size_of_short(changes: Sequence[Change]) -> Size | None:
    """Return what edits and new rows take of a segment together, weighed column by column; None if one of their values, those before the
    edits too, may be longer than any segment takes.
    """
    alike: dict[tuple[str, str, tuple[str, ...]], list[Change]] = {}
    for change in changes:
        alike.setdefault((change.table.name, change.kind, change.cells), []).append(change)
    count, weight, values = 0, 0, 0
    blocks: dict[Block, int] = {}
    for some in alike.values():
        rows, _, width = _size_of(some[0], blocks)
        count, values = count + rows * len(some), values + width * len(some)
        weight += weight_of([(*change.old.values(), *_values_of(change)) for change in some])
        weight += len(some[0].cells) * weight_of([change.key for change in some])
        if weight > VALUE_BYTES_MAX:
            return None
    return Size(count, weight, values, blocks)


def pieces(group: Group, rank: Callable[[Change], tuple[int, int]]) -> Iterator[Group]:
    """Cut a transaction into pieces of a segment each, its changes in the order they apply; decisions and withdrawals with the last.

    Each holds as many as fit of what follows, measured one by one, and at least one: that it can travel is for the caller to see.
    """
    for part in _packed([Group([change]) for change in sorted(group.changes, key=rank)]):
        yield Group([change for each in part for change in each.changes])
    for name, all_rows in group.rows.items():
        for low in range(0, len(all_rows), SEGMENT_ROWS):
            slice_ = Group([], {name: all_rows[low : low + SEGMENT_ROWS]})
            if Room().fits(slice_.size(), SEGMENT_ROWS, SEGMENT_BYTES):
                yield slice_
                continue
            for part in _packed([Group([], {name: [row]}) for row in slice_.rows[name]]):
                yield Group([], {name: [row for each in part for row in each.rows[name]]})
    yield Group(decisions=group.decisions, withdrawals=group.withdrawals)


def _packed(singles: Sequence[Group]) -> Iterator[list[Group]]:
    part, room = list[Group](), Room()
    for each in singles:
        size = each.size()
        if part and not room.fits(size, SEGMENT_ROWS, SEGMENT_BYTES):
            yield part
            part, room = [], Room()
        part.append(each)
        room.take(size)
    if part:
        yield part


def _singles(group: Group) -> Iterator[Group]:
    yield from (Group([change]) for change in group.changes)
    yield from (Group([], {name: [row]}) for name, rows in group.rows.items() for row in rows)


def old_values(change: Change) -> Mapping[str, Any]:
    """Return the values before an update as they travel. They only tell what was before: one that is too long (a central program's)
    goes as NULL, and so do the longest where the update would fit no segment with them (PROTOCOL.md P-5.19).
    """
    return _old_values(change)[0]


def _old_values(change: Change) -> tuple[Mapping[str, Any], int]:
    """Return the values before an update as they travel, and the bytes of texts and blobs that it takes with them."""
    lengths = {name: length_of(value) for name, value in change.old.items()}
    kept = sum(lengths.values()) + sum(map(length_of, _values_of(change))) + len(change.cells) * sum(map(length_of, change.key))
    if kept <= VALUE_BYTES_MAX:  # nearly all: nothing is too long
        return change.old, kept
    old = {name: None if lengths[name] > VALUE_BYTES_MAX else value for name, value in change.old.items()}
    weight = kept - sum(length for length in lengths.values() if length > VALUE_BYTES_MAX)
    for name in sorted(old, key=lambda name: length_of(old[name]), reverse=True) if weight > SEGMENT_BYTES_MAX else ():
        if weight <= SEGMENT_BYTES_MAX:
            break
        weight -= length_of(old[name])
        old[name] = None
    return old, weight


def _values_of(change: Change) -> list[Any]:
    """Return the new values that a change sends, beside the key of an update or a delete."""
    if change.row is None:
        return []
    if change.kind == "insert":
        return list(change.row)
    table, row = change.table, change.row
    return [row[table.position[column]] for cell in change.cells for column in table.cell_named[cell].columns]
