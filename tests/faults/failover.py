"""Fail-over: a streaming replica that lags takes over while nodes exchange; to them that is a centre whose history went back.

    primary ══stream══► replica       nodes sync: both have it
    primary ───cut────  replica       nodes sync: acknowledged by the primary, and nowhere else but on nodes
    killed              promoted      the address now leads to the replica; nobody tells anybody, nodes sync

Everything acknowledged comes back from what nodes keep, once. With a synchronous replica nothing is missing in the first place.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests import foreign
from tests.faults.blows import Known
from tests.faults.checks import at_rest, demand, is_on_node, quieten
from tests.faults.cluster import Cluster, scratch, until
from tests.faults.kills import SCOPE, Life
from tests.faults.pg_kills import UNKNOWN
from tests.faults.pg_proxy import PgProxy
from tests.faults.processes import Centre, NodeHome, Running, Starter

NODES: Final = 3
WORKERS: Final = 2
WAYS: Final = ("killed", "immediate", "fast")
"""How a primary ends: its first process alone, all at once, or told to by an administrator in a hurry."""


@dataclass
class Relay:
    """A life whose centre moves from one PostgreSQL server to its replica, again and again."""

    life: Life
    primary: Cluster
    proxy: PgProxy
    place: Path
    counts: Counter[str] = field(default_factory=Counter)
    history: int = 1  # the number of the centre's history, when it was last at rest

    @property
    def url(self) -> str:
        """Return where the database is, past the proxy."""
        return self.primary.url("centre")

    def sync(self, node: NodeHome) -> dict[str, Any]:
        """Exchange, which must succeed; return what the node said."""
        status, said = self.life.starter.run("node", "--home", node.home, "sync")
        demand(status == 0, f"{node.name} cannot sync although all is well: {said}")
        found: dict[str, Any] = said
        return found

    def end_primary(self, way: str) -> None:
        """End the primary."""
        if way == "killed":
            self.primary.kill()
        else:
            self.primary.stop(way)

    def take_over(self, standby: Cluster) -> None:
        """Promote the replica, and let the address lead to it; servers are told nothing."""
        standby.promote()
        self.proxy.upstream = standby.port
        self.proxy.cut()
        self.primary.remove()
        self.primary = standby

    def back_up(self, number: int) -> None:
        """Make a backup, which lets nodes forget what they had sent, and let them hear of it."""
        self.life.must("server", "--home", self.life.centre.home, "backup", self.life.centre.folder / f"backup{number}.db")
        for node in self.life.nodes:
            self.sync(node)
        self.counts["backups newer than the replica"] += 1

    def sales(self) -> set[str]:
        """Return the sales that the centre has."""
        return {row[0] for row in foreign.rows(self.url, "SELECT id FROM sale")}

    def epoch(self) -> int:
        """Return the number of the centre's history."""
        return int(foreign.rows(self.url, "SELECT epoch FROM _server")[0][0])


@contextmanager
def relay(folder: Path, seed: int = 0, **settings: str) -> Iterator[Relay]:
    """Give a centre with workers and nodes that have joined. `settings` are the primary's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    starter = Starter(folder)
    try:
        with scratch() as place, PgProxy(0) as proxy:
            made = Cluster.made(place / "first", **settings)
            proxy.upstream = made.port
            centre = Centre(starter, folder, place=made.url(made.database(), port=proxy.port), workers=WORKERS)
            nodes = [centre.node(f"n{number}", SCOPE) for number in range(NODES)]
            found = Relay(Life(seed, starter, centre, nodes, Known(folder, random.Random(seed))), made, proxy, place)
            try:
                yield found
            finally:
                centre.kill()
                found.primary.remove()
    finally:
        starter.close()


def run(folder: Path, seed: int, rounds: int, *, synchronous: bool = False) -> Relay:
    """Let the centre move so many times. Raises Broken when a promise is broken; the folder then holds all files but the databases'."""
    with relay(folder, seed) as found:
        for number in range(rounds):
            _in_sync(found, number) if synchronous else _behind(found, number)
            nodes = found.life.nodes
            found.counts["rounds of syncs to rest"] += quieten(found.life.starter, nodes)
            at_rest(found.life.starter, found.life.centre, nodes, found.life.acknowledged())
            found.counts["fail-overs"] += 1
            found.history = found.epoch()
        return found


def _behind(found: Relay, number: int) -> None:
    """The replica misses what was acknowledged since its stream was cut; nodes are at work when the primary ends."""
    life, chance = found.life, found.life.chance
    _work(found)
    standby = found.primary.standby(found.place / f"replica{number}")
    if chance.random() < 0.5:
        _work(found)
        standby.catch_up(found.primary)
    standby.lag()
    for _ in range(chance.randint(1, 2)):
        _work(found)
    if chance.random() < 0.3:
        found.back_up(number)
    before = found.sales()
    running = _at_work(found, chance.sample(life.nodes, chance.randint(0, NODES)))
    found.end_primary(chance.choice(WAYS))
    _end(found, running)
    found.take_over(standby)
    there = found.sales()
    found.counts["sales acknowledged that the replica lacked"] += len(before - there)
    if chance.random() < 0.5:
        life.write(chance.choice(life.nodes))
    healed = [found.sync(node).get("centre_restored", 0) for node in chance.sample(life.nodes, NODES)]
    found.counts["exchanges that healed"] += sum(map(bool, healed))


def _in_sync(found: Relay, number: int) -> None:
    """What was acknowledged is on the replica, by PostgreSQL's own word: no history goes back."""
    life, chance, name = found.life, found.life.chance, f"replica{number}"
    standby = found.primary.standby(found.place / name, name)
    found.primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    found.primary.execute("SELECT pg_reload_conf()")
    until(lambda: found.primary.value("SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1, "it is synchronous")
    epoch = found.epoch()
    struck = found.proxy.arm("at", chance.randint(1, 4), lambda _pid: found.primary.crash())
    running = _at_work(found, life.nodes)
    told = _end(found, running)
    found.proxy.disarm()
    if not struck.struck.is_set():
        found.primary.crash()
    found.primary.await_stopped()
    standby.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
    found.take_over(standby)
    for node, _status in told:
        found.sync(node)
    demand(found.epoch() == epoch, "a synchronous replica took over, and a history went back all the same")


def _work(found: Relay) -> None:
    """Some nodes write, and all exchange."""
    for node in found.life.chance.sample(found.life.nodes, 2):
        found.life.write(node)
    for node in found.life.nodes:
        found.sync(node)


def _at_work(found: Relay, nodes: list[NodeHome]) -> list[tuple[NodeHome, Running]]:
    for node in nodes:
        found.life.write(node)
    return [(node, found.life.starter.start("node", "--home", node.home, "sync", "--json")) for node in nodes]


def _end(found: Relay, running: list[tuple[NodeHome, Running]]) -> list[tuple[NodeHome, int]]:
    """Wait for exchanges whose centre has gone; what they may say is that asking again tells."""
    told = []
    for node, sync in running:
        status = found.life.starter.wait(sync)
        demand(status == 0 or json.loads(sync.said())["error"]["code"] in UNKNOWN, f"a sync whose centre went says {sync.said()}")
        is_on_node(node, found.life.acknowledged(node.name))
        told.append((node, status))
    return told
