"""Rows as PostgreSQL's COPY reads them (text format), made a column at a time: a third of what psycopg takes value by value.

What is not whole numbers or plain texts is left to psycopg, which knows how to escape it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

ROWS: Final = 1_000
"""Rows that are sent at once, so that the server works on some while the next are made."""

_NULL: Final = "\\N"
_NOT_PLAIN: Final = ("\\", "\t", "\n", "\r", "\0", "\uffff")
"""What COPY has its own meaning for, and what the engine's texts are kept otherwise for (schema/dialects/pg_connection.py)."""


def lines(columns: Sequence[Sequence[object]]) -> Iterator[bytes] | None:
    """Return the rows, given by their columns, some at a time; None where a column holds anything but whole numbers or plain texts.

    Raises UnicodeEncodeError, when they are asked for, for a text that is not UTF-8.
    """
    made = list[Sequence[str]]()
    for column in columns:
        texts = _texts(column)
        if texts is None:
            return None
        made.append(texts)
    return _some_at_a_time(list(map("\t".join, zip(*made, strict=True))))


def _some_at_a_time(rows: Sequence[str]) -> Iterator[bytes]:
    for low in range(0, len(rows), ROWS):
        yield ("\n".join(rows[low : low + ROWS]) + "\n").encode()


def _texts(column: Sequence[object]) -> Sequence[str] | None:
    """Return a column's values as COPY spells them; None where that is not so plain."""
    kinds = set(map(type, column))
    has_nulls = type(None) in kinds
    kinds.discard(type(None))
    if kinds <= {int}:
        return [_NULL if value is None else str(value) for value in column] if has_nulls else list(map(str, column))
    if kinds != {str}:
        return None
    texts: list[str] = [value for value in column if value is not None] if has_nulls else column  # type: ignore[assignment,misc]
    every = "".join(texts)
    if any(char in every for char in _NOT_PLAIN):
        return None
    return [_NULL if value is None else value for value in column] if has_nulls else texts  # type: ignore[misc]
