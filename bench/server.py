"""The server's process: `outpost server run` as anybody would run it, on a home of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schema.registry import load
from server import nodes
from server.database import Database, Place

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    """A running server, and where its database is: a file or the URL of one of PostgreSQL."""

    place: Place
    url: str
    pid: int
    home: Path

    @property
    def path(self) -> Path:
        """Return its file. Only for a server on one."""
        assert isinstance(self.place, Path)
        return self.place

    def back_up(self) -> None:
        """Make a backup, which tells nodes what they need not keep for a restore any more."""
        _outpost(self.home, "backup", str(self.home / "backup.outpost"))

    def invite(self, name: str, *scope: str) -> str:
        """Return an invitation code."""
        return self.invite_all({name: scope})[0]

    def invite_all(self, scopes: Mapping[str, Sequence[str]]) -> list[str]:
        """Return a code for each name with its scope. Written as any command writes, beside the process that serves."""
        now_ms = time.time_ns() // 1_000_000
        with closing(Database(self.place, load(()))) as database, database.writing() as store:
            return [nodes.invite(store, name, list(scope), now_ms) for name, scope in scopes.items()]


@contextmanager
def running(home: Path, database: str | None = None, workers: int = 1) -> Iterator[Server]:
    """Run a new server while the block lasts, on a file or on an empty PostgreSQL database."""
    _outpost(home, "init", *(["--database", database] if database else []))
    command = _command(home, "run", "--port", "0", "--workers", str(workers))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        try:
            yield Server(database or home / "server.db", ready["url"], process.pid, home)
        finally:
            process.terminate()


def _outpost(home: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(_command(home, *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _command(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "schema.cli", "server", "--home", str(home), *arguments, "--json"]
