"""Kills: one life of a centre and its nodes in which every process dies again and again, at a moment or at a system call.

After each kill the ordinary command is run again and nothing is mended by hand: what was acknowledged is on its node, and
at the end everything is at the centre once and all sides are equal.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import shim
from tests.faults.blows import Blow, Known
from tests.faults.checks import acknowledged, at_rest, demand, is_on_node, quieten
from tests.faults.processes import Centre, NodeHome, Running, Starter, state

SCOPE = "branch:LON"
BURST = 30
NODES_MAX = 4
CUT = frozenset({"net.offline", "net.reply"})
"""What an exchange may say when its server dies in the middle of it."""


@dataclass
class Life:
    """A centre, its nodes, what was acknowledged, and what was killed."""

    seed: int
    starter: Starter
    centre: Centre
    nodes: list[NodeHome]
    known: Known
    written: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def chance(self) -> random.Random:
        """Return what draws everything."""
        return self.known.chance

    def kills(self) -> int:
        """Return how many processes were killed."""
        return sum(self.known.killed.values())

    def acknowledged(self, *names: str) -> set[str]:
        """Return what writers of these nodes, or of all, have acknowledged."""
        paths = [path for name, many in self.outputs.items() if not names or name in names for path in many]
        return acknowledged(*(path.read_text(encoding="utf-8") for path in paths if path.exists()))

    def writing(self, node: NodeHome, call: str, **how: Any) -> Running:
        """Start a burst of transactions on a node."""
        first = self.written.get(node.name, 0)
        self.written[node.name] = first + BURST
        running = self.starter.start(node.home, node.name, first, BURST, self.seed, call=call, **how)
        self.outputs.setdefault(node.name, []).append(running.out)
        return running

    def write(self, node: NodeHome) -> None:
        """Write a burst, unharmed."""
        demand(self.starter.wait(self.writing(node, "foreign_write")) == 0, f"{node.name} cannot be written to")

    def must(self, *arguments: object) -> None:
        """Run an ordinary command, which must succeed."""
        status, said = self.starter.run(*arguments)
        demand(status == 0, f"after a kill, {' '.join(map(str, arguments))} says {said}")

    def recover(self, node: NodeHome) -> None:
        """Run what a person would run next on a node; nothing acknowledged may be missing then."""
        self.must("node", "--home", node.home, self.chance.choice(("status", "status", "sync")))
        is_on_node(node, self.acknowledged(node.name))


def run(folder: Path, seed: int, kills: int) -> Life:
    """Live one life with so many kills. Raises Broken when a promise is broken; the folder then holds all files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    preload = {"LD_PRELOAD": str(shim.compiled(folder)), "OUTPOST_UNDER": f"{folder}/"} if shim.why_not() is None else {}
    starter = Starter(folder, preload)
    centre = None
    try:
        centre = Centre(starter, folder)
        nodes = [centre.node("till", SCOPE), centre.node("laptop", SCOPE)]
        known = Known(folder, random.Random(seed))
        life = Life(seed, starter, centre, nodes, known)
        _live(life, kills)
        return life
    finally:
        if centre is not None:
            centre.kill()
        starter.close()


def _live(life: Life, kills: int) -> None:
    tries = 0
    while life.kills() < kills:  # the first of each kind lives: how long it takes, and how many calls it makes
        tries += 1
        demand(tries < 20 * kills + 20, f"only {life.kills()} of {kills} kills came about")
        victim = life.chance.choices(list(ACTS), WEIGHTS)[0]
        ACTS[victim](life, Blow(life.known, life.starter, victim))
    quieten(life.starter, life.nodes)
    at_rest(life.starter, life.centre, life.nodes, life.acknowledged())


# --- what is killed -----------------------------------------------------------------------------------------------------


def _send(life: Life, blow: Blow) -> None:
    """A node's exchange with much to send; sometimes another program goes on writing beside it."""
    node = life.chance.choice(life.nodes)
    life.write(node)
    _exchange(life, blow, node)


def _receive(life: Life, blow: Blow) -> None:
    """A node's exchange with much to receive."""
    sender, receiver = life.chance.sample(life.nodes, 2)
    life.write(sender)
    life.must("node", "--home", sender.home, "sync")
    _exchange(life, blow, receiver)


def _exchange(life: Life, blow: Blow, node: NodeHome) -> None:
    beside = life.writing(node, "foreign_write") if life.chance.random() < 0.3 else None
    running = life.starter.start("node", "--home", node.home, "sync", "--json", **blow.how)
    blow.go(running)
    blow.end(running)
    if beside is not None:
        demand(life.starter.wait(beside) == 0, f"{node.name} could not be written to while its exchange was killed")
    life.recover(node)


