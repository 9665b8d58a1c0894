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
from sync.errors import BadValue, OutpostError


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


def present(path: Path, schema: Schema, clock_ms: Callable[[], int]) -> Present | None:
    """Return what a restore would replace; None where there is nothing, or nothing that can be read."""
    try:
        with closing(Database(path, schema, clock_ms)) as database:
            with database.writing() as store:
                outbox.seal(store, clock_ms())
            state = database.state()
            return Present(state.node, state.name, verdicts.counts(database.store)[0])
    except _UNREADABLE:
        return None


def restore(file: Path, path: Path, now_ms: int, *, here: Present | None = None, anyway: bool = False) -> Restored:
    """Put a backup in the place of a node's database. Raises HomeBusy while a program has it open; BadValue for no such backup,
    for one of another node than is `here`, and where work that was never sent would be set aside, but for `anyway`. Nothing has
    changed then.
    """
    found: list[tuple[str, int | None]] = []
    if here is not None and here.unsynced and not anyway:
        raise BadValue(
            f"The database here holds work that was never sent: {here.unsynced:,} in all. Send it first (outpost node sync), or restore"
            " with --anyway: it then stays in the file that is set aside."
        )

    def look(connection: Connection) -> None:
        state = read_state(connection)
        if here is not None and state.node != here.node:
            raise BadValue(f"This is a copy of {state.name}; the node here is {here.name}. Nothing was changed.")
        found.append((state.name, state.as_of_ms))

    aside = files.put_back(Sqlite(), file, path, look, now_ms)
    return Restored(*found[0], aside)


def _check(connection: Connection) -> None:
    read_state(connection)
