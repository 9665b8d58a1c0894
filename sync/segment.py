"""Segments: transactions sealed together, in columns, once; the bytes are signed, chained, journaled as they are.

    node/outbox ─► SegmentBuilder ─► bytes ══► server/ingest ─► read_segment() ─► blocks (fast path)
                                                                              └─► transactions() (one by one)

Spec: PROTOCOL.md §5. What a peer can send wrong raises Malformed, MalformedBlock or TooLarge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import gt
from typing import Any

from sync.change import NEVER, Delete, Edit, Insert, Key, Op, Transaction, Update
from sync.columns import (
    UUID_CHARS,
    Blobs,
    Column,
    Deltas,
    Dictionary,
    Integers,
    MalformedColumn,
    Mixed,
    Nullable,
    Texts,
    Uuids,
    decode_column,
    encode_column,
)
from sync.errors import Malformed, MalformedBlock, TooLarge
from sync.limits import MESSAGE_BYTES_MAX, MILLIS_MAX, SEGMENT_ROWS_MAX, TABLES_MAX, VALUE_BYTES_MAX
from sync.messages import Decision, Deletes, Inserts, Segment, Updates, Values
from sync.values import RawText, Value, text_value
from sync.wire import pack, unpack

UTF8_BYTES_MAX = 4
"""Bytes of one character: sizes are counted in characters first, exactly only where that leaves a doubt."""


@dataclass(slots=True)
class _InsertRows:
    columns: tuple[str, ...]
    rows: list[Sequence[Any]] = field(default_factory=list)
    transaction: list[int] = field(default_factory=list)
    base: list[int] = field(default_factory=list)
    since: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _EditRows:
    columns: tuple[str, ...]
    keys: list[Key] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    transaction: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _DeleteRows:
    keys: list[Key] = field(default_factory=list)
    transaction: list[int] = field(default_factory=list)
    base: list[int] = field(default_factory=list)
    since: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NewRows:
    """New rows of one table that build on nothing, encoded. `longest`, `weight`: bounds from above, in characters or bytes, of
    the longest value and of all texts and blobs together.
    """

    table: str
    columns: tuple[str, ...]
    count: int
    values: tuple[Column, ...]
    longest: int
    weight: int


def new_rows(table: str, columns: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> NewRows:
    """Return rows encoded. Values beyond `columns` are ignored."""
    values = columns_of(rows, len(columns))
    longest = list(map(_longest, values))
    return NewRows(table, columns, len(rows), values, max(longest), sum(longest) * len(rows))


class SegmentBuilder:
    """Collects transactions and their changes.

    Blocks come out in the order in which their tables came in; with `rank` (parents have smaller ones) deletes of children
    come before those of parents and inserts of parents before those of children, for all transactions at once (§5.2).
    """

    def __init__(self, rank: Mapping[str, int] | None = None) -> None:
        self.rows = 0
        self._rank = rank or {}
        self._wall: list[int] = []
        self._base: list[int] = []
        self._inserts: dict[tuple[str, tuple[str, ...]], _InsertRows] = {}
        self._encoded: list[Inserts] = []
        self._updates: dict[tuple[str, str], _EditRows] = {}
        self._deletes: dict[str, _DeleteRows] = {}
        self._decisions: list[Decision] = []

    @property
    def transactions(self) -> int:
        """Return how many transactions were begun."""
        return len(self._wall)

    def begin(self, wall: int, base: int) -> int:
        """Begin a transaction and return its index."""
        self._wall.append(wall)
        self._base.append(base)
        return len(self._wall) - 1

    def begin_many(self, count: int, wall: int, base: int) -> None:
        """Begin many transactions alike."""
        self._wall += [wall] * count
        self._base += [base] * count

    def insert_rows(self, table: str, columns: tuple[str, ...], rows: Sequence[Sequence[Any]], transactions: Sequence[int]) -> None:
        """Add new rows that build on nothing, one transaction index each. Values beyond `columns` are ignored."""
        block = self._inserts.setdefault((table, columns), _InsertRows(columns))
        block.rows += rows
        block.transaction += transactions
        block.base += [NEVER] * len(rows)
        block.since += [NEVER] * len(rows)
        self.rows += len(rows)

    def insert_each(self, rows: NewRows, wall: int, base: int) -> None:
        """Add new rows, each a transaction of its own."""
        first, never = self.transactions, encode_column([NEVER] * rows.count)
        self.begin_many(rows.count, wall, base)
        numbers = encode_column(range(first, first + rows.count))
        self._encoded.append(Inserts(rows.table, rows.columns, rows.count, numbers, never, never, rows.values))
        self.rows += rows.count

    def add(self, transaction: int, op: Op) -> None:
        """Add one change."""
        match op:
            case Insert():
                block = self._inserts.setdefault((op.table, tuple(op.values)), _InsertRows(tuple(op.values)))
                block.rows.append(tuple(op.values.values()))
                block.transaction.append(transaction)
                block.base.append(op.base)
                block.since.append(op.since)
                self.rows += 1
            case Update():
                for edit in op.edits:
                    edits = self._updates.setdefault((op.table, edit.cell), _EditRows(edit.columns))
                    edits.keys.append(op.key)
                    edits.edits.append(edit)
                    edits.transaction.append(transaction)
                self.rows += len(op.edits)
            case _:
                deletes = self._deletes.setdefault(op.table, _DeleteRows())
                deletes.keys.append(op.key)
                deletes.transaction.append(transaction)
                deletes.base.append(op.base)
                deletes.since.append(op.since)
                self.rows += 1

    def decide(self, transaction: int, conflict: bytes) -> None:
        """Note that a transaction settles a conflict."""
        self._decisions.append(Decision(transaction, conflict))

    def build(self, segment_id: bytes, schema: int, first: int, part: int = 0) -> bytes:
        """Return the sealed segment: msgpack, compressed. `first` is its first transaction's own number."""
        return pack(
            Segment(
                id=segment_id,
                schema=schema,
                first=first,
                transactions=self.transactions,
                part=part,  # type: ignore[arg-type]
                wall=encode_column(self._wall),
                base=encode_column(self._base),
                decisions=tuple(self._decisions),
                deletes=tuple(_deletes(table, self._deletes[table]) for table in sorted(self._deletes, key=self._place, reverse=True)),
                inserts=tuple(sorted([*self._encoded, *map(_inserts, self._inserts.items())], key=lambda block: self._place(block.table))),
                updates=tuple(_updates(table, cell, rows) for (table, cell), rows in self._updates.items()),
            )
        )

    def _place(self, table: str) -> int:
        return self._rank.get(table, 0)