def _write(life: Life, blow: Blow, call: str = "write") -> None:
    """A program that writes transactions and acknowledges each."""
    node = life.chance.choice(life.nodes)
    running = life.writing(node, call, **blow.how)
    blow.go(running)
    blow.end(running)
    life.recover(node)


def _foreign_write(life: Life, blow: Blow) -> None:
    """A program that knows SQLite and nothing of us."""
    _write(life, blow, "foreign_write")


def _status(life: Life, blow: Blow) -> None:
    """A command that seals what was written, without a network."""
    node = life.chance.choice(life.nodes)
    life.write(node)
    running = life.starter.start("node", "--home", node.home, "status", "--json", **blow.how)
    blow.go(running)
    blow.end(running)
    life.recover(node)


def _join(life: Life, blow: Blow) -> None:
    """A newcomer: it is simply repeated. Some stay, and sell."""
    name = f"new{len(life.outputs)}x{life.kills()}x{life.chance.randrange(10**9)}"
    node = NodeHome(life.centre.folder / name)
    order = ("node", "--home", node.home, "join", f"http://127.0.0.1:{life.centre.port}", life.centre.invite(name, SCOPE), "--plain")
    running = life.starter.start(*order, "--json", **blow.how)
    blow.go(running)
    if blow.end(running) != 0:
        status, said = life.starter.run(*order)
        taken = status == 1 and said["error"]["code"] == "home.taken"  # the one killed had come to its end
        demand(status == 0 or taken, f"a join that was killed cannot be repeated: {said}")
    life.must("node", "--home", node.home, "status")
    if len(life.nodes) < NODES_MAX:
        life.nodes.append(node)


def _invite(life: Life, blow: Blow) -> None:
    """A command of the centre, beside the server that runs."""
    name = f"invited{life.kills()}x{life.chance.randrange(10**9)}"
    order = ("server", "--home", life.centre.home, "invite", "--name", name, "--scope", SCOPE)
    running = life.starter.start(*order, "--json", **blow.how)
    blow.go(running)
    blow.end(running)
    life.must(*order)


def _start(life: Life, blow: Blow) -> None:
    """A server that starts."""
    running = _start_stopped(life, blow)
    blow.go(running)
    if blow.waits:
        _await_ready_or_death(life)
    blow.end(running, stays=True)
    _start_again(life)


def _serve(life: Life, blow: Blow) -> None:
    """A server at work, with two nodes that exchange at once."""
    one, other = life.chance.sample(life.nodes, 2)
    life.write(one)
    running = _start_stopped(life, blow)
    blow.go(running, later=True)
    _await_ready_or_death(life)
    blow.begin()
    syncs = [life.starter.start("node", "--home", node.home, "sync", "--json") for node in (one, other)]
    if blow.waits:
        statuses = [life.starter.wait(sync) for sync in syncs]
        blow.end(running, stays=True)
    else:
        blow.end(running, stays=True)
        statuses = [life.starter.wait(sync) for sync in syncs]
    for status, sync in zip(statuses, syncs, strict=True):
        demand(status == 0 or (status == 1 and any(code in sync.said() for code in CUT)), f"a sync whose server died says {sync.said()}")
    _start_again(life)
    for node in (one, other):
        life.recover(node)


def _start_stopped(life: Life, blow: Blow) -> Running:
    life.centre.kill()
    life.centre.start(**blow.how)
    assert life.centre.running is not None
    return life.centre.running


def _await_ready_or_death(life: Life) -> None:
    running = life.centre.running
    assert running is not None
    deadline = time.monotonic() + 60
    while not running.said().endswith("\n") and state(running) != "Z":
        demand(time.monotonic() < deadline, "the server does not start")
        time.sleep(0.002)  # it starts, or dies


def _start_again(life: Life) -> None:
    life.centre.running = None  # the blow has waited for its end
    life.centre.start()


ACTS: dict[str, Callable[[Life, Blow], None]] = {
    "send": _send,
    "receive": _receive,
    "write": _write,
    "foreign write": _foreign_write,
    "status": _status,
    "join": _join,
    "invite": _invite,
    "start": _start,
    "serve": _serve,
}
WEIGHTS = (3, 3, 3, 2, 2, 1, 1, 1, 3)
"""How often each is killed, in the order of ACTS."""
