"""The simulated world: tests/world.py with a seed, checks after everything that happens, and files that cost little.

Real code throughout. What is simulated: chance (`secrets`), time (the clock, also the one SQL triggers read), the network
(Wire), and durability, which is off: nobody pulls a plug here.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import node.cycle
import node.database
import server.database
from schema.capture import Look, Store
from schema.install import number_tables
from schema.keys import key_text
from server import nodes
from server.service import Service
from server.snapshot.making import Maker
from sync.change import Delete, Op
from sync.messages import JoinRequest, Point
from sync.segment import read_segment, transactions
from tests import databases
from tests.simulation import skew as versions
from tests.simulation.actors import Fresh
from tests.simulation.causes import Causes
from tests.simulation.disk import File, Pool, Process, make_folder
from tests.simulation.lives import Life, Snapshot, Work
from tests.simulation.oracle import SCOPES, Key, Rows, all_keys, cut, differences, replay
from tests.simulation.schema import simulated_schema
from tests.simulation.threads import OneThread
from tests.world import Clock, Link, Node, World

if TYPE_CHECKING:
    from tests.simulation.remote import CentrePool


class Violation(AssertionError):
    """Something that must hold did not."""


@cache
def centre_pool(folder: Path) -> CentrePool:
    """Return this process's databases of centres that are not files."""
    from tests.simulation.remote import CentrePool

    return CentrePool(folder)


@cache
def pool(within: Path | None) -> Pool:
    """Return this process's files, made from an empty server.db and node.db; `within` a folder, or to be cleaned up."""
    folder = within / f"process-{os.getpid()}" if within else make_folder()
    folder.mkdir(exist_ok=True)
    if within is None:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    schema = simulated_schema()
    server.database.create(folder / "server.db", schema).close()
    begin = {"node": "?", "name": "?", "url": "", "epoch": 1, "incarnation": bytes(16), "box_key": bytes(32)}
    node.database.create(folder / "node.db", schema, lambda: 0, **begin).close()  # type: ignore[arg-type]
    if databases.is_postgres():
        centre_pool(folder)  # now: inside a history nothing is installed that the templates have
    return Pool(folder)


@contextmanager
def seeded(random: Random) -> Iterator[None]:
    """Let `secrets` and the order of threads draw from the seed; skip creating and numbering tables that the templates have."""
    numbers = {table.name: number for number, table in enumerate(simulated_schema().tables, 1)}

    def number(connection: Any, schema: Any) -> dict[str, int]:
        return numbers if schema.version == versions.FIRST else number_tables(connection, schema)

    with (
        patch.object(OneThread, "random", Random(random.random())),
        patch.object(node.cycle, "ThreadPoolExecutor", OneThread),
        patch.object(node.database, "number_tables", number),
        patch.object(server.database, "number_tables", number),
        patch.object(secrets, "token_bytes", random.randbytes),
        patch.object(secrets, "choice", random.choice),
        patch.object(node.database, "install", versions.install_if_older),
        patch.object(server.database, "install", versions.install_if_older),
    ):
        yield