def _inserts(entry: tuple[tuple[str, tuple[str, ...]], _InsertRows]) -> Inserts:
    (table, _), rows = entry
    values = columns_of(rows.rows, len(rows.columns))
    transaction, base, since = map(encode_column, (rows.transaction, rows.base, rows.since))
    return Inserts(table, rows.columns, len(rows.rows), transaction, base, since, values)


def _updates(table: str, cell: str, rows: _EditRows) -> Updates:
    width = len(rows.columns)
    return Updates(
        table,
        cell,
        rows.columns,
        len(rows.keys),
        encode_column(rows.transaction),
        encode_column([edit.base for edit in rows.edits]),
        encode_column([edit.since for edit in rows.edits]),
        encode_column([edit.wall for edit in rows.edits]),
        columns_of(rows.keys, len(rows.keys[0])),
        columns_of([edit.old for edit in rows.edits], width),
        columns_of([edit.new for edit in rows.edits], width),
    )


def _deletes(table: str, rows: _DeleteRows) -> Deletes:
    transaction, base, since = map(encode_column, (rows.transaction, rows.base, rows.since))
    return Deletes(table, len(rows.keys), transaction, base, since, columns_of(rows.keys, len(rows.keys[0])))


def columns_of(rows: Sequence[Sequence[Any]], width: int) -> tuple[Column, ...]:
    """Return rows as `width` encoded columns; values beyond `width` are left out."""
    if not rows:
        return tuple(encode_column([]) for _ in range(width))
    columns = zip(*rows, strict=True)
    return tuple(_encoded(column) for column, _ in zip(columns, range(width), strict=False))


def _encoded(values: Sequence[Any]) -> Column:
    """Return the values as a column. That a text is not clean is left to the encoder to find: it looks anyway."""
    try:
        return encode_column(values)
    except ValueError:
        return encode_column(mark_raw(values))


def mark_raw(values: Sequence[Any]) -> Sequence[Value]:
    """Return the values with every text that is not clean (NUL inside, bytes that are not UTF-8) as RawText."""
    joined = "".join([value for value in values if type(value) is str])
    if "\0" not in joined and (joined.isascii() or _encodes(joined)):
        return values
    return [_raw(value) if type(value) is str else value for value in values]


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _raw(text: str) -> Value:
    return text_value(text.encode("utf-8", "surrogateescape"))


def values_of(values: Sequence[Any] | None) -> Values | None:
    """Return a few values as they travel; None stays None."""
    return None if values is None else Values(len(values), _encoded(values))


