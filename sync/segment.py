"""Segments: transactions sealed together, in columns, once; the bytes are signed, chained, journaled as they are.

    node/sealing ─► SegmentBuilder (sync/builder.py) ─► bytes ══► server/ingest ─► read_segment() ─► blocks (fast path)
                                                                                              └─► transactions() (one by one)

Here they are read: checked, decoded, everything bounded. What a peer can send wrong raises Malformed, MalformedBlock or
TooLarge. Spec: PROTOCOL.md §5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import gt

from sync.change import Delete, Edit, Insert, Key, Transaction, Update, Withdrawn
from sync.columns import Column, Deltas, Integers
from sync.decoding import decode_column
from sync.errors import Malformed, MalformedBlock, TooLarge
from sync.limits import MESSAGE_BYTES_MAX, MILLIS_MAX, SEGMENT_COLUMNS_MAX, SEGMENT_ROWS_MAX, SEGMENT_VALUES_MAX
from sync.messages import Decision, Deletes, Inserts, Segment, Updates, Withdrawal
from sync.rows import bounded, in_one_tree
from sync.values import Value
from sync.wire import unpack


@dataclass(slots=True)
class InsertBlock:
    """New rows of one table, decoded: `values` holds one list per entry of `columns`."""

    table: str
    columns: tuple[str, ...]
    count: int
    transaction: list[int]
    base: list[int]
    since: list[int]
    values: list[list[Value]]


@dataclass(slots=True)
class UpdateBlock:
    """Changed cells of one kind, decoded."""

    table: str
    cell: str
    columns: tuple[str, ...]
    count: int
    transaction: list[int]
    base: list[int]
    since: list[int]
    wall: list[int]
    key: list[Key]
    old: list[Key]
    new: list[Key]


@dataclass(slots=True)
class DeleteBlock:
    """Deleted rows, decoded."""

    table: str
    count: int
    transaction: list[int]
    base: list[int]
    since: list[int]
    key: list[Key]


@dataclass(slots=True)
class OpenSegment:
    """A segment, checked and decoded."""

    id: bytes
    schema: int
    first: int
    transactions: int
    part: int
    wall: list[int]
    base: list[int]
    decisions: tuple[Decision, ...]
    deletes: list[DeleteBlock]
    inserts: list[InsertBlock]
    updates: list[UpdateBlock]
    withdrawals: tuple[Withdrawal, ...] = ()


def read_segment(body: bytes) -> OpenSegment:
    """Return the decoded segment. Raises Malformed, MalformedBlock, TooLarge; everything in it is bounded then."""
    segment = unpack(Segment, body, MESSAGE_BYTES_MAX)
    blocks: list[Deletes | Inserts | Updates] = [*segment.deletes, *segment.inserts, *segment.updates]
    if sum(block.count for block in blocks) > SEGMENT_ROWS_MAX or segment.transactions > SEGMENT_ROWS_MAX:
        raise TooLarge(f"a segment holds more than {SEGMENT_ROWS_MAX} rows")
    widths = list(map(_width, blocks))
    values = sum(width * block.count for width, block in zip(widths, blocks, strict=True))
    if sum(widths) > SEGMENT_COLUMNS_MAX or values > SEGMENT_VALUES_MAX:
        raise TooLarge(f"a segment holds more than {SEGMENT_COLUMNS_MAX} columns, or {SEGMENT_VALUES_MAX} values")
    if segment.transactions < 1 or (segment.part and segment.transactions != 1):
        raise Malformed("a segment holds at least one transaction, a part of one exactly one")
    if any(decision.transaction >= segment.transactions for decision in segment.decisions):
        raise Malformed("a decision names a transaction that is not there")
    if any(withdrawal.transaction >= segment.transactions for withdrawal in segment.withdrawals):
        raise Malformed("a withdrawal names a transaction that is not there")
    count = segment.transactions
    with in_one_tree():
        opened = OpenSegment(
            segment.id,
            segment.schema,
            segment.first,
            count,
            segment.part,
            _times(segment.wall, count),
            _ints(segment.base, count),
            segment.decisions,
            [_read_deletes(block, count) for block in segment.deletes],
            [_read_inserts(block, count) for block in segment.inserts],
            [_read_updates(block, count) for block in segment.updates],
            segment.withdrawals,
        )
    _check_bases(opened)
    return opened


def _width(block: Deletes | Inserts | Updates) -> int:
    """Return how many columns of values a block holds: what they stand for takes memory, however short they are written."""
    match block:
        case Inserts():
            return len(block.values)
        case Updates():
            return len(block.key) + len(block.old) + len(block.new)
        case _:
            return len(block.key)


def _check_bases(segment: OpenSegment) -> None:
    """Refuse a change that claims to have seen more than its transaction: it would overwrite unseen values in silence."""
    blocks: list[DeleteBlock | InsertBlock | UpdateBlock] = [*segment.deletes, *segment.inserts, *segment.updates]
    least = min(segment.base)
    for block in blocks:
        doubtful = block.base and max(block.base) > least
        if doubtful and any(map(gt, block.base, map(segment.base.__getitem__, block.transaction))):
            raise MalformedBlock("a change builds on more than its transaction does")


def _ints(column: Column, count: int) -> list[int]:
    values = decode_column(column, count)
    if not isinstance(column, Integers | Deltas) and values and set(map(type, values)) != {int}:
        raise MalformedBlock("a column of numbers holds something else")
    return values  # type: ignore[return-value]


def _times(column: Column, count: int) -> list[int]:
    values = _ints(column, count)
    if values and not -MILLIS_MAX <= min(values) <= max(values) <= MILLIS_MAX:
        raise MalformedBlock("a time is not a time")  # sums of such numbers would not fit into 64 bits
    return values


def _indexes(column: Column, count: int, transactions: int) -> list[int]:
    values = _ints(column, count)
    if values and (min(values) < 0 or max(values) >= transactions):
        raise MalformedBlock("a row names a transaction that is not there")
    return values


def _tuples(columns: tuple[Column, ...], count: int) -> list[Key]:
    if not columns:
        raise MalformedBlock("a block without key columns")
    return list(zip(*(bounded(column, count) for column in columns), strict=True))


def _check_names(names: tuple[str, ...], *held: tuple[Column, ...]) -> None:
    if not names or any(len(columns) != len(names) for columns in held):
        raise MalformedBlock("a block names more or fewer columns than it holds")
    if len(set(names)) != len(names):
        raise MalformedBlock("a block names a column twice")


def _read_inserts(block: Inserts, transactions: int) -> InsertBlock:
    _check_names(block.columns, block.values)
    count = block.count
    return InsertBlock(
        block.table,
        block.columns,
        count,
        _indexes(block.transaction, count, transactions),
        _ints(block.base, count),
        _ints(block.since, count),
        [bounded(column, count) for column in block.values],
    )


def _read_updates(block: Updates, transactions: int) -> UpdateBlock:
    _check_names(block.columns, block.old, block.new)
    count = block.count
    return UpdateBlock(
        block.table,
        block.cell,
        block.columns,
        count,
        _indexes(block.transaction, count, transactions),
        _ints(block.base, count),
        _ints(block.since, count),
        _times(block.wall, count),
        _tuples(block.key, count),
        _tuples(block.old, count),
        _tuples(block.new, count),
    )


def _read_deletes(block: Deletes, transactions: int) -> DeleteBlock:
    count = block.count
    return DeleteBlock(
        block.table,
        count,
        _indexes(block.transaction, count, transactions),
        _ints(block.base, count),
        _ints(block.since, count),
        _tuples(block.key, count),
    )


def lowered(segment: OpenSegment, floor: int) -> OpenSegment:
    """Return the segment with no base above a floor: what both histories share after a restore (RULES H14)."""

    def low(bases: list[int]) -> list[int]:
        return [min(base, floor) for base in bases]

    return replace(
        segment,
        base=low(segment.base),
        deletes=[replace(block, base=low(block.base)) for block in segment.deletes],
        inserts=[replace(block, base=low(block.base)) for block in segment.inserts],
        updates=[replace(block, base=low(block.base)) for block in segment.updates],
    )


def transactions(segment: OpenSegment, key_columns: dict[str, tuple[str, ...]], wanted: Iterable[int] | None = None) -> list[Transaction]:
    """Return the segment's transactions one by one (or only the `wanted` indexes), changes in the order they apply:
    deletes, then inserts, then updates, each as the blocks hold them (§5.2). `key_columns` names each table's key; rows that come
    without it, or whose key is not known (an empty one), are named by their first column. An index that is not there is passed over.
    """
    every = range(segment.transactions)
    keep = set(every) if wanted is None else set(every).intersection(wanted)
    found = {i: Transaction(i, segment.first + i, segment.wall[i], segment.base[i], schema=segment.schema) for i in sorted(keep)}
    for decision in segment.decisions:
        if decision.transaction in keep:
            found[decision.transaction].decisions.append(decision.conflict)
    for each in segment.withdrawals:
        if each.transaction in keep:
            found[each.transaction].withdrawals.append(Withdrawn(each.segment, each.index, each.replaced))
    for deletes in segment.deletes:
        for index, key, base, since in zip(deletes.transaction, deletes.key, deletes.base, deletes.since, strict=True):
            if index in keep:
                found[index].ops.append(Delete(deletes.table, key, base, since))
    for inserts in segment.inserts:
        _spread_inserts(inserts, key_columns[inserts.table], keep, found)
    rows: dict[tuple[int, str, Key], Update] = {}
    for updates in segment.updates:
        _spread_updates(updates, keep, found, rows)
    return list(found.values())


def _spread_inserts(block: InsertBlock, key: tuple[str, ...], keep: set[int], found: dict[int, Transaction]) -> None:
    is_known = bool(key) and set(key).issubset(block.columns)
    positions = [block.columns.index(name) for name in key] if is_known else [0]
    rows = zip(*block.values, strict=True)
    for index, base, since, row in zip(block.transaction, block.base, block.since, rows, strict=True):
        if index in keep:
            row_key = tuple(row[position] for position in positions)
            found[index].ops.append(Insert(block.table, row_key, dict(zip(block.columns, row, strict=True)), base, since))


def _spread_updates(block: UpdateBlock, keep: set[int], found: dict[int, Transaction], rows: dict[tuple[int, str, Key], Update]) -> None:
    columns = (block.transaction, block.key, block.old, block.new, block.base, block.since, block.wall)
    for index, key, old, new, base, since, wall in zip(*columns, strict=True):
        if index not in keep:
            continue
        update = rows.get((index, block.table, key))
        if update is None:
            update = rows[index, block.table, key] = Update(block.table, key, [])
            found[index].ops.append(update)
        update.edits.append(Edit(block.cell, block.columns, old, new, base, since, wall))
