"""Fetching a snapshot: in parts that are kept as they come, checked when all are here, expanded beside the database.

    ask ─► a part ─► node.db.snapshot-NAME, as it travels ─► whole: digest ─► node.db.snapshot-NAME.rows
                       (cut here, the next exchange goes on at the byte where this one ended)

Whatever else is wrong ends in None: then the rows are pulled page by page. Spec: PROTOCOL.md P-8.18, P-8.19. Used by node/first.py and,
for a node that has no database yet, node/joining.py.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import zstandard
from sqlcipher3 import dbapi2

from node.transport import Exchange
from schema.dialects.base import Connection
from schema.dialects.sqlite import Sqlite
from schema.files import create_private
from schema.registry import Schema
from sync.errors import NotFound
from sync.limits import PROTOCOL_VERSIONS, SNAPSHOT_PART_BYTES, SNAPSHOT_PARTS_MAX
from sync.messages import Point, Snapshot, SnapshotReply, SnapshotRequest
from sync.wire import WINDOW_BYTES_MAX

WAIT_SECONDS_MAX: Final = 120.0
"""How long the server may make a file without getting on; then the rows are pulled page by page."""

ALL_SECONDS_MAX: Final = 1_800.0
"""How long it may take to make one."""

ASK_SECONDS: Final = 0.25
"""How often it is asked meanwhile how far it is, at first; later more seldom."""

ASK_SECONDS_MAX: Final = 2.0
TRIES: Final = 2
"""How often a file is fetched that turns out not to be what it was said to be."""

PIECE_BYTES: Final = 1024 * 1024

Progress = Callable[[str, int, int], None]
"""Called with (step, done, of how many); 0 of how many: unknown."""

Ask = Callable[[bytes | None, int], SnapshotReply]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A snapshot that is here, whole and checked: the file of its rows, and points of backups before it."""

    snapshot: Snapshot
    rows: Path
    points: tuple[Point, ...]


class _Damaged(Exception):
    """What was fetched is not what it was said to be."""


def asking(exchange: Exchange, epoch: int, incarnation: bytes, highest: Point, schema: int) -> Ask:
    """Return what asks for a file, or for the rest of one."""

    def ask(name: bytes | None, have: int) -> SnapshotReply:
        return exchange.snapshot(SnapshotRequest(PROTOCOL_VERSIONS[-1], epoch, incarnation, highest, schema, name, have))

    return ask


def fetch(database: Path, schema: Schema, ask: Ask, progress: Progress, *, waits: bool = True) -> Fetched | None:
    """Fetch a snapshot for a database, whole and checked, and return it with the file of its rows; None where there is none, or
    none that is what it was said to be, or no room for it. `waits`: for one that the server is making. Raises what `ask` raises;
    what was fetched until then is kept.
    """
    for _ in range(TRIES):
        try:
            found = _fetched(database, ask, progress, waits)
            if found is None:
                return None
            snapshot, points = found
            return Fetched(snapshot, _expanded(database, snapshot, schema), points)
        except _Damaged:
            forget(database)
        except OSError:  # a full disk: pages take less at a time
            forget(database)
            return None
        except NotFound:  # a server of before
            forget(database)
            return None
    return None


def forget(database: Path) -> None:
    """Delete what was fetched for a database."""
    for path in database.parent.glob(f"{database.name}.snapshot-*"):
        path.unlink(missing_ok=True)


def _fetched(database: Path, ask: Ask, progress: Progress, waits: bool) -> tuple[Snapshot, tuple[Point, ...]] | None:
    """Ask for parts until all of a file is here; return what it is, and points of backups, None where there is none."""
    name, have = _begun(database)
    patience = _Patience()
    for _ in range(SNAPSHOT_PARTS_MAX):
        reply = ask(name, have)
        snapshot = reply.snapshot
        if snapshot is None:
            if reply.of == 0 or not waits or not patience.goes_on(reply.made):
                forget(database)
                return None
            progress("prepare", reply.made, reply.of)
            continue
        if snapshot.name != name or (have and reply.offset == 0):
            forget(database)
            name, have = snapshot.name, 0
            _require_room(database, snapshot)
            create_private(_path(database, name))
        _check(reply, snapshot, have)
        with _path(database, name).open("ab") as file:
            file.write(reply.part)
        have += len(reply.part)
        progress("file", have, snapshot.bytes)
        if have == snapshot.bytes:
            return snapshot, reply.points
    raise _Damaged


