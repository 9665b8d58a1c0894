"""What a node is not told: keys of rows that came into a scope after it had lost it, or were gone before it had it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.cycle import Cycle
from sync.messages import Page, PullRequest
from tests.world import Node, World

TAG = "INSERT INTO contact_tag (contact_id, tag) VALUES ('c1', ?)"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Ann', 'EDI')")
    yield world
    world.close()


def told(world: World, node: Node) -> list[str]:
    """All that a node is told from its cursor on: keys of sets are their content."""
    pages: list[Page] = []
    carry = node.link.pull

    def pull(request: PullRequest) -> Page:
        pages.append(carry(request))
        return pages[-1]

    node.link.pull = pull  # type: ignore[method-assign]
    Cycle(node.database, node.link).sync()
    return [repr(page) for page in pages]


@pytest.mark.covers("P-8.4")
@pytest.mark.parametrize("again", [False, True])
def test_of_a_scope_that_was_lost_only_what_the_node_had_is_told_to_be_gone(world: World, again: bool) -> None:
    node = world.node("node", "branch:LON", "branch:EDI")
    world.sql(TAG, "early")
    node.sync()
    assert node.sql("SELECT tag FROM contact_tag") == [("early",)]
    world.sql(TAG, "never seen by it, but while it was entitled")
    world.rescope("node", "branch:LON")
    world.sql(TAG, "late")
    world.service.absorb(world.clock.read())
    if again:
        world.sql("DELETE FROM contact_tag WHERE tag = 'late'")
        world.service.absorb(world.clock.read())
    pages = told(world, node)
    assert any("early" in page for page in pages)
    assert not any("late" in page for page in pages)
    assert node.sql("SELECT * FROM contact_tag") == []
    assert world.agree()


@pytest.mark.covers("P-8.4")
@pytest.mark.parametrize("then", ["lost", "regained"])
def test_what_was_gone_before_a_scope_was_given_is_not_told(world: World, then: str) -> None:
    node = world.node("node", "branch:LON")
    node.sync()
    world.sql(TAG, "gone before")
    world.service.absorb(world.clock.read())
    world.sql("DELETE FROM contact_tag")
    world.service.absorb(world.clock.read())
    world.rescope("node", "branch:EDI")
    world.rescope("node", "branch:LON")
    if then == "regained":
        world.rescope("node", "branch:EDI")
    assert not any("gone before" in page for page in told(world, node))
    assert world.agree()
