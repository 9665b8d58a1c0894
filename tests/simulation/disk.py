"""Files that cost little: a process's databases are emptied and used again, with their connections and compiled statements.

A history asks for a `File` of a kind (server, node), opens connections to it and gives it back. Making the tables and
compiling the engine's statements is paid once per process of the simulator, not once per history: that is most of what a
history used to cost.

Connections belong to a `Process`. Killing it is what a power cut or SIGKILL does to a database: whatever its connections
have not committed is gone, nothing is closed, and whoever opens the file next starts from what was committed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2

from schema.dialects.base import Connection
from schema.dialects.sqlite import Sqlite

MEMORY = Path("/dev/shm")
PRAGMAS = ("journal_mode=WAL", "synchronous=OFF", "temp_store=MEMORY", "cache_size=-2000", "secure_delete=ON")
_COMPILED = 1024

Content = list[tuple[str, list[Any]]]
"""Statements, each with the rows it is run for, that make an open database what another one is."""


class Crash(BaseException):
    """The process is dead. Not an Exception: nothing in the engine may catch it and go on."""


class Process:
    """Connections that live and die together, and what is to happen at one of their statements."""

    def __init__(self, name: str, clock_ms: Callable[[], int]) -> None:
        self.name, self.clock_ms = name, clock_ms
        self.dead = False
        self.statements = 0
        self.hook: Callable[[Session, str], None] | None = None  # called before every statement; it may raise

    def die(self) -> None:
        """Die here and now."""
        self.dead = True
        raise Crash(self.name)

    def tick(self, session: Session, sql: str) -> None:
        """Count a statement."""
        if self.dead:
            raise Crash(self.name)
        self.statements += 1
        if self.hook is not None:
            self.hook(session, sql)


class Session(dbapi2.Connection):  # type: ignore[misc]
    """A connection of a process."""

    file: File
    process: Process

    def execute(self, sql: str, *parameters: Any) -> Any:
        process = self.process  # what tick does, without the call: most of what happens here is statements
        if process.dead:
            raise Crash(process.name)
        process.statements += 1
        if process.hook is not None:
            process.hook(self, sql)
        return _execute(self, sql, *parameters)

    def executemany(self, sql: str, *parameters: Any) -> Any:
        self.process.tick(self, sql)
        return super().executemany(sql, *parameters)

    def commit(self) -> None:
        self.process.tick(self, "COMMIT")
        super().commit()

    def rollback(self) -> None:
        if not self.process.dead:
            super().rollback()

    @staticmethod
    def in_words(sql: str) -> str:
        """Return a program's statement as it is."""
        return sql

    def undo(self) -> None:
        """Roll back as SQLite itself does it: no statement of the process."""
        super().rollback()

    def fail(self, whole: bool) -> Exception:
        """Return what a write says when the disk is full; SQLite may undo the `whole` transaction by itself."""
        if whole:
            self.undo()
        return dbapi2.OperationalError("database or disk is full")

    def let_go(self) -> None:
        """Let go of what it was reading."""
        super().execute("BEGIN")
        super().rollback()

    def close(self) -> None:
        self.file.closed(self)

    def really_close(self) -> None:
        super().close()


_execute = dbapi2.Connection.execute


class File:
    """One database file, its open sessions, and those that wait to be used again: a dead process's not before the history is over,
    for its code may still hold them, and must find them dead.
    """

    def __init__(self, path: Path, source: Path, version: int) -> None:
        self.path, self.version = path, version  # version: that of its declared tables
        self.open: list[Session] = []
        self._idle: list[Session] = []
        self._dead: list[Session] = []
        shutil.copy(source, path)

    def dialect(self, process: Process) -> SimulatedSqlite:
        """Return the dialect that a process opens it by."""
        return SimulatedSqlite(self, process)

    def copy_to(self, path: Path, session: Session) -> None:
        """Copy the database, as it is at this moment."""
        target = dbapi2.connect(str(path))
        session.backup(target)
        target.close()

    def restored_from(self, restore: Callable[[Path], object]) -> None:
        """Be put in its place by the engine's own restore, which is given where that is."""
        self.shut()
        restore(self.path)

    def connect(self, process: Process) -> Session:
        """Return a connection for a process."""
        if self._idle:
            session = self._idle.pop()
            session.process = process
        else:
            session = dbapi2.connect(
                str(self.path), isolation_level=None, check_same_thread=False, cached_statements=_COMPILED, factory=Session, timeout=0.2
            )
            session.file, session.process = self, process
            for pragma in PRAGMAS:
                _execute(session, f"PRAGMA {pragma}")  # no statement of the process: a history must not depend on what ran before
            session.create_function("julianday", 1, lambda _now: 2440587.5 + session.process.clock_ms() / 86_400_000)
        self.open.append(session)
        return session  # type: ignore[no-any-return]

    def closed(self, session: Session) -> None:
        """Take a session back. What it has not committed is gone, and so is what it was reading, as if it were closed."""
        if session not in self.open:
            return
        self.open.remove(session)
        dead = session.process.dead
        if session.in_transaction:
            session.undo()
        elif dead:
            session.let_go()
        (self._dead if dead else self._idle).append(session)

    def bury(self, process: Process) -> None:
        """Let go of what a dead process had open."""
        for session in [session for session in self.open if session.process is process]:
            self.closed(session)

    def shut(self) -> None:
        """Close everything for good: the file lies there alone."""
        for session in [*self.open, *self._idle, *self._dead]:
            session.really_close()
        self.open, self._idle, self._dead = [], [], []

    def replace(self, source: Path) -> None:
        """Put another database of the same tables in the place of this one, row by row: statements stay compiled. Nobody has it
        open.
        """
        self.become(content_of(source))

    def content(self) -> Content:
        """Return what makes another database what this one is. Somebody had it open."""
        return _content(self._idle[-1])

    def tear(self) -> None:
        """Go on with copies of file and log as they lie there this moment, whatever is open: what is left after a power cut."""
        log = Path(f"{self.path}-wal")
        kept = [(part, part.read_bytes()) for part in (self.path, log) if part.exists()]
        self.shut()
        self.remove()
        for part, content in kept:
            part.write_bytes(content)

    def remove(self) -> None:
        for part in self.path.parent.glob(f"{self.path.name}*"):  # log, what a restore set aside, snapshots
            shutil.rmtree(part) if part.is_dir() else part.unlink()

    def rest(self) -> None:
        """Take every session back: the history is over."""
        for session in reversed(self.open.copy()):  # whoever opens it in the same order gets what has its statements compiled
            self.closed(session)
        self._idle = [*self._dead, *self._idle]
        self._dead = []

    def become(self, content: Content) -> None:
        """Make the file what another one is."""
        for session in reversed(self.open.copy()):
            self.closed(session)
        if not self._idle:
            self.closed(self.connect(Process("reset", lambda: 0)))
        session = self._idle[-1]
        whose, session.process = session.process, Process("reset", lambda: 0)
        session.execute("BEGIN IMMEDIATE")
        for sql, rows in content:
            session.executemany(sql, rows)
        session.commit()
        session.process = whose


