"""Rows as encoded columns and back: what segments and pages hold of a table's rows, bounded.

    rows ─► columns_of ─► columns (sync/columns.py) ══message══► rows_of ─► values, column by column

Spec: PROTOCOL.md §3, §4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import NoneType
from typing import Any

from sync.change import Key
from sync.columns import UUID_CHARS, Blobs, Column, Dictionary, MalformedColumn, Mixed, Nullable, Texts, Uuids
from sync.decoding import decode_column
from sync.encoding import encode_column
from sync.errors import MalformedBlock, TooLarge
from sync.limits import MESSAGE_BYTES_MAX, TABLES_MAX, VALUE_BYTES_MAX
from sync.messages import Page, Removals, Rows, SealedRows, Values
from sync.values import RawText, Value, text_value

UTF8_BYTES_MAX = 4
"""Bytes of one character: sizes are counted in characters first, exactly only where that leaves a doubt."""


def columns_of(rows: Sequence[Sequence[Any]], width: int) -> tuple[Column, ...]:
    """Return rows as `width` encoded columns; values beyond `width` are left out."""
    if not rows:
        return tuple(encode_column([]) for _ in range(width))
    columns = zip(*rows, strict=True)
    return tuple(_encoded(column) for column, _ in zip(columns, range(width), strict=False))


def _encoded(values: Sequence[Any]) -> Column:
    """Return the values as a column. That a text is not clean is left to the encoder to find: it looks anyway."""
    try:
        return encode_column(values)
    except ValueError:
        return encode_column(mark_raw(values))


def mark_raw(values: Sequence[Any]) -> Sequence[Value]:
    """Return the values with every text that is not clean (NUL inside, bytes that are not UTF-8) as RawText."""
    joined = "".join([value for value in values if type(value) is str])
    if "\0" not in joined and (joined.isascii() or _encodes(joined)):
        return values
    return [_raw(value) if type(value) is str else value for value in values]


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _raw(text: str) -> Value:
    return text_value(text.encode("utf-8", "surrogateescape"))


def values_of(values: Sequence[Any] | None) -> Values | None:
    """Return a few values as they travel; None stays None."""
    return None if values is None else Values(len(values), _encoded(values))


def tuple_of(values: Values | None) -> Key | None:
    """Return the values that travelled; a central program's may be as long as a message. Raises MalformedBlock, TooLarge."""
    if values is None:
        return None
    if values.count > TABLES_MAX:
        raise MalformedBlock("more values than a row has columns")
    with in_one_tree():
        return tuple(bounded(values.column, values.count, MESSAGE_BYTES_MAX))


def rows_of(columns: Sequence[Column], count: int, width: int) -> list[list[Value]]:
    """Return the values of a block of a page, column by column; one that a central program wrote may be as long as a message.

    Raises MalformedBlock, TooLarge; `count` is bounded by the caller.
    """
    if len(columns) != width:
        raise MalformedBlock("a block names more or fewer columns than it holds")
    with in_one_tree():
        return [bounded(column, count, MESSAGE_BYTES_MAX) for column in columns]


def entries_of(page: Page) -> int:
    """Return how many rows and keys a page says it holds: what it may cost to read it. No more than `PAGE_ROWS_MAX` are taken."""
    blocks: list[Rows | SealedRows | Removals] = [*page.rows, *page.sealed, *page.removals, *page.deaths]
    return sum(block.count for block in blocks)


@contextmanager
def in_one_tree() -> Iterator[None]:
    """Turn a malformed column into the error of our tree that has its code."""
    try:
        yield
    except MalformedColumn as error:
        raise MalformedBlock(str(error)) from error


def bounded(column: Column, count: int, bytes_max: int = VALUE_BYTES_MAX) -> list[Value]:
    """Return a column's values. Raises TooLarge for one that is too long, and for a column that names long ones many times."""
    values = decode_column(column, count)
    longest = longest_of(column) * UTF8_BYTES_MAX
    if longest > bytes_max or longest * count > MESSAGE_BYTES_MAX:
        sizes = list(map(length_of, values))
        if max(sizes) > bytes_max or sum(sizes) > MESSAGE_BYTES_MAX:
            raise TooLarge(f"a value is longer than {bytes_max} bytes, or a column of them than {MESSAGE_BYTES_MAX}")
    return values


def longest_of(column: Column) -> int:
    """Return the characters or bytes of the longest value, from what the column holds: a tenth of the time all its rows take."""
    if isinstance(column, Nullable):
        column = column.rest
    if isinstance(column, Dictionary):
        column = column.values
    match column:
        case Texts():
            return max(map(len, column.texts), default=0)
        case Blobs():
            return max(map(len, column.blobs), default=0)
        case Mixed():
            return max(map(len, [*column.texts, *column.blobs, *column.raws]), default=0)
        case Uuids():
            return UUID_CHARS
    return 0


_SIZED = frozenset([str, bytes, RawText])
_TEXTS = frozenset([str, NoneType])


def weight_of(rows: Sequence[Sequence[Any]]) -> int:
    """Return how many bytes the texts and blobs of rows take."""
    return sum(map(_weight_of_column, zip(*rows, strict=True)))


def _weight_of_column(values: Sequence[Any]) -> int:
    kinds = set(map(type, values))
    if kinds.isdisjoint(_SIZED):
        return 0
    if kinds <= _TEXTS:
        return length_of("".join(filter(None, values)))  # ten times as fast as one by one
    return sum(map(length_of, values))


def weight_of_column(column: Column, count: int) -> int:
    """Return how many bytes the texts and blobs take that a column of `count` rows stands for: a bound from above for a dictionary's."""
    if isinstance(column, Nullable):
        column = column.rest
    match column:
        case Dictionary():
            return count * max(map(length_of, decode_column(column.values, column.size)), default=0)
        case Texts():
            return length_of("".join(column.texts))
        case Blobs():
            return sum(map(len, column.blobs))
        case Mixed():
            return sum(map(length_of, [*column.texts, *column.blobs, *column.raws]))
        case Uuids():
            return count * UUID_CHARS
    return 0


def length_of(value: Any) -> int:
    """Return how many bytes a text (as UTF-8) or blob takes; 0 for a number."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, RawText):
        return len(value.raw)
    return len(value) if isinstance(value, bytes) else 0
