"""Runs: transactions that follow one another and stand in nobody's way, taken together by a few statements for each table.

    what the transactions say alone ─► rows and scope keys of all of them ─► new rows, edits (server/edits.py): all at once
            │ a deletion, a move, a row twice …    │ a row or parent that is not there, no right
            └────────────────── the run ends before it

A run writes each row once, moves none and deletes none, so what it leaves does not depend on the order within it. It leaves the same
state as server/merging/ does alone: tests/contract/test_runs.py, tests/contract/test_contended.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from schema.capture import Store, read_among
from schema.declare import Table
from schema.dialects.base import ROW_ID, Displaced
from schema.dialects.sqlite import quote
from server import rows, scopes, waits
from server.edits import Coming, Edited, Edits, put_on_record
from server.forms import Forms
from server.holding import touched
from sync.change import Insert, Transaction, Update

RUN_MIN, RUN_MAX = 2, 2_000
"""Changes below which nothing is saved, and transactions above which memory is better spent on the next run."""

Row = tuple[str, str]
"""Table and key."""


def tables(store: Store) -> frozenset[str]:
    """Return the tables whose rows may be in a run: where other programs have triggers or unique indexes, a row may hang on others, and
    every row is written by a statement of its own.
    """
    ruled = store.dialect.ruled(store.connection)
    return frozenset(name for name in store.schema.by_name if name.lower() not in ruled)


def take(coming: Coming, forms: Forms, works: Sequence[Transaction]) -> int:
    """Take the first of these transactions, as many as make a run; return how many. None where the database refuses one of their rows:
    which, they tell one by one, and that costs what the run had cost.
    """
    store, run = coming.store, _gathered(coming.store, coming.pusher.node, forms, works)
    while sum(len(work.ops) for work in run) >= RUN_MIN:
        look = _Look(coming, run)
        end = look.end()
        if end == len(run):
            store.connection.execute("SAVEPOINT run")
            end = look.write()
            if end < len(run):
                store.connection.execute("ROLLBACK TO run")
            store.connection.execute("RELEASE run")
        if end == len(run):
            return end
        run = run[:end]
    return 0


def _gathered(store: Store, node: int, forms: Forms, works: Sequence[Transaction]) -> Sequence[Transaction]:
    """Return the first of the transactions, up to one that by itself, or beside those before it, does not belong in a run."""
    written, edited, nearby = set[Row](), set[Row](), list[set[Row]]()
    for work in works:
        if not forms.are_plain(work):
            break
        own: set[Row] = {(op.table, op.key[0]) for op in work.ops}  # type: ignore[misc]  # of what is plain the key is one text
        if len(own) < len(work.ops) or not own.isdisjoint(written):
            break
        written |= own
        edits = [op for op in work.ops if isinstance(op, Update)]
        near = own if len(edits) == len(work.ops) else touched(store, work.ops)  # a plain edit hangs no row under another
        edited |= own if near is own else {(op.table, op.key[0]) for op in edits}  # type: ignore[misc]
        if not (near - own).isdisjoint(edited):
            break
        nearby.append(near)
    held = _held_among(store, node, nearby)
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


@dataclass(slots=True)
class _Look:
    """What the centre has of the rows of a run, and what becomes of them."""

    coming: Coming
    run: Sequence[Transaction]
    store: Store = field(init=False)
    _inserts: dict[str, list[tuple[int, Any]]] = field(init=False)  # by table, each with its transaction's place in the run
    _edits: list[Edits] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store, self._inserts = self.coming.store, self._by_table(Insert)

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
        """Find the rows of edits; return the place of the first whose row is not there, or not the node's."""
        found = {key: (rid, keys) for rid, key, keys in self._keyed(table, table.key[0], [op.key[0] for _, op in ops])}
        end, edited = len(self.run), list[Edited]()
        for place, op in ops:
            rid, keys = found.get(op.key[0], (0, ()))
            if self.coming.pusher.scope.isdisjoint(keys):
                end = min(end, place)
            else:
                edited.append(Edited(place, self.run[place], op, rid, keys))
        self._edits.append(Edits(self.coming, table, edited))
        return end

    def _keyed(self, table: Table, column: str, values: Sequence[Any]) -> Iterator[tuple[int, Any, tuple[str, ...]]]:
        """Yield number, key and scope keys of the rows with these values of a column."""
        sql = scopes.keys_of_rows_sql(self.store, table) + f" WHERE r0.{quote(column)}"
        usable: dict[tuple[Any, ...], tuple[str, ...]] = {}  # the rows of a node have the same few scope keys
        for rid, key, *found in read_among(self.store, sql, [], values):
            keys = tuple(found)
            if keys not in usable:
                usable[keys] = tuple(dict.fromkeys(each for each in keys if scopes.is_key(each)))
            yield rid, key, usable[keys]

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self) -> int:
        """Write everything; return the place of the first new row that is not the node's, else the run's length."""
        try:
            found = [each for edits in self._edits for each in edits.merge()]
            for edits in self._edits:
                edits.write()
            ends = [self._write_new(self.store.schema.by_name[name], self._inserts[name]) for name in sorted(self._inserts, key=self._rank)]
        except Displaced:
            return 0
        except self.store.dialect.errors as error:
            if not self.store.connection.in_transaction or not self.store.dialect.is_refusal(error):
                raise
            return 0
        put_on_record(self.coming, found)
        waits.made_anew(self.store, self.coming.pusher.node, [op for work in self.run for op in work.ops])
        return min([len(self.run), *ends])

    def _rank(self, name: str) -> int:
        return self.store.schema.rank[name]

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
            stamps = [(t, rid, rows.BIRTH, work.number, work.wall + self.coming.pusher.skew_ms) for rid, work in works]
            rows.stamp_many(self.store, self.coming.version, self.coming.pusher.inc, stamps)
        end, lines = len(self.run), list[tuple[int, str]]()
        for rid, _, keys in self._keyed(table, ROW_ID, list(places)):
            lines += [(rid, key) for key in keys]
            if self.coming.pusher.scope.isdisjoint(keys):
                end = min(end, places[rid])
        scopes.note_states(self.store, table, lines, self.coming.version, self.coming.pusher.inc)
        return end
