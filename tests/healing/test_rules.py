"""The rules of healing one by one (PROTOCOL.md §7.7), on tables that have a column for every policy."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import pytest

from node import retained
from node.cycle import Cycle
from node.database import Database, State
from server import backup, ingest
from server import held as held_work
from sync.builder import SegmentBuilder
from sync.change import NEVER, Insert
from sync.digest import BEGINNING, segment_point
from sync.errors import Malformed
from sync.limits import PROTOCOL_VERSIONS
from sync.merge import Lineage, Meta, seen
from sync.messages import Again, Exceptional, HealReply, HealRequest, Offered, OfferRequest, Point, PushRequest, Sealed, Told
from tests.healing.copies import copy_of, put_back_centre
from tests.healing.stories import CLIENT, at_centre, decide_all, doubts, gone, heal, settled, three
from tests.healing.stories import world as world  # a fixture
from tests.world import Link, Node, World

# --- epochs ----------------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-7.14")
def test_the_newest_shared_point_is_found_and_a_new_epoch_begins_only_where_something_is_lost(world: World) -> None:
    n1, _, _ = three(world)
    state = n1.database.state()
    assert heal(world, n1, 1, BEGINNING, state.cursor).shared == state.cursor
    assert heal(world, n1, 1, BEGINNING, state.cursor).epoch == 1
    assert heal(world, n1, 1).shared == BEGINNING
    beyond = Point(state.cursor.number + 1000, bytes(32))
    reply = heal(world, n1, 1, BEGINNING, state.cursor, beyond)
    assert (reply.epoch, reply.shared) == (2, state.cursor)
    assert heal(world, n1, 1, beyond).epoch == 2  # the node is behind: the epoch it will take over is new to it already
    assert heal(world, n1, 7, state.cursor).epoch == 8
    with pytest.raises(Malformed):
        heal(world, n1, 8 + 1001, state.cursor)


@pytest.mark.covers("P-7.14")
def test_another_history_of_the_same_length_is_lost_history(world: World) -> None:
    n1, _, _ = three(world)
    reply = heal(world, n1, 1, BEGINNING, Point(n1.database.state().cursor.number, bytes(range(32))))
    assert (reply.epoch, reply.shared) == (2, BEGINNING)


# --- bases -----------------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-7.18")
@pytest.mark.parametrize("is_sealed", [True, False])
def test_what_was_typed_on_lost_values_has_not_seen_what_came_since(world: World, is_sealed: bool) -> None:
    n1, n2, n3 = three(world)
    copy = copy_of(world.database.path)
    for turn in range(5):
        n1.sql("UPDATE client SET memo = ? WHERE id = 'c1'", f"lost {turn}")
        n1.sync()
    n2.sync()
    if is_sealed:
        n2.write([])
    n2.sql("UPDATE client SET memo = 'n2' WHERE id = 'c1'")
    put_back_centre(world, copy)
    gone(world, "n1")
    n3.sql("UPDATE client SET memo = 'n3' WHERE id = 'c1'")
    n3.sync()
    n2.sync()
    assert at_centre(world, "memo") == "n3"  # `ask`: what stands, stands
    assert ("n2", "n3", "ask") in doubts(n2, "memo")
    assert settled(world)


def test_seen_after_a_restore() -> None:
    """P-7.19, every case of it."""
    meta = Meta(version=50, writer=3, sequence=7, stamp=0, node="n")
    for verdict, late, early in (("accepted", True, True), ("merged", False, True), ("held", False, True), ("refused", False, False)):
        lineage = Lineage({3: [(1, 99)]}, {3: [(1, 6, "accepted"), (7, 7, verdict), (8, 99, "accepted")]})
        assert seen(meta, 10, 9, lineage) is late, verdict
        assert seen(meta, 10, 5, lineage) is early, verdict
        assert not seen(meta, 10, 9, lineage, insert=True)
        assert seen(meta, 50, 9, lineage)
    assert not seen(meta, 10, 9, Lineage({3: [(1, 99)]}))
    assert not seen(meta, 10, 9, Lineage({}, {3: [(7, 7, "accepted")]}))


@pytest.mark.covers("P-7.19", "P-7.17")
def test_a_chain_of_own_work_is_no_conflict_with_itself(world: World) -> None:
    n1, _, _ = three(world)
    copy = copy_of(world.database.path)
    for turn in range(4):
        n1.sql("UPDATE client SET name = ?, memo = ?, low = ? WHERE id = 'c1'", f"name {turn}", f"memo {turn}", turn)
        n1.sync()
    put_back_centre(world, copy)
    world.settle()
    assert (at_centre(world, "name"), at_centre(world, "memo"), at_centre(world, "low")) == ("name 3", "memo 3", 3)
    assert n1.conflicts() == []
    assert settled(world)


@pytest.mark.covers("P-7.19")
def test_what_was_disputed_is_disputed_again(world: World) -> None:
    n1, n2, n3 = three(world)
    copy = copy_of(world.database.path)
    n2.sql("UPDATE client SET memo = 'n2' WHERE id = 'c1'")
    n1.sql("UPDATE client SET memo = 'n1' WHERE id = 'c1'")
    n1.sync()
    n2.sync()  # asked
    put_back_centre(world, copy)
    n2.sync()
    n1.sync()
    assert settled(world)
    assert {at_centre(world, "memo")} | {each["mine"] for each in n1.conflicts()} >= {"n1"}
    assert {at_centre(world, "memo")} | {each["mine"] for each in n2.conflicts()} >= {"n2"}
    assert n3.sql("SELECT memo FROM client") == [(at_centre(world, "memo"),)]


@pytest.mark.parametrize("is_approved", [True, False])
def test_what_was_refused_before_the_loss_is_told_once(world: World, is_approved: bool) -> None:
    """It waits for a decision again; nobody may read beside it, or beside the row itself, that it was refused."""
    n1 = world.node("n1", "branch:A")
    world.settle(2)
    copy = copy_of(world.database.path)
    n1.sql("INSERT INTO client (id, branch, name) VALUES ('c1', 'B', 'Bob')")
    decide_all(world, False)
    assert [(each["key"], each["verdict"]) for each in n1.held()] == [("c1", "refused")]
    put_back_centre(world, copy)
    world.settle()
    assert [(each["key"], each["verdict"]) for each in n1.held()] == [("c1", "held")]
    decide_all(world, is_approved)
    assert world.sql("SELECT name FROM client") == ([("Bob",)] if is_approved else [])
    assert [(each["key"], each["verdict"]) for each in n1.held()] == ([] if is_approved else [("c1", "refused")])


# --- nobody is believed more than can be true ------------------------------------------------------------------------


def pushed(world: World, entry: Node, again: Again | None, base: int, **values: Any) -> Any:
    """Push an insert of a client as a dishonest node would."""
    state = entry.database.state()
    builder = SegmentBuilder()
    builder.add(builder.begin(0, base), Insert("client", (values["id"],), values, base, NEVER))
    body = builder.build(os.urandom(16), world.schema.version, state.next)
    sealed = Sealed(body, segment_point(state.acked, body).digest, again)
    known = (state.epoch, state.incarnation, None, state.cursor, state.highest, state.acked)
    request = PushRequest(PROTOCOL_VERSIONS[-1], *known, (sealed,), (), world.clock.read(), Told(0, 0, 0, 0))
    return world.service.push(entry.link.identity, request, world.clock.read())


@pytest.mark.covers("P-7.29")
def test_a_centre_that_was_never_restored_takes_nothing_again(world: World) -> None:
    n1, _, _ = three(world)
    evil = world.node("evil", "branch:B")
    evil.sync()
    with pytest.raises(Malformed):
        pushed(world, evil, Again(1, 1 << 61, False, ()), evil.database.state().cursor.number, id="c1", name="EVIL", branch="B")
    page = n1.sql("SELECT version, box FROM _kept_page") or [(1, bytes(64))]
    state = evil.database.state()
    known = (state.epoch, state.incarnation, state.cursor, state.highest)
    request = OfferRequest(PROTOCOL_VERSIONS[-1], *known, (Offered(*page[0]),))
    with suppress(Malformed):
        reply = world.service.offer(evil.link.identity, request, world.clock.read())
        assert (reply.filled, reply.recorded) == (0, 0)
    assert world.sql("SELECT name, branch FROM client") == [("Ann", "A")]


@pytest.mark.covers("P-7.26", "P-7.29")
def test_what_comes_again_overwrites_no_row_of_another_scope(world: World) -> None:
    n1, _, _ = three(world)
    evil = world.node("evil", "branch:B")
    evil.sync()
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sync()
    put_back_centre(world, copy)
    world.settle()
    with pytest.raises(Malformed):
        pushed(world, evil, Again(1, 1 << 61, False, ()), evil.database.state().cursor.number, id="c1", name="EVIL", branch="B")
    reply = pushed(world, evil, Again(1 << 40, 1 << 61, False, ()), evil.database.state().cursor.number, id="c1", name="EVIL", branch="B")
    assert reply.verdicts[0].exceptions == ()
    assert world.sql("SELECT name, branch FROM client WHERE id = 'c1'") == [("Ann", "A")]
    assert "EVIL" in str(world.sql("SELECT mine FROM _conflict"))


@pytest.mark.covers("P-7.25", "P-7.26")
@pytest.mark.parametrize("fate", ["held", "refused", "withdrawn"])
def test_what_was_not_let_in_before_the_loss_is_judged_like_any_other(world: World, fate: str) -> None:
    """It had a version in the lost history, and was not in its books. Found by the simulator: base,copy,restore 920280."""
    n1, _, _ = three(world)
    other = world.node("other", "branch:B")
    other.sync()
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sync()
    put_back_centre(world, copy)
    world.settle()
    again = Again(1 << 40, 1 << 61, False, (Exceptional(0, fate, 9, "key", "taken"),))
    reply = pushed(world, other, again, other.database.state().cursor.number, id="c1", name="other", branch="B", points=5)
    assert [(each.verdict, each.code) for each in reply.verdicts[0].exceptions] == [("held", "key")]
    assert world.sql("SELECT name, points FROM client WHERE id = 'c1'") == [("Ann", None)]
    assert world.sql("SELECT * FROM _conflict WHERE key = 'c1'") == []


@pytest.mark.covers("P-6.43")
@pytest.mark.parametrize("damage", ["body", "box"])
def test_a_damaged_segment_stays_in_sight_and_stops_nothing(world: World, damage: str) -> None:
    n1, n2, _ = three(world)
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    if damage == "box":
        n1.sync()
        n1.sql("UPDATE _retained SET box = zeroblob(length(box)) WHERE seq = (SELECT MAX(seq) FROM _retained)")
        put_back_centre(world, copy)
    else:
        n1.write([])
        n1.sql("UPDATE _segment SET body = zeroblob(length(body)) WHERE version IS NULL")
    n1.sql(CLIENT, "c3")
    for _ in range(3):
        n1.sync()
    assert world.sql("SELECT id FROM client ORDER BY id") == [("c1",), ("c3",)]
    assert n1.unsynced() == 0
    assert n1.sql("SELECT code FROM _txn") == [("unreadable",)]
    n1.sql(CLIENT, "c4")
    n1.sync()
    n2.sync()
    assert n2.sql("SELECT id FROM client ORDER BY id") == [("c1",), ("c3",), ("c4",)]


@pytest.mark.covers("P-6.43")
def test_what_was_set_aside_stops_no_healing(world: World) -> None:
    """Found by reading: its stand-in for a version did not fit into a message."""
    n1, _, _ = three(world)
    copy = copy_of(world.database.path)
    n1.write([])
    n1.sql(CLIENT, "c2")
    n1.write([])
    n1.sql("UPDATE _segment SET body = zeroblob(length(body)) WHERE version IS NULL")
    n1.sql(CLIENT, "c3")
    n1.sync()
    put_back_centre(world, copy)
    n1.sql(CLIENT, "c4")
    for _ in range(3):
        n1.sync()
    assert world.sql("SELECT id FROM client ORDER BY id") == [("c1",), ("c3",), ("c4",)]
    assert n1.unsynced() == 0
    assert n1.sql("SELECT code FROM _txn") == [("unreadable",)]


def test_the_points_of_backups_are_not_forgotten_for_later_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retained, "POINTS_MAX", 12)
    n1, n2, _ = three(world)
    made = backup.backup(world.database, world.folder / "backup", world.clock.read())
    with world.database.writing() as store:
        store.connection.execute("UPDATE _server SET covered = 0")
    for turn in range(20):
        n1.sql("UPDATE client SET low = ? WHERE id = 'c1'", turn)
        n1.sync()
        n2.sync()
    assert made.version in {point.number for point in retained.points(n2.database.store)}
    assert len(retained.points(n2.database.store)) < 12


def test_healing_that_another_process_has_done_meanwhile_is_not_begun_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursor would fall, and everything be taken anew a second time. Found by seed 100627."""
    n1, n2, _ = three(world)
    copy = copy_of(world.database.path)
    n1.sql("UPDATE client SET high = 1 WHERE id = 'c1'")
    n1.sync()
    n2.sync()
    put_back_centre(world, copy)
    other = Database(n2.database.path, world.schema, n2.database.clock_ms)
    heal, healed = n2.link.heal, list[State]()

    def late(request: HealRequest) -> HealReply:
        reply = heal(request)
        if not healed:
            Cycle(other, Link(world, n2.link.identity)).sync()
            healed.append(other.state())
        return reply

    monkeypatch.setattr(n2.link, "heal", late)
    n2.sync()
    state = n2.database.state()
    assert (state.incarnation, state.cursor) == (healed[0].incarnation, healed[0].cursor)
    other.close()
    assert settled(world)


