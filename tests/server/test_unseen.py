"""What a deletion, an approval or a new life has not seen is not lost with it, nor shown to whom it is not for."""

from __future__ import annotations

from pathlib import Path

import pytest

from node import outbox
from schema.registry import build
from server import held as held_work
from server import ingest
from tests.declared import declare
from tests.healing.stories import decide_all
from tests.healing.stories import world as world  # a fixture
from tests.world import Node, World

A_CLIENT = "INSERT INTO client (id, branch, points) VALUES ('c1', 'A', 10)"


def two(world: World, *statements: str) -> tuple[Node, Node]:
    """Two nodes of one branch that know what a central program wrote."""
    found = world.node("a", "branch:A"), world.node("b", "branch:A")
    for statement in statements:
        world.sql(statement)
    world.settle(2)
    return found


def seal(entry: Node) -> None:
    """As an exchange does that finds no network."""
    with entry.database.writing() as store:
        outbox.seal(store, entry.database.clock_ms())


def agreed(world: World) -> bool:
    world.settle()
    return world.agree()


@pytest.mark.covers("P-6.44")
@pytest.mark.parametrize(
    ("of_others", "own", "deletion", "stands"),
    [
        (
            "UPDATE client SET points = 13",
            "UPDATE client SET points = points + 1",
            "DELETE FROM client",
            "SELECT points = 14 FROM client",
        ),
        (
            "UPDATE client SET labels = '[\"vip\"]'",
            "UPDATE client SET labels = '[\"x\"]'",
            "DELETE FROM client",
            'SELECT labels = \'["vip","x"]\' FROM client',
        ),
        ("UPDATE visit SET minutes = 60", "UPDATE visit SET minutes = 6", "DELETE FROM visit", "SELECT minutes = 61 FROM visit"),
        (
            "INSERT INTO client_label (client_id, label) VALUES ('c1', 'vip')",
            "INSERT INTO client_label (client_id, label) VALUES ('c1', 'vip')",
            "DELETE FROM client_label",
            "SELECT label = 'vip' FROM client_label",
        ),
    ],
    ids=["a sum", "a union", "a child's sum", "an element of a set"],
)
def test_what_others_added_beside_ones_own_does_not_die_unseen(of_others: str, own: str, deletion: str, stands: str, world: World) -> None:
    """The node adds without having seen that another did, and then deletes: its own addition is seen, the other's is not."""
    a, b = two(world, A_CLIENT, "INSERT INTO visit (id, client_id, minutes) VALUES ('v1', 'c1', 5)")
    b.sql(of_others)
    b.sync()
    a.sql(own)
    seal(a)
    a.sql(deletion)
    a.sync()
    assert agreed(world)
    assert world.sql(stands) == [(1,)]
    assert [each["rule"] for each in a.conflicts()] == ["edit wins"]


def test_what_one_added_oneself_dies_with_the_row(world: World) -> None:
    a, _ = two(world, A_CLIENT)
    a.sql("UPDATE client SET points = points + 1")
    seal(a)
    a.sql("DELETE FROM client")
    a.sync()
    assert agreed(world)
    assert world.sql("SELECT * FROM client") == []


A_RECEIPT = "INSERT INTO receipt (id, branch, total) VALUES ('r1', 'A', 10)"


@pytest.mark.covers("P-6.27")
def test_an_approved_deletion_of_a_document_has_not_seen_what_came_under_it(world: World) -> None:
    a, b = two(world, A_RECEIPT)
    a.sql("DELETE FROM receipt")
    assert a.sync().verdicts["held"] == 1
    b.sql("INSERT INTO receipt_line (id, receipt_id, amount) VALUES ('l2', 'r1', 7)")
    b.sync()
    decide_all(world, True)
    assert agreed(world)
    assert (world.sql("SELECT id FROM receipt"), world.sql("SELECT id FROM receipt_line")) == ([("r1",)], [("l2",)])
    assert [each["rule"] for each in b.conflicts()] == ["edit wins"]


@pytest.mark.covers("P-6.27")
@pytest.mark.parametrize(("change", "stands"), [("DELETE FROM receipt", 99), ("UPDATE receipt SET total = 12", 12)])
def test_an_approved_change_of_a_document_has_not_seen_its_next_life(change: str, stands: int, world: World) -> None:
    a, b = two(world, A_RECEIPT)
    a.sql(change)
    assert a.sync().verdicts["held"] == 1
    world.sql("DELETE FROM receipt")
    b.sync()
    b.sql("INSERT INTO receipt (id, branch, total) VALUES ('r1', 'A', 99)")
    b.sync()
    decide_all(world, True)
    assert agreed(world)
    assert world.sql("SELECT total FROM receipt") == [(stands,)]
    assert len(a.conflicts()) == 1, "both are on record"


