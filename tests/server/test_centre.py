"""What central programs write by plain SQL travels like anything else (PROTOCOL.md §6.6)."""

from __future__ import annotations

import pytest

from server import centre
from tests.world import Node, World


def test_rows_written_before_a_node_is_invited_reach_it(world: World) -> None:
    """Inviting journals a version of its own; it must not take central rows as seen."""
    world.sql("INSERT INTO product (id, name) VALUES ('p1', 'Чай')")
    assert world.node("k2", "branch:LON").sync().pulled == 1
    world.sql("INSERT INTO product (id, name) VALUES ('p2', 'Кава')")
    world.rescope("k2", "branch:PAR")
    assert world.nodes["k2"].sync().pulled == 1
    assert world.agree()


def test_a_parent_written_at_the_centre_releases_what_waits_for_it(world: World) -> None:
    k2 = world.node("k2", "branch:LON", "owner:e1")
    k2.sql("INSERT INTO deal (id, contact_id, owner_id) VALUES ('d1', 'c1', 'e1')")
    assert k2.sync().verdicts["held"] == 1
    world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Анна', 'LON')")
    k2.sync()
    assert not k2.held()
    assert world.sql("SELECT id FROM deal") == [("d1",)]
    assert world.agree()


ODD = [
    "INSERT INTO contact (id, kind, name, branch_id) VALUES ('d', 'p', 'n', x'ff')",
    "INSERT INTO contact (id, kind, name, branch_id) VALUES ('d', 'p', 'n', CAST(x'ff' AS TEXT))",
    "INSERT INTO contact (id, kind, name, branch_id) VALUES (CAST(x'ff' AS TEXT), 'p', 'n', 'A')",
    "INSERT INTO contact (id, kind, name, branch_id) VALUES ('a' || char(0) || 'b', 'p', 'n', 'A')",
    "INSERT INTO activity (id, contact_id) VALUES ('a9', 'a' || char(0) || 'b')",
    "UPDATE contact SET note = CAST(x'ff' AS TEXT) WHERE id = 'c1'",
    "UPDATE contact SET branch_id = CAST(x'ff' AS TEXT) WHERE id = 'c2'",
]


@pytest.mark.sqlite_centre("text with a NUL in it")
def test_odd_text_of_a_central_program_stops_nobody(world: World) -> None:
    k2 = world.node("k2", "branch:A")
    for identity in ("c1", "c2"):
        k2.write([("contact", {"id": identity, "kind": "person", "name": "x", "branch_id": "A"})])
    k2.sync()
    for statement in ODD:
        world.sql(statement.replace("'d'", f"'d{ODD.index(statement)}'"))
        k2.sync()
    k2.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")
    assert k2.sync().verdicts["accepted"] == 1
    assert world.agree()
    world.sql("DELETE FROM activity")
    world.sql("DELETE FROM contact WHERE id <> 'c1'")
    world.settle()
    assert world.agree()


RAW = [b"\xff", b"a\x00b", b"\x00raw:61", b"\x00", "клієнт".encode("cp1251")]
"""Keys as an old central program may write them."""


def raw_families(world: World) -> None:
    """Write contacts with such keys, activities and deals under them, and stage events under deals: only activities die with theirs."""
    for key in RAW:
        world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES (CAST(? AS TEXT), 'person', 'x', 'A')", key)
        world.sql("INSERT INTO activity (id, contact_id) VALUES (CAST(? AS TEXT), CAST(? AS TEXT))", key, key)
        world.sql("INSERT INTO deal (id, contact_id, title) VALUES (CAST(? AS TEXT), CAST(? AS TEXT), 'x')", key, key)
        world.sql("INSERT INTO stage_event (id, deal_id, stage_id, entered_ms) VALUES (CAST(? AS TEXT), CAST(? AS TEXT), 's', 1)", key, key)


