"""After a restore of the centre: work that waited or was put aside, corrections, sums and sets — each once (PROTOCOL.md §7.7)."""

from __future__ import annotations

import os

import pytest

from node import held_cli, outbox
from node.held import correct, withdraw
from server import held as held_work
from server import ingest
from sync.errors import BadValue
from tests.healing.copies import copy_of, put_back_centre, put_back_node
from tests.healing.stories import CLIENT, at_centre, decide_all, doubts, gone, settled, three
from tests.healing.stories import world as world  # a fixture
from tests.world import ReplyLost, World


@pytest.mark.covers("P-7.17", "P-8.14")
@pytest.mark.parametrize("fate", ["refused", "withdrawn"])
def test_what_was_put_aside_and_dealt_with_does_not_come_back_to_the_list(world: World, fate: str) -> None:
    """Its segment is sent again, for something else in it was let in since the backup, and its old verdict is told again."""
    node, _, _ = three(world)
    for key in ("c2", "c3"):
        node.sql("INSERT INTO client (id, branch) VALUES (?, 'B')", key)
    node.sync()
    with world.database.writing() as store:
        first, second = held_work.waiting(store)
        if fate == "refused":
            ingest.decide(store, first.id, False, world.clock.read())
        else:
            ingest.withdraw(store, first.id, "", world.clock.read())
    node.sync()
    identity = next(row["id"] for row in node.held(withdrawn=fate == "withdrawn") if row["key"] == "c2")
    correct(node.database, identity, ["branch=A"])
    assert settled(world)
    copy = copy_of(world.database.path)
    with world.database.writing() as store:
        ingest.decide(store, second.id, True, world.clock.read())
    node.sync()
    put_back_centre(world, copy)
    assert settled(world)
    assert [(row["key"], row["code"]) for row in node.held()] == [("c3", "right")]
    assert [(row["key"], row["code"]) for row in node.held(withdrawn=True)] == [("c2", "replaced")]


@pytest.mark.covers("P-7.17", "P-8.14")
@pytest.mark.parametrize("fate", ["approved", "refused", "withdrawn", "handed"])
def test_held_work_is_held_again_where_a_verdict_was_heard_and_lost(world: World, fate: str) -> None:
    """A pull was cut when it had told the verdict; the centre is put back to before that, and pulls begin behind `held`."""
    node, other, _ = three(world)
    node.sql("INSERT INTO client (id, branch) VALUES ('c2', 'B')")
    node.sync()
    copy = copy_of(world.database.path)
    with world.database.writing() as store:
        (held,), now_ms = held_work.waiting(store), world.clock.read()
        if fate in ("approved", "refused"):
            ingest.decide(store, held.id, fate == "approved", now_ms)
        elif fate == "withdrawn":
            ingest.withdraw(store, held.id, "", now_ms)
        else:
            ingest.hand_over(store, held.id, "Eva", "", now_ms)

    def more(kind: str) -> None:
        if node.sql("SELECT version FROM _txn") != [(held_at,)]:
            raise ReplyLost(kind)
        for _ in range(2):  # so that there is another page
            other.sql(CLIENT, os.urandom(4).hex())
        other.sync()

    ((held_at,),) = node.sql("SELECT version FROM _txn")
    node.link.before = more
    with pytest.raises(ReplyLost):
        node.sync(rows=1)
    node.link.before = lambda _kind: None
    put_back_centre(world, copy)
    assert settled(world)
    assert [(row["key"], row["verdict"], row["code"]) for row in node.held()] == [("c2", "held", "right")]
    node.sql("UPDATE client SET branch = 'A' WHERE id = 'c2'")
    assert settled(world)
    assert (node.held(), at_centre(world, "branch", "c2")) == ([], "A")


@pytest.mark.covers("P-7.17", "P-8.13", "P-8.30")
def test_held_work_that_a_correction_replaced_counts_once_in_view(world: World) -> None:
    """5 points more, held, and 1,000 more on top, which took the place of that and is held too: both are sent again."""
    node, other, _ = three(world)
    copy = copy_of(world.database.path)
    node.sql("UPDATE client SET points = 5, name = CAST(x'ff' AS TEXT)")
    node.sync()
    node.sql("UPDATE client SET points = points + 1000")
    node.sync()
    put_back_centre(world, copy)
    assert settled(world)
    assert (node.sql("SELECT points FROM client"), at_centre(world, "points")) == ([(1005,)], None)
    node.sql("UPDATE client SET name = 'Ann'")
    assert settled(world)
    assert at_centre(world, "points") == 1005
    assert (node.held(), other.sql("SELECT points FROM client")) == ([], [(1005,)])


