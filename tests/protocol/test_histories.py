"""Histories: forks, points, epochs (PROTOCOL.md §7), between a real node and a real server."""

from __future__ import annotations

import os

import msgspec
import pytest

from node.cycle import Cycle
from node.report import Report
from sync.digest import BEGINNING
from sync.errors import Diverged, UnknownIncarnation
from sync.messages import Parent, Point, PullRequest, Told, VerifyRequest
from sync.segment import read_segment
from tests.protocol.stories import CONTACT, a_push, copy_of, phone, refused, sale, sealed, segment
from tests.protocol.stories import k2 as k2  # fixtures
from tests.protocol.stories import pair as pair
from tests.world import Node, ReplyLost, World


@pytest.mark.covers("P-7.2", "P-7.6", "P-7.1")
def test_an_incarnation_continues_only_what_the_server_knows(world: World, k2: Node) -> None:
    mine = k2.database.state().incarnation
    strange, ahead = Parent(os.urandom(16), BEGINNING), Parent(mine, Point(1, bytes(32)))
    for parent, ancestors in ((None, 1), (strange, 1), (ahead, 1), (Parent(mine, BEGINNING), 2)):
        fresh = os.urandom(16)
        k2.link.push(a_push(k2, incarnation=fresh, parent=parent))
        sql = "SELECT COUNT(*) FROM _lineage l JOIN _incarnation i USING (inc) WHERE i.id = ?"
        assert world.sql(sql, fresh) == [(ancestors,)]
    l3 = world.node("l3", "branch:LON")
    refused(UnknownIncarnation, lambda: l3.link.push(a_push(l3, incarnation=mine)), world)


@pytest.mark.covers("P-7.3", "P-7.5", "P-7.7", "P-6.3")
def test_a_copy_goes_on_under_a_history_of_its_own(world: World, k2: Node) -> None:
    k2.write([("contact", {"id": "c1", **CONTACT})])
    k2.sync()
    copy = copy_of(world, k2, "copy")
    k2.sql("UPDATE contact SET phone = 'k2'")
    copy.sql("UPDATE contact SET email = 'copy'")
    k2.sync()
    before = sealed(copy)
    assert copy.sync().new_history
    assert len(before) == 1
    world.settle()
    assert world.sql("SELECT phone, email FROM contact") == [("k2", "copy")]
    assert world.agree()


@pytest.mark.covers("P-7.4", "P-7.5")
def test_a_copy_that_only_pulls_notices_too(world: World, k2: Node) -> None:
    copy = copy_of(world, k2, "copy")
    k2.write(sale("s1"))
    k2.sync()
    assert copy.sync().new_history
    assert copy.sql("SELECT id FROM sale") == [("s1",)]
    assert world.agree()


@pytest.mark.covers("P-7.7", "P-7.8", "P-7.9")
def test_pending_work_in_both_copies_is_one_and_stays_own(world: World, k2: Node) -> None:
    k2.write([("contact", {"id": "c1", **CONTACT})])
    k2.sync()
    k2.sql("UPDATE contact SET note = 'first'")
    sealed(k2)
    copy = copy_of(world, k2, "copy")
    k2.sync()
    copy.sql("UPDATE contact SET note = 'second'")
    world.clock.now += 10
    copy.sync()
    copy.sync()
    assert world.sql("SELECT note FROM contact") == [("second",)]
    assert world.sql("SELECT COUNT(*) FROM _conflict") == [(0,)]
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-7.9")
def test_what_others_did_cannot_be_adopted(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    body = segment(phone("l3"), base=l3.database.state().cursor.number, number=9)
    l3.link.push(a_push(l3, body))
    k2.link.push(a_push(k2, adopted=(read_segment(body).id, os.urandom(16))))
    assert world.sql("SELECT COUNT(*) FROM _lineage WHERE inc <> ancestor") == [(0,)]


@pytest.mark.covers("P-7.10", "P-7.11", "P-1.4")
def test_a_lost_reply_is_made_up_for_by_a_pull(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    k2.link.lose.append("push")
    with pytest.raises(ReplyLost):
        k2.sync()
    assert k2.unsynced() == 1
    Cycle(k2.database, k2.link).pull(Report())
    assert k2.unsynced() == 0
    assert k2.sync().pushed == 0
    assert world.agree()


@pytest.mark.covers("P-7.10")
def test_acknowledged_work_stays_pending_until_the_cursor_covers_it(world: World, pair: tuple[Node, Node]) -> None:
    k2, _ = pair
    k2.sql("UPDATE contact SET phone = '1'")
    exchange = Cycle(k2.database, k2.link)
    exchange.push(Report())
    assert k2.sql("SELECT COUNT(*) FROM _op") == [(1,)]
    exchange.pull(Report())
    assert k2.sql("SELECT COUNT(*) FROM _op") == [(0,)]


@pytest.mark.covers("P-7.12", "P-7.13", "P-6.1")
def test_a_restored_server_is_noticed_on_every_request(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    k2.sync()
    state = k2.database.state()
    assert state.highest == state.cursor != BEGINNING
    other = Point(state.highest.number, bytes(32))
    pull = PullRequest(1, 1, state.incarnation, state.cursor, state.highest, None, 0, Told(0, 0, 0, 0))
    verify = VerifyRequest(1, 1, state.incarnation, state.cursor, (), None)
    for changed in ({"epoch": 2}, {"highest": other}, {"cursor": other}, {"highest": Point(99, bytes(32))}):
        refused(Diverged, lambda changed=changed: k2.link.push(a_push(k2, **changed)), world)  # type: ignore[misc]
        refused(Diverged, lambda changed=changed: k2.link.pull(msgspec.structs.replace(pull, **changed)), world)  # type: ignore[misc]
        if "highest" not in changed:
            refused(Diverged, lambda changed=changed: k2.link.verify(msgspec.structs.replace(verify, **changed)), world)  # type: ignore[misc]
