"""The centre is restored from a backup: nothing that any node still has is lost, and everybody agrees again."""

from __future__ import annotations

from typing import Any

import pytest

from server import backup, ingest
from server import held as held_work
from tests.healing.copies import copy_of, put_back_centre
from tests.world import ReplyLost, World

CONTACT = "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', ?, 'LON')"
SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, 'n', 'sale', 'LON', 1, 'GBP', 100)"
LINE = "INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES (? || '-1', ?, 1, 1, 100)"


def everything(world: World, table: str) -> list[list[Any]]:
    """The rows of a table at the centre and on every node, without their numbers."""
    return [[row[:-1] for row in place.sql(f"SELECT * FROM {table} ORDER BY 1")] for place in (world, *world.nodes.values())]


def all_agree(world: World) -> bool:
    world.settle()
    return world.agree() and all(entry.unsynced() == 0 for entry in world.nodes.values())


def decide(world: World, *, approve: bool) -> None:
    """Let the centre decide on the oldest held work."""
    with world.database.writing() as store:
        ingest.decide(store, held_work.waiting(store)[0].id, approve, world.clock.read())


@pytest.mark.covers("P-7.17")
def test_sales_sent_after_the_backup_come_back_from_the_node_that_made_them(world: World) -> None:
    london = world.node("London", "branch:LON")
    london.sql(SALE, "s1")
    london.sync()
    copy = copy_of(world.database.path)
    for key in ("s2", "s3"):
        london.sql(SALE, key)
        london.sql(LINE, key, key)
        london.sync()
    london.sql(SALE, "s4")
    put_back_centre(world, copy)
    assert world.sql("SELECT id FROM sale") == [("s1",)]
    report = london.sync()
    assert report.lost is not None
    assert report.lost.transactions == 2
    assert world.sql("SELECT id FROM sale ORDER BY id") == [("s1",), ("s2",), ("s3",), ("s4",)]
    assert world.sql("SELECT id FROM sale_line ORDER BY id") == [("s2-1",), ("s3-1",)]
    assert all_agree(world)
    assert london.sql("SELECT COUNT(*) FROM sale") == [(4,)]
    assert london.conflicts() == []


def test_rows_come_back_from_a_peer_when_the_node_that_made_them_never_returns(world: World) -> None:
    first, second = world.node("first", "branch:LON"), world.node("second", "branch:LON")
    first.sync()
    copy = copy_of(world.database.path)
    first.sql(CONTACT, "c1", "Ann")
    first.sql(SALE, "s1")
    first.sql(LINE, "s1", "s1")
    first.sync()
    second.sync()
    put_back_centre(world, copy)
    del world.nodes["first"]
    second.sync()
    assert world.sql("SELECT id, name FROM contact") == [("c1", "Ann")]
    assert world.sql("SELECT id FROM sale") == [("s1",)]
    assert world.sql("SELECT id FROM sale_line") == [("s1-1",)]
    assert all_agree(world)
    assert second.sql("SELECT name FROM contact") == [("Ann",)]
    first.database.close()


def test_the_origin_that_returns_later_doubles_nothing(world: World) -> None:
    first, second = world.node("first", "branch:LON"), world.node("second", "branch:LON")
    first.sync()
    copy = copy_of(world.database.path)
    first.sql(CONTACT, "c1", "Ann")
    first.sql(SALE, "s1")
    first.sync()
    first.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")
    first.sync()
    second.sync()
    put_back_centre(world, copy)
    second.sync()
    first.sync()
    assert all_agree(world)
    assert everything(world, "contact")[0] == everything(world, "contact")[1] == everything(world, "contact")[2]
    assert world.sql("SELECT id, name, phone FROM contact") == [("c1", "Ann", "1")]
    assert world.sql("SELECT id FROM sale") == [("s1",)]
    assert first.conflicts() == second.conflicts() == []


@pytest.mark.covers("P-7.24")
def test_what_nobody_kept_but_a_peer_is_not_overwritten_and_the_doubt_is_on_record(world: World) -> None:
    """The centre forgot one value, a node writes another without having seen it: both are kept."""
    first, second, third = (world.node(name, "branch:LON") for name in ("first", "second", "third"))
    first.sql(CONTACT, "c1", "Ann")
    world.settle()
    copy = copy_of(world.database.path)
    first.sql("UPDATE contact SET name = 'Anna' WHERE id = 'c1'")
    first.sync()
    second.sync()
    put_back_centre(world, copy)
    del world.nodes["first"]
    first.database.close()
    third.sql("UPDATE contact SET name = 'Anja' WHERE id = 'c1'")
    third.sync()
    second.sync()
    assert all_agree(world)
    assert world.sql("SELECT name FROM contact") == [("Anja",)]
    (told,) = second.conflicts()
    assert (told["mine"], told["rule"]) == ("Anna", "restored")


