"""The centre's database on PostgreSQL, for the simulator: as a file is in disk.py, it is emptied and used again.

Chosen like the tests' own (tests/databases.py): OUTPOST_TEST_DATABASE=postgres python3 scripts/sim.py …

What triggers read as the time is the simulator's: `public` comes before `pg_catalog` on the search path, and there lies a
`clock_timestamp` that returns what the connection was told. A process that dies leaves its transaction undone, as the server
does with a connection that breaks; power cuts are PostgreSQL's own business. What two databases order differently where nobody asked
for an order may differ between two runs of a seed.
"""

from __future__ import annotations

import atexit
import contextlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg import sql as words

import server.database
from schema.dialects.base import Connection
from schema.dialects.pg_connection import Native, PgConnection
from schema.dialects.pg_connection import connect as connect_raw
from schema.dialects.postgres import Postgres
from tests import databases
from tests.simulation.disk import Pool, Process
from tests.simulation.schema import simulated_schema

_OPTIONS = "options=-c%20search_path%3Dpublic%2Cpg_catalog%20-c%20lock_timeout%3D5s"
_CLOCK = """
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
$$ SELECT COALESCE(to_timestamp(NULLIF(current_setting('outpost.sim_ms', true), '')::float8 / 1000), pg_catalog.clock_timestamp()) $$
"""
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('_lock', '_nonce') ORDER BY 1"
_SEQUENCES = (
    "SELECT quote_ident(sequencename), COALESCE(last_value, start_value), last_value IS NOT NULL FROM pg_sequences"
    " WHERE schemaname = 'public' ORDER BY 1"
)


class PgSession(PgConnection):
    """A connection of a process."""

    file: PostgresFile
    process: Process

    def execute(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = (), /) -> psycopg.Cursor[Any]:
        self.process.tick(self, sql)  # type: ignore[arg-type]
        if sql == "BEGIN IMMEDIATE":  # as a central program of the simulator begins
            self.raw.execute("BEGIN")
            sql = Native(f"SET LOCAL outpost.sim_ms = {self.process.clock_ms()}")
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Sequence[object]], /) -> psycopg.Cursor[Any]:
        self.process.tick(self, sql)  # type: ignore[arg-type]
        return super().executemany(sql, parameters)

    def stream(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[Any]:
        self.process.tick(self, sql)  # type: ignore[arg-type]
        return super().stream(sql, parameters)

    def copy_in(self, sql: str, columns: Iterable[Sequence[object]]) -> int:
        self.process.tick(self, f"INSERT by {sql}")  # type: ignore[arg-type]
        return super().copy_in(sql, columns)

    def commit(self) -> None:
        self.process.tick(self, "COMMIT")  # type: ignore[arg-type]
        super().commit()

    def rollback(self) -> None:
        if not self.process.dead:
            super().rollback()

    @staticmethod
    def in_words(sql: str) -> str:
        """Return a program's statement in PostgreSQL's words."""
        if not sql.startswith("INSERT OR REPLACE INTO "):
            return sql
        names = sql[sql.index("(") + 1 : sql.index(")")]
        told = ", ".join(f"{name} = excluded.{name}" for name in names.split(", "))
        return f"{sql.replace(' OR REPLACE', '')} ON CONFLICT (id) DO UPDATE SET {told}"

    def fail(self, _whole: bool) -> Exception:
        """Return what the server says when its disk is full; the transaction is lost then."""
        if self.in_transaction:
            with contextlib.suppress(pg.DivisionByZero):
                self.raw.execute("SELECT 1 / 0")
        return pg.DiskFull("could not extend file: No space left on device; the disk is full")

    def close(self) -> None:
        self.file.closed(self)


@dataclass(frozen=True)
class Content:
    """What makes an open database what another one is: rows of each table, and where its sequences stand."""

    tables: dict[str, tuple[list[str], list[Any]]]
    sequences: list[tuple[str, int, bool]]


class PostgresFile:
    """One database, its open sessions, and those that wait to be used again; see disk.File, whose place it takes."""

    def __init__(self, url: str, version: int) -> None:
        self.path, self.version = url, version
        self.open: list[PgSession] = []
        self._idle: list[PgSession] = []
        self._dead: list[PgSession] = []

    def dialect(self, process: Process) -> SimulatedPostgres:
        """Return the dialect that a process opens it by."""
        return SimulatedPostgres(self, process)

    def connect(self, process: Process) -> PgSession:
        """Return a connection for a process."""
        session = self._idle.pop() if self._idle else PgSession(connect_raw(self.path).raw)
        session.file, session.process = self, process
        self.open.append(session)
        return session

    def closed(self, session: PgSession) -> None:
        """Take a session back; what it has not committed is gone."""
        if session not in self.open:
            return
        self.open.remove(session)
        if session.in_transaction:
            session.raw.execute("ROLLBACK")
        if session.process.dead:
            session.raw.execute("SELECT pg_advisory_unlock_all()")  # as the end of its connection does
        (self._dead if session.process.dead else self._idle).append(session)

    def bury(self, process: Process) -> None:
        """Let go of what a dead process had open."""
        for session in [session for session in self.open if session.process is process]:
            self.closed(session)

    def shut(self) -> None:
        """Close everything for good."""
        for session in [*self.open, *self._idle, *self._dead]:
            session.raw.close()
        self.open, self._idle, self._dead = [], [], []

    tear = shut  # what is left after a power cut of the server's machine: the database is on another

    def remove(self) -> None:
        databases.drop(self.path)

    def rest(self) -> None:
        """Take every session back: the history is over."""
        for session in reversed(self.open.copy()):
            self.closed(session)
        self._idle = [*self._dead, *self._idle]
        self._dead = []

    def copy_to(self, path: Path, session: PgSession) -> None:
        """Write down what this database is, as it is at this moment."""
        path.write_bytes(pickle.dumps(_content(session.raw)))

    def content(self) -> Content:
        """Return what makes another database what this one is. Somebody had it open."""
        return _content(self._idle[-1].raw)

    def replace(self, source: Path) -> None:
        """Become what was written down. Nobody has it open."""
        self.become(content_of(source))

    def become(self, content: Content) -> None:
        """Become what another database of the same tables is."""
        self.rest()
        if not self._idle:
            self.closed(self.connect(Process("reset", lambda: 0)))
        raw = self._idle[-1].raw
        with raw.transaction():
            raw.execute("SET LOCAL outpost.applying = 'on'")
            there = [name for (name,) in raw.execute(_TABLES).fetchall()]
            assert there == list(content.tables), "another version of the tables"
            raw.execute("TRUNCATE _server")  # which names another life of the database; the others by DELETE, for that is quicker
            holding = " UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {name})" for name in there)
            for (name,) in raw.execute(holding).fetchall():
                raw.execute(words.SQL("DELETE FROM {}").format(words.Identifier(name)))
            for name, (columns, rows) in content.tables.items():
                if rows:
                    into = words.SQL("COPY {} ({}) FROM STDIN").format(
                        words.Identifier(name), words.SQL(", ").join(map(words.Identifier, columns))
                    )
                    with raw.cursor().copy(into) as copy:
                        for row in rows:
                            copy.write_row(row)
            for name, value, is_called in content.sequences:
                raw.execute("SELECT setval(%s::regclass, %s, %s)", (name, value, is_called))

    def restored_from(self, restore: Callable[[str], object]) -> None:
        """Be made anew by the engine's own restore, in a database without tables."""
        self.shut()
        databases.drop(self.path)
        _create(databases.name_of(self.path), "template0")
        restore(self.path)


