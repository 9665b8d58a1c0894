"""The feed: pages of any size tell the same, each row once, and an exchange that was cut goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from server import held, ingest, notices
from tests import foreign
from tests.healing.copies import copy_of, put_back_centre
from tests.world import Node, ReplyLost, World

TABLES = ("contact", "contact_tag", "activity", "deal", "task", "sale", "sale_line", "payment", "stock_move", "product")
SALE = (
    "INSERT OR IGNORE INTO sale (id, number, kind, branch_id, employee_id, sold_ms, currency, total_minor)"
    " VALUES ('{0}', 'n', 'sale', '{1}', {2}, 1, 'GBP', 1)"
)
LINE = "INSERT OR IGNORE INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES ('{0}-{1}', '{0}', 1, 1, 1)"
PAYMENT = "INSERT OR IGNORE INTO payment (id, sale_id, method, amount_minor) VALUES ('{0}', '{0}', 'cash', 1)"
CONTACT = "INSERT OR IGNORE INTO contact (id, kind, name, branch_id, owner_id) VALUES ('{0}', 'person', 'Ann', {1}, {2})"


def receipt(key: str, branch: str, employee: str = "NULL") -> list[str]:
    return [SALE.format(key, branch, employee), LINE.format(key, 1), LINE.format(key, 2), PAYMENT.format(key)]


def contents(node: Node) -> dict[str, list[str]]:
    columns = {table: ", ".join(node.database.schema.by_name[table].names) for table in TABLES}
    return {table: sorted(map(repr, node.sql(f"SELECT {columns[table]} FROM {table}"))) for table in TABLES}


def pulls(node: Node) -> int:
    return sum(kind == "pull" for kind, _ in node.link.requests)


# --- pages of any size -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_small_pages_give_the_same_as_large_ones(world: World, seed: int) -> None:
    """Four nodes of one scope pull the same history with pages of 1, 2, 3 and many rows; entitlements change on the way."""
    chance = random.Random(seed)
    scope = ["branch:LON", "owner:e1"]
    sizes = {f"n{rows}": rows for rows in (1, 2, 3, 10_000)}
    nodes = {name: world.node(name, *scope) for name in sizes}
    path = world.database.path
    for step in range(5):
        statements: list[str] = []
        for _ in range(chance.randrange(1, 12)):
            key, branch, owner = f"{chance.randrange(12)}", chance.choice(["LON", "LON", "PAR"]), chance.choice(["NULL", "'e1'", "'e2'"])
            statements += chance.choice(
                [
                    receipt(f"s{step}{key}", branch, owner),
                    [CONTACT.format(key, f"'{branch}'", owner)],
                    [f"UPDATE contact SET branch_id = '{branch}', phone = '{step}' WHERE id = '{key}'"],
                    [f"UPDATE contact SET owner_id = {owner} WHERE id > '{key}'"],
                    [f"DELETE FROM contact WHERE id = '{key}'"],
                    [f"INSERT OR IGNORE INTO activity (id, contact_id) VALUES ('{step}{key}', '{key}')"],
                    [f"INSERT OR IGNORE INTO deal (id, contact_id, owner_id) VALUES ('{step}{key}', '{key}', {owner})"],
                    [f"INSERT OR IGNORE INTO contact_tag (contact_id, tag) VALUES ('{key}', '{step}')"],
                    [f"INSERT INTO product (id, name) VALUES ('{key}', '{step}') ON CONFLICT (id) DO UPDATE SET name = excluded.name"],
                ]
            )
        foreign.run(path, *statements)
        if chance.random() < 0.4:
            scope = chance.sample(["branch:LON", "branch:PAR", "owner:e1", "owner:e2"], chance.randrange(1, 4))
            for name in sizes:
                world.rescope(name, *scope)
        counted = {(report.pulled, report.removed) for report in (nodes[name].sync(rows=rows) for name, rows in sizes.items())}
        assert len(counted) == 1, "each row is told once, whatever the size of pages"
        first, *others = [contents(node) for node in nodes.values()]
        assert all(other == first for other in others)
        assert world.agree()


def test_a_row_is_told_once_however_often_it_changed(world: World) -> None:
    one, two = world.node("one", "branch:LON"), world.node("two", "branch:LON")
    foreign.run(one.database.path, *(CONTACT.format(i, "'LON'", "NULL") for i in range(3)))
    for i in range(5):
        foreign.run(one.database.path, f"UPDATE contact SET phone = '{i}'")
        one.sync()
    assert two.sync().pulled == 3
    assert two.sql("SELECT phone FROM contact") == [("4",)] * 3


def test_nothing_new_is_one_small_request(world: World) -> None:
    node = world.node("n", "branch:LON")
    foreign.run(world.database.path, *receipt("s", "LON"))
    node.sync()
    before = pulls(node)
    report = node.sync()
    assert (report.pulled, report.removed, pulls(node) - before) == (0, 0, 1)
    assert len(node.link.requests[-1][1]) < 400


def test_a_node_gets_no_echo_of_its_own_work(world: World) -> None:
    node = world.node("n", "branch:LON", "owner:e1")
    foreign.run(node.database.path, *receipt("s", "LON", "'e1'"), CONTACT.format("c", "'LON'", "'e1'"))
    for statement in (
        "UPDATE contact SET phone = '1'",
        "INSERT INTO contact_tag (contact_id, tag) VALUES ('c', 'x')",
        "DELETE FROM contact_tag",
    ):
        report = node.sync()
        assert (report.pulled, report.removed) == (0, 0)
        foreign.run(node.database.path, statement)
    assert (node.sync().pulled, node.sync().pulled) == (0, 0)
    assert node.verify()


def test_the_cost_follows_what_changed(world: World) -> None:
    """A change of one row on many: one row in one page."""
    node = world.node("n", "branch:LON")
    foreign.run(world.database.path, *(CONTACT.format(f"{i:04}", "'LON'", "NULL") for i in range(1000)))
    assert node.sync().pulled == 1000
    before = pulls(node)
    foreign.run(world.database.path, "UPDATE contact SET phone = '1' WHERE id = '0500'")
    assert (node.sync().pulled, pulls(node) - before) == (1, 1)
    assert node.verify()


# --- cut exchanges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 10_000])
def test_lost_replies_and_repeated_requests_change_nothing(world: World, rows: int) -> None:
    """Every request is sent twice, some replies are lost: one sale stays one sale, on both sides."""
    one, two = world.node("one", "branch:LON"), world.node("two", "branch:LON")
    for node in (one, two):
        _repeat_every_request(world, node)
    for i in range(4):
        foreign.run(one.database.path, *receipt(f"s{i}", "LON"), CONTACT.format(i, "'LON'", "NULL"))
        foreign.run(two.database.path, "UPDATE contact SET phone = phone || 'x', note = 'n'")
        for node, lost in ((one, "push"), (two, "pull")):
            node.link.lose = [lost]
            with pytest.raises(ReplyLost):
                node.sync(rows=rows)
            node.sync(rows=rows)
    world.settle(2)
    assert world.sql("SELECT COUNT(*), COUNT(DISTINCT id) FROM sale") == [(4, 4)]
    assert world.sql("SELECT COUNT(*) FROM sale_line") == [(8,)]
    assert contents(one) == contents(two)
    assert world.agree()


def _repeat_every_request(world: World, node: Node) -> None:
    """Let every request arrive twice; the replies must say the same."""
    carry = node.link._carry

    def twice(kind: str, request: Any, *types: Any) -> Any:
        lose, node.link.lose = node.link.lose, []
        first = carry(kind, request, *types)
        node.link.lose = lose
        second = carry(kind, request, *types)
        assert second == first
        return second

    node.link._carry = twice  # type: ignore[method-assign]


def test_an_old_page_that_comes_late_is_discarded(world: World) -> None:
    """The network delivers a stale reply to a later question: nothing of it is applied."""
    node = world.node("n", "branch:LON")
    replies: list[Any] = []
    carry = node.link._carry

    def remember(kind: str, request: Any, *types: Any) -> Any:
        reply = carry(kind, request, *types)
        if kind == "pull":
            replies.append(reply)
            if len(replies) == 3:
                return replies[0]
        return reply

    node.link._carry = remember  # type: ignore[method-assign]
    for i in range(4):
        foreign.run(world.database.path, CONTACT.format(i, "'LON'", "NULL"))
        node.sync()
        assert node.sql("SELECT COUNT(*) FROM contact") == [(i + 1,)]
        assert node.verify()


# --- what is told besides rows ---------------------------------------------------------------------------------------------


def at_the_second_pull(node: Node, do: Callable[[], None]) -> None:
    """Let something happen between the first and the second page of this node's next pull."""
    kinds: list[str] = []

    def before(kind: str) -> None:
        kinds.append(kind)
        if kind == "pull" and kinds.count("pull") == 2:
            node.link.before = lambda _kind: None
            do()

    node.link.before = before


