"""After a restore of the centre: rows of others come back from whoever had pulled them (PROTOCOL.md P-7.23, P-7.24)."""

from __future__ import annotations

import pytest

from node import outbox
from node.database import RELOAD
from schema.images import unpack_tuple
from server import conflicts
from sync import box
from sync.errors import Malformed
from sync.messages import Offered
from tests.healing.copies import clone, copy_of, put_back_centre
from tests.healing.stories import CLIENT, at_centre, gone, kept, offer, settled, three
from tests.healing.stories import world as world  # a fixture
from tests.world import ReplyLost, World


@pytest.mark.covers("P-7.23", "P-7.24")
def test_offering_twice_changes_nothing(world: World) -> None:
    n1, n2, _ = three(world)
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sql("UPDATE client SET name = 'Anna' WHERE id = 'c1'")
    n1.sync()
    n2.sync()
    pages = kept(n2)
    put_back_centre(world, copy)
    first = offer(world, n2, *pages)
    assert (first.filled, first.recorded) == (1, 1)
    again = offer(world, n2, *pages)
    assert (again.filled, again.recorded, again.head) == (0, 0, first.head)


@pytest.mark.covers("P-7.23", "P-7.24")
def test_a_later_page_replaces_what_an_earlier_one_brought_and_an_earlier_one_does_not(world: World) -> None:
    n1, n2, n3 = three(world)
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sql(CLIENT, "c3")
    n1.sync()
    n2.sync()
    n1.sql("UPDATE client SET name = 'later' WHERE id = 'c2'")
    n1.sql("DELETE FROM client WHERE id = 'c3'")
    n1.sync()
    n3.sync()
    put_back_centre(world, copy)
    gone(world, "n1")
    assert offer(world, n2, *kept(n2)).filled == 2
    assert offer(world, n3, *kept(n3)).filled == 2
    assert world.sql("SELECT id, name FROM client ORDER BY id") == [("c1", "Ann"), ("c2", "later")]
    assert offer(world, n2, *kept(n2)).filled == 0
    assert world.sql("SELECT id, name FROM client ORDER BY id") == [("c1", "Ann"), ("c2", "later")]


@pytest.mark.covers("P-7.32")
def test_values_that_the_lost_history_had_on_record_come_on_record_again(world: World) -> None:
    """Nobody has a page with the row as the centre wrote it: who overwrote it unseen was told what it had been, and it alone.

    Found by seed 67010417.
    """
    n1, _, _ = three(world)
    copy = copy_of(world.database.path)
    n1.sql("UPDATE client SET name = 'n1' WHERE id = 'c1'")
    world.sql("UPDATE client SET name = 'of the centre' WHERE id = 'c1'")
    n1.sync()
    assert [(each["mine"], each["theirs"]) for each in n1.conflicts() if each["column"] == "name"] == [("n1", "of the centre")]
    pages = kept(n1)
    put_back_centre(world, copy)
    offer(world, n1, *pages)
    on_record = {value for (side,) in world.sql("SELECT mine FROM _conflict") for value in unpack_tuple(side) or ()}
    assert "of the centre" in {at_centre(world, "name"), *on_record}
    assert settled(world)


@pytest.mark.covers("P-7.23")
def test_a_row_that_somebody_wrote_meanwhile_is_not_replaced(world: World) -> None:
    n1, n2, n3 = three(world)
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sync()
    n2.sync()
    n1.sql("UPDATE client SET name = 'later' WHERE id = 'c2'")
    n1.sync()
    n3.sync()
    put_back_centre(world, copy)
    gone(world, "n1")
    offer(world, n2, *kept(n2))
    world.sql("UPDATE client SET name = 'of the centre' WHERE id = 'c2'")
    reply = offer(world, n3, *kept(n3))
    assert (reply.filled, reply.recorded) == (0, 1)
    assert at_centre(world, "name", "c2") == "of the centre"


