"""Held work on the node: the list, and what its people can do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node import held
from node.cycle import Cycle
from node.report import Report
from node.writer import transaction
from schema.exporting import write_new
from server import held as held_work
from server import ingest
from sync.errors import BadValue, NoSuch
from tests.node.furnished import behind
from tests.server.test_held import ACTIVITY, CONTACT, SALE, a_sale, act, ids, listing
from tests.simulation.test_rules import Told
from tests.world import Node, World

LONG = "x" * 2_000_000


@pytest.fixture
def k2(world: World) -> Node:
    return world.node("k2", "branch:LIS", "owner:e1")


def correct(node: Node, identity: str, *changes: str, row: str | None = None) -> dict[str, Any]:
    return held.correct(node.database, identity, changes, row)


def withdraw(node: Node, identity: str) -> dict[str, Any]:
    return held.withdraw(node.database, identity)


def test_the_list_says_why_and_what_can_be_done(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    k2.sql(ACTIVITY, "a1", "c1")
    k2.sync()
    contact, activity = k2.held()
    assert contact["why"] == "It belongs to a branch or owner this node does not write for."
    assert contact["dependants"] == [activity["id"]]
    assert [way["do"] for way in contact["can"]] == ["wait", "correct", "withdraw", "ask", "ask"]
    assert [way["do"] for way in activity["can"]] == ["wait", "withdraw"]
    assert contact["can"][1]["command"] == f"outpost node held correct {contact['id']} --set COLUMN=VALUE"
    assert contact["at_ms"] < activity["at_ms"]


@pytest.mark.covers("P-5.20")
def test_a_command_corrects_as_plain_sql_does(world: World, k2: Node) -> None:
    a_sale(k2, "s1", "OPO")
    k2.sync()
    identity = k2.held()[0]["id"]
    done = correct(k2, identity[:6], "branch_id=LIS", "total_minor=700")
    assert (done["table"], done["key"], done["values"]) == ("sale", "s1", {"branch_id": "LIS", "total_minor": 700})
    assert {each["on_its_way"] for each in k2.held()} == {"correction"}
    k2.sync()
    assert world.sql("SELECT branch_id, total_minor FROM sale") == [("LIS", 700)]
    assert k2.held() == []
    assert world.agree()


@pytest.mark.covers("P-5.20", "P-6.37")
@pytest.mark.parametrize("again", [False, True])
def test_a_correction_comes_after_what_it_changes(world: World, k2: Node, again: bool) -> None:
    """t1 is held; t2, on its way, hangs a row under it and deletes another; t3 corrects t1, deletes the one and brings back the
    other. It takes the place of t1, and t2 must not come after it. Found by the simulator: base,restore 70055.
    """
    k2.sql(CONTACT, "c2", "LIS")
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    with transaction(k2.database) as tx:
        tx.connection.execute(ACTIVITY, ("a1", "c1"))
        tx.connection.execute("DELETE FROM contact WHERE id = 'c2'")
    Cycle(k2.database, k2.link).seal()
    with transaction(k2.database) as tx:
        tx.connection.execute("UPDATE contact SET branch_id = 'LIS' WHERE id = 'c1'")
        if again:
            tx.connection.execute(CONTACT, ("c2", "LIS"))
        else:
            tx.connection.execute("DELETE FROM activity WHERE id = 'a1'")
    k2.sync()
    assert world.sql("SELECT id FROM contact ORDER BY id") == ([("c1",), ("c2",)] if again else [("c1",)])
    assert world.sql("SELECT id FROM activity") == k2.sql("SELECT id FROM activity") == ([("a1",)] if again else [])
    assert k2.held() == []
    k2.sync()
    assert world.agree()


@pytest.mark.covers("P-5.7", "P-5.20", "P-8.30")
@pytest.mark.parametrize("last", ["LIS", "FAR"])
@pytest.mark.parametrize("ours", [True, False])
def test_rows_of_one_held_transaction_are_corrected_row_by_row(world: World, k2: Node, ours: bool, last: str) -> None:
    """One statement of a foreign program is one correction; our own code may make several in one segment, each of one row. The
    centre takes them as one, and holds all of it where one row is wrong still.
    """
    k2.write([("contact", {"id": f"c{number}", "kind": "person", "name": "Ann", "branch_id": "OPO"}) for number in range(4)])
    k2.sync()
    if ours:
        with transaction(k2.database) as tx:
            for number in range(4):
                tx.update("contact", (f"c{number}",), {"branch_id": last if number == 3 else "LIS"})
                tx.announce()
    else:
        k2.sql("UPDATE contact SET branch_id = iif(id = 'c3', ?, 'LIS')", last)
    Cycle(k2.database, k2.link).seal()
    assert k2.unsynced() == (4 if ours else 1)
    k2.sync()
    assert {row["key"] for row in k2.held()} == (set() if last == "LIS" else {"c0", "c1", "c2", "c3"})
    assert world.sql("SELECT COUNT(*) FROM contact") == [(4 if last == "LIS" else 0,)]
    assert world.agree()
    k2.sql("UPDATE contact SET branch_id = 'LIS' WHERE id = 'c3'")
    k2.sync()
    assert k2.sql("SELECT id, branch_id FROM contact") == world.sql("SELECT id, branch_id FROM contact")
    assert (k2.held(), k2.sql("SELECT * FROM _op"), k2.sql("SELECT * FROM _txn"), k2.sql("SELECT * FROM _withdrawal")) == ([], [], [], [])
    assert world.agree()


def test_a_correction_that_came_too_late_takes_no_place(world: World, k2: Node) -> None:
    """What it meant to correct is in the books, and settled here, before the edit itself is held. Found by the simulator: 53077."""
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    k2.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")
    Cycle(k2.database, k2.link).seal()
    with world.database.writing() as store:
        ingest.decide(store, ids(world)[0], True, world.clock.read())
    Cycle(k2.database, k2.link).pull(Report())
    k2.sync()
    assert [(row["key"], row["change"], row["code"], row["on_its_way"]) for row in k2.held()] == [("c1", "update", "right", None)]
    assert k2.sql("SELECT * FROM _withdrawal") == []


@pytest.mark.covers("P-6.43")
def test_a_correction_that_the_centre_cannot_read_is_not_on_its_way(world: World, k2: Node) -> None:
    """It is set aside, so the list says again what can be done about the held work; a new correction goes in."""
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    k2.sql("UPDATE contact SET branch_id = 'LIS' WHERE id = 'c1'")
    Cycle(k2.database, k2.link).seal()
    k2.sql("UPDATE _segment SET body = zeroblob(length(body)) WHERE version IS NULL")
    k2.sync()
    (waits,) = [row for row in k2.held() if row["code"] == "right"]
    assert (waits["on_its_way"], waits["can"] != []) == (None, True)
    k2.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")
    k2.sync()
    assert [(each["values"]["branch_id"], each["values"]["phone"]) for each in listing(world)] == [("OPO", "1")]


def test_a_row_of_several_is_named(world: World, k2: Node) -> None:
    a_sale(k2, "s1", "OPO")
    k2.sync()
    identity = k2.held()[0]["id"]
    correct(k2, identity, "amount_minor=1", row="sale_line")
    correct(k2, identity, "branch_id=LIS", row="sale:s1")
    k2.sync()
    assert world.sql("SELECT amount_minor FROM sale_line") == [(1,)]
    assert (world.sql("SELECT branch_id FROM sale"), k2.held()) == ([("LIS",)], [])
    assert world.agree()


def test_a_sale_is_corrected_in_one_go(world: World, k2: Node) -> None:
    """The first correction may be enough to let it in; a second one of the same sale would change what is in the books."""
    a_sale(k2, "s1", "OPO")
    k2.sync()
    identity = k2.held()[0]["id"]
    correct(k2, identity, "branch_id=LIS", row="sale:s1")
    with pytest.raises(BadValue, match="goes with the next sync already"):
        correct(k2, identity, "number=2", row="sale:s1")
    k2.sync()
    assert (world.sql("SELECT branch_id FROM sale"), k2.held()) == ([("LIS",)], [])


def test_what_makes_no_sense_changes_nothing(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    identity = k2.held()[0]["id"]
    for wrong in (["phone"], ["nothing=1"], ["credit_limit_minor=much"]):
        with pytest.raises(BadValue):
            correct(k2, identity, *wrong)
    with pytest.raises(BadValue):
        correct(k2, identity, "phone=1", row="deal")
    for unknown in ("", "zz", "0000000000"):
        with pytest.raises(NoSuch):
            correct(k2, unknown, "phone=1")
    assert not k2.database.has_changes()
    assert k2.sync().pushed == 0


@pytest.mark.covers("P-9.16")
@pytest.mark.parametrize("withdrawn", [True, False])
def test_a_repair_does_not_offer_what_was_withdrawn_or_is_held(world: World, k2: Node, withdrawn: bool) -> None:
    """A row that stayed in sight although its work was taken back, or though it waits at the centre: it is put aside, not sent anew."""
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    if withdrawn:
        withdraw(k2, k2.held()[0]["id"])
        k2.sync()
        columns = "INSERT INTO contact (_rid, id, kind, name, branch_id) VALUES (-7, 'c1', 'person', 'n', 'LIS')"
        behind(k2, "DELETE FROM _quarantine", columns)
    else:
        behind(k2, "DELETE FROM _op", "DELETE FROM _shadow", "DELETE FROM _txn")
    assert [(row["key"], row["what"]) for row in k2.compared()["rows"]] == [("c1", "not at the centre")]
    done = k2.repaired()
    assert (done["equal"], done["repaired"]["offered"], done["repaired"]["put_aside"]) == (True, 0, 1)
    assert k2.sync().pushed == 0
    assert [(each["key"], each["code"]) for each in k2.held()] == [("c1", "verify")]


@pytest.mark.covers("P-6.38", "P-8.14")
def test_withdrawn_work_leaves_sight_when_the_centre_has_taken_it_back(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    withdraw(k2, k2.held()[0]["id"])
    assert k2.sql("SELECT id FROM contact") == [("c1",)]
    assert k2.held()[0]["on_its_way"] == "withdrawal"
    k2.sync()
    assert k2.sql("SELECT id FROM contact") == []
    assert (k2.held(), listing(world)) == ([], [])
    assert [(each["key"], each["code"]) for each in k2.held(withdrawn=True)] == [("c1", "withdrawn")]
    assert world.agree()


@pytest.mark.parametrize("by_command", [True, False])
def test_what_was_corrected_is_not_withdrawn_before_the_correction_was_judged(world: World, k2: Node, by_command: bool) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    identity = k2.held()[0]["id"]
    if by_command:
        correct(k2, identity, "branch_id=LIS")
    else:
        k2.sql("UPDATE contact SET branch_id = 'LIS' WHERE id = 'c1'")
    with pytest.raises(BadValue, match=r"correction .* on its way already.* outpost node sync"):
        withdraw(k2, identity)
    assert [each["on_its_way"] for each in k2.held()] == ["correction"]
    correct(k2, identity, "name=Ben")  # twice is one correction
    world.settle()
    assert (k2.held(), world.sql("SELECT name, branch_id FROM contact")) == ([], [("Ben", "LIS")])


def test_what_was_withdrawn_is_not_corrected_before_the_centre_has_taken_it_back(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    identity = k2.held()[0]["id"]
    withdraw(k2, identity)
    with pytest.raises(BadValue, match=r"withdrawal .* on its way already.* outpost node sync"):
        correct(k2, identity, "branch_id=LIS")
    k2.sync()
    correct(k2, identity, "branch_id=LIS")
    world.settle()
    assert (k2.held(), world.sql("SELECT id, branch_id FROM contact")) == ([], [("c1", "LIS")])


def test_a_withdrawal_comes_too_late_for_what_was_approved(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    withdraw(k2, k2.held()[0]["id"])
    act(world, ingest.decide, ids(world)[0], True)
    k2.sync()
    assert world.sql("SELECT id FROM contact") == [("c1",)]
    assert (k2.held(), k2.held(withdrawn=True)) == ([], [])
    assert world.agree()


@pytest.mark.parametrize("fate", ["refused", "withdrawn"])
def test_what_was_refused_or_withdrawn_is_sent_again_corrected(world: World, k2: Node, fate: str) -> None:
    a_sale(k2, "s1", "OPO")
    k2.sync()
    if fate == "refused":
        act(world, ingest.decide, ids(world)[0], False)
    else:
        withdraw(k2, k2.held()[0]["id"])
    k2.sync()
    assert k2.sql("SELECT id FROM sale") == []
    identity = k2.held(withdrawn=fate == "withdrawn")[0]["id"]
    correct(k2, identity, "branch_id=LIS")
    assert k2.sync().verdicts["accepted"] == 1
    assert world.sql("SELECT branch_id FROM sale JOIN sale_line ON sale_id = sale.id") == [("LIS",)]
    assert k2.held() == []
    assert {each["code"] for each in k2.held(withdrawn=True)} == {"replaced"}
    with pytest.raises(NoSuch):
        correct(k2, identity, "branch_id=LIS")
    assert world.agree()


def test_a_deletion_has_nothing_to_correct(world: World, k2: Node) -> None:
    k2.sql("INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES ('s9', '9', 'sale', 'LIS', 1, 'EUR', 5)")
    k2.sync()
    k2.sql("DELETE FROM sale WHERE id = 's9'")
    k2.sync()
    (waits,) = k2.held()
    with pytest.raises(BadValue, match="deletes that row"):
        correct(k2, waits["id"], "total_minor=6")
    assert k2.held() == [waits]


def test_withheld_work_is_withdrawn_at_once_and_its_dependants_with_it(world: World, k2: Node) -> None:
    k2.sql("INSERT INTO contact (id, kind, name, branch_id, note) VALUES ('c1', 'person', 'Ann', 'LIS', ?)", LONG)
    k2.sql(ACTIVITY, "a1", "c1")
    k2.sync()
    assert {each["key"]: each["code"] for each in k2.held()} == {"c1": "long", "a1": "parent"}
    withdraw(k2, next(each["id"] for each in k2.held() if each["code"] == "long"))
    assert k2.sql("SELECT id FROM contact") == []
    assert k2.held(withdrawn=True)[0]["values"]["note"] == LONG
    assert not k2.database.has_changes()
    k2.sync()
    assert listing(world) == []
    assert [(each["key"], each["code"]) for each in k2.held()] == [("a1", "gone")]
    assert world.agree()


def test_withheld_work_is_corrected_by_command(world: World, k2: Node) -> None:
    k2.sql("INSERT INTO contact (id, kind, name, branch_id, note) VALUES ('c1', 'person', 'Ann', 'LIS', ?)", LONG)
    k2.sync()
    correct(k2, k2.held()[0]["id"], "note=short")
    k2.sync()
    assert world.sql("SELECT note FROM contact") == [("short",)]
    assert k2.held() == []
    assert world.agree()


def test_an_export_holds_every_value(world: World, k2: Node, tmp_path: Path) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sql(CONTACT, "c2", "OPO")
    k2.sync()
    withdraw(k2, k2.held()[0]["id"])
    k2.sync()
    write_new(tmp_path / "held.json", held.export(k2.database.store))
    document = json.loads((tmp_path / "held.json").read_text(encoding="utf-8"))
    assert document["format"] == "outpost-held-1"
    assert [each["key"] for each in document["held"]] == ["c2"]
    assert [(each["key"], each["values"]["name"]) for each in document["withdrawn"]] == [("c1", "Ann")]
    assert {change["key"] for work in document["sealed"] for change in work["changes"]} == {"c1", "c2"}


def test_a_held_difference_and_its_correction_count_once() -> None:
    """A client of another branch gets 5 points more, then 2 more: 7, whoever else adds meanwhile."""
    from random import Random

    from tests.simulation.world import pool, seeded

    pool(None)
    with seeded(Random(1)):
        world = Told(1)
        node, other = world.node("k2", "branch:A", "owner:o1"), world.node("l3", "branch:A", "branch:B")
        world.sql("INSERT INTO client (id, branch, owner, points) VALUES ('c1', 'B', 'o1', 10)")
        world.settle()
        with world.database.writing() as store:
            from server import nodes

            nodes.rescope(store, "k2", ["branch:A"], world.clock.read())
        node.sql("UPDATE client SET points = points + 5, branch = 'C' WHERE id = 'c1'")
        Cycle(node.database, node.link).seal()
        other.sql("UPDATE client SET points = points + 100 WHERE id = 'c1'")
        other.sync()
        node.sql("UPDATE client SET points = points + 2 WHERE id = 'c1'")
        world.settle()
        while True:
            with world.database.reading() as store:
                waiting = held_work.waiting(store)
            if not waiting:
                break
            act(world, ingest.decide, waiting[0].id, True)
        world.settle()
        assert world.sql("SELECT points FROM client") == [(117,)]
        assert world.agree()
        world.close()


def test_an_edit_of_a_held_row_that_went_is_not_lost(world: World, k2: Node) -> None:
    """The row left this node; the held change of it can be withdrawn, or approved; by command it says so."""
    k2.sql(CONTACT, "c1", "LIS")
    k2.sync()
    k2.sql("UPDATE contact SET phone = CAST(x'ff' AS TEXT) WHERE id = 'c1'")
    k2.sync()
    world.sql("UPDATE contact SET branch_id = 'OPO'")
    k2.sync()
    assert k2.sql("SELECT id FROM contact") == []
    with pytest.raises(BadValue, match="not on this node"):
        correct(k2, k2.held()[0]["id"], "phone=1")
    withdraw(k2, k2.held()[0]["id"])
    k2.sync()
    assert (k2.held(), listing(world)) == ([], [])
    assert len(k2.held(withdrawn=True)) == 1
    assert world.agree()


def test_a_row_that_a_correction_took_back_hides_nobody_elses(world: World) -> None:
    """The key was another's; what took the place of the insert deletes it, and is held for something else. Seed 2001432."""
    k2, l3 = world.node("k2", "branch:A"), world.node("l3", "branch:B")
    l3.write([("contact", {"id": "c9", "kind": "person", "name": "theirs", "branch_id": "B"})])
    l3.sync()
    k2.write([("contact", {"id": "c9", "kind": "person", "name": "mine", "branch_id": "A"})])
    assert {entry["code"] for entry in synced(k2).held()} == {"key"}
    with transaction(k2.database) as writing:
        writing.connection.execute("DELETE FROM contact WHERE id = 'c9'")
        writing.insert("contact", {"id": "c10", "kind": "person", "name": "nowhere's", "branch_id": "Z"})
    assert {entry["code"] for entry in synced(k2).held()} == {"right"}
    (replaced,) = {entry["id"] for entry in k2.held(withdrawn=True)}
    world.rescope("k2", "branch:A", "branch:B")
    k2.sync()
    assert k2.sql("SELECT id, name FROM contact ORDER BY id") == [("c10", "nowhere's"), ("c9", "theirs")]
    k2.sql("UPDATE contact SET name = 'edited' WHERE id = 'c9'")  # it corrects nothing: it is an edit of theirs
    assert {entry["id"] for entry in synced(k2).held(withdrawn=True)} == {replaced}
    l3.sql("UPDATE contact SET phone = '123' WHERE id = 'c9'")
    world.settle()
    row = [("edited", "123")]
    assert [node.sql("SELECT name, phone FROM contact WHERE id = 'c9'") for node in (k2, l3)] == [row, row]


