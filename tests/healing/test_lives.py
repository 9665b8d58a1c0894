"""Several lives of one history: replies and pages of a life that is over, read by nodes that have gone on, and the reverse."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from node.cycle import Cycle
from node.database import Database
from node.held import withdraw
from node.report import Report
from server import held as held_work
from server import ingest
from sync.errors import Stale
from sync.messages import Page, PullRequest, PushReply, PushRequest
from tests.healing.copies import copy_of, put_back_centre, put_back_node
from tests.healing.stories import CLIENT, doubts, gone, settled, three
from tests.healing.stories import world as world  # a fixture
from tests.world import Link, Node, ReplyLost, World


class Slow(Link):
    """An exchange whose reply to a push is a long time coming."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def push(self, request: PushRequest) -> PushReply:
        reply = super().push(request)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return reply


@pytest.mark.covers("P-7.17")
def test_a_reply_of_a_lost_life_does_not_count(world: World) -> None:
    """The centre is put back, another process of the node heals it: then the first one's reply arrives. A sale would be lost."""
    n1, n2, _ = three(world)
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "z1")
    n1.sync()
    slow = Slow(world, n1.link.identity)

    def meanwhile() -> None:
        put_back_centre(world, copy)
        for number in range(4):
            n2.sql(CLIENT, f"other{number}")
            n2.sync()
        second = Database(n1.database.path, world.schema, n1.database.clock_ms)
        link = Link(world, n1.link.identity)
        link.before = lambda kind: cut(kind, second)
        with pytest.raises(ReplyLost):
            Cycle(second, link).sync()
        second.close()

    def cut(kind: str, second: Database) -> None:
        if kind == "push" and second.state().epoch > 1:
            raise ReplyLost(kind)

    slow.meanwhile = meanwhile
    n1.sql("INSERT INTO receipt (id, branch, day, total) VALUES ('s1', 'A', '2026-11-22', 7)")
    with pytest.raises(Stale):
        Cycle(n1.database, slow).push(Report())
    assert n1.unsynced() > 0
    assert settled(world)
    assert world.sql("SELECT id FROM receipt") == [("s1",)]


def test_what_was_in_conflict_before_a_restore_is_no_news_after_it(world: World) -> None:
    """Two values of before the backup stay on record and are not told as new; those of the lost history come on record again."""
    n1, n2, _ = three(world)

    def differ(column: str) -> None:
        n1.sql(f"UPDATE client SET {column} = 'one' WHERE id = 'c1'")
        n2.sql(f"UPDATE client SET {column} = 'two' WHERE id = 'c1'")
        n1.sync()
        assert n2.sync().conflicts == 1
        n1.sync()

    differ("name")
    copy = copy_of(world.database.path)
    differ("memo")
    put_back_centre(world, copy)
    gone(world, "n2")
    report = n1.sync()
    assert report.lost is not None
    assert report.conflicts == 2
    assert settled(world)
    assert doubts(n1, "name") == [("one", "two", "latest")]
    assert [(mine, rule) for mine, _, rule in doubts(n1, "memo")] == [("one", "restored"), ("two", "restored")]


@pytest.mark.covers("P-7.24")
def test_an_ordinary_restore_puts_nothing_in_doubt(world: World) -> None:
    """Rows changed again and again, read by three nodes at different times in one life of the centre."""
    n1, n2, n3 = three(world)
    n4 = world.node("n4", "branch:A")
    n4.sync()
    copy = copy_of(world.database.path)
    for number in range(5):
        n1.sql(CLIENT, f"r{number}")
    n1.sync()
    for turn in range(6):
        (n2, n3, n4)[turn % 3].sync()
        n1.sql("UPDATE client SET name = ?, memo = ? WHERE id LIKE 'r%'", f"name {turn}", f"memo {turn}")
        n1.sync()
    n4.sync()
    put_back_centre(world, copy)
    gone(world, "n1")
    assert settled(world)
    assert world.sql("SELECT DISTINCT name, memo FROM client WHERE id LIKE 'r%'") == [("name 5", "memo 5")]
    assert world.sql("SELECT COUNT(*) FROM _conflict") == [(0,)]


