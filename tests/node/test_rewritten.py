"""Programs that empty and fill whole tables: what belongs together stays together, and numbering begun anew hides nothing."""

from __future__ import annotations

import pytest

from node import outbox
from node.verify import verify_and_repair
from tests.world import Node, World


def contacts_with_activities(world: World, count: int) -> Node:
    k2, _ = world.node("k2", "branch:A"), world.node("l3", "branch:A")
    connection = k2.database.connection
    connection.execute("BEGIN")
    for number in range(count):
        connection.execute("INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'x', 'A')", (f"c{number}",))
        connection.execute("INSERT INTO activity (id, contact_id) VALUES (?, ?)", (f"a{number}", f"c{number}"))
    connection.execute("COMMIT")
    world.settle()
    return k2


def in_one_commit(entry: Node, *statements: str) -> None:
    entry.database.connection.execute("BEGIN")
    for statement in statements:
        entry.database.connection.execute(statement)
    entry.database.connection.execute("COMMIT")


def ids(world: World, table: str) -> list[str]:
    found = [key for (key,) in world.sql(f"SELECT id FROM {table} ORDER BY id")]
    assert all([key for (key,) in node.sql(f"SELECT id FROM {table} ORDER BY id")] == found for node in world.nodes.values())
    return found


@pytest.mark.covers("P-5.2", "P-5.7")
@pytest.mark.parametrize("portion", [4, outbox.CHANGES_MAX])
def test_a_rewritten_table_keeps_what_hangs_under_its_rows(world: World, monkeypatch: pytest.MonkeyPatch, portion: int) -> None:
    monkeypatch.setattr(outbox, "CHANGES_MAX", portion)
    k2 = contacts_with_activities(world, 6)
    in_one_commit(
        k2,
        "CREATE TEMP TABLE copy AS SELECT id, kind, name, branch_id FROM contact",
        "DELETE FROM contact",
        "INSERT INTO contact (id, kind, name, branch_id) SELECT * FROM copy",
    )
    world.settle()
    assert ids(world, "activity") == [f"a{number}" for number in range(6)]
    assert world.agree()


@pytest.mark.covers("P-5.4", "P-5.7")
@pytest.mark.parametrize("portion", [4, outbox.CHANGES_MAX])
def test_renamed_parents_take_their_children_along(world: World, monkeypatch: pytest.MonkeyPatch, portion: int) -> None:
    monkeypatch.setattr(outbox, "CHANGES_MAX", portion)
    k2 = contacts_with_activities(world, 6)
    in_one_commit(k2, "UPDATE contact SET id = id || 'x'", "UPDATE activity SET contact_id = contact_id || 'x'")
    world.settle()
    assert ids(world, "contact") == [f"c{number}x" for number in range(6)]
    assert ids(world, "activity") == [f"a{number}" for number in range(6)]
    assert world.agree()


EMPTIED = ("DELETE FROM activity", "DELETE FROM contact", "DELETE FROM sqlite_sequence WHERE name = 'contact'")
NEW = "INSERT INTO contact (id, kind, name, branch_id) VALUES ('new', 'person', 'y', 'A')"


def test_a_table_emptied_and_numbered_anew_is_captured_again(world: World) -> None:
    k2 = contacts_with_activities(world, 5)
    in_one_commit(k2, *EMPTIED)
    world.settle()
    k2.sql(NEW)
    world.settle()
    assert ids(world, "contact") == ["new"]
    assert world.agree()


def test_a_table_emptied_numbered_anew_and_filled_before_one_exchange(world: World) -> None:
    k2 = contacts_with_activities(world, 3)
    in_one_commit(k2, *EMPTIED, NEW)
    world.settle()
    assert ids(world, "contact") == ["new"]
    assert k2.held() == []
    assert world.agree()


def test_what_came_between_two_looks_at_a_table_numbered_anew_is_found_by_a_comparison(world: World) -> None:
    k2 = contacts_with_activities(world, 5)
    k2.sql("DELETE FROM activity")
    k2.sql("DELETE FROM contact")
    world.settle()
    in_one_commit(k2, "DELETE FROM sqlite_sequence WHERE name = 'contact'", NEW)
    assert k2.sync().differing == 1
    verify_and_repair(k2.database, k2.link)
    world.settle()
    assert ids(world, "contact") == ["new"]
    assert world.agree()


def test_numbering_begun_anew_at_the_centre_stops_no_exchange(world: World) -> None:
    k2 = contacts_with_activities(world, 1)
    world.sql("DELETE FROM sqlite_sequence")
    world.sql("UPDATE contact SET id = 'd' WHERE id = 'c0'")
    world.sql("UPDATE activity SET contact_id = 'd'")
    k2.sync()
    world.settle()
    assert ids(world, "contact") == ["d"]
    assert world.agree()
