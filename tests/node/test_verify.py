"""Verify names exactly the rows that differ, and repair mends exactly those: tables of every kind, broken by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import narrow
from sync.errors import Malformed, UnknownTable
from sync.messages import KeyRange, VerifyRequest, Wanted
from sync.rows import columns_of, values_of
from tests.node.furnished import behind, firm, furnish, named
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = firm(tmp_path)
    yield made
    made.close()


def test_rows_that_are_gone_are_named_and_come_back(world: World) -> None:
    k2, _ = furnish(world)
    rows = {"product": "p2", "contact": "c3", "activity": "a3", "sale": "s3", "sale_line": "l3", "stock_move": "m3", "specimen": "z1"}
    behind(k2, *(f"DELETE FROM {table} WHERE id = '{key}'" for table, key in rows.items()))
    behind(k2, "DELETE FROM contact_tag WHERE contact_id = 'c3'")
    found = k2.compared()
    assert named(found) == {(table, key, "missing here") for table, key in rows.items()} | {
        ("contact_tag", "['c3', 'vip']", "missing here")
    }
    assert (found["equal"], found["differing"]) == (False, 8)
    before = world.sql("SELECT COUNT(*) FROM _journal")
    done = k2.repaired()
    assert done["equal"]
    assert done["repaired"]["mended"] == 8
    assert done["repaired"]["put_aside"] == 0
    assert k2.sync().pushed == 0
    assert k2.sql("SELECT name FROM product WHERE id = 'p2'") == [("Milk",)]
    assert world.sql("SELECT COUNT(*) FROM _journal") == before, "a repair tells nobody anything"


@pytest.mark.covers("P-9.14")
@pytest.mark.parametrize(
    ("table", "key", "column", "value"),
    [
        pytest.param("contact", "c1", "name", "'typed over'", id="record"),
        pytest.param("contact", "c1", "note", "CAST(x'ff00' AS TEXT)", id="raw-text"),
        pytest.param("product", "p1", "name", "NULL", id="reference"),
        pytest.param("sale", "s1", "total_minor", "6", id="document"),
        pytest.param("sale_line", "l1", "name", "''", id="child"),
        pytest.param("stock_move", "m1", "qty_milli", str(-(2**63) + 1), id="event-64-bit"),
        pytest.param("specimen", "z3", "raw", "0.0", id="minus-zero"),
        pytest.param("specimen", "z0", "ratio", "-9e999", id="infinity"),
        pytest.param("specimen", "z2", "raw", "x'00ff01'", id="blob"),
        pytest.param("specimen", "z2", "raw", "CAST(x'00ff02' AS TEXT)", id="text-for-a-blob"),
    ],
)
def test_a_changed_value_is_named_and_what_was_here_is_kept(world: World, table: str, key: str, column: str, value: str) -> None:
    k2, _ = furnish(world)
    before = world.sql(f"SELECT quote({column}), typeof({column}) FROM {table} WHERE id = ?", key)
    behind(k2, f"UPDATE {table} SET {column} = {value} WHERE id = '{key}'")
    found = k2.compared()
    assert found["rows"] == [{"table": table, "key": key, "what": "differs", "columns": [column]}]
    done = k2.repaired()
    assert done["equal"]
    assert done["repaired"]["rows"] == [{"table": table, "key": key, "what": "differs", "done": ["mended", "put aside"]}]
    assert k2.sql(f"SELECT quote({column}), typeof({column}) FROM {table} WHERE id = ?", key) == before
    (kept,) = k2.held()
    assert (kept["table"], kept["key"], kept["code"], kept["change"]) == (table, key, "verify", "insert")
    assert k2.repaired()["repaired"]["rows"] == [], "repeating it does nothing"
    assert len(k2.held()) == 1


@pytest.mark.covers("P-9.16")
def test_rows_that_capture_never_saw_are_offered_and_arrive(world: World) -> None:
    """An explicit low row number, and rows written with capture off: in every kind of table."""
    k2, l3 = furnish(world)
    k2.sql(
        "INSERT INTO sale (_rid, id, number, kind, branch_id, sold_ms, currency, total_minor)"
        " VALUES (-7, 's9', '9', 'sale', 'A', 1, 'EUR', 99)"
    )
    behind(
        k2,
        "INSERT INTO sale_line (_rid, id, sale_id, name, qty_milli, unit_price_e4, amount_minor) VALUES (-7, 'l9', 's9', 'Tea', 1, 1, 99)",
        "INSERT INTO contact (_rid, id, kind, name, branch_id) VALUES (-7, 'c9', 'person', CAST(x'c3a9' AS TEXT), 'A')",
        "INSERT INTO contact_tag (_rid, contact_id, tag) VALUES (-7, 'c9', 'new')",
        "INSERT INTO stock_move (_rid, id, product_id, branch_id, qty_milli, reason, moved_ms) VALUES (-7, 'm9', 'p1', 'A', 9, 'in', 1)",
        "INSERT INTO product (_rid, id, name) VALUES (-7, 'p9', 'Gin')",
    )
    extra = {
        ("sale", "s9"),
        ("sale_line", "l9"),
        ("contact", "c9"),
        ("contact_tag", "['c9', 'new']"),
        ("stock_move", "m9"),
        ("product", "p9"),
    }
    assert named(k2.compared()) == {(*row, "not at the centre") for row in extra}
    done = k2.repaired()
    assert done["equal"]
    assert done["repaired"]["offered"] == 6
    assert done["repaired"]["put_aside"] == 0
    assert k2.sync().pushed > 0
    assert world.sql("SELECT total_minor FROM sale WHERE id = 's9'") == [(99,)]
    assert [entry["code"] for entry in k2.held()] == ["reference"], "a product of a node's is a proposal"
    l3.sync()
    assert l3.sql("SELECT amount_minor FROM sale_line WHERE id = 'l9'") == [(99,)]
    assert world.agree()


def test_a_row_the_centre_had_is_put_aside_not_sent_again(world: World) -> None:
    """Deleted or moved away at the centre, and the removal never applied: it must not come back to life."""
    k2, l3 = furnish(world)
    l3.sql("DELETE FROM activity WHERE id = 'a2'")
    l3.sql("UPDATE contact SET branch_id = 'B' WHERE id = 'c4'")
    images = [k2.sql(f"SELECT * FROM {table} WHERE id = ?", key)[0] for table, key in (("activity", "a2"), ("contact", "c4"))]
    world.settle(2)
    for table, image in zip(("activity", "contact"), images, strict=True):
        columns = ", ".join([*world.schema.by_name[table].names, "_rid"])
        values = ", ".join("NULL" if value is None else repr(value) for value in image)
        behind(k2, f"INSERT INTO {table} ({columns}) VALUES ({values})")
    assert named(k2.compared()) == {("activity", "a2", "not at the centre"), ("contact", "c4", "not at the centre")}
    done = k2.repaired()
    assert done["equal"]
    assert done["repaired"]["put_aside"] == 2
    assert done["repaired"]["offered"] == 0
    assert {(entry["table"], entry["key"]) for entry in k2.held()} == {("activity", "a2"), ("contact", "c4")}
    assert k2.sync().pushed == 0
    assert k2.sql("SELECT 1 FROM contact WHERE id = 'c4'") == []


def test_rows_under_pending_work_are_mended_under_it(world: World) -> None:
    """The centre's row below our own unsent change is wrong, gone, or too much; the change itself stays."""
    k2, l3 = furnish(world)
    k2.sql("UPDATE contact SET phone = '1' WHERE id IN ('c1', 'c2')")
    k2.sql("DELETE FROM contact_tag WHERE contact_id = 'c3'")
    k2.sql("UPDATE sale SET total_minor = 7 WHERE id = 's1'")  # will be held: a document does not change
    assert k2.verify()
    k2.sql("UPDATE _shadow SET image = NULL WHERE key = 'c1'")
    image = k2.sql("SELECT image FROM _shadow WHERE key = 'c2'")[0][0]
    k2.sql("UPDATE _shadow SET image = ? WHERE key = 'c2'", image.replace("имя 2".encode(), "имя 9".encode()))
    k2.sql("UPDATE _shadow SET image = NULL WHERE tbl = 'contact_tag'")
    found = k2.compared()
    assert named(found) == {
        ("contact", "c1", "missing here"),
        ("contact", "c2", "differs"),
        ("contact_tag", "['c3', 'vip']", "missing here"),
    }
    done = k2.repaired()
    assert done["equal"]
    assert done["repaired"]["mended"] == 3
    assert k2.sql("SELECT name, phone FROM contact WHERE id IN ('c1', 'c2') ORDER BY id") == [("имя 1", "1"), ("имя 2", "1")]
    assert k2.sql("SELECT 1 FROM contact_tag WHERE contact_id = 'c3'") == [], "deleted here, not sent yet"
    k2.sync()
    assert {entry["code"] for entry in k2.held()} == {"immutable", "verify"}
    assert k2.verify(), "beside held work too"
    l3.sync()
    assert l3.sql("SELECT phone FROM contact WHERE id IN ('c1', 'c2')") == [("1",), ("1",)]
    assert world.agree()