def test_a_deletion_that_the_centre_forgot_is_made_again(world: World) -> None:
    first, second = world.node("first", "branch:LON"), world.node("second", "branch:LON")
    first.sql(CONTACT, "c1", "Ann")
    world.settle()
    copy = copy_of(world.database.path)
    first.sql("DELETE FROM contact WHERE id = 'c1'")
    first.sync()
    second.sync()
    put_back_centre(world, copy)
    world.settle()
    assert all_agree(world)
    assert everything(world, "contact") == [[], [], []]


@pytest.mark.covers("P-7.16")
def test_a_node_that_heard_of_nothing_lost_only_takes_the_new_epoch(world: World) -> None:
    first, second = world.node("first", "branch:LON"), world.node("second", "branch:LON")
    first.sql(CONTACT, "c1", "Ann")
    world.settle()
    copy = copy_of(world.database.path)
    first.sql(CONTACT, "c2", "Ben")
    first.sync()
    put_back_centre(world, copy)
    first.sync()
    incarnation = second.database.state().incarnation
    report = second.sync()
    assert report.lost is None
    assert second.database.state().incarnation == incarnation
    assert second.database.state().epoch == first.database.state().epoch == 2
    assert second.sql("SELECT name FROM contact ORDER BY id") == [("Ann",), ("Ben",)]


@pytest.mark.covers("P-7.15")
@pytest.mark.sqlite_centre("a file is restored in its place")
def test_the_operator_may_say_so_and_it_comes_to_the_same(world: World) -> None:
    london = world.node("London", "branch:LON")
    london.sync()
    file = world.folder / "backup"
    backup.backup(world.database, file, world.clock.read())
    london.sql(SALE, "s1")
    london.sync()
    world.database.close()
    restored = backup.restore(file, world.database.path, world.schema, world.clock.read(), new_epoch=True)
    assert restored.epoch == 2
    assert restored.aside is not None
    put_back_centre(world, copy_of(world.database.path))
    report = london.sync()
    assert report.lost is not None
    assert world.sql("SELECT id FROM sale") == [("s1",)]
    assert all_agree(world)


@pytest.mark.parametrize("times", [2, 3])
def test_restored_again_and_again(world: World, times: int) -> None:
    first, second = world.node("first", "branch:LON"), world.node("second", "branch:LON")
    first.sql(CONTACT, "c0", "Ann")
    world.settle()
    copy = copy_of(world.database.path)
    for turn in range(times):
        first.sql(SALE, f"s{turn}")
        first.sql(CONTACT, f"c{turn + 1}", "Ben")
        first.sync()
        if turn:
            second.sync()
        put_back_centre(world, copy)
        second.sql("UPDATE contact SET phone = ? WHERE id = 'c0'", str(turn))
        second.sync()
    world.settle()
    assert all_agree(world)
    assert world.sql("SELECT COUNT(*) FROM sale") == [(times,)]
    assert world.sql("SELECT COUNT(*) FROM contact") == [(times + 1,)]
    assert world.sql("SELECT phone FROM contact WHERE id = 'c0'") == [(str(times - 1),)]


@pytest.mark.covers("P-7.28")
def test_what_a_second_restore_loses_again_is_offered_again(world: World) -> None:
    """Found by the simulator: base,disk,clock,copy,restore 10113."""
    first, second, third = (world.node(name, "branch:LON") for name in ("first", "second", "third"))
    first.sql(CONTACT, "c1", "Ann")
    world.settle()
    copy = copy_of(world.database.path)
    first.sql("UPDATE contact SET name = 'Anna' WHERE id = 'c1'")
    first.sql(CONTACT, "c2", "Ben")
    first.sync()
    second.sync()
    del world.nodes["first"]
    first.database.close()
    for turn in range(3):
        put_back_centre(world, copy)
        third.sql("UPDATE contact SET name = ? WHERE id = 'c1'", f"Anja {turn}")
        third.sync()
        second.sync()
        assert all_agree(world)
        assert "Anna" in {each["mine"] for each in second.conflicts()}
        assert world.sql("SELECT name FROM contact ORDER BY id") == [(f"Anja {turn}",), ("Ben",)]
    backup.backup(world.database, world.folder / "backup", world.clock.read())
    world.settle()
    assert second.sql("SELECT COUNT(*) FROM _kept_page") == [(0,)]