@pytest.mark.covers("P-7.23")
def test_rows_outside_the_nodes_scope_fill_nothing(world: World) -> None:
    n1, n2, _ = three(world)
    other = world.node("other", "branch:B")
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sync()
    n2.sync()
    pages = kept(n2)
    put_back_centre(world, copy)
    offer(world, n2)  # it makes the centre see that it was restored
    reply = offer(world, other, *pages)
    assert reply.filled == 0
    assert world.sql("SELECT id FROM client") == [("c1",)]


@pytest.mark.covers("P-7.23", "P-7.24")
def test_a_row_that_one_node_may_not_bring_comes_with_the_page_of_another(world: World) -> None:
    """The first to offer had it in a scope of the lost history alone. Found by the simulator: seed 2004346."""
    _, n2, _ = three(world)
    other = world.node("other", "branch:B")
    copy = copy_of(world.database.path)
    world.rescope("other", "branch:A")
    world.sql(CLIENT, "c2")
    other.sync()
    n2.sync()
    put_back_centre(world, copy)
    other.sync()
    assert world.sql("SELECT id FROM client ORDER BY id") == [("c1",)]
    n2.sync()
    assert world.sql("SELECT id FROM client ORDER BY id") == [("c1",), ("c2",)]
    assert settled(world)
    assert world.sql("SELECT rule, winner FROM _conflict WHERE mine_node <> 0") == [("restored", "mine")]


@pytest.mark.covers("P-7.24")
@pytest.mark.parametrize("key", ["c1", "c2"])
def test_of_two_lives_under_one_number_nothing_is_passed_over(world: World, key: str) -> None:
    """The centre was put back twice, in silence; each life of it had a reader. Found by the simulator: seed 3002050."""
    _, n2, n3 = three(world)
    copy = copy_of(world.database.path)
    lives = {"one": n2, "two": n3}
    for name, reader in lives.items():
        world.sql("INSERT INTO client (id, branch, name) VALUES (?, 'A', '') ON CONFLICT DO NOTHING", key)
        world.sql("UPDATE client SET name = ? WHERE id = ?", name, key)
        reader.sync()
        put_back_centre(world, copy)
    assert offer(world, n2, *kept(n2)[-1:]).recorded == (key == "c1")
    assert offer(world, n3, *kept(n3)[-1:]).recorded == 1
    on_record = {value for (side,) in world.sql("SELECT mine FROM _conflict") for value in unpack_tuple(side) or ()}
    assert {"one", "two"} <= {at_centre(world, "name", key), *on_record}


@pytest.mark.covers("P-7.5", "P-7.27")
def test_a_copy_that_pushed_while_everything_is_taken_anew_is_noticed(world: World) -> None:
    """Its work would have been cleared away, and not come: to the centre it is this incarnation's own. Seed 3002677."""
    n1, _, _ = three(world)
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sync()
    put_back_centre(world, copy)

    def cut(kind: str) -> None:
        if kind == "pull" and n1.database.state().healing == RELOAD:
            raise ReplyLost(kind)

    n1.link.before = cut
    with pytest.raises(ReplyLost):
        n1.sync()
    n1.link.before = lambda _kind: None
    n1.sql("INSERT INTO receipt (id, branch, day, total) VALUES ('s1', 'A', '2026-11-22', 0)")
    with n1.database.writing() as store:
        outbox.seal(store, n1.database.clock_ms())
    cloned = clone(world, n1, "n4")
    n1.sync()
    cloned.sync()
    assert cloned.sql("SELECT id FROM receipt") == [("s1",)]
    assert settled(world)


