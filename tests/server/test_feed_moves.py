"""Documents that the centre moves, deletes or brings back while entitlements change: told to whom they belong, gone from all others."""

from __future__ import annotations

from typing import Any

import pytest

from server import held_list, ingest
from sync.messages import Page
from tests.healing.copies import copy_of, put_back_centre
from tests.protocol.test_pull import a_pull
from tests.server.test_scopes import receipt
from tests.world import Node, World

TABLES = ("sale", "sale_line", "payment", "stock_move")


def ring_up(entry: Node, key: str, branch: str, *more: str) -> None:
    for statement in receipt(key, branch, *more):
        entry.sql(statement)


def contents(entry: Node) -> dict[str, Any]:
    return {table: entry.sql(f"SELECT id FROM {table}") for table in TABLES}


def approve_all(world: World) -> None:
    with world.database.writing() as store:
        for held in [each["id"] for each in held_list.listing(store)]:
            ingest.decide(store, held, True, world.clock.read())


def pages_of(entry: Node) -> list[Page]:
    """Return a list that the pages of this node's pulls are added to."""
    found: list[Page] = []
    pull = entry.link.pull

    def noted(*arguments: Any) -> Any:
        found.append(pull(*arguments))
        return found[-1]

    entry.link.pull = noted  # type: ignore[method-assign]
    return found


@pytest.mark.covers("P-8.4")
@pytest.mark.parametrize("branch", ["PAR", "ROM"])
@pytest.mark.parametrize("rows", [1, 10_000])
def test_what_moves_after_its_branch_was_lost_leaves(world: World, branch: str, rows: int) -> None:
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON", "branch:PAR")
    ring_up(till, "s1", "LON")
    ring_up(till, "s2", "LON")
    world.settle()
    world.rescope("other", "branch:BER")
    world.sql(f"UPDATE sale SET branch_id = '{branch}' WHERE id = 's1'")
    other.sync(rows)
    assert not any(contents(other).values())
    assert other.verify()


@pytest.mark.covers("P-8.5")
@pytest.mark.parametrize("lost", ["lost", "back", "first lost, then back"])
@pytest.mark.parametrize("second", [2, 3, 5, 7, 9])
@pytest.mark.parametrize("first", [2, 4])
def test_a_receipt_comes_whole_whatever_its_keys_do_between_pages(world: World, first: int, second: int, lost: str) -> None:
    till, other = world.node("till", "branch:PAR"), world.node("other", "branch:LON", "owner:e1")
    other.sync()
    for key in ("s1", "s2"):
        ring_up(till, key, "PAR", "'e1'")
    till.sync()
    pulls = 0

    def between(kind: str) -> None:
        nonlocal pulls
        pulls += kind == "pull"
        if kind == "pull" and pulls == first:
            world.sql("UPDATE sale SET branch_id = 'LON'")
            if lost.startswith("first"):
                world.rescope("other", "owner:e1")
        if kind == "pull" and pulls == second:
            if not lost.startswith("first"):
                world.rescope("other", "owner:e1")
            if lost != "lost":
                world.rescope("other", "branch:LON", "owner:e1")

    other.link.before = between
    assert other.sync(1).differing == 0
    assert other.verify()


@pytest.mark.covers("P-8.4")
def test_what_was_written_anew_elsewhere_left_and_did_not_die(world: World) -> None:
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON")
    ring_up(till, "s1", "LON")
    world.settle()
    world.rescope("other", "branch:BER")
    world.sql("DELETE FROM sale WHERE id = 's1'")
    world.sql(receipt("s1", "PAR")[0])
    pages = pages_of(other)
    other.sync()
    assert "sale" not in {block.table for page in pages for block in page.deaths}
    assert "sale" in {block.table for page in pages for block in page.removals}
    assert other.verify()


@pytest.mark.covers("P-8.4", "P-7.24")
def test_what_was_written_anew_elsewhere_stands_after_a_restore(world: World) -> None:
    till, other, par = world.node("till", "branch:LON"), world.node("other", "branch:LON"), world.node("par", "branch:PAR")
    world.settle()
    copy = copy_of(world.database.path)
    ring_up(till, "s1", "LON")
    till.sync()
    other.sync()
    world.rescope("other", "branch:BER")
    world.sql("DELETE FROM sale WHERE id = 's1'")
    world.sql(receipt("s1", "PAR")[0])
    par.sync()
    other.sync()
    put_back_centre(world, copy)
    other.sync()
    par.sync()
    world.settle()
    assert world.sql("SELECT id, branch_id FROM sale") == [("s1", "PAR")]
    assert world.agree()


@pytest.mark.covers("P-2.5", "P-8.4")
@pytest.mark.parametrize("had_it", [False, True])
def test_a_line_brought_back_in_another_branch_is_not_for_the_old_one(world: World, had_it: bool) -> None:
    """The edit of a line is held; the line dies, its receipt moves, and the edit is let pass: that brings the line back."""
    till = world.node("till", "branch:LON", "branch:PAR")
    ring_up(till, "s1", "LON")
    till.sync()
    if had_it:
        world.node("other", "branch:LON").sync()
    till.sql("UPDATE sale_line SET amount_minor = 999 WHERE id = 's1-1'")
    till.sync()
    if had_it:
        world.rescope("other", "branch:BER")
    for statement in ("DELETE FROM sale_line", "DELETE FROM payment", "UPDATE sale SET branch_id = 'PAR'"):
        world.sql(statement)
        till.sync()
    approve_all(world)
    assert world.sql("SELECT id, amount_minor FROM sale_line") == [("s1-1", 999)]
    other = world.nodes["other"] if had_it else world.node("other", "branch:LON")
    pages = pages_of(other)
    other.sync()
    assert "sale_line" not in {block.table for page in pages for block in page.rows}
    assert not any(contents(other)[table] for table in ("sale", "sale_line", "payment"))
    assert world.agree()


@pytest.mark.covers("P-6.34")
def test_a_node_that_is_given_a_branch_hears_nothing_of_what_had_left_it_before(world: World) -> None:
    """A central program moves a contact away, or deletes it; before any exchange somebody gives its old branch to a node (fuzzing)."""
    for key in ("moved", "deleted"):
        world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'Ann', 'LON')", key)
    k2 = world.node("k2", "branch:PAR")
    k2.sync()
    world.sql("UPDATE contact SET branch_id = 'OPO' WHERE id = 'moved'")
    world.sql("DELETE FROM contact WHERE id = 'deleted'")
    world.rescope("k2", "branch:PAR", "branch:LON")
    page = k2.link.pull(a_pull(k2))
    assert (page.rows, page.removals, page.deaths) == ((), (), ())
    k2.sync()
    assert world.agree()
