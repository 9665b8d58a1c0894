"""A node's process: joined through the real invitation, exchanging over HTTP with signatures. One process per node.

The functions run in the worker that `Node` starts and keep the open node in `_open`; what they return are figures.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import httpx

from bench import machine
from node import database, identity
from node.cycle import Cycle, Report
from node.joining import join
from node.transport import HttpExchange
from schema.cli import collect_rarely
from schema.registry import load

P = ParamSpec("P")
T = TypeVar("T")

IDLE_TIMES = 20


class Node:
    """A node in a process of its own, while the block lasts."""

    def __init__(self, home: Path, url: str, code: str | None = None, *, joins: bool = True) -> None:
        self.home = home
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        if joins:
            self.run(_start, home, url, code)
        else:
            self.run(collect_rarely)

    @property
    def path(self) -> Path:
        """Return its database."""
        return self.home / "node.db"

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a function returns over there."""
        return self._pool.submit(work, *args, **kwargs).result()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown()


@dataclass
class _Open:
    database: database.Database
    exchange: HttpExchange
    sent: int = 0
    received: int = 0

    def cycle(self) -> Cycle:
        return Cycle(self.database, self.exchange)


_open: list[_Open] = []


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _start(home: Path, url: str, code: str | None) -> None:
    collect_rarely()  # as the program does
    path, schema = home / "node.db", load(())
    opened = database.Database(path, schema, _now_ms) if code is None else join(home, url, code, schema, _now_ms, by_file=False)
    exchange = HttpExchange(url, opened.state().node, identity.load(home))
    found = _Open(opened, exchange)

    def count_request(request: httpx.Request) -> None:
        found.sent += int(request.headers.get("content-length", 0))

    def count_reply(response: httpx.Response) -> None:
        found.received += int(response.headers.get("content-length", 0))

    exchange._client.event_hooks = {"request": [count_request], "response": [count_reply]}
    _open[:] = [found]


@dataclass(frozen=True)
class Moved:
    """What a step took: seconds, processor seconds of this process, bytes of bodies, transactions pushed, rows pulled."""

    seconds: float
    cpu: float
    sent: int
    received: int
    pushed: int
    pulled: int
    peak_mb: float


@dataclass(frozen=True)
class First:
    """What it took to begin with all there is: seconds of joining and of the first exchange after it, bytes of the file, rows here."""

    joining: float
    exchange: float
    bytes: int
    rows: int
    peak_mb: float


def first(home: Path, url: str, code: str) -> First:
    """Join, and exchange for the first time."""
    bytes_ = 0

    def progress(step: str, done: int, _of: int) -> None:
        nonlocal bytes_
        bytes_ = done if step == "file" else bytes_

    start = time.perf_counter()
    with closing(join(home, url, code, load(()), _now_ms, progress)) as opened:
        joined = time.perf_counter()
        with HttpExchange(url, opened.state().node, identity.load(home)) as exchange:
            Cycle(opened, exchange).sync()
        end = time.perf_counter()
        rows = int(opened.connection.execute("SELECT COUNT(*) FROM sale").fetchone()[0])
    return First(joined - start, end - joined, bytes_, rows, machine.peak_mb())


def push() -> Moved:
    """Seal and push everything, to the last acknowledgement."""
    return _timed(lambda cycle, report: cycle.push(report))


def pull() -> Moved:
    """Pull everything, to the commit that holds rows and cursor."""
    return _timed(lambda cycle, report: cycle.pull(report))


def sync() -> Moved:
    """Run a whole exchange."""
    return _timed(lambda cycle, _: cycle.sync())


def idle_ms() -> float:
    """Return the median milliseconds of an exchange with nothing to do, on the open connection."""
    times = []
    for _ in range(IDLE_TIMES):
        start = time.perf_counter()
        _open[0].cycle().sync()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def count(table: str) -> int:
    """Return how many rows a table has."""
    return int(_open[0].database.connection.execute(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0])


def settings() -> dict[str, object]:
    """Return what the node's connection is set to."""
    return machine.settings(_open[0].database.connection)


def _timed(work: Callable[[Cycle, Report], Any]) -> Moved:
    opened, report = _open[0], Report()
    sent, received, cpu = opened.sent, opened.received, time.process_time()
    start = time.perf_counter()
    work(opened.cycle(), report)
    seconds = time.perf_counter() - start
    return Moved(
        seconds,
        time.process_time() - cpu,
        opened.sent - sent,
        opened.received - received,
        report.pushed,
        report.pulled,
        machine.peak_mb(),
    )
