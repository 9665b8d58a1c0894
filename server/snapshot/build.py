"""Build: the rows of a scope as a SQLite file with a node's tables, and that file as one zstd frame.

The file has the tables and indexes that a node makes for itself (schema/dialects/sqlite.py), and nothing else: whoever gets it
lays its own bookkeeping over it. Rows are read and written some thousands at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import zstandard
from sqlcipher3 import dbapi2

from schema.capture import read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import Sqlite, insert_rows, quote
from schema.files import create_private, to_disk
from server import verify
from server.scope_sql import shown_condition
from server.skew import View

CHUNK_ROWS = 5_000
PIECE_BYTES = 1024 * 1024
LEVEL = 6
"""A file is made once and travels often: 7 % fewer bytes than at level 3 for twice its time."""

Tell = Callable[[int | None], None]
"""Called often with the rows done so far, None where they are all done; may raise to stop."""


@dataclass(frozen=True, slots=True)
class Squeezed:
    """A file in one zstd frame. `name`: SHA-256 of that."""

    path: Path
    name: bytes
    bytes: int
    expanded: int


def write_rows(view: View, scope: frozenset[str], path: Path, tell: Tell) -> int:
    """Write the rows that a scope shows into a new file, in the columns of the view; return how many.

    Raises what `tell` raises, and what the driver does: for text that is not UTF-8, which pages can carry and this cannot.
    """
    create_private(path)
    verify.show(view.store, scope)
    done = 0
    with closing(dbapi2.connect(str(path), isolation_level=None)) as target:
        target.execute("PRAGMA journal_mode=OFF")
        target.execute("PRAGMA synchronous=OFF")
        target.execute("BEGIN")
        for table in view.tables.values():
            lens = view.table(table.name)
            assert lens is not None
            create, *indexes = Sqlite().tables([lens.older])
            target.execute(create)
            for rows in _chunks(view, table):
                insert_rows(target, lens.older.name, lens.older.names, view.values(table, rows))
                done += len(rows)
                tell(done)
            for index in indexes:
                target.execute(index)
                tell(done)
        target.execute("COMMIT")
    return done


def _chunks(view: View, table: Table) -> Iterator[list[tuple[object, ...]]]:
    columns, last = ", ".join(f"r.{quote(name)}" for name in table.names), -1
    shown = shown_condition(view.store.schema, table, view.edge)
    sql = (
        f"SELECT {columns}, r.{ROW_ID} FROM {quote(table.name)} r WHERE r.{ROW_ID} > ? AND ({shown}) ORDER BY r.{ROW_ID} LIMIT {CHUNK_ROWS}"
    )
    while rows := read_rows(view.store, sql, (last,)):
        last = rows[-1][-1]
        yield rows


def squeeze(path: Path, into: Path, tell: Tell) -> Squeezed:
    """Compress a file into another, as one frame that states its size, durably. Raises what `tell` raises."""
    create_private(into)
    name, size, expanded = hashlib.sha256(), 0, path.stat().st_size
    press = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    with path.open("rb") as source, into.open("wb") as target:
        for piece in press.read_to_iter(source, size=expanded, read_size=PIECE_BYTES):
            name.update(piece)
            size += len(piece)
            target.write(piece)
            tell(None)
    to_disk(into)
    return Squeezed(into, name.digest(), size, expanded)
