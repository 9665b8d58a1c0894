"""Ingest: exactly once, whatever the network does; held work and what sets it free; histories that fork."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

import node.database as node_database
from node import outbox
from node.cycle import Cycle
from node.report import Report as SyncReport
from server import held_list, ingest
from server.service import Service
from sync.errors import Diverged, PeerError, UnknownIncarnation
from sync.limits import MESSAGE_BYTES_MAX
from sync.messages import PushRequest
from sync.wire import unpack
from tests import foreign
from tests.world import Link, Node, ReplyLost, World

CONTACT = "INSERT INTO contact (id, kind, name, branch_id) VALUES ('{0}', 'person', 'Ann', '{1}')"
SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES ('{0}', 'n', 'sale', '{1}', 1, 'GBP', 5)"
LINE = "INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES ('{0}-{1}', '{0}', 1, 1, 1)"
PAYMENT = "INSERT INTO payment (id, sale_id, method, amount_minor) VALUES ('{0}', '{0}', 'cash', 1)"
ACTIVITY = "INSERT INTO activity (id, contact_id) VALUES ('{0}', '{1}')"
TAG = "INSERT INTO contact_tag (contact_id, tag) VALUES ('{0}', 'vip')"


@pytest.fixture
def node(world: World) -> Node:
    return world.node("k2", "branch:LON", "owner:e1")


def receipt(key: str, branch: str = "LON") -> list[str]:
    return [SALE.format(key, branch), LINE.format(key, 1), LINE.format(key, 2), PAYMENT.format(key)]


def last_push(node: Node) -> PushRequest:
    return unpack(PushRequest, next(body for kind, body in reversed(node.link.requests) if kind == "push"), MESSAGE_BYTES_MAX)


def push(world: World, node: Node, request: PushRequest) -> Any:
    return world.service.push(node.link.identity, request, world.clock.read())


def centre(world: World) -> dict[str, list[Any]]:
    return {table.name: sorted(map(repr, world.sql(f"SELECT {', '.join(table.names)} FROM {table.name}"))) for table in world.schema.tables}


def codes(node: Node) -> dict[str, str]:
    """Return the code of everything a node shows as held or refused, by row."""
    return {f"{entry['table']} {entry['key']}": entry["code"] for entry in node.held()}


def waiting(world: World) -> dict[int, set[str]]:
    """Return what the centre holds: the rows of each transaction."""
    with world.database.reading() as store:
        found: dict[int, set[str]] = {}
        for entry in held_list.listing(store):
            found.setdefault(entry["id"], set()).add(f"{entry['table']} {entry['key']}")  # type: ignore[call-overload]
        return found


def decide(world: World, held: int, approve: bool) -> None:
    with world.database.writing() as store:
        assert ingest.decide(store, held, approve, world.clock.read())


# --- exactly once ----------------------------------------------------------------------------------------------------------


def test_a_reply_lost_after_the_commit_changes_nothing(world: World, node: Node) -> None:
    foreign.run(node.database.path, *receipt("s1"), CONTACT.format("c1", "LON"))
    node.link.lose = ["push"]
    with pytest.raises(ReplyLost):
        node.sync()
    first = centre(world)
    assert node.unsynced() == 2
    report = node.sync()
    assert (report.pushed, report.pulled, report.verdicts["accepted"]) == (2, 0, 2)
    assert centre(world) == first
    assert node.unsynced() == 0
    assert node.verify()


def test_the_same_batch_twice_has_the_same_answer_and_one_effect(world: World, node: Node) -> None:
    foreign.run(node.database.path, *receipt("s1"), CONTACT.format("c1", "LON"), SALE.format("wrong", "PAR"))
    node.sync()
    before, head = centre(world), world.service.health()
    request = last_push(node)
    first, second = push(world, node, request), push(world, node, request)
    assert first.verdicts == second.verdicts
    assert [exception.code for verdict in first.verdicts for exception in verdict.exceptions] == ["right"]
    assert (centre(world), world.service.health()) == (before, head)


def test_an_older_batch_that_comes_late_changes_nothing(world: World, node: Node) -> None:
    foreign.run(node.database.path, CONTACT.format("c1", "LON"))
    node.sync()
    old = last_push(node)
    foreign.run(node.database.path, "UPDATE contact SET phone = '2'")
    node.sync()
    before, head = centre(world), world.service.health()
    push(world, node, old)
    assert (centre(world), world.service.health()) == (before, head)
    node.sync()
    assert node.verify()


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_segments_that_come_again_together_with_new_ones(world: World, node: Node, cut: int) -> None:
    """The reply to the first push was lost; the next one repeats its segments and adds others."""
    node.link.lose = ["push"] * cut
    for i in range(cut):
        foreign.run(node.database.path, *receipt(f"s{i}"))
        with pytest.raises(ReplyLost):
            node.sync()
    foreign.run(node.database.path, *receipt("last"))
    report = node.sync()
    assert report.verdicts["accepted"] == report.pushed == cut + 1
    assert world.sql("SELECT COUNT(*), COUNT(DISTINCT id) FROM sale_line") == [(2 * (cut + 1), 2 * (cut + 1))]
    assert node.verify()


# --- what is refused -------------------------------------------------------------------------------------------------------


def test_a_push_that_claims_a_future_the_centre_never_had_is_refused(world: World, node: Node) -> None:
    foreign.run(node.database.path, CONTACT.format("c1", "LON"))
    node.sync()
    request, before = last_push(node), centre(world)
    beyond = msgspec.structs.replace(request.cursor, number=request.cursor.number + 100)
    for forged in (msgspec.structs.replace(request, cursor=beyond), msgspec.structs.replace(request, highest=beyond)):
        with pytest.raises(Diverged):
            push(world, node, forged)
    assert centre(world) == before


def test_a_base_beyond_the_centre_is_refused(world: World, node: Node) -> None:
    """It would beat every unseen edit in silence."""
    foreign.run(node.database.path, CONTACT.format("c1", "LON"))
    node.sync()
    foreign.run(node.database.path, "UPDATE contact SET phone = 'forged'")
    with node.database.writing() as store:
        cursor = store.connection.execute("SELECT cursor FROM _node").fetchone()[0]
        store.connection.execute("UPDATE _node SET cursor = ?", (cursor + 1000,))
        outbox.seal(store, 1)
        store.connection.execute("UPDATE _node SET cursor = ?", (cursor,))
    node.sync()
    assert world.sql("SELECT phone FROM contact") == [(None,)]
    assert [entry["code"] for entry in node.held()] == ["unreadable"]
    assert node.unsynced() == 0


def test_the_incarnation_of_another_node_is_refused(world: World, node: Node) -> None:
    other = world.node("l3", "branch:LON")
    for entry in (node, other):
        foreign.run(entry.database.path, CONTACT.format(entry.name, "LON"))
        entry.sync()
    before = centre(world)
    forged = msgspec.structs.replace(last_push(other), incarnation=last_push(node).incarnation)
    with pytest.raises(UnknownIncarnation):
        push(world, other, forged)
    assert centre(world) == before


@pytest.mark.parametrize("place", [0, 20, -1])
def test_a_segment_whose_bytes_were_changed_is_refused_whole(world: World, node: Node, place: int) -> None:
    foreign.run(node.database.path, *receipt("s1"))
    Cycle(node.database, node.link).seal()
    before, head = centre(world), world.service.health()
    request = Cycle(node.database, node.link)._push_request()
    assert request is not None
    body = bytearray(request.segments[0].body)
    body[place] ^= 1
    forged = msgspec.structs.replace(request, segments=(msgspec.structs.replace(request.segments[0], body=bytes(body)),))
    with pytest.raises(PeerError):
        push(world, node, forged)
    assert (centre(world), world.service.health()) == (before, head)
    assert node.sync().verdicts["accepted"] == 1


# --- held, and what hangs on it ------------------------------------------------------------------------------------------------


def test_held_until_its_parent_comes(world: World, node: Node) -> None:
    """Children of a contact that another node has not sent yet; nothing else waits."""
    other = world.node("l3", "branch:LON")
    foreign.run(node.database.path, ACTIVITY.format("a1", "c1"), TAG.format("c1"), *receipt("s1"), CONTACT.format("c2", "LON"))
    report = node.sync()
    assert (report.verdicts["held"], report.verdicts["accepted"]) == (2, 2)
    assert codes(node) == {"activity a1": "parent", "contact_tag ['c1', 'vip']": "parent"}
    foreign.run(other.database.path, CONTACT.format("c1", "LON"))
    other.sync()
    assert waiting(world) == {}
    assert node.sync().pulled == 1
    assert codes(node) == {}
    world.settle(1)
    assert other.sql("SELECT id FROM activity") == [("a1",)]
    assert world.agree()


def test_held_until_its_parent_comes_from_a_central_program(world: World, node: Node) -> None:
    foreign.run(node.database.path, ACTIVITY.format("a1", "c1"))
    node.sync()
    foreign.run(world.database.path, CONTACT.format("c1", "LON"))
    node.sync()
    assert codes(node) == {}
    assert world.sql("SELECT id FROM activity") == [("a1",)]
    assert world.agree()


def test_a_parent_of_another_branch_does_not_let_a_stranger_in(world: World, node: Node) -> None:
    foreign.run(node.database.path, ACTIVITY.format("a1", "c1"))
    node.sync()
    foreign.run(world.database.path, CONTACT.format("c1", "PAR"))
    world.settle(2)
    assert set(codes(node)) == {"activity a1"}
    with world.database.reading() as store:
        assert [entry["code"] for entry in held_list.listing(store)] == ["right"]
    assert world.sql("SELECT * FROM activity") == []
    assert node.sql("SELECT id FROM contact") == []
    assert world.agree()


HELD_FAMILY = {"contact c1", "activity a1", "contact_tag ['c1', 'vip']", "deal d1", "stage_event e1"}


def held_family(node: Node) -> None:
    """Write a contact of another branch and what hangs under it, in several exchanges; beside it work that hangs on nothing."""
    path = node.database.path
    foreign.run(path, CONTACT.format("c1", "PAR"), TAG.format("c1"), CONTACT.format("free", "LON"))
    node.sync()
    foreign.run(path, ACTIVITY.format("a1", "c1"), "INSERT INTO deal (id, contact_id) VALUES ('d1', 'c1')", ACTIVITY.format("a2", "free"))
    node.sync()
    foreign.run(path, "INSERT INTO stage_event (id, deal_id, stage_id, entered_ms) VALUES ('e1', 'd1', 'won', 1)", *receipt("s1"))
    node.sync()
    foreign.run(path, "UPDATE contact SET phone = '2'", "UPDATE activity SET topic = 'x'")
    node.sync()


def test_what_hangs_on_held_work_is_held_with_it_and_nothing_else(world: World, node: Node) -> None:
    held_family(node)
    assert set(codes(node)) == HELD_FAMILY
    assert set(codes(node).values()) == {"right", "depends"}
    assert world.sql("SELECT id, phone FROM contact") == [("free", "2")]
    assert world.sql("SELECT id, topic FROM activity") == [("a2", "x")]
    assert world.sql("SELECT id FROM sale") == [("s1",)]
    assert node.sql("SELECT id, phone FROM contact ORDER BY id") == [("c1", "2"), ("free", "2")]
    assert node.verify()


def test_a_rescope_releases_what_waited_for_a_right_and_all_that_hung_on_it(world: World, node: Node) -> None:
    held_family(node)
    world.rescope("k2", "branch:LON", "branch:PAR")
    assert waiting(world) == {}
    node.sync()
    assert codes(node) == {}
    assert world.sql("SELECT phone FROM contact") == [("2",)] * 2
    assert world.sql("SELECT id FROM stage_event") == [("e1",)]
    assert world.agree()
    again = node.sync()
    assert (again.pushed, again.pulled, again.removed) == (0, 0, 0)


def test_approving_releases_all_that_hung_on_it(world: World, node: Node) -> None:
    """The centre approves the contact; the children follow as their parent's place allows: approved by hand, one by one."""
    held_family(node)
    rounds = 0
    while held := waiting(world):
        decide(world, min(held), approve=True)
        rounds += 1
        assert rounds < 10
    node.sync()
    assert codes(node) == {}
    assert world.sql("SELECT branch_id, phone FROM contact WHERE id = 'c1'") == [("PAR", "2")]
    assert world.sql("SELECT COUNT(*) FROM activity") == [(2,)]
    assert node.sql("SELECT id FROM contact") == [("free",)], "it belongs to another branch"
    par = world.node("par", "branch:PAR")
    par.sync()
    assert par.sql("SELECT id FROM stage_event") == [("e1",)]
    assert world.agree()


