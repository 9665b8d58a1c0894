"""The outbox: sealing what was written into segments, once, oldest first.

    tables, log ─► Look (schema/capture) ─► transactions ─► segments of some 10,000 rows, chained ─► _segment

Two kinds of writers. Our own code says where its transactions end (`boundaries`). Of other programs we see only what a
commit left, so rows tied by declared references become one transaction each: a sale with its lines and payments, a
contact with its tags (RULES §4). New documents and events take a path that never looks at a row twice; what can change
is kept in `_op` as well, to be replayed over what the centre sends. Spec: PROTOCOL.md §5.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from node import pending
from node.database import read_state
from node.verdicts import WAITING, find_own
from schema.capture import Change, Look, Row, Store, clean_row
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from sync.change import Delete, Edit, Insert, Op, Update
from sync.digest import segment_point
from sync.limits import SEGMENT_ROWS, SEGMENT_ROWS_MAX, VALUE_BYTES_MAX
from sync.messages import Point
from sync.segment import SegmentBuilder
from sync.values import RawText

CHANGES_MAX = 20_000
"""Changed rows of one look that are tied into transactions together; more are sealed in portions."""

SEGMENT_BYTES = 4 * 1024 * 1024
"""Bytes of texts and blobs at which a segment is closed."""

_SIZED = frozenset([str, bytes, RawText])
_TEXTS = frozenset([str, type(None)])

SEGMENT_BYTES_MAX = 12 * 1024 * 1024
"""Bytes of texts and blobs from which a transaction travels in parts: with everything else far below the wire's bound."""

ROOTS = 2_000
"""Documents whose lines are gathered at a time."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where one of our own transactions ended: the highest row number per table, the end of the log, decisions it makes."""

    highest: dict[str, int]
    log: int
    decisions: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Group:
    """What becomes one transaction: changes of rows that can change, and new rows of documents and events."""

    changes: list[Change] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    decisions: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Return how many rows it takes in a segment."""
        return sum(map(len, self.rows.values())) + sum(max(1, len(change.cells)) for change in self.changes)

    def weight(self) -> int:
        """Return how many bytes of texts and blobs it carries."""
        return sum(map(weight_of, self.rows.values())) + sum(map(_weight_of_change, self.changes))

    def longest(self) -> int:
        """Return the length in bytes of its longest value; characters are counted as four bytes where that decides."""
        values = [value for change in self.changes for value in _values_of(change)]
        values += [value for rows in self.rows.values() if weight_of(rows) > VALUE_BYTES_MAX // 4 for row in rows for value in row]
        return max((_bytes_of(value) for value in values if _length(value) > VALUE_BYTES_MAX // 4), default=0)


def _bytes_of(value: Any) -> int:
    return len(value.encode("utf-8", "surrogateescape")) if isinstance(value, str) else _length(value)


def seal(store: Store, now_ms: int, boundaries: Sequence[Boundary] | None = None) -> int:
    """Seal everything written since the last look, inside the caller's write transaction; return the transactions."""
    look = Look(store)
    if not look and not any(boundary.decisions for boundary in boundaries or ()):
        return 0
    sealing = _Sealing(store, now_ms)
    if boundaries is None:
        _seal_foreign(sealing, look)
    else:
        for group in _own_groups(store, look, boundaries):
            sealing.add(group)
    sealing.finish()
    look.close()
    return sealing.sealed


# --- segments -------------------------------------------------------------------------------------------------------------


