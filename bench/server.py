"""The server's process: the real app, nonces and signatures, on a database of its own. `python -m bench.server HOME`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schema.registry import load
from server import database, nodes, serve
from server.app import create_app
from server.nonces import SqliteNonces
from server.service import Service

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
        opened = database.Database(self.path, load(()))
        try:
            with opened.writing() as store:
                return nodes.invite(store, name, scope, now_ms())
        finally:
            opened.close()


def now_ms() -> int:
    """Return the time in ms since 1970."""
    return time.time_ns() // 1_000_000


@contextmanager
def running(home: Path) -> Iterator[Server]:
    """Run a new server while the block lasts."""
    if not (home / "server.db").exists():
        database.create(home / "server.db", load(())).close()
    command = [sys.executable, "-m", "bench.server", str(home)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        try:
            yield Server(home, url, process.pid)
        finally:
            process.terminate()


def main(home: Path) -> None:
    """Serve until told to stop."""
    service = Service(database.Database(home / "server.db", load(())))
    serve.run(create_app(service, SqliteNonces(home / "nonces.db"), clock_ms=now_ms), port=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
