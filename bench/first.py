"""First syncs: new nodes join a centre that has many receipts, and begin with them as a file."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from bench import local, machine, node, server
from bench.figures import ON_POSTGRES, Measured
from bench.postgres import database
from bench.workload import BRANCH, sales


class Beginners:
    """A centre with many receipts, on a file or on PostgreSQL, as long as the stack lasts that it is given."""

    def __init__(self, home: Path, count: int, stack: ExitStack, measured: Measured, postgres: str | None = None) -> None:
        """Make it. `postgres`: a server in which a database may be made."""
        home.mkdir(parents=True)
        self.home, self.count, self.measured = home, count, measured
        url = stack.enter_context(database(postgres)) if postgres else None
        self.centre = stack.enter_context(server.running(home / "server", url))
        self.name = f"{ON_POSTGRES if url else ''}first sync of {count:,}"
        with node.Node(home / "till", self.centre.url, self._invite("till")) as till:
            local.insert_sales(till.path, sales(count))
            till.run(node.push)
        shutil.rmtree(home / "till")
        measured.add(f"{self.name}, MB: server before", machine.peak_mb(self.centre.pid))
        made = self._join("first")  # nobody asked for the file before
        measured.add(f"{self.name}, rows/s: the file is made for it", count / made.joining)

    def round(self, number: int) -> None:
        """Let one node begin with the file that is there."""
        found, add = self._join(f"n{number}"), self.measured.add
        add(f"{self.name}, rows/s: joining", self.count / found.joining)
        add(f"{self.name}, rows/s: joining and the first exchange", self.count / (found.joining + found.exchange))
        add(f"{self.name}, bytes a row", found.bytes / self.count)
        add(f"{self.name}, MB: node", found.peak_mb)
        add(f"{self.name}, MB: server", machine.peak_mb(self.centre.pid))

    def _join(self, name: str) -> node.First:
        place, code = self.home / name, self._invite(name)
        with node.Node(place, self.centre.url, joins=False) as other:
            found = other.run(node.first, place, self.centre.url, code)
        assert found.rows == self.count, f"{found.rows} of {self.count} came"
        shutil.rmtree(place)
        return found

    def _invite(self, name: str) -> str:
        return self.centre.invite(name, f"branch:{BRANCH}")
