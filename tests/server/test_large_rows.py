"""Rows of many megabytes: a page is bounded in bytes, so whatever is written goes on, page by page."""

from __future__ import annotations

import msgspec
import pytest

from server import conflicts, disputes
from server.draft import PAGE_BYTES
from sync.limits import ROW_BYTES_MAX
from tests.server.test_whole import Watched, watch
from tests.world import Node, World

CONTACT = "INSERT INTO contact (id, kind, name, branch_id, note) VALUES (?, 'person', 'x', 'LON', ?)"
NOTE = "ї" * 450_000  # 900 kB


def notes(node: Node) -> list[tuple[str, int]]:
    return node.sql("SELECT id, LENGTH(note) FROM contact ORDER BY id")


def assert_bounded(link: Watched) -> None:
    assert max(len(msgspec.msgpack.encode(page)) for page in link.pages) < 2 * PAGE_BYTES


@pytest.mark.parametrize("small", [0, 300])
def test_many_long_notes_of_a_node_reach_another(world: World, small: int) -> None:
    one, two = world.node("one", "branch:LON"), world.node("two", "branch:LON")
    one.sql("BEGIN")
    for number in range(small):
        one.sql(CONTACT, f"a{number:03}", "short")
    for number in range(80):
        one.sql(CONTACT, f"b{number:03}", f"{number}{NOTE}")
    one.sql("COMMIT")
    one.sync()
    link = watch(two)
    assert two.sync().pulled == small + 80
    assert_bounded(link)
    assert notes(two) == notes(one)
    assert world.agree()


def test_many_long_rows_of_documents_too(world: World) -> None:
    connection = world.database.dialect.open(world.database.path)
    sql = "INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, moved_ms) VALUES (?, 'p', 'LON', 1, ?, 1)"
    connection.execute("BEGIN")
    connection.executemany(sql, [(f"m{number:04}", "x" if number < 2000 else f"{number}{NOTE}") for number in range(2060)])
    connection.commit()
    connection.close()
    two = world.node("two", "branch:LON")
    link = watch(two)
    assert two.sync().pulled == 2060
    assert_bounded(link)
    assert world.agree()


def test_conflicts_of_long_notes_come_in_several_pages(world: World) -> None:
    one, two = world.node("one", "branch:LON"), world.node("two", "branch:LON")
    for number in range(12):
        one.sql(CONTACT, f"c{number:02}", f"first {NOTE}")
    world.settle()
    one.sql("UPDATE contact SET note = 'one ' || note")
    two.sql("UPDATE contact SET note = 'two ' || note")
    one.sync()
    two.sync()
    link = watch(one)
    one.sync()
    assert len(link.pages) > 2
    assert len(one.conflicts()) == len(two.conflicts()) == 12
    assert world.agree()


@pytest.mark.covers("P-3.2")
@pytest.mark.sqlite_centre("a blob in a column of text")
def test_a_row_that_no_page_can_hold_stops_no_other(world: World) -> None:
    two = world.node("two", "branch:LON", "branch:PAR")
    world.sql(CONTACT, "before", "short")
    world.sql(CONTACT, "grows", "short")
    two.sync()
    for key in ("huge", "grows"):
        world.sql("INSERT OR IGNORE INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'x', 'LON')", key)
        world.sql("UPDATE contact SET note = CAST(zeroblob(?) AS BLOB) WHERE id = ?", ROW_BYTES_MAX + 1, key)
    huge = "INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, moved_ms) VALUES ('huge', 'p', 'LON', 1, zeroblob(?), 1)"
    world.sql(huge, ROW_BYTES_MAX + 1)
    world.sql(CONTACT, "large", "x" * (ROW_BYTES_MAX - 1000))
    world.sql(CONTACT, "zafter", "short")
    two.sync()
    assert notes(two) == [("before", 5), ("grows", 5), ("large", ROW_BYTES_MAX - 1000), ("zafter", 5)]
    assert two.sql("SELECT id FROM stock_move") == []
    assert not two.verify()
    world.sql("UPDATE contact SET branch_id = 'NYC' WHERE id = 'grows'")
    two.sync()
    assert [key for key, _ in notes(two)] == ["before", "large", "zafter"]
    world.sql("UPDATE contact SET note = 'short' WHERE id = 'huge'")
    world.sql("DELETE FROM stock_move")
    two.sync()
    assert ("huge", 5) in notes(two)
    assert world.agree()


