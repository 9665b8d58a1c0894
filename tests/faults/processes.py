"""A centre and nodes as real processes that are started, stopped, killed and started again, with the ordinary commands.

Commands are forks of one process that has imported the program (tests/processes/drivers/starter.py), so a command costs
some milliseconds, opens its own files and connections, and dies as any process does. Every hundredth is the ordinary command
from its first instruction: the fork becomes it by exec.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.database import Place
from tests import databases

ROOT = Path(__file__).parents[2]
START_SECONDS = 30
FRESH_EVERY = 100
"""Of so many commands, one is started by exec, from nothing."""


@dataclass
class Running:
    """A command that was started."""

    pid: int
    out: Path
    err: Path

    def said(self) -> str:
        """Return what it has printed so far."""
        return self.out.read_text(encoding="utf-8") if self.out.exists() else ""


def state(running: Running) -> str:
    """Return the letter that the system gives for a process's state; one that ended is Z until it is waited for."""
    text = Path(f"/proc/{running.pid}/stat").read_text(encoding="utf-8")
    return text.rpartition(")")[2].split()[0]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it goes while we look
        return False


def kill_at_once(pid: int) -> None:
    """Kill a process outright, if it is there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def until_gone(pids: Iterable[int]) -> None:
    """Wait until processes have ended that somebody else reaps."""
    deadline = time.monotonic() + START_SECONDS
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "a process that was killed does not end"
        time.sleep(0.002)  # nothing tells us


class Starter:
    """Starts commands as processes of their own, at once. `environment` is added to theirs."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder, self.count, self.fresh = folder, 0, 0
        command = [sys.executable, "-m", "tests.processes.drivers.starter"]
        everything = os.environ | (environment or {})
        everything.pop("PYTHONDONTWRITEBYTECODE", None)  # what is compiled once need not be compiled for every command
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=everything)

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def start(self, *arguments: object, **how: Any) -> Running:
        """Start a command; see the driver for `how`."""
        self.count += 1
        out, err = self.folder / f"{self.count}.out", self.folder / f"{self.count}.err"
        if not how.keys() & {"call", "clock_offset_ms", "watch"}:
            how = {"fresh": self.count % FRESH_EVERY == 0, **how}
            self.fresh += how["fresh"]
        typed = [each if isinstance(each, (int, float)) and how.get("call") else str(each) for each in arguments]
        return Running(self._order({"start": {"arguments": typed, "out": str(out), "err": str(err), **how}})["pid"], out, err)

    def wait(self, running: Running) -> int:
        """Wait for a command's end; return its status, negative if it was killed."""
        status: int = self._order({"wait": running.pid})["status"]
        errors = running.err.read_text(encoding="utf-8") if running.err.exists() else ""
        assert "Traceback" not in errors, errors
        return status

    def kill(self, running: Running) -> int:
        """Kill a command outright; return its status."""
        os.kill(running.pid, signal.SIGKILL)  # it is not waited for yet, so the number is still its own
        return self.wait(running)

    def run(self, *arguments: object, **how: Any) -> tuple[int, Any]:
        """Run a command to its end; return its status and its document."""
        running = self.start(*arguments, "--json", **how)
        return self.wait(running), json.loads(running.said())

    def ok(self, *arguments: object, **how: Any) -> Any:
        """Run a command that must succeed; return its document."""
        status, document = self.run(*arguments, **how)
        assert status == 0, document
        return document

    def close(self) -> None:
        """End the starter; what it started must have ended."""
        self.process.communicate("")


@dataclass(frozen=True)
class NodeHome:
    """A node's folder."""

    home: Path

    @property
    def name(self) -> str:
        """Return what it is called."""
        return self.home.name

    @property
    def path(self) -> Path:
        """Return its database."""
        return self.home / "node.db"


class Server:
    """A server process of a home, that is killed and started again on the same port."""

    def __init__(self, starter: Starter, home: Path, *, workers: int = 1) -> None:
        self.starter, self.home, self.port, self.workers = starter, home, 0, workers
        self.running: Running | None = None

    def start(self, **how: Any) -> None:
        """Serve; returns when the server listens."""
        crew = ("--workers", self.workers) if self.workers > 1 else ()
        self.running = self.starter.start("server", "--home", self.home, "run", "--port", self.port, *crew, **how)
        if not how.get("stopped"):
            self.await_ready()

    def await_ready(self) -> None:
        """Wait until the server listens."""
        assert self.running is not None
        deadline = time.monotonic() + START_SECONDS
        while not (line := self.running.said()).endswith("\n"):
            assert time.monotonic() < deadline, self.running.err.read_text(encoding="utf-8")
            time.sleep(0.005)  # a process starts; there is nothing else to wait for
        self.port = int(line.strip().rsplit(":", 1)[1])

    def kill(self) -> None:
        """Kill it and its workers, if it runs."""
        if self.running is not None:
            workers = self.worker_pids()
            running, self.running = self.running, None
            assert self.starter.kill(running) == -signal.SIGKILL
            for pid in workers:
                kill_at_once(pid)
            until_gone(workers)

    def worker_pids(self) -> list[int]:
        """Return the processes that serve for it; none where it serves by itself."""
        if self.running is None or self.workers == 1:
            return []
        try:
            return list(map(int, Path(f"/proc/{self.running.pid}/task/{self.running.pid}/children").read_text(encoding="utf-8").split()))
        except FileNotFoundError:
            return []

    def reap(self) -> int:
        """Wait for the end of a server that something else has killed."""
        assert self.running is not None
        running, self.running = self.running, None
        return self.starter.wait(running)


class Centre(Server):
    """The server of a new centre, and on PostgreSQL `more` of them, of homes of their own on the same database.

    `place`: a database that is there already, and is the caller's to drop. `workers`: processes of the first server.
    """

    def __init__(self, starter: Starter, folder: Path, *, more: int = 0, place: str | None = None, workers: int = 1) -> None:
        super().__init__(starter, folder / "server", workers=workers)
        self.folder, self.is_placed = folder, place is not None
        self.path: Place = place or (databases.new() if databases.is_postgres() else self.home / "server.db")
        self.servers: list[Server] = [self, *(Server(starter, folder / f"server-{number}") for number in range(2, more + 2))]
        for server in self.servers:
            where = ["--database", self.path, "--existing"] if isinstance(self.path, str) else []
            starter.ok("server", "--home", server.home, "init", *where)
            server.start()

    def close(self) -> None:
        """Kill all and drop the database, if it is no file."""
        for server in self.servers:
            server.kill()
        if not self.is_placed:
            databases.drop(self.path)

    def invite(self, name: str, *scope: str) -> str:
        """Return an invitation code."""
        keys = [part for key in scope for part in ("--scope", key)]
        code: str = self.starter.ok("server", "--home", self.home, "invite", "--name", name, *keys)["code"]
        return code

    def node(self, name: str, *scope: str, port: int = 0) -> NodeHome:
        """Return a new node that has joined, through another port if one is given."""
        node = NodeHome(self.folder / name)
        url = f"http://127.0.0.1:{port or self.port}"
        self.starter.ok("node", "--home", node.home, "join", url, self.invite(name, *scope), "--plain")
        return node
