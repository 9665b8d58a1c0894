"""Values survive exactly: written by a foreign program, read bit for bit at the centre and on another node.

Also what cannot be taken (text that is not UTF-8, a NUL inside, another type than declared, more than a message holds): it is
held with a reason, stays on the disk of the node that wrote it as it was, and stops nothing.
"""

from __future__ import annotations

import random
import struct
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schema.registry import Schema, load
from sync.limits import VALUE_BYTES_MAX
from tests import foreign
from tests.world import Node, World

ALL = load((str(Path(__file__).parent / "tables"),))
TABLES = ("contact", "contact_tag", "specimen", "sale", "sale_line", "payment", "stock_move", "sounding")
SCHEMA = Schema(tuple(table for table in ALL.tables if table.name in TABLES))

UPPER = "0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B"
BYTES = random.Random(1).randbytes(1024 * 1024)

WHOLE = [2**63 - 1, -(2**63), 0, -1, 2**53 + 1, 2**31, None]
RATIO = [1e-308, 5e-324, 0.1 + 0.2, -0.0, 0.0, 1.0, float("inf"), float("-inf"), 1.7976931348623157e308, 2.0**63, -(2.0**63), None]
WORDS = [
    "",
    " ",
    "1",
    "1.0",
    "NULL",
    "null",
    "👩🏽‍🚀 emoji",
    unicodedata.normalize("NFC", "й"),
    unicodedata.normalize("NFD", "й"),
    "Ångström \u00c5 \u212b",
    "\r\n\t'\"\\%;--",
    "\ufeffbom",
    "\u202eright to left",
    "\U0010ffff",
    "\x01\x7f",
    UPPER,
    UPPER.lower(),
    UPPER.replace("-", ""),
    "long " * 200_000,
    "й" * 500_000,
    None,
]
RAW = [b"", b"\0", bytes(16), b"\xff\xfe", UPPER.encode(), BYTES[:1_000_000], BYTES, None]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, SCHEMA)
    yield made
    made.close()


@pytest.fixture
def pair(world: World) -> tuple[Node, Node]:
    return world.node("one", "branch:LON"), world.node("two", "branch:LON")


def bits(rows: list[Any]) -> list[Any]:
    """Return rows so that only what is the same to the last bit is equal."""
    return [tuple((type(v), struct.pack("<d", v) if type(v) is float else v) for v in row) for row in rows]


def everywhere(world: World, sql: str) -> list[Any]:
    """Return what the centre and every node hold, which must be the same, read by a foreign program."""
    paths = [world.database.path, *(node.database.path for node in world.nodes.values())]
    first, *others = [bits(foreign.rows(path, sql)) for path in paths]
    for other in others:
        assert other == first
    return first


def test_the_foreign_program_has_an_old_library() -> None:
    assert tuple(map(int, foreign.version().split("."))) >= (3, 37)


ANY = pytest.mark.sqlite_centre("values of any type in a blob column; they are held")
COLUMNS = [
    *(pytest.param(column, values, id=column) for column, values in (("whole", WHOLE), ("ratio", RATIO), ("words", WORDS), ("raw", RAW))),
    pytest.param("raw", [1, -1.5, "text in a blob column", "1"], id="any-type", marks=ANY),
]


@pytest.mark.parametrize("table", ["specimen", "sounding"])
@pytest.mark.parametrize(("column", "values"), COLUMNS)
def test_inserted_values_survive_bit_for_bit(world: World, pair: tuple[Node, Node], table: str, column: str, values: list[Any]) -> None:
    one, _ = pair
    rows = [(f"k{i:03}", "LON", value) for i, value in enumerate(values)]
    foreign.run(one.database.path, (f"INSERT INTO {table} (id, branch_id, {column}) VALUES (?, ?, ?)", rows))
    written = bits(foreign.rows(one.database.path, f"SELECT {column} FROM {table} ORDER BY id"))
    if column != "ratio":  # SQLite itself keeps -0.0 as 0.0
        assert written == bits([(value,) for value in values])
    world.settle(2)
    assert everywhere(world, f"SELECT {column} FROM {table} ORDER BY id") == written
    assert one.held() == []
    assert world.agree()