def families(node: Node) -> list[int]:
    return [node.sql(f"SELECT COUNT(*) FROM {table}")[0][0] for table in ("contact", "activity", "deal", "stage_event")]


def test_what_hangs_under_a_key_that_is_not_utf8_moves_and_dies_with_it(world: World) -> None:
    a, b = world.node("a", "branch:A"), world.node("b", "branch:B")
    raw_families(world)
    world.settle()
    assert families(a) == [len(RAW)] * 4
    world.sql("UPDATE contact SET branch_id = 'B'")
    world.settle()
    assert (families(a), families(b)) == ([0] * 4, [len(RAW)] * 4)
    assert world.agree()
    world.sql("DELETE FROM contact")
    world.settle()
    assert families(b) == [0] * 4
    assert world.sql("SELECT 1 FROM activity") == []
    assert world.agree()


@pytest.mark.sqlite_centre("text that is not UTF-8")
def test_a_child_that_comes_back_brings_back_a_parent_whose_key_is_not_utf8(world: World) -> None:
    """The centre deletes the contact, and with it an activity that a branch edits meanwhile: that edit wins."""
    a = world.node("a", "branch:A")
    world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES (CAST(? AS TEXT), 'person', 'x', 'A')", RAW[-1])
    world.sql("INSERT INTO activity (id, contact_id, topic) VALUES ('d', CAST(? AS TEXT), 'x')", RAW[-1])
    a.sync()
    world.sql("DELETE FROM contact")
    a.sql("UPDATE activity SET topic = 'still wanted'")
    world.settle()
    assert world.sql("SELECT CAST(id AS BLOB) FROM contact") == [(RAW[-1],)]
    assert a.sql("SELECT topic FROM activity") == [("still wanted",)]
    assert world.agree()


def test_a_key_that_is_not_utf8_stops_no_pull_of_a_table_with_conflicts(world: World) -> None:
    a, b = world.node("a", "branch:A"), world.node("b", "branch:A")
    a.write([("contact", {"id": "c", "kind": "person", "name": "x", "branch_id": "A"})])
    world.settle()
    a.sql("UPDATE contact SET phone = '1'")
    b.sql("UPDATE contact SET phone = '2'")
    world.settle()
    raw_families(world)
    world.sql("UPDATE contact SET name = 'news' WHERE id = 'c'")
    world.settle()
    assert a.sql("SELECT name FROM contact WHERE id = 'c'") == [("news",)]
    assert families(b) == [len(RAW) + 1, *[len(RAW)] * 3]
    assert world.agree()


def test_a_child_changed_and_its_parent_deleted_before_one_exchange(world: World) -> None:
    k2 = world.node("k2", "branch:A")
    k2.write([("contact", {"id": "c", "kind": "person", "name": "x", "branch_id": "A"}), ("activity", {"id": "a", "contact_id": "c"})])
    k2.sync()
    world.sql("UPDATE activity SET topic = 'u' WHERE id = 'a'")
    world.sql("DELETE FROM contact WHERE id = 'c'")
    k2.sync()
    assert k2.sql("SELECT * FROM activity") == []
    assert world.agree()


def test_an_edit_of_a_row_whose_key_the_centre_changed(world: World) -> None:
    k2 = world.node("k2", "branch:A")
    k2.write([("contact", {"id": "c", "kind": "person", "name": "x", "branch_id": "A"})])
    k2.sync()
    world.sql("UPDATE contact SET id = 'new' WHERE id = 'c'")
    k2.sql("UPDATE contact SET phone = '1' WHERE id = 'c'")
    k2.sync()
    assert k2.sql("SELECT id FROM contact ORDER BY id") == [("c",), ("new",)]
    assert world.agree()


