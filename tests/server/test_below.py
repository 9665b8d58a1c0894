"""Rows of others that hang under a key: whoever inserts the key must not come to see them by it (server/below.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server import ingest
from tests.healing.copies import copy_of, put_back_centre
from tests.world import Node, World

SECRET = "not for London"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def contact(world: World, branch: str) -> None:
    world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Ann', ?)", branch)


def deal(world: World, owner: str | None) -> None:
    world.sql("INSERT INTO deal (id, contact_id, owner_id, title) VALUES ('d1', 'c1', ?, ?)", owner, SECRET)


def insert(node: Node) -> None:
    node.write([("contact", {"id": "c1", "kind": "person", "name": "mine", "branch_id": "LON"})])


def held(node: Node) -> list[str]:
    return [entry["code"] for entry in node.held()]


@pytest.mark.covers("P-6.11")
@pytest.mark.parametrize("owner", ["e8", None])
def test_a_dead_parent_inserted_again_brings_nothing_of_others(world: World, owner: str | None) -> None:
    london = world.node("london", "branch:LON")
    contact(world, "EDI")
    deal(world, owner)
    world.settle(1)
    world.sql("DELETE FROM contact WHERE id = 'c1'")
    world.settle(1)
    insert(london)
    world.settle(2)
    assert london.sql("SELECT * FROM deal") == []
    assert held(london) == ["key"]
    assert SECRET not in repr(london.held())
    with world.database.writing() as store:
        (number,) = world.sql("SELECT id FROM _held")[0]
        ingest.decide(store, number, True, world.clock.read())
    world.settle(1)
    assert london.sql("SELECT title FROM deal") == [(SECRET,)]
    assert world.agree()


@pytest.mark.covers("P-6.11")
def test_a_parent_that_never_was_brings_no_row_of_another_scope(world: World) -> None:
    london, owner = world.node("london", "branch:LON"), world.node("owner", "owner:e8")
    deal(world, "e8")
    insert(london)
    world.settle(2)
    assert london.sql("SELECT * FROM deal") == []
    assert held(london) == ["key"]
    world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c2', 'person', 'Bob', 'EDI')")
    world.sql("UPDATE deal SET contact_id = 'c2' WHERE id = 'd1'")
    world.settle(2)
    assert held(london) == []  # what stood against it has moved, so it was tried again
    assert owner.sql("SELECT title FROM deal") == [(SECRET,)]
    assert world.agree()


@pytest.mark.covers("P-6.11")
def test_what_moved_away_with_its_parent_does_not_come_back_with_the_key(world: World) -> None:
    london = world.node("london", "branch:LON")
    contact(world, "LON")
    deal(world, "e8")
    world.settle(1)
    assert london.sql("SELECT title FROM deal") == [(SECRET,)]
    for change in ("UPDATE contact SET branch_id = 'EDI'", "UPDATE deal SET title = 'newer'", "DELETE FROM contact"):
        world.sql(change)
        world.settle(1)
    insert(london)
    world.settle(2)
    assert london.sql("SELECT * FROM deal") == []
    assert held(london) == ["key"]


@pytest.mark.covers("P-6.11", "P-6.22")
def test_a_node_may_bring_back_a_row_with_what_hung_under_it(world: World) -> None:
    """It had all of it until the row was deleted, by whomever, so it may have it again."""
    london, other = world.node("london", "branch:LON"), world.node("other", "branch:LON")
    contact(world, "LON")
    deal(world, "e8")
    for deleter in (london, other):
        world.settle(1)
        deleter.sql("DELETE FROM contact WHERE id = 'c1'")
        world.settle(2)
        assert london.sql("SELECT * FROM deal") == []
        insert(london)
        world.settle(2)
        assert held(london) == []
        assert london.sql("SELECT title FROM deal") == [(SECRET,)]
        assert world.agree()


@pytest.mark.covers("P-6.11")
def test_rows_that_no_scope_ever_had_wait_for_their_parent(world: World) -> None:
    """A central program may know of a call, or of a payment, before the laptop has sent the row it belongs to."""
    london = world.node("london", "branch:LON")
    world.sql("INSERT INTO activity (id, contact_id, topic) VALUES ('a1', 'c1', 'call')")
    world.sql("INSERT INTO payment (id, sale_id, method, amount_minor) VALUES ('p1', 's1', 'card', 100)")
    world.settle(1)
    insert(london)
    sale = {"id": "s1", "number": "1", "kind": "sale", "branch_id": "LON", "sold_ms": 1, "currency": "GBP", "total_minor": 100}
    london.write([("sale", sale)])
    world.settle(2)
    assert held(london) == []
    assert london.sql("SELECT topic FROM activity") == [("call",)]
    assert london.sql("SELECT method FROM payment") == [("card",)]  # the fast path of new documents, too
    assert world.agree()


@pytest.mark.covers("P-7.23", "P-6.11")
def test_a_page_of_a_lost_history_brings_no_rows_of_others(world: World) -> None:
    london, origin = world.node("london", "branch:LON"), world.node("origin", "branch:LON")
    world.settle(1)
    copy = copy_of(world.database.path)
    insert(origin)
    world.settle(2)
    put_back_centre(world, copy)
    world.nodes.pop("origin").database.close()
    deal(world, "e8")
    world.settle(2)
    assert london.sql("SELECT * FROM deal") == []
    assert world.sql("SELECT * FROM contact") == []
    assert world.sql("SELECT rule, key FROM _conflict") == [("restored", "c1")]
    assert world.agree()