class _Sealing:
    """Fills segments and stores them."""

    def __init__(self, store: Store, now_ms: int) -> None:
        state = read_state(store.connection)
        self.store, self.now_ms, self.cursor, self.number = store, now_ms, state.cursor.number, state.next
        self.end = chain_end(store, state.acked)
        self.sealed = 0
        self._begin()

    def _begin(self) -> None:
        self.name: bytes | None = None  # of the transaction, where it is not the segment's
        self.weight = 0  # bytes of texts and blobs in it
        self.id, self.builder, self.own = secrets.token_bytes(16), SegmentBuilder(self.store.schema.rank), defaultdict[str, list[int]](list)

    def add(self, group: Group) -> None:
        """Add one transaction."""
        if group.longest() > VALUE_BYTES_MAX:
            self._withhold(group)
            return
        weight = group.weight()
        if group.size > SEGMENT_ROWS_MAX or weight > SEGMENT_BYTES_MAX:
            self._add_in_parts(group)
            return
        if self.builder.rows + group.size > SEGMENT_ROWS_MAX or self.weight + weight > SEGMENT_BYTES:
            self._flush(0)
        self._put(group)
        self.weight += weight
        if self.builder.rows >= SEGMENT_ROWS:
            self._flush(0)

    def _withhold(self, group: Group) -> None:
        """Keep a transaction that cannot travel, a value being too long: held here, visible, and it stops nothing."""
        name, number = secrets.token_bytes(16), self.number + self.builder.transactions
        for change in sorted(group.changes, key=self._rank):
            op = self._op(change, pending.of_row(self.store, change.table, change.key), number)
            pending.shadow(self.store, change.table, change.key, _image_before(change))
            pending.keep(self.store, number, name, 0, op)
        for table_name, rows in group.rows.items():
            table = self.store.schema.by_name[table_name]
            for row in map(clean_row, rows):
                key = row[: len(table.key)]
                pending.shadow(self.store, table, key, None)
                pending.keep(self.store, number, name, 0, Insert(table_name, key, dict(zip(table.names, row[:-1], strict=True))))
        reason = f"a value is longer than {VALUE_BYTES_MAX // 1024} KiB and cannot be sent; shorten it"
        self.store.connection.execute(
            "INSERT INTO _txn (segment, txn, verdict, version, code, reason, at_ms) VALUES (?, 0, 'held', ?, 'long', ?, ?)",
            (name, WAITING, reason, self.now_ms),
        )

    def _put(self, group: Group) -> None:
        wall = max((change.wall for change in group.changes), default=0) or self.now_ms
        index = self.builder.begin(wall, self.cursor)
        for change in sorted(group.changes, key=self._rank):
            self._change(index, change)
        for name, rows in group.rows.items():
            table = self.store.schema.by_name[name]
            self.builder.insert_rows(name, table.names, rows, [index] * len(rows))
            self.own[name] += [row[-1] for row in rows]
        for conflict in group.decisions:
            self.builder.decide(index, conflict)

    def _rank(self, change: Change) -> tuple[int, int]:
        """Order changes: deletions of children before parents, then inserts of parents before children, then updates."""
        rank = self.store.schema.rank[change.table.name]
        return {"delete": (0, -rank), "insert": (1, rank), "update": (2, rank)}[change.kind]

    def add_rows(self, table: Table, rows: list[Row]) -> None:
        """Add new rows, each a transaction of its own: the fast path."""
        for low in range(0, len(rows), SEGMENT_ROWS):
            part = rows[low : low + SEGMENT_ROWS]
            weight = weight_of(part)
            if weight > VALUE_BYTES_MAX:  # long values among them: one by one
                for row in part:
                    self.add(Group([], {table.name: [row]}))
                continue
            if self.builder.rows + len(part) > SEGMENT_ROWS or self.weight + weight > SEGMENT_BYTES:
                self._flush(0)
            self.weight += weight
            first = self.builder.transactions
            self.builder.begin_many(len(part), self.now_ms, self.cursor)
            self.builder.insert_rows(table.name, table.names, part, range(first, first + len(part)))
            self.own[table.name] += [row[-1] for row in part]

    def _change(self, index: int, change: Change) -> None:
        """Add a change of a row that can change, and keep it for replay."""
        number = self.number + index
        before = pending.of_row(self.store, change.table, change.key)
        op = self._op(change, before, number)
        image = _image_before(change)
        if not before and change.kind != "insert" and change.table.immutable and pending.is_own(self.store, change.table.name, change.rid):
            self._make_explicit(change, image)
            image = None
        pending.shadow(self.store, change.table, change.key, image)
        pending.keep(self.store, number, self.name or self.id, index, op)
        self.builder.add(index, op)

    def _make_explicit(self, change: Change, image: tuple[Any, ...] | None) -> None:
        """A document of ours that is still on its way was changed: keep its insert for replay, under the change."""
        number, segment, index = find_own(self.store, change.table, change.rid, change.key)
        values = dict(zip(change.table.names, image or (), strict=True))
        pending.shadow(self.store, change.table, change.key, None)
        pending.keep(self.store, number, segment, index, Insert(change.table.name, change.key, values))

    def _op(self, change: Change, before: list[pending.Pending], number: int) -> Op:
        table = change.table
        if change.kind == "delete":
            return Delete(table.name, change.key, *pending.knowledge(before, None, self.cursor, number))
        assert change.row is not None
        values = dict(zip(table.names, change.row, strict=True))
        if change.kind == "insert":
            return Insert(table.name, change.key, values, *pending.knowledge_of_insert(before))
        edits = []
        for name in change.cells:
            columns = table.cell_named[name].columns
            old, new = tuple(change.old[c] for c in columns), tuple(values[c] for c in columns)
            edits.append(Edit(name, columns, old, new, *pending.knowledge(before, name, self.cursor, number), change.wall))
        return Update(table.name, change.key, edits)

    def _add_in_parts(self, group: Group) -> None:
        """Spread one big transaction over several segments; the centre takes it when the last is there."""
        self._flush(0)
        last, pieces = self.id, list(_pieces(group, self._rank))
        for position, piece in enumerate(pieces):
            self.name = last  # the whole transaction goes by the name of its last part (PROTOCOL.md P-5.12)
            self._put(piece)
            if position == len(pieces) - 1:
                self.id = last
                self._flush(2)
            else:
                self.id = secrets.token_bytes(16)
                self._flush(1)

    def finish(self) -> None:
        """Store what is left and where the chain and the numbering end."""
        self._flush(0)
        self.store.connection.execute("UPDATE _node SET next = ? WHERE id = 1", (self.number,))

    def _flush(self, part: int) -> None:
        builder = self.builder
        if not builder.transactions:
            return
        body = builder.build(self.id, self.store.schema.version, self.number, part)
        self.end = segment_point(self.end, body)
        self.store.connection.execute(
            "INSERT INTO _segment (id, first, transactions, part, body, chain_seq, digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.id, self.number, builder.transactions, part, body, self.end.number, self.end.digest),
        )
        for table, numbers in self.own.items():
            self.store.connection.executemany(
                "INSERT INTO _own (tbl, lo, hi, segment) VALUES (?, ?, ?, ?)",
                [(table, low, high, self.name or self.id) for low, high in runs(numbers)],
            )
        counts = 0 if part == 1 else builder.transactions
        self.number += counts
        self.sealed += counts
        self._begin()


