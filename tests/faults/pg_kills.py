"""Kills with the centre on PostgreSQL: its processes, the database's, and the line between, at any moment and around COMMIT.

    nodes ──► parent ─┬─► worker ─┐
                      └─► worker ─┴─► proxy (tests/faults/pg_proxy.py) ──► PostgreSQL (tests/faults/cluster.py)

After each blow what a service manager would start is started, and the ordinary commands are run again; nothing is mended by
hand. What must hold is what must hold of a centre in a file (tests/faults/checks.py), and no exchange may stay stuck.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.faults.blows import Known
from tests.faults.checks import at_rest, demand, is_on_node, quieten
from tests.faults.cluster import Cluster, scratch
from tests.faults.kills import NODES_MAX, SCOPE, Life
from tests.faults.pg_proxy import POINTS, PgProxy
from tests.faults.processes import Centre, NodeHome, Running, Starter, until_gone

WORKERS: Final = 2
WORKER_DEATHS_MAX: Final = 4
"""After so many deaths of workers the server is started anew, as somebody would who reads its log: at eight in a row it gives up."""

AT_A_MOMENT: Final = 0.35
"""Which share of blows comes at any moment; the others come around a COMMIT of a turn."""

COMMITS_MAX: Final = 4
"""Which commit is struck: one of the first so many. Where fewer come the blow falls when all is done."""

UNKNOWN: Final = frozenset({"net.offline", "net.reply", "server.database"})
"""What an exchange may say whose server, or whose server's database, was struck: each means that asking again tells."""


@dataclass
class Ordeal:
    """A life (tests/faults/kills.py) whose centre is on PostgreSQL, behind a proxy."""

    life: Life
    cluster: Cluster
    proxy: PgProxy
    worker_deaths: int = 0
    takes: float = 0.0  # seconds of two exchanges that nobody disturbs
    dying: set[int] = field(default_factory=set)  # processes that a blow has sent to their end
    is_parent_struck: bool = False

    def strike(self, pids: Iterable[int], number: int = signal.SIGKILL) -> None:
        """Send processes to their end; `revive` waits for it. On any thread."""
        for pid in pids:
            self.dying.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def revive(self) -> None:
        """Do what service managers do: start PostgreSQL and the server again if they have ended."""
        centre = self.life.centre
        if self.is_parent_struck:
            centre.reap()
        until_gone(self.dying)
        if not self.cluster.is_running:
            self.cluster.start()
        self.cluster.await_ready()
        if self.worker_deaths >= WORKER_DEATHS_MAX:
            centre.kill()
        if centre.running is None:
            centre.start()
            self.worker_deaths = 0
        self.dying, self.is_parent_struck = set(), False


def run(folder: Path, seed: int, kills: int) -> Life:
    """Live one life with so many blows. Raises Broken when a promise is broken; the folder then holds all files but the database's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    starter = Starter(folder)
    try:
        with scratch() as place:
            cluster = Cluster.made(place / "data")
            try:
                return _lived(folder, seed, kills, starter, cluster)
            finally:
                shutil.copy(cluster.folder / "log", folder / "postgresql.log")
                cluster.remove()
    finally:
        starter.close()


def _lived(folder: Path, seed: int, kills: int, starter: Starter, cluster: Cluster) -> Life:
    with PgProxy(cluster.port) as proxy:
        centre = Centre(starter, folder, place=cluster.url(cluster.database(), port=proxy.port), workers=WORKERS)
        try:
            nodes = [centre.node("till", SCOPE), centre.node("laptop", SCOPE)]
            life = Life(seed, starter, centre, nodes, Known(folder, random.Random(seed)))
            ordeal = Ordeal(life, cluster, proxy)
            _undisturbed(ordeal)
            for _ in range(kills):
                _blow(ordeal)
            quieten(starter, life.nodes)
            at_rest(starter, centre, life.nodes, life.acknowledged())
            return life
        finally:
            centre.kill()


def _undisturbed(ordeal: Ordeal) -> None:
    """Note how long two exchanges take that nobody disturbs."""
    life = ordeal.life
    life.write(life.nodes[0])
    began = time.monotonic()
    for running in _syncing(life, life.nodes):
        demand(life.starter.wait(running) == 0, f"an exchange that nobody disturbs says {running.said()}")
    ordeal.takes = time.monotonic() - began


# --- one blow -----------------------------------------------------------------------------------------------------------------


def _blow(ordeal: Ordeal) -> None:
    """Strike while two nodes exchange, or one joins, or an operator invites; then all of it is simply done again."""
    life, chance = ordeal.life, ordeal.life.chance
    what = chance.choices(list(BLOWS), WEIGHTS)[0]
    point = "moment" if chance.random() < AT_A_MOMENT else chance.choice(POINTS)
    work = chance.choices((_exchange, _join, _invite), (8, 1, 1))[0]
    work(ordeal, what, point)
    life.known.killed[what] += 1


def _under(ordeal: Ordeal, what: str, point: str, start: Callable[[], list[Running]]) -> list[int]:
    """Let a blow fall while commands are at work, bring back what it ended, and return how the commands ended."""
    chance, starter, fall = ordeal.life.chance, ordeal.life.starter, partial(BLOWS[what], ordeal)
    if point == "moment":
        running = start()
        time.sleep(chance.uniform(0, 1.1 * ordeal.takes))  # the moment is drawn
        fall(0)
        statuses = [starter.wait(each) for each in running]
        label = "at a moment"
    else:
        strike = ordeal.proxy.arm(point, chance.randint(1, COMMITS_MAX), fall)
        statuses = [starter.wait(each) for each in start()]
        ordeal.proxy.disarm()
        label = f"{point} a COMMIT"
        if not strike.struck.is_set():  # fewer commits came than were counted on
            fall(0)
            label = "at a moment at which all was done"
    ordeal.life.known.labels[f"{what}: {label}"] += 1
    ordeal.revive()
    return statuses


def _exchange(ordeal: Ordeal, what: str, point: str) -> None:
    """Two nodes exchange at once."""
    life = ordeal.life
    nodes = life.chance.sample(life.nodes, 2)
    life.write(nodes[0])
    running: list[Running] = []

    def start() -> list[Running]:
        running.extend(_syncing(life, nodes))
        return running

    for status, sync in zip(_under(ordeal, what, point, start), running, strict=True):
        demand(status == 0 or (status == 1 and _code(sync) in UNKNOWN), f"{what}, {point}: a sync says {sync.said()}")
    for node in nodes:
        life.must("node", "--home", node.home, "sync")
        is_on_node(node, life.acknowledged(node.name))


def _join(ordeal: Ordeal, what: str, point: str) -> None:
    """A newcomer joins: it is simply repeated. Some stay, and sell."""
    life = ordeal.life
    name = f"new{life.kills()}"
    node = NodeHome(life.centre.folder / name)
    code = life.centre.invite(name, SCOPE)
    order = ("node", "--home", node.home, "join", f"http://127.0.0.1:{life.centre.port}", code, "--plain")
    (status,) = _under(ordeal, what, point, lambda: [life.starter.start(*order, "--json")])
    if status != 0:
        again, said = life.starter.run(*order)
        taken = again == 1 and said["error"]["code"] == "home.taken"  # the one before had come to its end
        demand(again == 0 or taken, f"{what}, {point}: a join that was cut cannot be repeated: {said}")
    life.must("node", "--home", node.home, "sync")
    if len(life.nodes) < NODES_MAX:
        life.nodes.append(node)


def _invite(ordeal: Ordeal, what: str, point: str) -> None:
    """An operator's command, which speaks to the database by itself."""
    life = ordeal.life
    order = ("server", "--home", life.centre.home, "invite", "--name", f"invited{life.kills()}", "--scope", SCOPE)
    running: list[Running] = []

    def start() -> list[Running]:
        running.append(life.starter.start(*order, "--json"))
        return running

    (status,) = _under(ordeal, what, point, start)
    demand(status == 0 or _code(running[0]) == "server.database", f"{what}, {point}: a command says {running[0].said()}")
    life.must(*order)


