"""Backups of before an upgrade, put back after it: what other versions kept of the lost history comes back translated."""

from __future__ import annotations

from pathlib import Path

import pytest

import node.database
from tests.healing.copies import copy_of, replace_file
from tests.skew.declarations import VERSIONS, declared
from tests.skew.test_versions import ANN, listing
from tests.skew.world import SkewedWorld, insert, update

NEWEST = VERSIONS[-1]


@pytest.mark.parametrize("first", [1, NEWEST])
@pytest.mark.parametrize("second", [1, 3, NEWEST])
def test_a_centre_restored_to_before_its_upgrade_gets_everything_back(tmp_path: Path, first: int, second: int) -> None:
    """The rows of a node that never returns come from what another pulled of them under the version of then."""
    world = SkewedWorld(tmp_path, 1)
    gone, here = world.node_of(1, "gone"), world.node_of(1, "here")
    gone.sync()
    here.sync()
    copy = copy_of(world.database.path)
    insert(gone, "person", ANN)
    insert(gone, "slip", {"id": "s1", "branch_id": "LON", "total_minor": 100})
    insert(gone, "slip_line", {"id": "l1", "slip_id": "s1", "text": "tea"})
    gone.sync()
    here.sync()
    insert(here, "slip", {"id": "s2", "branch_id": "LON", "total_minor": 200})
    here.sync()
    if first == NEWEST:  # upgraded, then restored to before that
        world.upgrade_centre(NEWEST)
        world.upgrade("here", second)
        world.nodes["here"].sync()
    world.upgrade_centre(NEWEST, copy)
    world.nodes.pop("gone").database.close()
    world.upgrade("here", second)
    world.settle()
    row = world.centre_row("person", "ann") or {}
    assert (row["cell"], row["weight"], row["city"], row["country"]) == ("1", 1500, "York", "GB")
    assert world.sql("SELECT id, total_minor FROM slip ORDER BY id") == [("s1", 100), ("s2", 200)]
    assert world.sql("SELECT id FROM slip_line") == [("l1",)]
    assert world.agree()
    world.close()


def test_a_node_restored_to_before_its_upgrade_goes_on(tmp_path: Path) -> None:
    world = SkewedWorld(tmp_path, NEWEST)
    here, there = world.node_of(1, "here"), world.node_of(NEWEST, "there")
    insert(there, "person", ANN | {"loyalty": "gold"})
    world.settle()
    copy = copy_of(here.database.path)
    update(here, "person", "ann", {"cell": "2"})
    here.sync()
    world.upgrade("here", NEWEST)
    update(here, "person", "ann", {"city": "Leeds", "loyalty": "silver"})
    here.sync()
    clock_ms = here.database.clock_ms
    here.database.close()
    replace_file(world.folder / "here.db", copy)
    here.database = node.database.Database(world.folder / "here.db", declared(1), clock_ms)
    update(here, "person", "ann", {"name": "Anna"})
    here.sync()
    assert world.agree()
    world.upgrade("here", NEWEST)
    world.settle()
    assert world.agree()
    for name in world.nodes:
        row = world.row(name, "person", "ann") or {}
        assert (row["name"], row["cell"], row["city"], row["loyalty"]) == ("Anna", "2", "Leeds", "silver")
    world.close()


