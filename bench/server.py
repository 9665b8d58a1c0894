"""The server's process: `outpost server run` as anybody would run it, on a home of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    """A running server."""

    home: Path
    url: str
    pid: int

    @property
    def path(self) -> Path:
        """Return its database."""
        return self.home / "server.db"

    def invite(self, name: str, *scope: str) -> str:
        """Return an invitation code."""
        keys = [part for key in scope for part in ("--scope", key)]
        return str(_outpost(self.home, "invite", "--name", name, *keys)["code"])


@contextmanager
def running(home: Path, database: str | None = None) -> Iterator[Server]:
    """Run a new server while the block lasts, on a file or on an empty PostgreSQL database."""
    _outpost(home, "init", *(["--database", database] if database else []))
    command = _command(home, "run", "--port", "0")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        try:
            yield Server(home, ready["url"], process.pid)
        finally:
            process.terminate()


def _outpost(home: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(_command(home, *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _command(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "schema.cli", "server", "--home", str(home), *arguments, "--json"]
