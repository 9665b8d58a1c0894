"""What a database must be able to do for the engine; one implementation per file beside this one.

The engine writes its SQL once, with `?` parameters and the common subset (upserts with ON CONFLICT, UPDATE … FROM, RETURNING).
What cannot be said in it stands here: types, keys, capture, opening, and how a write transaction takes its place in the
order of versions. A second database is a second file; the contract suite in tests/contract runs over the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from schema.declare import Table
from schema.past import Column

ROW_ID = "_rid"
"""The engine's own row number: rises with every insert and is never used twice (SPIKE §1)."""

NUMBERED = (("_change", "hi"), ("_clock", "rid"), ("_tombstone", "rid"))
"""Tables of the centre's bookkeeping that keep row numbers (with the number `t` of their table), and the column."""

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

    def commit(self) -> None:
        """Commit."""

    def rollback(self) -> None:
        """Roll back."""

    def close(self) -> None:
        """Close."""


class News(Protocol):
    """Which rows are new since the last look, by their numbers. Valid inside the write transaction it was asked for in."""

    ranges: dict[str, tuple[int, int]]
    """By table: the number below its first new row, and that of the last."""

    set_back: dict[str, int]
    """Tables whose numbering another program has begun anew, and the mark that new rows must lie above."""

    def holds(self, table: str, rid: int) -> bool:
        """Tell whether a row is new."""

    def condition(self, table: str, rid: str) -> str:
        """Return an SQL condition that a row is new which lies in its table's range; `rid` is SQL for its number."""

    def before(self, table: str, rid: str) -> str:
        """Return an SQL condition that a row was there before the look."""

    def taken(self) -> None:
        """Take the rows in `ranges` as seen."""


class Displaced(Exception):
    """Something of another program's has put other rows than the new ones where these were to be, or left some out."""