def content_of(source: Path) -> Content:
    """Return what makes another database of the same tables what this one is, row numbers included."""
    connection = dbapi2.connect(str(source), isolation_level=None)
    try:
        return _content(connection)
    finally:
        connection.close()


def _content(connection: Any) -> Content:
    sql = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    tables: dict[str, str] = dict(connection.execute(sql).fetchall())
    names = [name for name in tables if name != "_state"] + ["_state", "sqlite_sequence"]  # until then capture does not look
    content: Content = [("UPDATE _state SET applying = 1", [()]), *((f"DELETE FROM {name}", [()]) for name in names)]
    for name in names:
        if name == "sqlite_sequence":
            content.append(("DELETE FROM sqlite_sequence", [()]))
        named = any(words in tables.get(name, "") for words in ("INTEGER PRIMARY KEY", "WITHOUT ROWID"))
        rows = connection.execute(f"SELECT {'' if named else 'rowid, '}* FROM {name}")
        columns = ", ".join(f'"{each[0]}"' for each in rows.description)
        values = ", ".join("?" * len(rows.description))
        content.append((f"INSERT INTO {name} ({columns}) VALUES ({values})", rows.fetchall()))
    return [(sql, rows) for sql, rows in content if rows]


class Pool:
    """The files of one process of the simulator, by kind and version."""

    errors: tuple[type[Exception], ...] = (dbapi2.Error,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._free: dict[tuple[str, int], list[File]] = defaultdict(list)
        self._empty: dict[str, Content] = {}
        self._count = 0

    def take(self, kind: str) -> File:
        """Return an empty database of a kind."""
        if free := self._free[kind, 1]:
            free[-1].become(self.empty(kind))
            return free.pop()
        return self.fresh(kind)

    def empty(self, kind: str) -> Content:
        """Return what an empty database of a kind is, whose template lies in the folder."""
        if kind not in self._empty:
            self._empty[kind] = content_of(self.folder / f"{kind}.db")
        return self._empty[kind]

    def fresh(self, kind: str) -> File:
        """Return a new empty database."""
        return self.scratch(kind, self.folder / f"{kind}.db", 1)

    def copy(self, kind: str, source: Path, version: int) -> File:
        """Return a database that is what another one is, which nobody has open."""
        if free := self._free[kind, version]:
            free[-1].replace(source)
            return free.pop()
        return self.scratch(kind, source, version)

    def scratch(self, kind: str, source: Path, version: int) -> File:
        """Return a copy of a file of which no connection is known."""
        self._count += 1
        return File(self.folder / f"{kind}-{self._count}.db", source, version)

    def settled(self, kind: str, scratch: File) -> File:
        """Return what a scratch file is among those used before, or itself if there is none. Nobody has it open any more."""
        free = self._free[kind, scratch.version]
        if not free:
            return scratch
        free[-1].become(scratch.content())
        scratch.shut()
        scratch.remove()
        return free.pop()

    def give_back(self, kind: str, file: File) -> None:
        """Take a file back; one that cannot be let go of is thrown away."""
        try:
            file.rest()
            self._free[kind, file.version].append(file)
        except self.errors:
            file.shut()
            file.remove()


class SimulatedSqlite(Sqlite):
    """SQLite without waiting for a disk, whose triggers read the simulator's clock, as one process has it open."""

    def __init__(self, file: File, process: Process) -> None:
        super().__init__()
        self.file, self.process = file, process

    def open(self, url: Path, *, readonly: bool = False) -> Connection:
        if url == self.file.path:
            return self.file.connect(self.process)  # type: ignore[return-value]
        return super().open(url, readonly=readonly)  # a copy of it


def make_folder() -> Path:
    """Return a new folder for simulated files, in memory if the machine has such a place."""
    return Path(tempfile.mkdtemp(prefix="outpost-sim-", dir=MEMORY if MEMORY.is_dir() else None))