def test_a_verdict_that_was_noted_is_heard_with_its_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node notes a verdict and dies before it applies the page; the centre that said so is put back. Found by seed 200556."""
    n1, _, n3 = three(world)
    n1.sql("INSERT INTO stock (id, branch, quantity) VALUES ('k1', 'C', 7)")
    n1.sync()
    copy = copy_of(world.database.path)
    assert decide_all_unheard(world)
    with monkeypatch.context() as patched:
        patched.setattr("node.cycle.apply", killed)
        with pytest.raises(KeyboardInterrupt):
            n1.sync()
    put_back_centre(world, copy)
    n3.sql(CLIENT, "c2")
    n3.sync()  # the centre goes on under the same versions
    n1.sync()
    assert [each["verdict"] for each in n1.held()] == ["held"]
    decide_all(world, False)
    assert n1.sql("SELECT id FROM stock") == []
    assert settled(world)


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def decide_all_unheard(world: World) -> int:
    with world.database.writing() as store:
        return sum(ingest.decide(store, one.id, True, world.clock.read()) for one in held_work.waiting(store))


@pytest.mark.covers("P-7.29")
def test_an_offer_does_not_go_on_in_another_life_of_the_centre(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The centre is put back a second time while a node offers; the new life has the same number as the one before."""
    monkeypatch.setattr("node.healing.PUSH_SEGMENTS_MAX", 1)
    n1, n2, n3 = three(world)
    copy = copy_of(world.database.path)
    n1.sql("UPDATE client SET high = 1 WHERE id = 'c1'")
    n1.sync()
    n3.sync()
    for turn in range(4):
        n1.sql(CLIENT, f"d{turn}")
        n1.sync()
        n2.sync()
    gone(world, "n1")
    put_back_centre(world, copy)
    offers = 0

    def restored_again(kind: str) -> None:
        nonlocal offers
        offers += kind == "offer"
        if kind == "offer" and offers == 3:
            put_back_centre(world, copy)
            n2.link.before = lambda _kind: None
            for turn in range(9):
                world.sql("UPDATE client SET low = ? WHERE id = 'c1'", turn)
                n3.sync()

    n2.link.before = restored_again
    n2.sync()
    assert offers == 3
    assert settled(world)
    assert world.sql("SELECT id FROM client ORDER BY id") == [("c1",), *((f"d{turn}",) for turn in range(4))]


