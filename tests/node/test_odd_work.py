"""Work that is large, long or odd travels or waits; it never stops the rest."""

from __future__ import annotations

import pytest

from node import cycle, group, retained, sealing
from node.cycle import Cycle
from node.report import Report
from node.writer import transaction
from schema.images import pack_values
from server import held as held_work
from server import ingest, reasons
from sync.limits import MESSAGE_BYTES_MAX, VALUE_BYTES_MAX
from sync.messages import Again, Exceptional, PushRequest
from sync.segment import read_segment
from sync.wire import unpack
from tests.protocol.stories import sale
from tests.world import Node, World


def contact(identity: str, **values: object) -> tuple[str, dict[str, object]]:
    return "contact", {"id": identity, "kind": "person", "name": identity, "branch_id": "A", **values}


def test_a_value_that_is_too_long_waits_here_and_stops_nothing(world: World) -> None:
    k2 = world.node("k2", "branch:A")
    k2.write([contact("c1", note="x" * 2_000_000)])
    k2.write([contact("c2")])
    assert k2.sync().pushed == 1
    assert [entry["code"] for entry in k2.held()] == ["long"]
    assert k2.sql("SELECT LENGTH(note) FROM contact WHERE id = 'c1'") == [(2_000_000,)]
    assert k2.sync().pushed == 0
    assert world.agree()


def test_many_middling_values_travel_in_segments_of_some_megabytes(world: World) -> None:
    k2, l3 = world.node("k2", "branch:A"), world.node("l3", "branch:A")
    with k2.database.writing() as store:
        store.connection.executemany(
            "INSERT INTO contact (id, kind, name, branch_id, note) VALUES (?, 'person', 'x', 'A', ?)",
            [(f"c{i}", f"{i} " + "й" * 5_000) for i in range(1_500)],
        )
    k2.sync()
    assert l3.sync().pulled == 1_500
    assert world.agree()


def test_long_names_in_a_reason_do_not_break_the_reply(world: World) -> None:
    k2 = world.node("k2", "branch:A")
    k2.write([contact("c1", branch_id="Z" * 3000)])
    k2.sql("INSERT INTO activity (id, contact_id) VALUES ('a1', ?)", "x" * 400)
    assert k2.sync().verdicts["held"] == 2
    assert k2.sync().pushed == 0
    assert world.agree()


@pytest.mark.covers("P-6.14")
def test_reasons_that_a_reply_cannot_hold_are_cut_there_and_come_whole_with_the_pull(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "REASONS_BYTES_MAX", 1_001)
    k2 = world.node("k2", "branch:A")
    k2.database.connection.execute("BEGIN")
    for number in range(10):
        k2.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'x', ?)", f"c{number}", "ї" * 300)
    k2.database.connection.execute("COMMIT")
    report = Report()
    Cycle(k2.database, k2.link).push(report)
    assert report.verdicts["held"] == 10
    cut = [entry["reason"] for entry in k2.held()]
    assert sum(len(reason.encode()) for reason in cut) <= 1_001
    k2.sync()
    whole = [entry["reason"] for entry in k2.held()]
    assert whole == ["this contact belongs to branch:" + "ї" * 300 + ", which this node does not write for"] * 10
    assert all(reason.startswith(beginning) and len(beginning) > 60 for reason, beginning in zip(whole, cut, strict=True))
    assert k2.unsynced() == 0
    assert world.agree()


def test_a_push_holds_no_more_transactions_than_a_reply_has_room_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle, "PUSH_TRANSACTIONS", 5)
    k2 = world.node("k2", "branch:A")
    for size in (7, 2, 3, 1):
        k2.database.connection.execute("BEGIN")
        for number in range(size):
            k2.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'x', 'A')", f"{size}-{number}")
        k2.database.connection.execute("COMMIT")
        Cycle(k2.database, k2.link).seal()
    k2.sync()
    pushes = [unpack(PushRequest, body, MESSAGE_BYTES_MAX) for kind, body in k2.link.requests if kind == "push"]
    counts = [[read_segment(sealed.body).transactions for sealed in push.segments] for push in pushes]
    assert [each for each in counts if each] == [[7], [2, 3], [1]]
    assert world.agree()


