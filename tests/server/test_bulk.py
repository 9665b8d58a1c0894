"""Bulk ingest: one line of the change index per scope key, though rows of several keys lie mixed; each node gets its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import World

EMPLOYEES = 3
SALES = 120


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def sell(world: World, node: str, first: int = 0) -> None:
    """Record receipts of three employees in turn, each with two lines, as a foreign program's one transaction."""
    till = world.node(node, "branch:LON")
    till.sql("BEGIN IMMEDIATE")
    for number in range(first, first + SALES):
        till.sql(
            "INSERT INTO sale (id, number, kind, branch_id, employee_id, sold_ms, currency, total_minor) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(f"s{number:04}", str(number), "sale", "LON", f"e{number % EMPLOYEES}", number, "GBP", 100),
        )
        for line in range(2):
            sql = "INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES (?, ?, 1000, 500000, 50)"
            till.sql(sql, f"s{number:04}-{line}", f"s{number:04}")
    till.sql("COMMIT")
    till.sync()


def lines(world: World, scope: str) -> list[tuple[int, int]]:
    """Return (rows spanned, part) of every line of the change index under a scope key."""
    sql = "SELECT hi - lo + 1, part FROM _change WHERE sc = ? ORDER BY t, ver, lo"
    return [tuple(row) for row in world.sql(sql, scope)]


def test_one_line_per_scope_key_whole_or_in_part(world: World) -> None:
    sell(world, "till")
    assert lines(world, "branch:LON") == [(SALES, 0), (2 * SALES, 0)]
    assert [part for _, part in lines(world, "owner:e1")] == [1, 1]


@pytest.mark.parametrize("page", [1, 7, 10_000])
def test_a_node_gets_its_own_of_mixed_rows_and_only_those(world: World, page: int) -> None:
    sell(world, "till")
    rep = world.node("rep", "owner:e1")
    rep.sync(rows=page)
    assert rep.sql("SELECT COUNT(*), COUNT(DISTINCT employee_id), MAX(employee_id) FROM sale") == [(SALES // EMPLOYEES, 1, "e1")]
    assert rep.sql("SELECT COUNT(*) FROM sale_line") == [(2 * SALES // EMPLOYEES,)]
    assert world.agree()


def test_mixed_rows_leave_and_come_with_the_scope(world: World) -> None:
    sell(world, "till")
    rep = world.node("rep", "owner:e1")
    rep.sync()
    world.rescope("rep", "owner:e2", "owner:e0")
    sell(world, "till", SALES)
    rep.sync(rows=7)
    assert rep.sql("SELECT employee_id, COUNT(*) FROM sale GROUP BY 1") == [("e0", 80), ("e2", 80)]
    assert rep.sql("SELECT COUNT(*) FROM sale_line") == [(2 * 160,)]
    world.settle(1)
    assert world.agree()


def test_a_row_with_two_of_a_nodes_keys_is_told_once(world: World) -> None:
    sell(world, "till")
    chief = world.node("chief", "branch:LON", "owner:e1")
    assert chief.sync(rows=50).pulled == 3 * SALES
    assert world.agree()
