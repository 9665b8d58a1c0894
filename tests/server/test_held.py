"""Held work at the centre: what a correction, a withdrawal, a hand-over and an approval do, and what sets work free."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from node import held
from node.cycle import Cycle
from node.report import Report
from node.writer import transaction
from server import held_list, ingest, nodes
from sync.builder import SegmentBuilder
from sync.change import Withdrawn
from sync.errors import NoSuch
from tests.protocol.stories import a_push
from tests.world import Node, World

SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, 'n', 'sale', ?, 1, 'EUR', 500)"
LINE = "INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES (?, ?, 1, 1, 500)"
CONTACT = "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'Ann', ?)"
ACTIVITY = "INSERT INTO activity (id, contact_id) VALUES (?, ?)"


@pytest.fixture
def k2(world: World) -> Node:
    return world.node("k2", "branch:LIS", "owner:e1")


def listing(world: World) -> list[dict[str, Any]]:
    with world.database.reading() as store:
        return held_list.listing(store)


def withdrawn(world: World) -> list[dict[str, Any]]:
    with world.database.reading() as store:
        return held_list.withdrawn(store)


def ids(world: World) -> list[int]:
    return sorted({each["id"] for each in listing(world)})


def act(world: World, what: Any, *arguments: Any) -> None:
    with world.database.writing() as store:
        assert what(store, *arguments, world.clock.read())


def push(node: Node) -> Report:
    report = Report()
    Cycle(node.database, node.link).push(report)
    return report


def a_sale(node: Node, key: str, branch: str) -> None:
    node.database.connection.execute("BEGIN")
    node.sql(SALE, key, branch)
    node.sql(LINE, f"{key}-1", key)
    node.database.connection.execute("COMMIT")


# --- corrections ----------------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-5.20", "P-6.36", "P-6.37", "P-6.38", "P-8.30", "P-2.3")
def test_a_held_sale_is_corrected_by_plain_sql(world: World, k2: Node) -> None:
    """It never was at the centre, so it may still be changed; it arrives once, whole, as corrected, and the original is kept."""
    a_sale(k2, "s1", "OPO")
    assert k2.sync().verdicts["held"] == 1
    k2.sql("UPDATE sale SET branch_id = 'LIS', total_minor = 600 WHERE id = 's1'")
    report = k2.sync()
    assert (report.verdicts["held"], report.verdicts["accepted"]) == (0, 1)
    assert world.sql("SELECT branch_id, total_minor FROM sale") == [("LIS", 600)]
    assert world.sql("SELECT id FROM sale_line") == [("s1-1",)]
    assert listing(world) == []
    assert [(each["table"], each["by"], each["was_held"]) for each in withdrawn(world)] == [
        ("sale", "correction", "right"),
        ("sale_line", "correction", "right"),
    ]
    assert withdrawn(world)[0]["values"]["branch_id"] == "OPO"
    assert k2.held() == []
    assert [(each["key"], each["code"], each["values"].get("total_minor")) for each in k2.held(withdrawn=True)] == [
        ("s1", "replaced", 500),
        ("s1-1", "replaced", None),
    ]
    assert world.agree()


@pytest.mark.covers("P-6.36", "P-6.2")
def test_a_correction_counts_once_whatever_the_network_does(world: World, k2: Node) -> None:
    a_sale(k2, "s1", "OPO")
    k2.sync()
    k2.sql("UPDATE sale SET branch_id = 'LIS' WHERE id = 's1'")
    k2.link.lose = ["push", "push", "pull"]
    for _ in range(3):
        with pytest.raises(Exception, match=r"push|pull"):
            k2.sync()
    k2.sync()
    head = world.service.health()
    k2.sync()
    assert world.service.health() == head
    assert world.sql("SELECT branch_id FROM sale") == [("LIS",)]
    assert len(withdrawn(world)) == 2
    assert world.agree()


def test_dependants_go_in_with_the_correction(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    k2.sql(ACTIVITY, "a1", "c1")
    k2.sql("INSERT INTO deal (id, contact_id) VALUES ('d1', 'c1')")
    k2.sync()
    first = ids(world)[0]
    (contact,) = [each for each in listing(world) if each["id"] == first]
    assert [each["code"] for each in listing(world)] == ["right", "depends", "depends"]
    assert contact["dependants"] == ids(world)[1:]
    assert [each["waits_for"] for each in listing(world)] == [[], [first], [first]]
    k2.sql("UPDATE contact SET branch_id = 'LIS' WHERE id = 'c1'")
    k2.sync()
    assert (listing(world), k2.held()) == ([], [])
    assert world.sql("SELECT id FROM activity UNION SELECT id FROM deal ORDER BY 1") == [("a1",), ("d1",)]
    assert world.agree()


@pytest.mark.covers("P-6.39", "P-6.37")
def test_a_correction_that_is_held_keeps_its_place_and_can_be_corrected_again(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    k2.sql(ACTIVITY, "a1", "c1")
    k2.sync()
    before = listing(world)
    k2.sql("UPDATE contact SET branch_id = 'FAR', phone = '1' WHERE id = 'c1'")
    k2.sync()
    (contact, activity) = listing(world)
    assert (contact["id"], contact["since_ms"]) == (before[0]["id"], before[0]["since_ms"])
    assert (contact["change"], contact["values"]["branch_id"], contact["values"]["phone"]) == ("insert", "FAR", "1")
    assert (activity["code"], activity["waits_for"]) == ("depends", [contact["id"]])
    assert [each["key"] for each in k2.held()] == ["c1", "c1", "a1"]
    assert k2.verify()
    k2.sql("UPDATE contact SET branch_id = 'LIS' WHERE id = 'c1'")
    k2.sync()
    assert world.sql("SELECT branch_id, phone FROM contact") == [("LIS", "1")]
    assert (listing(world), k2.held(), world.sql("SELECT id FROM activity")) == ([], [], [("a1",)])
    assert world.agree()


def test_what_was_typed_on_top_goes_with_it_in_order(world: World, k2: Node) -> None:
    """t1 and t2 are held; t3 corrects t1. t2 must not come after t3 and undo it."""
    k2.sql(CONTACT, "c1", "OPO")
    push(k2)
    k2.sql("UPDATE contact SET phone = 'old', branch_id = 'FAR' WHERE id = 'c1'")
    Cycle(k2.database, k2.link).seal()  # before it is known that t1 is held? it is known: a correction already
    k2.sql("UPDATE contact SET phone = 'new', branch_id = 'LIS' WHERE id = 'c1'")
    k2.sync()
    assert world.sql("SELECT branch_id, phone FROM contact") == [("LIS", "new")]
    assert (listing(world), k2.held()) == ([], [])
    assert world.agree()


@pytest.mark.covers("P-6.37", "P-6.39")
def test_a_correction_that_is_held_and_approved_has_what_was_typed_last(world: World, k2: Node) -> None:
    """Two transactions are held in one push, a third corrects both, a fourth that. The simulator's seeds 80001885 and 80002433: the
    third came before the second when the centre opened them again, and the older value stood.
    """
    k2.sql(CONTACT, "c1", "OPO")
    Cycle(k2.database, k2.link).seal()
    k2.sql("UPDATE contact SET phone = 'second' WHERE id = 'c1'")
    k2.sync()
    assert [each["code"] for each in listing(world)] == ["right", "depends"]
    k2.sql("UPDATE contact SET phone = 'third' WHERE id = 'c1'")
    k2.sync()
    k2.sql("UPDATE contact SET name = 'Fourth' WHERE id = 'c1'")
    k2.sync()
    (contact,) = listing(world)
    assert contact["values"]["phone"] == "third"
    act(world, ingest.decide, contact["id"], True)
    assert world.sql("SELECT branch_id, name, phone FROM contact") == [("OPO", "Fourth", "third")]
    k2.sync()
    assert world.agree()


@pytest.mark.covers("P-6.36")
def test_a_correction_of_what_was_approved_meanwhile_is_an_ordinary_edit(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    act(world, ingest.decide, ids(world)[0], True)
    k2.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")
    k2.sync()
    assert world.sql("SELECT branch_id, phone FROM contact") == [("OPO", None)]
    assert [each["code"] for each in listing(world)] == ["right"], "it belongs to another branch now"
    assert withdrawn(world) == []
    act(world, ingest.decide, ids(world)[0], True)
    k2.sync()
    assert world.sql("SELECT branch_id, phone FROM contact") == [("OPO", "1")]
    assert world.agree()


@pytest.mark.covers("P-6.36")
@pytest.mark.parametrize("way", ["correct", "withdraw"])
def test_what_was_approved_and_still_waits_is_corrected_or_withdrawn_all_the_same(world: World, k2: Node, way: str) -> None:
    """The office lets it in, but a text must be typed again first. That was a dead end: the correction waited for what it corrects."""
    k2.sql("INSERT INTO contact (id, kind, name, branch_id, note) VALUES ('c1', 'person', 'Ann', 'OPO', CAST(x'ff' AS TEXT))")
    k2.sync()
    act(world, ingest.decide, ids(world)[0], True)
    if way == "withdraw":
        held.withdraw(k2.database, k2.held()[0]["id"])
        k2.sync()
        assert (listing(world), k2.held(), len(k2.held(withdrawn=True))) == ([], [], 1)
    else:
        k2.sql("UPDATE contact SET note = 'typed again' WHERE id = 'c1'")
        k2.sync()
        assert [(each["code"], each["approved"]) for each in listing(world)] == [("right", False)], "nobody approved what it says now"
        k2.sql("UPDATE contact SET branch_id = 'LIS' WHERE id = 'c1'")
        k2.sync()
        assert world.sql("SELECT branch_id, note FROM contact") == [("LIS", "typed again")]
    assert world.agree()


def test_a_sale_that_was_approved_meanwhile_stays_as_it_is(world: World, k2: Node) -> None:
    a_sale(k2, "s1", "OPO")
    k2.sync()
    act(world, ingest.decide, ids(world)[0], True)
    k2.sql("UPDATE sale SET total_minor = 600 WHERE id = 's1'")
    k2.sync()
    assert world.sql("SELECT total_minor FROM sale") == [(500,)]
    assert [each["code"] for each in k2.held()] == ["immutable"]
    assert world.agree()


def test_an_update_that_was_sealed_before_its_sale_was_held_depends_on_it(world: World, k2: Node) -> None:
    a_sale(k2, "s1", "OPO")
    Cycle(k2.database, k2.link).seal()
    k2.sql("UPDATE sale SET total_minor = 600 WHERE id = 's1'")
    k2.sync()
    assert [each["code"] for each in listing(world)] == ["right", "right", "depends"]
    act(world, ingest.decide, ids(world)[0], True)
    assert [each["code"] for each in listing(world)] == ["immutable"]
    assert world.agree() or (k2.sync() and world.agree())


def test_a_taken_key_is_corrected_by_another_key(world: World, k2: Node) -> None:
    other = world.node("opo", "branch:OPO")
    other.sql(CONTACT, "c1", "OPO")
    other.sync()
    k2.sql(CONTACT, "c1", "LIS")
    k2.sync()
    assert [each["code"] for each in listing(world)] == ["key"]
    k2.sql("UPDATE contact SET id = 'c2' WHERE id = 'c1'")
    k2.sync()
    world.settle()
    assert world.sql("SELECT id, branch_id FROM contact ORDER BY id") == [("c1", "OPO"), ("c2", "LIS")]
    assert (listing(world), k2.held()) == ([], [])
    assert world.agree()


def test_deleting_a_held_row_takes_it_back(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    k2.sql(ACTIVITY, "a1", "c1")
    k2.sql("INSERT INTO deal (id, contact_id, owner_id) VALUES ('d1', 'c1', 'e1')")
    k2.sync()
    k2.sql("DELETE FROM contact WHERE id = 'c1'")
    k2.sync()
    assert listing(world) == []
    assert world.sql("SELECT id FROM contact UNION SELECT id FROM activity") == []
    assert world.sql("SELECT id, contact_id FROM deal") == [("d1", "c1")], "it has a right of its own to be"
    assert [(each["key"], each["code"]) for each in k2.held()] == [("a1", "gone")]
    assert world.agree()


@pytest.mark.covers("P-6.36")
def test_another_node_cannot_withdraw_it(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    ((segment, index),) = world.sql("SELECT segment, txn FROM _held")
    thief = world.node("thief", "branch:LIS")
    for replaced in (True, False):
        builder = SegmentBuilder()
        builder.withdraw(builder.begin(1, 0), Withdrawn(segment, index, replaced))
        builder.withdraw(0, Withdrawn(bytes(16), 7, replaced))
        builder.withdraw(0, Withdrawn(segment, 99, replaced))
        request = a_push(thief, builder.build(bytes([replaced]) * 16, 1, 1))
        reply = world.service.push(thief.link.identity, request, world.clock.read())
        assert reply.verdicts[0].exceptions == ()
        thief.database.connection.execute("UPDATE _node SET acked_seq = 1, acked_digest = ?", (request.segments[0].digest,))
    assert len(listing(world)) == 1
    assert withdrawn(world) == []


# --- withdrawals ------------------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-6.38", "P-6.40", "P-8.14")
def test_the_centre_withdraws(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    k2.sql(ACTIVITY, "a1", "c1")
    k2.sql("INSERT INTO deal (id, contact_id, owner_id) VALUES ('d1', 'c1', 'e1')")
    k2.sync()
    act(world, ingest.withdraw, ids(world)[0], "twice in the books")
    k2.sync()
    assert k2.sql("SELECT id FROM contact UNION SELECT id FROM activity") == []
    assert [(each["key"], each["verdict"], each["code"]) for each in k2.held()] == [("a1", "refused", "gone")]
    (kept,) = k2.held(withdrawn=True)
    assert (kept["key"], kept["values"]["branch_id"], kept["can"][0]["do"]) == ("c1", "OPO", "correct")
    assert "twice in the books" in kept["reason"]
    assert world.sql("SELECT id FROM deal") == [("d1",)]
    assert listing(world) == []
    assert world.agree()


def test_a_deal_does_not_wait_for_a_contact_that_never_left_its_node(world: World, k2: Node) -> None:
    """The contact waits on the node, too long to send; its deal waits at the centre. Then the contact is deleted."""
    k2.sql("INSERT INTO contact (id, kind, name, branch_id, note) VALUES ('c1', 'person', 'Ann', 'LIS', ?)", "x" * 2_000_000)
    k2.sql("INSERT INTO deal (id, contact_id, owner_id) VALUES ('d1', 'c1', 'e1')")
    k2.sql(ACTIVITY, "a1", "c1")
    k2.sync()
    assert sorted((each["key"], each["code"]) for each in listing(world)) == [("a1", "parent"), ("d1", "parent")]
    k2.sql("DELETE FROM contact WHERE id = 'c1'")
    k2.sync()
    assert listing(world) == []
    assert world.sql("SELECT id FROM deal") == [("d1",)]
    assert [(each["key"], each["code"]) for each in k2.held()] == [("a1", "gone")]
    assert world.agree()


@pytest.mark.covers("P-6.42", "P-6.26")
def test_giving_up_a_row_of_ones_own_touches_nobody_elses(world: World, k2: Node) -> None:
    """k2 inserts a contact under a key that is another branch's and deletes it before it hears of it."""
    other = world.node("opo", "branch:OPO")
    other.sql(CONTACT, "c1", "OPO")
    other.sync()
    k2.sql(CONTACT, "c1", "LIS")
    Cycle(k2.database, k2.link).seal()
    k2.sql("DELETE FROM contact WHERE id = 'c1'")
    k2.sync()
    act(world, ingest.decide, ids(world)[0], False)
    world.settle()
    assert listing(world) == []
    assert world.sql("SELECT branch_id FROM contact") == [("OPO",)]
    assert world.agree()