def tuple_of(values: Values | None) -> Key | None:
    """Return the values that travelled; a central program's may be as long as a message. Raises MalformedBlock, TooLarge."""
    if values is None:
        return None
    if values.count > TABLES_MAX:
        raise MalformedBlock("more values than a row has columns")
    with _in_one_tree():
        return tuple(_bounded(values.column, values.count, MESSAGE_BYTES_MAX))


def rows_of(columns: Sequence[Column], count: int, width: int) -> list[list[Value]]:
    """Return the values of a block of a page, column by column; one that a central program wrote may be as long as a message.

    Raises MalformedBlock, TooLarge; `count` is bounded by the caller.
    """
    if len(columns) != width:
        raise MalformedBlock("a block names more or fewer columns than it holds")
    with _in_one_tree():
        return [_bounded(column, count, MESSAGE_BYTES_MAX) for column in columns]


@contextmanager
def _in_one_tree() -> Iterator[None]:
    """Turn a malformed column into the error of our tree that has its code."""
    try:
        yield
    except MalformedColumn as error:
        raise MalformedBlock(str(error)) from error


# --- reading ----------------------------------------------------------------------------------------------------------


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


def read_segment(body: bytes) -> OpenSegment:
    """Return the decoded segment. Raises Malformed, MalformedBlock, TooLarge; everything in it is bounded then."""
    segment = unpack(Segment, body, MESSAGE_BYTES_MAX)
    blocks: list[Deletes | Inserts | Updates] = [*segment.deletes, *segment.inserts, *segment.updates]
    if sum(block.count for block in blocks) > SEGMENT_ROWS_MAX or segment.transactions > SEGMENT_ROWS_MAX:
        raise TooLarge(f"a segment holds more than {SEGMENT_ROWS_MAX} rows")
    if segment.transactions < 1 or (segment.part and segment.transactions != 1):
        raise Malformed("a segment holds at least one transaction, a part of one exactly one")
    if any(decision.transaction >= segment.transactions for decision in segment.decisions):
        raise Malformed("a decision names a transaction that is not there")
    count = segment.transactions
    with _in_one_tree():
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
        )
    _check_bases(opened)
    return opened


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


def _bounded(column: Column, count: int, bytes_max: int = VALUE_BYTES_MAX) -> list[Value]:
    """Return a column's values. Raises TooLarge for one that is too long, and for a column that names long ones many times."""
    values = decode_column(column, count)
    longest = _longest(column) * UTF8_BYTES_MAX
    if longest > bytes_max or longest * count > MESSAGE_BYTES_MAX:
        sizes = list(map(_size, values))
        if max(sizes) > bytes_max or sum(sizes) > MESSAGE_BYTES_MAX:
            raise TooLarge(f"a value is longer than {bytes_max} bytes, or a column of them than {MESSAGE_BYTES_MAX}")
    return values


def _longest(column: Column) -> int:
    """Return the characters or bytes of the longest value, from what the column holds: a tenth of the time all its rows take."""
    if isinstance(column, Nullable):
        column = column.rest
    if isinstance(column, Dictionary):
        column = column.values
    match column:
        case Texts():
            return max(map(len, column.texts), default=0)
        case Blobs():
            return max(map(len, column.blobs), default=0)
        case Mixed():
            return max(map(len, [*column.texts, *column.blobs, *column.raws]), default=0)
        case Uuids():
            return UUID_CHARS
    return 0


def _size(value: Value) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if isinstance(value, RawText):
        return len(value.raw)
    return len(value) if isinstance(value, bytes) else 0


def _tuples(columns: tuple[Column, ...], count: int) -> list[Key]:
    if not columns:
        raise MalformedBlock("a block without key columns")
    return list(zip(*(_bounded(column, count) for column in columns), strict=True))


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
        [_bounded(column, count) for column in block.values],
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


def transactions(segment: OpenSegment, key_columns: dict[str, tuple[str, ...]], wanted: Iterable[int] | None = None) -> list[Transaction]:
    """Return the segment's transactions one by one (or only the `wanted` indexes), changes in the order they apply:
    deletes, then inserts, then updates, each as the blocks hold them (§5.2). `key_columns` names each table's key. An index
    that is not there is passed over.
    """
    every = range(segment.transactions)
    keep = set(every) if wanted is None else set(every).intersection(wanted)
    found = {i: Transaction(i, segment.first + i, segment.wall[i], segment.base[i]) for i in sorted(keep)}
    for decision in segment.decisions:
        if decision.transaction in keep:
            found[decision.transaction].decisions.append(decision.conflict)
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
    positions = [block.columns.index(name) for name in key]
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
