"""Swarm: five to ten nodes that sell and sync at once while their network, their processes and their centre fail.

    faults ─► all heal ─► quiet ─► checks       one round; a swarm goes through several with the same nodes

A node is two processes, one that writes and one that syncs again and again; both die, pause and come back, as does the
centre. At rest everything acknowledged is at the centre once, outboxes are empty and all sides are equal, within a bound.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests import databases
from tests.faults.checks import acknowledged, at_rest, demand, quieten
from tests.faults.processes import Centre, NodeHome, Running, Starter
from tests.faults.proxy import Link, Proxy

SCOPE = "branch:LON"
REST_SECONDS = 600.0
"""How long a swarm may take from healing to rest, on a machine as busy as may be; what is bounded closely is the number of exchanges."""

EVENTS_EACH = 10
EVENT_SECONDS = 0.6
"""How many events a round has, and how long at most between two."""

PAUSE_SECONDS = 1.0
"""About how long a node rests between two exchanges."""

EVENTS = ("partition", "kill", "kill", "pause", "disconnect", "kill centre", "pause centre")
ON_POSTGRES = (*EVENTS, "cut database")
ENDLESS = 1_000_000


@dataclass
class Member:
    """A node, its way to the centre, and the processes that run on it."""

    node: NodeHome
    link: Link
    running: dict[str, Running] = field(default_factory=dict)
    written: int = 0


@dataclass
class Swarm:
    """A centre, its members behind a proxy, and what happened to them."""

    seed: int
    starter: Starter
    centre: Centre
    proxy: Proxy
    members: list[Member]
    rate: float
    chance: random.Random
    outputs: list[Path] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    rest_seconds_max: float = 0.0
    stopped: list[Running] = field(default_factory=list)

    def acknowledged(self) -> set[str]:
        """Return everything that was acknowledged."""
        return acknowledged(*(path.read_text(encoding="utf-8") for path in self.outputs if path.exists()))


def run(folder: Path, seed: int, rounds: int) -> Swarm:
    """Let a swarm live through rounds of faults. Raises Broken when a promise is broken; the folder then holds all files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chance = random.Random(seed)
    starter = Starter(folder)
    centre = Centre(starter, folder, more=1 if databases.is_postgres() else 0)
    try:
        with Proxy(*(server.port for server in centre.servers), seed=seed) as proxy:
            members = [_join(centre, proxy, f"n{number}") for number in range(chance.randint(5, 10))]
            swarm = Swarm(seed, starter, centre, proxy, members, chance.uniform(10, 50), chance)
            try:
                for _ in range(rounds):
                    _round(swarm)
            finally:
                _end_all(swarm)
            swarm.counts.update({f"proxy: {name}": number for name, number in proxy.counts().items()})
            return swarm
    finally:
        centre.close()
        starter.close()


def _join(centre: Centre, proxy: Proxy, name: str) -> Member:
    link = proxy.link(name)
    return Member(centre.node(name, SCOPE, port=link.port), link)


def _round(swarm: Swarm) -> None:
    for member in swarm.members:
        member.link.rate = swarm.chance.choice((0.0, 0.1, 0.3, 0.6))
        for part in ("writer", "exchanger"):
            _start(swarm, member, part)
    for _ in range(EVENTS_EACH):
        _happen(swarm, swarm.chance.choice(ON_POSTGRES if databases.is_postgres() else EVENTS))
        time.sleep(swarm.chance.uniform(0, EVENT_SECONDS))
    _end_all(swarm)
    swarm.proxy.heal()
    for server in swarm.centre.servers:
        if server.running is None:
            server.start()
    _come_to_rest(swarm)


def _come_to_rest(swarm: Swarm) -> None:
    nodes, healed = [member.node for member in swarm.members], time.monotonic()
    swarm.counts["rounds of syncs to rest"] += quieten(swarm.starter, nodes)
    took = time.monotonic() - healed
    swarm.rest_seconds_max = max(swarm.rest_seconds_max, took)
    demand(took < REST_SECONDS, f"rest came only after {took:.0f} s")
    at_rest(swarm.starter, swarm.centre, nodes, swarm.acknowledged())
    swarm.counts["rounds"] += 1
    swarm.counts["rounds of nodes"] += len(nodes)


# --- what happens -----------------------------------------------------------------------------------------------------------


def _happen(swarm: Swarm, event: str) -> None:
    swarm.counts[event] += 1
    member = swarm.chance.choice(swarm.members)
    part = swarm.chance.choice(("writer", "exchanger"))
    if event == "partition":
        if member.link.is_cut:
            member.link.mend()
        else:
            member.link.cut()
    elif event == "disconnect":
        member.link.disconnect()
    elif event == "kill":
        _kill(swarm, member, part)
        _start(swarm, member, part)
    elif event == "pause":
        _pause(swarm, member.running[part])
    elif event == "cut database":
        databases.cut(swarm.centre.path)
    else:
        server = swarm.chance.choice(swarm.centre.servers)
        if event == "kill centre":
            _forget_pause(swarm, server.running)
            server.kill()
            server.start()
        elif server.running is not None:
            _pause(swarm, server.running)


def _start(swarm: Swarm, member: Member, part: str) -> None:
    """Start a node's writer where the one before must have ended, or its exchanger."""
    home = member.node.home
    if part == "exchanger":
        member.running[part] = swarm.starter.start(home, PAUSE_SECONDS, swarm.chance.randrange(10**6), call="exchange")
        return
    first = member.written
    member.written += 10_000  # whatever the one before has written, this one writes other keys, and greater numbers
    call = swarm.chance.choice(("write", "foreign_write"))
    rate = swarm.rate / len(swarm.members)
    running = swarm.starter.start(home, member.node.name, first, ENDLESS, swarm.seed, rate, call=call)
    swarm.outputs.append(running.out)
    member.running[part] = running


def _kill(swarm: Swarm, member: Member, part: str) -> None:
    running = member.running.pop(part)
    _forget_pause(swarm, running)
    status = swarm.starter.kill(running)
    demand(status == -signal.SIGKILL, f"the {part} of {member.node.name} ended by itself: {status}, {running.said()[-500:]}")


def _pause(swarm: Swarm, running: Running) -> None:
    """Stop a process; every second time the one that was stopped longest goes on."""
    if running not in swarm.stopped:
        os.kill(running.pid, signal.SIGSTOP)
        swarm.stopped.append(running)
    if len(swarm.stopped) > 1:
        os.kill(swarm.stopped.pop(0).pid, signal.SIGCONT)


def _forget_pause(swarm: Swarm, running: Running | None) -> None:
    if running is not None and running in swarm.stopped:
        swarm.stopped.remove(running)


def _end_all(swarm: Swarm) -> None:
    """Kill every writer and exchanger and let a paused centre go on."""
    for member in swarm.members:
        for part in list(member.running):
            _kill(swarm, member, part)
    for running in swarm.stopped:
        os.kill(running.pid, signal.SIGCONT)
    swarm.stopped.clear()
