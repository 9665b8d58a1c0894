"""What is said of a conflict, in the columns of another version of the declaration (schema/lens.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from schema.lens import Lens, TableLens
from sync.messages import ConflictNotice, Values
from sync.rows import tuple_of, values_of

Side = Callable[[Sequence[Any]], Sequence[Any]]


def up_notice(lens: Lens, notice: ConflictNotice) -> ConflictNotice | None:
    """Return what an older version says as the newer one has it; None if that has nothing of the cell any more."""
    table = lens.tables.get(notice.table)
    if table is None or table.is_plain:
        return notice
    if not notice.columns:
        return _with(notice, (), lambda values: table.up_row(values) if len(values) == len(table.older.names) else values)
    names = tuple(name for name in table.newer.names if (old := table.by_newer[name].older) is not None and old.name in notice.columns)
    return _with(notice, names, lambda values: _up(table, notice.columns, names, values)) if names else None


def _up(table: TableLens, columns: Sequence[str], names: Sequence[str], values: Sequence[Any]) -> Sequence[Any]:
    found = table.up_values(dict(zip(columns, values, strict=True)))
    return tuple(found[name] for name in names)


def down_notice(lens: Lens, notice: ConflictNotice) -> ConflictNotice | None:
    """Return what the newer version says as an older one has it; None if that does not know the table or any of the columns."""
    table = lens.tables.get(notice.table)
    if table is None:
        return None
    if table.is_plain:
        return notice
    if not notice.columns:
        return _with(notice, (), lambda values: table.down_row(values) if len(values) == len(table.newer.names) else values)
    known = table.down_columns(notice.columns)
    names = tuple(column.older.name for _, column in known if column.older is not None)
    return _with(notice, names, lambda values: tuple(column.down(values[place]) for place, column in known)) if names else None


def _with(notice: ConflictNotice, columns: tuple[str, ...], side: Side) -> ConflictNotice:
    def turned(values: Values | None) -> Values | None:
        given = tuple_of(values)
        return None if given is None else values_of(side(given))

    sides = {"base": turned(notice.base), "mine": turned(notice.mine), "theirs": turned(notice.theirs)}
    return msgspec.structs.replace(notice, columns=columns, **sides)
