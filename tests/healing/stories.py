"""What the stories of healing begin with: a world on the simulator's tables, three nodes, and questions asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server import held as held_work
from server import ingest
from sync.digest import BEGINNING
from sync.limits import PROTOCOL_VERSIONS
from sync.messages import HealRequest, Offered, OfferRequest, Point
from tests.simulation.schema import simulated_schema
from tests.world import Node, World

CLIENT = "INSERT INTO client (id, branch, name) VALUES (?, 'A', 'Ann')"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server with the simulator's tables."""
    made = World(tmp_path, simulated_schema())
    yield made
    made.close()


def three(world: World) -> tuple[Node, Node, Node]:
    """Three nodes that know one client."""
    found = world.node("n1", "branch:A"), world.node("n2", "branch:A"), world.node("n3", "branch:A")
    found[0].sql(CLIENT, "c1")
    world.settle(2)
    return found


def gone(world: World, name: str) -> None:
    """A node that never comes back."""
    world.nodes.pop(name).database.close()


def settled(world: World) -> bool:
    world.settle()
    return world.agree() and all(entry.unsynced() == 0 for entry in world.nodes.values())


def at_centre(world: World, column: str, key: str = "c1") -> Any:
    ((value,),) = world.sql(f"SELECT {column} FROM client WHERE id = ?", key)
    return value


def doubts(entry: Node, column: str) -> list[tuple[Any, Any, str]]:
    """What a node knows of conflicts about a column: mine, theirs, rule."""
    return sorted((each["mine"], each["theirs"], each["rule"]) for each in entry.conflicts() if each["column"] == column)


def heal(world: World, entry: Node, epoch: int, *points: Point) -> Any:
    state = entry.database.state()
    return world.service.heal(entry.link.identity, HealRequest(PROTOCOL_VERSIONS[-1], epoch, state.incarnation, points), world.clock.read())


def decide_all(world: World, is_approved: bool) -> None:
    world.settle()
    with world.database.writing() as store:
        for one in held_work.waiting(store):
            ingest.decide(store, one.id, is_approved, world.clock.read())
    world.settle()


def offer(world: World, entry: Node, *pages: Offered) -> Any:
    """Offer pages as a node does that has just learnt of the restore."""
    state = entry.database.state()
    found = heal(world, entry, state.epoch, BEGINNING, state.cursor, state.highest)
    request = OfferRequest(PROTOCOL_VERSIONS[-1], found.epoch, state.incarnation, found.shared, found.head, pages)
    return world.service.offer(entry.link.identity, request, world.clock.read())


def kept(entry: Node) -> list[Offered]:
    return [Offered(*row) for row in entry.sql("SELECT version, box FROM _kept_page ORDER BY number")]
