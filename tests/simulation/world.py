"""The simulated world: tests/world.py with a seed, checks after everything that happens, and files that cost little.

Real code throughout. What is simulated: chance (`secrets`), time (the clock, also the one SQL triggers read), the network
(Wire), and durability, which is off: nobody pulls a plug here.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from sqlcipher3 import dbapi2

import node.database
import server.database
from schema.dialects.base import Connection
from schema.dialects.sqlite import Sqlite
from schema.keys import key_text
from server import nodes
from server.service import Service
from sync.change import Delete, Op
from sync.messages import JoinRequest
from sync.segment import read_segment, transactions
from tests.simulation.actors import Fresh
from tests.simulation.causes import Causes
from tests.simulation.oracle import Key, Rows, all_keys, cut, differences, read, replay
from tests.simulation.schema import simulated_schema
from tests.world import Clock, Link, Node, World

MEMORY = Path("/dev/shm")


class Violation(AssertionError):
    """Something that must hold did not."""


class SimulatedSqlite(Sqlite):
    """SQLite without waiting for a disk, whose triggers read the simulator's clock."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self.clock_ms = clock_ms

    def open(self, url: Path, *, readonly: bool = False) -> Connection:
        connection: Any = dbapi2.connect(str(url), isolation_level=None, check_same_thread=False, cached_statements=512)
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "temp_store=MEMORY", "cache_size=-2000", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("julianday", 1, lambda _now: 2440587.5 + self.clock_ms() / 86_400_000)
        return connection  # type: ignore[no-any-return]


def make_folder() -> Path:
    """Return a new folder for simulated files, in memory if the machine has such a place."""
    return Path(tempfile.mkdtemp(prefix="outpost-sim-", dir=MEMORY if MEMORY.is_dir() else None))


@cache
def templates(within: Path | None) -> Path:
    """Return a folder with an empty server.db and node.db, made once per process; `within` a folder, or to be cleaned up."""
    folder = within / f"process-{os.getpid()}" if within else make_folder()
    folder.mkdir(exist_ok=True)
    if within is None:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    schema = simulated_schema()
    server.database.create(folder / "server.db", schema).close()
    begin = {"node": "?", "name": "?", "url": "", "epoch": 1, "incarnation": bytes(16), "box_key": bytes(32)}
    node.database.create(folder / "node.db", schema, lambda: 0, **begin).close()  # type: ignore[arg-type]
    return folder


@contextmanager
def seeded(random: Random) -> Iterator[None]:
    """Let `secrets` draw from the seed; skip creating tables that the templates have."""
    with (
        patch.object(secrets, "token_bytes", random.randbytes),
        patch.object(secrets, "choice", random.choice),
        patch.object(node.database, "install", lambda *_: None),
        patch.object(server.database, "install", lambda *_: None),
    ):
        yield


@dataclass(frozen=True)
class Work:
    """One transaction of a node, as it was sealed."""

    segment: bytes
    index: int
    number: int
    ops: tuple[Op, ...]


@dataclass
class Snapshot:
    """The centre's rows at one version, and every row's scope keys."""

    rows: Rows
    keys: dict[str, dict[Key, set[str]]]


@dataclass
class Station:
    """A node, another program's connection to its file, and what it has done so far."""

    node: Node
    program: Any
    works: list[Work] = field(default_factory=list)
    sealed: int = 0  # newest segment taken down in `works`
    gone: dict[tuple[str, Key], set[Any]] = field(default_factory=dict)
    busy: int = 0  # exchanges under way

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def cursor(self) -> int:
        return self.node.database.state().cursor.number

    def view(self) -> Rows:
        return read(self.node.database.connection, self.node.database.schema)


