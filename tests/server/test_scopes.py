"""Scopes: who gets what when rows or entitlements move, exactly the difference, and what left is gone from the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import foreign
from tests.world import Node, World

CONTACT = "INSERT INTO contact (id, kind, name, branch_id, owner_id) VALUES ('{0}', 'person', 'name of {0}', {1}, {2})"
SALE = (
    "INSERT INTO sale (id, number, kind, branch_id, employee_id, sold_ms, currency, total_minor)"
    " VALUES ('{0}', 'n', 'sale', '{1}', {2}, 1, 'GBP', 1)"
)
LINE = "INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES ('{0}-{1}', '{0}', 1, 1, 1)"
TABLES = ("contact", "contact_tag", "activity", "deal", "task", "stage_event", "sale", "sale_line", "payment", "stock_move")


def family(key: str, branch: str, owner: str = "NULL") -> list[str]:
    """Return a contact with a tag, an activity, a deal with a stage event, and a task."""
    return [
        CONTACT.format(key, branch, owner),
        f"INSERT INTO contact_tag (contact_id, tag) VALUES ('{key}', 'vip')",
        f"INSERT INTO activity (id, contact_id, topic) VALUES ('{key}', '{key}', 'topic of {key}')",
        f"INSERT INTO deal (id, contact_id, title) VALUES ('{key}', '{key}', 'title of {key}')",
        f"INSERT INTO stage_event (id, deal_id, stage_id, entered_ms) VALUES ('{key}', '{key}', 'won', 1)",
        f"INSERT INTO task (id, contact_id, title) VALUES ('{key}', '{key}', 'task of {key}')",
    ]


def receipt(key: str, branch: str, employee: str = "NULL") -> list[str]:
    """Return a sale with two lines, a payment and a stock move."""
    return [
        SALE.format(key, branch, employee),
        LINE.format(key, 1),
        LINE.format(key, 2),
        f"INSERT INTO payment (id, sale_id, method, amount_minor) VALUES ('{key}', '{key}', 'cash', 1)",
        "INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, sale_id, moved_ms)"
        f" VALUES ('{key}', 'p', '{branch}', -1, 'sale', '{key}', 1)",
    ]


def keys(node: Node) -> dict[str, list[Any]]:
    """Return the keys a node holds, by table; tables without rows are left out."""
    found = {
        table: sorted(row[0] for row in node.sql(f"SELECT {'contact_id' if table == 'contact_tag' else 'id'} FROM {table}"))
        for table in TABLES
    }
    return {table: rows for table, rows in found.items() if rows}


CONTACTS = ("contact", "contact_tag", "activity", "deal", "task", "stage_event")


# --- entitlements change -----------------------------------------------------------------------------------------------


@pytest.fixture
def office(world: World) -> World:
    """A centre with contacts and receipts of three branches and two owners."""
    for branch in ("LON", "PAR", "NYC"):
        foreign.run(world.database.path, *family(branch.lower(), f"'{branch}'"), *receipt(f"s{branch.lower()}", branch))
    foreign.run(world.database.path, *family("both", "'LON'", "'e1'"), *receipt("sboth", "LON", "'e1'"))
    foreign.run(world.database.path, *family("rep", "NULL", "'e1'"), *receipt("srep", "NYC", "'e1'"))
    return world


FAMILY, RECEIPT = 6, 5

RESCOPES = {
    # from, to, rows that come, rows that go
    "one more": (["branch:LON"], ["branch:LON", "branch:PAR"], FAMILY + RECEIPT, 0),
    "one less": (["branch:LON", "branch:PAR"], ["branch:LON"], 0, FAMILY + RECEIPT),
    "another": (["branch:PAR"], ["branch:NYC"], FAMILY + 2 * RECEIPT, FAMILY + RECEIPT),
    "the same": (["branch:LON"], ["branch:LON"], 0, 0),
    "an owner whose rows are here in part": (["branch:LON"], ["branch:LON", "owner:e1"], FAMILY + RECEIPT - 1, 0),
    "an owner instead of the branch": (["branch:LON"], ["owner:e1"], FAMILY + RECEIPT - 1, FAMILY + RECEIPT + 1),
    "the branch instead of an owner": (["owner:e1"], ["branch:LON"], FAMILY + RECEIPT + 1, FAMILY + RECEIPT - 1),
    "an owner less whose rows stay in part": (["branch:LON", "owner:e1"], ["branch:LON"], 0, FAMILY + RECEIPT - 1),
    "nothing left": (["branch:LON", "owner:e1"], [], 0, 3 * FAMILY + 3 * RECEIPT - 1),
    "everything": ([], ["branch:LON", "branch:PAR", "branch:NYC", "owner:e1"], 5 * FAMILY + 5 * RECEIPT, 0),
}
"""`both` has two keys in scope and is sent once; a stock move has a branch only, so an owner gets a receipt without it."""


@pytest.mark.parametrize("rows", [10_000, 1], ids=["large pages", "small pages"])
@pytest.mark.parametrize("case", RESCOPES)
def test_a_changed_entitlement_moves_exactly_the_difference(office: World, case: str, rows: int) -> None:
    before, after, gained, lost = RESCOPES[case]
    node, fresh = office.node("n", *before), office.node("fresh", *after)
    node.sync()
    office.rescope("n", *after)
    report = node.sync(rows=rows)
    assert (report.pulled, report.removed, report.pushed) == (gained, lost, 0)
    fresh.sync()
    assert keys(node) == keys(fresh)
    again = node.sync()
    assert (again.pulled, again.removed) == (0, 0)
    assert office.agree()


def test_a_scope_lost_and_given_back_at_once_moves_little_and_loses_nothing(office: World) -> None:
    node = office.node("n", "branch:LON")
    node.sync()
    held = keys(node)
    office.rescope("n", "branch:PAR")
    office.rescope("n", "branch:LON")
    node.sync()
    assert keys(node) == held
    assert office.agree()


def test_unsent_work_of_a_scope_that_was_lost_is_judged_by_what_the_node_knew(office: World) -> None:
    """A rep who sold before the office took the branch away: the receipt is accepted, and leaves the laptop."""
    node = office.node("n", "branch:LON")
    node.sync()
    foreign.run(node.database.path, *receipt("late", "LON"), "UPDATE contact SET phone = '7' WHERE id = 'lon'")
    office.rescope("n", "branch:PAR")
    report = node.sync()
    assert report.verdicts["held"] == 0
    assert office.sql("SELECT phone FROM contact WHERE id = 'lon'") == [("7",)]
    assert office.sql("SELECT COUNT(*) FROM sale_line WHERE sale_id = 'late'") == [(2,)]
    assert "late" not in keys(node)["sale"]
    assert office.agree()


# --- rows move -----------------------------------------------------------------------------------------------------------


def test_a_contact_given_to_another_branch_takes_everything_along(world: World) -> None:
    """By the branch that had it: tags, activities, the sight of deals and tasks; nothing else moves."""
    lon, par = world.node("lon", "branch:LON"), world.node("par", "branch:PAR")
    foreign.run(lon.database.path, *family("c1", "'LON'"), *family("stays", "'LON'"), *receipt("s1", "LON"))
    foreign.run(par.database.path, *family("p1", "'PAR'"))
    world.settle(2)
    foreign.run(lon.database.path, "UPDATE contact SET branch_id = 'PAR' WHERE id = 'c1'")
    given = lon.sync()
    assert (given.verdicts["accepted"], given.pulled, given.removed) == (1, 0, FAMILY)
    taken = par.sync()
    assert (taken.pulled, taken.removed) == (FAMILY, 0)
    assert {table: rows for table, rows in keys(lon).items() if table in CONTACTS} == {key: ["stays"] for key in CONTACTS}
    assert keys(par) == {key: ["c1", "p1"] for key in CONTACTS}
    foreign.run(par.database.path, "UPDATE contact SET branch_id = 'LON', phone = 'back' WHERE id = 'c1'")
    assert par.sync().removed == FAMILY
    assert lon.sync().pulled == FAMILY
    assert lon.sql("SELECT phone FROM contact WHERE id = 'c1'") == [("back",)]
    assert world.agree()


def test_children_with_a_scope_of_their_own_stay_with_it(world: World) -> None:
    """A deal and a task of a rep stay with the rep when their contact moves away."""
    lon, rep = world.node("lon", "branch:LON"), world.node("rep", "owner:e1")
    foreign.run(lon.database.path, CONTACT.format("c1", "'LON'", "NULL"))
    lon.sync()
    foreign.run(
        world.database.path,
        "INSERT INTO deal (id, contact_id, owner_id) VALUES ('d1', 'c1', 'e1')",
        "INSERT INTO task (id, contact_id, owner_id) VALUES ('t1', 'c1', 'e1')",
    )
    world.settle(1)
    assert keys(lon) == {"contact": ["c1"], "deal": ["d1"], "task": ["t1"]}
    assert keys(rep) == {"deal": ["d1"], "task": ["t1"]}
    foreign.run(lon.database.path, "UPDATE contact SET branch_id = 'PAR'")
    assert lon.sync().removed == 3
    report = rep.sync()
    assert (report.pulled, report.removed) == (0, 0)
    assert keys(lon) == {}
    assert keys(rep) == {"deal": ["d1"], "task": ["t1"]}
    assert world.agree()


def test_a_row_with_two_keys_in_scope_is_sent_once_and_goes_with_the_last(world: World) -> None:
    node = world.node("n", "branch:LON", "branch:PAR", "owner:e1")
    foreign.run(world.database.path, *family("c1", "'LON'", "'e1'"))
    assert node.sync().pulled == FAMILY
    for change, pulled, removed in [("branch_id = 'PAR'", FAMILY, 0), ("branch_id = 'NYC'", 1, 0), ("owner_id = 'e2'", 0, FAMILY)]:
        foreign.run(world.database.path, f"UPDATE contact SET {change}")
        report = node.sync()
        assert (report.pulled, report.removed) == (pulled, removed), change  # children that gain a key are told again, once
    assert keys(node) == {}
    assert world.agree()


def test_a_node_that_writes_a_row_out_of_its_own_sight_loses_it(world: World) -> None:
    """RULES H2: nobody else tells it."""
    node = world.node("n", "branch:LON")
    foreign.run(node.database.path, *family("c1", "'LON'"))
    node.sync()
    foreign.run(node.database.path, "UPDATE contact SET branch_id = NULL")
    assert node.sync().removed == FAMILY
    assert keys(node) == {}
    assert world.sql("SELECT COUNT(*) FROM activity") == [(1,)]
    assert world.agree()


def test_a_move_in_two_steps_within_one_exchange(world: World) -> None:
    lon, par = world.node("lon", "branch:LON"), world.node("par", "branch:PAR")
    foreign.run(world.database.path, *family("c1", "'LON'"))
    world.settle(1)
    for branch in ("PAR", "NYC", "LON", "PAR", "LON"):
        foreign.run(world.database.path, f"UPDATE contact SET branch_id = '{branch}'")
        world.service.absorb(world.clock.read())
    lon.sync()
    assert (par.sync().pulled, keys(par)) == (0, {})
    assert keys(lon) == {key: ["c1"] for key in CONTACTS}
    foreign.run(world.database.path, "UPDATE contact SET branch_id = 'PAR'")
    world.service.absorb(world.clock.read())
    foreign.run(world.database.path, "UPDATE contact SET phone = 'x'")
    world.settle(1)
    assert (keys(lon), keys(par)) == ({}, {key: ["c1"] for key in CONTACTS})
    assert world.agree()


# --- what left is gone -----------------------------------------------------------------------------------------------------

MARK = "a text that stands nowhere else 7f3a"


def disk(node: Node) -> bytes:
    return foreign.read_bytes(*(Path(f"{node.database.path}{suffix}") for suffix in ("", "-wal", "-shm", "-journal")))


def marked(world: World) -> None:
    """Write the mark into a contact, its note and its activity, and into a receipt's line; several times, so that it moves about."""
    foreign.run(world.database.path, *family("c1", "'LON'"), *receipt("s1", "LON"))
    for i in range(3):
        foreign.run(
            world.database.path,
            f"UPDATE contact SET note = '{MARK} {i}', street = '{MARK * 200}' WHERE id = 'c1'",
            f"UPDATE activity SET topic = '{MARK * (400 - i)}' WHERE id = 'c1'",
            f"UPDATE sale_line SET name = '{MARK * 150}'",
        )
        world.settle(1)


