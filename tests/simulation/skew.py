"""Versions of the simulator's declaration: what a file of either holds, in the oracle's words. Written without the engine's lenses.

The oracle knows one form of rows, the plain one: cells by their names and types of version 1, and what is new besides.

    a file's rows, a segment's changes, a conflict's sides ─ plain ─► what the oracle compares
    plain rows ─ shown ─► what a node of a version must show: cells and tables it does not know left out
    what somebody typed ─ actual ─► names and values of the version it is typed into
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from schema.bookkeeping import Bookkeeping, read
from schema.dialects.base import Connection, Dialect
from schema.install import Keeper, install
from schema.past import Column
from schema.registry import Schema
from sync.change import Edit, Insert, Op, Update
from tests.simulation import oracle
from tests.simulation.actors import Typist
from tests.simulation.disk import File
from tests.simulation.later import later_schema
from tests.simulation.oracle import Row, Rows
from tests.simulation.schema import simulated_schema

FIRST, NEWEST = 1, 2
NEW_TABLES = ("call",)
_CHANGED = "client"
_NEW, _DROPPED, _HALVES = "email", "claim", "high"
_NAMES = {"memo": "remarks"}
_PLAIN = {name: plain for plain, name in _NAMES.items()}
CELLS = (*simulated_schema().by_name[_CHANGED].names, _NEW)


def declared(version: int) -> Schema:
    """Return the declaration as a program of a version has it."""
    return simulated_schema() if version == FIRST else later_schema()


@cache
def plain_schema() -> Schema:
    """Return tables with all columns that any version has, as the oracle calls them."""
    tables = [
        replace(table, columns=(*table.columns, Column(_NEW, "text", True))) if table.name == _CHANGED else table
        for table in simulated_schema().tables
    ]
    return Schema((*tables, *(later_schema().by_name[name] for name in NEW_TABLES)))


def install_if_older(connection: Connection, dialect: Dialect, schema: Schema, own: Bookkeeping, keeper: Keeper | None = None) -> None:
    """Install where there is something to do: files of the simulator have all the tables of their version."""
    file: File | None = getattr(dialect, "file", None)  # what disk.File, or what takes its place, is opened by
    if file is not None:
        if file.version != schema.version:
            install(connection, dialect, schema, own, keeper)
            file.version = schema.version
        return
    written = read(connection, dialect)
    if written is not None and written.schema != schema.version:
        install(connection, dialect, schema, own, keeper)


# --- what a file has, in plain words -------------------------------------------------------------------------------------


def plain_rows(connection: Any, version: int, *, centre: bool = False) -> Rows:
    """Return every row of a database in its cells' plain names; cells that this file has not are not there."""
    schema = declared(version)
    rows = oracle.read(connection, schema.centre if centre else schema)
    if version > FIRST:
        rows[_CHANGED] = {key: plain_values(_CHANGED, version, row) for key, row in rows[_CHANGED].items()}
    return rows


def complete(rows: Rows) -> Rows:
    """Return plain rows with all cells: those that are not there are empty."""
    empty = dict.fromkeys(CELLS)
    return {**rows, _CHANGED: {key: {**empty, **row} for key, row in rows[_CHANGED].items()}}


def with_hidden(rows: Rows, known: Rows, version: int) -> Rows:
    """Return plain rows of a version with what it does not know of them, as other, complete rows have it."""
    found = complete(rows)
    gone = _NEW if version == FIRST else _DROPPED
    for key, row in found[_CHANGED].items():
        row[gone] = known[_CHANGED].get(key, {}).get(gone)
    if version == FIRST:
        found |= {name: known[name] for name in NEW_TABLES}
    return found


def without(rows: Rows, keys: Iterable[tuple[str, oracle.Key]]) -> Rows:
    """Return rows without some."""
    gone = set(keys)
    return {table: {key: row for key, row in found.items() if (table, key) not in gone} for table, found in rows.items()}


def plain_values(table: str, version: int, values: Mapping[str, Any]) -> Row:
    """Return named values of a row as the oracle names them, in its order."""
    if table != _CHANGED or version == FIRST:
        return dict(values)
    given = {plain_name(table, name): value for name, value in values.items()}
    return {name: _plain(name, given[name]) for name in CELLS if name in given}


def plain_name(table: str, name: str) -> str:
    """Return what the oracle calls a column or cell."""
    return _PLAIN.get(name, name) if table == _CHANGED else name


def _plain(name: str, value: Any) -> Any:
    return int(value * 2) if name == _HALVES and type(value) is float else value