@pytest.mark.covers("P-7.28", "P-7.7")
def test_a_centre_rolled_back_to_before_its_upgrade_gets_newer_pages_when_it_is_upgraded_again(tmp_path: Path) -> None:
    """With the program of then it cannot read what a node pulled since: the node keeps that until it can."""
    world = SkewedWorld(tmp_path, 1)
    here, gone = world.node_of(1, "here"), world.node_of(1, "gone")
    world.settle()
    copy = copy_of(world.database.path)
    world.upgrade_centre(NEWEST)
    for name in ("here", "gone"):
        world.upgrade(name, NEWEST)
    world.settle()
    world.sql("INSERT INTO person (id, name, branch_id) VALUES ('central', 'C', 'LON')")
    insert(gone, "person", ANN | {"loyalty": "gold"})
    insert(gone, "slip", {"id": "s1", "branch_id": "LON", "till": "T", "total_minor": 100})
    insert(gone, "slip_line", {"id": "l1", "slip_id": "s1", "text": "tea"})
    gone.sync()
    here.sync()
    world.nodes.pop("gone").database.close()
    world.upgrade_centre(1, copy)
    here.sync()
    here.sync()
    cover_everything(world)
    world.sql("INSERT INTO person (id, name, fax, branch_id) VALUES ('since', 'S', '', 'LON')")
    here.sync()
    assert here.sql("SELECT id FROM person") == [("since",)]
    world.upgrade_centre(NEWEST)
    world.settle(3)
    assert world.sql("SELECT id, loyalty FROM person ORDER BY id") == [("ann", "gold"), ("central", None), ("since", None)]
    assert world.sql("SELECT id, till FROM slip") == [("s1", "T")]
    assert world.sql("SELECT id FROM slip_line") == [("l1",)]
    assert world.agree()
    world.close()


def cover_everything(world: SkewedWorld) -> None:
    """Let a backup of the centre cover all it has, so that nodes need keep nothing that it could give them."""
    with world.database.writing() as store:
        store.connection.execute("UPDATE _server SET covered = head")


@pytest.mark.covers("P-7.24")
@pytest.mark.parametrize("first", ["old", "new"])
def test_what_an_older_page_shows_converted_or_empty_is_no_other_value(tmp_path: Path, first: str) -> None:
    world = SkewedWorld(tmp_path, NEWEST)
    old, new, oldest = world.node_of(4, "old"), world.node_of(NEWEST, "new"), world.node_of(1, "oldest")
    world.sql("INSERT INTO person (id, name, branch_id) VALUES ('ann', 'Ann', 'LON')")
    world.sql("INSERT INTO phone_call (id, person_id, minutes, text) VALUES ('before', 'ann', 1.5, '')")
    world.settle()
    copy = copy_of(world.database.path)
    world.sql("INSERT INTO phone_call (id, person_id, minutes, text) VALUES ('since', 'ann', 30.5, 'x')")
    new.sync()
    world.sql("UPDATE phone_call SET text = 'y' WHERE id = 'since'")
    old.sync()
    oldest.sync()
    world.upgrade_centre(NEWEST, copy)
    for name in sorted(("old", "new"), key=lambda name: name != first):
        world.nodes[name].sync()
    world.settle(2)
    found = world.sql("SELECT id, minutes, text FROM phone_call ORDER BY id")
    assert found == [("before", 1.5, ""), ("since", 30.5 if first == "new" else 30.0, "y")]
    if first == "old":  # what the older page brought stands, and the fraction is on record
        assert [(each["column"], each["mine"]) for each in listing(world)] == [("minutes", 30.5), ("text", "x")]
    assert world.agree()
    world.close()


@pytest.mark.covers("P-7.24", "P-7.25")
@pytest.mark.parametrize("first", ["old", "new"])
def test_of_columns_that_an_older_page_did_not_have_the_writers_own_values_stand(tmp_path: Path, first: str) -> None:
    world = SkewedWorld(tmp_path, NEWEST)
    world.node_of(1, "old")
    new = world.node_of(NEWEST, "new")
    world.settle()
    copy = copy_of(world.database.path)
    insert(new, "person", ANN | {"loyalty": "gold"})
    new.sync()
    world.nodes["old"].sync()
    world.upgrade_centre(NEWEST, copy)
    for name in sorted(("old", "new"), key=lambda name: name != first):
        world.nodes[name].sync()
    world.settle(2)
    assert (world.centre_row("person", "ann") or {})["loyalty"] == "gold"
    assert world.agree()
    world.close()
