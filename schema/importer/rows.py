"""Rows: the rows of one table that are no documents, each a unit of its own."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from schema.importer.columns import fields_used, finished, folder, places, settles
from schema.importer.errors import ValueRejected
from schema.importer.present import Shape, Values
from schema.importer.spool import FILE, LINE, Row, Spool
from schema.importer.vocabulary import Rows, Scalar, Template
from schema.importer.writer import Unit

Tick = Callable[[int], None]


def shapes(rows: Rows) -> list[Shape]:
    """Return the tables and columns that are written."""
    if rows.role is None:
        return list(dict.fromkeys(Shape(rows.table, tuple(each)) for each in rows.constants))
    return [Shape(rows.table, tuple(column.name for column in rows.columns))]


def constant_units(rows: Rows, source: str) -> Iterator[Unit]:
    """Yield the rows that stand in the mapping itself."""
    for each in rows.constants:
        yield Unit(f"{rows.table} {each['id']}", source, 0, ((Shape(rows.table, tuple(each)), [tuple(each.values())]),))


def file_rows(rows: Rows, role: str, spool: Spool, tick: Tick) -> Iterator[tuple[int, int, Values | ValueRejected]]:
    """Yield (file, line, values) of every distinct id, folded from its lines; or why there is no such row."""
    identity = rows.columns[0].value
    keys = identity.fields if isinstance(identity, Template) else ()
    fields = fields_used(rows.columns, *keys)
    at = places(fields)
    folds = [(place, folder(column, at)) for place, column in enumerate(rows.columns)]
    for _, lines in groupby(spool.sorted(role, keys, fields, rows.when), key=itemgetter(*(at[key] for key in keys))):
        states: list[Any] = [None] * len(folds)
        first: Row | None = None
        pending, count = folds, 0
        for line in lines:
            first, count = first or line, count + 1
            if pending:
                for place, fold in pending:
                    states[place] = fold(states[place], line)
                pending = [each for each in pending if states[each[0]] is None or not settles(rows.columns[each[0]])]
        tick(count)
        if first is not None:
            yield first[FILE], first[LINE], _values(rows, states)


def _values(rows: Rows, states: Sequence[Any]) -> Values | ValueRejected:
    try:
        return tuple(finished(column, state) for column, state in zip(rows.columns, states, strict=True))
    except ValueRejected as error:
        return error


def branch_of(rows: Rows) -> Callable[[Values], Scalar]:
    """Return what gives a row's branch."""
    place = [column.name for column in rows.columns].index(rows.branch or "")
    return lambda values: values[place]
