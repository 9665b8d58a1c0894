"""Building a segment: transactions and their changes, block by block, sealed into bytes.

Counterpart of sync/segment.py. Spec: PROTOCOL.md §5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync.change import NEVER, Edit, Insert, Key, Op, Update, Withdrawn
from sync.columns import Column
from sync.encoding import encode_column
from sync.messages import Decision, Deletes, Inserts, Segment, Updates, Withdrawal
from sync.rows import columns_of, longest_of, weight_of_column
from sync.wire import pack


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
    """New rows of one table that build on nothing, encoded. `longest`: the characters or bytes of the longest value; `weight`: the
    bytes of all texts and blobs together, or a few more.
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
    weight = sum(weight_of_column(column, len(rows)) for column in values)
    return NewRows(table, columns, len(rows), values, max(map(longest_of, values)), weight)


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
        self._withdrawals: list[Withdrawal] = []

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
        width = len(columns)
        block.rows += [row[:width] for row in rows] if rows and len(rows[0]) > width else rows
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

    def withdraw(self, transaction: int, work: Withdrawn) -> None:
        """Note that a transaction takes held work back, or takes its place."""
        self._withdrawals.append(Withdrawal(transaction, work.segment, work.index, work.replaced))
        self.rows += 1

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
                withdrawals=tuple(self._withdrawals),
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
