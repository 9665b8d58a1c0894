"""Shelf: snapshots that are made, and those being made. What there is stands in the centre's database; the bytes lie in files beside a
file, and in PostgreSQL in a table of their own, where every process of the server finds them.

A restored database knows the snapshots of its own history alone; one whose bytes are not there any more counts as not made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from schema.capture import Store
from schema.files import to_disk
from server.database import Database
from server.snapshot.build import PIECE_BYTES, Squeezed
from sync.messages import Point, Snapshot

KEPT_OF_ONE = 2
"""Snapshots kept of one scope and version: the newest, and the one before, which nodes may be fetching still."""

_PIECES = 8

KEPT_MAX = 64
"""Snapshots kept of all scopes; those nobody asked for longest go."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Which snapshot is wanted: of these scope keys, in this version of the declaration, with so many days of what rolls (0: all)."""

    scope: frozenset[str]
    schema: int
    keep_days: int = 0

    @property
    def key(self) -> tuple[bytes, int]:
        """Return what it is known by."""
        days = [f"{self.keep_days}"] if self.keep_days else []  # a scope key has a colon
        return hashlib.sha256("\0".join([*days, *sorted(self.scope)]).encode()).digest(), self.schema


class Bytes(Protocol):
    """Where the bytes of snapshots are."""

    def put(self, database: Database, made: Squeezed) -> None:
        """Keep a file under its name, before anything says that it is there."""

    def part(self, store: Store, name: bytes, offset: int, count: int) -> bytes:
        """Return so many bytes, fewer at the end; none where they are not there."""

    def drop(self, store: Store, names: Iterable[bytes]) -> None:
        """Let go of snapshots."""

    def sweep(self, store: Store, kept: Collection[bytes]) -> None:
        """Remove the bytes of all others: what was put, and never said to be there, or is of a history that is over."""


class InFiles:
    """In a folder beside the database file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, database: Database, made: Squeezed) -> None:
        """Give the file, which is durable, its name."""
        made.path.replace(self._path(made.name))
        to_disk(self._folder)

    def part(self, store: Store, name: bytes, offset: int, count: int) -> bytes:
        """Read from the file."""
        try:
            with self._path(name).open("rb") as file:
                file.seek(offset)
                return file.read(count)
        except OSError:  # it is not there, or cannot be read: then it is made anew
            return b""

    def drop(self, store: Store, names: Iterable[bytes]) -> None:
        """Delete the files."""
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def sweep(self, store: Store, kept: Collection[bytes]) -> None:
        """Delete the other files."""
        names = {f"{name.hex()}.zst" for name in kept}
        for path in self._folder.glob("*.zst"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _path(self, name: bytes) -> Path:
        return self._folder / f"{name.hex()}.zst"


class InTable:
    """In PostgreSQL: pieces of PIECE_BYTES in a table that no commit waits for; after a crash of the database it is empty."""

    def put(self, database: Database, made: Squeezed) -> None:
        """Write the pieces, some at a time: pushes wait for each of these transactions."""
        with database.writing() as store:
            self.drop(store, [made.name])
        with made.path.open("rb") as file:
            pieces = enumerate(iter(lambda: file.read(PIECE_BYTES), b""))
            while some := list(islice(pieces, _PIECES)):
                with database.writing() as store:
                    sql = "INSERT INTO _snapshot_piece (name, number, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
                    store.connection.executemany(sql, [(made.name, number, piece) for number, piece in some])

    def part(self, store: Store, name: bytes, offset: int, count: int) -> bytes:
        """Put it together from the pieces it lies in."""
        first, last = offset // PIECE_BYTES, (offset + count - 1) // PIECE_BYTES
        sql = "SELECT body FROM _snapshot_piece WHERE name = ? AND number BETWEEN ? AND ? ORDER BY number"
        found = b"".join(bytes(row[0]) for row in store.connection.execute(sql, (name, first, last)).fetchall())
        begin = offset - first * PIECE_BYTES
        return found[begin : begin + count]

    def drop(self, store: Store, names: Iterable[bytes]) -> None:
        """Delete the pieces."""
        store.connection.executemany("DELETE FROM _snapshot_piece WHERE name = ?", [(name,) for name in names])

    def sweep(self, store: Store, kept: Collection[bytes]) -> None:
        """Delete the other pieces."""
        found = store.connection.execute("SELECT DISTINCT name FROM _snapshot_piece").fetchall()
        self.drop(store, {bytes(row[0]) for row in found} - set(kept))


def newest(store: Store, wish: Wish) -> list[Snapshot]:
    """Return the snapshots made for a wish, of this history, the newest first."""
    sql = (
        "SELECT s.name, s.ver, j.digest, s.bytes, s.expanded, s.found, s.edge FROM _snapshot s JOIN _journal j ON j.ver = s.ver"
        " WHERE s.scope = ? AND s.schema = ? ORDER BY s.ver DESC"
    )
    rows = store.connection.execute(sql, wish.key).fetchall()
    return [Snapshot(name, Point(version, digest), *rest) for name, version, digest, *rest in rows]


def put(store: Store, wish: Wish, snapshot: Snapshot, now_ms: int) -> list[bytes]:
    """Note a snapshot that was made; return the names of those that go for it."""
    connection = store.connection
    connection.execute("DELETE FROM _building WHERE scope = ? AND schema = ?", wish.key)
    connection.execute(
        "INSERT INTO _snapshot (scope, schema, ver, name, bytes, expanded, found, used_ms, edge) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (scope, schema, ver) DO UPDATE SET name = excluded.name, bytes = excluded.bytes, expanded = excluded.expanded,"
        " found = excluded.found, used_ms = excluded.used_ms, edge = excluded.edge",
        (*wish.key, snapshot.at.number, snapshot.name, snapshot.bytes, snapshot.expanded, snapshot.rows, now_ms, snapshot.edge),
    )
    rows = connection.execute("SELECT scope, schema, ver, name FROM _snapshot WHERE scope = ? AND schema = ? ORDER BY ver DESC", wish.key)
    old = rows.fetchall()[KEPT_OF_ONE:]
    return _let_go(store, old + _unused(store))


def _unused(store: Store) -> list[tuple[bytes, int, int, bytes]]:
    sql = f"SELECT scope, schema, ver, name FROM _snapshot ORDER BY used_ms DESC, ver DESC LIMIT 1000 OFFSET {KEPT_MAX}"
    return list(store.connection.execute(sql).fetchall())


def _let_go(store: Store, rows: Sequence[tuple[bytes, int, int, bytes]]) -> list[bytes]:
    store.connection.executemany("DELETE FROM _snapshot WHERE scope = ? AND schema = ? AND ver = ?", [row[:3] for row in rows])
    kept = "SELECT 1 FROM _snapshot WHERE name = ?"  # two versions may hold the same rows
    return [row[3] for row in rows if store.connection.execute(kept, (row[3],)).fetchone() is None]


def gone(store: Store, wish: Wish, snapshot: Snapshot) -> None:
    """Forget a snapshot whose bytes are not there."""
    key = (*wish.key, snapshot.at.number)
    store.connection.execute("DELETE FROM _snapshot WHERE scope = ? AND schema = ? AND ver = ?", key)


def names(store: Store) -> set[bytes]:
    """Return the names of all there are."""
    return {bytes(row[0]) for row in store.connection.execute("SELECT name FROM _snapshot").fetchall()}


def used(store: Store, wish: Wish, now_ms: int) -> None:
    """Note that somebody asked for one."""
    store.connection.execute("UPDATE _snapshot SET used_ms = ? WHERE scope = ? AND schema = ?", (now_ms, *wish.key))