def plain_side(table: str, version: int, names: Sequence[str], side: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """Return one side of a conflict, a value for each name; of a whole row too."""
    if side is None or table != _CHANGED or version == FIRST or len(side) != len(names):
        return None if side is None else tuple(side)
    return tuple(_plain(plain_name(table, name), value) for name, value in zip(names, side, strict=True))


def plain_conflict(conflict: dict[str, Any], version: int) -> dict[str, Any]:
    """Return what a node tells of a conflict in plain names and values."""
    table, column = conflict["table"], conflict["column"]
    if version == FIRST or table != _CHANGED or not isinstance(column, str):
        return conflict
    name = plain_name(table, column)
    return {**conflict, "column": name, **{side: _plain(name, conflict[side]) for side in ("base", "mine", "theirs")}}


def plain_op(op: Op, version: int) -> Op:
    """Return a sealed change in plain names and values."""
    if op.table != _CHANGED or version == FIRST:
        return op
    match op:
        case Insert():
            return replace(op, values=plain_values(op.table, version, op.values))
        case Update():
            return replace(op, edits=[_plain_edit(edit) for edit in op.edits])
    return op


def _plain_edit(edit: Edit) -> Edit:
    names = tuple(plain_name(_CHANGED, name) for name in edit.columns)
    old, new = (tuple(_plain(name, value) for name, value in zip(names, side, strict=True)) for side in (edit.old, edit.new))
    return replace(edit, cell=plain_name(_CHANGED, edit.cell), columns=names, old=old, new=new)


# --- what a version shows ------------------------------------------------------------------------------------------------


def knows(version: int, table: str, cell: str) -> bool:
    """Tell whether nodes of a version have a cell, by its plain name."""
    if table in NEW_TABLES:
        return version > FIRST
    return table != _CHANGED or cell != (_NEW if version == FIRST else _DROPPED)


def knows_any(version: int, table: str, columns: Sequence[str]) -> bool:
    """Tell whether nodes of a version have any of a conflict's columns, however they are called; of whole rows all have some."""
    return not columns or any(knows(version, table, plain_name(table, name)) for name in columns)


def is_all_dropped(ops: Sequence[Op], version: int) -> bool:
    """Tell whether changes touch only cells that nodes of a version have no more. If such work is refused after the upgrade, it is in
    the centre's journal and not in the node's list of refused work: docs/RELIABILITY.md, "What is open".
    """
    return bool(ops) and all(isinstance(op, Update) and all(edit.cell == _DROPPED for edit in op.edits) for op in ops) and version > FIRST


def shown(rows: Rows, version: int) -> Rows:
    """Return plain rows as a node of a version shows them."""
    found = {name: {} if version == FIRST and name in NEW_TABLES else table for name, table in rows.items()}
    gone = _NEW if version == FIRST else _DROPPED
    found[_CHANGED] = {key: {name: value for name, value in row.items() if name != gone} for key, row in rows[_CHANGED].items()}
    return found


def as_told(rows: Rows, version: int) -> Rows:
    """Return plain rows as a node was told them when it had a version: what is newer is empty until it has asked for it."""
    if version > FIRST:
        return rows
    found = {name: {} if name in NEW_TABLES else table for name, table in rows.items()}
    found[_CHANGED] = {key: {**row, _NEW: None} for key, row in rows[_CHANGED].items()}
    return found


# --- what people type ----------------------------------------------------------------------------------------------------


def actual_value(table: str, version: int, name: str, value: Any) -> Any:
    """Return a plain value as a version has it."""
    return value / 2 if (table, name) == (_CHANGED, _HALVES) and version > FIRST and isinstance(value, int) else value


def actual_values(table: str, version: int, values: Mapping[str, Any], *, centre: bool = False) -> dict[str, Any]:
    """Return named plain values as a version has them, without what it does not know; the centre keeps what was dropped."""
    known = {name: value for name, value in values.items() if knows(version, table, name) or (centre and name == _DROPPED)}
    if table != _CHANGED or version == FIRST:
        return known
    return {_NAMES.get(name, name): actual_value(table, version, name, value) for name, value in known.items()}


class SkewedTypist(Typist):
    """Types into a database of a version: what that does not know is left unsaid, what is new there is typed too."""

    version = FIRST
    centre = False  # where columns that were dropped still are

    def insert(self, table: str, values: dict[str, Any], verb: str = "INSERT") -> None:
        super().insert(table, actual_values(table, self.version, values, centre=self.centre), verb)

    def _set(self, table: str, key: oracle.Key, changed: dict[str, Any]) -> None:
        super()._set(table, key, actual_values(table, self.version, changed, centre=self.centre))

    def _client(self) -> dict[str, Any]:
        return {**super()._client(), _NEW: self.fresh.text() if self.version > FIRST else None}

    def _ways(self) -> list[Any]:
        more = [
            (self.edit_email, 8, _CHANGED),
            (self.new_call, 2, "call"),
            (self.edit_call, 2, "call"),
            (self.delete_call, 0.5, "call"),
        ]
        return [*super()._ways(), *(more if self.version > FIRST else [])]

    def edit_email(self) -> None:
        if (key := self.pick(_CHANGED)) is not None:
            self._set(_CHANGED, key, {_NEW: self.fresh.text()})

    def new_call(self) -> None:
        if (parent := self.other(_CHANGED)) is not None:
            self.insert("call", {"id": f"T{self.fresh.number()}", "client_id": parent, "text": self.fresh.text()})

    def edit_call(self) -> None:
        if (key := self.pick("call")) is not None:
            self._set("call", key, {"text": self.fresh.text()})

    def delete_call(self) -> None:
        if (key := self.pick("call")) is not None:
            self.say("DELETE FROM call WHERE id = ?", key[0])


def names_of(version: int, table: str, columns: Iterable[str]) -> list[str]:
    """Return the names of a conflict's values at the centre: its columns, or those of the whole row."""
    return list(columns) or list(declared(version).centre.by_name[table].names)