@pytest.mark.covers("P-7.20")
def test_a_backup_lets_nodes_forget_what_it_covers(world: World) -> None:
    first, second = world.node("first", "branch:LON"), world.node("second", "branch:LON")
    first.sql(CONTACT, "c1", "Ann")
    world.settle()
    kept = "SELECT (SELECT COUNT(*) FROM _retained), (SELECT COUNT(*) FROM _kept_page)"
    assert first.sql(kept) == [(1, 0)]
    assert second.sql(kept) == [(0, 1)]
    backup.backup(world.database, world.folder / "backup", world.clock.read())
    world.settle()
    assert first.sql(kept) == second.sql(kept) == [(0, 0)]


def test_what_is_kept_can_only_be_read_by_the_centre(world: World) -> None:
    first, second = world.node("first", "branch:LON"), world.node("second", "branch:LON")
    first.sql(CONTACT, "c1", "unmistakable " * 3)
    world.settle()
    for entry in (first, second):
        boxes = entry.sql("SELECT box FROM _retained UNION ALL SELECT box FROM _kept_page")
        assert len(boxes) == 1
        assert b"unmistakable" not in boxes[0][0]
        assert b"\x28\xb5\x2f\xfd" not in boxes[0][0]


@pytest.mark.covers("P-7.22")
def test_held_work_is_shown_again(world: World) -> None:
    london = world.node("London", "branch:LON")
    london.sync()
    copy = copy_of(world.database.path)
    london.sql("INSERT INTO product (id, name) VALUES ('p1', 'Tea')")
    london.sync()
    assert [entry["code"] for entry in london.held()] == ["reference"]
    put_back_centre(world, copy)
    london.sync()
    assert [entry["code"] for entry in london.held()] == ["reference"]
    assert london.sql("SELECT name FROM product") == [("Tea",)]
    assert all_agree(world)


@pytest.mark.covers("P-8.14")
def test_what_was_put_aside_before_the_backup_stays_where_it_is(world: World) -> None:
    """The restored centre tells its verdict again. Found by the simulator: base,disk,clock,copy,restore 51065."""
    london = world.node("London", "branch:LON")
    london.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Ann', 'LEE')")
    london.sync()
    decide(world, approve=False)
    london.sync()
    before = london.held()
    assert [(row["key"], row["verdict"], row["code"]) for row in before] == [("c1", "refused", "refused")]
    copy = copy_of(world.database.path)
    london.sql(SALE, "s1")
    london.sync()
    put_back_centre(world, copy)
    report = london.sync()
    assert report.lost is not None
    assert report.late["refused"] == 0
    assert london.held() == before
    assert all_agree(world)


@pytest.mark.covers("P-8.30", "P-7.22")
def test_a_correction_that_comes_again_takes_the_place_of_held_work_again(world: World) -> None:
    """Found by the simulator: base,disk,clock,copy,restore 51458."""
    london = world.node("London", "branch:LON")
    london.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Ann', 'LEE')")
    london.sync()
    copy = copy_of(world.database.path)
    london.sql("UPDATE contact SET name = 'Anne' WHERE id = 'c1'")
    london.sync()
    decide(world, approve=False)
    london.sync()
    assert london.sql("SELECT name FROM contact") == []
    put_back_centre(world, copy)
    assert london.sync().lost is not None
    assert london.sql("SELECT name FROM contact") == [("Anne",)]
    assert {row["verdict"] for row in london.held()} == {"held"}
    assert all_agree(world)


@pytest.mark.covers("P-7.20")
def test_work_is_kept_until_a_backup_covers_that_it_was_let_in(world: World) -> None:
    """The backup has it as held; the node never heard that it was. Found by the simulator: base,disk,clock,copy,restore 51833."""
    london = world.node("London", "branch:LON")
    london.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Ann', 'LEE')")
    london.link.lose = ["push"]
    with pytest.raises(ReplyLost):
        london.sync()
    file = world.folder / "backup"
    backup.backup(world.database, file, world.clock.read())
    decide(world, approve=True)
    london.sync()
    assert london.held() == []
    put_back_centre(world, file)
    assert london.sync().lost is not None
    assert [(row["key"], row["verdict"]) for row in london.held()] == [("c1", "held")]
    decide(world, approve=False)
    london.sync()
    assert [(row["key"], row["verdict"]) for row in london.held()] == [("c1", "refused")]
    assert all_agree(world)
