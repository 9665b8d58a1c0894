"""Lenses: rows, cells and sealed work of one version of the declaration, read as another version has them.

    an older node's segment ─ up ─► the centre's columns      the centre's rows ─ down ─► an older node's columns
    an older centre's page ─ up ─► a newer node's columns     (the side that is ahead knows both, so it translates)

A renamed column gets its other name, one whose type changed its values by the declared conversion, one that is new its
default. Nothing here can fail: a value that does not convert stays as it is. Spec: PROTOCOL.md §11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from schema.capture import same
from schema.declare import Cell, Table
from schema.past import Column, ColumnType, Retyped, as_of, conversions
from schema.registry import Schema
from sync.change import Delete, Edit, Insert, Op, Update
from sync.segment import InsertBlock, OpenSegment, UpdateBlock
from sync.values import is_clean

_PYTHON: dict[ColumnType, tuple[type, ...]] = {"text": (str,), "integer": (int,), "real": (float, int), "blob": (bytes,)}
_EMPTY: dict[ColumnType, Any] = {"text": "", "integer": 0, "real": 0.0, "blob": b""}
_INTEGER_BITS = 63

Convert = Callable[[Any], Any]


def up(changes: Sequence[Retyped], types: Sequence[ColumnType], value: Any) -> Any:
    """Return a value carried over changes of type, oldest first; as it was where it does not convert. `types`: after each."""
    found, before = value, _python_of(changes[0].type)
    for change, kind in zip(changes, types, strict=True):
        found = _converted(change.conversion.to_new, found, before, _PYTHON[kind])
        if found is None:
            return value
        before = _PYTHON[kind]
    return found


def _down(changes: Sequence[Retyped], types: Sequence[ColumnType], value: Any) -> Any:
    found = value
    for change, kind in zip(reversed(changes), reversed(types), strict=True):
        found = _converted(change.conversion.to_old, found, _PYTHON[kind], _python_of(change.type))
        if found is None:
            return value
    return found


def _python_of(kind: type) -> tuple[type, ...]:
    return (float, int) if kind is float else (kind,)


def _converted(convert: Convert, value: Any, before: tuple[type, ...], after: tuple[type, ...]) -> Any:
    """Return the value converted, or None if it does not convert: then it stays as it is."""
    if type(value) not in before:
        return None
    try:
        found = convert(value)
    except (ValueError, TypeError, ArithmeticError):
        return None
    return found if type(found) in after and _fits(found) else None


def _fits(value: Any) -> bool:
    if isinstance(value, int):
        return -(1 << _INTEGER_BITS) <= value < 1 << _INTEGER_BITS
    return is_clean(value) if isinstance(value, str) else bool(value == value)


@dataclass(frozen=True, slots=True)
class ColumnLens:
    """One column in both versions. None: it is not there; `changes` are those of its type, `types` its type after each."""

    older: Column | None
    newer: Column | None
    changes: tuple[Retyped, ...]
    types: tuple[ColumnType, ...]

    @property
    def must_be_filled(self) -> bool:
        """Tell whether the older version must have a value where the newer one may have none."""
        return self.older is not None and not self.older.nullable and (self.newer is None or self.newer.nullable)

    def up(self, value: Any) -> Any:
        """Return an older value as the newer version has it."""
        return up(self.changes, self.types, value) if self.changes and value is not None else value

    def down(self, value: Any) -> Any:
        """Return a newer value as the older version has it: one it must have is there, whatever it is."""
        if value is None and self.older is not None and not self.older.nullable:
            return _EMPTY[self.older.type] if self.older.default is None else self.older.default
        return _down(self.changes, self.types, value) if self.changes and value is not None else value


@dataclass(frozen=True)
class TableLens:
    """One table in both versions."""

    older: Table
    newer: Table
    columns: tuple[ColumnLens, ...]  # of either version, in declared order

    @cached_property
    def is_plain(self) -> bool:
        """Tell whether rows are the same in both versions."""
        return self.older.columns == self.newer.columns and not any(column.changes for column in self.columns)

    @cached_property
    def complete(self) -> tuple[str, ...]:
        """Return what a block that names all older columns, in their order, names in the newer version."""
        return tuple(column.newer.name for column in self.columns if column.older is not None and column.newer is not None)

    @cached_property
    def by_older(self) -> dict[str, ColumnLens]:
        """Return columns by their older name."""
        return {column.older.name: column for column in self.columns if column.older is not None}

    @cached_property
    def by_newer(self) -> dict[str, ColumnLens]:
        """Return columns by their newer name."""
        return {column.newer.name: column for column in self.columns if column.newer is not None}

    @cached_property
    def has_more(self) -> bool:
        """Tell whether the newer version shows values the older one did not: new columns, or values converted."""
        return any(column.newer is not None and (column.older is None or column.changes) for column in self.columns)

    @cached_property
    def comparable(self) -> tuple[ColumnLens, ...]:
        """Return the columns both have with the same values: what `verify` can compare, key first."""
        both = (column for column in self.columns if column.older is not None and column.newer is not None)
        return tuple(column for column in both if not column.changes and not column.must_be_filled)

    # --- rows --------------------------------------------------------------------------------------------------------

    def up_row(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """Return a whole row of the older version as the newer one has it."""
        return tuple(self.up_values(dict(zip(self.older.names, row, strict=True)), whole=True).values())

    def up_values(self, values: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
        """Return named values of a row under their newer names, in declared order; with `whole`, new columns by default."""
        found: dict[str, Any] = {}
        for name in self.newer.names:
            column = self.by_newer[name]
            if column.older is not None and column.older.name in values:
                found[name] = column.up(values[column.older.name])
            elif whole and column.newer is not None:
                found[name] = column.newer.default
        return found

    def over(self, row: Sequence[Any], standing: Sequence[Any]) -> tuple[Any, ...]:
        """Return a whole row of the older version as the newer one has it, over the row that stands there: what the older one does not
        know stays as it stands, and so does what it has as it would be shown what stands (an empty value, a rounded one).
        """
        given, found = dict(zip(self.older.names, row, strict=True)), list[Any]()
        for name, value in zip(self.newer.names, standing, strict=True):
            column = self.by_newer[name]
            is_shown = column.older is None or same(column.down(value), given[column.older.name])
            found.append(value if is_shown or column.older is None else column.up(given[column.older.name]))
        return tuple(found)

    def unrounded(self, edit: Edit, standing: Sequence[Any]) -> Edit:
        """Return an edit of a whole group by the older version, in newer columns, with what stands in the columns that its writer left
        as they were and had been shown otherwise than they stand.
        """
        kept = [
            same(old, new) and column.older is not None and same(column.up(column.down(stands)), new)
            for column, old, new, stands in zip(map(self.by_newer.__getitem__, edit.columns), edit.old, edit.new, standing, strict=True)
        ]
        old, new = (tuple(s if k else v for k, v, s in zip(kept, side, standing, strict=True)) for side in (edit.old, edit.new))
        return replace(edit, old=old, new=new) if any(kept) else edit

    def down_rows(self, columns: Sequence[Sequence[Any]], width: int) -> list[Sequence[Any]]:
        """Return rows of the newer version, given column by column, as the older one has them. `width`: of them, rows."""
        position = self.newer.position
        found: list[Sequence[Any]] = []
        for name in self.older.names:
            column = self.by_older[name]
            if column.newer is None:
                found.append([column.down(None)] * width)
                continue
            values = columns[position[column.newer.name]]
            found.append([column.down(value) for value in values] if column.changes or column.must_be_filled else values)
        return found

    def down_row(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """Return a whole row of the newer version as the older one has it."""
        return tuple(column[0] for column in self.down_rows([[value] for value in row], 1))

    # --- changes -----------------------------------------------------------------------------------------------------

    def up_op(self, op: Op) -> Op | None:
        """Return a change of the older version as the newer one has it; None if it touches nothing there any more."""
        match op:
            case Delete():
                return op
            case Insert():
                return replace(op, values=self.up_values(op.values))
            case Update():
                edits = [new for edit in op.edits for new in self.up_edit(edit)]
                return replace(op, edits=edits) if edits else None

    def up_edit(self, edit: Edit) -> list[Edit]:
        """Return a changed cell as the newer version's cells. One may lack columns that the older version did not know."""
        found: list[Edit] = []
        for cell, names in self.cells_of(edit.columns):
            old, new = (self._side(cell, names, edit.columns, side) for side in (edit.old, edit.new))
            found.append(replace(edit, cell=cell.name, columns=names, old=old, new=new))
        return found

    def _side(self, cell: Cell, names: tuple[str, ...], columns: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
        given = self.up_values(dict(zip(columns, values, strict=True)))
        return tuple(given[name] for name in names)

    def cells_of(self, columns: Sequence[str]) -> list[tuple[Cell, tuple[str, ...]]]:
        """Return the newer cells that hold any of these older columns, each with those of its columns."""
        found = {self.by_older[name].newer for name in columns if name in self.by_older}
        names = {column.name for column in found if column is not None}
        return [(cell, tuple(name for name in cell.columns if name in names)) for cell in self.newer.cells if names & set(cell.columns)]

    def up_inserts(self, block: InsertBlock) -> InsertBlock:
        """Return new rows of the older version as the newer one has them, column by column."""
        names, values = [], []
        for name, column in zip(block.columns, block.values, strict=True):
            lens = self.by_older.get(name)
            if lens is None or lens.newer is None:
                names.append(name)  # no column of either version, or one that is gone: whoever takes the rows says so
                values.append(column)
                continue
            names.append(lens.newer.name)
            values.append([lens.up(value) for value in column] if lens.changes else column)
        return replace(block, columns=tuple(names), values=values)

    def up_updates(self, block: UpdateBlock) -> list[UpdateBlock]:
        """Return changed cells of the older version as the newer one has them; as they are where they name other columns."""
        cell = self.older.cell_named.get(block.cell)
        if cell is None or cell.columns != block.columns:
            return [block]
        return [
            replace(
                block,
                cell=cell.name,
                columns=names,
                old=[self._side(cell, names, block.columns, values) for values in block.old],
                new=[self._side(cell, names, block.columns, values) for values in block.new],
            )
            for cell, names in self.cells_of(block.columns)
        ]

    # --- conflicts ---------------------------------------------------------------------------------------------------

    def down_columns(self, columns: Sequence[str]) -> tuple[tuple[int, ColumnLens], ...]:
        """Return those of some newer columns that the older version has, each with its place among them."""
        found = [(place, self.by_newer.get(name)) for place, name in enumerate(columns)]
        return tuple((place, column) for place, column in found if column is not None and column.older is not None)


class Lens:
    """Two versions of one declaration. What a table of the newer version was in the older one, if it was there."""

    def __init__(self, older: Schema, newer: Schema) -> None:
        self.older, self.newer = older, newer
        self.tables: dict[str, TableLens] = {}
        for table in newer.every or newer.tables:
            then, now = older.by_name.get(table.name), newer.by_name.get(table.name)
            if then is not None and now is not None:
                self.tables[table.name] = _table_lens(table, older, newer, then, now)

    @cached_property
    def is_plain(self) -> bool:
        """Tell whether all rows of tables that both have are the same."""
        return all(table.is_plain for table in self.tables.values())

    @cached_property
    def richer(self) -> tuple[str, ...]:
        """Return the tables of which the newer version shows more: those it has alone, too."""
        return tuple(table.name for table in self.newer.tables if table.name not in self.tables or self.tables[table.name].has_more)

    @cached_property
    def _changed(self) -> frozenset[str]:
        return frozenset(name for name, table in self.tables.items() if not table.is_plain or table.older.cells != table.newer.cells)

    def up_segment(self, segment: OpenSegment) -> OpenSegment:
        """Return sealed work of the older version as the newer one has it."""
        changed = self._changed
        if changed.isdisjoint({block.table for block in segment.inserts} | {block.table for block in segment.updates}):
            return segment
        return replace(
            segment,
            inserts=[self.tables[block.table].up_inserts(block) if block.table in changed else block for block in segment.inserts],
            updates=[
                new
                for block in segment.updates
                for new in (self.tables[block.table].up_updates(block) if block.table in changed else [block])
            ],
        )


def lens_between(schema: Schema, version: int) -> Lens:
    """Return the lens from an older version of a declaration, as nodes have it, to this one."""
    known: Lens | None = schema.memo.get(version)
    if known is None:
        known = schema.memo[version] = Lens(schema.at(version), schema)
    return known


def _table_lens(table: Table, older: Schema, newer: Schema, then: Table, now: Table) -> TableLens:
    columns = []
    for column in table.columns:
        old = as_of(column, older.version, centre=older.is_centre)
        new = as_of(column, newer.version, centre=newer.is_centre)
        changes = conversions(column, older.version, newer.version)
        types = [_type_after(column, change) for change in changes]
        columns.append(ColumnLens(old, new, changes, tuple(types)))
    return TableLens(then, now, tuple(columns))


def _type_after(column: Column, change: Retyped) -> ColumnType:
    found = as_of(column, change.version, centre=True)
    assert found is not None
    return found.type


def complete(edit: Edit, cell: Cell, standing: Sequence[Any]) -> Edit:
    """Return an edit of a cell some of whose columns its writer did not know: those stay as they stand."""
    if edit.columns == cell.columns:
        return edit
    old, new = dict(zip(edit.columns, edit.old, strict=True)), dict(zip(edit.columns, edit.new, strict=True))
    rest = dict(zip(cell.columns, standing, strict=True))
    return replace(
        edit,
        columns=cell.columns,
        old=tuple(old.get(name, rest[name]) for name in cell.columns),
        new=tuple(new.get(name, rest[name]) for name in cell.columns),
    )


def known_cells(schema: Schema) -> frozenset[tuple[str, str, tuple[str, ...]]]:
    """Return (table, cell, columns) of every cell as any version knew it, in present names: what an edit may name."""
    known: frozenset[tuple[str, str, tuple[str, ...]]] | None = schema.memo.get("cells")
    if known is None:
        found = {(table.name, cell.name, cell.columns) for table in schema.tables for cell in table.cells}
        for version in range(1, schema.version + 1):
            for name, table in lens_between(schema, version).tables.items():
                for cell in table.older.cells:
                    found |= {(name, now.name, columns) for now, columns in table.cells_of(cell.columns)}
        known = schema.memo["cells"] = frozenset(found)
    return known


def lossless(retyped: Retyped, value: Any, kind: ColumnType) -> bool:
    """Tell whether a value of the type before comes back as it was."""
    there = up((retyped,), (kind,), value)
    return same(_down((retyped,), (kind,), there), value)
