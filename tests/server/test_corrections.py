"""What held work and its corrections make together: all of what was typed, once, on all sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import held
from node.cycle import Cycle
from node.writer import transaction
from schema.declare import Kind, Through
from schema.registry import Schema, build
from server import ingest
from tests.declared import declare
from tests.healing.copies import clone, copy_of, put_back_centre
from tests.server.test_held import CONTACT, LINE, a_sale, act, ids, listing
from tests.simulation.schema import simulated_schema
from tests.world import Node, World

RAW = "CAST(x'ff' AS TEXT)"
CLIENT = "SELECT points, labels FROM client"


@pytest.fixture
def k2(world: World) -> Node:
    return world.node("k2", "branch:LIS")


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[World]:
    """A world with tables that have sums and sets of elements, and two nodes of one branch."""
    made = World(tmp_path / "clients", simulated_schema())
    made.node("k2", "branch:A")
    made.node("l3", "branch:A", "branch:Z")
    yield made
    made.close()


def fates(node: Node) -> list[tuple[str, str, str]]:
    return [(each["key"], each["verdict"], each["code"]) for each in (*node.held(), *node.held(withdrawn=True))]


@pytest.mark.covers("P-5.20", "P-8.13")
@pytest.mark.parametrize("change", ["DELETE FROM sale_line WHERE id = 'l2'", "UPDATE sale_line SET amount_minor = 7 WHERE id = 'l2'"])
def test_a_correction_that_also_changes_a_line_on_its_way_takes_that_along(world: World, k2: Node, change: str) -> None:
    a_sale(k2, "s1", "OPO")
    k2.sync()
    k2.sql(LINE, "l2", "s1")
    Cycle(k2.database, k2.link).seal()
    k2.database.connection.execute("BEGIN")
    k2.sql("UPDATE sale SET branch_id = 'LIS' WHERE id = 's1'")
    k2.sql(change)
    k2.database.connection.execute("COMMIT")
    typed = k2.sql("SELECT id, amount_minor FROM sale_line ORDER BY id")
    world.settle()
    assert world.sql("SELECT id, amount_minor FROM sale_line ORDER BY id") == typed
    assert (listing(world), k2.held()) == ([], [])
    assert world.agree()


@pytest.mark.covers("P-5.20")
def test_with_a_correction_goes_what_the_work_that_goes_with_it_was_typed_on(world: World, k2: Node) -> None:
    """Found by the simulator (seed 94002276): judged in the place of c1, the deletion of c2 came before c2, which then stood."""
    k2.sql(CONTACT, "c1", "OPO")
    k2.sql(CONTACT, "c2", "OPO")
    with transaction(k2.database) as writing:
        writing.connection.execute("UPDATE contact SET phone = '1' WHERE id = 'c1'")
        writing.connection.execute("DELETE FROM contact WHERE id = 'c2'")
    assert k2.sync().verdicts["held"] == 3
    k2.sql("UPDATE contact SET branch_id = 'LIS' WHERE id = 'c1'")
    world.settle()
    assert world.sql("SELECT id, phone FROM contact") == k2.sql("SELECT id, phone FROM contact") == [("c1", "1")]
    assert (listing(world), k2.held()) == ([], [])
    assert world.agree()


@pytest.mark.covers("P-5.20")
@pytest.mark.parametrize("between", [False, True])
def test_with_a_correction_goes_what_brings_its_parent_and_waits_for_it(world: World, k2: Node, between: bool) -> None:
    """Found by a reader: the client waited for the deal that its correction mentions, and the deal for the client."""
    k2.sql(CONTACT, "c9", "LIS")
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    with transaction(k2.database) as writing:
        writing.insert("deal", {"id": "d2" if between else "d1", "contact_id": "c1", "title": "a roof"})
    if between:  # the deal waits for the client by way of another one
        with transaction(k2.database) as writing:
            writing.update("deal", ("d2",), {"title": "a gate"})
            writing.insert("deal", {"id": "d1", "contact_id": "c9", "title": "a door"})
    k2.sync()
    with transaction(k2.database) as writing:
        writing.update("contact", ("c1",), {"branch_id": "LIS"})
        writing.insert("stage_event", {"id": "e1", "deal_id": "d1", "stage_id": "won", "entered_ms": 1})
    world.settle()
    assert (listing(world), k2.held()) == ([], [])
    assert world.sql("SELECT deal_id FROM stage_event") == [("d1",)]
    assert world.sql("SELECT id, title FROM deal ORDER BY id") == k2.sql("SELECT id, title FROM deal ORDER BY id")
    assert world.agree()


@pytest.mark.covers("P-6.37", "P-2.12")
@pytest.mark.parametrize(
    ("column", "begin", "held_first", "others", "corrected"),
    [
        ("labels", '["a"]', '["a","b"]', '["a","b"]', '["a"]'),
        ("points", None, 5, 3, None),
        ("points", 10, 15, 20, 15),
        ("points", 0, 1 << 62, 1 << 62, 5),
    ],
)
def test_differences_of_held_work_and_its_correction_stay_one_after_the_other(
    clients: World, column: str, begin: Any, held_first: Any, others: Any, corrected: Any
) -> None:
    k2, l3 = clients.nodes["k2"], clients.nodes["l3"]
    clients.sql(f"INSERT INTO client (id, branch, {column}) VALUES ('c1', 'A', ?)", begin)
    clients.settle()
    k2.sql(f"UPDATE client SET {column} = ?, name = {RAW} WHERE id = 'c1'", held_first)
    k2.sync()
    l3.sql(f"UPDATE client SET {column} = ? WHERE id = 'c1'", others)
    l3.sync()
    k2.sync()
    k2.sql(f"UPDATE client SET {column} = ?, name = 'ok' WHERE id = 'c1'", corrected)
    clients.settle()
    assert clients.sql(f"SELECT {column} FROM client") == k2.sql(f"SELECT {column} FROM client")
    assert clients.agree()


@pytest.mark.covers("P-2.12")
def test_refused_work_sent_again_adds_to_what_stands_now(clients: World) -> None:
    k2, l3 = clients.nodes["k2"], clients.nodes["l3"]
    clients.sql("INSERT INTO client (id, branch, points, labels) VALUES ('c1', 'A', 10, '[\"x\"]')")
    clients.settle()
    k2.sql(f"UPDATE client SET points = points + 5, labels = '[\"x\",\"y\"]', name = {RAW} WHERE id = 'c1'")
    k2.sync()
    l3.sql("UPDATE client SET points = points + 100, labels = '[\"x\",\"z\"]' WHERE id = 'c1'")
    l3.sync()
    act(clients, ingest.decide, ids(clients)[0], False)
    clients.settle()
    assert k2.sql(CLIENT) == [(110, '["x","z"]')]
    held.correct(k2.database, k2.held()[0]["id"], ["name=Ann"])
    clients.settle()
    assert clients.sql(CLIENT) == [(115, '["x","y","z"]')]
    assert clients.agree()


@pytest.mark.parametrize(("setting", "key"), [("branch_id=LIS", "c1"), ("id=c2", "c2")])
def test_what_is_set_in_a_refused_correction_is_what_is_sent(world: World, k2: Node, setting: str, key: str) -> None:
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    k2.sql("UPDATE contact SET branch_id = ?, phone = '1' WHERE id = 'c1'", "FAR" if key == "c1" else "OPO")
    k2.sync()
    act(world, ingest.decide, ids(world)[0], False)
    k2.sync()
    changes = [setting] if key == "c1" else [setting, "branch_id=LIS"]
    held.correct(k2.database, k2.held()[0]["id"], changes)
    k2.sync()
    assert world.sql("SELECT id, branch_id, phone FROM contact") == [(key, "LIS", "1")]
    assert k2.held() == []
    assert world.agree()


def test_a_refused_row_with_text_that_is_none_is_sent_again_with_another_column_set(world: World, k2: Node) -> None:
    k2.sql(f"INSERT INTO contact (id, kind, name, branch_id, note) VALUES ('c1', 'person', 'Ann', 'OPO', {RAW})")
    k2.sync()
    act(world, ingest.decide, ids(world)[0], False)
    k2.sync()
    held.correct(k2.database, k2.held()[0]["id"], ["branch_id=LIS"])
    assert k2.sync().verdicts["held"] == 1
    assert k2.sql("SELECT branch_id, HEX(note) FROM contact") == [("LIS", "FF")]


@pytest.mark.covers("P-6.42")
def test_a_deletion_of_what_was_approved_meanwhile_is_judged(world: World, k2: Node) -> None:
    """The node has not heard that its row came; it may not write where that stands: the deletion is held as an edit would be."""
    k2.sql(CONTACT, "c1", "OPO")
    k2.sync()
    act(world, ingest.decide, ids(world)[0], True)
    k2.sql("DELETE FROM contact WHERE id = 'c1'")
    assert k2.sync().verdicts["held"] == 1
    assert [(each["change"], each["code"]) for each in listing(world)] == [("delete", "right")]
    act(world, ingest.decide, ids(world)[0], True)
    world.settle()
    assert world.sql("SELECT id FROM contact") == []
    assert world.agree()


@pytest.mark.covers("P-7.7", "P-6.36")
@pytest.mark.parametrize("backup", ["before", "after"])
def test_work_sent_again_counts_once_after_a_restore(clients: World, backup: str) -> None:
    """t0 brings a client of others, t1 a visit under it and a sum; t1 is refused and sent again as t2. Restored, all three wait."""
    k2 = clients.nodes["k2"]
    clients.sql("INSERT INTO client (id, branch, points) VALUES ('c1', 'A', 10)")
    clients.settle()
    copies = [copy_of(clients.database.path)]
    k2.sql("INSERT INTO client (id, branch, name) VALUES ('c0', 'Z', 'new')")
    k2.sync()
    with transaction(k2.database) as writing:
        writing.connection.execute("INSERT INTO visit (id, client_id) VALUES ('v1', 'c0')")
        writing.connection.execute("UPDATE client SET points = points + 5 WHERE id = 'c1'")
    k2.sync()
    copies.append(copy_of(clients.database.path))
    first, second = ids(clients)
    act(clients, ingest.decide, second, False)
    k2.sync()
    [refused] = {each["id"] for each in k2.held() if each["verdict"] == "refused"}
    held.correct(k2.database, refused, ["topic=t"], row="visit:v1")
    k2.sync()
    act(clients, ingest.decide, first, True)
    for each in ids(clients):
        act(clients, ingest.decide, each, True)
    clients.settle()
    assert clients.sql("SELECT points FROM client WHERE id = 'c1'") == [(15,)]
    put_back_centre(clients, copies[backup == "after"])
    clients.settle(4)
    for _ in range(4):
        if waiting := ids(clients):
            act(clients, ingest.decide, waiting[0], True)
        clients.settle()
    assert clients.sql("SELECT points FROM client WHERE id = 'c1'") == [(15,)]
    assert listing(clients) == []
    assert clients.agree()


@pytest.mark.covers("P-6.36", "P-6.38")
def test_a_withdrawal_together_with_an_edit_of_the_row_is_no_correction(world: World, k2: Node) -> None:
    k2.sql(CONTACT, "c1", "LIS")
    world.settle()
    k2.sql(f"UPDATE contact SET email = 'e', phone = {RAW} WHERE id = 'c1'")
    k2.sync()
    [(segment, index)] = k2.sql("SELECT segment, txn FROM _txn WHERE verdict = 'held'")
    with transaction(k2.database) as writing:
        writing.withdraw(segment, index)
        writing.update("contact", ("c1",), {"name": "Ben"})
    world.settle()
    assert world.sql("SELECT name, email, phone FROM contact") == k2.sql("SELECT name, email, phone FROM contact") == [("Ben", None, None)]
    assert world.agree()


@pytest.mark.covers("P-6.37", "P-6.19")
@pytest.mark.parametrize("first", ["the correction", "the copy"])
def test_what_a_correction_left_as_it_was_is_known_to_a_copy_that_had_typed_it(world: World, k2: Node, first: str) -> None:
    """Two copies of one disk: one corrects the held row, the other goes on typing over it. Whoever comes second goes on under a history
    of its own (simulator, seeds 89001484 and 77001725).
    """
    k2.sql("INSERT INTO contact (id, kind, name, branch_id, phone, note) VALUES ('c1', 'person', 'Ann', 'OPO', '1', 'as typed')")
    Cycle(k2.database, k2.link).seal()
    copy = clone(world, k2, "copy")
    k2.sync()  # the copy does not hear that it is held
    copy.sql("UPDATE contact SET note = 'typed over it', phone = '3' WHERE id = 'c1'")
    k2.sql("UPDATE contact SET phone = '2' WHERE id = 'c1'")
    for node in (k2, copy) if first == "the correction" else (copy, k2):
        node.sync()
    for each in listing(world):
        act(world, ingest.decide, each["id"], True)
    world.settle()
    assert world.sql("SELECT note FROM contact") == [("typed over it",)]
    assert world.sql("SELECT columns FROM _conflict") == [('["phone"]',)]
    assert world.agree()


@pytest.mark.covers("P-6.37", "P-6.19")
@pytest.mark.parametrize("first", ["the correction", "the copy"])
def test_an_edit_that_a_correction_left_as_it_was_is_known_to_a_copy_that_had_typed_it(world: World, k2: Node, first: str) -> None:
    """The same of a row that was there before (simulator, seed 78001878)."""
    k2.sql(CONTACT, "c1", "LIS")
    k2.sync()
    k2.sql(f"UPDATE contact SET note = 'as typed', phone = {RAW} WHERE id = 'c1'")
    Cycle(k2.database, k2.link).seal()
    copy = clone(world, k2, "copy")
    k2.sync()  # the copy does not hear that it is held
    assert [each["code"] for each in listing(world)] == ["text"]
    copy.sql("UPDATE contact SET note = 'typed over it' WHERE id = 'c1'")
    k2.sql("UPDATE contact SET phone = '2' WHERE id = 'c1'")
    for node in (k2, copy) if first == "the correction" else (copy, k2):
        node.sync()
    world.settle()
    assert world.sql("SELECT note FROM contact") == [("typed over it",)]
    assert world.sql("SELECT columns FROM _conflict") == []
    assert world.agree()


@pytest.mark.parametrize("first", ["parent", "centre"])
def test_a_correction_under_a_cell_that_the_centre_does_not_have_stops_nobody(tmp_path: Path, first: str) -> None:
    """A node whose release groups columns otherwise corrects held work; it goes in, in whosever request, with what it says."""

    def tables(**grouped: Any) -> Schema:
        below = declare("below", columns={"up": str, "street": str, "city": str}, scope=(Through("above", "up"),), **grouped)
        return build([declare("above"), below])

    world = World(tmp_path, tables())
    own, world.schema = world.schema, tables(groups={"address": ("street", "city")})
    grouped = world.node("grouped", "branch:A")
    world.schema = own
    other = world.node("other", "branch:A")
    world.settle()
    grouped.sql("INSERT INTO below (id, up, street, city) VALUES ('b', 'a', 'one', 'Lisbon')")
    grouped.sync()
    grouped.sql("UPDATE below SET street = 'two' WHERE id = 'b'")
    grouped.sync()
    assert [each["code"] for each in listing(world)] == ["parent"]
    (other if first == "parent" else world).sql("INSERT INTO above (id, branch_id) VALUES ('a', 'A')")
    world.settle()
    assert world.sql("SELECT street, city FROM below") == [("two", "Lisbon")]
    assert world.agree()
    world.close()


@pytest.mark.covers("P-6.21", "P-6.37")
@pytest.mark.sqlite_centre("values of any type in any column")
def test_a_corrected_sum_that_asks_offers_what_was_typed_last(tmp_path: Path) -> None:
    tables = [declare("item", columns={"qty": int}, policies={"qty": "add"}), declare("rate", columns={"v": int}, kind=Kind.REFERENCE)]
    world = World(tmp_path, build(tables))
    k2 = world.node("k2", "branch:A")
    world.sql("INSERT INTO item (id, branch_id, qty) VALUES ('i', 'A', 5)")
    world.settle()
    with transaction(k2.database) as tx:  # held, as a proposal is in it
        tx.insert("rate", {"id": "r", "branch_id": "A", "v": 1})
        tx.update("item", ("i",), {"qty": 10})
    k2.sync()
    for value in (20, 30):
        k2.sql("UPDATE item SET qty = ?", value)
        k2.sync()
    world.sql("UPDATE item SET qty = 'about five'")  # nothing to add to
    (number,) = ids(world)
    act(world, ingest.decide, number, True)
    world.settle()
    (found,) = k2.conflicts()
    assert (found["base"], found["mine"], found["theirs"], found["open"]) == (5, 30, "about five", True)
    assert world.agree()
    world.close()
