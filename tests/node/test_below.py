"""What was typed below a row after that was deleted: the deletion has not seen it, and loses (P-6.27).

Found by seed 40003549 of all faults: a visit that was edited when its client was deleted already died with the client, and nobody
was told.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import pytest
from sqlmodel import Field

from node import outbox
from node.writer import transaction
from schema.declare import Kind, Sync, Synced, Through
from schema.registry import build
from tests.healing.copies import copy_of, put_back_centre
from tests.simulation.schema import models
from tests.world import Node, World

CLIENT = "INSERT INTO client (id, branch, name) VALUES ('{0}', 'A', 'Ann')"
VISIT = "INSERT INTO visit (id, client_id, topic) VALUES ('{0}', '{1}', 'first')"
EDIT = "UPDATE visit SET topic = 'later' WHERE id = 'v1'"
DELETE = "DELETE FROM client WHERE id = 'c1'"
BOTH, NONE = ([("c1",)], [("v1", "later")]), ([], [])


class Quote(Synced, table=True):
    """A child of a child that can be edited."""

    __tablename__ = "quote"

    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(Through("visit", "visit_id"),))

    id: str = Field(primary_key=True)
    visit_id: str | None = None
    words: str | None = None


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, build([*models(), Quote]))
    yield made
    made.close()


@pytest.fixture
def n1(world: World) -> Node:
    """A node that has a client with a visit, as another has."""
    n1, _ = world.node("n1", "branch:A"), world.node("n2", "branch:A")
    for statement in (CLIENT.format("c1"), VISIT.format("v1", "c1"), "INSERT INTO quote (id, visit_id, words) VALUES ('q1', 'v1', 'said')"):
        n1.sql(statement)
    world.settle(2)
    return n1


def standing(world: World) -> tuple[list[tuple[str]], list[tuple[str, str]]]:
    """The clients and visits at the centre, which all nodes hold as well."""
    world.settle()
    assert world.agree()
    return world.sql("SELECT id FROM client ORDER BY id"), world.sql("SELECT id, topic FROM visit ORDER BY id")


KEPT = ([("c1",)], [("v1", "first")])


@pytest.mark.covers("P-6.27")
@pytest.mark.parametrize(
    ("typed", "stands"),
    [
        ([DELETE, EDIT], BOTH),
        ([EDIT, DELETE], BOTH),
        ([DELETE, "UPDATE quote SET words = 'later' WHERE id = 'q1'"], KEPT),
        ([DELETE, VISIT.format("v2", "c1")], ([("c1",)], [("v1", "first"), ("v2", "first")])),
        ([DELETE, CLIENT.format("c2"), "UPDATE visit SET client_id = 'c2'"], ([("c2",)], [("v1", "first")])),
        (["INSERT OR REPLACE INTO visit (id, client_id, topic) VALUES ('v1', 'c1', 'again')", DELETE, EDIT], BOTH),
        ([DELETE, "DELETE FROM visit", "UPDATE quote SET words = 'later'"], KEPT),
        (["UPDATE client SET id = 'c9'", EDIT], ([("c1",), ("c9",)], [("v1", "later")])),
        ([EDIT, "DELETE FROM quote", "DELETE FROM visit", DELETE], NONE),
    ],
    ids=["after", "before", "a grandchild", "a new one", "moved away", "replaced", "child too", "another key", "all deleted"],
)
@pytest.mark.parametrize("at_a_time", [20_000, 1])
def test_what_was_typed_below_a_deletion_is_not_lost_with_it(
    typed: list[str], stands: tuple[list[tuple[str]], list[tuple[str, str]]], at_a_time: int, world: World, n1: Node
) -> None:
    """The deleter had changed the client before: its own later work lies behind that, and would count as seen. Deleted child by
    child the whole goes.
    """
    n1.sql("UPDATE client SET memo = 'before' WHERE id = 'c1'")
    n1.write([])  # sealed
    for statement in typed:
        n1.sql(statement)
    with patch.object(outbox, "CHANGES_MAX", at_a_time):
        n1.sync()
    found = standing(world)
    if at_a_time == 1:  # a deletion may be sealed before what was typed first then, and what comes after brings the row back
        assert set(stands[1]) - {("v1", "first")} <= set(found[1])
    else:
        assert found == stands
    if stands == BOTH:
        assert "edit wins" in {each["rule"] for each in n1.conflicts()}


@pytest.mark.covers("P-5.17")
def test_what_others_wrote_under_our_held_work_does_not_die_unseen(world: World, n1: Node) -> None:
    """The value came with a pull, and the held edit hid it from everybody here."""
    n2 = world.nodes["n2"]
    n1.sql("UPDATE visit SET topic = 7, minutes = 'many' WHERE id = 'v1'")
    assert n1.sync().verdicts["held"] == 1
    n2.sql("UPDATE visit SET topic = 'by n2' WHERE id = 'v1'")
    n2.sync()
    n1.sync()
    n1.sql(DELETE)
    clients, visits = standing(world)
    assert (clients, visits) == ([("c1",)], [("v1", "by n2")])


def test_nothing_is_lost_where_the_child_was_held_and_the_deletion_corrects_it(world: World, n1: Node) -> None:
    n1.sql("UPDATE client SET high = 'abc' WHERE id = 'c1'")
    assert n1.sync().verdicts["held"] == 1
    n1.sql(DELETE)
    n1.sql(EDIT)
    assert standing(world)[1] == [("v1", "later")]


@pytest.mark.covers("P-5.7", "P-6.28")
@pytest.mark.parametrize("is_own", [False, True])
@pytest.mark.parametrize(
    "typed",
    [
        ["UPDATE visit SET client_id = 'c2'", "UPDATE client_label SET client_id = 'c2' WHERE client_id = 'c1'", DELETE],
        ["UPDATE client SET id = 'c2' WHERE id = 'c1'", "UPDATE visit SET client_id = 'c2'"],
    ],
    ids=["two clients made one", "another key"],
)
def test_children_that_are_moved_do_not_die_with_the_parent_they_had(typed: list[str], is_own: bool, world: World, n1: Node) -> None:
    """Nor what hangs under them, however many tables the commit touches."""
    if typed[-1] == DELETE:
        n1.sql(CLIENT.format("c2"))
        n1.sql("INSERT INTO client_label (client_id, label) VALUES ('c1', 'gold')")
    n1.sql("INSERT INTO remark (id, visit_id, text) VALUES ('r1', 'v1', 'said so')")
    world.settle(2)
    if is_own:
        with transaction(n1.database) as writing:
            for statement in typed:
                writing.connection.execute(statement)
    else:
        n1.sql("BEGIN")
        for statement in typed:
            n1.sql(statement)
        n1.sql("COMMIT")
    assert standing(world) == ([("c2",)], [("v1", "first")])
    assert world.sql("SELECT client_id FROM visit") == [("c2",)]
    assert (world.sql("SELECT id FROM quote"), world.sql("SELECT id FROM remark")) == ([("q1",)], [("r1",)])
    assert n1.conflicts() == []


def test_a_sum_typed_anew_over_a_deletion_that_lost_counts_once(world: World, n1: Node) -> None:
    n2 = world.nodes["n2"]
    n1.sql("UPDATE client SET points = 10")
    world.settle(2)
    n2.sql("UPDATE client SET name = 'Anna'")
    n2.sync()
    n1.sql("BEGIN")
    n1.sql(DELETE)
    n1.sql("INSERT INTO client (id, branch, name, points) VALUES ('c1', 'A', 'Ann', 12)")
    n1.sql("COMMIT")
    assert standing(world)[0] == [("c1",)]
    assert world.sql("SELECT points FROM client") == [(10,)]
    assert ("points", 12, 10) in [(each["column"], each["mine"], each["theirs"]) for each in n1.conflicts()]


@pytest.mark.covers("P-6.27", "P-7.19")
def test_a_deletion_that_had_lost_loses_again_after_a_restore(world: World, n1: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edit and deletion come again in segments of their own; the edit had been plainly accepted, and counted as seen."""
    monkeypatch.setattr("node.sealing.SEGMENT_ROWS", 1)
    copy = copy_of(world.database.path)
    n1.sql(DELETE)
    n1.sql(EDIT)
    n1.sync()
    n1.sync()
    put_back_centre(world, copy)
    assert standing(world) == BOTH
    assert "edit wins" in {row[0] for row in world.sql("SELECT rule FROM _conflict")}
