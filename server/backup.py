"""Backup of the centre, announced to nodes: what it covers they need not keep any longer (PROTOCOL.md §7.7, RULES H13).

version "backup" in the journal ─► copy of the database, which holds that version ─► test restore ─► announced
"""

from __future__ import annotations

import secrets
import tempfile
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from schema import backup as files
from schema import bookkeeping
from schema.dialects.base import Connection
from schema.dialects.sqlite import Sqlite
from schema.files import create_private
from schema.registry import Schema
from server import centre, healing, journal, moving, nodes, revoked
from server.database import Database, Place, connect, dialect_of, named
from server.home import ELSEWHERE
from sync.errors import AlreadyThere, BadValue
from sync.messages import Point


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made: its file's size, and the version it covers."""

    version: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore brought back, and where the database it replaced is. Names of nodes: those that may sync with what was put
    back, and those that the backup did not know to be revoked and the file beside the database did (server/revoked.py).
    """

    version: int
    epoch: int
    aside: Path | None
    admitted: list[str]
    revoked_again: list[str]
    is_record_here: bool  # of revocations: else nobody knows here whom the backup lets in again


def backup(database: Database, file: Path, now_ms: int, progress: files.Progress | None = None) -> Backup:
    """Make a backup while the centre runs. Raises AlreadyThere, BadValue; nothing is announced then."""
    with database.writing() as store, centre.engine_writes(store, now_ms):
        journal.append(store, journal.Entry("backup", 0, secrets.token_bytes(16)), now_ms)
        point = journal.head(store)
    size = files.copy(
        Sqlite(), named(database.path), partial(_write, database), file, lambda connection: _check(connection, point), progress
    )
    with database.writing() as store:
        store.connection.execute("UPDATE _server SET covered = ? WHERE id = 1 AND covered < ?", (point.number, point.number))
    return Backup(point.number, size)


def _write(database: Database, file: Path, progress: files.Progress) -> None:
    """Write a copy of the database into a new file: as it is, or of a PostgreSQL database what it holds."""
    if isinstance(database.path, Path):
        Sqlite().backup(database.path, file, files.PAGES, progress)
        return
    create_private(file)
    with database.reading() as store:
        moving.copy_into(store, file, database.schema, progress)


def restore(file: Path, place: Place, schema: Schema, now_ms: int, *, new_epoch: bool = False) -> Restored:
    """Put a backup in the place of the centre's database, or into a PostgreSQL database that is empty. Raises AlreadyThere where that is
    not; BadValue, NewerFile, OtherTables, CannotUpgrade as for files; then nothing has changed.
    """
    if isinstance(place, Path):
        return _restore_file(file, place, schema, now_ms, new_epoch=new_epoch)
    dialect = dialect_of(place)
    with closing(connect(dialect, place)) as connection:
        if dialect.tables_there(connection):
            raise AlreadyThere(
                f"There are tables in this database already ({named(place)}). Name an empty one in {ELSEWHERE}, or drop what is there;"
                " nothing was changed."
            )
    with tempfile.TemporaryDirectory(prefix="outpost-restore-") as folder:
        copy = Path(folder) / "copy.db"
        done = _restore_file(file, copy, schema, now_ms, new_epoch=new_epoch)
        with closing(Database(copy, schema, clock_ms=lambda: now_ms)) as database:
            with database.writing() as store, centre.engine_writes(store, now_ms):
                pass  # what a program had written just before the backup was copied is journaled: only the journal travels
            with database.reading() as store:
                moving.copy_into(store, place, database.schema)
    return done


def _restore_file(file: Path, path: Path, schema: Schema, now_ms: int, *, new_epoch: bool) -> Restored:
    """Put a backup in the place of the centre's file. Raises BadValue for no such backup and for one of another centre than is
    here, NewerFile, OtherTables and CannotUpgrade for one that this program does not open, HomeBusy while a program has the database
    open; nothing has changed then. The copy is brought up to date before it takes the place.

    `new_epoch`: every node is told at its next word that history was lost. Without it the first node that remembers more
    than the backup makes the centre see it, which comes to the same.
    """
    here, before = _centre_in(path), set[str]()
    is_record_here = revoked.file_of(path).exists()
    revoked.read(path)  # damaged, it stops the restore before anything was changed
    found: list[tuple[int, int, list[str], list[str]]] = []

    def look(connection: Connection) -> None:
        bookkeeping.require_readable(connection, Sqlite(), schema)
        _check(connection)
        if here is not None and _box_key(connection) != here:
            raise BadValue(
                f"{file} is a copy of another centre than the one here: nodes of this one could not go on with it. Nothing was changed."
                f" If this folder is to be that centre, stop everything that uses {path} and move it away first."
            )
        before.update(name for (name,) in connection.execute("SELECT name FROM _node WHERE revoked_ms IS NOT NULL").fetchall())

    def prepare(copy: Path) -> None:
        with closing(Database(copy, schema, clock_ms=lambda: now_ms, place=path)) as database, database.writing() as store:
            if new_epoch:
                healing.new_epoch(store, journal.epoch(store) + 1, now_ms)
            again = [name for name in nodes.names(store, is_revoked=True) if name not in before]
            found.append((journal.head(store).number, journal.epoch(store), nodes.names(store, is_revoked=False), again))

    aside = files.put_back(Sqlite(), file, path, look, now_ms, prepare=prepare)
    version, epoch, admitted, again = found[0]
    return Restored(version, epoch, aside, admitted, again, is_record_here)


def _centre_in(path: Path) -> bytes | None:
    """Return what tells the centre here from every other: its key, drawn when it was made. None where nothing can be read."""
    if not path.exists():
        return None
    try:
        with closing(Sqlite().open(path, readonly=True)) as connection:
            return _box_key(connection)
    except Sqlite().errors:
        return None


def _box_key(connection: Connection) -> bytes | None:
    row = connection.execute("SELECT box_key FROM _server WHERE id = 1").fetchone()
    return None if row is None else bytes(row[0])


def _check(connection: Connection, point: Point | None = None) -> None:
    """Check that a copy is a centre's database whose journal ends where it says, and has a version. Raises BadValue."""
    head, digest = connection.execute("SELECT head, digest FROM _server WHERE id = 1").fetchone()
    last = connection.execute("SELECT ver, digest FROM _journal ORDER BY ver DESC LIMIT 1").fetchone() or (0, bytes(32))
    count = connection.execute("SELECT COUNT(*) FROM _journal").fetchone()[0]
    if (head, digest) != tuple(last) or count != head:
        raise BadValue("The journal in this copy is not complete.")
    if point is not None:
        row = connection.execute("SELECT digest FROM _journal WHERE ver = ?", (point.number,)).fetchone()
        if row is None or row[0] != point.digest:
            raise BadValue("The copy does not hold the version it was made for.")