def dispute(world: World, one: Node, two: Node, times: int) -> None:
    """Let two nodes change every note without knowing of each other, some times."""
    for number in range(times):
        one.sql(f"UPDATE contact SET note = 'one {number} ' || ?", NOTE)
        two.sql(f"UPDATE contact SET note = 'two {number} ' || ?", NOTE)
        for node in (one, two, one):
            node.sync()


def sides(node: Node) -> set[tuple[str, str]]:
    return {(entry["mine"][:5], entry["theirs"][:5]) for entry in node.conflicts()}


@pytest.mark.covers("P-8.6")
def test_more_conflicts_of_one_row_than_a_page_holds_come_again_with_it(world: World) -> None:
    """2.7 MB each: at the row's next change, and when it comes back to a node that forgot them with it."""
    one, two = world.node("one", "branch:LON"), world.node("two", "branch:LON")
    one.sql(CONTACT, "c", "first")
    world.settle()
    dispute(world, one, two, 8)
    told = sides(one), sides(two)
    assert list(map(len, told)) == [8, 8]
    world.sql("UPDATE contact SET phone = '1'")
    world.rescope("two", "branch:PAR")
    link = watch(one)
    assert one.sync().pulled == 1
    assert_bounded(link)
    two.sync()
    assert two.conflicts() == []
    world.rescope("two", "branch:LON")
    one.sql(CONTACT, "d", "a sale of the day goes out all the same")
    world.settle()
    assert (sides(one), sides(two)) == told
    assert one.sql("SELECT phone FROM contact WHERE id = 'c'") == [("1",)]
    assert world.agree()


@pytest.mark.covers("P-8.6")
@pytest.mark.parametrize("rows", [1, 3, 10_000])
def test_conflicts_that_come_again_are_counted_too(world: World, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(disputes, "PAGE_NOTICES_MAX", 2)
    one, two = world.node("one", "branch:LON"), world.node("two", "branch:LON")
    for key in "abcdef":
        one.sql(CONTACT, key, "first")
    world.settle()
    for number in range(3):
        one.sql(f"UPDATE contact SET note = 'one {number}', phone = 'one {number}'")
        two.sql(f"UPDATE contact SET note = 'two {number}', phone = 'two {number}' WHERE id <> 'c'")
        world.settle(2)
    assert len(two.conflicts()) == 5 * 2 * 3
    told = sorted(map(repr, two.conflicts()))
    world.rescope("two", "branch:PAR")
    two.sync()
    for key in "fbd":  # told in another order than the rows'
        world.sql("UPDATE contact SET name = 'new' WHERE id = ?", key)
        world.service.absorb(world.clock.read())
    world.rescope("two", "branch:LON")
    link = watch(two)
    two.sync(rows)
    assert max(len(page.conflicts) for page in link.pages) == 2
    assert sorted(map(repr, two.conflicts())) == told
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-3.2")
@pytest.mark.parametrize(("most", "told"), [(2_000_000, [None]), (1_500_000, [])], ids=["without-base", "not-at-all"])
def test_a_conflict_that_no_page_can_hold_stops_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int, told: list[str | None]
) -> None:
    monkeypatch.setattr(conflicts, "ROW_BYTES_MAX", most)
    one, two = world.node("one", "branch:LON"), world.node("two", "branch:LON")
    one.sql(CONTACT, "c", NOTE)
    world.settle()
    dispute(world, one, two, 1)
    world.sql("UPDATE contact SET phone = '1'")
    world.settle()
    assert [entry["base"] for entry in one.conflicts()] == told
    with world.database.reading() as store:
        assert [entry["base"] for entry in conflicts.listing(store)] == [NOTE]
    assert world.agree()
