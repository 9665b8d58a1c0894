"""Backup and restore of a database file, node's or centre's: online, complete or absent, proven by a test restore.

snapshot of the open database ─► FILE.part ─► opened, checked ─► FILE          a reader sees the old FILE or the new one
FILE ─► checked ─► copied beside the database ─► the old one is set aside, never deleted ─► the copy takes its place
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from schema.dialects.base import Connection, Dialect
from schema.files import to_disk
from sync.errors import AlreadyThere, BadValue

PAGES = 2_000
"""Pages of a database copied at a time."""

Progress = Callable[[int, int], None]
Check = Callable[[Connection], None]
"""Looks into a copy that was opened; raises what is wrong with it."""


def copy(dialect: Dialect, source: Path, file: Path, check: Check, progress: Progress | None = None) -> int:
    """Copy a database that others may be writing to, as it is at this moment, and return the bytes.

    Raises AlreadyThere where the file exists, BadValue where the copy does not pass its check; there is no file then.
    """
    if file.exists():
        raise AlreadyThere(f"There is a file here already ({file}). Name another, or move it away.")
    part = file.with_name(file.name + ".part")
    part.unlink(missing_ok=True)
    try:
        dialect.backup(source, part, PAGES, progress or (lambda _done, _total: None))
        _examine(dialect, part, check)
        to_disk(part)
        os.link(part, file)  # unlike a rename it does not replace what somebody put there meanwhile
        to_disk(file.parent)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)
    return file.stat().st_size


def put_back(dialect: Dialect, file: Path, database: Path, check: Check, now_ms: int) -> Path | None:
    """Put a copy in a database's place; return where the old one was set aside, None if there was none. Nobody may have it open.

    Raises BadValue for what is no such backup; nothing has changed then. `check` may also write what must be so at once.
    """
    if not file.exists():
        raise BadValue(f"There is no file {file}.")
    new = database.with_name(database.name + ".restoring")
    new.unlink(missing_ok=True)
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(file, new)
        _examine(dialect, new, check)
        to_disk(new)
        aside = _set_aside(dialect, database, now_ms)
        os.replace(new, database)
        to_disk(database.parent)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            new.with_name(new.name + suffix).unlink(missing_ok=True)
    return aside


def _examine(dialect: Dialect, path: Path, check: Check) -> None:
    try:
        connection = dialect.open(path)
    except dialect.errors as error:
        raise BadValue(f"{path.name} is not a database ({error}).") from error
    try:
        if not dialect.is_whole(connection):
            raise BadValue("The copy is damaged.")
        check(connection)
        dialect.empty_log(connection)
    except dialect.errors as error:
        raise BadValue(f"This is not a backup of Outpost ({error}).") from error
    finally:
        connection.close()


def _set_aside(dialect: Dialect, database: Path, now_ms: int) -> Path | None:
    """Give the database that is there a second name. It keeps its own until the copy takes it: a restore may be killed anywhere."""
    if not database.exists():
        return None
    aside = database.with_name(f"{database.name}.before-restore-{now_ms}")
    if _is_one_file(dialect, database):
        os.link(database, aside)
        return aside
    for suffix in ("-wal", "-shm", ""):  # it cannot be read any more; kept as it is
        part = database.with_name(database.name + suffix)
        if part.exists():
            os.replace(part, aside.with_name(aside.name + suffix))
    return aside


def _is_one_file(dialect: Dialect, database: Path) -> bool:
    """Bring what was committed from the log into the file: apart from its log it would lack the latest work. False: it cannot be read."""
    try:
        connection = dialect.open(database)
    except dialect.errors:
        return False
    try:
        return dialect.empty_log(connection)
    except dialect.errors:
        return False
    finally:
        connection.close()
