"""Edits of many rows at once: what the centre has of the rows, what the rules make of each cell, and writing all of it.

    rows and scope keys ─► clocks ─► what stands, where it was not seen ─► sync/merge.py, cell by cell, in memory
    ─► rows · clocks · change index · conflicts · verdicts: a statement or two for each, however many rows

For edits that by themselves touch nothing but their own row, each row once (server/runs.py makes sure); what they leave is what
server/merging/ leaves, which merges everything else. Spec: PROTOCOL.md §6.4; RULES H3, H7, H8.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import msgspec

from schema.capture import Store, clean_row, read_among
from schema.declare import Kind, Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from server import conflicts, held, rows, scopes
from server.conflicts import Conflict, Found
from server.merging.cells import NOBODY, is_known
from server.merging.incoming import Pusher, graver
from sync.change import Edit, Key, Transaction, Update
from sync.merge import CENTRE, Meta, Outcome, merge_cell, seen
from sync.policy import policies


@dataclass(frozen=True, slots=True)
class Coming:
    """A segment on its way in: whose, under which version, at which time of the centre's (ms UTC)."""

    store: Store
    pusher: Pusher
    segment: bytes
    version: int
    at_ms: int


class Edited(msgspec.Struct, frozen=True):
    """A row that stands, with its scope keys, and the edits of it; `place`: of their transaction among those that go together."""

    place: int
    work: Transaction
    op: Update
    rid: int
    keys: tuple[str, ...]


def plain_cells(store: Store, table: Table) -> dict[str, int]:
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


