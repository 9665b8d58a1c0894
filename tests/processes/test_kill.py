"""Killed at any moment and run again: the same result as without. And no reader ever sees a receipt that is not whole.

Real processes over loopback HTTP; SIGKILL, so nothing of ours gets a chance to tidy up.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import foreign
from tests.faults.processes import Centre, NodeHome, Running, Starter

DRIVERS = Path(__file__).parent / "drivers"
YEAR_MS = 365 * 24 * 3600 * 1000
TABLES = {
    "sale": "id, number, kind, branch_id, sold_ms, currency, total_minor",
    "sale_line": "id, sale_id, qty_milli, unit_price_e4, amount_minor",
    "payment": "id, sale_id, method, amount_minor",
    "contact": "id, kind, name, branch_id, phone",
}


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    made = Starter(tmp_path)
    yield made
    made.close()


@pytest.fixture
def centre(starter: Starter, tmp_path: Path) -> Iterator[Centre]:
    made = Centre(starter, tmp_path)
    yield made
    made.kill()


def database(node: NodeHome) -> Path:
    return node.path


def sell(node: NodeHome, first: int, count: int) -> None:
    """Let a foreign program record receipts with two lines and a payment each, and as many contacts, in one commit."""
    keys = [f"{node.home.name}-{i:06}" for i in range(first, first + count)]
    statements = {
        "sale": [(key, key, "sale", "LON", 1, "GBP", 10) for key in keys],
        "sale_line": [(f"{key}/{n}", key, 1000, 50000, 5) for key in keys for n in (1, 2)],
        "payment": [(f"{key}/p", key, "cash", 10) for key in keys],
        "contact": [(key, "person", key, "LON", str(first)) for key in keys[:10]],
    }
    foreign.run(
        database(node),
        *((f"INSERT INTO {table} ({TABLES[table]}) VALUES ({', '.join('?' * len(rows[0]))})", rows) for table, rows in statements.items()),
        ("UPDATE contact SET phone = ?", f"{node.home.name} {first}"),
    )


def rows(path: Path) -> dict[str, list[Any]]:
    return {table: sorted(foreign.rows(path, f"SELECT {columns} FROM {table}")) for table, columns in TABLES.items()}


@dataclass
class Reader:
    """A foreign process that polls databases until it is asked what it saw."""

    process: subprocess.Popen[str]

    def seen(self) -> list[dict[str, Any]]:
        out, _ = self.process.communicate("")
        assert self.process.returncode == 0
        found: list[dict[str, Any]] = json.loads(out)
        return found


def reader(*paths: Path) -> Reader:
    command = [sys.executable, "-I", str(DRIVERS / "reader.py"), *map(str, paths)]
    return Reader(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


def sync(starter: Starter, node: NodeHome) -> Running:
    return starter.start("node", "--home", node.home, "sync", "--json")


def settle(starter: Starter, *nodes: NodeHome) -> None:
    for _ in range(3):
        for node in nodes:
            starter.ok("node", "--home", node.home, "sync")
    for node in nodes:
        assert starter.ok("node", "--home", node.home, "verify")["equal"]


def assert_all_arrived(starter: Starter, centre: Centre, receipts: int, *nodes: NodeHome) -> None:
    settle(starter, *nodes)
    first = rows(centre.path)
    assert len(first["sale"]) == receipts
    assert (len(first["sale_line"]), len(first["payment"])) == (2 * receipts, receipts)
    for node in nodes:
        assert rows(database(node)) == first
        again = starter.ok("node", "--home", node.home, "sync")
        assert (again["pushed"], again["pulled"], again["removed"], again["unsynced"]) == (0, 0, 0, 0)


# --- the node is killed --------------------------------------------------------------------------------------------------


def test_a_node_killed_at_any_moment_of_its_exchange(starter: Starter, centre: Centre) -> None:
    """30 kills of a till that sends and of a laptop that receives, at moments drawn from how long an exchange takes."""
    chance = random.Random(20)
    till, laptop = centre.node("till", "branch:LON"), centre.node("laptop", "branch:LON")
    sell(till, 0, 300)
    began = time.monotonic()
    starter.ok("node", "--home", till.home, "sync")
    takes = time.monotonic() - began
    watching, receipts, killed = reader(centre.path, database(laptop)), 300, 0
    for kill in range(30):
        victim = till if kill % 3 else laptop
        if victim is till:
            sell(till, receipts, 40)
            receipts += 40
        running = sync(starter, victim)
        time.sleep(chance.uniform(0, takes))
        killed += starter.kill(running) == -signal.SIGKILL
    assert_all_arrived(starter, centre, receipts, till, laptop)
    for seen in watching.seen():
        assert seen["broken"] == []
        assert seen["polls"] > 10
        assert len(seen["sizes"]) > 1
    assert killed >= 15, "most were killed before they were done"


def test_a_server_killed_at_any_moment_of_a_push(starter: Starter, centre: Centre) -> None:
    chance = random.Random(21)
    till, laptop = centre.node("till", "branch:LON"), centre.node("laptop", "branch:LON")
    sell(till, 0, 300)
    began = time.monotonic()
    starter.ok("node", "--home", till.home, "sync")
    takes, receipts, cut = time.monotonic() - began, 300, 0
    for _ in range(10):
        sell(till, receipts, 200)
        receipts += 200
        running = sync(starter, till)
        time.sleep(chance.uniform(0.2 * takes, takes))
        centre.kill()
        status = starter.wait(running)
        cut += status != 0
        assert status in (0, 1)
        if status == 1:
            assert json.loads(running.out.read_text(encoding="utf-8"))["error"]["code"] == "net.offline"
        centre.start()
        if chance.random() < 0.5:
            starter.wait(sync(starter, laptop))
    assert_all_arrived(starter, centre, receipts, till, laptop)
    assert cut >= 3, "most exchanges were cut"
    segments = foreign.rows(centre.path, "SELECT COUNT(*), COUNT(DISTINCT segment) FROM _journal WHERE segment IS NOT NULL")[0]
    assert segments[0] == segments[1]


# --- readers ---------------------------------------------------------------------------------------------------------------


def test_no_reader_sees_a_receipt_that_is_not_whole(starter: Starter, centre: Centre) -> None:
    """Some thousand receipts go up and down while a foreign process polls centre and replica: whole or absent, always."""
    till, laptop = centre.node("till", "branch:LON"), centre.node("laptop", "branch:LON")
    watching = reader(centre.path, database(laptop), database(till))
    for batch in range(3):
        sell(till, batch * 700, 700)
        up = sync(starter, till)
        down = sync(starter, laptop)
        assert (starter.wait(up), starter.wait(down)) == (0, 0)
        starter.wait(sync(starter, laptop))
    for seen in watching.seen():
        assert seen["broken"] == []
        assert seen["polls"] > 10
        assert seen["sizes"][-1] == 2_100
    settle(starter, till, laptop)


# --- a clock that is wrong -----------------------------------------------------------------------------------------------------

LATE_CLOCK = f"""
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=30)
database.create_function("julianday", 1, lambda _: (time.time() * 1000 - {YEAR_MS}) / 86400000 + 2440587.5)
database.execute(sys.argv[2])
database.commit()
"""


def write_with_late_clock(node: NodeHome, sql: str) -> None:
    """Let a foreign program write on a machine whose clock is a year behind: the time capture's triggers read, too."""
    subprocess.run([sys.executable, "-I", "-c", LATE_CLOCK, str(database(node)), sql], check=True)


