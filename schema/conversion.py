"""Conversion: values of a column that has another type now, converted as every node converts them (schema/lens.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from schema.capture import Row, Store, clean_row, read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.images import pack_values
from schema.keys import key_text
from schema.lens import ColumnLens
from schema.past import Column, ColumnType

CHUNK_ROWS = 5_000
PYTHON: dict[ColumnType, type] = {"text": str, "integer": int, "real": float, "blob": bytes}
"""By the type of a column, that of its values here."""


def converted(store: Store, table: Table, change: ColumnLens, column: Column, stored: str) -> Iterator[tuple[int, Row, Any, Any, bool]]:
    """Yield (row number, key, value before, value now, whether that is of the new type) for each row; `stored`: the column to read."""
    width = len(table.key)
    names = ", ".join(map(quote, [*table.key, stored]))
    sql = f"SELECT {names}, {ROW_ID} FROM {quote(table.name)} WHERE {ROW_ID} > ? ORDER BY {ROW_ID} LIMIT ?"
    last = -(1 << 62)
    while rows := read_rows(store, sql, (last, CHUNK_ROWS)):
        last = rows[-1][-1]
        for row in map(clean_row, rows):
            found = change.up(row[width])
            yield row[-1], row[:width], row[width], found, found is None or type(found) is PYTHON[column.type]


def note_unconverted(store: Store, table: Table, key: Sequence[Any], column: str, value: Any) -> None:
    """Keep a value that does not convert exactly as it was, where it can be found: SQLite may read it as a number."""
    store.connection.execute(
        "INSERT INTO _unconverted (tbl, key, col, schema, value) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (tbl, key, col, schema) DO UPDATE SET value = excluded.value",
        (table.name, key_text(tuple(key)), column, store.schema.version, pack_values([value])),
    )