def chain_end(store: Store, acked: Point) -> Point:
    """Return the end of this node's own chain: its newest segment, or what the centre has confirmed."""
    row = store.connection.execute("SELECT chain_seq, digest FROM _segment WHERE version IS NULL ORDER BY seq DESC LIMIT 1").fetchone()
    return Point(row[0], row[1]) if row else acked


def runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return numbers as runs (first, last) of consecutive ones."""
    if not numbers:
        return []
    numbers = sorted(numbers)
    if numbers[-1] - numbers[0] + 1 == len(numbers):
        return [(numbers[0], numbers[-1])]
    found = [[entry[1] for entry in run] for _, run in groupby(enumerate(numbers), key=lambda entry: entry[1] - entry[0])]
    return [(run[0], run[-1]) for run in found]


def _image_before(change: Change) -> tuple[Any, ...] | None:
    """Return the row as it was before the change."""
    if change.kind == "insert":
        return None
    if change.row is None:
        return tuple(change.old[name] for name in change.table.names)
    return tuple(change.old.get(name, value) for name, value in zip(change.table.names, change.row, strict=True))


def _pieces(group: Group, rank: Callable[[Change], tuple[int, int]]) -> Iterator[Group]:
    """Cut a transaction into pieces of a segment each, its changes in the order they apply; decisions with the last."""
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
    yield Group(decisions=group.decisions)


def weight_of(rows: Sequence[Sequence[Any]]) -> int:
    """Return how many bytes (characters, for texts) the texts and blobs of rows take."""
    return sum(map(_weight_of_column, zip(*rows, strict=True)))


def _weight_of_column(values: Sequence[Any]) -> int:
    kinds = set(map(type, values))
    if kinds.isdisjoint(_SIZED):
        return 0
    if kinds <= _TEXTS:
        return len("".join(filter(None, values)))  # ten times as fast as one by one
    return sum(map(_length, values))


def _length(value: Any) -> int:
    return len(value.raw) if isinstance(value, RawText) else len(value) if isinstance(value, str | bytes) else 0


def _values_of(change: Change) -> list[Any]:
    return [*(change.row or ()), *change.old.values()]


def _weight_of_change(change: Change) -> int:
    return sum(map(_length, _values_of(change)))


# --- other programs' commits -------------------------------------------------------------------------------------------------


def _seal_foreign(sealing: _Sealing, look: Look) -> None:
    schema = sealing.store.schema
    plain = bulk_tables(sealing.store)
    changes: list[Change] = []
    for change in _changes(look, [table for table in schema.tables if table.name not in plain]):
        changes.append(change)
        if len(changes) >= CHANGES_MAX:
            _seal_changes(sealing, changes)
            changes = []
    _seal_changes(sealing, changes)
    for table in schema.tables:
        if table.name in plain and not table.ties:
            _seal_roots(sealing, look, table, plain)
    for table in schema.tables:
        if table.name in plain and table.ties:
            _seal_strays(sealing, look, table)


def bulk_tables(store: Store) -> frozenset[str]:
    """Return the tables whose new rows need no replay: rows and scopes fixed, tied to nothing that can change."""
    fixed = store.schema.fixed
    return frozenset(name for name in fixed if all(tie.table in fixed for tie in store.schema.by_name[name].ties))


def _changes(look: Look, tables: Sequence[Table]) -> Iterator[Change]:
    yield from _told(look)
    for table in tables:
        low, high = look.ranges.get(table.name, (0, 0))
        for chunk in look.inserted(table, low, high):
            for row in chunk:
                yield _new(table, row)


def _told(look: Look) -> Iterator[Change]:
    """Yield what the log says, but for rows whose number alone changed."""
    return (change for change in look.logged() if change.kind != "update" or change.cells)


def _new(table: Table, row: Row) -> Change:
    values = clean_row(row)
    return Change(table, "insert", values[: len(table.key)], row[-1], values[:-1])


def _seal_changes(sealing: _Sealing, changes: list[Change]) -> None:
    groups = _tied(changes)
    rank = sealing.store.schema.rank

    def order(group: list[Change]) -> tuple[int, int]:
        if all(change.kind == "delete" for change in group):
            return 1, -max(rank[change.table.name] for change in group)
        return 0, min(rank[change.table.name] for change in group)

    for group in sorted(groups, key=order):
        sealing.add(Group(group))


def _tied(changes: list[Change]) -> list[list[Change]]:
    """Return changes in groups of rows tied by declared references, in the order of each group's first change."""
    leader: dict[tuple[str, Any], tuple[str, Any]] = {}

    def find(item: tuple[str, Any]) -> tuple[str, Any]:
        while (above := leader.setdefault(item, item)) != item:
            leader[item] = item = leader[above]
        return item

    for change in changes:
        own = (change.table.name, change.key)
        leader[find(own)] = find((change.table.name, change.rid))  # both halves of a changed key
        for tie in change.table.ties:
            parent = _value(change, tie.column)
            if parent is not None:
                leader[find(own)] = find((tie.table, (parent,)))
    groups: dict[tuple[str, Any], list[Change]] = {}
    for change in changes:
        groups.setdefault(find((change.table.name, change.key)), []).append(change)
    return list(groups.values())