@pytest.mark.covers("P-7.18")
def test_what_comes_again_comes_without_reasons() -> None:
    again = retained.message_of(pack_values([5, 3, {0: ["held", 5, "right", "x" * 1000]}]), boxed=False)
    assert again == Again(5, 3, False, (Exceptional(0, "held", 5, "right", ""),))


def test_a_parent_in_the_same_segment_is_found_whatever_came_first(world: World) -> None:
    k2 = world.node("k2", "branch:A")
    k2.write([contact("c1")])
    k2.sync()
    k2.database.connection.execute("BEGIN")
    k2.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")
    k2.sql("INSERT INTO contact_tag (contact_id, tag) VALUES ('c1', 'vip')")
    k2.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c2', 'person', 'x', 'A')")
    k2.sql("INSERT INTO contact_tag (contact_id, tag) VALUES ('c2', 'vip')")
    k2.database.connection.commit()
    assert k2.sync().verdicts["held"] == 0
    with transaction(k2.database) as tx:
        tx.insert("activity", {"id": "a1", "contact_id": "c1"})
        tx.announce()
        tx.insert(*contact("c3"))
        tx.insert("activity", {"id": "a2", "contact_id": "c3"})
    assert k2.sync().verdicts["held"] == 0
    assert world.agree()


def test_a_held_transaction_in_parts_is_held_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "SEGMENT_ROWS_MAX", 40)
    monkeypatch.setattr(sealing, "SEGMENT_ROWS", 40)
    monkeypatch.setattr(group, "SEGMENT_ROWS", 40)
    k2 = world.node("k2", "branch:A")
    k2.write([contact(f"c{i}") for i in range(30)])
    k2.write([contact(f"c{i}") for i in range(30, 60)])
    k2.sync()
    with transaction(k2.database) as tx:
        for i in range(60):
            tx.update("contact", (f"c{i}",), {"phone": "X"})
        tx.insert("product", {"id": "p1"})
    assert k2.sync().verdicts["held"] == 1
    assert world.sql("SELECT COUNT(*) FROM contact WHERE phone = 'X'") == [(0,)]
    assert k2.sql("SELECT COUNT(*) FROM contact WHERE phone = 'X'") == [(60,)]
    assert len(k2.held()) == 61
    assert world.agree()


def test_a_document_whose_key_was_changed_is_not_doubled(world: World) -> None:
    k2 = world.node("k2", "branch:A")
    k2.write([("sale", {"id": "s", "number": "1", "kind": "sale", "branch_id": "A", "sold_ms": 1, "currency": "EUR", "total_minor": 1})])
    k2.sync()
    k2.sql("UPDATE sale SET id = 's2' WHERE id = 's'")
    k2.sync()
    assert world.sql("SELECT id FROM sale") == [("s",)]
    assert world.agree()


def test_a_document_on_its_way_whose_key_was_changed_stops_nothing(world: World) -> None:
    k2 = world.node("k2", "branch:A")
    k2.write([("sale", {"id": "s", "number": "1", "kind": "sale", "branch_id": "A", "sold_ms": 1, "currency": "EUR", "total_minor": 1})])
    Cycle(k2.database, k2.link).seal()
    k2.sql("UPDATE sale SET id = 's2' WHERE id = 's'")
    k2.sync()
    k2.write([contact("c1")])
    assert k2.sync().verdicts["accepted"] == 1
    assert world.agree()