def test_an_approved_deletion_of_a_document_that_is_as_it_was_takes_it(world: World) -> None:
    a, _ = two(world)
    a.sql(A_RECEIPT)
    a.sync()
    a.sql("DELETE FROM receipt")
    assert a.sync().verdicts["held"] == 1
    decide_all(world, True)
    assert agreed(world)
    assert world.sql("SELECT * FROM receipt") == []


@pytest.mark.covers("P-6.22")
def test_a_new_life_does_not_show_what_became_of_the_row_in_others_scope(world: World) -> None:
    a, b = two(world, A_CLIENT)
    world.rescope("b", "branch:B")
    world.sql("UPDATE client SET branch = 'B'")
    world.settle(1)
    b.sql("UPDATE client SET memo = 'for B alone'")
    b.sync()
    b.sql("DELETE FROM client")
    b.sync()
    a.sql("INSERT INTO client (id, branch, memo) VALUES ('c1', 'A', 'mine')")
    a.sync()
    assert agreed(world)
    assert a.conflicts() == []
    assert world.sql("SELECT memo FROM client") == [("mine",)]


@pytest.mark.sqlite_centre("values of any type in any column")
def test_a_sum_with_what_was_refused_is_asked_about_where_it_is_of_another_type(world: World) -> None:
    a, _ = two(world, A_CLIENT)
    a.sql("UPDATE client SET points = 1.5")
    seal(a)
    a.sql("UPDATE client SET points = 3")
    a.sync()
    with world.database.writing() as store:
        ingest.decide(store, held_work.waiting(store)[0].id, False, world.clock.read())
    a.sync()
    assert world.sql("SELECT points, typeof(points) FROM client") == [(10, "integer")]
    assert [(each["verdict"], each["code"]) for each in a.held()] == [("refused", "refused")]
    assert [(each["base"], each["mine"], each["theirs"], each["open"]) for each in a.conflicts()] == [(1.5, 3, 10, True)]


@pytest.mark.parametrize("statement", ["UPDATE errand SET title = 'newer'", "UPDATE errand SET client_id = NULL"])
@pytest.mark.sqlite_centre("values of any type in any column")
def test_a_row_whose_parent_is_called_by_no_text_comes_back(statement: str, world: World) -> None:
    """A central program wrote what it liked into the parent's column; every push of the node failed with it."""
    a = world.node("a", "branch:A", "owner:e1")
    world.sql("INSERT INTO errand (id, owner, client_id, title) VALUES ('e', 'e1', CAST(x'C5ff' AS TEXT), 't')")
    world.settle(1)
    world.sql("DELETE FROM errand")
    world.node("b", "branch:A").sync()
    a.sql(statement)
    a.sync()
    assert agreed(world)
    assert len(world.sql("SELECT id FROM errand")) == 1


def test_an_element_that_nobody_wrote_through_sync_may_be_added_again(world: World) -> None:
    """Its row has no clock; every push of the node would fail."""
    two(world, A_CLIENT, "INSERT INTO client_label (client_id, label) VALUES ('c1', 'vip')")
    world.sql("DELETE FROM _clock")
    world.node("late", "branch:A").sql("INSERT INTO client_label (client_id, label) VALUES ('c1', 'vip')")
    assert agreed(world)
    assert world.sql("SELECT label FROM client_label") == [("vip",)]


@pytest.mark.covers("P-6.44", "P-2.13")
@pytest.mark.sqlite_centre("values of any type in any column")
def test_a_sum_that_is_not_of_its_columns_type_is_asked_about(tmp_path: Path) -> None:
    world = World(tmp_path, build([declare("item", columns={"qty": int, "words": str}, policies={"qty": "add"})]))
    k2 = world.node("k2", "branch:A")
    world.sql("INSERT INTO item (id, branch_id, qty) VALUES ('i', 'A', 5)")
    world.settle()
    world.sql("UPDATE item SET qty = 5.5")  # a central program's slip
    k2.sql("UPDATE item SET qty = 8, words = 'counted'")
    world.settle()
    assert world.sql("SELECT qty, words FROM item") == [(5.5, "counted")]
    (found,) = k2.conflicts()
    assert (found["base"], found["mine"], found["theirs"], found["open"], k2.held()) == (5, 8, 5.5, True, [])
    k2.resolve(found["id"], "mine")
    world.settle()
    (found,) = k2.conflicts()
    assert (found["open"], world.agree()) == (False, True)
    world.close()
