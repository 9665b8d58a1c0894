"""Backup of a node. A node that was put back from one, or copied, notices at its next exchange and goes on under a new
incarnation: what it had sent comes back from the centre, what the copy holds unsent is sent (PROTOCOL.md §7.3).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from node import only_here, outbox, series
from node.database import Database, read_state
from node.only_here import OnlyHere
from schema import backup as files
from schema import bookkeeping
from schema.capture import Look, Store
from schema.dialects.base import Connection
from schema.dialects.sqlite import Sqlite
from schema.install import known_numbers
from schema.lock import HomeBusy
from schema.registry import Schema
from sync.errors import BadValue, NewerFile, NotJoined, OtherTables, OutpostError


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made, and what in it is on this disk only."""

    bytes: int
    only_here: OnlyHere

    @property
    def unsynced(self) -> int:
        """Return how many transactions in it the centre does not have yet."""
        return self.only_here.transactions


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back: whose it is, when it had last synced, the letters that its receipt numbers carry from here on, and where
    the database it replaced is.
    """

    name: str
    as_of_ms: int | None
    series: str
    aside: Path | None


def backup(database: Database, file: Path, progress: files.Progress | None = None) -> Backup:
    """Make a backup while programs go on writing. Raises AlreadyThere, BadValue.

    What was written is sealed first: the same work then has the same name in the copy and here.
    """
    with database.writing() as store:
        outbox.seal(store, database.clock_ms())
        found = only_here.look(store)

    def write(part: Path, told: files.Progress) -> None:
        database.dialect.backup(database.path, part, files.PAGES, told)

    size = files.copy(database.dialect, database.path, write, file, _check, progress)
    return Backup(size, found)


_UNREADABLE: tuple[type[Exception], ...] = (OutpostError, *Sqlite().errors)


@dataclass(frozen=True, slots=True)
class Present:
    """The database that a restore would replace: whose it is, and what in it is nowhere else."""

    node: str
    name: str
    only_here: OnlyHere


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A database that a restore would replace, of which nobody can tell whose it is and what in it was never sent."""

    why: str


def present(path: Path, schema: Schema, clock_ms: Callable[[], int]) -> Present | Unreadable | None:
    """Return what a restore would replace; None where there is no node's database.

    Raises HomeBusy while a program has it open, NewerFile for one that a newer program wrote, OtherTables for one with
    tables that this program does not declare.
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
    except (NewerFile, OtherTables):
        raise
    except _UNREADABLE as error:
        return Unreadable(str(error))


def _is_whole(connection: Connection) -> bool:
    try:
        return Sqlite().is_whole(connection)
    except Sqlite().errors:
        return False


def _look(path: Path, schema: Schema, clock_ms: Callable[[], int]) -> Present:
    """Return whose a database is and what is only there, with what any program wrote and nobody sealed yet."""
    with closing(Database(path, schema, clock_ms)) as database:
        with database.writing() as store:
            outbox.seal(store, clock_ms())
        state = database.state()
        return Present(state.node, state.name, only_here.look(database.store))


def restore(file: Path, path: Path, schema: Schema, clock_ms: Callable[[], int], *, anyway: bool = False) -> Restored:
    """Put a backup in the place of a node's database. Raises HomeBusy while a program has it open, or wrote to it meanwhile; BadValue
    for no such backup and, but for `anyway`, for one of another node than is here, and where work that is nowhere else would be set
    aside, or nobody can tell; NewerFile, CannotUpgrade for one that this program does not open. Nothing has changed then.

    The copy is brought up to date, and begins receipt numbers of its own (node/series.py), before it takes the place.
    """
    here = present(path, schema, clock_ms)
    found: list[tuple[str, int | None, str]] = []
    if not anyway:
        _require_nothing_only_here(here, path)

    def look(connection: Connection) -> None:
        bookkeeping.require_readable(connection, Sqlite(), schema)
        node, name = _whose(connection)
        if isinstance(here, Present) and node != here.node and not anyway:
            raise BadValue(
                f"This is a copy of {name}; the node here is {here.name}. Nothing was changed. If this folder is to be {name},"
                " restore with --anyway: what is here is then kept aside."
            )

    def prepare(copy: Path) -> None:
        with closing(Database(copy, schema, clock_ms)) as database:
            with database.writing() as store:
                letters = series.close(store)
            state = database.state()
            found.append((state.name, state.as_of_ms, letters))

    def last_look(held: Connection | None) -> None:
        if not anyway:
            _require_as_it_was(here, held, path, schema)

    aside = files.put_back(Sqlite(), file, path, look, clock_ms(), prepare=prepare, last_look=last_look)
    return Restored(*found[0], aside)


def _whose(connection: Connection) -> tuple[str, str]:
    """Return id and name of the node a database belongs to, whatever release wrote it. Raises NotJoined."""
    row = connection.execute("SELECT node, name, incarnation FROM _node WHERE id = 1").fetchone()
    if row is None:
        raise NotJoined("This database belongs to no node yet.")
    return row[0], row[1]


def _require_nothing_only_here(here: Present | Unreadable | None, path: Path) -> None:
    if isinstance(here, Unreadable):
        raise BadValue(
            f"The database here ({path}) cannot be read: {here.why}. So nobody can tell whose it is, or whether work in it was never sent."
            " Nothing was changed. Restore with --anyway to put the backup in its place: the file is then kept aside, not deleted."
        )
    if here is not None and here.only_here:
        raise BadValue(
            f"The database here holds what is nowhere else: {here.only_here.words()}. Nothing was changed. Send what can be sent (outpost"
            " node sync), see to the rest (outpost node held; held export FILE keeps a copy), or restore with --anyway: it then stays in"
            " the file that is set aside."
        )


def _require_as_it_was(here: Present | Unreadable | None, held: Connection | None, path: Path, schema: Schema) -> None:
    """Check, with all others kept out, that nothing was recorded since `present` looked, which seals all. Raises HomeBusy."""
    if held is None:
        is_changed = True
    elif isinstance(here, Present):
        store = Store(held, Sqlite(), schema, known_numbers(held))
        is_changed = _whose(held)[0] != here.node or bool(only_here.look(store)) or bool(Look(store))
    else:
        is_changed = bookkeeping.read(held, Sqlite()) is not None  # nobody had joined here
    if is_changed:
        raise HomeBusy(
            f"A program has written to {path} while the backup was being copied. Close every program that uses it, then restore again."
            " Nothing was changed."
        )


def _check(connection: Connection) -> None:
    read_state(connection)