@pytest.mark.parametrize(("column", "values"), COLUMNS)
def test_updated_values_survive_bit_for_bit(world: World, pair: tuple[Node, Node], column: str, values: list[Any]) -> None:
    one, two = pair
    keys = [f"k{i:03}" for i in range(len(values))]
    start = "X'00'" if column == "raw" else "7"
    foreign.run(one.database.path, (f"INSERT INTO specimen (id, branch_id, {column}) VALUES (?, 'LON', {start})", [(key,) for key in keys]))
    world.settle(1)
    update = f"UPDATE specimen SET {column} = ? WHERE id = ?"
    for node, shift in ((one, 0), (two, 1)):
        turned = [(values[(i + shift) % len(values)], key) for i, key in enumerate(keys)]
        foreign.run(node.database.path, (update, turned))
        written = bits(foreign.rows(node.database.path, f"SELECT {column} FROM specimen ORDER BY id"))
        world.settle(2)
        assert everywhere(world, f"SELECT {column} FROM specimen ORDER BY id") == written
    assert one.conflicts() == two.conflicts() == []
    assert world.agree()


@ANY
def test_updates_between_values_that_sql_calls_equal_are_captured(world: World, pair: tuple[Node, Node]) -> None:
    """1 and 1.0 in a column of any type are equal to SQLite, not to us."""
    one, _ = pair
    foreign.run(one.database.path, "INSERT INTO specimen (id, branch_id, raw) VALUES ('k', 'LON', 1)")
    world.settle(1)
    foreign.run(one.database.path, "UPDATE specimen SET raw = 1.0")
    world.settle(2)
    assert everywhere(world, "SELECT raw FROM specimen") == [((float, struct.pack("<d", 1.0)),)]
    assert world.agree()


def test_keys_are_compared_byte_by_byte(world: World, pair: tuple[Node, Node]) -> None:
    """Upper and lower case, composed and decomposed, with blanks: all are different rows."""
    one, two = pair
    keys = [text for text in WORDS if text and len(text) < 100]
    foreign.run(
        one.database.path, ("INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', ?, 'LON')", [(k, k) for k in keys])
    )
    foreign.run(
        one.database.path, ("INSERT INTO contact_tag (contact_id, tag) VALUES (?, ?)", [(k, other) for k in keys for other in keys])
    )
    world.settle(2)
    assert len(everywhere(world, "SELECT id, name FROM contact ORDER BY id")) == len(keys)
    assert len(everywhere(world, "SELECT contact_id, tag FROM contact_tag ORDER BY 1, 2")) == len(keys) ** 2
    foreign.run(two.database.path, ("UPDATE contact SET phone = id || '!' WHERE id = ?", [(key,) for key in keys]))
    foreign.run(two.database.path, "DELETE FROM contact_tag WHERE contact_id = tag")
    world.settle(2)
    assert one.held() == two.held() == []
    everywhere(world, "SELECT id, phone FROM contact ORDER BY id")
    assert len(everywhere(world, "SELECT contact_id, tag FROM contact_tag ORDER BY 1, 2")) == len(keys) ** 2 - len(keys)
    assert world.agree()


# --- what cannot be taken ------------------------------------------------------------------------------------------------

NUL = "CAST(X'610062' AS TEXT)"
CP1251 = "CAST(X'CFF0E8E2E5F2' AS TEXT)"
LONE = "CAST(X'EDA080' AS TEXT)"
CUT = "CAST(X'D0' AS TEXT)"
BAD = pytest.mark.parametrize("bad", [NUL, CP1251], ids=["nul", "windows-1251"])
WORSE = pytest.mark.parametrize("bad", [NUL, CP1251, LONE, CUT], ids=["nul", "windows-1251", "lone surrogate", "cut short"])

SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES ({0}, {1}, 'sale', 'LON', 1, 'GBP', 5)"
LINE = "INSERT INTO sale_line (id, sale_id, name, qty_milli, unit_price_e4, amount_minor) VALUES ({0}, {1}, {2}, 1000, 50000, 5)"
PAYMENT = "INSERT INTO payment (id, sale_id, method, amount_minor) VALUES ({0}, {1}, 'cash', 5)"
MOVE = "INSERT INTO stock_move (id, sale_id, product_id, branch_id, qty_milli, reason, moved_ms) VALUES ({}, {}, 'p', 'LON', 1, 'r', 1)"
CONTACT = "INSERT INTO contact (id, kind, name, branch_id) VALUES ({0}, 'person', {1}, 'LON')"


def sale(key: str, number: str = "'n'", line: str = "'tea'") -> list[str]:
    return [SALE.format(f"'{key}'", number), LINE.format(f"'{key}-1'", f"'{key}'", line), PAYMENT.format(f"'{key}-p'", f"'{key}'")]


CASES: dict[str, tuple[list[str], list[str], set[tuple[str, str]]]] = {
    # name: (before, in the same commit as good work, the rows that are held)
    "in a record": ([], [CONTACT.format("'c1'", "{bad}")], {("contact", "c1")}),
    "in a record's key": ([], [CONTACT.format("{bad}", "'Ann'")], {("contact", "?")}),
    "in an update": (
        [CONTACT.format("'c1'", "'Ann'")],
        ["UPDATE contact SET phone = {bad} WHERE id = 'c1'"],
        {("contact", "c1")},
    ),
    "in a changed key": (
        [CONTACT.format("'c1'", "'Ann'")],
        ["UPDATE contact SET id = {bad} WHERE id = 'c1'"],
        {("contact", "?"), ("contact", "c1")},
    ),
    "in a group": (
        [CONTACT.format("'c1'", "'Ann'")],
        ["UPDATE contact SET city = {bad}, street = 'S' WHERE id = 'c1'"],
        {("contact", "c1")},
    ),
    "in a composite key": (
        [CONTACT.format("'c1'", "'Ann'")],
        ["INSERT INTO contact_tag (contact_id, tag) VALUES ('c1', {bad})"],
        {("contact_tag", "['c1', '?']")},
    ),
    "in a tag's contact": ([], ["INSERT INTO contact_tag (contact_id, tag) VALUES ({bad}, 'vip')"], {("contact_tag", "['?', 'vip']")}),
    "in a document": ([], sale("s1", number="{bad}"), {("sale", "s1"), ("sale_line", "s1-1"), ("payment", "s1-p")}),
    "in a document's key": (
        [],
        [SALE.format("{bad}", "'n'"), LINE.format("'l1'", "{bad}", "'tea'")],
        {("sale", "?"), ("sale_line", "l1")},
    ),
    "in a document's line": ([], sale("s1", line="{bad}"), {("sale", "s1"), ("sale_line", "s1-1"), ("payment", "s1-p")}),
    "in an event": ([], ["INSERT INTO sounding (id, branch_id, words) VALUES ('e1', 'LON', {bad})"], {("sounding", "e1")}),
    "in an event's scope": ([], ["INSERT INTO sounding (id, branch_id) VALUES ('e1', {bad})"], {("sounding", "e1")}),
    "in an event's tie": (
        [],
        [MOVE.format("'m1'", "{bad}")],
        {("stock_move", "m1")},
    ),
    "in a blob column": ([], ["INSERT INTO specimen (id, branch_id, raw) VALUES ('k', 'LON', {bad})"], {("specimen", "k")}),
    "in a set of texts": ([], ["INSERT INTO specimen (id, branch_id, labels) VALUES ('k', 'LON', {bad})"], {("specimen", "k")}),
}


def dump(path: Path) -> dict[str, Any]:
    return {
        table.name: sorted(foreign.rows(path, f"SELECT {', '.join(table.names)} FROM {table.name}"), key=repr) for table in SCHEMA.tables
    }