class Dialect(Protocol):
    """One database."""

    name: str
    is_typed: bool
    """Whether a column keeps values of its own type alone."""

    def open(self, url: Path | str, *, readonly: bool = False) -> Connection:
        """Return a connection with durable commits, a bounded cache and a busy timeout."""

    def file_of(self, connection: Connection) -> Path | None:
        """Return the file that a connection works on, if it is one."""

    def is_away(self, error: Exception) -> bool:
        """Tell whether the database could not be reached, or went away in the middle of something."""

    def is_cut(self, connection: Connection) -> bool:
        """Tell whether a connection has come to its end by no doing of ours."""

    def life(self, connection: Connection) -> bytes | None:
        """Return 16 bytes that name what all processes read until the database may have been put back to a copy; None where each
        process that opens it has to draw them.
        """

    def prepare(self, connection: Connection) -> None:
        """Make what `begin_write` needs, in a database that may be empty. Outside any transaction."""

    def begin_write(self, connection: Connection, ahead_of: Sequence[str] = ()) -> None:
        """Begin a transaction that holds its place in the order of versions until it commits (ENGINE §3).

        `ahead_of`: tables that no program may write to from before its snapshot to its commit. It may wait for those at work.
        """

    def begin_alone(self, connection: Connection, tables: Sequence[str]) -> None:
        """Begin like `begin_write`, when nobody else is at work on these tables, and let nobody begin with them. It may wait."""

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

    def news(self, connection: Connection, numbers: Mapping[str, int]) -> News:
        """Return what is new in tables, given by name and number in the log."""

    def length(self, column: Column, sql: str) -> str:
        """Return SQL for the bytes of a column's value, given as SQL; some number of a few bytes where it is a number."""

    def part_of(self, sql: str, place: int) -> str:
        """Return SQL for a part of a composite key, which is kept as a JSON array (schema/keys.py)."""

    def month_of(self, date: str, ms: str) -> str:
        """Return SQL for the month (YYYY-MM) that a text begins with which is a date; else of a time in ms, NULL where that has none."""

    def value_of(self, column: Column, old: Any) -> Any:
        """Return a value of a column as the log kept it."""

    def set_applying(self, connection: Connection, on: bool) -> None:
        """Switch capture off while the engine itself writes, or on again. Inside the same transaction."""

    def mark_all(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        """Take every row of these tables as seen: what the engine itself wrote is not captured as somebody else's."""

    def tables_there(self, connection: Connection) -> set[str]:
        """Return the names of the tables in a database."""

    def columns_of(self, connection: Connection, table: str) -> dict[str, str]:
        """Return the columns of a table, each with the type it is declared with; none where there is no such table."""

    def stream(self, connection: Connection, sql: str, parameters: Sequence[object] = ()) -> Iterator[Any]:
        """Yield the rows of a query, some of them in memory at a time. Inside a transaction."""

    def go_on_after_copy(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        """Let every number that this database gives out lie above those of the rows that were copied into it, graves included."""

    def highest(self, connection: Connection) -> dict[str, int]:
        """Return the highest row number ever given out, per table that had an insert."""

    def go_on_from(self, connection: Connection, table: str, number: int) -> None:
        """Let new rows of a table get numbers above this one."""

    def insert(self, connection: Connection, table: str, number: int, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        """Insert new rows of a table, given by name and number, in their order; return the first one's row number, the others follow on.

        Inside a savepoint: after a refusal some may be there, and the caller rolls back to it. Raises Displaced likewise.
        """

    def ruled(self, connection: Connection) -> set[str]:
        """Return the tables, in small letters, on which other programs have laid triggers, rules or unique indexes: there a row may hang
        on others, and on the statement that writes it.
        """

    def next_row(self, connection: Connection, number: int) -> int | None:
        """Return the row number that a new row of the engine's in a table must be given; None where the database does that."""

    def renumber(self, connection: Connection, table: str, rid: int) -> int:
        """Give a row a number that no row ever had, and return it."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Return what the driver raises for a file that is no database, or not ours."""

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether a rule of the database, be it another program's, refuses a row."""

    def taken_key(self, error: Exception) -> str | None:
        """Return the table in which a row has come under a key while we were at work, if that is what an error says."""

    def views_there(self, connection: Connection) -> set[str]:
        """Return the names of the views in a database, whoever made them."""

    def is_complete(self, connection: Connection, schema_tables: Sequence[Table], views: Collection[str]) -> bool:
        """Tell whether nothing need be created in a database that was written under this very declaration."""

    def words_of(self, error: Exception) -> str:
        """Return what an error says, for people."""

    def is_passing(self, error: Exception) -> bool:
        """Tell whether the same work, done again, may pass: somebody else wrote meanwhile what it had read."""

    def is_in_words(self, error: Exception) -> bool:
        """Tell whether a statement itself was wrong: what it says, or what the schema says that it works on."""

    def flaw(self, connection: Connection, sql: str) -> str | None:
        """Return why a statement does not compile, with the triggers it sets off; None if it does. Nothing is run."""

    def is_of_the_disk(self, error: Exception) -> bool:
        """Tell whether the disk could not be read, written or opened, or is full."""

    def is_undecodable(self, error: Exception) -> bool:
        """Tell whether reading failed because a TEXT value is not valid UTF-8."""

    def read_through(self, connection: Connection, on: bool) -> None:
        """Make the connection keep little of what it reads: who reads everything once, reads nothing twice."""

    def read_bytes(self, connection: Connection, on: bool) -> None:
        """Make the connection return TEXT with bytes that are not UTF-8 as surrogate escapes, or stop it."""


class Files(Dialect, Protocol):
    """A dialect whose databases are files."""

    def open_alone(self, url: Path) -> Connection | None:
        """Open a file and keep all others out of it until the connection is closed; None while anybody has it open.

        All that was committed is in the one file then, and nobody who comes later by an old name writes into it.
        """

    def empty_log(self, connection: Connection) -> bool:
        """Take what was deleted out of the log of recent commits too; False while another program is reading."""

    def backup(self, source: Path, target: Path, pages: int, progress: Callable[[int, int], None]) -> None:
        """Copy an open database as it is at this moment into a new private file, pages at a time; progress gets (done, of how many)."""

    def is_whole(self, connection: Connection) -> bool:
        """Tell whether a database's own check finds nothing wrong."""
