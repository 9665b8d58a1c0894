"""Backup and restore of a database file, node's or centre's: online, complete or absent, proven by a test restore.

snapshot of the open database ─► FILE.part ─► opened, checked ─► FILE          a reader sees the old FILE or the new one
FILE, with the log beside it ─► copied beside the database ─► checked, opened as the program opens it, made one file
     ─► nobody has the old one open, nothing new is in it ─► it is set aside, never deleted ─► the copy takes its place

Backups and copies under way are for their owner's eyes only; a database keeps the permissions of the one it replaces.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schema.dialects.base import Connection, Files
from schema.files import create_private, give_name, to_disk
from schema.lock import HomeBusy
from sync.errors import AlreadyThere, BadValue, UsError

PAGES = 2_000
"""Pages of a database copied at a time."""

LOGS = ("-wal", "-journal")
"""What SQLite keeps beside a database file, and may have to read to know what was committed."""

BESIDE = (*LOGS, "-shm")
"""All that SQLite keeps beside a database file."""

Progress = Callable[[int, int], None]
Write = Callable[[Path, Progress], None]
"""Writes a copy into a new private file."""
Check = Callable[[Connection], None]
"""Looks into a copy that was opened; raises what is wrong with it."""
Prepare = Callable[[Path], None]
"""Opens a copy as the program opens its database, which may bring it up to date, and makes it ready to take its place."""
LastLook = Callable[[Connection | None], None]
"""Looks into the database that is about to be set aside, all others kept out; None where it cannot be read. Raises to refuse."""


def copy(dialect: Files, source: Path | str, write: Write, file: Path, check: Check, progress: Progress | None = None) -> int:
    """Let `write` copy a database that others may be writing to, as it is at this moment, into a file, and return the bytes. `source`: what
    the database is called.

    Raises AlreadyThere where the file, or a log of its name, exists, BadValue where the copy does not pass its check; there is no
    file then.
    """
    if file.exists():
        raise _taken(file)
    _refuse_logs(file)
    part = file.with_name(file.name + ".part")
    _remove(part)
    try:
        write(part, progress or (lambda _done, _total: None))
        _examine(dialect, part, source, check)
        to_disk(part)
        give_name(part, file)
        to_disk(file.parent)
    except FileExistsError as error:
        raise _taken(file) from error
    finally:
        _remove(part)
    return file.stat().st_size


def _taken(file: Path) -> AlreadyThere:
    return AlreadyThere(f"There is a file here already ({file}). Name another, or move it away.")


def put_back(
    dialect: Files,
    file: Path,
    database: Path,
    check: Check,
    now_ms: int,
    *,
    prepare: Prepare = lambda _copy: None,
    last_look: LastLook = lambda _held: None,
) -> Path | None:
    """Put a copy in a database's place; return where the old one was set aside, None if there was none.

    What is committed in FILE may lie in a log beside it (a folder that was copied, a disk image): that comes along. Neither is
    changed. All that can refuse the copy does so before the old one is touched: `check` as it was written, `prepare` by opening it.

    Raises BadValue for what is no such backup, UsError for one that the program does not open, HomeBusy while any program has the
    database open, idle or not: it would go on writing into the file that was set aside. AlreadyThere where a log lies there without
    its database. Nothing has changed then.
    """
    if not file.exists():
        raise BadValue(f"There is no file {file}.")
    new = _copy_under_way(database)
    _remove(new)
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        _bring(file.resolve(), new)
        with _said_of(dialect, file):
            _examine(dialect, new, file, check)
            prepare(new)
        _require_one_file(new)
        to_disk(new)
        return _take_place(dialect, new, database, last_look, now_ms)
    finally:
        _remove(new)


def cut_short(database: Path) -> str:
    """Return what to say where a database is missing because a restore was killed between two renames; nothing elsewhere."""
    asides = sorted(database.parent.glob(f"{database.name}.before-restore-*"))
    if database.exists() or not asides or not _copy_under_way(database).exists():
        return ""
    return f"A restore was cut short here ({database}): the database that was here is kept as {asides[-1]}. Restore again."


def _copy_under_way(database: Path) -> Path:
    return database.with_name(database.name + ".restoring")


def _bring(file: Path, new: Path) -> None:
    """Copy a database with its log, for SQLite to recover under the new name. Raises HomeBusy where somebody writes to it meanwhile."""
    before = _stamps(file)
    for suffix in ("", *LOGS):
        source, target = file.with_name(file.name + suffix), new.with_name(new.name + suffix)
        if not suffix or _has_content(source):
            create_private(target)
            shutil.copyfile(source, target)
    if _stamps(file) != before:
        raise HomeBusy(f"A program is writing to {file}. Close every program that uses it, then restore again. Nothing was changed.")


def _stamps(file: Path) -> list[tuple[int, int]]:
    """Return size and time of last change of a database file and its logs."""
    parts = (file.with_name(file.name + suffix) for suffix in ("", *LOGS))
    return [(found.st_size, found.st_mtime_ns) for found in (part.stat() for part in parts if part.exists())]


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@contextmanager
def _said_of(dialect: Files, file: Path) -> Iterator[None]:
    """Say of what is wrong with a copy that it is FILE's. What is wrong with the disk says nothing of the copy."""
    try:
        yield
    except BadValue:
        raise
    except UsError as error:
        raise type(error)(f"{file} cannot be put back. {error.message} Nothing was changed.", **error.extra) from error
    except dialect.errors as error:
        if dialect.is_of_the_disk(error):
            raise
        raise _of_another_kind(file, error) from error


