"""Rows of many megabytes: a page is bounded in bytes, so whatever is written goes on, page by page."""

from __future__ import annotations

import msgspec
import pytest

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
