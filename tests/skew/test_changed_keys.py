"""A key that a node of another version changes: what that version does not have goes with the row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.writer import transaction
from tests.skew.world import SkewedWorld

GOLD = "INSERT INTO person (id, loyalty, name, cell, weight, branch_id, country) VALUES (?, ?, ?, '1', 80500, 'LON', 'UA')"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SkewedWorld]:
    made = SkewedWorld(tmp_path, 5)
    made.node_of(1, "old")
    made.node_of(5, "new")
    yield made
    made.close()


@pytest.mark.covers("P-11.13", "P-5.4")
def test_a_key_that_an_older_node_changes_keeps_what_it_does_not_know(world: SkewedWorld) -> None:
    world.nodes["new"].sql(GOLD, "p1", "GOLD", "Ann")
    world.settle(2)
    before = world.centre_row("person", "p1") or {}
    world.nodes["old"].sql("UPDATE person SET id = 'p2' WHERE id = 'p1'")
    world.settle(2)
    assert (before["loyalty"], before["country"], before["weight"]) == ("GOLD", "UA", 80500)
    assert world.centre_row("person", "p1") is None
    assert world.centre_row("person", "p2") == {**before, "id": "p2"}
    assert world.agree()


@pytest.mark.covers("P-11.13")
def test_a_key_that_a_newer_node_changes_keeps_a_column_that_older_nodes_still_have(world: SkewedWorld) -> None:
    old, new = world.nodes["old"], world.nodes["new"]
    old.sql("INSERT INTO person (id, name, phone, fax, branch_id) VALUES ('q1', 'Bob', '1', '044-555', 'LON')")
    world.settle(2)
    new.sql("UPDATE person SET id = 'q2' WHERE id = 'q1'")
    world.settle(2)
    assert old.sql("SELECT id, fax FROM person") == [("q2", "044-555")]
    assert world.agree()


@pytest.mark.covers("P-11.13")
def test_many_keys_changed_at_once_each_keep_their_own(world: SkewedWorld) -> None:
    for each in "abc":
        world.nodes["new"].sql(GOLD, each, f"of {each}", f"name {each}")
    world.settle(2)
    world.nodes["old"].sql("UPDATE person SET id = id || '2'")
    world.settle(2)
    assert sorted(world.sql("SELECT id, loyalty FROM person")) == [(f"{each}2", f"of {each}") for each in "abc"]
    assert world.agree()


@pytest.mark.covers("P-11.13")
def test_values_that_may_be_of_either_of_two_rows_go_to_none(world: SkewedWorld) -> None:
    old = world.nodes["old"]
    for each in "ab":
        world.nodes["new"].sql(GOLD, each, f"of {each}", "twin")
    world.settle(2)
    with transaction(old.database) as tx:
        tx.connection.execute(
            "INSERT INTO person (id, name, phone, fax, weight, branch_id) SELECT 'c', name, phone, fax, weight, branch_id"
            " FROM person WHERE id = 'a'"
        )
        tx.connection.execute("DELETE FROM person WHERE id <> 'c'")
    world.settle(2)
    assert world.sql("SELECT id, loyalty, country FROM person") == [("c", None, "GB")]
    assert world.agree()
