"""Keys as one value: what bookkeeping tables, messages to people and `--json` call a row by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from schema.declare import Table
from schema.dialects.sqlite import quote
from sync.values import RawText

_RAW, _BLOB = "\0raw:", "\0blob:"
"""Begin the text of a key part that is text but not clean, or a blob; clean text has no NUL."""


def key_text(key: tuple[Any, ...]) -> str:
    """Return a key as one clean-enough text: the id itself, or the JSON array of a composite key."""
    if len(key) == 1 and type(key[0]) is str:  # nearly all
        return key[0]
    parts = [_coded(part) for part in key]
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    return json.dumps(parts, ensure_ascii=False)


def _coded(part: Any) -> object:
    if isinstance(part, RawText):
        return _RAW + part.raw.hex()
    return _BLOB + part.hex() if isinstance(part, bytes) else part


def key_parts(text: str, width: int) -> tuple[Any, ...]:
    """Return the key a text stands for."""
    if width == 1:
        return (_part(text),)
    return tuple(_part(part) for part in json.loads(text))


def _part(part: Any) -> Any:
    if isinstance(part, str) and part.startswith(_RAW):
        return RawText(bytes.fromhex(part[len(_RAW) :]))
    if isinstance(part, str) and part.startswith(_BLOB):
        return bytes.fromhex(part[len(_BLOB) :])
    return part


def key_json(key: tuple[Any, ...]) -> object:
    """Return a key for people and programs: the id, or the list of a composite key's parts."""
    parts = [_plain(part) for part in key]
    return parts[0] if len(parts) == 1 else parts


def column_json(columns: Sequence[str]) -> object:
    """Return a column's name, a group's list of columns, or None for a whole row."""
    return columns[0] if len(columns) == 1 else list(columns) or None


def cell_json(values: Sequence[Any] | None) -> object:
    """Return a cell for people and programs: a value, a group's list, None for a deletion; a blob as hexadecimal."""
    if values is None:
        return None
    plain = [value.hex() if isinstance(value, bytes) else _plain(value) for value in values]
    return plain[0] if len(plain) == 1 else plain


def _plain(value: Any) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    raw = value if isinstance(value, bytes) else value.raw
    return raw.decode("utf-8", "replace")


def where_key(table: Table, key: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the condition that finds a row by key, and its parameters; a raw text is compared by its bytes."""
    marks, given = bound(key)
    return " AND ".join(f"{quote(name)} = {mark}" for name, mark in zip(table.key, marks, strict=True)), given


def where_value(column: str, value: Any) -> tuple[str, list[Any]]:
    """Return the condition that finds rows by one column, and its parameters; a raw text is compared by its bytes."""
    (mark,), given = bound([value])
    return f"{quote(column)} = {mark}", given


def bound(values: Iterable[Any]) -> tuple[list[str], list[Any]]:
    """Return a mark for each value in SQL, and what is bound to it: raw text goes in as its bytes."""
    given = list(values)
    marks = ["CAST(? AS TEXT)" if isinstance(value, RawText) else "?" for value in given]
    return marks, [value.raw if isinstance(value, RawText) else value for value in given]