@pytest.mark.parametrize("how", ["rescope", "moved by the centre", "moved by the node", "deleted"])
def test_what_left_is_gone_from_the_disk_free_pages_and_log_too(world: World, how: str) -> None:
    node = world.node("n", "branch:LON", "branch:PAR")
    foreign.run(world.database.path, *family("stays", "'PAR'"))
    marked(world)
    node.sync()
    assert MARK.encode() in disk(node)
    sale = ["UPDATE sale SET branch_id = 'NYC'", "UPDATE stock_move SET branch_id = 'NYC'"]
    if how == "rescope":
        world.rescope("n", "branch:PAR")
    elif how == "deleted":
        foreign.run(world.database.path, "DELETE FROM contact WHERE id = 'c1'", "DELETE FROM sale")
    else:
        foreign.run(world.database.path, *sale)
        path = world.database.path if how == "moved by the centre" else node.database.path
        foreign.run(path, "UPDATE contact SET branch_id = 'NYC' WHERE id = 'c1'")
    assert node.sync().removed > 0
    node.sync()
    assert keys(node)["contact"] == ["stays"]
    assert MARK.encode() not in disk(node)
    assert world.agree()


def test_what_left_is_gone_once_nobody_reads_the_old_state_any_more(world: World) -> None:
    """A program that reads keeps the log of recent commits as it is; the exchange goes on, a later one empties it."""
    node = world.node("n", "branch:LON", "branch:PAR")
    marked(world)
    node.sync()
    reader = node.database.dialect.open(node.database.path, readonly=True)
    reader.execute("BEGIN")
    assert MARK in reader.execute("SELECT note FROM contact").fetchone()[0]
    world.rescope("n", "branch:PAR")
    assert node.sync().removed > 0
    assert MARK.encode() in disk(node)
    reader.close()
    node.sync()
    assert MARK.encode() not in disk(node)


