"""What was typed below a row after that was deleted: the deletion has not seen it, and loses (P-5.17).

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
from schema.declare import Kind, Sync, Synced, Through
from schema.registry import build
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


@pytest.mark.covers("P-5.17", "P-6.27")
@pytest.mark.parametrize(
    ("typed", "stands"),
    [
        ([DELETE, EDIT], BOTH),
        ([EDIT, DELETE], NONE),
        ([EDIT, DELETE, "UPDATE visit SET minutes = 5 WHERE id = 'v1'"], BOTH),
        ([DELETE, "UPDATE quote SET words = 'later' WHERE id = 'q1'"], ([("c1",)], [("v1", "first")])),
        (["UPDATE quote SET words = 'later' WHERE id = 'q1'", DELETE], NONE),
        ([DELETE, VISIT.format("v2", "c1")], ([("c1",)], [("v1", "first"), ("v2", "first")])),
        ([DELETE, CLIENT.format("c2"), "UPDATE visit SET client_id = 'c2'"], ([("c2",)], [("v1", "first")])),
    ],
    ids=["edited after", "edited before", "before and after", "a grandchild after", "a grandchild before", "a new one", "moved away"],
)
def test_what_was_typed_after_a_deletion_is_not_lost_with_it(
    typed: list[str], stands: tuple[list[tuple[str]], list[tuple[str, str]]], world: World, n1: Node
) -> None:
    """The deleter had changed the client before: its own later work lies behind that, and would count as seen."""
    n1.sql("UPDATE client SET memo = 'before' WHERE id = 'c1'")
    n1.write([])  # sealed
    for statement in typed:
        n1.sql(statement)
    assert standing(world) == stands
    if stands != NONE and ("c1",) in stands[0]:
        assert {each["rule"] for each in n1.conflicts()} == {"edit wins"}


@pytest.mark.covers("P-5.17")
@pytest.mark.parametrize("typed", [EDIT, VISIT.format("v2", "c1")])
def test_nor_where_a_look_is_sealed_in_portions(typed: str, world: World, n1: Node) -> None:
    """The deletion may be sealed before what was typed after it: that brings the row back then."""
    n1.sql("UPDATE client SET memo = 'before' WHERE id = 'c1'")
    n1.write([])
    n1.sql(DELETE)
    n1.sql(typed)
    with patch.object(outbox, "CHANGES_MAX", 1):
        n1.sync()
    clients, visits = standing(world)
    assert clients == [("c1",)]
    assert {("v1", "later"), ("v2", "first")} & set(visits)
