"""What becomes of concurrent changes, end to end between two nodes and a server (PROTOCOL.md §6.4)."""

from __future__ import annotations

from typing import Any

import pytest

from node.cycle import Cycle
from node.report import Report as SyncReport
from server import conflicts, deciding
from tests.world import Node, ReplyLost, World

YEAR_MS = 365 * 24 * 3600 * 1000


@pytest.fixture
def pair(world: World) -> tuple[Node, Node]:
    """Two nodes of one branch that both know the contact c1."""
    k2, l3 = world.node("k2", "branch:LON"), world.node("l3", "branch:LON")
    k2.write([("contact", {"id": "c1", "kind": "person", "name": "Анна", "phone": "1", "branch_id": "LON"})])
    k2.sync()
    l3.sync()
    return k2, l3


def contact(node: Node, columns: str = "phone") -> Any:
    rows = node.sql(f"SELECT {columns} FROM contact WHERE id = 'c1'")
    return rows[0] if rows else None


def edit(node: Node, assignments: str) -> None:
    node.sql(f"UPDATE contact SET {assignments} WHERE id = 'c1'")


@pytest.mark.covers("P-11.8", "P-6.17")
@pytest.mark.parametrize("lag", [False, True])
def test_what_others_wrote_on_an_own_insert_is_not_overwritten_unseen(world: World, lag: bool) -> None:
    """Base -1 does not mean that a cell was never told: the edit was typed on an insert that the cursor does not cover yet."""
    k2, l3 = world.node("k2", "branch:LON"), world.node("l3", "branch:LON")
    k2.sql("INSERT INTO contact (id, kind, name, branch_id, note) VALUES ('c1', 'person', 'Ann', 'LON', 'p')")
    if lag:
        k2.link.lose.append("pull")
        with pytest.raises(ReplyLost):
            k2.sync()
    else:
        k2.sync()
    edit(k2, "note = 'r'")
    Cycle(k2.database, k2.link).seal()
    l3.sync()
    for note in ("z", "p"):
        edit(l3, f"note = '{note}'")
        l3.sync()
    world.settle()
    assert contact(k2, "note") == contact(l3, "note") == ("p",)
    assert [(each["column"], each["open"]) for each in k2.conflicts()] == [("note", True)]
    assert world.agree()


