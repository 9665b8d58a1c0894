"""Sealing: transactions into segments of some 10,000 rows, chained, stored until they are acknowledged.

New documents and events take a path that never looks at a row twice; what can change is kept in `_op` as well, to be
replayed over what the centre sends. Spec: PROTOCOL.md §5.3, §5.4. Driven by node/outbox.py.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from typing import Any

from node import pending, withdrawing, withheld
from node.below import Below
from node.database import read_state
from node.group import Group, old_values, pieces, size_of_short
from node.room import SEGMENT_BYTES, SEGMENT_BYTES_MAX, Room, Size
from node.skew import untold
from node.verdicts import find_own, note_withdrawal
from schema.capture import Change, Row, Store, clean_row
from schema.declare import Table
from schema.keys import key_text
from sync.builder import SegmentBuilder, new_rows
from sync.change import NEVER, Delete, Edit, Insert, Key, Op, Update
from sync.digest import segment_point_of
from sync.limits import SEGMENT_PARTS_MAX, SEGMENT_ROWS, SEGMENT_ROWS_MAX, VALUE_BYTES_MAX
from sync.messages import Point

_LONG_VALUE = f"a value is longer than {VALUE_BYTES_MAX // 1024} KiB and cannot be sent; shorten it"
_LONG_ROW = (
    f"what was written to one row is more than {SEGMENT_BYTES_MAX // 1024**2} MiB and cannot be sent; shorten it, or take several rows"
)


SINGLES = 1_000
"""Single changes that are kept for replay at a time."""


class Sealing:
    """Fills segments and stores them."""

    def __init__(self, store: Store, now_ms: int) -> None:
        state = read_state(store.connection)
        self.store, self.now_ms, self.cursor, self.number = store, now_ms, state.cursor.number, state.next
        self.untold = untold(store.schema, state.afresh)
        self.end = chain_end(store, state.acked)
        self.sealed = 0
        self.told: set[tuple[str, Key]] = set()  # rows whose changes are sealed already
        self.below = Below(store)
        self.any_held = withdrawing.any_held(store)
        self._untouched: set[tuple[str, str]] = set()  # rows known to have no pending work, until that is asked
        self._hidden: dict[str, set[str]] = {}  # keys of rows under pending work, by table; asked for when first needed
        self.rows = Counter[str]()  # new rows of documents and events that were taken, by table: sealed, or kept here
        self._begin()

    def _begin(self) -> None:
        self.name: bytes | None = None  # of the transaction, where it is not the segment's
        self.room = Room()
        self.id, self.builder, self.own = secrets.token_bytes(16), SegmentBuilder(self.store.schema.rank), defaultdict[str, list[int]](list)

    def expect(self, changes: Sequence[Change]) -> None:
        """Find out which of the rows of these changes have pending work: asked one by one, each is a query of its own."""
        rows = defaultdict[str, set[str]](set)
        for change in changes:
            rows[change.table.name].add(key_text(change.key))
        for table, keys in rows.items():
            there = pending.worked_on(self.store, table, keys)
            self._untouched |= {(table, key) for key in keys - there}

    def _pending(self, change: Change) -> list[pending.Pending]:
        """Return the pending work on the row of a change that is about to be kept."""
        row = (change.table.name, key_text(change.key))
        if row in self._untouched:
            self._untouched.discard(row)
            return []
        return pending.of_row(self.store, change.table, change.key)

    def add(self, group: Group) -> None:
        """Add one transaction."""
        self._make_explicit(group.changes)
        if self.any_held:
            group.withdrawals += tuple(withdrawing.replaced_by(self.store, group, self.id))
        size = group.size()
        if size.weight > VALUE_BYTES_MAX and group.longest() > VALUE_BYTES_MAX:
            self._withhold(group, withheld.LONG, _LONG_VALUE)
            return
        if not Room().fits(size, SEGMENT_ROWS_MAX, SEGMENT_BYTES_MAX):
            if group.can_travel():
                self._add_in_parts(group)
            else:
                self._withhold(group, withheld.LONG, _LONG_ROW)
            return
        self._make_room(size, SEGMENT_ROWS_MAX)
        self._put(group)
        if self.builder.rows >= SEGMENT_ROWS:
            self._flush(0)

    def is_single(self, changes: Sequence[Change]) -> bool:
        """Tell whether a transaction is one edit or new row with nothing pending on the row, so that it corrects no held work either.

        No deletion, which must see what is pending below the row, and no document, which may be on its way without being pending.
        """
        change = changes[0]
        if len(changes) > 1 or change.kind == "delete" or change.table.immutable:
            return False
        return (change.table.name, key_text(change.key)) in self._untouched

    def add_singles(self, changes: Sequence[Change]) -> None:
        """Add single changes, each a transaction of its own: as `add` does, but weighed, and kept for replay, many at once."""
        for low in range(0, len(changes), SINGLES):
            self._add_some(changes[low : low + SINGLES])

    def _add_some(self, changes: Sequence[Change]) -> None:
        size = size_of_short(changes)
        if size is None or not Room().fits(size, SEGMENT_ROWS, SEGMENT_BYTES):
            if len(changes) == 1:
                self.add(Group(list(changes)))
                return
            self._add_some(changes[: len(changes) // 2])
            self._add_some(changes[len(changes) // 2 :])
            return
        self._make_room(size, SEGMENT_ROWS)
        kept, under = list[tuple[int, int, Op]](), list[tuple[str, Key, tuple[Any, ...] | None]]()
        for change in changes:
            index = self.builder.begin(change.wall or self.now_ms, self.cursor)
            op = self._op(change, change.old, self._pending(change), self.number + index)
            self.builder.add(index, op)
            kept.append((self.number + index, index, op))
            under.append((op.table, op.key, _image_before(change)))
        pending.shadow_many(self.store, under)
        pending.keep_many(self.store, self.id, kept)
        if self.builder.rows >= SEGMENT_ROWS:
            self._flush(0)

    def _make_room(self, size: Size, rows_max: int) -> None:
        if not self.room.fits(size, rows_max, SEGMENT_BYTES):
            self._flush(0)
        self.room.take(size)

    def _withhold(self, group: Group, code: str, reason: str) -> None:
        """Keep a transaction that cannot travel: held here, visible, and it stops nothing. A conflict it decides stays open."""
        # with what waits already on a row of it, it goes when that goes, as the rows are then
        waiting = withheld.name_of_work_on(self.store, group.changes) if code == withheld.LONG else None
        name, number = waiting or secrets.token_bytes(16), self.number + self.builder.transactions
        for change in sorted(group.changes, key=self._rank):
            op = self._op(change, old_values(change), pending.standing(self._pending(change)), number)
            withheld.keep(self.store, name, number, op, _image_before(change))
        for table_name, rows in group.rows.items():
            table = self.store.schema.by_name[table_name]
            for row in map(clean_row, rows):
                values = dict(zip(table.names, row[:-1], strict=True))
                withheld.keep(self.store, name, number, Insert(table_name, row[: len(table.key)], values), None)
            self.rows[table_name] += len(rows)
        if waiting is None:
            withheld.mark(self.store, name, code, reason, self.now_ms)
        self.store.connection.executemany("UPDATE _conflict SET deciding = 0 WHERE id = ?", [(key,) for key in group.decisions])

    def send_withheld(self) -> None:
        """Add what waited here for a value to be shortened, where it was; the rest of the look leaves those rows out."""
        for name, changes in withheld.waiting(self.store):
            # the centre can never hear of a row under such a key, and nothing can hang under it there
            changes = [change for change in changes if not _is_given_up(change) or Group([change]).can_travel()]
            if Group(changes).can_travel():
                self.told |= {(table.name, key) for table, key in withheld.rows_of(self.store, name)}
                for change in changes:
                    change.wall = change.wall or self.now_ms
                # given up alone, whatever becomes of the rest; first: what is known of the rows is what was known when they were written
                never = list(map(_is_given_up, changes))
                for is_gone in (True, False):
                    part = [change for change, each in zip(changes, never, strict=True) if each is is_gone]
                    if part:
                        self.add(Group(part))
                withheld.forget(self.store, name)

    def _put(self, group: Group) -> None:
        wall = max((change.wall for change in group.changes), default=0) or self.now_ms
        index = self.builder.begin(wall, self.cursor)
        for change in sorted(group.changes, key=self._rank):
            self._change(index, change)
        for name, rows in group.rows.items():
            table = self.store.schema.by_name[name]
            self.builder.insert_rows(name, table.names, rows, [index] * len(rows))
            self.own[name] += [row[-1] for row in rows]
            self.rows[name] += len(rows)
            self._keep_hidden(table, rows, [index] * len(rows))
        for conflict in group.decisions:
            self.builder.decide(index, conflict)
        for work in dict.fromkeys(group.withdrawals):
            self.builder.withdraw(index, work)
            note_withdrawal(self.store, work, (self.name or self.id, index))

    def _rank(self, change: Change) -> tuple[int, int]:
        """Order changes: deletions of children before parents, then inserts of parents before children, then updates."""
        rank = self.store.schema.rank[change.table.name]
        return {"delete": (0, -rank), "insert": (1, rank), "update": (2, rank)}[change.kind]

    def add_rows(self, table: Table, rows: list[Row]) -> None:
        """Add new rows, each a transaction of its own: the fast path."""
        for low in range(0, len(rows), SEGMENT_ROWS):
            self._add_part(table, rows[low : low + SEGMENT_ROWS])

    def _add_part(self, table: Table, part: list[Row]) -> None:
        found = new_rows(table.name, table.names, part)
        if len(part) == 1 or found.longest > VALUE_BYTES_MAX // 4:  # it may be too long, in bytes
            for row in part:
                self.add(Group([], {table.name: [row]}))
            return
        width = len(table.names)
        size = Size(len(part), found.weight, len(part) * width, {("each", table.name, str(part[0][-1])): width})  # a block of its own
        if not Room().fits(size, SEGMENT_ROWS, SEGMENT_BYTES):
            self._add_part(table, part[: len(part) // 2])
            self._add_part(table, part[len(part) // 2 :])
            return
        self._make_room(size, SEGMENT_ROWS)
        self._keep_hidden(table, part, range(self.builder.transactions, self.builder.transactions + len(part)))
        self.builder.insert_each(found, self.now_ms, self.cursor)
        self.own[table.name] += [row[-1] for row in part]
        self.rows[table.name] += len(part)

    def _keep_hidden(self, table: Table, rows: list[Row], indexes: Sequence[int]) -> None:
        """Keep new documents for replay whose key has pending work: one that is held, or was taken back, and is typed anew. When
        that work is settled the row is drawn from what is kept.
        """
        hidden = self._hidden.get(table.name)
        if hidden is None:
            hidden = self._hidden[table.name] = pending.shadowed(self.store, table.name)
        for row, index in zip(rows, indexes, strict=True) if hidden else ():
            key = row[: len(table.key)]
            if key_text(key) in hidden:
                values = dict(zip(table.names, clean_row(row)[:-1], strict=True))
                pending.keep(self.store, self.number + index, self.name or self.id, index, Insert(table.name, key, values))

    def _change(self, index: int, change: Change) -> None:
        """Add a change of a row that can change, and keep it for replay."""
        number = self.number + index
        self._hidden.pop(change.table.name, None)
        before = self._pending(change)
        op = self._op(change, old_values(change), pending.standing(before), number)
        image = _image_before(change)
        pending.shadow(self.store, change.table, change.key, image)
        pending.keep(self.store, number, self.name or self.id, index, op)
        self.builder.add(index, op)

    def _make_explicit(self, changes: Sequence[Change]) -> None:
        """Documents of ours that are still on their way were changed: keep their inserts for replay, under the changes."""
        for change in changes:
            table = change.table
            if change.kind == "insert" or not table.immutable or not pending.is_own(self.store, table.name, change.rid):
                continue
            if not self._pending(change):
                image = _image_before(change)
                number, segment, index = find_own(self.store, table, change.rid, change.key)
                pending.shadow(self.store, table, change.key, None)
                pending.keep(
                    self.store, number, segment, index, Insert(table.name, change.key, dict(zip(table.names, image or (), strict=True)))
                )

    def _op(self, change: Change, was: Mapping[str, Any], before: list[pending.Pending], number: int) -> Op:
        """Return a change as it travels, with the values before it as they do, on top of the pending work `before` it."""
        table = change.table
        if change.kind == "delete":
            base, since = pending.knowledge(before, None, self.cursor, number)
            return Delete(table.name, change.key, min(base, self.below.base(table, change.key)), since)
        assert change.row is not None
        if change.kind == "insert":
            return Insert(table.name, change.key, dict(zip(table.names, change.row, strict=True)), *pending.knowledge_of_insert(before))
        edits = []
        for name in change.cells:
            columns = table.cell_named[name].columns
            old, new = tuple([was[c] for c in columns]), tuple([change.row[table.position[c]] for c in columns])
            base, since = pending.knowledge(before, name, self.cursor, number)
            if name in self.untold.get(table.name, ()):
                base = NEVER  # the program that pulled this row did not know the cell (PROTOCOL.md P-11.8)
            edits.append(Edit(name, columns, old, new, base, since, change.wall))
        return Update(table.name, change.key, edits)

    def _add_in_parts(self, group: Group) -> None:
        """Spread one big transaction over several segments; the centre takes it when the last is there."""
        self._flush(0)
        last, parts = self.id, list(pieces(group, self._rank))
        if len(parts) > SEGMENT_PARTS_MAX:
            reason = f"it is more than {SEGMENT_PARTS_MAX * SEGMENT_ROWS:,} rows in one transaction and cannot be sent; ask for help"
            self._withhold(group, withheld.LARGE, reason)
            return
        for position, piece in enumerate(parts):
            self.name = last  # the whole transaction goes by the name of its last part (PROTOCOL.md P-5.12)
            self._put(piece)
            if position == len(parts) - 1:
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
        hashed = sha256(body).digest()
        self.end = segment_point_of(self.end, hashed)
        self.store.connection.execute(
            "INSERT INTO _segment (id, first, transactions, part, body, hash, chain_seq, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self.id, self.number, builder.transactions, part, body, hashed, self.end.number, self.end.digest),
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


def _is_given_up(change: Change) -> bool:
    """Tell whether a row is deleted that never left this node."""
    return change.kind == "delete" and not change.old


def _image_before(change: Change) -> tuple[Any, ...] | None:
    """Return the row as it was before the change."""
    if change.kind == "insert":
        return None
    if change.row is None:
        if _is_given_up(change):
            return None
        return tuple(change.old[name] for name in change.table.names)
    image = list(change.row)
    for name, value in change.old.items():
        image[change.table.position[name]] = value
    return tuple(image)