def _value(change: Change, column: str) -> Any:
    if change.row is not None:
        return change.row[change.table.position[column]]
    return change.old[column]


def _seal_roots(sealing: _Sealing, look: Look, table: Table, plain: frozenset[str]) -> None:
    """Seal new documents, each with the new rows tied to it."""
    low, high = look.ranges.get(table.name, (0, 0))
    store = sealing.store
    tied = [
        (child, tie.column)
        for child in store.schema.tables
        if child.name in plain and child.name in look.ranges
        for tie in child.ties
        if tie.table == table.name
    ]
    for chunk in look.inserted(table, low, high, size=ROOTS if tied else SEGMENT_ROWS):
        if not tied:
            sealing.add_rows(table, chunk)
            continue
        found = {child.name: _tied_rows(look, table, child, column, chunk) for child, column in tied}
        for row in chunk:
            rows = {table.name: [row], **{name: parts[row[-1]] for name, parts in found.items() if row[-1] in parts}}
            sealing.add(Group([], rows))


def _tied_rows(look: Look, parent: Table, table: Table, column: str, chunk: list[Row]) -> dict[int, list[Row]]:
    """Return the new rows tied to each of some documents, by the document's row number."""
    columns = ", ".join(f"r.{quote(name)}" for name in table.names)
    low, high = look.ranges[table.name]
    sql = (
        f"SELECT {columns}, r.{ROW_ID}, p.{ROW_ID} FROM {quote(parent.name)} p"
        f" CROSS JOIN {quote(table.name)} r ON r.{quote(column)} = p.{quote(parent.key[0])}"
        f" WHERE p.{ROW_ID} BETWEEN ? AND ? AND r.{ROW_ID} > ? AND r.{ROW_ID} <= ? ORDER BY p.{ROW_ID}, r.{ROW_ID}"
    )
    rows = look.rows(sql, (chunk[0][-1], chunk[-1][-1], low, high))
    return {number: [row[:-1] for row in tied] for number, tied in groupby(rows, key=itemgetter(-1))}