def test_a_document_the_centre_moves_leaves_its_branch(world: World) -> None:
    k2, l3 = world.node("k2", "branch:A"), world.node("l3", "branch:B")
    sale = {"id": "s", "number": "1", "kind": "sale", "branch_id": "A", "sold_ms": 1, "currency": "EUR", "total_minor": 1}
    k2.write([("sale", sale), ("payment", {"id": "p", "sale_id": "s", "method": "cash", "amount_minor": 1})])
    world.settle()
    world.sql("UPDATE sale SET branch_id = 'B' WHERE id = 's'")
    world.settle()
    assert k2.sql("SELECT * FROM sale") == k2.sql("SELECT * FROM payment") == []
    assert l3.sql("SELECT id FROM payment") == [("p",)]
    world.node("fresh", "branch:A").sync()
    assert world.nodes["fresh"].sql("SELECT * FROM sale") == []
    assert world.agree()


def test_values_of_another_scope_do_not_travel_in_a_conflict(world: World) -> None:
    k2, l3 = world.node("k2", "branch:A"), world.node("l3", "branch:B")
    k2.write([("contact", {"id": "K", "kind": "person", "name": "SECRET", "branch_id": "A"})])
    k2.sync()
    k2.sql("DELETE FROM contact")
    k2.sync()
    l3.write([("contact", {"id": "K", "kind": "person", "name": "x", "branch_id": "B"})])
    l3.sync()
    assert not l3.conflicts()
    assert world.agree()


def test_a_large_commit_of_the_centre_is_several_versions_that_come_together(world: World) -> None:
    k2 = world.node("k2", "branch:LON")
    world.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 22000)"
        " INSERT INTO product (id, name) SELECT 'p' || i, 'Чай' FROM n"
    )
    assert k2.sync(rows=3000).pulled == 22_000
    assert [row[0] for row in world.sql("SELECT kind FROM _journal WHERE kind = 'central'")] == ["central"] * 3
    assert world.agree()


def test_updates_and_deletions_of_one_commit_over_several_versions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    k2, l3 = world.node("k2", "branch:LON"), world.node("l3", "branch:PAR")
    for number in range(9):
        world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'Анна', 'LON')", f"c{number}")
        world.sql("INSERT INTO activity (id, contact_id) VALUES (?, ?)", f"a{number}", f"c{number}")
    world.settle()
    monkeypatch.setattr(centre, "SEGMENT_ROWS", 2)
    connection = world.database.dialect.open(world.database.path)
    connection.execute("BEGIN")
    connection.execute("UPDATE contact SET branch_id = 'PAR', note = 'moved' WHERE id < 'c3'")
    connection.execute("DELETE FROM contact WHERE id > 'c5'")
    connection.execute("UPDATE activity SET topic = 'new'")
    connection.execute("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c9', 'person', 'Ben', 'LON')")
    connection.commit()
    connection.close()
    world.settle()
    assert k2.sql("SELECT id FROM contact ORDER BY id") == [("c3",), ("c4",), ("c5",), ("c9",)]
    assert l3.sql("SELECT id, topic FROM activity ORDER BY id") == [("a0", "new"), ("a1", "new"), ("a2", "new")]
    assert world.agree()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_new_sale_takes_lines_along_that_were_there_before_it(world: World, at_once: bool) -> None:
    """Written before their sale, or left by one that was deleted and written again in another branch."""
    k2, l3 = world.node("k2", "branch:LON"), world.node("l3", "branch:PAR")
    sale = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES ('s1', 'n', 'sale', ?, 1, 'GBP', 1)"
    if at_once:
        world.sql(sale, "LON")
    world.sql("INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES ('l1', 's1', 1, 1, 1)")
    world.settle()
    connection = world.database.dialect.open(world.database.path)
    connection.execute("BEGIN")
    connection.execute("DELETE FROM sale")
    connection.execute(sale, ("PAR",))
    connection.commit()
    connection.close()
    world.settle()
    assert k2.sql("SELECT id FROM sale_line") == []
    assert l3.sql("SELECT id FROM sale_line") == [("l1",)]
    assert world.agree()
