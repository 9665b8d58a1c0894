"""The real program as real processes: one server per module on a free port, nodes in folders of their own.

`run` runs one command with --json and insists that standard output is exactly one JSON document. Commands are forks of a
process that has imported the program already (warm.py); the server, and every command of test_commands.outpost, start
from nothing. Foreign programs are processes too: they know Python's own sqlite3 and nothing of ours.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from server.database import Place
from tests import databases
from tests import foreign as foreign_program

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "schema.cli"]
SECONDS_MAX = 120

FOREIGN = """
import json, sqlite3, sys
path, script = sys.argv[1], json.load(sys.stdin)
database = sqlite3.connect(path, isolation_level=None, timeout=30)
database.execute("PRAGMA foreign_keys=ON")
database.execute("BEGIN IMMEDIATE")
found = [database.execute(sql, values).fetchall() for sql, values in script]
database.execute("COMMIT")
print(json.dumps(found[-1] if found else []))
"""


@dataclass(frozen=True)
class Done:
    """What a command answered."""

    status: int
    document: Any
    errors: str
    peak_kib: int | None = None

    @property
    def error(self) -> str:
        """The code of a failure."""
        assert set(self.document) == {"error"}, self.document
        assert set(self.document["error"]) == {"code", "message"}
        assert self.document["error"]["message"]
        code: str = self.document["error"]["code"]
        return code


class Warm:
    """Commands as processes that need not import the program first."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.processes.warm"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self._stop)

    def run(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        """Return (exit status, standard output, standard error) of one command."""
        return self.measure(arguments)[:3]

    def measure(self, arguments: Sequence[str]) -> tuple[int, str, str, int | None]:
        """Return (exit status, standard output, standard error, peak memory in KiB) of one command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            self._process.stdin.write(json.dumps({"arguments": arguments, "out": str(out), "err": str(err)}) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
            return answer["status"], out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"), answer["peak_kib"]

    def _stop(self) -> None:
        self._process.communicate("")


@cache
def warm() -> Warm:
    """Return this test process's runner of commands."""
    return Warm()


def run(part: str, home: Path, *arguments: object, runner: Warm | None = None) -> Done:
    """Run one command with --json. A runner takes one at a time: threads need one each."""
    status, out, err, peak_kib = (runner or warm()).measure([part, "--home", str(home), *map(str, arguments), "--json"])
    assert "Traceback" not in err, err
    assert out.count("\n") == 1, out
    return Done(status, json.loads(out), err, peak_kib)


@dataclass(frozen=True)
class Node:
    """A node's home."""

    home: Path

    def run(self, *arguments: object, runner: Warm | None = None) -> Done:
        """Run a command of this node."""
        return run("node", self.home, *arguments, runner=runner)

    def ok(self, *arguments: object) -> Any:
        """Run a command of this node that must succeed; return its document."""
        done = self.run(*arguments)
        assert done.status == 0, done.document
        return done.document

    def sync(self) -> dict[str, Any]:
        """Sync, which must succeed."""
        document: dict[str, Any] = self.ok("sync")
        return document

    def write(self, *script: tuple[str, list[Any]]) -> list[list[Any]]:
        """Let a foreign program run SQL in one transaction; return the last statement's rows."""
        return foreign(self.home / "node.db", *script)


def foreign(path: Path, *script: tuple[str, list[Any]]) -> list[list[Any]]:
    """Run SQL in a process that knows nothing of us."""
    command = [sys.executable, "-I", "-c", FOREIGN, str(path)]
    done = subprocess.run(command, input=json.dumps(script), capture_output=True, text=True, timeout=SECONDS_MAX, check=True)
    found: list[list[Any]] = json.loads(done.stdout)
    return found


@dataclass
class Centre:
    """A server's home, and the process that serves it."""

    home: Path
    folder: Path
    process: subprocess.Popen[str] | None = None
    url: str = ""
    database: Place = Path()

    def __post_init__(self) -> None:
        self.database = databases.new() if databases.is_postgres() else self.home / "server.db"

    def write(self, *script: tuple[str, list[Any]]) -> None:
        """Let a central program run SQL in one transaction."""
        if isinstance(self.database, Path):
            foreign(self.database, *script)
        else:
            foreign_program.run(self.database, *((sql, *values) for sql, values in script))

    def start(self, port: int = 0, *arguments: str) -> None:
        """Serve; returns when the server listens."""
        command = [*PROGRAM, "server", "--home", str(self.home), "run", "--port", str(port), *arguments]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Outpost server ready on http://127.0.0.1:"), line
        self.url = line.split()[-1]

    def stop(self) -> None:
        """Stop serving as a service manager would."""
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(10) == 0
            assert self.process.stdout is not None
            assert self.process.stdout.read() == "", "one line when ready, and nothing else"
            self.process.stdout.close()
            self.process = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rsplit(":", 1)[1])

    def run(self, *arguments: object, runner: Warm | None = None) -> Done:
        """Run a command of the server, while it serves."""
        return run("server", self.home, *arguments, runner=runner)

    def ok(self, *arguments: object) -> Any:
        """Run a command of the server that must succeed; return its document."""
        done = self.run(*arguments)
        assert done.status == 0, done.document
        return done.document

    def invite(self, name: str, *scope: str) -> str:
        """Return an invitation code."""
        code: str = self.ok("invite", "--name", name, *(part for key in scope for part in ("--scope", key)))["code"]
        return code

    def node(self, name: str, *scope: str) -> Node:
        """Return a new node that has joined."""
        node = Node(self.folder / name)
        node.ok("join", self.url, self.invite(name, *scope), "--plain")
        return node


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    """Return a server that serves this module's tests."""
    with served(tmp_path_factory.mktemp("world")) as made:
        yield made


@contextmanager
def served(folder: Path) -> Iterator[Centre]:
    """Run a new server in a folder while the block lasts."""
    made = Centre(folder / "server", folder)
    made.ok("init", *(["--database", made.database] if isinstance(made.database, str) else []))
    made.start()
    try:
        yield made
    finally:
        made.stop()
        databases.drop(made.database)