@pytest.mark.covers("P-6.27", "P-6.28")
@pytest.mark.parametrize("end", ["refused", "withdrawn"])
def test_a_child_whose_move_away_did_not_come_is_not_deleted_with_its_old_parent(world: World, k2: Node, end: str) -> None:
    """Its node deleted a parent under which, as far as it knew, nothing hung any more (RULES H16)."""
    world.sql(CONTACT, "c1", "LIS")
    world.sql(ACTIVITY, "a1", "c1")
    world.settle()
    for change in (
        CONTACT.replace("?", "'c2'", 1).replace("?", "'OPO'"),
        "UPDATE activity SET contact_id = 'c2'",
        "DELETE FROM contact WHERE id = 'c1'",
    ):
        k2.sql(change)
        k2.sync()
    assert [each["code"] for each in listing(world)] == ["right", "depends", "depends"]
    contact, move, _ = ids(world)
    for number in (move, contact):
        act(world, ingest.withdraw, number, "no") if end == "withdrawn" else act(world, ingest.decide, number, False)
    assert listing(world) == []
    assert world.sql("SELECT c.id, a.id FROM contact c JOIN activity a ON a.contact_id = c.id") == [("c1", "a1")]
    assert world.sql("SELECT tbl, key, rule, winner FROM _conflict") == [("contact", "c1", "edit wins", "theirs")]
    world.settle()
    assert k2.sql("SELECT c.id, a.id FROM contact c JOIN activity a ON a.contact_id = c.id") == [("c1", "a1")]
    k2.sql("DELETE FROM contact WHERE id = 'c1'")  # now it has seen that the activity hangs there
    world.settle()
    assert world.sql("SELECT id FROM contact UNION ALL SELECT id FROM activity") == []
    assert world.agree()


