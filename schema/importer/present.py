"""Present: what the database has of the rows that wait to be written, and whether it is the same; asked for many rows at once.

SQLite compares, so that a value counts as the column would keep it (a number in a text column), and text of other programs that is
not UTF-8 does no harm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from schema.importer.target import Connection, ImportTarget
from schema.importer.vocabulary import Scalar

IDS_PER_QUERY = 500
VALUES_PER_QUERY = 4_000
COLUMNS_SHOWN = 3
_SHOWN_CHARS = 40

Values = tuple[Scalar, ...]  # one row, its id first


@dataclass(frozen=True, slots=True)
class Shape:
    """A table and the columns that are written, id first."""

    table: str
    columns: tuple[str, ...]

    def insert(self) -> str:
        """Return the statement that inserts one row."""
        return _insert(self.table, self.columns)


@lru_cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def present(target: ImportTarget, shape: Shape, rows: Sequence[Values], *, expected: bool = False) -> dict[Scalar, bool]:
    """Return which of the rows are there, by id, and whether with the same values in all columns that would be written.

    Where they are not `expected` to be, their ids are asked for first: that is cheaper than to compare with nothing.
    """
    connection = target.connection
    if target.is_typed:
        kept = _kept(connection, shape, [row[0] for row in rows])
        return {row[0]: not any(_different(kept[row[0]], row)) for row in rows if row[0] in kept}
    there = None if expected else _ids(connection, shape.table, [row[0] for row in rows])
    found = rows if there is None else [row for row in rows if row[0] in there]
    states: dict[Scalar, bool] = {}
    size = max(1, VALUES_PER_QUERY // len(shape.columns))
    for start in range(0, len(found), size):
        part = found[start : start + size]
        sql = _comparison(shape.table, shape.columns, len(part))
        states.update((identity, bool(same)) for identity, same in connection.execute(sql, [value for row in part for value in row]))
    return states


def _ids(connection: Connection, table: str, ids: Sequence[Scalar]) -> set[Scalar]:
    known: set[Scalar] = set()
    for start in range(0, len(ids), IDS_PER_QUERY):
        part = ids[start : start + IDS_PER_QUERY]
        sql = f"SELECT id FROM {table} WHERE id IN ({', '.join('?' * len(part))})"
        known.update(id for (id,) in connection.execute(sql, part))
    return known


def _kept(connection: Connection, shape: Shape, ids: Sequence[Scalar]) -> dict[Scalar, Values]:
    """Return the rows that are there, by id."""
    found: dict[Scalar, Values] = {}
    for start in range(0, len(ids), IDS_PER_QUERY):
        part = ids[start : start + IDS_PER_QUERY]
        sql = f"SELECT {', '.join(shape.columns)} FROM {shape.table} WHERE id IN ({', '.join('?' * len(part))})"
        found.update((row[0], row) for row in connection.execute(sql, part))
    return found


def _different(kept: Values, given: Values) -> list[bool]:
    """Tell of each column whether what is kept in its type is another value than the given one is in that type."""
    return [here != (str(value) if type(here) is str and value is not None else value) for here, value in zip(kept, given, strict=True)]


@lru_cache
def _comparison(table: str, columns: tuple[str, ...], rows: int) -> str:
    given = ", ".join(f"v{place}" for place in range(len(columns)))
    same = " AND ".join(f"t.{name} IS v.v{place}" for place, name in enumerate(columns))
    values = ", ".join([f"({', '.join('?' * len(columns))})"] * rows)
    return f"WITH v ({given}) AS (VALUES {values}) SELECT v.v0, {same} FROM v CROSS JOIN {table} t WHERE t.id = v.v0"


def difference(target: ImportTarget, shape: Shape, row: Values) -> str:
    """Return in which columns a row that is there differs, for people: what is there and what was to be written; "" for in none."""
    names, given = shape.columns[1:], row[1:]
    if target.is_typed:
        kept = _kept(target.connection, shape, row[:1]).get(row[0])
        compared = [] if kept is None else [*zip(names, given, _different(kept, row)[1:], kept[1:], strict=True)]
    else:
        asked = ", ".join(f"NOT ({name} IS ?), CAST({name} AS BLOB)" for name in names)
        found = next(iter(target.connection.execute(f"SELECT {asked} FROM {shape.table} WHERE id = ?", [*given, row[0]])), ())
        compared = [*zip(names, given, found[::2], found[1::2], strict=False)]
    told = [f"{name} is {_shown(here)} here, {_shown(value)} in the file" for name, value, differs, here in compared if differs]
    more = len(told) - COLUMNS_SHOWN
    return "; ".join(told[:COLUMNS_SHOWN]) + (f"; and {more} columns more" if more > 0 else "")


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    text = bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray | memoryview) else str(value)
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")
