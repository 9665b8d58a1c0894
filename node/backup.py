"""Backup of a node. A node that was put back from one, or copied, notices at its next exchange and goes on under a new
incarnation: what it had sent comes back from the centre, what the copy holds unsent is sent (PROTOCOL.md §7.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node import outbox, verdicts
from node.database import Database, read_state
from schema import backup as files
from schema.dialects.base import Connection
from schema.dialects.sqlite import Sqlite


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


def restore(file: Path, path: Path, now_ms: int) -> Restored:
    """Put a backup in the place of a node's database. Raises BadValue, HomeBusy while a program has it open; nothing has changed then."""
    found: list[tuple[str, int | None]] = []

    def look(connection: Connection) -> None:
        state = read_state(connection)
        found.append((state.name, state.as_of_ms))

    aside = files.put_back(Sqlite(), file, path, look, now_ms)
    return Restored(*found[0], aside)


def _check(connection: Connection) -> None:
    read_state(connection)