def test_edits_of_different_columns_both_survive(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    edit(k2, "phone = '22'")
    edit(l3, "email = 'a@b'")
    world.settle()
    assert contact(k2, "phone, email") == contact(l3, "phone, email") == ("22", "a@b")
    assert not k2.conflicts()
    assert world.agree()


@pytest.mark.covers("P-6.21", "P-8.6")
def test_the_policy_decides_and_both_values_are_on_record(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    edit(k2, "phone = 'k2'")
    edit(l3, "phone = 'l3'")
    world.settle()
    assert contact(k2) == contact(l3) == ("l3",)
    (mine,), (theirs,) = k2.conflicts(), l3.conflicts()
    assert (mine["base"], mine["mine"], mine["theirs"], mine["winner"], mine["rule"]) == ("1", "k2", "l3", "theirs", "latest")
    assert (theirs["mine"], theirs["theirs"], theirs["winner"]) == ("l3", "k2", "mine")


@pytest.mark.parametrize("loser", ["k2", "l3"])
def test_taking_the_loser_back_syncs(world: World, pair: tuple[Node, Node], loser: str) -> None:
    k2, l3 = pair
    edit(k2, "phone = 'k2'")
    edit(l3, "phone = 'l3'")
    world.settle()
    decider = world.nodes[loser]
    side = "mine" if loser == "k2" else "theirs"
    decider.resolve(decider.conflicts()[0]["id"], side)
    world.settle()
    assert contact(k2) == contact(l3) == ("k2",)
    assert k2.conflicts()[0]["why"] == f"decided by {loser}"
    assert world.agree()


@pytest.mark.covers("P-2.9")
def test_the_address_is_decided_together(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    edit(k2, "street = 'Abbey Road', city = 'London'")
    edit(l3, "city = 'Paris'")
    world.settle()
    assert contact(k2, "street, postcode, city, country") == (None, None, "Paris", None)
    assert k2.conflicts()[0]["column"] == ["street", "postcode", "city", "country"]


@pytest.mark.covers("P-6.32", "P-6.33")
def test_a_note_asks_and_the_standing_value_stands(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    edit(k2, "note = 'k2'")
    edit(l3, "note = 'l3'")
    k2.sync()
    assert l3.sync().verdicts["ask"] == 1
    k2.sync()
    assert contact(k2, "note") == contact(l3, "note") == ("k2",)
    assert l3.conflicts()[0]["open"]
    l3.resolve(l3.conflicts()[0]["id"], None, "both")
    assert not l3.conflicts()[0]["open"]
    world.settle()
    assert contact(k2, "note") == ("both",)
    assert not k2.conflicts()[0]["open"]


@pytest.mark.covers("P-6.32")
def test_a_decision_that_keeps_the_standing_value_is_a_real_write(world: World, pair: tuple[Node, Node]) -> None:
    """Deciding for the value that stands must be seen by a concurrent edit (RULES §2 b)."""
    k2, l3 = pair
    edit(k2, "note = 'k2'")
    edit(l3, "note = 'l3'")
    world.settle()
    k2.resolve(k2.conflicts()[0]["id"], "mine")
    edit(l3, "note = 'again'")
    k2.sync()
    assert l3.sync().verdicts["ask"] == 1


@pytest.mark.covers("P-6.34")
def test_the_centre_decides_the_credit_limit(world: World, pair: tuple[Node, Node]) -> None:
    k2, _ = pair
    world.sql("UPDATE contact SET credit_limit_minor = 500 WHERE id = 'c1'")
    edit(k2, "credit_limit_minor = 900")
    k2.sync()
    assert contact(k2, "credit_limit_minor") == (500,)
    assert k2.conflicts()[0]["rule"] == "server"


def test_equal_edits_are_no_conflict(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    edit(k2, "phone = 'same'")
    edit(l3, "phone = 'same'")
    world.settle()
    assert not k2.conflicts()
    assert not l3.conflicts()


@pytest.mark.covers("P-6.27")
def test_a_delete_against_an_unseen_edit_keeps_the_row(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    edit(k2, "phone = 'kept'")
    l3.sql("DELETE FROM contact WHERE id = 'c1'")
    world.settle()
    assert contact(k2) == contact(l3) == ("kept",)
    assert l3.conflicts()[0]["rule"] == "edit wins"
    assert world.agree()


@pytest.mark.parametrize("side", ["mine", "theirs"])
def test_a_row_of_nothing_but_its_key_can_be_kept_or_let_go(world: World, pair: tuple[Node, Node], side: str) -> None:
    """A decision that the tag stays has no column to write (simulator, seed 2001513)."""
    k2, l3 = pair
    tag, untag = "INSERT INTO contact_tag (contact_id, tag) VALUES ('c1', 'vip')", "DELETE FROM contact_tag"
    k2.sql(tag)
    world.settle()
    k2.sql(untag)
    k2.sync()
    k2.sql(tag)
    l3.sql(untag)
    world.settle()
    (conflict,) = l3.conflicts()
    assert (conflict["rule"], conflict["winner"]) == ("edit wins", "theirs")
    l3.resolve(conflict["id"], side)
    world.settle()
    assert [node.sql("SELECT contact_id, tag FROM contact_tag") for node in pair] == [[("c1", "vip")] if side == "theirs" else []] * 2
    assert not any(entry["open"] for node in pair for entry in node.conflicts())
    assert world.agree()


@pytest.mark.covers("P-6.30", "P-6.31")
def test_an_edit_after_an_unseen_delete_brings_the_row_back(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("DELETE FROM contact WHERE id = 'c1'")
    edit(l3, "phone = 'kept'")
    world.settle()
    assert contact(k2) == contact(l3) == ("kept",)
    assert world.agree()


@pytest.mark.covers("P-6.19")
def test_a_later_edit_wins_whatever_the_clock_says(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    l3.skew[0] = -YEAR_MS
    edit(k2, "phone = 'first'")
    world.settle()
    edit(l3, "phone = 'second'")
    world.settle()
    assert contact(k2) == ("second",)
    assert not k2.conflicts()


@pytest.mark.covers("P-6.28", "P-2.7")
def test_a_deleted_contact_takes_its_seen_children_along(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("INSERT INTO activity (id, contact_id) VALUES ('a1', 'c1')")
    world.settle()
    l3.sql("DELETE FROM contact WHERE id = 'c1'")
    world.settle()
    assert contact(k2) is None
    assert k2.sql("SELECT * FROM activity") == l3.sql("SELECT * FROM activity") == []
    assert world.agree()


@pytest.mark.covers("P-6.27")
def test_an_unseen_child_keeps_its_parent(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("INSERT INTO activity (id, contact_id) VALUES ('a1', 'c1')")
    l3.sql("DELETE FROM contact WHERE id = 'c1'")
    world.settle()
    assert contact(l3) == ("1",)
    assert l3.sql("SELECT id FROM activity") == [("a1",)]
    assert world.agree()


@pytest.mark.covers("P-6.25")
def test_a_child_for_a_deleted_parent_revives_it(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("DELETE FROM contact WHERE id = 'c1'")
    k2.sync()
    l3.sql("INSERT INTO activity (id, contact_id) VALUES ('a1', 'c1')")
    world.settle()
    assert contact(k2) == ("1",)
    assert world.agree()


@pytest.mark.covers("P-6.24")
def test_a_tag_added_again_survives_an_unseen_removal(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("INSERT INTO contact_tag VALUES ('c1', 'vip', NULL)")
    world.settle()
    k2.sql("DELETE FROM contact_tag")
    k2.sync()
    k2.sql("INSERT INTO contact_tag VALUES ('c1', 'vip', NULL)")
    l3.sql("DELETE FROM contact_tag")
    world.settle()
    assert k2.sql("SELECT tag FROM contact_tag") == [("vip",)]
    assert world.agree()


@pytest.mark.covers("P-5.4")
def test_insert_or_replace_is_an_edit(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("INSERT OR REPLACE INTO contact (id, kind, name, phone, branch_id) VALUES ('c1', 'person', 'Анна', 'new', 'LON')")
    world.settle()
    assert contact(l3) == ("new",)
    assert not l3.conflicts()
    assert world.agree()


@pytest.mark.covers("P-7.11", "P-7.10")
def test_a_lost_acknowledgement_does_not_bring_an_older_value_back(world: World, pair: tuple[Node, Node]) -> None:
    """The reply to k2's push is lost, l3 builds on it, k2 pulls: k2's own older value must not cover l3's (RULES H1)."""
    k2, l3 = pair
    edit(k2, "phone = 'k2'")
    k2.link.lose = ["push"]
    with pytest.raises(ReplyLost):
        k2.sync()
    l3.sync()
    edit(l3, "phone = 'l3, later'")
    l3.sync()
    Cycle(k2.database, k2.link).pull(SyncReport())
    assert contact(k2) == ("l3, later",)
    assert k2.unsynced() == 0
    assert k2.sync().pushed == 0
    assert contact(k2) == ("l3, later",)
    assert world.agree()


def test_nobody_is_asked_about_a_row_that_is_gone(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    edit(k2, "note = 'k2'")
    k2.sync()
    edit(l3, "note = 'l3'")
    world.settle()

    def asked() -> tuple[int, int]:
        with world.database.reading() as store:
            assert conflicts.waiting(store) == len(conflicts.listing(store, only_open=True))
            return conflicts.waiting(store), len(conflicts.listing(store))

    assert asked() == (1, 1)
    k2.sql("DELETE FROM contact WHERE id = 'c1'")
    world.settle()
    assert asked() == (0, 1)


@pytest.mark.covers("P-6.33")
@pytest.mark.parametrize(("take", "winner", "left"), [("mine", "mine", []), ("theirs", "theirs", [("2",)])])
def test_a_decided_conflict_about_a_whole_row_names_who_has_what_stands(
    world: World, pair: tuple[Node, Node], take: str, winner: str, left: list[Any]
) -> None:
    k2, l3 = pair
    edit(l3, "phone = '2'")
    l3.sync()
    k2.sql("DELETE FROM contact")
    world.settle()
    k2.resolve(k2.conflicts()[0]["id"], take)
    world.settle()
    with world.database.reading() as store:
        (found,) = conflicts.listing(store)
    assert (found["rule"], found["winner"], found["why"]) == ("edit wins", winner, "decided by k2")
    assert world.sql("SELECT phone FROM contact") == left
    assert world.agree()


@pytest.mark.covers("P-6.45")
def test_a_question_about_a_row_is_not_asked_over_another_with_its_key(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    edit(k2, "note = 'k2'")
    edit(l3, "note = 'l3'")
    world.settle()
    asked = bytes.fromhex(k2.conflicts()[0]["id"])
    world.sql("DELETE FROM contact WHERE id = 'c1'")
    world.settle()
    world.sql("INSERT INTO contact (id, kind, name, branch_id, note) VALUES ('c1', 'person', 'Zed', 'LON', 'of another person')")
    world.settle()
    assert world.sql("SELECT COUNT(*) FROM contact") == k2.sql("SELECT COUNT(*) FROM contact") == [(1,)]
    assert (k2.conflicts(), l3.conflicts()) == ([], [])
    with world.database.writing() as store:
        deciding.close(store, asked, 99, 1, 0)
        deciding.close(store, asked, 99, 2, 0)
        assert (conflicts.waiting(store), conflicts.listing(store, only_open=True)) == (0, [])
        assert [each["why"].split(" changed")[0] for each in conflicts.listing(store)] in (["l3 and k2"], ["k2 and l3"])
    assert world.agree()


@pytest.mark.covers("P-6.45")
def test_a_question_about_a_row_is_asked_again_when_the_row_is_back(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    edit(k2, "note = 'k2'")
    edit(l3, "note = 'l3'")
    world.settle()
    edit(l3, "phone = 'late'")
    world.sql("DELETE FROM contact WHERE id = 'c1'")
    k2.sync()
    assert k2.conflicts() == []
    world.settle()
    assert world.sql("SELECT phone FROM contact") == [("late",)]
    assert [each["open"] for each in k2.conflicts() if each["rule"] == "ask"] == [True]
    with world.database.reading() as store:
        assert conflicts.waiting(store) == 1
