"""New documents and events, which never change: gathered from their tables with everything that is tied to them, however far below,
and sealed without a look at what they hold. By far the most rows come this way.

    sale ─┬─ line ── serial number      each root goes with all new rows below it: one transaction
          └─ payment                    a row tied to nothing new goes with those tied to the same old one, and with what is below

Spec: PROTOCOL.md P-5.7. Driven by node/outbox.py, for what other programs wrote.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from node.group import Group
from node.sealing import Sealing
from schema.capture import Look, Row
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.registry import Schema
from sync.errors import UsError
from sync.limits import SEGMENT_ROWS

ROOTS = 2_000
"""Documents below which rows are gathered at a time."""

Tied = dict[int, dict[str, list[Row]]]
"""New rows below some documents: by the document's row number, by table."""


def bulk_tables(schema: Schema) -> frozenset[str]:
    """Return the tables whose new rows need no replay: rows and scopes fixed, and tied, up and down, to nothing that can change."""
    found = set(schema.fixed)
    ties = [(table.name, tie.table) for table in schema.tables for tie in table.ties]
    while loose := {name for tie in ties if len(found.intersection(tie)) == 1 for name in found.intersection(tie)}:
        found -= loose
    return frozenset(found)


class Portion:
    """How far a look has been sealed, to end it early: where all rows up to some number are sealed and none beyond."""

    def __init__(self, look: Look, rows: int) -> None:
        self._look, self._rows, self.is_cut = look, rows, False
        self._done: dict[str, tuple[int, int]] = {}  # rows sealed, and the highest of them

    def add(self, table: str, rows: Sequence[Row]) -> None:
        """Note sealed rows (number last)."""
        count, high = self._done.get(table, (0, self._look.ranges[table][0]))
        self._done[table] = count + len(rows), max(high, *(row[-1] for row in rows)) if rows else high

    def end(self) -> bool:
        """End the look here if enough is sealed and nothing is torn apart by it: as a program that writes one document after
        the other leaves them. As it counts the rows, it is tried again only when twice as many are sealed.
        """
        sealed = sum(count for count, _ in self._done.values())
        if sealed < self._rows:
            return False
        self._rows = 2 * sealed
        plain = bulk_tables(self._look.store.schema)
        ends = {name: self._done.get(name, (0, low))[1] if name in plain else high for name, (low, high) in self._look.ranges.items()}
        if ends == {name: high for name, (_, high) in self._look.ranges.items()}:
            return False
        if any(self._look.count(name, ends[name]) != self._done.get(name, (0, 0))[0] for name in ends if name in plain):
            return False
        self._look.ranges = {name: (low, ends[name]) for name, (low, _) in self._look.ranges.items()}
        self.is_cut = True
        return True


def seal(sealing: Sealing, look: Look, portion: Portion | None = None) -> None:
    """Seal all new rows of bulk tables; with a portion, until it ends."""
    plain = bulk_tables(sealing.store.schema)
    tables = [table for table in sealing.store.schema.tables if table.name in plain and table.name in look.ranges]
    for table in tables:
        if not table.ties:
            _seal_roots(sealing, look, table, _paths(tables, table), portion)
            if portion is not None and portion.is_cut:
                return
    for table in tables:
        if table.ties:
            _seal_strays(sealing, look, table, _paths(tables, table))


def require_all(sealing: Sealing, look: Look) -> None:
    """Check that no mark passes a row that was not taken: it would never be sent. Raises UsError, for a mistake of ours."""
    for name in bulk_tables(sealing.store.schema) & look.ranges.keys():
        count, taken = look.count(name, look.ranges[name][1]), sealing.rows[name]
        if count != taken:
            raise UsError(
                f"Of {count} new rows of {name} {taken} would be sent. This is a mistake in Outpost: nothing was changed, and nothing"
                " is sent until it is mended. Every row is in the database; ask for help."
            )


# --- what is tied to what ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Path:
    """The way from a document down to a table: each step a table and its column that names the row above."""

    steps: tuple[tuple[Table, str], ...]

    @property
    def table(self) -> Table:
        """Return the table it leads to."""
        return self.steps[-1][0]


def _paths(tables: Sequence[Table], top: Table, above: tuple[tuple[Table, str], ...] = ()) -> list[_Path]:
    """Return the ways down from a table to all tables, among those given, whose rows are tied to its rows or to rows below them."""
    found: list[_Path] = []
    for table in tables:
        for tie in table.ties:
            if tie.table == (above[-1][0] if above else top).name:
                steps = (*above, (table, tie.column))
                found += [_Path(steps), *_paths(tables, top, steps)]
    return found