@dataclass
class Station:
    """A node, another program's connection to its file, and what it has done so far."""

    node: Node
    program: Any
    file: File
    process: Process
    origin: str  # the name under which the centre knows it; a clone has another of its own
    works: list[Work] = field(default_factory=list)
    sealed: int = 0  # newest segment taken down in `works`
    gone: dict[tuple[str, Key], set[Any]] = field(default_factory=dict)
    typed: set[Any] = field(default_factory=set)  # values typed here
    dropped: set[Any] = field(default_factory=set)  # values that stood in columns its program had before it was upgraded
    point_seen: Point | None = None  # its cursor, when it was looked at last
    busy: int = 0  # exchanges under way
    version: int = versions.FIRST  # of the declaration that its program has
    told: int = versions.FIRST  # the version in which it was told what it shows
    _view: tuple[Any, tuple[int, int], Rows] | None = None  # as last read, by which connection, and what it said of changes then

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def cursor(self) -> int:
        return self.point.number

    @property
    def point(self) -> Point:
        """Return its cursor with the digest of the centre's chain there."""
        return Point(*self.program.execute("SELECT cursor, cursor_digest FROM _node WHERE id = 1").fetchone())

    @property
    def has_changes(self) -> bool:
        """Tell whether something is not sealed yet."""
        database = self.node.database
        return bool(Look(Store(self.program, database.dialect, database.schema, database.store.numbers)))

    def view(self) -> Rows:
        """Return its rows, not to be changed: the ones read last, where SQLite says that nobody has written since."""
        others = self.program.execute("PRAGMA data_version").fetchone()[0]  # rises with what other connections commit
        changes = (others, self.program.total_changes)
        if self._view is None or self._view[:2] != (self.program, changes):
            self._view = (self.program, changes, versions.plain_rows(self.program, self.file.version))
        return self._view[2]


def is_healing(station: Station) -> bool:
    """Tell whether a node says that it is still healing from a restore of the centre: until then it shows rows of two histories."""
    return bool(station.program.execute("SELECT healing FROM _node WHERE id = 1").fetchone()[0])


