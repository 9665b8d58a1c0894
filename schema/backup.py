"""Backup and restore of a database file, node's or centre's: online, complete or absent, proven by a test restore.

snapshot of the open database ─► FILE.part ─► opened, checked ─► FILE          a reader sees the old FILE or the new one
FILE ─► checked ─► copied beside the database ─► nobody has the old one open ─► it is set aside, never deleted ─► the copy takes its place

Backups and copies under way are for their owner's eyes only; a database keeps the permissions of the one it replaces.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from schema.dialects.base import Connection, Dialect
from schema.files import create_private, to_disk
from schema.lock import HomeBusy
from sync.errors import AlreadyThere, BadValue

PAGES = 2_000
"""Pages of a database copied at a time."""

BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database file."""

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
    _remove(part)
    try:
        dialect.backup(source, part, PAGES, progress or (lambda _done, _total: None))
        _examine(dialect, part, source, check)
        to_disk(part)
        os.link(part, file)  # unlike a rename it does not replace what somebody put there meanwhile
        to_disk(file.parent)
    finally:
        _remove(part)
    return file.stat().st_size


def put_back(dialect: Dialect, file: Path, database: Path, check: Check, now_ms: int) -> Path | None:
    """Put a copy in a database's place; return where the old one was set aside, None if there was none.

    Raises BadValue for what is no such backup, HomeBusy while any program has the database open, idle or not: it would go on
    writing into the file that was set aside. AlreadyThere where a log lies there without its database. Nothing has changed then.
    """
    if not file.exists():
        raise BadValue(f"There is no file {file}.")
    new = database.with_name(database.name + ".restoring")
    _remove(new)
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        create_private(new)
        shutil.copyfile(file, new)
        _examine(dialect, new, file, check)
        to_disk(new)
        return _take_place(dialect, new, database, now_ms)
    finally:
        _remove(new)


def _remove(path: Path) -> None:
    """Remove a database file that nobody has open, with what lies beside it."""
    for suffix in ("", *BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _examine(dialect: Dialect, path: Path, file: Path, check: Check) -> None:
    """Open a copy and look into it; `file`: what it is a copy of. What is wrong with the disk says nothing of the copy."""
    try:
        connection = dialect.open(path)
    except dialect.errors as error:
        if dialect.is_of_the_disk(error):
            raise
        raise BadValue(f"{file} is not a database ({error}). Nothing was changed.") from error
    try:
        if not dialect.is_whole(connection):
            raise BadValue(f"{file} is damaged. Nothing was changed.")
        check(connection)
        dialect.empty_log(connection)
    except dialect.errors as error:
        if dialect.is_of_the_disk(error):
            raise
        raise BadValue(
            f"{file} is a database, but no backup of this kind: a node's comes from outpost node backup, the centre's from outpost"
            " server backup. Nothing was changed."
        ) from error
    finally:
        connection.close()


def _take_place(dialect: Dialect, new: Path, database: Path, now_ms: int) -> Path | None:
    """Give the database's name to the new file, and its permissions, keeping all others out; return where the old one is."""
    if not database.exists():
        _refuse_logs(database)
        os.replace(new, database)
        to_disk(database.parent)
        return None
    aside = _free_name(database, now_ms)
    shutil.copymode(database, new)
    held = alone(dialect, database)
    try:
        _set_aside(database, aside, is_one_file=held is not None)
        if held is not None and os.name == "nt":
            held.close()  # a file that is open cannot be replaced there, ours or another program's
        os.replace(new, database)
        to_disk(database.parent)
    finally:
        if held is not None:
            held.close()
    return aside


def _free_name(database: Path, now_ms: int) -> Path:
    """Return where a database is set aside: a name that nothing has yet, for the clock may have been set back since the last time."""
    names = (database.with_name(f"{database.name}.before-restore-{now_ms + number}") for number in itertools.count())
    return next(name for name in names if not any(name.with_name(name.name + suffix).exists() for suffix in ("", *BESIDE)))


def _refuse_logs(database: Path) -> None:
    """Refuse where the log of a database that is gone would be taken for the new one's: its pages would go into it."""
    for suffix in BESIDE:
        log = database.with_name(database.name + suffix)
        if suffix != "-shm" and log.exists() and log.stat().st_size:
            raise AlreadyThere(f"{log} is the log of a database that is not here any more. Move it away. Nothing was changed.")


def alone(dialect: Dialect, database: Path) -> Connection | None:
    """Have a database to ourselves, all that was committed in its one file; None if it cannot be read. Raises HomeBusy."""
    try:
        held = dialect.open_alone(database)
    except dialect.errors:
        return None
    if held is None:
        raise HomeBusy(f"A program has {database} open. Close every program that uses it, then restore again. Nothing was changed.")
    return held


def _set_aside(database: Path, aside: Path, *, is_one_file: bool) -> None:
    """Give the database that is there a second name. It keeps its own until the copy takes it: a restore may be killed anywhere."""
    if is_one_file:
        os.link(database, aside)
        return
    for suffix in (*BESIDE, ""):  # it cannot be read any more; kept as it is
        part = database.with_name(database.name + suffix)
        if part.exists():
            os.replace(part, aside.with_name(aside.name + suffix))
