"""Apply: what a pull makes of the node's rows, in one commit, with the node's own pending work on top (PROTOCOL.md §8.4)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from node.cycle import Cycle
from node.report import Report as SyncReport
from tests import foreign
from tests.world import Link, Node, ReplyLost, World

CONTACT = "INSERT INTO contact (id, kind, name, phone, branch_id) VALUES ('{0}', 'person', 'Ann', '1', '{1}')"
SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES ('{0}', 'n', 'sale', 'LON', 1, 'GBP', 1)"
LINE = "INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES ('{0}-{1}', '{0}', 1, 1, 1)"
PAYMENT = "INSERT INTO payment (id, sale_id, method, amount_minor) VALUES ('{0}', '{0}', 'cash', 1)"


@pytest.fixture
def pair(world: World) -> tuple[Node, Node]:
    return world.node("k2", "branch:LON"), world.node("l3", "branch:LON")


def push_only(world: World, node: Node) -> SyncReport:
    """Let a node push over a link of its own, while another exchange of it is on its way."""
    report = SyncReport()
    Cycle(node.database, Link(world, node.link.identity)).push(report)
    return report


def between_pages(node: Node, page: int, does: Any) -> list[int]:
    """Do something before the node asks for its n-th page; return a list that has an entry when that was done."""
    asked, done = [0], []

    def before(kind: str) -> None:
        asked[0] += kind == "pull"
        if kind == "pull" and asked[0] == page:
            done.append(page)
            does()

    node.link.before = before
    return done


def fill(world: World, branch: str) -> list[str]:
    """Return contacts enough for several of the smallest pages."""
    return [CONTACT.format(f"{branch.lower()}{i:02}", branch) for i in range(24)]


def phone(node: Node, key: str = "c1") -> Any:
    rows = node.sql("SELECT phone FROM contact WHERE id = ?", key)
    return rows[0][0] if rows else None


# --- a reader sees all of a pull or nothing ------------------------------------------------------------------------------


def test_a_reader_never_sees_half_a_sale_or_half_an_edit(world: World, pair: tuple[Node, Node]) -> None:
    """Pages of one row; after every request a foreign program reads the replica."""
    k2, l3 = pair
    foreign.run(k2.database.path, CONTACT.format("c1", "LON"), CONTACT.format("c2", "LON"))
    world.settle(1)
    for i in range(3):
        foreign.run(k2.database.path, SALE.format(f"s{i}"), LINE.format(f"s{i}", 1), LINE.format(f"s{i}", 2), PAYMENT.format(f"s{i}"))
    foreign.run(k2.database.path, "UPDATE contact SET phone = '2'")
    k2.sync()
    seen = set()

    def look(_kind: str) -> None:
        sales = foreign.rows(
            l3.database.path,
            "SELECT (SELECT COUNT(*) FROM sale), (SELECT COUNT(*) FROM sale_line), (SELECT COUNT(*) FROM payment),"
            " (SELECT GROUP_CONCAT(phone, '') FROM contact)",
        )
        seen.add(sales[0])

    l3.link.before = look
    assert l3.sync(rows=1).pulled == 14
    look("")
    assert seen == {(0, 0, 0, "11"), (3, 6, 3, "22")}
    assert l3.verify()


def test_what_was_written_during_a_pull_is_kept_on_top(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    foreign.run(k2.database.path, CONTACT.format("c1", "LON"), CONTACT.format("c2", "LON"))
    world.settle(1)
    foreign.run(k2.database.path, "UPDATE contact SET phone = 'k2', email = 'k2'")
    k2.sync()
    between_pages(l3, 2, lambda: foreign.run(l3.database.path, "UPDATE contact SET phone = 'l3' WHERE id = 'c1'"))
    l3.sync(rows=1)
    assert l3.sql("SELECT phone, email FROM contact ORDER BY id") == [("l3", "k2"), ("k2", "k2")]
    assert l3.verify()
    world.settle()
    assert world.sql("SELECT phone FROM contact ORDER BY id") == [("l3",), ("k2",)]
    assert world.agree()


# --- own work between pages (RULES H4b, H4c) -------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 3, 4])
def test_an_own_row_inserted_again_between_two_pages_stays(world: World, pair: tuple[Node, Node], page: int) -> None:
    """H4b: the first page tells of the row's death; before the next one the node's new insert is accepted."""
    k2, l3 = pair
    foreign.run(k2.database.path, CONTACT.format("c1", "LON"), *fill(world, "LON"))
    world.settle(2)
    foreign.run(l3.database.path, "UPDATE contact SET email = 'x' WHERE id <> 'c1'")
    l3.sync()
    foreign.run(k2.database.path, "DELETE FROM contact WHERE id = 'c1'")
    push_only(world, k2)
    foreign.run(k2.database.path, CONTACT.format("c1", "LON").replace("'1'", "'again'"))
    done = between_pages(k2, page, lambda: push_only(world, k2))
    Cycle(k2.database, k2.link, rows=1).pull(SyncReport())
    assert done
    assert phone(k2) == "again"
    world.settle()
    assert phone(k2) == phone(l3) == "again"
    assert world.agree()


@pytest.mark.parametrize("page", [1, 2, 3, 4, 5])
def test_an_own_move_back_between_two_pages_stays(world: World, pair: tuple[Node, Node], page: int) -> None:
    """H4c: the first page removes a row from the node's new scope; before the next one the node's own move into it is accepted."""
    k2, l3 = pair
    foreign.run(k2.database.path, CONTACT.format("c1", "LON"), *fill(world, "LON"))
    foreign.run(world.database.path, *fill(world, "PAR"))
    world.settle(2)
    foreign.run(k2.database.path, "UPDATE contact SET branch_id = 'PAR' WHERE id = 'c1'")
    world.rescope("k2", "branch:PAR")
    done = between_pages(k2, page, lambda: push_only(world, k2))
    Cycle(k2.database, k2.link, rows=1).pull(SyncReport())
    assert done
    world.settle()
    assert k2.sql("SELECT COUNT(*), SUM(id = 'c1') FROM contact") == [(25, 1)]
    assert l3.sql("SELECT COUNT(*), SUM(id = 'c1') FROM contact") == [(24, 0)]
    assert world.agree()


def test_an_own_accepted_value_stays_while_an_older_page_is_on_its_way(world: World, pair: tuple[Node, Node]) -> None:
    """H1: an acknowledged transaction stays pending until the cursor covers it."""
    k2, l3 = pair
    foreign.run(k2.database.path, CONTACT.format("c1", "LON"), *fill(world, "LON"))
    world.settle(2)
    foreign.run(l3.database.path, "UPDATE contact SET phone = 'l3'")
    l3.sync()
    foreign.run(k2.database.path, "UPDATE contact SET phone = 'k2' WHERE id = 'c1'")
    done = between_pages(k2, 2, lambda: push_only(world, k2))
    Cycle(k2.database, k2.link, rows=1).pull(SyncReport())
    assert done
    assert k2.verify()
    world.settle()
    assert phone(k2) == phone(l3)
    assert world.agree()


# --- interrupted pulls ----------------------------------------------------------------------------------------------------


def test_an_interrupted_pull_goes_on_where_it_stopped(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    foreign.run(k2.database.path, *fill(world, "LON"), SALE.format("s1"), *(LINE.format("s1", i) for i in range(10)))
    k2.sync()
    l3.sync(rows=1)
    whole = sum(kind == "pull" for kind, _ in l3.link.requests)
    assert whole >= 12
    m4, lost = world.node("m4", "branch:LON"), 0
    for _ in range(5):
        pages = m4.sql("SELECT COUNT(*) FROM _stage")[0][0]
        between_pages(m4, 3, lambda: m4.link.lose.append("pull"))
        with pytest.raises(ReplyLost):
            m4.sync(rows=1)
        assert m4.sql("SELECT COUNT(*) FROM _stage")[0][0] == pages + 2
        assert m4.sql("SELECT COUNT(*) FROM contact") == [(0,)]
        lost += 1
    between_pages(m4, 0, lambda: None)
    m4.sync(rows=1)
    pulls = sum(kind == "pull" for kind, _ in m4.link.requests)
    assert pulls == whole + lost, "only the pages whose replies were lost are asked for again"
    assert m4.verify()


def test_pages_of_a_cut_pull_are_kept_while_the_centre_moves_on(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    foreign.run(k2.database.path, *fill(world, "LON"))
    k2.sync()

    class Cut(Exception):
        pass

    def cut() -> None:
        raise Cut

    between_pages(l3, 3, cut)
    with pytest.raises(Cut):
        l3.sync(rows=1)
    assert l3.sql("SELECT COUNT(*) FROM _stage") == [(2,)]
    assert l3.sql("SELECT COUNT(*) FROM contact") == [(0,)]
    foreign.run(k2.database.path, "UPDATE contact SET phone = 'later' WHERE id LIKE '%0'", "DELETE FROM contact WHERE id LIKE '%1'")
    k2.sync()
    between_pages(l3, 0, lambda: None)
    l3.sync(rows=1)
    assert l3.sql("SELECT id, phone FROM contact ORDER BY id") == k2.sql("SELECT id, phone FROM contact ORDER BY id")
    assert l3.sql("SELECT COUNT(*) FROM _stage") == [(0,)]
    assert world.agree()


# --- pending work over what comes ---------------------------------------------------------------------------------------------


def test_a_pending_deletion_hides_what_others_change(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    foreign.run(k2.database.path, CONTACT.format("c1", "LON"))
    world.settle(2)
    foreign.run(k2.database.path, "DELETE FROM contact")
    Cycle(k2.database, k2.link).seal()
    foreign.run(l3.database.path, "UPDATE contact SET phone = 'l3'")
    l3.sync()
    Cycle(k2.database, k2.link).pull(SyncReport())
    assert phone(k2) is None
    world.settle()
    assert phone(k2) == phone(l3) == "l3", "the edit wins over a deletion that has not seen it"
    assert world.agree()


def test_held_work_stays_on_top_of_what_others_change(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    foreign.run(k2.database.path, CONTACT.format("c1", "LON"))
    world.settle(2)
    foreign.run(k2.database.path, "UPDATE contact SET phone = CAST(X'FF' AS TEXT)")
    k2.sync()
    for i in range(3):
        foreign.run(l3.database.path, f"UPDATE contact SET phone = 'l3 {i}', email = 'l3 {i}'")
        l3.sync()
        k2.sync()
        assert foreign.rows(k2.database.path, "SELECT phone, email FROM contact") == [("\udcff", f"l3 {i}")]
        assert world.agree()
    assert len(k2.held()) == 1


def test_a_row_under_pending_work_that_leaves_the_scope_goes(world: World, pair: tuple[Node, Node]) -> None:
    """Only work that is held keeps a trace of it; what the centre accepts leaves with the row."""
    k2, l3 = pair
    foreign.run(k2.database.path, CONTACT.format("c1", "LON"))
    world.settle(2)
    foreign.run(l3.database.path, "UPDATE contact SET branch_id = 'PAR'")
    foreign.run(k2.database.path, "UPDATE contact SET phone = 'k2'")
    l3.sync()
    assert l3.sql("SELECT * FROM contact") == []
    report = k2.sync()
    assert report.verdicts["accepted"] == 1, "it was in scope when it was written"
    assert k2.sql("SELECT * FROM contact") == []
    assert world.sql("SELECT phone, branch_id FROM contact") == [("k2", "PAR")]
    assert world.agree()


@pytest.mark.parametrize("seed", range(6))
def test_random_edits_on_two_nodes_end_equal_everywhere(world: World, pair: tuple[Node, Node], seed: int) -> None:
    """Small pages, lost replies, edits and deletions of the same few rows: after every exchange the node verifies."""
    chance = random.Random(seed)
    for step in range(30):
        node = chance.choice(pair)
        key, column = f"c{chance.randrange(4)}", chance.choice(["phone", "city", "note", "credit_limit_minor"])
        statement = chance.choice(
            [
                f"INSERT OR IGNORE INTO contact (id, kind, name, branch_id) VALUES ('{key}', 'person', '{step}', 'LON')",
                f"UPDATE contact SET {column} = {step} WHERE id = '{key}'",
                f"UPDATE contact SET {column} = {step}",
                f"DELETE FROM contact WHERE id = '{key}'",
                f"INSERT OR IGNORE INTO contact_tag (contact_id, tag) SELECT id, '{chance.randrange(2)}' FROM contact WHERE id = '{key}'",
                f"DELETE FROM contact_tag WHERE contact_id = '{key}'",
                f"INSERT OR REPLACE INTO contact (id, kind, name, branch_id, phone) VALUES ('{key}', 'person', 'r', 'LON', '{step}')",
            ]
        )
        node.sql(statement)
        if chance.random() < 0.5:
            node.link.lose = [chance.choice(["push", "pull"])] if chance.random() < 0.3 else []
            try:
                node.sync(rows=chance.choice([1, 2, 10_000]))
                assert node.verify()
            except ReplyLost:
                pass
    for node in pair:
        node.link.lose = []
    world.settle(3)
    assert world.agree()
    for table in ("contact", "contact_tag"):
        columns = ", ".join(world.schema.by_name[table].names)
        views = [sorted(map(repr, node.sql(f"SELECT {columns} FROM {table}"))) for node in pair]
        assert views[0] == views[1] == sorted(map(repr, world.sql(f"SELECT {columns} FROM {table}")))