@pytest.mark.covers("P-7.20", "P-7.30")
def test_the_pages_of_one_pull_are_offered_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sale lies in several pages of a pull; whenever the centre is looked at it has all of it or nothing."""
    monkeypatch.setattr("node.healing.PAGE_ROWS", 2)
    n1, n2, _ = three(world)
    copy = copy_of(world.database.path)
    for key in ("s1", "s2"):
        with n1.database.writing() as store:
            store.connection.execute("INSERT INTO receipt (id, branch, day, total) VALUES (?, 'A', '2026-11-22', 20)", (key,))
            lines = [(f"{key}-{number}", key) for number in range(4)]
            store.connection.executemany("INSERT INTO receipt_line (id, receipt_id, amount) VALUES (?, ?, 5)", lines)
        n1.sync()
        n2.sync(rows=2)
    assert n2.sql("SELECT COUNT(*), COUNT(DISTINCT pull) FROM _kept_page WHERE pull > 0")[0][0] > 2
    put_back_centre(world, copy)
    gone(world, "n1")
    seen = set[tuple[str, int]]()
    n2.link.before = lambda _kind: seen.update(world.sql("SELECT receipt_id, COUNT(*) FROM receipt_line GROUP BY 1"))
    n2.sync()
    assert [kind for kind, _ in n2.link.requests].count("offer") >= 2
    assert seen == {("s1", 4), ("s2", 4)}
    assert settled(world)


@pytest.mark.covers("P-7.20")
def test_half_a_sale_is_not_offered(world: World) -> None:
    """Its page came, and the rest of the pull did not. Found by the simulator: seed 2002644."""
    n1, n2, _ = three(world)
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sync()
    n2.sync()
    with n1.database.writing() as store:
        store.connection.execute("INSERT INTO receipt (id, branch, day, total) VALUES ('s1', 'A', '2026-11-22', 10)")
        store.connection.executemany("INSERT INTO receipt_line (id, receipt_id, amount) VALUES (?, 's1', 5)", [("l1",), ("l2",)])
    n1.sync()
    pulls = 0

    def cut(kind: str) -> None:
        nonlocal pulls
        pulls += kind == "pull"
        if pulls == 3:
            raise ReplyLost(kind)

    n2.link.before = cut
    with pytest.raises(ReplyLost):
        n2.sync(rows=1)
    assert n2.sql("SELECT COUNT(*) FROM _stage") == [(2,)]
    put_back_centre(world, copy)
    gone(world, "n1")
    assert settled(world)
    assert world.sql("SELECT COUNT(*) FROM receipt") == [(0,)]
    assert at_centre(world, "name", "c2") == "Ann"


@pytest.mark.covers("P-7.21")
def test_a_box_opens_with_its_own_key_only() -> None:
    key, other = box.new_key(), box.new_key()
    closed = box.close(box.public_key(key), b"content")
    assert box.open_box(key, closed) == b"content"
    assert len(closed) == len(b"content") + box.OVERHEAD_BYTES
    for wrong in (closed[:-1], closed[1:], b"", bytes(32), bytes([closed[0] ^ 1]) + closed[1:], closed[:-1] + bytes([closed[-1] ^ 1])):
        with pytest.raises(Malformed):
            box.open_box(key, wrong)
    with pytest.raises(Malformed):
        box.open_box(other, closed)


@pytest.mark.covers("P-7.21")
def test_a_box_that_does_not_open_stops_nothing(world: World) -> None:
    n1, _, _ = three(world)
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sync()
    put_back_centre(world, copy)
    reply = offer(world, n1, Offered(5, box.close(box.public_key(box.new_key()), b"x")))
    assert (reply.filled, reply.recorded) == (0, 0)


@pytest.mark.covers("P-7.26", "P-7.25")
def test_an_insert_that_was_accepted_before_is_not_held_for_its_key(world: World) -> None:
    n1, n2, _ = three(world)
    far = world.node("far", "branch:B")
    far.sync()
    copy = copy_of(world.database.path)
    n1.sql(CLIENT, "c2")
    n1.sync()
    world.sql("UPDATE client SET branch = 'B' WHERE id = 'c2'")
    far.sync()
    n1.sync()
    n2.sync()
    put_back_centre(world, copy)
    far.sync()
    assert at_centre(world, "branch", "c2") == "B"
    n1.sync()
    assert n1.held() == []
    assert settled(world)


@pytest.mark.covers("P-7.24", "P-8.4")
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_death_told_from_another_scope_kills_no_row_that_lives_there(order: str, world: World) -> None:
    """A key dies in one scope and is born again in another; the pages of the two nodes go back to a restored centre."""
    a, b = world.node("a", "branch:A"), world.node("b", "branch:B")
    world.settle(1)
    copy = copy_of(world.database.path)
    world.sql(CLIENT, "k")
    world.settle(1)
    world.sql("DELETE FROM client")
    b.sync()
    world.sql("INSERT INTO client (id, branch, name) VALUES ('k', 'B', 'second life')")
    b.sync()
    world.sql("INSERT INTO ware (id) VALUES ('w1')")
    a.sync()
    put_back_centre(world, copy)
    for name in order:
        world.nodes[name].sync()
    assert settled(world)
    assert world.sql("SELECT id, name FROM client") == [("k", "second life")]


@pytest.mark.covers("P-7.23")
@pytest.mark.sqlite_centre("values of any type in any column")
def test_a_row_that_no_node_could_have_written_is_put_on_record(world: World) -> None:
    """A central program wrote half a point into a column of integers, and the centre is put back to before that."""
    a = world.node("a", "branch:A")
    world.settle(1)
    copy = copy_of(world.database.path)
    world.sql("INSERT INTO client (id, branch, name, points) VALUES ('k1', 'A', 'half a point', 1.5)")
    world.sql("INSERT INTO client (id, branch, name) VALUES ('k2', 'A', CAST(x'C5ff' AS TEXT))")
    a.sync()
    put_back_centre(world, copy)
    assert settled(world)
    with world.database.reading() as store:
        kept = {each["key"]: each["mine"] for each in conflicts.listing(store)}
    assert sorted(kept) == ["k1", "k2"]
    assert 1.5 in kept["k1"]


@pytest.mark.covers("P-7.23")
def test_a_label_that_was_taken_off_and_put_on_again_comes_back(world: World) -> None:
    a = world.node("a", "branch:A")
    world.sql(CLIENT, "c1")
    world.settle(1)
    copy = copy_of(world.database.path)
    put_on = "INSERT INTO client_label (client_id, label) VALUES ('c1', 'vip')"
    for statement in (put_on, "DELETE FROM client_label", put_on):
        world.sql(statement)
        a.sync()
    put_back_centre(world, copy)
    assert settled(world)
    assert world.sql("SELECT label FROM client_label") == [("vip",)]
    assert a.conflicts() == []


def test_a_row_that_a_rule_of_another_program_refuses_stops_no_offer(world: World) -> None:
    """It is put on record, and what else the page holds comes back."""
    n1, n2, _ = three(world)
    copy = copy_of(world.database.path)
    for key in ("c2", "c3"):
        n1.sql(CLIENT, key)
    n1.sql("DELETE FROM client WHERE id = 'c1'")
    n1.sync()
    n2.sync()
    put_back_centre(world, copy)
    world.forbid("no_c2", "client", "NEW.id = 'c2'", "not this one")
    world.forbid("keep", "client", "OLD.id IS NOT NULL", "nobody goes", "DELETE")
    gone(world, "n1")
    assert offer(world, n2, *kept(n2)).filled == 1
    assert world.sql("SELECT id FROM client ORDER BY id") == [("c1",), ("c3",)]
    assert world.sql("SELECT key, rule FROM _conflict WHERE key = 'c2'") == [("c2", "restored")]
    world.allow("no_c2", "client")
    assert offer(world, n2, *kept(n2)).filled == 1
    assert world.sql("SELECT id FROM client ORDER BY id") == [("c1",), ("c2",), ("c3",)]
