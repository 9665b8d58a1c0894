"""What a database must be able to do for the engine; one implementation per file beside this one.

The engine writes its SQL once, with `?` parameters and the common subset (upserts with ON CONFLICT, UPDATE … FROM, RETURNING).
What cannot be said in it stands here: types, keys, capture, opening, and how a write transaction takes its place in the
order of versions. A second database is a second file; the contract suite in tests/contract runs over the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from schema.declare import Table
from schema.past import Column

ROW_ID = "_rid"
"""The engine's own row number: rises with every insert and is never used twice (SPIKE §1)."""

DISK_ERRORS = frozenset({8, 10, 13, 14})
"""SQLite's codes for a disk that cannot be read, written or opened, or is full: READONLY, IOERR, FULL, CANTOPEN."""


class Cursor(Protocol):
    """The part of DB-API cursors the engine uses."""

    @property
    def rowcount(self) -> int:
        """Return rows changed by the last statement."""

    def fetchone(self) -> Any:
        """Return the next row or None."""

    def fetchmany(self, size: int = ..., /) -> list[Any]:
        """Return up to `size` rows."""

    def fetchall(self) -> list[Any]:
        """Return all remaining rows."""

    def __iter__(self) -> Any:
        """Iterate over rows."""


class Connection(Protocol):
    """The part of DB-API connections the engine uses."""

    @property
    def in_transaction(self) -> bool:
        """Tell whether a transaction is open."""

    def execute(self, sql: str, parameters: Sequence[object] = ..., /) -> Cursor:
        """Run one statement."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[object]], /) -> Cursor:
        """Run one statement for many parameter rows."""

    def executescript(self, sql: str, /) -> object:
        """Run several statements."""

    def commit(self) -> None:
        """Commit."""

    def rollback(self) -> None:
        """Roll back."""

    def close(self) -> None:
        """Close."""


class Dialect(Protocol):
    """One database."""

    name: str

    def open(self, url: Path, *, readonly: bool = False) -> Connection:
        """Return a connection with durable commits, a bounded cache and a busy timeout."""

    def open_alone(self, url: Path) -> Connection | None:
        """Open a file and keep all others out of it until the connection is closed; None while anybody has it open.

        All that was committed is in the one file then, and nobody who comes later by an old name writes into it.
        """

    def file_of(self, connection: Connection) -> Path:
        """Return the file that a connection works on."""

    def begin_write(self, connection: Connection) -> None:
        """Begin a transaction that holds its place in the order of versions until it commits (ENGINE §3)."""

    def begin_read(self, connection: Connection) -> None:
        """Begin a transaction that sees one snapshot."""

    def tables(self, tables: Sequence[Table]) -> list[str]:
        """Return the DDL of declared tables, their indexes and views."""

    def create(self, table: Table, name: str) -> str:
        """Return the DDL of a declared table under a name, without its indexes."""

    def column(self, column: Column) -> str:
        """Return the DDL of a column outside the key."""

    def type_name(self, column: Column) -> str:
        """Return the type a column is declared with."""

    def capture(self, table: Table, number: int) -> list[str]:
        """Return the DDL that captures what any program does to the table; `number` stands for it in the log."""

    def bookkeeping(self) -> list[str]:
        """Return the DDL of the capture's own tables: state, marks, log."""

    def highest(self, connection: Connection) -> dict[str, int]:
        """Return the highest row number ever given out, per table that had an insert."""

    def go_on_from(self, connection: Connection, table: str, number: int) -> None:
        """Let new rows of a table get numbers above this one."""

    def renumber(self, connection: Connection, table: str, rid: int) -> int:
        """Give a row a number that no row ever had, and return it."""

    def empty_log(self, connection: Connection) -> bool:
        """Take what was deleted out of the log of recent commits too; False while another program is reading."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Return what the driver raises for a file that is no database, or not ours."""

    def backup(self, source: Path, target: Path, pages: int, progress: Callable[[int, int], None]) -> None:
        """Copy an open database as it is at this moment into a new private file, pages at a time; progress gets (done, of how many)."""

    def is_whole(self, connection: Connection) -> bool:
        """Tell whether a database's own check finds nothing wrong."""

    def is_in_words(self, error: Exception) -> bool:
        """Tell whether a statement itself was wrong: what it says, or what the schema says that it works on."""

    def flaw(self, connection: Connection, sql: str) -> str | None:
        """Return why a statement does not compile, with the triggers it sets off; None if it does. Nothing is run."""

    def is_of_the_disk(self, error: Exception) -> bool:
        """Tell whether the disk could not be read, written or opened, or is full."""

    def is_undecodable(self, error: Exception) -> bool:
        """Tell whether reading failed because a TEXT value is not valid UTF-8."""

    def read_bytes(self, connection: Connection, on: bool) -> None:
        """Make the connection return TEXT with bytes that are not UTF-8 as surrogate escapes, or stop it."""