def content_of(source: Path) -> Content:
    """Return what was written down."""
    content: Content = pickle.loads(source.read_bytes())
    return content


def _content(raw: psycopg.Connection[Any]) -> Content:
    with raw.transaction():
        tables = {}
        for (name,) in raw.execute(_TABLES).fetchall():
            cursor = psycopg.Cursor(raw)
            cursor.adapters.register_loader("text", psycopg.types.string.TextLoader)  # as it is kept, not as the engine reads it
            cursor.execute(words.SQL("SELECT * FROM {}").format(words.Identifier(name)))
            assert cursor.description is not None
            tables[name] = ([column.name for column in cursor.description], cursor.fetchall())
        return Content(tables, raw.execute(_SEQUENCES).fetchall())


def _create(name: str, template: str) -> str:
    """Create a database in which the clock is ours, and return its URL."""
    url = databases.new(template, name)
    url += ("&" if "?" in url else "?") + _OPTIONS
    if template == "template0":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_CLOCK)
    return url


class CentrePool(Pool):
    """The centre's databases of one process of the simulator, all of the kind `server`."""

    errors = (psycopg.Error,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._made: list[PostgresFile] = []
        url = _create(databases.fresh_name(), "template0")
        atexit.register(self._close)  # behind what stops the server, so that it runs before that
        self._template = databases.name_of(url)
        server.database.create(url, simulated_schema()).close()
        with connect_raw(url).raw as raw:
            self._nothing = _content(raw)
        self._made.append(PostgresFile(url, 1))

    def _close(self) -> None:
        """Drop everything: the process is over."""
        for made in self._made:
            made.shut()
            made.remove()

    def empty(self, _kind: str) -> Any:
        """Return what a new centre's database is."""
        return self._nothing

    def fresh(self, _kind: str, version: int = 1) -> Any:
        """Return a new centre's database."""
        self._made.append(PostgresFile(_create(databases.fresh_name(), self._template), version))
        return self._made[-1]

    def scratch(self, kind: str, source: Path, version: int) -> Any:
        """Return a database that is what was written down, and of which no connection is known."""
        made = self.fresh(kind, version)
        made.replace(source)
        return made


class SimulatedPostgres(Postgres):
    """PostgreSQL as one process has it open."""

    def __init__(self, file: PostgresFile, process: Process) -> None:
        self.file, self.process = file, process

    def open(self, url: Path | str, *, readonly: bool = False) -> Connection:
        if url == self.file.path:
            return self.file.connect(self.process)
        return super().open(url, readonly=readonly)
