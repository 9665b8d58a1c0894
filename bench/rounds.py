"""What is run: rounds of every measurement in turn, so that a slow spell of the machine hits all alike."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench import herd, local, machine, node, server
from bench.contended import contended_rounds
from bench.postgres import database
from bench.workload import BRANCH, Row, contacts, sales

SALES = 200_000
FIRST = 1_000_000
CHANGED = 1_000
ON_POSTGRES = "PostgreSQL: "

Say = Callable[[str], None]
Figures = dict[str, list[float]]


@dataclass
class Measured:
    """Every figure of every round, and what they were measured with."""

    figures: Figures = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        """Add one round's figure."""
        self.figures.setdefault(name, []).append(value)


def run(
    folder: Path,
    rounds: int,
    bases: tuple[int, ...],
    say: Say,
    count: int = SALES,
    postgres: str | None = None,
    nodes_at_once: int = 0,
    first: int = 0,
) -> Measured:
    """Measure everything `rounds` times; `postgres`: a server, on which sales are pushed and pulled as well."""
    measured = Measured()
    rows = sales(count)
    for number in range(rounds):
        measured.load.append(machine.load())
        say(f"round {number + 1} of {rounds}: {count:,} receipts (load {measured.load[-1]})")
        sales_round(folder / "sales", rows, number, measured)
        if postgres is not None:
            with database(postgres) as url:
                postgres_round(folder / "postgres", url, rows, measured)
        if nodes_at_once:
            say(f"round {number + 1} of {rounds}: {nodes_at_once:,} nodes at once")
            herd_round(folder / "herd", nodes_at_once, measured)
            if postgres is not None:
                with database(postgres) as url:
                    herd_round(folder / "herd", nodes_at_once, measured, url)
    if first:
        say(f"first syncs of {first:,} receipts (takes a while)")
        first_rounds(folder / "first", sales(first), rounds, measured)
        if postgres is not None:
            with database(postgres) as url:
                first_rounds(folder / "first", sales(first), rounds, measured, url)
    if bases:
        say("edits that others' edits stand in the way of")
        contended_rounds(folder / "contended", rounds, measured)
        if postgres is not None:
            with database(postgres) as url:
                contended_rounds(folder / "contended", rounds, measured, ON_POSTGRES, url)
    for base in bases:
        say(f"a base of {base:,} contacts (takes a while)")
        change_rounds(folder / f"contacts{base}", base, rounds, measured, say)
    measured.load.append(machine.load())
    return measured


def sales_round(home: Path, rows: list[Row], number: int, measured: Measured) -> None:
    """Insert plainly and captured, push what was captured, pull it into a fresh node."""
    home.mkdir(parents=True)
    with server.running(home / "server") as centre:
        codes = [centre.invite(name, f"branch:{BRANCH}") for name in ("till", "other")]
        with node.Node(home / "till", centre.url, codes[0]) as till:
            _insert(home, till, rows, number, measured)
            measured.settings = measured.settings or till.run(node.settings)
            _push(till, centre, len(rows), measured)
        with node.Node(home / "other", centre.url, codes[1]) as other:
            _pull(other, centre, len(rows), measured)
    shutil.rmtree(home)


def postgres_round(home: Path, url: str, rows: list[Row], measured: Measured) -> None:
    """Push sales to a centre on PostgreSQL, and pull them into a fresh node. What the database itself costs is not in a processor's
    figure.
    """
    home.mkdir(parents=True)
    with server.running(home / "server", url) as centre:
        codes = [centre.invite(name, f"branch:{BRANCH}") for name in ("till", "other")]
        with node.Node(home / "till", centre.url, codes[0]) as till:
            local.insert_sales(till.path, rows)
            _push(till, centre, len(rows), measured, ON_POSTGRES)
        with node.Node(home / "other", centre.url, codes[1]) as other:
            _pull(other, centre, len(rows), measured, ON_POSTGRES)
    for way in ("push", "pull"):
        here, there = (measured.figures[f"{where}{way}, rows/s"][-1] for where in ("", ON_POSTGRES))
        measured.add(f"{ON_POSTGRES}{way}, times as fast as with a file", there / here)
    shutil.rmtree(home)


def herd_round(home: Path, count: int, measured: Measured, url: str | None = None) -> None:
    """Let many nodes arrive at once, each with some receipts."""
    home.mkdir(parents=True)
    with server.running(home / "server", url) as centre:
        found = herd.run(centre.url, herd.invite(url or centre.path, count))
        memory = machine.peak_mb(centre.pid)
    name = f"{ON_POSTGRES if url else ''}{count:,} nodes at once"
    measured.add(f"{name}, s until half of them are done", found.p50)
    measured.add(f"{name}, s until 99 of 100 are", found.p99)
    measured.add(f"{name}, times one was told to come back", found.turned_away)
    measured.add(f"{name}, MB: server", memory)
    shutil.rmtree(home)