def test_an_edit_of_a_row_that_left_is_gone_from_the_disk_too(world: World) -> None:
    """The node itself wrote the mark: its outbox, its pending changes and its conflicts must not keep it either."""
    node, other = world.node("n", "branch:LON"), world.node("o", "branch:LON", "branch:PAR")
    foreign.run(world.database.path, *family("c1", "'LON'"))
    world.settle(1)
    foreign.run(other.database.path, "UPDATE contact SET phone = 'other', note = 'other'")
    foreign.run(node.database.path, f"UPDATE contact SET phone = '{MARK} 1', note = '{MARK} 2'")
    world.settle(2)
    assert node.conflicts()
    foreign.run(node.database.path, f"UPDATE contact SET email = '{MARK} 3'", f"UPDATE activity SET topic = '{MARK} 4'")
    foreign.run(other.database.path, "UPDATE contact SET branch_id = 'PAR'")
    other.sync()
    node.sync()
    node.sync()
    assert keys(node) == {}
    assert world.sql("SELECT email FROM contact") == [(f"{MARK} 3",)]
    assert MARK.encode() not in disk(node)
    assert world.agree()


def test_what_never_was_in_scope_never_arrives(world: World) -> None:
    node = world.node("n", "branch:PAR")
    marked(world)
    foreign.run(world.database.path, "UPDATE contact SET branch_id = 'NYC'")
    world.settle(2)
    assert MARK.encode() not in disk(node)


