"""Runs: transactions that follow one another and stand in nobody's way, taken together by a few statements for each table.

    what the transactions say alone ─► rows, scope keys and clocks of all of them ─► plain: rows, clocks, change index at once
            │ a deletion, a move, a row twice …       │ a row or parent that is not there, no right     │ an unseen value
            └───────────────── the run ends before it ┘                                                 └─► left: one by one

A run writes each row once, moves none and deletes none, so what it leaves does not depend on the order within it, and what is left of
it (edits, without new rows, of values their writer had not seen) touches nothing but its own rows. Both ways leave the same state as
server/merging/ does alone: tests/contract/test_runs.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from schema.capture import Store, read_among
from schema.declare import Kind, Table
from schema.dialects.base import ROW_ID, Displaced
from schema.dialects.sqlite import quote
from schema.keys import key_text
from server import rows, scopes, waits
from server.holding import Hold, touched
from server.merging.incoming import Pusher
from server.merging.judging import check
from sync.change import Edit, Insert, Transaction, Update
from sync.merge import CENTRE, FILLED, Meta, seen
from sync.policy import policies

RUN_MIN, RUN_MAX = 2, 2_000
"""Changes below which nothing is saved, and transactions above which memory is better spent on the next run."""

Row = tuple[str, str]
"""Table and key."""


@dataclass(frozen=True, slots=True)
class Taken:
    """How many transactions a run came to, and those of them that are left to be merged one by one."""

    count: int
    left: Sequence[Transaction] = ()


def tables(store: Store) -> frozenset[str]:
    """Return the tables whose rows may be in a run: where other programs have triggers or unique indexes, a row may hang on others, and
    every row is written by a statement of its own.
    """
    ruled = store.dialect.ruled(store.connection)
    return frozenset(name for name in store.schema.by_name if name.lower() not in ruled)


def take(store: Store, pusher: Pusher, allowed: frozenset[str], works: Sequence[Transaction], version: int) -> Taken:
    """Take the first of these transactions, as many as make a run within the `allowed` tables. None where the database refuses one of
    their rows: which, they tell one by one, and that costs what the run had cost.
    """
    run = _gathered(store, pusher, allowed, works)
    while sum(len(work.ops) for work in run) >= RUN_MIN:
        look = _Look(store, pusher, version, run)
        end = look.end()
        if end == len(run):
            store.connection.execute("SAVEPOINT run")
            end = look.write()
            if end < len(run):
                store.connection.execute("ROLLBACK TO run")
            store.connection.execute("RELEASE run")
        if end == len(run):
            return Taken(end, [work for work in run if work.index in look.left])
        run = run[:end]
    return Taken(0)


def _gathered(store: Store, pusher: Pusher, allowed: frozenset[str], works: Sequence[Transaction]) -> Sequence[Transaction]:
    """Return the first of the transactions, up to one that by itself, or beside those before it, does not belong in a run."""
    written, edited, nearby = set[Row](), set[Row](), list[set[Row]]()
    for work in works:
        own = {(op.table, key_text(op.key)) for op in work.ops}
        if len(own) < len(work.ops) or not own.isdisjoint(written) or not _is_plain(store, allowed, work):
            break
        near = touched(store, work.ops)
        written |= own
        edited |= {(op.table, key_text(op.key)) for op in work.ops if isinstance(op, Update)}
        if not (near - own).isdisjoint(edited):
            break
        nearby.append(near)
    held = _held_among(store, pusher.node, nearby)
    return works[: next((place for place, near in enumerate(nearby) if not near.isdisjoint(held)), len(nearby))]


def _held_among(store: Store, node: int, nearby: Sequence[set[Row]]) -> set[Row]:
    """Return which of these rows a node has held work on."""
    if store.connection.execute("SELECT 1 FROM _held_row WHERE node = ? LIMIT 1", (node,)).fetchone() is None:
        return set()
    keys: dict[str, set[str]] = {}
    for table, key in {row for near in nearby for row in near}:
        keys.setdefault(table, set()).add(key)
    sql = "SELECT key FROM _held_row WHERE node = ? AND tbl = ? AND key"
    return {(table, key) for table, some in keys.items() for (key,) in read_among(store, sql, (node, table), some)}


def _is_plain(store: Store, allowed: frozenset[str], work: Transaction) -> bool:
    """Tell whether nothing in a transaction itself asks for more than new rows and new values of rows that stay where they are."""
    if work.decisions or work.withdrawals or not work.ops or any(op.table not in allowed for op in work.ops):
        return False
    try:
        return all(_is_plain_change(store, work, op) for op in work.ops)
    except Hold:
        return False


def _is_plain_change(store: Store, work: Transaction, op: object) -> bool:
    """Tell whether a change is a new row, or an edit of cells that nothing else depends on. Raises Hold where it is not even that."""
    if not isinstance(op, Insert | Update):
        return False
    check(store, op, work.schema)
    table = store.schema.by_name[op.table]
    if len(table.key) > 1:
        return False
    if isinstance(op, Insert):
        return op.number is None and not op.later
    cells = _plain_cells(store, table)
    is_of_now = work.schema >= store.schema.version  # else a group may have to be completed
    named = [edit.cell for edit in op.edits]
    return len(set(named)) == len(named) and all(
        edit.number is None
        and edit.cell in cells
        and edit.columns == table.cell_named[edit.cell].columns
        and (is_of_now or len(edit.columns) == 1)
        for edit in op.edits
    )


def _plain_cells(store: Store, table: Table) -> dict[str, int]:
    """Return the cells of a table, each with its number, on which neither scopes nor sums depend: none of what is never edited."""
    memo: dict[str, dict[str, int]] = store.schema.memo.setdefault("plain cells", {})
    if table.name not in memo:
        others = scopes.scope_columns(table).union(table.key, (rule.column for rule in table.parents))
        plain = [] if table.immutable or table.kind is Kind.REFERENCE else table.cells
        memo[table.name] = {
            cell.name: rows.cell_number(table, cell)
            for cell in plain
            if others.isdisjoint(cell.columns) and not policies()[cell.policy].differential
        }
    return memo[table.name]


@dataclass(frozen=True, slots=True)
class _Edited:
    """A row of the run that stands, and the edits of it."""

    place: int
    work: Transaction
    rid: int
    keys: tuple[str, ...]
    edits: Sequence[Edit]


@dataclass(slots=True)
class _Look:
    """What the centre has of the rows of a run, and what becomes of them."""

    store: Store
    pusher: Pusher
    version: int
    run: Sequence[Transaction]
    left: set[int] = field(default_factory=set)  # indexes of transactions
    _inserts: dict[str, list[tuple[int, Any]]] = field(init=False)  # by table, each with its transaction's place in the run
    _edited: dict[str, list[_Edited]] = field(default_factory=dict)
    _clocks: dict[str, dict[int, dict[int, Meta]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._inserts = self._by_table(Insert)

    def end(self) -> int:
        """Look at everything, and return the place of the first transaction that does not belong in the run; else the run's length."""
        ends = [len(self.run), *self._not_new(), *self._without_parents()]
        for name, ops in self._by_table(Update).items():
            ends.append(self._look_at_edited(self.store.schema.by_name[name], ops))
        return min(ends)

    def _by_table(self, kind: type[Insert] | type[Update]) -> dict[str, list[tuple[int, Any]]]:
        """Return the changes of one kind by table, each with its transaction's place in the run."""
        found: dict[str, list[tuple[int, Any]]] = {}
        for place, work in enumerate(self.run):
            for op in work.ops:
                if isinstance(op, kind):
                    found.setdefault(op.table, []).append((place, op))
        return found

    def _not_new(self) -> Iterator[int]:
        """Yield the places of inserts whose key is there, or was, or has rows under it."""
        for name, ops in self._inserts.items():
            table, t = self.store.schema.by_name[name], self.store.numbers[name]
            places = {op.key[0]: place for place, op in ops}
            queries: list[tuple[str, list[Any]]] = [("SELECT key FROM _tombstone WHERE t = ? AND key", [t])]
            queries.append((f"SELECT {quote(table.key[0])} FROM {quote(name)} WHERE {quote(table.key[0])}", []))
            for edge in self.store.schema.children[name]:
                column = quote(edge.column)
                queries.append((f"SELECT DISTINCT {column} FROM {quote(edge.table.name)} WHERE {column}", []))
            for sql, given in queries:
                yield from (places[key] for (key,) in read_among(self.store, sql, given, places))

    def _without_parents(self) -> Iterator[int]:
        """Yield the places of inserts that name a parent which is neither there nor among the rows of the run up to them."""
        born = {name: {op.key[0]: place for place, op in ops} for name, ops in self._inserts.items()}
        for name, ops in self._inserts.items():
            for rule in self.store.schema.by_name[name].parents:
                named = [(place, op.values[rule.column]) for place, op in ops if op.values.get(rule.column) is not None]
                parent, own = self.store.schema.by_name[rule.table], born.get(rule.table, {})
                sql = f"SELECT {quote(parent.key[0])} FROM {quote(parent.name)} WHERE {quote(parent.key[0])}"
                there = {key for (key,) in read_among(self.store, sql, [], {key for _, key in named})}
                yield from (place for place, key in named if key not in there and own.get(key, len(self.run)) > place)

    def _look_at_edited(self, table: Table, ops: list[tuple[int, Any]]) -> int:
        """Find the rows of edits and who wrote their cells; return the place of the first whose row is not there, or not the node's."""
        found = {key: (rid, keys) for rid, key, keys in self._keyed(table, table.key[0], [op.key[0] for _, op in ops])}
        end = len(self.run)
        edited = self._edited.setdefault(table.name, [])
        for place, op in ops:
            rid, keys = found.get(op.key[0], (0, ()))
            if self.pusher.scope.isdisjoint(keys):
                end = min(end, place)
            else:
                edited.append(_Edited(place, self.run[place], rid, keys, op.edits))
        self._clocks[table.name] = self._clocks_of(table, [each.rid for each in edited])
        for each in edited:
            if not all(self._is_seen(table, each, edit) for edit in each.edits):
                if any(isinstance(op, Insert) for op in each.work.ops):
                    end = min(end, each.place)  # what comes after it may hang under its new rows
                else:
                    self.left.add(each.work.index)
        return end

    def _keyed(self, table: Table, column: str, values: Sequence[Any]) -> Iterator[tuple[int, Any, tuple[str, ...]]]:
        """Yield number, key and scope keys of the rows with these values of a column."""
        sql = scopes.keys_of_rows_sql(self.store, table) + f" WHERE r0.{quote(column)}"
        for rid, key, *keys in read_among(self.store, sql, [], values):
            yield rid, key, tuple(dict.fromkeys(each for each in keys if scopes.is_key(each)))

    def _clocks_of(self, table: Table, rids: Sequence[int]) -> dict[int, dict[int, Meta]]:
        found: dict[int, dict[int, Meta]] = {}
        sql = "SELECT rid, c, ver, wr, n, stamp FROM _clock WHERE t = ? AND rid"
        for rid, cell, version, writer, sequence, stamp in read_among(self.store, sql, [self.store.numbers[table.name]], rids):
            found.setdefault(rid, {})[cell] = Meta(version, writer, sequence, stamp, "")
        return found

    def _meta(self, table: Table, row: _Edited, edit: Edit) -> Meta:
        clocks = self._clocks[table.name].get(row.rid, {})
        return clocks.get(_plain_cells(self.store, table)[edit.cell]) or clocks.get(rows.BIRTH) or _NOBODY

    def _is_seen(self, table: Table, row: _Edited, edit: Edit) -> bool:
        meta = self._meta(table, row, edit)
        return meta.writer != FILLED and seen(meta, edit.base, edit.since, self.pusher.lineage)

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self) -> int:
        """Write what is plain; return the place of the first new row that is not the node's, else the run's length."""
        try:
            for name, edited in self._edited.items():
                self._write_edits(self.store.schema.by_name[name], [row for row in edited if row.work.index not in self.left])
            ends = [self._write_new(self.store.schema.by_name[name], self._inserts[name]) for name in sorted(self._inserts, key=self._rank)]
        except Displaced:
            return 0
        except self.store.dialect.errors as error:
            if not self.store.connection.in_transaction or not self.store.dialect.is_refusal(error):
                raise
            return 0
        waits.made_anew(self.store, self.pusher.node, [op for work in self.run for op in work.ops])
        return min([len(self.run), *ends])

    def _rank(self, name: str) -> int:
        return self.store.schema.rank[name]

    def _write_edits(self, table: Table, edited: Sequence[_Edited]) -> None:
        cells, t = _plain_cells(self.store, table), self.store.numbers[table.name]
        flat = sorted(((edit, row) for row in edited for edit in row.edits), key=lambda pair: cells[pair[0].cell])
        for _, group in groupby(flat, key=lambda pair: cells[pair[0].cell]):
            pairs = list(group)
            sets = ", ".join(f"{quote(name)} = ?" for name in pairs[0][0].columns)
            sql = f"UPDATE {quote(table.name)} SET {sets} WHERE {ROW_ID} = ?"
            self.store.connection.executemany(sql, [(*edit.new, row.rid) for edit, row in pairs])
        stamps = [(t, row.rid, cells[edit.cell], row.work.number, self._at(table, row, edit)) for edit, row in flat]
        rows.stamp_many(self.store, self.version, self.pusher.inc, stamps)
        lines = [(row.rid, key) for row in edited for key in row.keys]
        scopes.note_states(self.store, table, lines, self.version, self.pusher.inc)

    def _at(self, table: Table, row: _Edited, edit: Edit) -> int:
        """Return the stamp of an edit: later than what it had seen, whatever the node's clock says."""
        return max(edit.wall + self.pusher.skew_ms, self._meta(table, row, edit).stamp + 1)

    def _write_new(self, table: Table, ops: list[tuple[int, Insert]]) -> int:
        """Insert new rows, and return the place of the first that is in no scope of the node's."""
        t, numbered = self.store.numbers[table.name], list[tuple[int, int]]()
        for columns, group in groupby(sorted(ops, key=lambda each: tuple(each[1].values)), key=lambda each: tuple(each[1].values)):
            some = list(group)
            low = self.store.dialect.insert(self.store.connection, table.name, t, columns, [tuple(op.values.values()) for _, op in some])
            numbered += [(low + count, place) for count, (place, _) in enumerate(some)]
        places = dict(numbered)
        if table.name not in self.store.schema.fixed:
            works = ((rid, self.run[place]) for rid, place in numbered)
            stamps = [(t, rid, rows.BIRTH, work.number, work.wall + self.pusher.skew_ms) for rid, work in works]
            rows.stamp_many(self.store, self.version, self.pusher.inc, stamps)
        end, lines = len(self.run), list[tuple[int, str]]()
        for rid, _, keys in self._keyed(table, ROW_ID, list(places)):
            lines += [(rid, key) for key in keys]
            if self.pusher.scope.isdisjoint(keys):
                end = min(end, places[rid])
        scopes.note_states(self.store, table, lines, self.version, self.pusher.inc)
        return end


_NOBODY = Meta(0, CENTRE, 0, 0, "")