def _seal_strays(sealing: _Sealing, look: Look, table: Table) -> None:
    """Seal new rows tied to a document that is not new, or to none: those of one document together."""
    low, high = look.ranges.get(table.name, (0, 0))
    if low == high:
        return
    tie = table.ties[0]
    parent = sealing.store.schema.by_name[tie.table]
    first = look.marks[parent.name]
    columns = ", ".join(f"r.{quote(name)}" for name in table.names)
    sql = (
        f"SELECT {columns}, r.{ROW_ID} FROM {quote(table.name)} r WHERE r.{ROW_ID} > ? AND r.{ROW_ID} <= ?"
        f" AND NOT EXISTS (SELECT 1 FROM {quote(parent.name)} p WHERE p.{quote(parent.key[0])} = r.{quote(tie.column)} AND p.{ROW_ID} > ?)"
        f" ORDER BY r.{quote(tie.column)}, r.{ROW_ID}"
    )
    position = table.position[tie.column]
    for parent_key, rows in groupby(look.rows(sql, (low, high, first)), key=lambda row: row[position]):
        if parent_key is None:
            sealing.add_rows(table, list(rows))
        else:
            sealing.add(Group([], {table.name: list(rows)}))


# --- our own code's transactions -----------------------------------------------------------------------------------------------


def _own_groups(store: Store, look: Look, boundaries: Sequence[Boundary]) -> list[Group]:
    """Return our own transactions, as our code ended them. Those that changed the same row are one (RULES §4)."""
    groups = [Group(decisions=boundary.decisions) for boundary in boundaries]
    plain = bulk_tables(store)
    joined = list(range(len(boundaries)))

    def place(finds: Callable[[Boundary], bool], start: int = 0) -> int:
        return next((i for i in range(start, len(boundaries)) if finds(boundaries[i])), len(boundaries) - 1)

    for change in _told(look):
        first = place(lambda boundary, order=change.order: boundary.log >= order)  # type: ignore[misc]
        last = place(lambda boundary, order=change.last: boundary.log >= order, first)  # type: ignore[misc]
        groups[first].changes.append(change)
        for between in range(first + 1, last + 1):
            joined[between] = min(joined[between], first)
    for table in store.schema.tables:
        low, high = look.ranges.get(table.name, (0, 0))
        position = 0
        for chunk in look.inserted(table, low, high):
            for row in chunk:
                while position < len(boundaries) - 1 and boundaries[position].highest.get(table.name, 0) < row[-1]:
                    position += 1
                if table.name in plain:
                    groups[position].rows.setdefault(table.name, []).append(row)
                else:
                    groups[position].changes.append(_new(table, row))
    return _joined(groups, joined)


def _joined(groups: list[Group], joined: list[int]) -> list[Group]:
    for index in range(len(groups) - 1, 0, -1):
        if joined[index] != index:
            into, group = groups[joined[index]], groups[index]
            into.changes += group.changes
            into.decisions += group.decisions
            for name, rows in group.rows.items():
                into.rows.setdefault(name, []).extend(rows)
            groups[index] = Group()
    return [group for group in groups if group.changes or group.rows or group.decisions]