@pytest.mark.parametrize("is_lost", [False, True])
def test_held_work_that_its_disk_has_no_more_is_listed_as_long_as_the_centre_has_it(
    world: World, is_lost: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The node was put back to before it typed that; then the centre may lose it too. Found by the simulator: seed 5003292."""
    node, _, _ = three(world)
    before, old = copy_of(world.database.path), copy_of(node.database.path)
    node.sql("INSERT INTO client (id, branch) VALUES ('c2', 'B')")
    node.sync()
    put_back_node(world, node, old)
    node.sync()
    (entry,) = node.held()
    assert (entry["verdict"], entry["code"], entry["table"]) == ("held", "right", None)
    assert [each["do"] for each in entry["can"]] == ["ask", "withdraw"]
    held_cli._tell([entry], False)
    said = capsys.readouterr().out
    assert "not on this computer" in said
    assert "It is kept at the centre" in said
    with pytest.raises(BadValue, match="not on this computer"):
        correct(node.database, entry["id"], ["branch=A"])
    if is_lost:
        put_back_centre(world, before)
    else:
        withdraw(node.database, entry["id"])
    assert settled(world)
    assert (node.held(), node.sql("SELECT * FROM _txn")) == ([], [])
    assert settled(world)


@pytest.mark.covers("P-7.17", "P-8.30")
def test_a_correction_that_is_held_again_brings_what_it_took_the_place_of(world: World) -> None:
    """The restored centre has both; that the correction was let in, it has not. Found by the simulator: seed 3000756."""
    node, _, _ = three(world)
    node.sql("INSERT INTO client (id, branch, credit) VALUES ('c2', 'B', 'from the insert')")
    node.sync()
    node.sql("UPDATE client SET name = 'from the correction' WHERE id = 'c2'")
    node.sync()
    copy = copy_of(world.database.path)
    with world.database.writing() as store:
        (held,) = held_work.waiting(store)
        ingest.decide(store, held.id, True, world.clock.read())
    assert settled(world)
    assert node.sql("SELECT id FROM client") == [("c1",)]  # it is the centre's, and another branch's
    put_back_centre(world, copy)
    assert settled(world)
    assert node.sql("SELECT name, credit FROM client WHERE id = 'c2'") == [("from the correction", "from the insert")]


@pytest.mark.covers("P-7.17", "P-8.30")
def test_what_a_correction_took_the_place_of_comes_back_in_the_order_it_was_typed_in(world: World) -> None:
    """Of an insert and a later change only the change is sent again beside the correction. Found by the simulator: seed 76003583."""
    node, _, _ = three(world)
    node.sql("INSERT INTO client (id, branch, points) VALUES ('c2', 'B', 0)")
    with node.database.writing() as store:
        outbox.seal(store, world.clock.read())
    node.sql("UPDATE client SET points = points - 1 WHERE id = 'c2'")
    node.sql("INSERT INTO receipt (id, branch, day, total) VALUES ('r1', 'B', '2026-01-01', 1)")  # in the segment of the change
    node.sync()
    node.sql("UPDATE client SET name = 'from the correction' WHERE id = 'c2'")
    node.sync()
    copy = copy_of(world.database.path)
    decide_all(world, is_approved=False)
    assert node.sql("SELECT id FROM client") == [("c1",)]
    put_back_centre(world, copy)
    assert settled(world)
    assert node.sql("SELECT name, points FROM client WHERE id = 'c2'") == [("from the correction", -1)]
    assert [(row["key"], row["verdict"]) for row in node.held()] == [("c2", "held")] * 3 + [("r1", "held")]


@pytest.mark.covers("P-7.23", "P-7.25")
@pytest.mark.parametrize("order", ["peer first", "origin first"])
def test_differences_count_once_whoever_brings_them_back(world: World, order: str) -> None:
    n1, n2, n3 = three(world)
    copy = copy_of(world.database.path)
    n1.sql("INSERT INTO client (id, branch, name, points) VALUES ('c2', 'A', 'Ben', 10)")
    n1.sync()
    n2.sync()
    n2.sql("UPDATE client SET points = points + 5 WHERE id = 'c2'")
    n1.sql("UPDATE client SET points = COALESCE(points, 0) + 100 WHERE id IN ('c1', 'c2')")
    n2.sync()
    n1.sync()
    n3.sync()
    put_back_centre(world, copy)
    for entry in (n3, n2, n1) if order == "peer first" else (n1, n2, n3):
        entry.sync()
    assert settled(world)
    assert (at_centre(world, "points", "c2"), at_centre(world, "points", "c1")) == (115, 100)


@pytest.mark.covers("P-7.23", "P-7.24")
def test_a_sum_whose_writers_never_return_is_on_record(world: World) -> None:
    n1, n2, _ = three(world)
    copy = copy_of(world.database.path)
    n1.sql("INSERT INTO client (id, branch, name, points, labels) VALUES ('c2', 'A', 'Ben', 10, '[\"vip\"]')")
    n1.sync()
    n2.sync()
    put_back_centre(world, copy)
    gone(world, "n1")
    assert settled(world)
    assert (at_centre(world, "points", "c2"), at_centre(world, "labels", "c2")) == (0, '["vip"]')
    assert doubts(n2, "points") == [(10, 0, "restored")]