@BAD
@pytest.mark.parametrize("case", CASES)
def test_text_that_is_not_clean_is_held_and_stops_nothing(world: World, pair: tuple[Node, Node], case: str, bad: str) -> None:
    one, two = pair
    before, broken, expected = CASES[case]
    if before:
        foreign.run(one.database.path, *before)
        world.settle(2)
    good = [CONTACT.format("'good'", "'Good'"), "INSERT INTO contact_tag (contact_id, tag) VALUES ('good', 'x')", *sale("good")]
    foreign.run(one.database.path, *good[:2], *[statement.replace("{bad}", bad) for statement in broken], *good[2:])
    written = dump(one.database.path)
    report = one.sync()
    assert report.verdicts["held"] >= 1
    assert report.verdicts["accepted"] >= 2, "the contact and the sale of the same commit"
    _check_held(one, expected)
    assert dump(one.database.path) == written, "nothing of it changes on the node's disk"
    world.settle(2)
    assert foreign.rows(world.database.path, "SELECT COUNT(*) FROM sale_line WHERE sale_id = 'good'") == [(1,)]
    assert foreign.rows(two.database.path, "SELECT COUNT(*) FROM contact_tag WHERE contact_id = 'good'") == [(1,)]
    again = one.sync()
    assert (again.pushed, again.pulled, again.removed) == (0, 0, 0)
    assert one.unsynced() == 0
    assert dump(one.database.path) == written
    assert world.agree()
    _check_held(one, expected)


def _check_held(node: Node, expected: set[tuple[str, str]]) -> None:
    """Check the held list; `?` stands for a key part that is not clean text."""
    listed = {(entry["table"], _shown(entry["key"])) for entry in node.held()}
    assert listed == expected
    assert {entry["verdict"] for entry in node.held()} == {"held"}
    assert "text" in {entry["code"] for entry in node.held()}
    assert all(entry["reason"] for entry in node.held())


def _shown(key: Any) -> str:
    def part(text: str) -> str:
        return "?" if any(character in text for character in "\0\ufffd") else text

    return part(key) if isinstance(key, str) else str([part(text) for text in key])


@WORSE
def test_what_was_held_for_its_text_goes_when_it_is_mended(world: World, pair: tuple[Node, Node], bad: str) -> None:
    one, two = pair
    foreign.run(one.database.path, CONTACT.format("'c1'", "'Ann'"))
    world.settle(2)
    foreign.run(one.database.path, f"UPDATE contact SET phone = {bad}")
    one.sync()
    assert one.held()
    foreign.run(one.database.path, "UPDATE contact SET email = 'a@b'")
    one.sync()
    assert {entry["code"] for entry in one.held()} == {"text"}, "a later change of the same row takes the place of what is held"
    assert foreign.rows(one.database.path, "SELECT email FROM contact") == [("a@b",)]
    assert foreign.rows(two.database.path, "SELECT phone, email FROM contact") == [(None, None)]
    assert world.agree()


WRONG = [
    ("specimen", "whole", "'text'"),
    ("specimen", "whole", "1.5"),
    ("specimen", "whole", "X'00'"),
    ("specimen", "ratio", "'text'"),
    ("specimen", "ratio", "X'00'"),
    ("specimen", "words", "X'00'"),
    ("specimen", "stock", "'text'"),
    ("specimen", "labels", "X'00'"),
    ("sounding", "whole", "'text'"),
    ("sounding", "whole", "9223372036854775808"),
    ("sounding", "words", "X'00'"),
    ("sounding", "branch_id", "X'00'"),
]


@pytest.mark.parametrize(("table", "column", "value"), WRONG, ids=[" ".join(case) for case in WRONG])
def test_a_wrong_type_is_held(world: World, pair: tuple[Node, Node], table: str, column: str, value: str) -> None:
    one, _ = pair
    columns = ("id", "branch_id") if column == "branch_id" else ("id", "branch_id", column)
    values = ("'k'", value) if column == "branch_id" else ("'k'", "'LON'", value)
    foreign.run(one.database.path, f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(values)})", *sale("good"))
    written = dump(one.database.path)
    report = one.sync()
    assert (report.verdicts["held"], report.verdicts["accepted"]) == (1, 1)
    assert [(entry["table"], entry["key"], entry["code"]) for entry in one.held()] == [(table, "k", "type")]
    world.settle(2)
    assert dump(one.database.path) == written
    assert foreign.rows(world.database.path, "SELECT COUNT(*) FROM sale") == [(1,)]
    assert world.agree()


