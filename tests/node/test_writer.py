"""Writing from our own code: receipt numbers, ids, and a commit that leaves nothing half captured."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from node.database import Database
from node.writer import transaction
from sync.errors import BadValue
from tests import foreign
from tests.world import Node, World


@pytest.fixture
def node(world: World) -> Node:
    return world.node("k2", "branch:LON", "owner:e1")


def sell(database: Database, branch: str = "LON", till: str = "1") -> str:
    """Sell as our own till does: number drawn inside the sale's transaction."""
    with transaction(database) as tx:
        number, key = tx.receipt_number(branch, till), tx.new_id()
        sale = {"id": key, "number": number, "kind": "sale", "branch_id": branch, "till": till, "sold_ms": 1, "currency": "GBP"}
        tx.insert("sale", sale | {"total_minor": 5})
        tx.insert("payment", {"id": tx.new_id(), "sale_id": key, "method": "cash", "amount_minor": 5})
    return number


def test_numbers_count_up_per_branch_and_till(node: Node) -> None:
    assert [sell(node.database, *place) for place in [("LON", "1"), ("LON", "1"), ("LON", "2"), ("PAR", "1"), ("LON", "1")]] == [
        "LON-1-000001",
        "LON-1-000002",
        "LON-2-000001",
        "PAR-1-000001",
        "LON-1-000003",
    ]


def test_a_branch_may_have_a_dash_but_not_a_till(node: Node) -> None:
    """So that no two series run into each other: `A-1` till `2` and `A` till `1-2`."""
    assert sell(node.database, "A-1", "2") == "A-1-2-000001"
    for branch, till in [("A", "1-2"), ("", "1"), ("A", "")]:
        with pytest.raises(BadValue):
            sell(node.database, branch, till)


def test_a_sale_that_fails_gives_its_number_back(node: Node) -> None:
    def fail() -> None:
        with transaction(node.database) as tx:
            assert tx.receipt_number("LON", "1") == "LON-1-000002"
            raise RuntimeError("the printer is on fire")

    assert sell(node.database) == "LON-1-000001"
    for _ in range(3):
        with pytest.raises(RuntimeError):
            fail()
    assert sell(node.database) == "LON-1-000002"
    assert [row[0] for row in node.sql("SELECT number FROM sale ORDER BY number")] == ["LON-1-000001", "LON-1-000002"]


def test_two_connections_never_get_the_same_number(world: World, node: Node) -> None:
    """Two tills of one shop write to one file, each over a connection of its own; a third program writes as well."""
    count, errors = 30, []

    def work() -> None:
        try:
            database = Database(node.database.path, world.schema, world.clock.read)
            for _ in range(count):
                sell(database)
            database.close()
        except Exception as error:  # told below: a thread's exception is nobody's
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(10):
        foreign.run(node.database.path, f"INSERT INTO task (id, owner_id) VALUES ('t{i}', 'e1')")
    for thread in threads:
        thread.join(120)
    assert errors == []
    numbers = [row[0] for row in node.sql("SELECT number FROM sale")]
    assert sorted(numbers) == [f"LON-1-{i:06}" for i in range(1, 2 * count + 1)]
    report = node.sync()
    assert report.pushed == report.verdicts["accepted"] == 2 * count + 10
    assert node.verify()


def test_numbers_go_on_after_the_sales_have_left(world: World, node: Node) -> None:
    sell(node.database)
    node.sync()
    world.rescope("k2", "owner:e1")
    node.sync()
    assert node.sql("SELECT * FROM sale") == []
    assert sell(node.database) == "LON-1-000002"


def test_a_foreign_program_waits_while_we_write(node: Node) -> None:
    with transaction(node.database) as tx:
        tx.insert("task", {"id": "t1", "owner_id": "e1"})
        assert foreign.rows(node.database.path, "SELECT * FROM task") == []
        with pytest.raises(foreign.Failed, match="locked"):
            foreign.run(node.database.path, "PRAGMA busy_timeout = 10", "BEGIN IMMEDIATE", commit=False)
    assert foreign.rows(node.database.path, "SELECT id FROM task") == [("t1",)]


def test_update_says_whether_the_row_was_there(node: Node) -> None:
    with transaction(node.database) as tx:
        tx.insert("task", {"id": "t1", "owner_id": "e1"})
        assert tx.update("task", ("t1",), {"title": "x"})
        assert not tx.update("task", ("t2",), {"title": "x"})


def test_a_commit_of_ours_is_sealed_whole(node: Node) -> None:
    foreign.run(node.database.path, "INSERT INTO task (id, owner_id) VALUES ('before', 'e1')")
    sell(node.database)
    assert not node.database.has_changes()
    assert node.unsynced() == 2
    assert node.sync().verdicts["accepted"] == 2


def test_what_our_code_wrote_is_durable_before_it_says_so(tmp_path: Path, node: Node) -> None:
    """What a foreign program reads after the commit is there without our connection."""
    number = sell(node.database)
    node.database.close()
    found: list[Any] = foreign.rows(node.database.path, "SELECT number FROM sale")
    assert found == [(number,)]