@pytest.mark.covers("P-8.6")
def test_a_decision_between_two_pages_of_notices_hides_no_other_conflict(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "PAGE_NOTICES_MAX", 2)
    k2, l3 = world.node("k2", "branch:LON"), world.node("l3", "branch:LON")
    for number in range(5):
        k2.sql(CONTACT.format(number, "'LON'", "NULL"))
    world.settle()
    l3.sql("UPDATE contact SET note = 'l3'")
    l3.sync()
    k2.sql("UPDATE contact SET note = 'k2'")
    k2.sync()
    told = sorted(each["id"] for each in k2.conflicts())
    assert len(told) == 5

    def decide() -> None:
        k2.resolve(told[0], "mine")
        k2.sync()

    at_the_second_pull(l3, decide)
    world.settle()
    assert sorted(each["id"] for each in l3.conflicts()) == told
    assert world.agree()


@pytest.mark.covers("P-6.16")
def test_a_verdict_that_moves_on_between_two_pages_hides_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "PAGE_NOTICES_MAX", 2)
    k2 = world.node("k2", "branch:LON")
    for number in range(4):
        k2.sql(CONTACT.format(number, "'PAR'", "NULL"))
        k2.sync()
    first, second, third, _ = held_work(world)
    with world.database.writing() as store:
        for number in (first, second):
            ingest.hand_over(store, number, "Ann", "look", world.clock.read())

    def approve(number: int) -> None:
        with world.database.writing() as store:
            ingest.decide(store, number, True, world.clock.read())

    approve(third)
    at_the_second_pull(k2, lambda: approve(second))
    world.settle()
    assert sorted(each["key"] for each in k2.held()) == ["0", "3"]
    assert world.agree()


def held_work(world: World) -> list[int]:
    with world.database.reading() as store:
        return [each.id for each in held.waiting(store)]


@pytest.mark.covers("P-8.6")
def test_conflicts_of_documents_come_back_with_them(world: World) -> None:
    k2, l3 = world.node("k2", "branch:LON"), world.node("l3", "branch:LON")
    world.settle()
    centre = copy_of(world.database.path)
    k2.sql(SALE.format("s1", "LON", "NULL"))
    world.settle()
    put_back_centre(world, centre)
    l3.sync()  # offers the sale, which somebody corrects before its own node comes
    world.sql("UPDATE sale SET total_minor = 200")
    world.settle()
    known = [each["id"] for each in k2.conflicts()]
    assert known
    world.rescope("k2", "branch:PAR")
    world.settle()
    assert k2.conflicts() == []
    world.rescope("k2", "branch:LON")
    world.settle()
    assert [each["id"] for each in k2.conflicts()] == known
    assert world.agree()