@pytest.fixture
def late(starter: Starter, centre: Centre) -> tuple[NodeHome, NodeHome]:
    """Two laptops that both know a contact; the clock of the second is a year behind."""
    right, wrong = centre.node("right", "branch:LON"), centre.node("wrong", "branch:LON")
    foreign.run(database(right), "INSERT INTO contact (id, kind, name, branch_id, phone) VALUES ('c1', 'person', 'Ann', 'LON', '0')")
    starter.ok("node", "--home", right.home, "sync")
    starter.ok("node", "--home", wrong.home, "sync", clock_offset_ms=-YEAR_MS)
    return right, wrong


def test_a_later_edit_wins_from_a_machine_whose_clock_is_a_year_behind(starter: Starter, late: tuple[NodeHome, NodeHome]) -> None:
    right, wrong = late
    foreign.run(database(right), "UPDATE contact SET phone = 'earlier'")
    starter.ok("node", "--home", right.home, "sync")
    starter.ok("node", "--home", wrong.home, "sync", clock_offset_ms=-YEAR_MS)
    write_with_late_clock(wrong, "UPDATE contact SET phone = 'later'")
    (wall,) = foreign.rows(database(wrong), "SELECT MAX(wall) FROM _log")[0]
    assert wall < time.time() * 1000 - YEAR_MS + 60_000, "the clock that capture read was wrong indeed"
    starter.ok("node", "--home", wrong.home, "sync", clock_offset_ms=-YEAR_MS)
    starter.ok("node", "--home", right.home, "sync")
    assert foreign.rows(database(right), "SELECT phone FROM contact") == [("later",)]
    assert starter.ok("node", "--home", right.home, "conflicts") == []


def test_of_two_edits_that_did_not_know_of_each_other_the_later_wins_whatever_the_clocks(
    starter: Starter, late: tuple[NodeHome, NodeHome]
) -> None:
    """The centre corrects stamps by the difference of the clocks."""
    right, wrong = late
    foreign.run(database(right), "UPDATE contact SET phone = 'earlier'")
    time.sleep(0.05)  # the edits must have an order in time
    write_with_late_clock(wrong, "UPDATE contact SET phone = 'later'")
    starter.ok("node", "--home", wrong.home, "sync", clock_offset_ms=-YEAR_MS)
    for node in (right, wrong):
        starter.ok("node", "--home", node.home, "sync", clock_offset_ms=-YEAR_MS if node is wrong else 0)
    assert foreign.rows(database(right), "SELECT phone FROM contact") == [("later",)]
    (conflict,) = starter.ok("node", "--home", right.home, "conflicts")
    assert (conflict["mine"], conflict["theirs"], conflict["winner"]) == ("earlier", "later", "theirs")
