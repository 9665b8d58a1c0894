"""Backup of a node. A node that was put back from one, or copied, notices at its next exchange and goes on under a new
incarnation: what it had sent comes back from the centre, what the copy holds unsent is sent (PROTOCOL.md §7.3).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from node import outbox, verdicts
from node.database import Database, read_state
from schema import backup as files
from schema.dialects.base import Connection
from schema.dialects.sqlite import Sqlite
from schema.registry import Schema
from sync.errors import BadValue, NewerFile, NotJoined, OutpostError


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made."""

    bytes: int
    unsynced: int  # transactions in it that the centre does not have yet


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back: whose it is, when it had last synced, and where the database it replaced is."""

    name: str
    as_of_ms: int | None
    aside: Path | None


def backup(database: Database, file: Path, progress: files.Progress | None = None) -> Backup:
    """Make a backup while programs go on writing. Raises AlreadyThere, BadValue.

    What was written is sealed first: the same work then has the same name in the copy and here.
    """
    with database.writing() as store:
        outbox.seal(store, database.clock_ms())
        unsynced = verdicts.counts(store)[0]
    size = files.copy(database.dialect, database.path, file, _check, progress)
    return Backup(size, unsynced)


_UNREADABLE: tuple[type[Exception], ...] = (OutpostError, *Sqlite().errors)


@dataclass(frozen=True, slots=True)
class Present:
    """The database that a restore would replace: whose it is, and transactions in it that the centre does not have."""

    node: str
    name: str
    unsynced: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A database that a restore would replace, of which nobody can tell whose it is and what in it was never sent."""

    why: str


def present(path: Path, schema: Schema, clock_ms: Callable[[], int]) -> Present | Unreadable | None:
    """Return what a restore would replace; None where there is no node's database.

    Raises HomeBusy while a program has it open, NewerFile for one that a newer program wrote.
    """
    if not path.exists():
        return None
    alone = files.alone(Sqlite(), path)
    if alone is None:
        return Unreadable("it is no database, or cannot be opened")
    with closing(alone):
        if not _is_whole(alone):
            return Unreadable("it is damaged")
    try:
        return _look(path, schema, clock_ms)
    except NotJoined:
        return None
    except NewerFile:
        raise
    except _UNREADABLE as error:
        return Unreadable(str(error))


def _is_whole(connection: Connection) -> bool:
    try:
        return Sqlite().is_whole(connection)
    except Sqlite().errors:
        return False


def _look(path: Path, schema: Schema, clock_ms: Callable[[], int]) -> Present:
    """Return whose a database is and what is unsent, with what any program wrote and nobody sealed yet."""
    with closing(Database(path, schema, clock_ms)) as database:
        with database.writing() as store:
            outbox.seal(store, clock_ms())
        state = database.state()
        return Present(state.node, state.name, verdicts.counts(database.store)[0])


def restore(file: Path, path: Path, now_ms: int, *, here: Present | Unreadable | None = None, anyway: bool = False) -> Restored:
    """Put a backup in the place of a node's database. Raises HomeBusy while a program has it open; BadValue for no such backup
    and, but for `anyway`, for one of another node than is `here`, and where work that was never sent would be set aside, or
    nobody can tell. Nothing has changed then.
    """
    found: list[tuple[str, int | None]] = []
    if not anyway:
        _require_nothing_unsent(here, path)

    def look(connection: Connection) -> None:
        state = read_state(connection)
        if isinstance(here, Present) and state.node != here.node and not anyway:
            raise BadValue(
                f"This is a copy of {state.name}; the node here is {here.name}. Nothing was changed. If this folder is to be {state.name},"
                " restore with --anyway: what is here is then kept aside."
            )
        found.append((state.name, state.as_of_ms))

    aside = files.put_back(Sqlite(), file, path, look, now_ms)
    return Restored(*found[0], aside)


def _require_nothing_unsent(here: Present | Unreadable | None, path: Path) -> None:
    if isinstance(here, Unreadable):
        raise BadValue(
            f"The database here ({path}) cannot be read: {here.why}. So nobody can tell whose it is, or whether work in it was never sent."
            " Nothing was changed. Restore with --anyway to put the backup in its place: the file is then kept aside, not deleted."
        )
    if here is not None and here.unsynced:
        raise BadValue(
            f"The database here holds work that was never sent: {here.unsynced:,} in all. Send it first (outpost node sync), or restore"
            " with --anyway: it then stays in the file that is set aside."
        )


def _check(connection: Connection) -> None:
    read_state(connection)