def test_refusing_puts_it_aside_with_what_cannot_be_without_it(world: World, node: Node) -> None:
    held_family(node)
    (first,) = [held for held, rows in waiting(world).items() if "contact c1" in rows and held == min(waiting(world))]
    decide(world, first, approve=False)
    node.sync()
    assert waiting(world) == {}
    assert set(codes(node)) == HELD_FAMILY, "nothing of it is lost: it stays on the list"
    assert {entry["verdict"] for entry in node.held()} == {"refused"}
    assert node.sql("SELECT id FROM contact") == [("free",)]
    assert node.sql("SELECT id FROM activity") == [("a2",)]
    assert world.sql("SELECT id FROM contact") == [("free",)]
    assert world.agree()


def test_refused_work_can_be_written_again(world: World, node: Node) -> None:
    foreign.run(node.database.path, CONTACT.format("c1", "PAR"))
    node.sync()
    decide(world, min(waiting(world)), approve=False)
    node.sync()
    foreign.run(node.database.path, CONTACT.format("c1", "LON"))
    assert node.sync().verdicts["accepted"] == 1
    assert world.sql("SELECT branch_id FROM contact") == [("LON",)]
    assert world.agree()


def test_a_decision_on_what_is_not_there(world: World) -> None:
    with world.database.writing() as store:
        assert not ingest.decide(store, 17, True, world.clock.read())