@pytest.mark.parametrize(("column", "value"), [case[1:] for case in WRONG if case[0] == "specimen"])
def test_an_update_to_a_wrong_type_is_held(world: World, pair: tuple[Node, Node], column: str, value: str) -> None:
    one, _ = pair
    foreign.run(one.database.path, "INSERT INTO specimen (id, branch_id) VALUES ('k', 'LON')")
    world.settle(1)
    foreign.run(one.database.path, f"UPDATE specimen SET {column} = {value}")
    assert one.sync().verdicts["held"] == 1
    assert [entry["code"] for entry in one.held()] == ["type"]
    assert foreign.rows(world.database.path, f"SELECT {column} FROM specimen") == [(None,)]
    assert world.agree()


def test_an_empty_key_and_a_key_of_another_type(world: World, pair: tuple[Node, Node]) -> None:
    one, two = pair
    foreign.run(one.database.path, CONTACT.format("''", "'Empty'"), CONTACT.format("X'C0FFEE'", "'Blob'"), CONTACT.format("17", "'Number'"))
    world.settle(2)
    assert foreign.rows(two.database.path, "SELECT id FROM contact ORDER BY id") == [("",), ("17",)], "17 is '17' in a text column"
    assert [entry["code"] for entry in one.held()] == ["type"]
    assert world.agree()


# --- more than a message holds ---------------------------------------------------------------------------------------------


def test_many_large_values_in_one_commit(world: World, pair: tuple[Node, Node]) -> None:
    """40 MB that do not compress, in records, events and lines of one sale: cut into messages that the centre takes."""
    one, two = pair
    chance = random.Random(2)
    blobs = [(f"k{i:02}", chance.randbytes(len(BYTES))) for i in range(20)]
    lines = [(f"l{i:02}", chance.randbytes(400_000).hex()) for i in range(24)]
    foreign.run(
        one.database.path,
        ("INSERT INTO specimen (id, branch_id, raw) VALUES (?, 'LON', ?)", blobs),
        ("INSERT INTO sounding (id, branch_id, raw) VALUES (?, 'LON', ?)", blobs[:8]),
        SALE.format("'s1'", "'n'"),
        ("INSERT INTO sale_line (id, sale_id, name, qty_milli, unit_price_e4, amount_minor) VALUES (?, 's1', ?, 1, 1, 1)", lines),
        CONTACT.format("'c1'", "'Ann'"),
    )
    report = one.sync()
    assert report.pushed == report.verdicts["accepted"] == 30
    pushes = [len(body) for kind, body in one.link.requests if kind == "push"]
    assert max(pushes) < 16 * 1024 * 1024
    world.settle(1)
    assert foreign.rows(two.database.path, "SELECT COUNT(*), SUM(LENGTH(raw)) FROM specimen") == [(20, 20 * len(BYTES))]
    assert foreign.rows(two.database.path, "SELECT COUNT(*), SUM(LENGTH(name)) FROM sale_line") == [(24, 24 * 800_000)]
    assert world.agree()


@pytest.mark.covers("P-5.19")
@pytest.mark.parametrize("table", ["specimen", "sounding", "contact"])
def test_a_value_longer_than_any_message_is_held_and_stops_nothing(world: World, pair: tuple[Node, Node], table: str) -> None:
    one, two = pair
    column = {"specimen": "raw", "sounding": "words", "contact": "name"}[table]
    names, values = ("id, branch_id, kind", "'k', 'LON', 'person'") if table == "contact" else ("id, branch_id", "'k', 'LON'")
    long = "x" * (VALUE_BYTES_MAX + 1)
    foreign.run(one.database.path, (f"INSERT INTO {table} ({names}, {column}) VALUES ({values}, ?)", long), *sale("good"))
    written = dump(one.database.path)
    one.sync()
    world.settle(2)
    assert foreign.rows(two.database.path, "SELECT COUNT(*) FROM sale_line") == [(1,)]
    assert [(entry["table"], entry["key"], entry["verdict"], entry["code"]) for entry in one.held()] == [(table, "k", "held", "long")]
    assert dump(one.database.path) == written
    again = one.sync()
    assert (again.pushed, again.pulled, again.removed, one.unsynced()) == (0, 0, 0, 0)
    assert world.agree()