def _syncing(life: Life, nodes: Iterable[NodeHome]) -> list[Running]:
    return [life.starter.start("node", "--home", node.home, "sync", "--json") for node in nodes]


def _code(running: Running) -> str:
    code: str = json.loads(running.said())["error"]["code"]
    return code


# --- what is struck -------------------------------------------------------------------------------------------------------------


def _line(ordeal: Ordeal, backend: int) -> None:
    """Every connection to the database; around a COMMIT the one that it comes on, which the proxy cuts by itself."""
    if not backend:
        ordeal.proxy.cut()


def _worker(ordeal: Ordeal, backend: int) -> None:
    """One of the server's processes."""
    workers = ordeal.life.centre.worker_pids()
    ordeal.strike(workers[:1])
    ordeal.worker_deaths += 1


def _workers(ordeal: Ordeal, backend: int) -> None:
    """All of the server's processes but the one that watches over them."""
    workers = ordeal.life.centre.worker_pids()
    ordeal.strike(workers)
    ordeal.worker_deaths += len(workers)


def _parent(ordeal: Ordeal, backend: int) -> None:
    """The one that watches: its workers notice, and stop."""
    centre = ordeal.life.centre
    assert centre.running is not None
    ordeal.dying |= set(centre.worker_pids())
    ordeal.is_parent_struck = True
    os.kill(centre.running.pid, signal.SIGKILL)


def _server(ordeal: Ordeal, backend: int) -> None:
    """All of them."""
    workers = ordeal.life.centre.worker_pids()
    _parent(ordeal, backend)
    ordeal.strike(workers)


def _backend(ordeal: Ordeal, backend: int) -> None:
    """The process at PostgreSQL that serves a connection: PostgreSQL takes that for a crash, ends all others and recovers."""
    ordeal.strike([backend] if backend else ordeal.proxy.backends()[:1])


def _terminated(ordeal: Ordeal, backend: int) -> None:
    """Every connection, as an administrator ends them."""
    ordeal.strike(ordeal.proxy.backends(), signal.SIGTERM)


def _immediate(ordeal: Ordeal, backend: int) -> None:
    """An immediate stop, which is what a crash of PostgreSQL comes to."""
    ordeal.strike([ordeal.cluster.pid], signal.SIGQUIT)


def _restart(ordeal: Ordeal, backend: int) -> None:
    """A fast stop, as before an update."""
    ordeal.strike([ordeal.cluster.pid], signal.SIGINT)


def _postmaster(ordeal: Ordeal, backend: int) -> None:
    """PostgreSQL's first process alone."""
    ordeal.strike([ordeal.cluster.pid])


BLOWS: Final[dict[str, Callable[[Ordeal, int], None]]] = {
    "line": _line,
    "worker": _worker,
    "workers": _workers,
    "parent": _parent,
    "server": _server,
    "backend": _backend,
    "terminated": _terminated,
    "immediate stop": _immediate,
    "fast stop": _restart,
    "postmaster": _postmaster,
}
WEIGHTS: Final = (4, 2, 1, 1, 2, 3, 1, 3, 1, 1)
"""How often each falls, in the order of BLOWS."""