@dataclass(slots=True)
class Edits:
    """The edits of one table's rows that go together."""

    coming: Coming
    table: Table
    rows: Sequence[Edited]
    _cells: dict[str, int] = field(init=False)
    _clocks: dict[int, dict[int, Meta]] = field(init=False)
    _nodes: dict[int, int] = field(init=False)  # of writers
    _standing: dict[int, dict[str, Any]] = field(init=False)
    _written: list[tuple[Edited, Edit, Outcome]] = field(default_factory=list)
    _touched: dict[int, list[tuple[int, str]]] = field(default_factory=dict)  # by writer
    _found: list[tuple[Edited, Found]] = field(default_factory=list)

    def merge(self) -> list[tuple[Edited, Found]]:
        """Make up what becomes of every cell, and return the conflicts found, in the order of `rows`; nothing is written yet."""
        self._read()
        inc = self.coming.pusher.inc
        for row in self.rows:
            outcomes = [self._merged(row, edit) for edit in row.op.edits]
            altered = any(outcome.altered for outcome in outcomes)
            self._touched.setdefault(CENTRE if altered else inc, []).extend((row.rid, key) for key in row.keys)
        return self._found

    def write(self) -> None:
        """Write rows, clocks and change index."""
        store, table, cells = self.coming.store, self.table, self._cells
        flat = sorted(self._written, key=lambda each: cells[each[1].cell])
        for _, group in groupby(flat, key=lambda each: cells[each[1].cell]):
            some = list(group)
            sets = ", ".join(f"{quote(name)} = ?" for name in some[0][1].columns)
            sql = f"UPDATE {quote(table.name)} SET {sets} WHERE {ROW_ID} = ?"
            store.connection.executemany(sql, [(*outcome.value, row.rid) for row, _, outcome in some])
        t = store.numbers[table.name]
        stamps = [(t, row.rid, cells[edit.cell], row.work.number, outcome.stamp) for row, edit, outcome in flat]
        rows.stamp_many(store, self.coming.version, self.coming.pusher.inc, stamps)
        for writer, lines in self._touched.items():
            scopes.note_states(store, table, lines, self.coming.version, writer)

    # --- what the centre has --------------------------------------------------------------------------------------------

    def _read(self) -> None:
        self._cells, self._clocks = plain_cells(self.coming.store, self.table), {}
        store, rids = self.coming.store, [row.rid for row in self.rows]
        sql = "SELECT rid, c, ver, wr, n, stamp FROM _clock WHERE t = ? AND rid"
        clocks = list(read_among(store, sql, [store.numbers[self.table.name]], rids))
        named = self._writers({line[3] for line in clocks})
        self._nodes = {writer: node for writer, (node, _) in named.items()}
        for rid, cell, version, writer, sequence, stamp in clocks:
            name = named[writer][1] if writer in named else ""
            self._clocks.setdefault(rid, {})[cell] = Meta(version, writer, sequence, stamp, name)
        unseen = [row for row in self.rows if not all(self._is_seen(row, edit) for edit in row.op.edits)]
        names = sorted({name for row in unseen for edit in row.op.edits for name in edit.columns})
        self._standing = dict(self._values(names, [row.rid for row in unseen]))

    def _writers(self, writers: Collection[int]) -> dict[int, tuple[int, str]]:
        """Return the number and the id of the node behind each writer that is a node's."""
        sql = "SELECT i.inc, i.node, COALESCE(d.id, '') FROM _incarnation i LEFT JOIN _node d ON d.node = i.node WHERE i.inc"
        return {inc: (node, name) for inc, node, name in read_among(self.coming.store, sql, [], writers)}

    def _values(self, names: Sequence[str], rids: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        columns = ", ".join([ROW_ID, *map(quote, names)])
        sql = f"SELECT {columns} FROM {quote(self.table.name)} WHERE {ROW_ID}"
        for rid, *values in read_among(self.coming.store, sql, [], rids):
            yield rid, dict(zip(names, clean_row(tuple(values)), strict=True))

    def _meta(self, row: Edited, edit: Edit) -> Meta:
        clocks = self._clocks.get(row.rid, {})
        return clocks.get(self._cells[edit.cell]) or clocks.get(rows.BIRTH) or NOBODY

    def _is_seen(self, row: Edited, edit: Edit) -> bool:
        return seen(self._meta(row, edit), edit.base, edit.since, self.coming.pusher.lineage)

    # --- what becomes of it ---------------------------------------------------------------------------------------------

    def _merged(self, row: Edited, edit: Edit) -> Outcome:
        pusher, meta, cell = self.coming.pusher, self._meta(row, edit), self.table.cell_named[edit.cell]
        stands = self._standing.get(row.rid)
        standing: Key = tuple(stands[name] for name in edit.columns) if stands is not None else ()  # seen: whatever it is
        known = is_known(edit, meta, standing, pusher.lineage, row.work.number)
        at = edit.wall + pusher.skew_ms
        outcome = merge_cell(policies()[cell.policy], edit.old, edit.new, at, pusher.node_id, standing, meta, known)
        if outcome.write:
            self._written.append((row, edit, outcome))
        if outcome.conflict:
            other = self._nodes.get(meta.writer, conflicts.CENTRE_NODE)
            sides = (edit.old, edit.new, standing)
            about = (self.table.name, row.op.key, cell.columns)
            entry = Conflict(*about, *sides, cell.policy, outcome.side, outcome.ask, pusher.node, other)
            self._found.append((row, Found(entry, held.name_of(self.coming.segment, row.work.index), row.rid)))
        return outcome


def put_on_record(coming: Coming, found: Sequence[tuple[Edited, Found]]) -> None:
    """Keep the conflicts of several tables' edits, in the order in which they would have been found one by one, and say the verdicts
    of their transactions.
    """
    rank = coming.store.schema.rank
    ordered = sorted(found, key=lambda each: (each[0].place, rank[each[1].conflict.table]))
    conflicts.record_many(coming.store, [each for _, each in ordered], coming.version, coming.at_ms)
    verdicts: dict[int, str] = {}
    for row, each in ordered:
        verdict = "ask" if each.conflict.open else "merged"
        verdicts[row.work.index] = graver(verdicts.get(row.work.index, verdict), verdict)
    held.say_many(coming.store, coming.pusher.node, coming.segment, verdicts, coming.version)