def first_rounds(home: Path, rows: list[Row], rounds: int, measured: Measured, url: str | None = None) -> None:
    """Let nodes join a centre that has many sales: the first waits until they are made a file, the others find it there."""
    home.mkdir(parents=True)
    with server.running(home / "server", url) as centre:
        codes = [centre.invite(f"n{number}", f"branch:{BRANCH}") for number in range(rounds + 2)]
        with node.Node(home / "till", centre.url, codes.pop()) as till:
            local.insert_sales(till.path, rows)
            till.run(node.push)
        before, name = machine.peak_mb(centre.pid), f"{ON_POSTGRES if url else ''}first sync of {len(rows):,}"
        for number, code in enumerate(codes):
            place = home / f"n{number}"
            with node.Node(place, centre.url, joins=False) as other:
                found = other.run(node.first, place, centre.url, code)
            assert found.rows == len(rows), f"{found.rows} of {len(rows)} came"
            shutil.rmtree(place)
            if number == 0:
                measured.add(f"{name}, rows/s: the file is made for it", len(rows) / found.joining)
                continue
            measured.add(f"{name}, rows/s: joining", len(rows) / found.joining)
            measured.add(f"{name}, rows/s: joining and the first exchange", len(rows) / (found.joining + found.exchange))
            measured.add(f"{name}, bytes a row", found.bytes / len(rows))
            measured.add(f"{name}, MB: node", found.peak_mb)
        measured.add(f"{name}, MB: server before", before)
        measured.add(f"{name}, MB: server after", machine.peak_mb(centre.pid))
    shutil.rmtree(home)


def _insert(home: Path, till: node.Node, rows: list[Row], number: int, measured: Measured) -> None:
    """Insert plainly and captured, the one or the other first."""
    if number % 2:
        captured = local.insert_sales(till.path, rows)
        plain = local.plain(home / "plain.db", rows)
    else:
        plain = local.plain(home / "plain.db", rows)
        captured = local.insert_sales(till.path, rows)
    measured.add("plain insert, rows/s", len(rows) / plain)
    measured.add("captured insert, rows/s", len(rows) / captured)
    measured.add("captured insert, times plain", captured / plain)


def _push(till: node.Node, centre: server.Server, count: int, measured: Measured, where: str = "") -> None:
    cpu = machine.cpu_seconds(centre.pid)
    moved = till.run(node.push)
    assert moved.pushed == count, f"{moved.pushed} of {count} pushed"
    measured.add(where + "push, rows/s", count / moved.seconds)
    measured.add(where + "push, µs a row: node's processor", moved.cpu / count * 1e6)
    measured.add(where + "push, µs a row: server's processor", (machine.cpu_seconds(centre.pid) - cpu) / count * 1e6)
    measured.add(where + "push, bytes a row", moved.sent / count)
    till.run(node.pull)
    measured.add(where + "memory, MB: node after push", till.run(machine.peak_mb))
    measured.add(where + "memory, MB: server after push", machine.peak_mb(centre.pid))
    measured.add(where + "nothing to do, ms", till.run(node.idle_ms))


def _pull(other: node.Node, centre: server.Server, count: int, measured: Measured, where: str = "") -> None:
    cpu = machine.cpu_seconds(centre.pid)
    moved = other.run(node.pull)
    assert moved.pulled == count == other.run(node.count, "sale"), f"{moved.pulled} of {count} pulled"
    measured.add(where + "pull, rows/s", count / moved.seconds)
    measured.add(where + "pull, µs a row: node's processor", moved.cpu / count * 1e6)
    measured.add(where + "pull, µs a row: server's processor", (machine.cpu_seconds(centre.pid) - cpu) / count * 1e6)
    measured.add(where + "pull, bytes a row", moved.received / count)
    measured.add(where + "memory, MB: node after pull", moved.peak_mb)
    measured.add(where + "memory, MB: server after pull", machine.peak_mb(centre.pid))


def change_rounds(home: Path, base: int, rounds: int, measured: Measured, say: Say) -> None:
    """Change 1,000 contacts of a large base on one node, and insert 1,000 new ones; push them, pull them into another."""
    home.mkdir(parents=True)
    with server.running(home / "server") as centre:
        codes = [centre.invite(name, f"branch:{BRANCH}") for name in ("mine", "other")]
        with node.Node(home / "mine", centre.url, codes[0]) as mine, node.Node(home / "other", centre.url, codes[1]) as other:
            ids = []
            for portion in contacts(base):  # in portions: the centre journals each as one version
                local.insert_contacts(centre.path, portion)
                mine.run(node.sync)
                other.run(node.sync)
                ids += [row[0] for row in portion]
            assert other.run(node.count, "contact") == base
            rng = random.Random(base)
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}: {CHANGED:,} of {base:,} contacts (load {machine.load()})")
                low = rng.randrange(base - CHANGED)
                choices = {"neighbours": ids[low : low + CHANGED], "scattered": rng.sample(ids, CHANGED)}
                for how in sorted(choices, reverse=bool(number % 2)):
                    local.change_phones(mine.path, choices[how], f"{number}-{how}-")
                    _exchange(mine, other, f"change of 1,000 on {base:,}, {how}", measured)
                (new,) = contacts(CHANGED, CHANGED, seed=base + number)
                local.insert_contacts(mine.path, new)
                _exchange(mine, other, f"1,000 new beside {base:,}", measured)
    shutil.rmtree(home)


def _exchange(mine: node.Node, other: node.Node, name: str, measured: Measured) -> None:
    """Push what was written to a thousand contacts, and pull it into the other node."""
    pushed = mine.run(node.push)
    pulled = other.run(node.pull)
    assert pushed.pushed == pulled.pulled == CHANGED, f"{pushed.pushed} pushed, {pulled.pulled} pulled of {CHANGED}"
    measured.add(f"{name}, push ms", pushed.seconds * 1000)
    measured.add(f"{name}, pull ms", pulled.seconds * 1000)
    mine.run(node.sync)
    other.run(node.sync)