@pytest.mark.covers("P-6.27", "P-7.18")
def test_what_had_left_a_row_in_a_lost_history_does_not_die_with_it(world: World) -> None:
    """Who deletes the row knew that the visit hangs elsewhere, and does not know that the restored centre has it here again. Found by
    the simulator: seed 78009794.
    """
    node, other, _ = three(world)
    node.sql(CLIENT, "c2")
    other.sql("INSERT INTO visit (id, client_id, topic) VALUES ('v1', 'c1', 'kept')")
    world.settle(2)
    copy = copy_of(world.database.path)
    world.sql("UPDATE visit SET client_id = 'c2' WHERE id = 'v1'")
    node.sync()
    node.sql("DELETE FROM client WHERE id = 'c1'")
    put_back_centre(world, copy)
    assert settled(world)
    assert world.sql("SELECT client_id, topic FROM visit") == [("c1", "kept")]
    assert sorted(world.sql("SELECT tbl, rule FROM _conflict")) == [("client", "edit wins"), ("visit", "restored")]


@pytest.mark.covers("P-7.18")
def test_the_floor_of_a_first_restore_holds_for_work_that_was_settled_before_a_second(world: World) -> None:
    """Typed at a version of a first life that means another thing in the second; the second restore shares more than the first did.
    Found by the simulator: seed 77012404.
    """
    node, _, third = three(world)
    copy = copy_of(world.database.path)
    third.sql("UPDATE client SET name = 'so that there is a version more'")
    third.sync()
    node.sync()
    node.sql("UPDATE client SET memo = 'typed in the first life'")
    node.sync()
    put_back_centre(world, copy)
    world.sql("UPDATE client SET memo = 'of the centre'")
    gone(world, "n2")
    gone(world, "n3")
    saved = world.folder / "saved.db"
    backup.backup(world.database, saved, world.clock.read())
    for _ in range(2):  # taken after the first restore, and again after the second, which goes back to the backup
        assert settled(world)
        assert at_centre(world, "memo") == "of the centre"
        assert ("memo", "ask") in [(each["column"], each["rule"]) for each in node.conflicts()]
        put_back_centre(world, saved)