class SimulatedWorld(World):
    """A server and its nodes, one history of them."""

    def __init__(self, seed: int, trace: bool = False, within: Path | None = None, upgrades: bool = False) -> None:
        self.seed = seed
        self.random, self.clock = Random(seed), Clock()
        self.upgrades, self.version = upgrades, versions.FIRST  # of the declaration that the centre's program has
        self.schema = versions.plain_schema() if upgrades else simulated_schema()  # as the oracle has it
        self.server_skew = 0
        self.pool = pool(within)
        self.is_file = not databases.is_postgres()  # whether the centre is
        self.taken: list[tuple[str, File]] = []
        self.paths: list[Path] = []
        self.file = self.take("server")
        self.boot()
        self.centre: Any = self.file.connect(Process("central program", self.clock.read))
        self.nodes: dict[str, Node] = {}
        self.stations: list[Station] = []
        self.fresh = Fresh(self.random)
        self.causes = Causes({table.name: table.key for table in self.schema.tables})
        self.counts: Counter[str] = Counter()
        self.traced, self.trace = trace, list[str]()
        self.head, self.dirty = 0, False
        empty: Rows = {table: {} for table in SCOPES}
        self.life = Life()
        self.life.snapshots[0], self.life.digests[0] = Snapshot(empty, all_keys(empty)), bytes(32)
        self.lives = [self.life]
        self.works: dict[tuple[bytes, int], tuple[Work, str]] = {}  # everything sealed anywhere, and by whom
        self.copied = self.restored = False  # whether a node's, or the centre's, database was ever copied back
        self.beyond_recovery: set[Any] = set()  # transactions, or values, that were on no other disk than one that was overwritten
        self.conflict_values: dict[tuple[str, str], set[Any]] = defaultdict(set)
        self.watchers: list[Callable[[Snapshot, Snapshot], None]] = []

    def say(self, *words: object) -> None:
        """Add a line to the trace."""
        if self.traced:
            self.trace.append(" ".join(map(str, words)))

    # --- files and processes -------------------------------------------------------------------------------------------

    def take(self, kind: str) -> File:
        """Return an empty database file, given back at the end."""
        return self._taken(kind, self._pool(kind).take(kind))

    def take_copy(self, kind: str, source: Path, version: int, upgrade: Callable[[File], None] | None = None) -> File:
        """Return a file that is what another one is, or what a newer program's `upgrade` makes of a copy of it; given back at the end."""
        if upgrade is None:
            return self._taken(kind, self._pool(kind).copy(kind, source, version))
        scratch = self._pool(kind).scratch(kind, source, version)
        try:
            upgrade(scratch)
        except BaseException:
            scratch.shut()
            scratch.remove()
            raise
        return self._taken(kind, self._pool(kind).settled(kind, scratch))

    def _pool(self, kind: str) -> Any:
        return self.pool if self.is_file or kind == "node" else centre_pool(self.pool.folder)

    def _taken(self, kind: str, file: File) -> File:
        self.taken.append((kind, file))
        return file

    def new_path(self, kind: str) -> Path:
        """Return where a copy may lie until the end."""
        self.paths.append(self.pool.folder / f"{kind}-{len(self.paths)}.copy")
        return self.paths[-1]

    def copy_of(self, kind: str, connection: Any) -> Path:
        """Copy a database, as it is at this moment, to where it may lie until the end."""
        path = self.new_path(kind)
        connection.file.copy_to(path, connection)
        return path

    def boot(self) -> None:
        """Start the server's process."""
        self.process = Process("server", self.clock.read)
        dialect = self.file.dialect(self.process)
        self.database = server.database.Database(self.file.path, versions.declared(self.version), dialect, clock_ms=self.server_time)
        self.making: list[Callable[[], None]] = []  # what a process that died was at is nobody's
        maker = Maker(self.database, self.server_time, start=self.making.append, rows_min=1)
        self.service = Service(self.database, maker if self.seed % 2 else None)  # half of all worlds have no snapshots

    def server_time(self) -> int:
        """Return what the server's clock shows."""
        return self.clock.read(self.server_skew)

    # --- nodes -----------------------------------------------------------------------------------------------------

    def join(self, name: str, link: type[Link], *scope: str) -> Station:
        """Let a node join."""
        with self.database.writing() as store:
            code = nodes.invite(store, name, scope, self.clock.read())
        incarnation = self.random.randbytes(16)
        reply = self.service.join(JoinRequest((1,), code, self.random.randbytes(32), incarnation), self.clock.read())
        file, skew = self.take("node"), [0]
        process = Process(name, lambda: self.clock.read(skew[0]))
        database = node.database.Database(file.path, versions.declared(versions.FIRST), process.clock_ms, file.dialect(process))
        database.connection.execute(
            "UPDATE _node SET node = ?, name = ?, incarnation = ?, box_key = ?", (reply.node, name, incarnation, reply.box_key)
        )
        station = self.add_station(Node(name, database, link(self, reply.node), skew), file, process, name)
        self.observe()
        self.life.entitled[name] = [(self.head, frozenset(scope))]
        return station

    def add_station(self, made: Node, file: File, process: Process, origin: str) -> Station:
        self.nodes[made.name] = made
        program = file.connect(Process(f"program at {made.name}", process.clock_ms))
        self.stations.append(Station(made, program, file, process, origin))
        return self.stations[-1]

    def open_node(self, station: Station) -> None:
        """Start a node's process anew on its file, after the old one died or the file was replaced."""
        station.file.bury(station.process)
        if station.program not in station.file.open:
            station.program = station.file.connect(station.program.process)
        station.process = Process(station.name, station.process.clock_ms)
        schema, dialect = versions.declared(station.version), station.file.dialect(station.process)
        station.node.database = node.database.Database(station.file.path, schema, station.process.clock_ms, dialect)

    def open_server(self) -> None:
        """Start the server's process anew."""
        self.file.bury(self.process)
        if self.centre not in self.file.open:
            self.centre = self.file.connect(self.centre.process)
        self.boot()

    def station_of(self, link: Link) -> Station:
        return next(station for station in self.stations if station.node.link is link)

    def scope_of(self, name: str, version: int | None = None, life: Life | None = None) -> frozenset[str]:
        """Return what a node was entitled to at a version, or is now."""
        found: frozenset[str] = frozenset()
        for since, keys in (life or self.life).entitled[name]:
            if version is None or since <= version:
                found = keys
        return found

    # --- watching the centre ------------------------------------------------------------------------------------------

    def observe(self) -> None:
        """Take down what the centre holds now, if it has a new version, and look at what has become of its rows."""
        head, digest = self.centre.execute("SELECT head, digest FROM _server").fetchone()
        if head == self.head:
            return
        rows = self.centre_rows()
        last, now = self.life.snapshots[self.head], Snapshot(rows, all_keys(rows))
        self.life.snapshots[head], self.life.digests[head] = now, digest
        since, self.head, self.dirty = self.head, head, False
        self._take_down(since)
        for watcher in self.watchers:
            watcher(last, now)

    def centre_rows(self) -> Rows:
        """Return what the centre holds this moment."""
        rows = versions.plain_rows(self.centre, self.file.version, centre=True)
        return versions.complete(rows) if self.upgrades else rows

    def _take_down(self, since: int) -> None:
        life = self.life
        for segment, version in self.centre.execute("SELECT segment, ver FROM _journal WHERE ver > ? AND segment IS NOT NULL", (since,)):
            life.journal[segment] = version
        sql = "SELECT segment, txn, ver, into_segment, into_txn FROM _withdrawn WHERE into_segment IS NOT NULL"
        life.replaced = {(segment, txn): (version, (into, index)) for segment, txn, version, into, index in self.centre.execute(sql)}
        life.taken_by = {name: life.taken_by.get(name, into) for name, (_, into) in life.replaced.items()}
        sql = "SELECT segment, txn, ver, verdict FROM _verdict WHERE ver > ? ORDER BY ver"
        for segment, index, version, verdict in self.centre.execute(sql, (since,)):
            life.truth[segment, index].append((version, verdict))
            self.counts[f"verdict {verdict}"] += 1
            self.say("  verdict", segment.hex()[:6], index, verdict, "at", version)

    def verdict(self, work: Work, version: int) -> str:
        """Return what had become of a transaction at a version of this life of the centre."""
        return self.life.verdict(work, version)

    # --- watching the nodes --------------------------------------------------------------------------------------------

    def harvest(self, station: Station) -> None:
        """Take down what a node has sealed."""
        sql = "SELECT seq, body FROM _segment WHERE seq > ? ORDER BY seq"
        for seq, body in station.program.execute(sql, (station.sealed,)).fetchall():
            if seq != station.sealed + 1:
                raise AssertionError("the simulator missed a segment")
            station.sealed = seq
            segment = read_segment(body)
            keys = {name: table.key for name, table in self.schema.by_name.items()}
            for work in transactions(segment, keys):
                self.causes.lives.update((op.table, op.key) for op in work.ops if isinstance(op, Delete))
                ops = tuple(versions.plain_op(op, segment.schema) for op in work.ops)
                station.works.append(Work(segment.id, work.index, work.number, ops))
                self.works[segment.id, work.index] = (station.works[-1], station.origin)
                self.say("  sealed", station.name, segment.id.hex()[:6], work.index, f"n={work.number}", *map(_short, ops))

    def life_of(self, station: Station) -> Life | None:
        """Return the newest life of the centre that a node's cursor lies in; None: none that was ever seen."""
        return self._life_at(station.point)

    def _life_at(self, cursor: Point) -> Life | None:
        return next((life for life in reversed(self.lives) if life.digests.get(cursor.number) == cursor.digest), None)

    def expected(self, station: Station, *, untold: bool = False, along: bool = True) -> Rows:
        """Return what a node's people must see: the centre's rows at its cursor, cut to its scope, and its pending work. Cells that
        its version does not have are there as well; what it has not been told since it was upgraded is, if `untold`.
        """
        point = station.point
        cursor, life = point.number, self._life_at(point)
        if life is None:
            raise Violation(f"{station.name}: the centre never had the version at its cursor, {cursor}")
        snapshot = life.snapshots[cursor]
        known = cut(snapshot.rows, snapshot.keys, self.scope_of(station.origin, cursor, life))
        if self.upgrades:
            if not station.program.execute("SELECT afresh FROM _node WHERE id = 1").fetchone()[0]:
                station.told = station.file.version
            if station.told < station.file.version and not untold:
                known = versions.as_told(known, station.told)
        edge, afresh = station.program.execute("SELECT edge, afresh FROM _node WHERE id = 1").fetchone()
        if edge and not is_afresh(afresh):
            known = inside(known, edge)
        return replay(known, self.schema, life.pending_ops(station.works, cursor), along=along)

    def shown(self, station: Station, rows: Rows) -> Rows:
        """Return rows as a node's version shows them."""
        return versions.shown(rows, station.file.version) if self.upgrades else rows

    def seen(self, station: Station) -> Rows:
        """Return a node's rows, and what its version does not know of them as it was at its cursor: whoever deletes a row there
        deletes that too.
        """
        if not self.upgrades:
            return station.view()
        known = self.life.snapshots[self.head].rows if is_healing(station) else self.expected(station)
        return versions.with_hidden(station.view(), known, station.file.version)

    def check(self, station: Station, when: str) -> None:
        """Check that a node's tables are the centre's rows at its cursor, cut to its scope, and its own pending work."""
        self.harvest(station)
        self._cursor_stays(station, when)
        if station.has_changes:
            return  # not sealed yet: looked at after the next exchange
        if self.restored and is_healing(station):
            self.counts["looked at while healing"] += 1
            return
        if is_afresh(station.program.execute("SELECT afresh FROM _node WHERE id = 1").fetchone()[0]):
            self.counts["looked at while a window widens"] += 1
            return
        self.counts["checks"] += 1
        found = differences(station.view(), self.shown(station, self.expected(station, along=False)))
        if found:
            raise Violation(f"{station.name} {when}, cursor {station.cursor}: " + "; ".join(found[:4]))
        if station.gone:
            unfinished = {(op.table, op.key) for work in self.unfinished(station) for op in work.ops}
            station.gone = {row: known for row, known in station.gone.items() if row in unfinished}

    def _cursor_stays(self, station: Station, when: str) -> None:
        """Check that a cursor falls only where the centre has lost the version it was at, or where the node was put back."""
        point, seen = station.point, station.point_seen
        if seen is not None and point.number < seen.number and self.life.digests.get(seen.number) == seen.digest:
            raise Violation(f"{station.name} {when}: the cursor fell from {seen.number} to {point.number}")
        station.point_seen = point

    def unfinished(self, station: Station) -> list[Work]:
        """Return the work a node's cursor does not cover, or that is held."""
        point = station.point
        verdicts = (self._life_at(point) or self.life).verdicts_at(station.works, point.number)
        return [work for work, verdict in verdicts if verdict in ("pending", "held")]

    def close(self) -> None:
        for kind, file in self.taken:
            self._pool(kind).give_back(kind, file)
        for path in self.paths:
            path.unlink(missing_ok=True)


def is_afresh(wanted: str | None) -> bool:
    """Tell whether a node's window was widened, and what it is to bring back has not come yet."""
    return wanted is not None and "receipt" in json.loads(wanted)


def inside(rows: Rows, edge: int) -> Rows:
    """Return rows without the receipts, and their lines, that are outside of a node's window."""
    past = {key[0] for key, row in rows["receipt"].items() if row["total"] is not None and row["total"] < edge}
    receipts = {key: row for key, row in rows["receipt"].items() if key[0] not in past}
    lines = {key: row for key, row in rows["receipt_line"].items() if row["receipt_id"] not in past}
    return {**rows, "receipt": receipts, "receipt_line": lines}


def _short(op: Op) -> str:
    kind = type(op).__name__[:3].lower()
    if kind == "upd":
        return f"{kind} {op.table} {key_text(op.key)} {[(e.cell, e.old, e.new, e.base, e.since) for e in op.edits]}"  # type: ignore[union-attr]
    values = {k: v for k, v in op.values.items() if v is not None} if kind == "ins" else ""  # type: ignore[union-attr]
    return f"{kind} {op.table} {key_text(op.key)} {values} base={op.base} since={op.since}"  # type: ignore[union-attr]