def test_a_decision_whose_value_is_too_long_leaves_the_conflict_to_be_decided(world: World) -> None:
    k2, l3 = world.node("k2", "branch:A"), world.node("l3", "branch:A")
    k2.write([contact("c1")])
    world.settle()
    for entry in (k2, l3):
        entry.sql("UPDATE contact SET note = ? WHERE id = 'c1'", entry.name)
    world.settle()
    k2.resolve(k2.conflicts()[0]["id"], None, "x" * (VALUE_BYTES_MAX + 1))
    k2.sync()
    assert [entry["code"] for entry in k2.held()] == ["long"]
    assert [conflict["open"] for conflict in k2.conflicts()] == [True]
    k2.sql("UPDATE contact SET note = 'short' WHERE id = 'c1'")
    world.settle()
    k2.resolve(k2.conflicts()[0]["id"], "mine")
    world.settle()
    assert [conflict["open"] for conflict in (*k2.conflicts(), *l3.conflicts())] == [False, False]
    assert world.agree()


def test_a_transaction_of_too_many_parts_is_kept_once_and_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sealing, group):
        monkeypatch.setattr(module, "SEGMENT_ROWS", 10)
    monkeypatch.setattr(sealing, "SEGMENT_ROWS_MAX", 10)
    monkeypatch.setattr(sealing, "SEGMENT_PARTS_MAX", 2)
    k2 = world.node("k2", "branch:A")
    k2.write([contact(f"c{i}") for i in range(40)])
    k2.write([contact("d1")])
    k2.sync()
    assert {entry["code"] for entry in k2.held()} == {"large"}
    kept = k2.sql("SELECT * FROM _op ORDER BY id")
    k2.write([contact("d2")])
    k2.sync()
    assert k2.sql("SELECT * FROM _op ORDER BY id") == kept
    assert world.sql("SELECT id FROM contact ORDER BY id") == [("d1",), ("d2",)]


def test_a_document_whose_key_was_changed_travels_beside_new_ones(world: World) -> None:
    """Rows from the tables carry their number, changes do not: both in one block could not be sealed, for ever."""
    k2 = world.node("k2", "branch:A")
    move = "INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, moved_ms) VALUES (?, 'p', 'A', 1, 'r', 1)"
    k2.sql(move, "m1")
    k2.sync()
    k2.sql("UPDATE stock_move SET id = 'renamed' WHERE id = 'm1'")
    k2.sql(move, "m2")
    k2.sync()
    assert world.sql("SELECT id FROM stock_move ORDER BY id") == [("m1",), ("m2",)]
    assert {entry["code"] for entry in k2.held()} == {"immutable"}


@pytest.fixture
def pair(world: World) -> tuple[Node, Node]:
    """Two nodes that know a contact; the first one's change of two of its columns is too long to travel."""
    k2, l3 = world.node("k2", "branch:A"), world.node("l3", "branch:A", "branch:B")
    k2.write([contact("c1")])
    world.settle()
    k2.sql("UPDATE contact SET email = ?, note = 'mine' WHERE id = 'c1'", "x" * (VALUE_BYTES_MAX + 1))
    k2.sync()
    return k2, l3