def test_a_listing_is_cut_where_it_is_told_to_be(world: World, k2: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_list, "PAGE", 2)
    for number in range(5):
        k2.sql(CONTACT, f"c{number}", "OPO")
        k2.sync()
    with world.database.reading() as store:
        assert [each["key"] for each in held_list.listing(store, 3)] == ["c0", "c1", "c2"]
        assert [each["key"] for each in held_list.listing(store)] == ["c0", "c1", "c2", "c3", "c4"], "page by page"
        assert (held_list.count(store), held_list.count(store, "withdrawn")) == (5, 0)
    found, more = held.listed(k2.database.store, 3)
    assert ([each["key"] for each in found], more) == (["c0", "c1", "c2"], 2)
    (third,) = held.works(k2.database.store)[2:3]
    for beginning in (third.identity, third.identity[:7], third.identity.upper()):
        assert held.find(k2.database.store, beginning).identity == third.identity
    for nonsense in ("", "zz", f"{third.identity[:8]}00", "0" * 8):
        with pytest.raises(NoSuch):
            held.find(k2.database.store, nonsense)


# --- hand-over, revoked nodes -------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-6.41", "P-6.16")
def test_handing_it_to_somebody_is_shown_on_both_sides(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    since = k2.held()[0]["at_ms"]
    act(world, ingest.hand_over, ids(world)[0], "Anna", "is he ours?")
    assert listing(world)[0]["handed"]["to"] == "Anna"
    k2.sync()
    assert k2.held()[0]["reason"].endswith("; handed to Anna: is he ours?")
    assert k2.held()[0]["at_ms"] == since, "it waits since then, not since somebody looked at it"
    k2.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")
    k2.sync()
    assert (listing(world)[0]["handed"]["to"], listing(world)[0]["values"]["phone"]) == ("Anna", "1")
    assert world.agree()


def test_held_work_of_a_revoked_node_is_the_centres_to_decide(world: World, k2: Node) -> None:
    for key in ("c1", "c2"):
        k2.sql(CONTACT, key, "OPO")
        k2.sync()
    with world.database.writing() as store:
        nodes.revoke(store, "k2", world.clock.read())
    assert {each["revoked"] for each in listing(world)} == {True}
    assert "ask" not in {way["do"] for way in listing(world)[0]["can"]}
    first, second = ids(world)
    act(world, ingest.decide, first, True)
    act(world, ingest.withdraw, second, "")
    assert world.sql("SELECT id FROM contact") == [("c1",)]
    assert listing(world) == []


# --- what it waits for --------------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-6.15", "P-6.11")
@pytest.mark.parametrize("how", ["UPDATE contact SET branch_id = 'LIS' WHERE id = 'c1'", "DELETE FROM contact WHERE id = 'c1'"])
def test_a_key_is_tried_again_when_the_other_row_moves_or_dies(world: World, k2: Node, how: str) -> None:
    world.sql(CONTACT, "c1", "OPO")
    k2.sql(CONTACT, "c1", "LIS")
    k2.sync()
    assert [each["code"] for each in listing(world)] == ["key"]
    world.sql(how)
    k2.sync()
    assert listing(world) == []
    assert world.sql("SELECT branch_id FROM contact") == [("LIS",)]
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-6.15")
def test_a_right_is_tried_again_when_the_row_comes_to_the_node(world: World, k2: Node) -> None:
    world.sql(CONTACT, "c1", "OPO")
    k2.sql(ACTIVITY, "a1", "c1")
    k2.sync()
    assert [each["code"] for each in listing(world)] == ["right"]
    world.sql("UPDATE contact SET branch_id = 'LIS' WHERE id = 'c1'")
    k2.sync()
    assert listing(world) == []
    assert world.sql("SELECT id FROM activity") == [("a1",)]
    assert world.agree()


@pytest.mark.covers("P-6.16")
def test_the_node_hears_of_another_reason(world: World, k2: Node) -> None:
    k2.sql(ACTIVITY, "a1", "c1")
    k2.sync()
    assert [each["code"] for each in k2.held()] == ["parent"]
    world.sql(CONTACT, "c1", "OPO")
    k2.sync()
    assert [each["code"] for each in k2.held()] == ["right"]
    assert "belongs to others" in k2.held()[0]["reason"]
    assert k2.held()[0]["why"] == "It belongs to a branch or owner this node does not write for."


def test_what_cannot_pass_is_not_tried_again_and_again(world: World, k2: Node) -> None:
    """Approved, it is tried once; from then on only a cause lets it be tried: requests leave no trace in the journal."""
    k2.sql("INSERT INTO contact (id, kind, name, branch_id, note) VALUES ('c1', 'person', 'Ann', 'LIS', CAST(x'ff' AS TEXT))")
    k2.sync()
    act(world, ingest.decide, ids(world)[0], True)
    head = world.service.health()
    tries: list[int] = []
    judged = ingest._try
    try:
        ingest._try = lambda *arguments: tries.append(1) or judged(*arguments)  # type: ignore[assignment, func-returns-value]
        for _ in range(3):
            k2.sync()
        with world.database.writing() as store:
            ingest.release(store, world.clock.read())
    finally:
        ingest._try = judged
    assert (world.service.health(), tries) == (head, [])
    assert [(each["code"], each["approved"]) for each in listing(world)] == [("text", True)]


@pytest.mark.covers("P-6.35")
def test_much_that_is_set_free_at_once_goes_in_request_by_request(world: World, k2: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "TRIES_MAX", 7)
    monkeypatch.setattr(ingest, "LOOKS_MAX", 10)
    for number in range(40):
        with transaction(k2.database) as writing:
            writing.insert("activity", {"id": f"a{number:02}", "contact_id": "c1" if number % 4 else "never"})
    k2.sync()
    assert len(listing(world)) == 40
    other = world.node("l3", "branch:LIS")
    other.sql(CONTACT, "c1", "LIS")
    other.sync()
    left = [len(listing(world))]
    for _ in range(20):
        other.sync()
        left.append(len(listing(world)))
    assert all(before - after <= 14 for before, after in itertools.pairwise(left)), "a push and a pull, seven each"
    assert left[-1] == 10, "those whose parent never came"
    head = world.service.health()
    other.sync()
    assert world.service.health() == head
    world.settle()
    assert world.agree()


def test_the_reason_does_not_say_whose_a_row_is(world: World, k2: Node) -> None:
    """A node may guess a key; what it may not see it does not learn from being held for it either."""
    world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Ann', 'OPO')")
    world.settle()
    k2.sql(CONTACT, "c1", "LIS")
    k2.sql(CONTACT, "c2", "BRA")
    k2.sync()
    reasons = {each["key"]: each["reason"] for each in k2.held()}
    assert "OPO" not in reasons["c1"]
    assert reasons["c2"] == "this contact belongs to branch:BRA, which this node does not write for"


def test_a_line_is_judged_after_the_receipt_that_comes_before_it_in_the_segment(world: World, k2: Node) -> None:
    """Its key had been refused once; the receipt typed anew is plain, the line's transaction is not."""
    a_sale(k2, "s1", "OPO")
    k2.sync()
    act(world, ingest.decide, ids(world)[0], False)
    k2.sync()
    with transaction(k2.database) as writing:
        head = {"number": "n", "kind": "sale", "branch_id": "LIS", "sold_ms": 1, "currency": "EUR", "total_minor": 500}
        writing.insert("sale", {"id": "s1", **head})
        writing.announce()
        writing.insert("sale_line", {"id": "l9", "sale_id": "s1", "qty_milli": 1, "unit_price_e4": 1, "amount_minor": 500})
        writing.insert("contact", {"id": "c9", "kind": "person", "name": "Ann", "branch_id": "LIS"})
    assert k2.sync().verdicts["accepted"] == 2
    assert world.sql("SELECT id FROM sale_line") == [("l9",)]


@pytest.mark.covers("P-6.22")
@pytest.mark.parametrize("is_plain", [True, False])
def test_a_document_in_a_new_life_is_on_record_on_either_path(is_plain: bool, world: World, k2: Node) -> None:
    world.node("l3", "branch:LIS")
    world.sql(SALE, "s1", "LIS")
    world.nodes["l3"].sync()
    world.sql("DELETE FROM sale")
    world.nodes["l3"].sync()
    with transaction(k2.database) as writing:
        head = {"number": "n", "kind": "sale", "branch_id": "LIS", "sold_ms": 1, "currency": "EUR", "total_minor": 7}
        writing.insert("sale", {"id": "s1", **head})
        if not is_plain:
            writing.insert("contact", {"id": "c9", "kind": "person", "name": "Ann", "branch_id": "LIS"})
    k2.sync()
    assert world.sql("SELECT rule FROM _conflict") == [("new life",)]


@pytest.mark.covers("P-6.8", "P-6.15")
def test_what_a_rule_of_another_program_refuses_is_held_and_stops_nobody(world: World, k2: Node) -> None:
    """At once, and as held work that is tried again in somebody else's request; approved, it goes in when the rule is gone."""
    other = world.node("other", "branch:ODS")
    words = "the centre's database refuses it: too long a meeting"
    world.forbid("short", "activity", "NEW.minutes > 600", "too long a meeting")
    k2.sql("INSERT INTO activity (id, contact_id, minutes) VALUES ('m1', 'x', 700)")
    k2.sync()
    assert [row["code"] for row in listing(world)] == ["parent"]
    world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('x', 'person', 'X', 'LIS')")
    other.sync()
    assert [(row["code"], row["reason"]) for row in listing(world)] == [("check", words)]
    k2.sync()
    k2.sql("INSERT INTO activity (id, contact_id, minutes) VALUES ('m2', 'x', 800)")
    a_sale(k2, "s1", "LIS")
    k2.sync()
    assert world.sql("SELECT id FROM sale") == [("s1",)]
    assert [(row["key"], row["code"], row["reason"]) for row in listing(world)] == [("m1", "check", words), ("m2", "check", words)]
    assert [row["code"] for row in k2.held()] == ["check", "check"]
    first, second = ids(world)
    act(world, ingest.decide, first, True)
    assert ids(world) == [first, second], "the rule still refuses it"
    world.allow("short", "activity")
    for number in (first, second):
        assert "approve" in [each["do"] for each in listing(world)[0]["can"]]
        act(world, ingest.decide, number, True)
    assert sorted(world.sql("SELECT id FROM activity")) == [("m1",), ("m2",)]
    world.settle()
    assert k2.held() == []
    assert world.agree()


@pytest.mark.covers("P-6.8", "P-6.40")
def test_a_refusal_counts_for_its_node_alone_and_until_the_row_comes_anew(world: World, k2: Node) -> None:
    """What others hang under a key that a stranger had typed by mistake waits for the real one; so does the stranger's own."""
    stranger, colleague = world.node("stranger", "branch:KYV"), world.node("colleague", "branch:LIS")
    stranger.sql(CONTACT, "c7", "LIS")
    stranger.sync()
    colleague.sql(ACTIVITY, "m1", "c7")
    colleague.sync()
    act(world, ingest.decide, ids(world)[0], False)
    assert [row["code"] for row in listing(world)] == ["parent"]
    k2.sql(CONTACT, "c7", "LIS")
    world.settle()
    assert world.sql("SELECT id FROM activity") == [("m1",)]
    stranger.sql(CONTACT, "c8", "LIS")
    stranger.sync()
    act(world, ingest.decide, ids(world)[0], False)
    stranger.sync()
    stranger.sql(CONTACT, "c8", "LIS")
    stranger.sync()
    assert world.sql("SELECT key FROM _refused_key") == [("c7",)]