def test_a_key_that_is_taken_elsewhere_is_held_and_shows_nothing_of_the_other(world: World, node: Node) -> None:
    other = world.node("par", "branch:PAR")
    foreign.run(other.database.path, CONTACT.format("c1", "PAR").replace("Ann", "secret name"))
    other.sync()
    foreign.run(node.database.path, CONTACT.format("c1", "LON"))
    node.sync()
    assert codes(node) == {"contact c1": "key"}
    assert "secret" not in repr(node.held())
    assert world.sql("SELECT name, branch_id FROM contact") == [("secret name", "PAR")]
    assert node.sql("SELECT name FROM contact") == [("Ann",)]
    assert world.agree()


def test_two_receipts_of_one_key(world: World, node: Node) -> None:
    """The second one is held whole, with its lines; both nodes keep what they sold, and verify."""
    other = world.node("l3", "branch:LON")
    foreign.run(node.database.path, *receipt("s1"))
    foreign.run(other.database.path, *receipt("s1")[:3], "UPDATE sale SET total_minor = 9")
    node.sync()
    assert other.sync().verdicts["held"] == 1
    world.settle(2)
    assert world.sql("SELECT total_minor FROM sale") == [(5,)]
    assert (node.sql("SELECT total_minor FROM sale"), other.sql("SELECT total_minor FROM sale")) == ([(5,)], [(9,)])
    assert set(codes(other)) == {"sale s1", "sale_line s1-1", "sale_line s1-2"}
    assert world.agree()