def test_unsent_work_is_no_difference_and_survives(world: World) -> None:
    k2, l3 = furnish(world)
    k2.sql("UPDATE contact SET phone = '5' WHERE id = 'c5'")
    k2.sql("INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, moved_ms) VALUES ('own', 'p1', 'A', 1, 'in', 1)")
    behind(k2, "DELETE FROM contact WHERE id = 'c0'")
    assert named(k2.compared()) == {("contact", "c0", "missing here")}
    assert k2.repaired()["equal"]
    assert k2.sync().pushed == 2
    l3.sync()
    assert l3.sql("SELECT phone FROM contact WHERE id = 'c5'") == [("5",)]
    assert world.agree()


def test_what_is_written_while_a_repair_asks_stays_on_top(world: World) -> None:
    k2, _ = furnish(world)
    behind(k2, "UPDATE contact SET name = 'wrong' WHERE id = 'c1'")
    other = world.database.dialect.open(k2.database.path)

    def write(_kind: str) -> None:
        other.execute("UPDATE contact SET phone = COALESCE(phone, '') || '!' WHERE id = 'c1'")

    k2.link.before = write
    done = k2.repaired()
    k2.link.before = lambda _kind: None
    other.close()
    assert done["equal"]
    ((name, phone),) = k2.sql("SELECT name, phone FROM contact WHERE id = 'c1'")
    assert (name, set(phone)) == ("имя 1", {"!"})
    k2.sync()
    assert world.sql("SELECT name, phone FROM contact WHERE id = 'c1'") == [(name, phone)]


