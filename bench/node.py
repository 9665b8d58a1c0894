"""A node's process: joined through the real invitation, exchanging over HTTP with signatures. One process per node.

The functions run in the worker that `Node` starts and keep the open node in `_open`; what they return are figures.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import httpx

from bench import machine
from bench.workers import worker
from node import database, identity
from node.cycle import Cycle
from node.joining import join
from node.report import Report
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
        self._pool = worker()
        self._pid = self._pool.submit(os.getpid).result()
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
        if error is not None:  # nobody waits any more for what it is at
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        self._pool.shutdown()


@dataclass
class _Open:
    database: database.Database
    exchange: HttpExchange
    sent: int = 0
    received: int = 0
    bodies: int = 0

    def cycle(self) -> Cycle:
        return Cycle(self.database, self.exchange)


_open: list[_Open] = []


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def join_only(home: Path, url: str, code: str) -> Path:
    """Join in this process, leave it at that, and return the new node's database: other programs work in it."""
    join(home, url, code, load(()), _now_ms, by_file=False).close()
    return home / "node.db"


def _start(home: Path, url: str, code: str | None) -> None:
    collect_rarely()  # as the program does
    path, schema = home / "node.db", load(())
    opened = database.Database(path, schema, _now_ms) if code is None else join(home, url, code, schema, _now_ms, by_file=False)
    exchange = HttpExchange(url, opened.state().node, identity.load(home))
    found = _Open(opened, exchange)

    def count_request(request: httpx.Request) -> None:
        found.bodies += _body(request.headers)
        found.sent += len(f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n") + _size(request.headers)

    def count_reply(response: httpx.Response) -> None:
        found.bodies += _body(response.headers)
        found.received += len(f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n") + _size(response.headers)

    exchange._client.event_hooks = {"request": [count_request], "response": [count_reply]}
    _open[:] = [found]


def _size(headers: httpx.Headers) -> int:
    """Return the bytes of headers as HTTP/1.1 writes them, and of the body they announce."""
    return sum(len(name) + len(value) + 4 for name, value in headers.raw) + 2 + _body(headers)


def _body(headers: httpx.Headers) -> int:
    return int(headers.get("content-length", 0))


@dataclass(frozen=True)
class Moved:
    """What a step took: seconds, processor seconds of this process, bytes of HTTP with its headers, and of bodies alone
    both ways, transactions pushed, rows pulled.
    """

    seconds: float
    cpu: float
    sent: int
    received: int
    bodies: int
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


@dataclass(frozen=True)
class Idle:
    """An exchange with nothing to do: median milliseconds, bytes of HTTP both ways with headers, and of bodies alone."""

    ms: float
    bytes: float
    body_bytes: float


def idle() -> Idle:
    """Return what an exchange with nothing to do takes on the open connection."""
    found = [_timed(lambda cycle, _: cycle.sync()) for _ in range(IDLE_TIMES)]
    return Idle(
        statistics.median(each.seconds for each in found) * 1000,
        statistics.median(each.sent + each.received for each in found),
        statistics.median(each.bodies for each in found),
    )


@dataclass(frozen=True)
class Stored:
    """The size of a node's database file, its log put away, in bytes: all of it, and without pages that are free for what comes."""

    file: int
    used: int


def stored() -> Stored:
    """Return how large the node's database is."""
    connection = _open[0].database.connection
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    size, pages, free = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "page_count", "freelist_count"))
    return Stored(size * pages, size * (pages - free))


def count(table: str) -> int:
    """Return how many rows a table has."""
    return int(_open[0].database.connection.execute(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0])


def settings() -> dict[str, object]:
    """Return what the node's connection is set to."""
    return machine.settings(_open[0].database.connection)


def _timed(work: Callable[[Cycle, Report], Any]) -> Moved:
    opened, report = _open[0], Report()
    sent, received, bodies, cpu = opened.sent, opened.received, opened.bodies, time.process_time()
    start = time.perf_counter()
    work(opened.cycle(), report)
    seconds = time.perf_counter() - start
    return Moved(
        seconds,
        time.process_time() - cpu,
        opened.sent - sent,
        opened.received - received,
        opened.bodies - bodies,
        report.pushed,
        report.pulled,
        machine.peak_mb(),
    )
