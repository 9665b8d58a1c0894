"""Digests of declared tables in a database: what node and server compare to prove that they hold the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from schema.capture import Store, read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from sync.digest import rows_digest
from sync.rows import mark_raw

CHUNK_ROWS = 5_000


def digest_where(store: Store, table: Table, where: str, parameters: Sequence[Any] = ()) -> tuple[int, int]:
    """Return (rows, sum of digests) of the rows a condition selects, read in chunks by row number."""
    columns = ", ".join(f"r.{quote(name)}" for name in table.names)
    sql = f"SELECT {columns}, r.{ROW_ID} FROM {quote(table.name)} r WHERE r.{ROW_ID} > ? AND ({where}) ORDER BY r.{ROW_ID} LIMIT ?"
    last, count, total = 0, 0, 0
    while rows := read_rows(store, sql, (last, *parameters, CHUNK_ROWS)):
        last = rows[-1][-1]
        chunk_count, chunk_total = digest_rows(table, rows)
        count, total = count + chunk_count, total + chunk_total
    return count, total


def digest_rows(table: Table, rows: Iterable[Sequence[Any]]) -> tuple[int, int]:
    """Return (rows, sum of digests) of rows; values beyond the declared columns are left out."""
    width = len(table.names)
    return rows_digest(table.name, (mark_raw(row[:width]) for row in rows))