def test_the_centre_moving_on_meanwhile_is_waited_for(world: World) -> None:
    k2, l3 = furnish(world)
    behind(k2, "DELETE FROM contact WHERE id = 'c1'")
    moves = iter(range(2))

    def move(kind: str) -> None:
        if kind == "verify" and next(moves, None) is not None:
            k2.link.before = lambda _kind: None
            l3.sql("UPDATE contact SET phone = COALESCE(phone, '') || '+' WHERE id = 'c2'")
            l3.sync()
            k2.link.before = move

    k2.link.before = move
    assert k2.repaired()["equal"]
    assert k2.sql("SELECT phone FROM contact WHERE id = 'c2'") == [("++",)]


@pytest.mark.covers("P-9.14", "P-9.15")
def test_many_differences_in_a_large_table_by_bounded_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded: rows gone, changed and added all over; requests and replies stay small."""
    monkeypatch.setattr(narrow, "LIST_ROWS", 40)
    monkeypatch.setattr(narrow, "VERIFY_ROWS_MAX", 400)
    k2 = world.node("k2", "branch:A")
    chance = random.Random(7)
    keys = [f"{chance.getrandbits(64):016x}{'é' if chance.random() < 0.1 else ''}" for _ in range(6_000)]
    with k2.database.writing() as store:
        store.connection.executemany(
            "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'x', 'A')", [(key,) for key in keys]
        )
    k2.sync()
    gone, changed = set(chance.sample(keys, 300)), set(chance.sample(keys, 200))
    extra = {f"{chance.getrandbits(64):016x}+" for _ in range(100)}
    behind(k2, *(f"UPDATE contact SET phone = '?' WHERE id = '{key}'" for key in changed))
    behind(k2, *(f"DELETE FROM contact WHERE id = '{key}'" for key in gone))
    behind(
        k2,
        *(
            f"INSERT INTO contact (_rid, id, kind, name, branch_id) VALUES (-{n + 1}, '{key}', 'person', 'x', 'A')"
            for n, key in enumerate(extra)
        ),
    )
    k2.link.requests.clear()
    found = k2.compared()
    assert found["differing"] == len(gone | changed) + len(extra)
    expected = (
        {(key, "missing here") for key in gone}
        | {(key, "differs") for key in changed - gone}
        | {(key, "not at the centre") for key in extra}
    )
    assert {(row["key"], row["what"]) for row in found["rows"]} == expected
    assert len(k2.link.requests) < 200
    assert all(len(body) < 10_000 for _, body in k2.link.requests)
    done = k2.repaired()
    assert done["equal"]
    assert (done["repaired"]["mended"], done["repaired"]["offered"]) == (len(gone | changed), 100)
    assert len(done["repaired"]["rows"]) == len(expected)


def test_a_table_that_is_lost_whole_comes_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "LIST_ROWS", 2)
    monkeypatch.setattr(narrow, "VERIFY_ROWS_MAX", 3)
    k2, _ = furnish(world)
    behind(k2, "DELETE FROM contact", "DELETE FROM contact_tag")
    done = k2.repaired()
    assert done["equal"]
    assert done["repaired"]["mended"] == 12


def test_ranges_must_follow_each_other_and_stay_in_bounds(world: World) -> None:
    k2, _ = furnish(world)
    state = k2.database.state()

    def ask(*ranges: KeyRange, wanted: Wanted | None = None) -> Any:
        return k2.link.verify(VerifyRequest(1, state.epoch, state.incarnation, state.cursor, ranges, wanted))

    def between(low: str | None, high: str | None, rows: int = 0, table: str = "contact") -> KeyRange:
        return KeyRange(table, values_of([low] if low else None), values_of([high] if high else None), rows)

    assert [entry.rows for entry in ask(between(None, "c2"), between("c2", "c3"), between("c4", None)).ranges] == [3, 1, 1]
    assert [entry.rows for entry in ask(between(None, None, 4), between(None, None, 2, "sale")).ranges] == [4, 2]
    for wrong in (
        (between("c1", None), between("c2", None)),
        (between("c1", "c3"), between("c2", None)),
        (between("c1", "c1"), between("c0", "c1")),
    ):
        with pytest.raises(Malformed):
            ask(*wrong)
    with pytest.raises(Malformed):
        ask(between(None, None, 6_000), between(None, None, 6_000, "sale"))
    with pytest.raises(Malformed):
        ask(KeyRange("contact_tag", values_of(["c1"]), None, 0))
    with pytest.raises(UnknownTable):
        ask(between(None, None, 0, "nothing"))
    with pytest.raises(UnknownTable):
        ask(wanted=Wanted("nothing", 1, columns_of([("x",)], 1)))


@pytest.mark.covers("P-9.15")
def test_only_rows_in_scope_are_given(world: World) -> None:
    _k2, _ = furnish(world)
    other = world.node("o1", "branch:B")
    other.sync()
    state = other.database.state()
    wanted = Wanted("contact", 3, columns_of([("c1",), ("never",), ("c2",)], 1))
    found = other.link.verify(VerifyRequest(1, state.epoch, state.incarnation, state.cursor, (), wanted)).found
    assert found is not None
    assert (found.states, found.rows.count) == (b"\1\2\1", 0)
    listed = other.link.verify(VerifyRequest(1, state.epoch, state.incarnation, state.cursor, (KeyRange("contact", None, None, 10),), None))
    assert listed.ranges[0].rows == 0
