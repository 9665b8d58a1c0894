"""Columns: from the lines that share an id to one row's values.

A row is folded line by line, so that a million lines of one product need no memory. The folds: vocabulary.Column.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schema.importer.amounts import INTEGER_MAX
from schema.importer.errors import ValueRejected
from schema.importer.fields import filler
from schema.importer.spool import FIRST_FIELD, Row
from schema.importer.vocabulary import Column, Scalar, Template

Read = Callable[[Row], Any]
Fold = Callable[[Any, Row], Any]  # state (None at first), line → state

_PICKS: dict[str, Callable[[Any, Any], Any]] = {"least": min, "greatest": max, "sum": operator.add}


def fields_used(columns: Sequence[Column], *others: str | None) -> tuple[str, ...]:
    """Return the fields that the columns need, and the others named, each once."""
    used: dict[str, None] = {}
    for column in columns:
        for name in column.value.fields if isinstance(column.value, Template) else ():
            used[name] = None
        if column.by:
            used[column.by] = None
    return tuple(used | dict.fromkeys(name for name in others if name))


def places(fields: Sequence[str]) -> dict[str, int]:
    """Return where these fields stand in a spool row that was asked for them."""
    return {name: FIRST_FIELD + place for place, name in enumerate(fields)}


def reader(column: Column, at: Mapping[str, int]) -> Read:
    """Return the function that gives the column's value from one line."""
    if isinstance(column.value, Template):
        return filler(column.value, at)
    constant = column.value
    return lambda row: constant


def folder(column: Column, at: Mapping[str, int]) -> Fold:
    """Return the function that folds one line into the column's state. `finished` gives the value in the end."""
    read = reader(column, at)
    if column.by:
        return _first_by(read, at[column.by])
    if column.fold in ("first", "total"):  # a total comes from the parts, later
        return lambda state, row: read(row) if state is None else state
    pick = _PICKS[column.fold]

    def fold(state: Any, row: Row) -> Any:
        value = read(row)
        if value is None or state is None:
            return state if value is None else value
        return pick(state, value)

    return fold


def settles(column: Column) -> bool:
    """Return whether a state that is not null stays; then no further line need be folded in."""
    return column.fold == "first" and column.by is None


def _first_by(read: Read, by: int) -> Fold:
    """The value of the line with the least `by`; the state is (by, value)."""

    def fold(state: tuple[Any, Any] | None, row: Row) -> tuple[Any, Any] | None:
        rank = row[by]
        if state is not None and (rank is None or (state[0] is not None and state[0] <= rank)):
            return state
        value = read(row)
        return state if value is None else (rank, value)

    return fold


def finished(column: Column, state: Any) -> Scalar:
    """Return the column's value from its last state. Raises ValueRejected if it is out of range."""
    value: Scalar = state[1] if column.by and state is not None else state
    if isinstance(value, int) and not -INTEGER_MAX <= value <= INTEGER_MAX:
        raise ValueRejected(f"{column.name}: number out of range")
    return value
