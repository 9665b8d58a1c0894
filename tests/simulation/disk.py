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

    def undo(self) -> None:
        """Roll back as SQLite itself does it: no statement of the process."""
        super().rollback()

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

    def __init__(self, path: Path, template: Path) -> None:
        self.path, self.template, self.version = path, template, 1  # version: that of its declared tables
        self.open: list[Session] = []
        self._idle: list[Session] = []
        self._dead: list[Session] = []
        self._empty: Content = []
        shutil.copy(template, path)

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

    def forget(self) -> None:
        """Use no connection again that knows other columns: what a program keeps for itself on one goes with its process."""
        for session in self._idle:
            session.really_close()
        self._idle = []

    def replace(self, source: Path, version: int = 1) -> None:
        """Put another database in the place of this one, row by row: statements stay compiled. Nobody has it open."""
        if version == self.version:
            self._become(_content(source))
            return
        self.shut()  # other columns: the file itself then
        self.remove()
        shutil.copy(source, self.path)
        self.version = version

    def tear(self) -> None:
        """Go on with copies of file and log as they lie there this moment, whatever is open: what is left after a power cut."""
        log = Path(f"{self.path}-wal")
        kept = [(part, part.read_bytes()) for part in (self.path, log) if part.exists()]
        self.shut()
        self.remove()
        for part, content in kept:
            part.write_bytes(content)

    def remove(self) -> None:
        for part in self.path.parent.glob(f"{self.path.name}*"):  # log, and what a restore set aside
            part.unlink()

    def empty(self) -> None:
        """Make the file what its template is."""
        self._empty = self._empty or _content(self.template)
        self._become(self._empty)
        self._idle = [*self._dead, *self._idle]
        self._dead = []

    def _become(self, content: Content) -> None:
        for session in reversed(self.open.copy()):  # whoever opens it in the same order gets what has its statements compiled
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


def _content(source: Path) -> Content:
    """Return what makes another database of the same tables what this one is, row numbers included."""
    connection = dbapi2.connect(str(source), isolation_level=None)
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
    connection.close()
    return [(sql, rows) for sql, rows in content if rows]


class Pool:
    """The files of one process of the simulator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._free: dict[str, list[File]] = {}
        self._count = 0

    def take(self, kind: str) -> File:
        """Return an empty database of a kind whose template lies in the folder."""
        free = self._free.setdefault(kind, [])
        if free:
            return free.pop()
        self._count += 1
        return File(self.folder / f"{kind}-{self._count}.db", self.folder / f"{kind}.db")

    def give_back(self, kind: str, file: File) -> None:
        """Take a file back, emptied; one that cannot be emptied, or was upgraded, is thrown away."""
        try:
            if file.version == 1:
                file.empty()
                self._free[kind].append(file)
                return
        except dbapi2.Error:
            pass
        file.shut()
        file.remove()


class SimulatedSqlite(Sqlite):
    """SQLite without waiting for a disk, whose triggers read the simulator's clock, as one process has it open."""

    def __init__(self, file: File, process: Process) -> None:
        self.file, self.process = file, process

    def open(self, url: Path, *, readonly: bool = False) -> Connection:
        if url == self.file.path:
            return self.file.connect(self.process)  # type: ignore[return-value]
        return super().open(url, readonly=readonly)  # a copy of it


def make_folder() -> Path:
    """Return a new folder for simulated files, in memory if the machine has such a place."""
    return Path(tempfile.mkdtemp(prefix="outpost-sim-", dir=MEMORY if MEMORY.is_dir() else None))