def test_a_value_that_was_too_long_goes_when_it_is_shortened(world: World, pair: tuple[Node, Node]) -> None:
    one, two = pair
    long = "x" * (VALUE_BYTES_MAX + 1)
    foreign.run(one.database.path, CONTACT.format("'c1'", "'Ann'"), (CONTACT.format("'c2'", "?"), long))
    one.sync()
    foreign.run(one.database.path, ("UPDATE contact SET note = ? WHERE id = 'c1'", long))
    one.sync()
    assert {entry["key"] for entry in one.held()} == {"c1", "c2"}
    foreign.run(one.database.path, "UPDATE contact SET note = 'short' WHERE id = 'c1'", "UPDATE contact SET name = 'Bob' WHERE id = 'c2'")
    world.settle(2)
    assert one.held() == []
    assert foreign.rows(two.database.path, "SELECT id, name, note FROM contact ORDER BY id") == [
        ("c1", "Ann", "short"),
        ("c2", "Bob", None),
    ]
    assert world.agree()


@pytest.mark.parametrize("size", [VALUE_BYTES_MAX + 1, 5_000_000])
def test_a_long_value_of_a_central_program_reaches_the_nodes(world: World, pair: tuple[Node, Node], size: int) -> None:
    one, two = pair
    foreign.run(world.database.path, CONTACT.format("'c1'", "'Ann'"), ("UPDATE contact SET note = ?", "x" * size), *sale("s1"))
    world.settle(1)
    assert foreign.rows(one.database.path, "SELECT LENGTH(note) FROM contact") == [(size,)]
    foreign.run(two.database.path, "UPDATE contact SET phone = '1'")
    world.settle(2)
    assert foreign.rows(one.database.path, "SELECT phone FROM contact") == [("1",)]
    assert world.agree()


def test_many_large_values_of_a_central_program_reach_the_nodes(world: World, pair: tuple[Node, Node]) -> None:
    """80 MB: more than any one reply may hold."""
    one, _ = pair
    chance = random.Random(3)
    blobs = [(f"k{i:02}", chance.randbytes(len(BYTES))) for i in range(40)]
    foreign.run(
        world.database.path,
        ("INSERT INTO specimen (id, branch_id, raw) VALUES (?, 'LON', ?)", blobs),
        ("INSERT INTO sounding (id, branch_id, raw) VALUES (?, 'LON', ?)", blobs),
    )
    one.sync()
    assert foreign.rows(one.database.path, "SELECT COUNT(*), SUM(LENGTH(raw)) FROM specimen") == [(40, 40 * len(BYTES))]
    assert foreign.rows(one.database.path, "SELECT COUNT(*), SUM(LENGTH(raw)) FROM sounding") == [(40, 40 * len(BYTES))]
    assert one.verify()


@BAD
def test_text_that_is_not_clean_at_the_centre_reaches_the_nodes_as_it_is(world: World, pair: tuple[Node, Node], bad: str) -> None:
    """A central program is not held: there is nobody to ask. Its bytes arrive unchanged and stop nothing."""
    one, two = pair
    statements = [CONTACT.format("'c1'", bad), *sale("s1", line=bad), CONTACT.format("'c2'", "'Ann'")]
    foreign.run(world.database.path, *statements, f"INSERT INTO contact_tag (contact_id, tag) VALUES ('c1', {bad})")
    world.settle(1)
    for sql in ("SELECT id, name FROM contact ORDER BY id", "SELECT id, name FROM sale_line", "SELECT contact_id, tag FROM contact_tag"):
        assert everywhere(world, sql)
    assert world.agree()
    foreign.run(world.database.path, f"UPDATE contact SET phone = {bad}, name = 'mended' WHERE id = 'c1'", "DELETE FROM contact_tag")
    foreign.run(two.database.path, "UPDATE contact SET email = 'e'")
    world.settle(2)
    assert everywhere(world, "SELECT id, name, phone, email FROM contact ORDER BY id")
    assert foreign.rows(one.database.path, "SELECT email FROM contact") == [("e",), ("e",)]
    assert world.agree()