# --- copies --------------------------------------------------------------------------------------------------------------------


def clone(world: World, node: Node, name: str) -> Node:
    """Copy a node's file as a careless person does, and open the copy with the same identity."""
    node.database.close()
    path = world.folder / f"{name}.db"
    shutil.copyfile(node.database.path, path)
    for entry in (Path(node.database.path), path):
        database = node_database.Database(entry, world.schema, world.clock.read)
        if entry == path:
            twin = Node(name, database, Link(world, node.link.identity), [0])
        else:
            node.database = database
    world.nodes[name] = twin
    return twin


@pytest.mark.parametrize("unsent", [False, True], ids=["all sent", "with unsent work"])
def test_a_copied_file_becomes_a_history_of_its_own_and_nothing_is_lost(world: World, node: Node, unsent: bool) -> None:
    foreign.run(node.database.path, *receipt("before"), CONTACT.format("c1", "LON"))
    node.sync()
    if unsent:
        foreign.run(node.database.path, *receipt("unsent"), "UPDATE contact SET note = 'unsent'")
        Cycle(node.database, node.link).seal()
    twin = clone(world, node, "twin")
    for i, entry in itertools.product(range(3), (node, twin)):
        foreign.run(entry.database.path, *receipt(f"{entry.name}{i}"), f"UPDATE contact SET phone = '{entry.name}{i}'")
        entry.sync()
    new = [entry.sync().new_history for entry in (node, twin)]
    assert new == [False, False], "found once, not at every exchange"
    world.settle(2)
    expected = {"before", *(["unsent"] if unsent else []), *(f"{name}{i}" for name in ("k2", "twin") for i in range(3))}
    assert {row[0] for row in world.sql("SELECT id FROM sale")} == expected
    assert world.sql("SELECT COUNT(*) FROM sale_line") == [(2 * len(expected),)]
    assert node.sql("SELECT phone FROM contact") == twin.sql("SELECT phone FROM contact")
    assert world.sql("SELECT COUNT(*) FROM _incarnation") == [(2,)]
    assert world.agree()


