"""The network between a node and the centre: requests that do not arrive, replies that get lost or come late, what
happens between two pages, and old requests that turn up again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlcipher3 import dbapi2

import node.apply
import node.first
import server.centre
import server.ingest
from node import pending
from node.cycle import Cycle
from node.database import Database
from node.report import Report
from sync.errors import DatabaseFull, Diverged, Forked, Gap, OutpostError, Stale, TooLate, UnknownIncarnation
from sync.limits import MESSAGE_BYTES_MAX
from sync.messages import Page, PushRequest
from sync.segment import read_segment
from sync.wire import pack, unpack
from tests.simulation import upgrades
from tests.simulation.disk import Crash
from tests.simulation.world import SimulatedWorld, Station, Violation
from tests.world import Link, ReplyLost

Meanwhile = Callable[[Station], None]


class RequestLost(Exception):
    """The request never arrived, or whoever ran the exchange gave up before it."""


class Killed(Exception):
    """The process died in the middle of something."""


class Wire(Link):
    """A Link on which things happen. `odds` are those of the exchange under way."""

    odds: dict[str, float]
    meanwhile: Meanwhile
    page: int

    def _carry(self, kind: str, request: Any, type_: Any, reply_type: Any) -> Any:
        world: Any = self.world
        station: Station = world.station_of(self)
        self._before(world, station, kind)
        body = pack(request)
        if kind == "push" and request.segments:
            world.old_pushes.append((station.name, body))
        if self._happens(world, "hang"):
            world.counts[f"request hangs, {kind}"] += 1
            world.say("  hangs", kind)  # a push comes later, when something old turns up, or never before the end
            raise RequestLost(kind)
        if self._happens(world, "cut off"):
            self._cut_off(world, type_, body, f"request {kind}")
        if self._happens(world, "twice"):
            world.counts[f"request twice, {kind}"] += 1
            self._serve(world, kind, type_, body)
        reply = self._serve(world, kind, type_, body)
        upgrades.note_talk(world, station)
        if self._happens(world, "lose"):
            world.counts[f"lost reply {kind}"] += 1
            world.say("  reply lost", kind)
            raise ReplyLost(kind)
        if kind == "pull" and self._happens(world, "keep page"):
            world.old_pages.append((station.name, reply))
        if self._happens(world, "cut off"):
            self._cut_off(world, reply_type, reply, f"reply {kind}")
        if self._happens(world, "late"):
            world.counts[f"late reply {kind}"] += 1
            self._other(world, station)
        return unpack(reply_type, reply, MESSAGE_BYTES_MAX)

    def _serve(self, world: Any, kind: str, type_: Any, body: bytes) -> bytes:
        """Let the server answer. If its process dies of it, or its disk is full, the node hears nothing but that."""
        try:
            while world.making and world.random.random() < 0.7:  # in a thread of its own, at any time
                world.making.pop()()
            answer = getattr(world.service, kind)(self.identity, unpack(type_, body, MESSAGE_BYTES_MAX), world.server_time())
            reply = pack(answer)
        except Crash:
            world.open_server()
            world.say("  the server died and starts again")
            raise ReplyLost(kind) from None
        except (dbapi2.OperationalError, DatabaseFull) as error:
            if not world.is_full(world.process, error):
                raise
            raise ReplyLost(kind) from None
        finally:
            world.observe()
        world.counts["snapshots told"] += kind == "snapshot" and answer.snapshot is not None
        world.counts["segments told whole"] += len(answer.sealed) if kind == "pull" else 0
        return reply

    def _cut_off(self, world: Any, type_: Any, body: bytes, what: str) -> None:
        """Let a message arrive in part: whoever gets it must notice."""
        world.counts[f"cut off, {what}"] += 1
        world.say("  cut off", what)
        try:
            unpack(type_, body[: world.random.randrange(len(body))], MESSAGE_BYTES_MAX)
        except OutpostError:
            raise RequestLost(what) from None
        raise Violation(f"half a message passed for a whole one: {what}")

    def _happens(self, world: SimulatedWorld, what: str) -> bool:
        return world.random.random() < self.odds.get(what, 0)

    def _before(self, world: SimulatedWorld, station: Station, kind: str) -> None:
        world.harvest(station)
        if kind == "pull":
            self.page += 1
            if self.page > 1:
                world.counts["later pages"] += 1
                world.check(station, "between two pages")
                if self._happens(world, "between"):
                    world.counts["something between two pages"] += 1
                    self._other(world, station)
        if self._happens(world, "cut"):
            world.counts[f"cut before {kind}"] += 1
            world.say("  cut before", kind)
            raise RequestLost(kind)

    def _other(self, world: SimulatedWorld, station: Station) -> None:
        odds, page = self.odds, self.page
        self.odds, self.page = {}, 0  # what happens meanwhile is not disturbed itself
        try:
            self.meanwhile(station)
        finally:
            self.odds, self.page = odds, page


def exchange(
    world: Any,
    station: Station,
    what: str,
    rows: int = 10_000,
    meanwhile: Meanwhile = lambda _: None,
    database: Database | None = None,
    **odds: float,
) -> int:
    """Run an exchange (push, pull or sync) as it goes, with its mishaps; return what it moved.

    `database` is that of another process of the same node.
    """
    wire: Any = station.node.link
    wire.odds, wire.page, wire.meanwhile = {name.replace("_", " "): chance for name, chance in odds.items()}, 0, meanwhile
    world.say(station.name, what, f"rows={rows}" if rows < 10_000 else "", f"cursor={station.cursor}")
    cycle, report = Cycle(database or station.node.database, wire, rows=rows), Report()
    station.busy += 1
    try:
        match what:
            case "push":
                cycle.push(report)
            case "pull":
                cycle.pull(report)
            case _:
                report = cycle.sync()
                world.counts["late node taken in"] += report.taken_anew
    except (ReplyLost, RequestLost, Killed):
        pass
    except Stale:
        world.counts["stale stage"] += 1
    except TooLate:
        world.counts["too late for a part of an exchange"] += 1
    except (Diverged, Forked, Gap, UnknownIncarnation) as error:
        world.counts[f"{error.code} in half an exchange"] += 1  # a whole one begins a new history, or heals
        if what == "sync" or not (world.copied or world.restored or world.counts["centre forgot"]):
            raise
        world.say("  ", error.code)
    except Crash:
        world.say("  ", station.name, "died and starts again")
    except dbapi2.OperationalError as error:
        if not world.is_full(station.process, error):
            raise
        world.say("  ", station.name, "its disk is full")
    finally:
        station.busy -= 1
        wire.odds = {}
        if station.process.dead:
            world.open_node(station)
    world.counts["pushed"] += report.pushed
    world.counts["pulled"] += report.pulled
    world.counts["removed"] += report.removed
    if report.new_history:
        world.counts["new history"] += 1
        if not (world.copied or world.restored):
            raise Violation(f"{station.name} began a new history, and nobody copied or restored it")
    world.say("  ", station.name, f"pushed={report.pushed} pulled={report.pulled} removed={report.removed} cursor={station.cursor}")
    world.check(station, f"after {what}")
    return report.pushed + report.pulled + report.removed


@contextmanager
def killed_in(module: Any, name: str, world: SimulatedWorld) -> Iterator[None]:
    """Let the process die in the first call of a function."""

    def die(*_arguments: Any, **_named: Any) -> None:
        world.counts[f"killed in {name}"] += 1
        world.say("  killed in", name)
        raise Killed(name)

    with patch.object(module, name, die):
        yield


DEATHS = [
    (node.apply, "_rows"),
    (node.apply, "_removals"),
    (node.apply, "mark_all"),
    (node.apply, "hear"),
    (node.apply, "keep_conflict"),
    (node.first, "mark_all"),
    (node.first, "begin_at"),
    (pending, "redraw"),
    (server.ingest, "release"),
    (server.centre, "mark_all"),
]


def killed(world: SimulatedWorld, station: Station) -> None:
    """Run a sync that dies in the middle; it must leave what it found."""
    module, name = world.random.choice(DEATHS)
    kind = "sync"
    if name == "redraw":  # rows of the centre's under work that is pending: a push first would leave none
        kind = "pull"
        waiting = [other for other in world.stations if other.program.execute("SELECT 1 FROM _shadow").fetchone()]
        station = world.random.choice(waiting or [station])
    before, told = station.cursor, world.counts["snapshots told"]
    with killed_in(module, name, world):
        exchange(world, station, kind)
    is_late = module is node.apply and name in ("mark_all", "hear") and world.counts["snapshots told"] == told  # else taken before
    if is_late and station.cursor > before:
        raise Violation(f"{station.name} was killed in {name} and moved its cursor")


def push_again(world: Any, name: str, body: bytes) -> None:
    """Deliver an old push once more: what the centre knows has no effect."""
    station = next(station for station in world.stations if station.name == name)
    world.service.absorb(world.server_time())
    world.observe()
    request = unpack(PushRequest, body, MESSAGE_BYTES_MAX)
    known = all(
        getattr(sealed, "again", None) is None and read_segment(sealed.body).id in world.life.journal for sealed in request.segments
    )
    world.say("stale push of", name, "known" if known else "not known yet")
    head = world.head
    try:
        world.service.push(station.node.link.identity, request, world.server_time())
        world.counts["stale push" if known else "late push"] += 1
    except OutpostError as error:
        world.counts[f"stale push: {error.code}"] += 1
    world.observe()
    if known and world.head != head:
        raise Violation(f"a push of {name} that the centre knows had an effect, version {head} to {world.head}")


class _Replay(Wire):
    """Answers a pull with an old page."""

    reply: bytes

    def _carry(self, kind: str, request: Any, type_: Any, reply_type: Any) -> Any:
        if kind != "pull":
            raise RequestLost(kind)
        world: Any = self.world
        if world.used_page:
            raise RequestLost(kind)
        world.used_page = True
        return unpack(reply_type, self.reply, MESSAGE_BYTES_MAX)


def pull_again(world: Any, name: str, reply: bytes) -> None:
    """Deliver an old page once more, as the answer to another question."""
    station = next(station for station in world.stations if station.name == name)
    page = unpack(Page, reply, MESSAGE_BYTES_MAX)
    world.say("stale page of", name, "since", page.since, "head", page.head, "cursor", station.cursor)
    wire = _Replay(world, station.node.link.identity)
    wire.reply, world.used_page = reply, False
    try:
        Cycle(station.node.database, wire).pull(Report())
        world.counts["stale page applied"] += 1
    except Stale:
        world.counts["stale page refused"] += 1
    except RequestLost:
        world.counts["stale page staged"] += 1
    except (Diverged, Forked) as error:
        world.counts[f"stale page: {error.code}"] += 1
        if not (world.copied or world.restored):
            raise
    world.check(station, "after a stale page")