def test_withheld_work_keeps_what_its_writer_knew(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    l3.sql("UPDATE contact SET note = 'yours' WHERE id = 'c1'")
    world.settle()
    k2.sql("UPDATE contact SET email = 'short' WHERE id = 'c1'")
    assert k2.sync().verdicts["ask"] == 1
    assert [(conflict["mine"], conflict["theirs"]) for conflict in k2.conflicts()] == [("mine", "yours")]
    world.settle()
    assert world.agree()


def test_a_withheld_insert_meets_a_key_that_was_taken_meanwhile(world: World) -> None:
    k2, l3 = world.node("k2", "branch:A"), world.node("l3", "branch:A")
    k2.sql("INSERT INTO contact (id, kind, name, branch_id, email) VALUES ('c1', 'person', 'k2', 'A', ?)", "x" * (VALUE_BYTES_MAX + 1))
    k2.sync()
    l3.write([contact("c1", name="l3", note="theirs")])
    world.settle()
    k2.sql("UPDATE contact SET email = 'short' WHERE id = 'c1'")
    world.settle()
    assert {conflict["column"] for conflict in k2.conflicts()} >= {"name", "note"}
    assert world.sql("SELECT note FROM contact") == [("theirs",)]
    assert world.agree()


@pytest.mark.parametrize("how", ["DELETE FROM contact", "UPDATE contact SET branch_id = 'B'"])
def test_withheld_work_on_a_row_that_went_stays_in_sight(world: World, pair: tuple[Node, Node], how: str) -> None:
    k2, l3 = pair
    l3.sql(how)
    world.settle()
    k2.write([contact("c2")])
    k2.sync()
    assert k2.sql("SELECT id FROM contact") == [("c2",)]
    assert [(entry["key"], entry["code"]) for entry in k2.held()] == [("c1", "long")]


def test_refused_work_can_be_read_whole(world: World) -> None:
    k2 = world.node("k2", "branch:A")
    k2.write([contact("c1", branch_id="B", note="важная заметка")])
    k2.sync()
    assert k2.held()[0]["values"]["note"] == "важная заметка"  # type: ignore[index]
    with world.database.writing() as store:
        ingest.decide(store, held_work.waiting(store)[0].id, approve=False, now_ms=world.clock.read())
    k2.sync()
    assert k2.sql("SELECT * FROM contact") == []
    assert [(entry["verdict"], entry["change"], entry["values"]["note"]) for entry in k2.held()] == [
        ("refused", "insert", "важная заметка")
    ]


@pytest.mark.parametrize("is_set_aside", [False, True])
@pytest.mark.parametrize("change", ["UPDATE sale SET total_minor = 7", "DELETE FROM sale"])
def test_a_damaged_segment_stops_nothing_when_its_sale_is_touched(world: World, is_set_aside: bool, change: str) -> None:
    k2 = world.node("k2", "branch:LON")
    k2.write(sale("s1"))
    k2.sql("UPDATE _segment SET body = substr(body, 1, 20)")
    if is_set_aside:
        k2.sync()
        assert [each["code"] for each in k2.held()] == ["unreadable"]
    k2.sql(change)
    k2.write(sale("s2"))
    k2.sync()
    k2.sync()
    assert world.sql("SELECT id FROM sale") == [("s2",)]


@pytest.mark.covers("P-5.19", "P-6.42")
def test_what_hangs_under_a_client_that_was_given_up_does_not_wait(world: World) -> None:
    """Plain SQL leaves the tag, which cannot be without its client: the client is given up all the same."""
    k2 = world.node("k2", "branch:A", "owner:e1")
    k2.sync()
    connection = k2.database.connection
    connection.execute("BEGIN")
    connection.execute("INSERT INTO contact (id, kind, name, branch_id, note) VALUES ('c1', 'person', 'x', 'A', ?)", ("x" * 2_000_000,))
    connection.execute("INSERT INTO contact_tag (contact_id, tag) VALUES ('c1', 'vip')")
    connection.execute("COMMIT")
    k2.sync()
    k2.sql("INSERT INTO deal (id, contact_id, owner_id) VALUES ('d1', 'c1', 'e1')")
    k2.sync()
    assert ("d1", "parent") in [(each["key"], each["code"]) for each in k2.held()]
    k2.sql("DELETE FROM contact")
    world.settle()
    assert [each for each in k2.held() if each["verdict"] == "held"] == []
    assert world.sql("SELECT id FROM deal") == [("d1",)]
    assert world.agree()


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_sale_that_was_shortened_is_sent_whatever_became_of_the_client(world: World, is_told: bool, is_deleted: bool) -> None:
    k2 = world.node("k2", "branch:A")
    k2.write([contact("c1")])
    k2.sync()
    with transaction(k2.database) as writing:
        writing.update("contact", ("c1",), {"phone": "1"})
        ((table, values), *_) = sale("s1")
        writing.insert(table, {**values, "number": "x" * 2_000_000, "branch_id": "A"})
    k2.sync()
    if is_deleted:
        k2.sql("DELETE FROM contact")
    if is_told:
        k2.sync()
    k2.sql("UPDATE sale SET number = 'A-1-1'")
    world.settle()
    assert world.sql("SELECT number FROM sale") == [("A-1-1",)]
    assert k2.held() == []
    assert world.agree()