# --- entitlements that change between the pages of one pull -----------------------------------------------------------------


def at_page(node: Node, number: int, then: Callable[[], object]) -> None:
    """Let something happen before a node asks for its n-th page."""
    asked: list[str] = []

    def before(kind: str) -> None:
        asked.append(kind)
        if kind == "pull" and asked.count("pull") == number:
            then()

    node.link.before = before


def test_a_row_that_comes_under_another_key_between_two_pages(world: World) -> None:
    """Keys had another order in the next sweep; each of the two took the row for told under the other."""
    rep = world.node("rep", "owner:e2")
    foreign.run(world.database.path, *receipt("s1", "LON"), *receipt("s2", "LON"))
    world.rescope("rep", "branch:LON", "owner:e2")
    at_page(rep, 2, lambda: foreign.run(world.database.path, "UPDATE sale SET employee_id = 'e2' WHERE id = 's2'"))
    rep.sync(rows=2)
    rep.sync()
    assert keys(rep)["sale_line"] == ["s1-1", "s1-2", "s2-1", "s2-2"]
    assert world.agree()


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM sale_line WHERE id = 's1-1'",
        "UPDATE sale SET branch_id = 'PAR'",
        "DELETE FROM stock_move",
        "DELETE FROM contact",
        "UPDATE contact SET branch_id = 'PAR'",
    ],
)
def test_what_went_before_the_scope_was_lost_leaves_too(world: World, change: str) -> None:
    """The step of the kept key was left out, as it was lost by then; that of the lost key looked at its own sweep alone."""
    rep = world.node("rep", "branch:LON")
    foreign.run(world.database.path, *receipt("s1", "LON"), CONTACT.format("c1", "'LON'", "NULL"))
    rep.sync()
    foreign.run(world.database.path, "INSERT INTO branch (id, name) VALUES ('LON', 'x'), ('PAR', 'y')", change)
    at_page(rep, 2, lambda: world.rescope("rep"))
    rep.sync(rows=1)
    rep.sync()
    assert keys(rep) == {}
    assert world.agree()


def test_a_scope_that_was_lost_and_came_back_during_one_pull(world: World) -> None:
    """An earlier page had taken the rows away; the node was taken to have them still, under the key it had at its cursor."""
    rep = world.node("rep", "branch:LON", "owner:e2")
    foreign.run(world.database.path, *receipt("s1", "LON", "'e2'"), CONTACT.format("c1", "'LON'", "'e2'"))
    rep.sync()
    had = keys(rep)
    foreign.run(world.database.path, "INSERT INTO branch (id, name) VALUES ('LON', 'x'), ('PAR', 'y')")
    asked: list[str] = []

    def before(kind: str) -> None:
        asked.append(kind)
        if asked.count("pull") in (2, 5) and kind == "pull":
            world.rescope("rep", *(["branch:LON"] if asked.count("pull") == 5 else []))

    rep.link.before = before
    rep.sync(rows=1)
    rep.sync()
    assert keys(rep) == had
    assert world.agree()