def synced(node: Node) -> Node:
    node.sync()
    return node


@pytest.mark.covers("P-8.13")
@pytest.mark.parametrize("how", ["withdrawn", "deleted", "head alone deleted", "refused"])
def test_a_document_typed_anew_stays_when_what_waited_under_its_key_is_settled(how: str, world: World, k2: Node) -> None:
    """The accepted sale went from view with the held one before it, and every sync said that one row differs."""
    a_sale(k2, "s1", "OPO")
    k2.sync()
    if how == "withdrawn":
        withdraw(k2, k2.held()[0]["id"])
    if how == "refused":
        act(world, ingest.decide, ids(world)[0], False)
    if how != "head alone deleted":
        k2.sql("DELETE FROM sale_line")
    k2.sql("DELETE FROM sale")
    if how == "head alone deleted":
        k2.sql(SALE, "s1", "LIS")
    else:
        a_sale(k2, "s1", "LIS")
    for _ in range(2):
        k2.sync()
    assert world.sql("SELECT id, branch_id FROM sale") == k2.sql("SELECT id, branch_id FROM sale") == [("s1", "LIS")]
    assert k2.verify()


@pytest.mark.covers("P-6.37")
def test_corrections_of_corrections_are_judged_in_the_order_of_what_they_correct(world: World, k2: Node) -> None:
    """The second correction takes in the first one, and what that had corrected; found by reading, and by seed 62001025."""

    def write(*changes: tuple[str, str, dict[str, Any]]) -> None:
        with transaction(k2.database) as writing:
            for table, key, values in changes:
                if not writing.update(table, (key,), values):
                    writing.insert(table, {"id": key, **values})

    world.sql(CONTACT.replace("'Ann'", "'old'"), "x", "LIS")
    k2.sync()
    write(("contact", "r", {"kind": "person", "name": "n1", "branch_id": "OPO", "city": "c1"}))
    write(("contact", "r", {"name": "n2"}), ("contact", "x", {"name": "x2"}))
    k2.sync()
    write(("contact", "x", {"name": "x3"}))
    k2.sync()
    write(("contact", "r", {"city": "c2"}))
    k2.sync()
    act(world, ingest.decide, ids(world)[0], True)
    world.settle()
    assert world.sql("SELECT id, name, city FROM contact ORDER BY id") == [("r", "n2", "c2"), ("x", "x3", None)]


def test_what_was_long_is_kept_where_its_row_has_gone_meanwhile(world: World, k2: Node) -> None:
    other = world.node("l3", "branch:LIS")
    k2.sql(CONTACT, "c1", "LIS")
    world.settle(2)
    k2.sql("UPDATE contact SET note = ? WHERE id = 'c1'", LONG)
    k2.sync()
    other.sql("DELETE FROM contact")
    other.sync()
    k2.sync()
    k2.sql(CONTACT, "c1", "LIS")
    k2.sync()
    kept = [each["values"].get("note") for each in (*k2.held(), *k2.held(withdrawn=True))]
    assert LONG in kept


@pytest.mark.parametrize("text", ["10" * 20, str(2**63), "1_000", "٣", "1.5", "", "0x1"])
def test_what_no_integer_column_holds_is_not_written(text: str, world: World, k2: Node) -> None:
    a_sale(k2, "s1", "OPO")
    k2.sync()
    before = k2.held()
    with pytest.raises(BadValue, match="total_minor"):
        correct(k2, before[0]["id"], f"total_minor={text}")
    assert k2.held() == before
    assert correct(k2, before[0]["id"], f"total_minor=-{2**63}")["values"] == {"total_minor": -(2**63)}