def test_a_copy_that_only_pulls_gets_what_the_original_sent(world: World, node: Node) -> None:
    """RULES H5: taken for an echo, the original's rows would be missing on the copy for ever."""
    foreign.run(node.database.path, CONTACT.format("c1", "LON"))
    node.sync()
    twin = clone(world, node, "twin")
    foreign.run(node.database.path, *receipt("s1"), "UPDATE contact SET phone = '2'")
    node.sync()
    twin.sync()
    assert twin.sql("SELECT phone FROM contact") == [("2",)]
    assert twin.sql("SELECT COUNT(*) FROM sale_line") == [(2,)]
    assert world.agree()


def test_a_node_restored_from_a_backup_keeps_what_it_wrote_since(world: World, node: Node) -> None:
    """The file goes back to yesterday; today's sales were sent, tomorrow's are made on the old file."""
    foreign.run(node.database.path, *receipt("yesterday"))
    node.sync()
    backup = clone(world, node, "backup")
    backup.database.close()
    foreign.run(node.database.path, *receipt("today"))
    node.sync()
    node.database.close()
    shutil.copyfile(world.folder / "backup.db", node.database.path)
    for suffix in ("-wal", "-shm"):
        Path(f"{node.database.path}{suffix}").unlink(missing_ok=True)
    del world.nodes["backup"]
    node.database = node_database.Database(node.database.path, world.schema, world.clock.read)
    foreign.run(node.database.path, *receipt("tomorrow"))
    report = node.sync()
    assert report.new_history
    assert {row[0] for row in node.sql("SELECT id FROM sale")} == {"yesterday", "today", "tomorrow"}
    assert {row[0] for row in world.sql("SELECT id FROM sale")} == {"yesterday", "today", "tomorrow"}
    assert world.agree()


# --- one transaction never stops the others ----------------------------------------------------------------------------------------


def test_a_push_of_everything_that_can_be_held_takes_the_rest(world: World, node: Node) -> None:
    foreign.run(world.database.path, "INSERT INTO product (id, name) VALUES ('p', 'Tea')", CONTACT.format("seen", "LON"), *receipt("old"))
    node.sync()
    foreign.run(
        node.database.path,
        *receipt("wrong branch", "PAR"),
        "UPDATE product SET name = 'Coffee'",
        "INSERT INTO stage (id, name) VALUES ('new', 'mine')",
        "UPDATE sale SET total_minor = 0 WHERE id = 'old'",
        ACTIVITY.format("orphan", "nobody"),
        "INSERT INTO task (id, title) VALUES ('nobodys', 'no owner')",
        "UPDATE contact SET phone = CAST(X'00' AS TEXT)",
        "INSERT INTO deal (id, owner_id, amount_minor) VALUES ('typed', 'e1', 'many')",
        *receipt("good"),
        CONTACT.format("good", "LON"),
    )
    report = node.sync()
    assert (report.verdicts["held"], report.verdicts["accepted"]) == (8, 2)
    assert world.sql("SELECT id FROM sale ORDER BY id") == [("good",), ("old",)]
    assert world.sql("SELECT id FROM contact ORDER BY id") == [("good",), ("seen",)]
    assert sorted(set(codes(node).values())) == ["immutable", "parent", "reference", "right", "text", "type"]
    assert node.verify()
    status = Service(world.database).health()
    node.sync()
    assert Service(world.database).health() == status


def test_pull_never_waits_for_push(world: World, node: Node) -> None:
    """Even where a push cannot be taken, what others did arrives."""
    foreign.run(world.database.path, CONTACT.format("c1", "LON"))
    Cycle(node.database, node.link).pull(SyncReport())
    assert node.sql("SELECT id FROM contact") == [("c1",)]


@pytest.mark.parametrize("table", ["contact", "stock_move"])
def test_a_key_is_measured_in_bytes(world: World, node: Node, table: str) -> None:
    """512 letters of Latin script are a key, 300 of Cyrillic are not: on either path of ingest."""
    insert = {
        "contact": "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'x', ?)",
        "stock_move": "INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, moved_ms) VALUES (?, 'p', ?, 1, 'r', 1)",
    }
    for key in ("x" * 512, "ж" * 256, "ж" * 257, "x" * 513):
        node.sql(insert[table], key, "LON")
        node.sync()
    assert world.sql(f"SELECT COUNT(*) FROM {table}") == [(2,)]
    assert sorted(len(held["key"]) for held in node.held()) == [257, 513]
