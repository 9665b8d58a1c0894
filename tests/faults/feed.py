"""The feed of a PostgreSQL centre under many writers: what each reader is told, against what was committed.

Central programs insert receipts by plain SQL over connections of their own, in transactions of any length; some pause before they commit,
some abort. Readers pull as nodes do, all the while. Beside them a control reads by the numbers that PostgreSQL gave the rows, as a
cursor on a sequence would: what commits late lies below its cursor, and it misses it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psycopg

from schema.dialects.base import ROW_ID
from schema.registry import load
from server import nodes
from server.service import Service
from sync.decoding import decode_column
from sync.messages import JoinRequest, Point, PullRequest, Told
from tests import databases

BATCH_MAX = 1_000
ABORTED, PAUSED = 0.1, 0.3
PAUSE_SECONDS_MAX = 0.05
STEP = 10**7
"""Receipt n of writer w is called w * STEP + n."""

_INSERT = (
    "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor)"
    " SELECT n::text, 'n', 'sale', 'LON', 1, 'GBP', 5 FROM generate_series(%s::bigint, %s::bigint) n"
)


@dataclass
class Under:
    """What came of it: how many rows were committed and aborted, and of each reader how many it missed, and was told twice."""

    committed: int = 0
    aborted: int = 0
    seconds: float = 0.0
    readers: dict[str, Counter[str]] = field(default_factory=dict)


class Reader:
    """Pulls as a node would, and counts how often it was told each receipt."""

    def __init__(self, service: Service, name: str) -> None:
        self.service, self.told = service, Counter[int]()
        self._incarnation, self._at = os.urandom(16), Point(0, bytes(32))
        with service.database.writing() as store:
            code = nodes.invite(store, name, ["branch:LON"], _now_ms())
        self._joined = service.join(JoinRequest((1,), code, os.urandom(32), self._incarnation), _now_ms())

    def pull(self) -> None:
        """Pull all there is now."""
        position = None
        while True:
            request = PullRequest(1, self._joined.epoch, self._incarnation, self._at, self._at, position, 0, Told(0, 0, 0, 0))
            page = self.service.pull(self._joined.node, request, _now_ms())
            for block in page.rows:
                self.told.update(map(int, decode_column(block.values[block.columns.index("id")], block.count)))  # type: ignore[arg-type]
            if (position := page.position) is None:
                self._at = page.to
                return


class Control:
    """Reads what has a higher number than all it has read."""

    def __init__(self, url: str) -> None:
        self.told, self._last = Counter[int](), -1
        self._connection = psycopg.connect(url, autocommit=True)

    def pull(self) -> None:
        """Read all there is now."""
        sql = f"SELECT {ROW_ID}, id FROM sale WHERE {ROW_ID} > %s ORDER BY {ROW_ID}"
        for number, identity in self._connection.execute(sql, (self._last,)):
            self.told[int(identity)] += 1
            self._last = number

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def run(folder: Path, seed: int, rows: int, writers: int = 32, readers: int = 2) -> Under:
    """Let writers commit so many rows, and readers read meanwhile and once more at the end."""
    under, done, kept = Under(), threading.Event(), Counter[int]()
    begun = time.monotonic()
    with closing(databases.centre(folder, load(()))) as database:
        url, service = str(database.path), Service(database)
        found: dict[str, Reader | Control] = {f"reader {number}": Reader(service, f"r{number}") for number in range(readers)}
        with closing(Control(url)) as control, ThreadPoolExecutor(writers + readers + 1) as threads:
            found["control"] = control
            reading = [threads.submit(_read, reader, done) for reader in found.values()]
            writing = [threads.submit(_write, url, Random(f"{seed} {writer}"), writer, rows // writers) for writer in range(writers)]
            for committed, aborted in (work.result() for work in writing):
                kept.update(committed)
                under.aborted += aborted
            done.set()
            for work in reading:
                work.result()
        databases.drop(url)
    under.committed, under.seconds = len(kept), time.monotonic() - begun
    for name, reader in found.items():
        missed, twice = len(kept.keys() - reader.told.keys()), sum(1 for times in reader.told.values() if times > 1)
        under.readers[name] = Counter(missed=missed, twice=twice, never_committed=len(reader.told.keys() - kept.keys()))
    return under


def _read(reader: Reader | Control, done: threading.Event) -> None:
    while not done.is_set():
        reader.pull()
    reader.pull()


def _write(url: str, random: Random, writer: int, rows: int) -> tuple[set[int], int]:
    """Write until so many rows are committed; return them, and how many were aborted."""
    kept: set[int] = set()
    aborted = 0
    with psycopg.connect(url) as connection:
        for low, high in _batches(random, writer):
            connection.execute(_INSERT, (low, high - 1))
            if random.random() < PAUSED:
                connection.execute("SELECT pg_sleep(%s)", (random.random() * PAUSE_SECONDS_MAX,))
            if random.random() < ABORTED:
                connection.rollback()
                aborted += high - low
                continue
            connection.commit()
            kept.update(range(low, high))
            if len(kept) >= rows:
                break
    return kept, aborted


def _batches(random: Random, writer: int) -> Iterator[tuple[int, int]]:
    low = writer * STEP
    while True:
        high = low + random.choice([1, 10, 100, BATCH_MAX])
        yield low, high
        low = high


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
