"""Recording: a node and its centre at work under shim.c, with marks in the recording for what was acknowledged.

A mark is a line written to the file `acks` in the recorded folder: it comes into the recording after everything that the
acknowledgement rests on. The control run lowers `synchronous`, so that what the checker looks for must be found.
"""

from __future__ import annotations

import os
import random
from contextlib import closing
from pathlib import Path

from node.database import Database
from node.writer import transaction
from schema.dialects.base import Connection
from schema.dialects.sqlite import Sqlite
from schema.registry import load
from tests.faults import shim
from tests.faults.processes import Centre, NodeHome, Starter
from tests.faults.warmed import outpost
from tests.faults.workload import _now_ms, steps

ACKS = "acks"


def recorded(folder: Path, seed: int, transactions: int, synchronous: str = "FULL") -> Path:
    """Record a till's work from before it joins and return the recording; `folder` is best in memory, no sync is slow there."""
    under = folder / "world"
    under.mkdir(parents=True)
    trace = folder / "trace"
    environment = {"LD_PRELOAD": str(shim.compiled(folder)), "OUTPOST_TRACE": str(trace), "OUTPOST_UNDER": f"{under}/"}
    starter = Starter(folder, environment)
    try:
        centre = Centre(starter, under)
        node = NodeHome(under / "till")
        code = centre.invite(node.name, "branch:LON")
        url = f"http://127.0.0.1:{centre.port}"
        running = starter.start(node.home, url, code, seed, transactions, synchronous, call="record")
        status = starter.wait(running)
        assert status == 0, (status, running.said())
        centre.kill()
    finally:
        starter.close()
    return trace


def record(home: Path, url: str, code: str, seed: int, transactions: int, synchronous: str) -> None:
    """Join, sell in bursts and sync between them, telling each acknowledgement; runs in the recorded process."""
    chance = random.Random(seed)
    acks = os.open(home.parent / ACKS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    _lower(synchronous)
    _command("node", "--home", str(home), "join", url, code, "--plain")
    os.write(acks, b"joined\n")
    done = 0
    while done < transactions:
        count = min(transactions - done, chance.randrange(1, 40))
        _burst(home, seed, done, count, acks)
        done += count
        _command("node", "--home", str(home), "sync")
        os.write(acks, b"synced\n")
    os.close(acks)


def _burst(home: Path, seed: int, first: int, count: int, acks: int) -> None:
    with closing(Database(home / "node.db", load(), _now_ms)) as database:
        for acknowledgement, statements in steps(home.name, first, count, seed):
            with transaction(database) as tx:
                for sql, values in statements:
                    tx.connection.execute(sql, values)
            os.write(acks, f"{acknowledgement}\n".encode())


def _command(*arguments: str) -> None:
    assert outpost(arguments) == 0, arguments


def _lower(synchronous: str) -> None:
    """Make every connection of this process less careful: the control, which must lose something."""
    if synchronous == "FULL":
        return
    usual = Sqlite.open

    def careless(self: Sqlite, url: Path, *, readonly: bool = False) -> Connection:
        connection = usual(self, url, readonly=readonly)
        connection.execute(f"PRAGMA synchronous={synchronous}")
        return connection

    Sqlite.open = careless  # type: ignore[method-assign]
