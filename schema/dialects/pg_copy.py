"""Rows as PostgreSQL's COPY reads them (text format), made a column at a time: a third of what psycopg takes value by value.

What is not whole numbers or plain texts is left to psycopg, which knows how to escape it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

ROWS: Final = 1_000
"""Rows that are sent at once, so that the server works on some while the next are made."""

_NULL: Final = "\\N"
_NOT_PLAIN: Final = ("\\", "\t", "\n", "\r", "\0", "\uffff")
"""What COPY has its own meaning for, and what the engine's texts are kept otherwise for (schema/dialects/pg_connection.py)."""


def lines(columns: Sequence[Sequence[object]]) -> Iterator[bytes] | None:
    """Return the rows, given by their columns, some at a time; None where a column holds anything but whole numbers or plain texts.

    Raises, when they are asked for, UnicodeEncodeError for a text that is not UTF-8, ValueError for columns of different lengths.
    """
    return _some_at_a_time(columns) if all(map(_is_plain, columns)) else None


def _some_at_a_time(columns: Sequence[Sequence[object]]) -> Iterator[bytes]:
    for low in range(0, max(map(len, columns)), ROWS):
        rows = map("\t".join, zip(*(_texts(column[low : low + ROWS]) for column in columns), strict=True))
        yield ("\n".join(rows) + "\n").encode()


def _is_plain(column: Sequence[object]) -> bool:
    """Tell whether a column's values are all of one of these kinds, or none."""
    kinds = set(map(type, column)) - {type(None)}
    if kinds <= {int}:
        return True
    if kinds != {str}:
        return False
    every = "".join(filter(None, column))  # type: ignore[arg-type]
    return not any(char in every for char in _NOT_PLAIN)


def _texts(values: Sequence[object]) -> Iterable[str]:
    """Return values as COPY spells them."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return values  # type: ignore[return-value]
    return map(str, values) if kinds == {int} else [_NULL if value is None else str(value) for value in values]