class _Patience:
    """Waits between two questions how far a file is, more and more; ends when it does not grow for too long, or takes too long."""

    def __init__(self) -> None:
        self._made, self._begun = -1, time.monotonic()
        self._since, self._pause = self._begun, ASK_SECONDS

    def goes_on(self, made: int) -> bool:
        """Wait a while; tell whether there is reason to ask again."""
        now = time.monotonic()
        if made > self._made:
            self._made, self._since = made, now
        if now - self._since > WAIT_SECONDS_MAX or now - self._begun > ALL_SECONDS_MAX:
            return False
        time.sleep(self._pause)
        self._pause = min(ASK_SECONDS_MAX, self._pause * 1.5)
        return True


def _check(reply: SnapshotReply, snapshot: Snapshot, have: int) -> None:
    """Check that a part is the next one."""
    left = snapshot.bytes - have
    if reply.offset != have or left < 0 or len(reply.part) != min(left, SNAPSHOT_PART_BYTES) or snapshot.bytes == 0:
        raise _Damaged


def _require_room(database: Path, snapshot: Snapshot) -> None:
    """Check that there is room for the file, what is in it, and that once more in a database that is there. Raises OSError."""
    if shutil.disk_usage(database.parent).free < snapshot.bytes + 2 * snapshot.expanded:
        raise OSError(errno.ENOSPC, "no room for the server's file", str(database))


def _path(database: Path, name: bytes) -> Path:
    return database.with_name(f"{database.name}.snapshot-{name.hex()}")


def _begun(database: Path) -> tuple[bytes | None, int]:
    """Return which file was begun, and how much of it is here."""
    found = [path for path in database.parent.glob(f"{database.name}.snapshot-*") if path.suffix != ".rows"]
    for path in found[:1] if len(found) == 1 else ():
        try:
            name = bytes.fromhex(path.name.rpartition("-")[2])
        except ValueError:
            break
        if len(name) == hashlib.sha256().digest_size:
            return name, path.stat().st_size
    forget(database)
    return None, 0


class _Hashed:
    """A file that is hashed as it is read: what is expanded is what the digest is of."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        piece = self._file.read(size)
        self._digest.update(piece)
        return piece

    def digest(self) -> bytes:
        """Return the digest of the whole file."""
        while self.read(PIECE_BYTES):
            pass
        return self._digest.digest()


def _expanded(database: Path, snapshot: Snapshot, schema: Schema) -> Path:
    """Return the database file in what was fetched, which goes. It has the tables of a node, and nothing else that would run or be seen."""
    packed = _path(database, snapshot.name)
    rows = packed.with_name(f"{packed.name}.rows")
    rows.unlink(missing_ok=True)
    size = 0
    try:
        with packed.open("rb") as file, rows.open("wb") as target:
            source = _Hashed(file)
            expander = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
            reader = expander.stream_reader(source, read_size=PIECE_BYTES)  # type: ignore[arg-type]  # it only reads
            while piece := reader.read(PIECE_BYTES):
                size += len(piece)
                if size > snapshot.expanded:
                    raise _Damaged
                target.write(piece)
            is_whole = size == snapshot.expanded and source.digest() == snapshot.name
    except zstandard.ZstdError as error:
        raise _Damaged from error
    if not is_whole or not _has_tables(rows, schema):
        raise _Damaged
    packed.unlink()
    return rows


def _has_tables(rows: Path, schema: Schema) -> bool:
    with closing(dbapi2.connect(":memory:", isolation_level=None)) as wanted:
        for statement in Sqlite().tables(schema.tables):
            wanted.execute(statement)
        try:
            with closing(Sqlite().open(rows, readonly=True)) as found:
                return _shape(found) == _shape(wanted)
        except (dbapi2.DatabaseError, UnicodeDecodeError):
            return False


def _shape(connection: Connection) -> set[tuple[str, ...]]:
    return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall())