def _of_another_kind(file: Path | str, error: Exception) -> BadValue:
    return BadValue(
        f"{file} is a database, but no backup of this kind ({error}): a node's comes from outpost node backup, the centre's from outpost"
        " server backup. Nothing was changed."
    )


def _require_one_file(new: Path) -> None:
    """Check that all of a copy is in its file, for that alone takes the place. Raises HomeBusy."""
    for suffix in LOGS:
        if _has_content(new.with_name(new.name + suffix)):
            raise HomeBusy(f"A program has {new} open, which is ours. Close it, then restore again. Nothing was changed.")


def _remove(path: Path) -> None:
    """Remove a database file that nobody has open, with what lies beside it."""
    for suffix in ("", *BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _examine(dialect: Files, path: Path, file: Path | str, check: Check) -> None:
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
        raise _of_another_kind(file, error) from error
    finally:
        connection.close()


def _take_place(dialect: Files, new: Path, database: Path, last_look: LastLook, now_ms: int) -> Path | None:
    """Give the database's name to the new file, and its permissions, keeping all others out; return where the old one is."""
    if not database.exists():
        _refuse_logs(database)
        os.replace(new, database)
        to_disk(database.parent)
        return None
    aside = _free_name(database, now_ms)
    held = alone(dialect, database)
    try:
        last_look(held)
        shutil.copymode(database, new)
        if held is None or not _has_second_name(database, aside):
            _let_go(held)
            _move(database, aside)
        _let_go(held)
        try:
            os.replace(new, database)
        except OSError:
            if not database.exists():
                _move(aside, database)
            raise
        to_disk(database.parent)
    finally:
        if held is not None:
            held.close()
    return aside


def _let_go(held: Connection | None) -> None:
    """Close the old file on Windows: one that is open cannot be renamed or replaced there, ours or another program's."""
    if held is not None and os.name == "nt":
        held.close()


def _free_name(database: Path, now_ms: int) -> Path:
    """Return where a database is set aside: a name that nothing has yet, for the clock may have been set back since the last time."""
    names = (database.with_name(f"{database.name}.before-restore-{now_ms + number}") for number in itertools.count())
    return next(name for name in names if not any(name.with_name(name.name + suffix).exists() for suffix in ("", *BESIDE)))


def _refuse_logs(database: Path) -> None:
    """Refuse where the log of a database that is gone would be taken for the new one's: its pages would go into it."""
    for suffix in LOGS:
        log = database.with_name(database.name + suffix)
        if _has_content(log):
            raise AlreadyThere(f"{log} is the log of a database that is not here any more. Move it away. Nothing was changed.")


def alone(dialect: Files, database: Path) -> Connection | None:
    """Have a database to ourselves, all that was committed in its one file; None if it cannot be read. Raises HomeBusy."""
    try:
        held = dialect.open_alone(database)
    except dialect.errors:
        return None
    if held is None:
        raise HomeBusy(f"A program has {database} open. Close every program that uses it, then restore again. Nothing was changed.")
    return held


def _has_second_name(database: Path, aside: Path) -> bool:
    """Give the database that is there a second name, all of it in one file; False where the disk has no second names. It keeps its own
    until the copy takes it: a restore may be killed anywhere.
    """
    try:
        os.link(database, aside)
    except OSError:
        return False
    return True


def _move(database: Path, name: Path) -> None:
    """Give a database another name, with what lies beside it: of one that we have alone, nothing that it needs. Its own file is last.

    Killed after that, we leave no database under its name, but both: the old one aside and the whole copy (`cut_short` says so).
    """
    for suffix in (*BESIDE, ""):
        part = database.with_name(database.name + suffix)
        if part.exists():
            os.replace(part, name.with_name(name.name + suffix))
    to_disk(database.parent)