class SimulatedWorld(World):
    """A server and its nodes, one history of them."""

    def __init__(self, seed: int, trace: bool = False, within: Path | None = None) -> None:
        self.random, self.clock, self.schema = Random(seed), Clock(), simulated_schema()
        self.templates = templates(within)
        self.folder = Path(tempfile.mkdtemp(prefix=f"s{seed}-", dir=self.templates))
        shutil.copy(self.templates / "server.db", self.folder / "server.db")
        dialect = SimulatedSqlite(self.clock.read)
        self.database = server.database.Database(self.folder / "server.db", self.schema, dialect)
        self.service = Service(self.database)
        self.centre: Any = dialect.open(self.folder / "server.db")
        self.nodes: dict[str, Node] = {}
        self.stations: list[Station] = []
        self.fresh = Fresh(self.random)
        self.causes = Causes({table.name: table.key for table in self.schema.tables})
        self.counts: Counter[str] = Counter()
        self.traced, self.trace = trace, list[str]()
        self.head, self.dirty = 0, False
        empty: Rows = {table.name: {} for table in self.schema.tables}
        self.snapshots = {0: Snapshot(empty, all_keys(empty))}
        self.truth: dict[tuple[bytes, int], list[tuple[int, str]]] = defaultdict(list)
        self.journal: dict[bytes, int] = {}
        self.replaced: dict[tuple[bytes, int], tuple[int, tuple[bytes, int]]] = {}  # withdrawn work: when, and what took its place
        self.entitled: dict[str, list[tuple[int, frozenset[str]]]] = {}
        self.conflict_values: dict[tuple[str, str], set[Any]] = defaultdict(set)
        self.watchers: list[Callable[[Snapshot, Snapshot], None]] = []

    def say(self, *words: object) -> None:
        """Add a line to the trace."""
        if self.traced:
            self.trace.append(" ".join(map(str, words)))

    # --- nodes -----------------------------------------------------------------------------------------------------

    def join(self, name: str, link: type[Link], *scope: str) -> Station:
        """Let a node join."""
        with self.database.writing() as store:
            code = nodes.invite(store, name, scope, self.clock.read())
        incarnation = self.random.randbytes(16)
        reply = self.service.join(JoinRequest((1,), code, self.random.randbytes(32), incarnation), self.clock.read())
        path, skew = self.folder / f"{name}.db", [0]
        shutil.copy(self.templates / "node.db", path)
        dialect = SimulatedSqlite(lambda: self.clock.read(skew[0]))
        database = node.database.Database(path, self.schema, lambda: self.clock.read(skew[0]), dialect)
        sql = "UPDATE _node SET node = ?, name = ?, incarnation = ?, box_key = ?"
        database.connection.execute(sql, (reply.node, name, incarnation, reply.box_key))
        self.nodes[name] = Node(name, database, link(self, reply.node), skew)
        station = Station(self.nodes[name], dialect.open(path))
        self.stations.append(station)
        self.observe()
        self.entitled[name] = [(self.head, frozenset(scope))]
        return station

    def station(self, identity: str) -> Station:
        return next(station for station in self.stations if station.node.link.identity == identity)

    def scope_of(self, name: str, version: int | None = None) -> frozenset[str]:
        """Return what a node was entitled to at a version, or is now."""
        found: frozenset[str] = frozenset()
        for since, keys in self.entitled[name]:
            if version is None or since <= version:
                found = keys
        return found

    # --- watching the centre ------------------------------------------------------------------------------------------

    def observe(self) -> None:
        """Take down what the centre holds now, if it has a new version, and look at what has become of its rows."""
        head = self.centre.execute("SELECT head FROM _server").fetchone()[0]
        if head == self.head:
            return
        rows = read(self.centre, self.schema)
        last, now = self.snapshots[self.head], Snapshot(rows, all_keys(rows))
        self.snapshots[head] = now
        since, self.head, self.dirty = self.head, head, False
        self._take_down(since)
        for watcher in self.watchers:
            watcher(last, now)

    def _take_down(self, since: int) -> None:
        for segment, version in self.centre.execute("SELECT segment, ver FROM _journal WHERE ver > ? AND segment NOT NULL", (since,)):
            self.journal[segment] = version
        sql = "SELECT segment, txn, ver, into_segment, into_txn FROM _withdrawn WHERE into_segment NOT NULL"
        self.replaced = {(segment, txn): (version, (into, index)) for segment, txn, version, into, index in self.centre.execute(sql)}
        sql = "SELECT segment, txn, ver, verdict FROM _verdict WHERE ver > ? ORDER BY ver"
        for segment, index, version, verdict in self.centre.execute(sql, (since,)):
            self.truth[segment, index].append((version, verdict))
            self.counts[f"verdict {verdict}"] += 1
            self.say("  verdict", segment.hex()[:6], index, verdict, "at", version)

    def verdict(self, work: Work, version: int) -> str:
        """Return what had become of a transaction at a version: pending, held, refused (or withdrawn), or done. Of one that a
        correction took the place of: what had become of that.
        """
        return self._verdict((work.segment, work.index), version)

    def _verdict(self, name: tuple[bytes, int], version: int) -> str:
        since, into = self.replaced.get(name, (1 << 62, name))
        if since <= version:
            return self._verdict(into, version)
        found = self.truth.get(name, ())
        standing = "pending"
        if self.journal.get(name[0], 1 << 62) <= version and not any(at == self.journal[name[0]] for at, _ in found):
            standing = "done"
        for at, verdict in found:
            if at <= version:
                standing = {"held": "held", "refused": "refused", "withdrawn": "refused"}.get(verdict, "done")
        return standing

    # --- watching the nodes --------------------------------------------------------------------------------------------

    def harvest(self, station: Station) -> None:
        """Take down what a node has sealed."""
        sql = "SELECT seq, body FROM _segment WHERE seq > ? ORDER BY seq"
        for seq, body in station.node.database.connection.execute(sql, (station.sealed,)).fetchall():
            if seq != station.sealed + 1:
                raise AssertionError("the simulator missed a segment")
            station.sealed = seq
            segment = read_segment(body)
            keys = {name: table.key for name, table in self.schema.by_name.items()}
            for work in transactions(segment, keys):
                self.causes.lives.update((op.table, op.key) for op in work.ops if isinstance(op, Delete))
                station.works.append(Work(segment.id, work.index, work.number, tuple(work.ops)))
                self.say("  sealed", station.name, segment.id.hex()[:6], work.index, f"n={work.number}", *map(_short, work.ops))

    def expected(self, station: Station) -> Rows:
        """Return what a node's people must see: the centre's rows at its cursor, cut to its scope, and its pending work."""
        cursor = station.cursor
        snapshot = self.snapshots[cursor]
        known = cut(snapshot.rows, snapshot.keys, self.scope_of(station.name, cursor))
        pending = [op for work in station.works if self.verdict(work, cursor) in ("pending", "held") for op in work.ops]
        return replay(known, self.schema, pending)

    def check(self, station: Station, when: str) -> None:
        """Check that a node's tables are the centre's rows at its cursor, cut to its scope, and its own pending work."""
        self.harvest(station)
        if station.node.database.has_changes():
            return  # not sealed yet: looked at after the next exchange
        self.counts["checks"] += 1
        found = differences(station.view(), self.expected(station))
        if found:
            raise Violation(f"{station.name} {when}, cursor {station.cursor}: " + "; ".join(found[:4]))
        for row in [
            row for row in station.gone if not any(row == (op.table, op.key) for work in self.unfinished(station) for op in work.ops)
        ]:
            del station.gone[row]

    def unfinished(self, station: Station) -> list[Work]:
        """Return the work a node's cursor does not cover, or that is held."""
        return [work for work in station.works if self.verdict(work, station.cursor) in ("pending", "held")]

    def close(self) -> None:
        for station in self.stations:
            station.program.close()
        self.centre.close()
        super().close()
        shutil.rmtree(self.folder)


def _short(op: Op) -> str:
    kind = type(op).__name__[:3].lower()
    if kind == "upd":
        return f"{kind} {op.table} {key_text(op.key)} {[(e.cell, e.old, e.new, e.base, e.since) for e in op.edits]}"  # type: ignore[union-attr]
    values = {k: v for k, v in op.values.items() if v is not None} if kind == "ins" else ""  # type: ignore[union-attr]
    return f"{kind} {op.table} {key_text(op.key)} {values} base={op.base} since={op.since}"  # type: ignore[union-attr]