def _below(look: Look, top: Table, paths: Sequence[_Path], where: str, parameters: Sequence[Any]) -> Tied:
    """Return the new rows below some documents `r0`."""
    found: Tied = {}
    for path in paths:
        joins, parent, bounds = "", top, list[int]()
        for level, (table, column) in enumerate(path.steps, 1):
            joins += f" CROSS JOIN {quote(table.name)} r{level} ON r{level}.{quote(column)} = r{level - 1}.{quote(parent.key[0])}"
            joins += f" AND r{level}.{ROW_ID} > ? AND r{level}.{ROW_ID} <= ?"
            bounds += look.ranges[table.name]
            parent = table
        last = f"r{len(path.steps)}"
        columns = ", ".join(f"{last}.{quote(name)}" for name in path.table.names)
        sql = (
            f"SELECT {columns}, {last}.{ROW_ID}, r0.{ROW_ID} FROM {quote(top.name)} r0{joins}"
            f" WHERE {where} ORDER BY r0.{ROW_ID}, {last}.{ROW_ID}"
        )
        for number, rows in groupby(look.rows(sql, (*bounds, *parameters)), key=itemgetter(-1)):
            found.setdefault(number, {})[path.table.name] = [row[:-1] for row in rows]
    return found


# --- documents, and rows that go without one -------------------------------------------------------------------------------------


def _seal_roots(sealing: Sealing, look: Look, table: Table, paths: Sequence[_Path], portion: Portion | None) -> None:
    """Seal new documents, each with the new rows below it."""
    for chunk in look.inserted(table, *look.ranges[table.name], size=ROOTS if paths else SEGMENT_ROWS):
        found = _below(look, table, paths, f"r0.{ROW_ID} BETWEEN ? AND ?", (chunk[0][-1], chunk[-1][-1]))
        _seal_each(sealing, table, chunk, found)
        if portion is not None:
            portion.add(table.name, chunk)
            for rows in found.values():
                for name, part in rows.items():
                    portion.add(name, part)
            if portion.end():
                return


def _seal_each(sealing: Sealing, table: Table, chunk: list[Row], found: Tied) -> None:
    """Seal rows, each with what was found below it."""
    if not found:
        sealing.add_rows(table, chunk)
    for row in chunk if found else ():
        sealing.add(Group([], {table.name: [row], **found.get(row[-1], {})}))


def _seal_strays(sealing: Sealing, look: Look, table: Table, paths: Sequence[_Path]) -> None:
    """Seal new rows tied to a document that is not new, or to none, with the new rows below them: those of one document together."""
    tie = table.ties[0]
    parent = look.store.schema.by_name[tie.table]
    columns = ", ".join(f"r.{quote(name)}" for name in table.names)
    old = look.news.before(parent.name, f"p.{ROW_ID}")
    above = f"p.{quote(parent.key[0])} = r.{quote(tie.column)} AND NOT ({old})"
    sql = (
        f"SELECT {columns}, r.{ROW_ID} FROM {quote(table.name)} r WHERE r.{ROW_ID} > ? AND r.{ROW_ID} <= ?"
        f" AND NOT EXISTS (SELECT 1 FROM {quote(parent.name)} p WHERE {above}) ORDER BY r.{quote(tie.column)}, r.{ROW_ID}"
    )
    strays = look.rows(sql, look.ranges[table.name])
    units, count = list[list[Row]](), 0
    for key, rows in groupby(strays, key=itemgetter(table.position[tie.column])):
        while key is None and (chunk := list(islice(rows, SEGMENT_ROWS))):
            _seal_each(sealing, table, chunk, _below_these(look, table, paths, chunk))
        if unit := list(rows):
            units.append(unit)
            count += len(unit)
        if count >= ROOTS:
            _seal_units(sealing, look, table, paths, units)
            units, count = [], 0
    _seal_units(sealing, look, table, paths, units)


def _seal_units(sealing: Sealing, look: Look, table: Table, paths: Sequence[_Path], units: Sequence[list[Row]]) -> None:
    """Seal rows that go together, each such unit with the new rows below it."""
    found = _below_these(look, table, paths, [row for unit in units for row in unit])
    for unit in units:
        tied = _joined([found[row[-1]] for row in unit if row[-1] in found]) if found else {}
        sealing.add(Group([], {table.name: unit, **tied}))


def _below_these(look: Look, table: Table, paths: Sequence[_Path], rows: Sequence[Row]) -> Tied:
    where = f"r0.{ROW_ID} IN (SELECT value FROM json_each(?))"
    return _below(look, table, paths, where, (json.dumps([row[-1] for row in rows]),)) if paths else {}


def _joined(tied: Sequence[dict[str, list[Row]]]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for rows in tied:
        for name, part in rows.items():
            found.setdefault(name, []).extend(part)
    return found