@pytest.mark.covers("P-7.23", "P-7.24")
@pytest.mark.parametrize("order", ["xy", "yx"])
def test_a_row_whose_new_parent_comes_with_another_page_goes_there(world: World, order: str) -> None:
    three(world)
    world.node("x", "owner:o")
    y = world.node("y", "branch:B")
    world.settle(2)
    copy = copy_of(world.database.path)
    world.sql("INSERT INTO errand (id, client_id, owner, title) VALUES ('e1', 'c1', 'o', 'first')")
    world.nodes["x"].sync()
    world.sql("INSERT INTO client (id, branch, name) VALUES ('c3', 'B', 'Cid')")
    world.sql("UPDATE errand SET client_id = 'c3', title = 'second' WHERE id = 'e1'")
    world.nodes["x"].sync()
    y.sync()
    put_back_centre(world, copy)
    for name in order:
        world.nodes[name].sync()
    assert settled(world)
    assert world.sql("SELECT id, client_id, title FROM errand") == [("e1", "c3", "second")]
    assert y.sql("SELECT id FROM errand") == [("e1",)]


def test_what_was_disputed_before_a_restore_was_not_held(world: World) -> None:
    """All verdicts are told once more; that is no news of work that had waited."""
    n1, n2, _ = three(world)
    for node in (n1, n2):
        node.sql("UPDATE client SET memo = ?", node.name)
    n1.sync()
    assert n2.sync().verdicts["ask"] == 1
    world.settle()
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    world.settle()
    put_back_centre(world, copy)
    for node in (n2, n1, n2):
        assert node.sync().late == {"refused": 0, "withdrawn": 0, "let_in": 0}
    assert settled(world)


# --- held work that its disk has no more --------------------------------------------------------------------------------------


def held_elsewhere(world: World) -> tuple[Node, Node]:
    """A node put back to before it typed what the centre holds; and another one."""
    node, other, _ = three(world)
    old = copy_of(node.database.path)
    node.sql("INSERT INTO client (id, branch) VALUES ('c2', 'B')")
    node.sync()
    put_back_node(world, node, old)
    node.sync()
    return node, other


def test_its_withdrawal_is_on_its_way(world: World) -> None:
    node, _ = held_elsewhere(world)
    withdraw(node.database, node.held()[0]["id"])
    (entry,) = node.held()
    assert (entry["on_its_way"], entry["can"]) == ("withdrawal", [])
    assert settled(world)
    assert not node.held()


@pytest.mark.parametrize("is_pulled", [True, False])
def test_it_is_listed_again_where_what_was_heard_of_it_is_lost(world: World, is_pulled: bool) -> None:
    """Held at what both histories share, handed on later; the centre is put back to between."""
    node, other = held_elsewhere(world)
    copy = copy_of(world.database.path)
    with world.database.writing() as store:
        (held,), now_ms = held_work.waiting(store), world.clock.read()
        ingest.hand_over(store, held.id, "Eva", "", now_ms)
    ((held_at,),) = node.sql("SELECT version FROM _txn")

    def more(kind: str) -> None:
        if node.sql("SELECT version FROM _txn") != [(held_at,)]:
            raise ReplyLost(kind)
        for _ in range(2):  # so that there is another page
            other.sql(CLIENT, os.urandom(4).hex())
        other.sync()

    if is_pulled:
        node.sync()
    else:
        node.link.before = more
        with pytest.raises(ReplyLost):
            node.sync(rows=1)
        node.link.before = lambda _kind: None
    put_back_centre(world, copy)
    assert settled(world)
    assert [(entry["verdict"], entry["code"]) for entry in node.held()] == [("held", "right")]


@pytest.mark.covers("P-8.9")
def test_an_old_page_of_a_lost_life_is_not_taken_beside_what_this_one_has_told(world: World) -> None:
    """Its last version has the number of the highest one heard since: a node that took it healed, and healed again, for ever (seed
    56019603).
    """
    n1, _, _ = three(world)
    before = copy_of(world.database.path)
    world.sql("INSERT INTO client (id, branch, name) VALUES ('lost', 'A', 'w1')")
    kept: list[Page] = []

    class Keeping(Link):
        def pull(self, request: PullRequest) -> Page:
            kept.append(super().pull(request))
            raise ReplyLost("pull")

    with pytest.raises(ReplyLost):
        Cycle(n1.database, Keeping(world, n1.link.identity)).pull(Report())
    put_back_centre(world, before)
    n1.sql(CLIENT, "z1")
    Cycle(n1.database, n1.link).push(Report())
    assert n1.database.state().highest.number == kept[0].to.number

    class Late(Link):
        def pull(self, request: PullRequest) -> Page:
            return kept[0]

    with pytest.raises(Stale, match="older than what the centre has told"):
        Cycle(n1.database, Late(world, n1.link.identity)).pull(Report())
    n1.sync()
    assert settled(world)
    assert "z1" in {row[0] for row in world.sql("SELECT id FROM client")}
