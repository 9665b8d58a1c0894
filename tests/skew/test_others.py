"""What other programs keep on our tables, views, triggers and columns of their own, goes on through an upgrade, or refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schema.others import _definitions
from sync.errors import CannotUpgrade
from tests.skew.declarations import VERSIONS, declared
from tests.skew.test_upgrade import contents
from tests.skew.test_versions import ANN
from tests.skew.world import SIDES, SkewedWorld, insert, opened, update

NEWEST = VERSIONS[-1]

pytestmark = pytest.mark.sqlite_centre("SQLite looks into views and triggers only when they are used")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SkewedWorld]:
    made = SkewedWorld(tmp_path, 1)
    k1 = made.node_of(1, "k1")
    insert(k1, "person", ANN)
    k1.sync()
    yield made
    made.close()


def by_another_program(world: SkewedWorld, *statements: str) -> None:
    """At the node and at the centre alike."""
    for sql in statements:
        world.nodes["k1"].sql(sql)
        world.sql(sql)


def upgraded(world: SkewedWorld, version: int) -> None:
    world.upgrade_centre(version)
    world.upgrade("k1", version)
    world.settle()
    assert world.agree()


def refused(world: SkewedWorld, side: str, version: int, words: str) -> None:
    """The upgrade is refused in these words, the file is as it was, and the program before goes on with it."""
    path = world.folder / SIDES[side]
    before = contents(path)
    with pytest.raises(CannotUpgrade, match=words):
        opened(world, side, declared(version))
    assert contents(path) == before
    world.nodes["k1"].sync()
    assert world.agree()


TRIGGERS = {
    "update": "AFTER UPDATE ON person BEGIN INSERT INTO seen VALUES (NEW.id, NEW.fax); END",
    "insert": "BEFORE INSERT ON person BEGIN INSERT INTO seen VALUES (NEW.id, NEW.fax); END",
    "delete": "AFTER DELETE ON person BEGIN INSERT INTO seen VALUES (OLD.id, OLD.fax); END",
    "of a table that stays": "AFTER INSERT ON slip BEGIN UPDATE person SET fax = NEW.id; END",
    "of their own": "AFTER INSERT ON seen BEGIN UPDATE person SET fax = NEW.value; END",
    "by way of another": "AFTER INSERT ON seen BEGIN INSERT INTO slip_line (id, slip_id, text) SELECT id, id, fax FROM person; END",
}


@pytest.mark.covers("P-11.12")
@pytest.mark.parametrize("trigger", TRIGGERS.values(), ids=list(TRIGGERS))
def test_a_trigger_that_could_not_run_any_more_refuses_the_upgrade(world: SkewedWorld, trigger: str) -> None:
    """It would stop every write of the table, at the till and of the sync."""
    by_another_program(world, "CREATE TABLE seen (id, value)", "CREATE TRIGGER fine AFTER UPDATE ON person BEGIN SELECT 1; END")
    world.nodes["k1"].sql(f"CREATE TRIGGER watch {trigger}")
    refused(world, "node", NEWEST, "trigger watch does not fit the new columns: no such column.*Drop it first")
    world.nodes["k1"].sql("DROP TRIGGER watch")
    upgraded(world, NEWEST)


@pytest.mark.covers("P-11.12")
def test_a_trigger_of_a_view_is_looked_into_too(world: SkewedWorld) -> None:
    world.nodes["k1"].sql("CREATE VIEW people AS SELECT id, name FROM person")
    world.nodes["k1"].sql("CREATE TRIGGER typed INSTEAD OF UPDATE ON people BEGIN UPDATE person SET fax = NEW.name; END")
    refused(world, "node", NEWEST, "trigger typed does not fit")


@pytest.mark.covers("P-11.12")
@pytest.mark.parametrize("version", [3, NEWEST])  # renamed and of another type: built anew; the second drops a column besides
def test_what_names_a_renamed_column_names_it_as_it_is_called_now(world: SkewedWorld, version: int) -> None:
    k1 = world.nodes["k1"]
    by_another_program(
        world,
        "CREATE TABLE seen (id, value)",
        "CREATE TRIGGER watch AFTER UPDATE OF phone ON PERSON BEGIN INSERT INTO seen VALUES (NEW.id, NEW.phone); END",
        "CREATE VIEW phones AS SELECT id, phone AS number FROM person",
        "CREATE INDEX by_phone ON person (phone)",
    )
    upgraded(world, version)
    update(k1, "person", "ann", {"cell": "2"})
    k1.sync()
    for where in (k1, world):
        assert where.sql("SELECT id, number FROM phones") == [("ann", "2")]
        assert where.sql("SELECT 1 FROM sqlite_master WHERE name = 'by_phone'") == [(1,)]
    assert k1.sql("SELECT * FROM seen")[-1] == ("ann", "2")


@pytest.mark.covers("P-11.12")
def test_a_view_of_a_dropped_column_refuses_the_upgrade(world: SkewedWorld) -> None:
    world.nodes["k1"].sql("CREATE VIEW faxes AS SELECT id, fax FROM person")
    refused(world, "node", NEWEST, "view faxes does not fit the new columns: no such column: fax")


@pytest.mark.covers("P-11.12")
@pytest.mark.parametrize("version", [2, 3, NEWEST])
def test_what_was_broken_before_stops_no_upgrade_and_stays_as_it_is(world: SkewedWorld, version: int) -> None:
    broken = (
        "CREATE VIEW broken AS SELECT * FROM gone_table",
        "CREATE VIEW above AS SELECT * FROM broken",
        "CREATE TRIGGER taken INSTEAD OF INSERT ON Broken BEGIN SELECT 1; END",
        "CREATE TRIGGER watch AFTER INSERT ON Seen BEGIN INSERT INTO seen VALUES (NEW.gone, 1); END",
    )
    by_another_program(world, "CREATE TABLE seen (id, value)", "CREATE TRIGGER fine AFTER DELETE ON seen BEGIN SELECT 1; END", *broken)
    upgraded(world, version)
    for where in (world.nodes["k1"], world):
        assert {sql for (sql,) in where.sql("SELECT sql FROM sqlite_master")} >= set(broken)
        assert where.sql("SELECT COUNT(*) FROM sqlite_master WHERE name = 'fine'") == [(1,)]


@pytest.mark.covers("P-11.12")
@pytest.mark.parametrize("side", list(SIDES))
@pytest.mark.parametrize(
    ("statement", "version", "words"),
    [
        pytest.param("ALTER TABLE person ADD COLUMN Loyalty TEXT", 2, r"person\.loyalty is a new column", id="column"),
        pytest.param("ALTER TABLE person ADD COLUMN loyalty TEXT", 3, r"person\.loyalty is a new column", id="built-anew"),
        pytest.param("ALTER TABLE person ADD COLUMN mobile TEXT", 3, r"person\.mobile is a new column", id="renamed"),
        pytest.param("CREATE TABLE phone_call (id)", 2, "phone_call is a new table", id="table"),
        pytest.param("CREATE VIEW phone_call AS SELECT 1", 2, "phone_call is a new table", id="view"),
    ],
)
def test_a_name_that_another_program_has_taken_is_named(world: SkewedWorld, side: str, statement: str, version: int, words: str) -> None:
    by_another_program(world, statement)
    refused(world, side, version, words)


OWN = (
    "ALTER TABLE person ADD COLUMN fiscal_code TEXT NOT NULL DEFAULT '(none), yet' CHECK (fiscal_code <> 'a,b)')",
    'ALTER TABLE person ADD COLUMN "of, whom" INTEGER COLLATE NOCASE',
    "ALTER TABLE person ADD COLUMN dialled TEXT AS (phone || '!')",
)


@pytest.mark.covers("P-11.12")
@pytest.mark.parametrize("version", [2, 3, NEWEST])
def test_columns_of_another_program_are_carried_over_with_their_values(world: SkewedWorld, version: int) -> None:
    by_another_program(world, *OWN, "CREATE INDEX by_code ON person (fiscal_code)")
    by_another_program(world, "UPDATE person SET fiscal_code = 'ABC', \"of, whom\" = 7")
    upgraded(world, version)
    k1 = world.nodes["k1"]
    for where in (k1, world):
        assert where.sql('SELECT fiscal_code, "of, whom", dialled FROM person') == [("ABC", 7, "1!")]
        (made,) = where.sql("SELECT sql FROM sqlite_master WHERE name = 'person'")[0]
        assert "CHECK (fiscal_code <> 'a,b)')" in made
        assert "INTEGER COLLATE NOCASE" in made
    insert(k1, "person", ANN | {"id": "bob"})
    assert k1.sql("SELECT fiscal_code FROM person WHERE id = 'bob'") == [("(none), yet",)]
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-11.12")
def test_a_column_that_cannot_be_carried_over_refuses_the_upgrade(world: SkewedWorld) -> None:
    world.nodes["k1"].sql("ALTER TABLE person ADD COLUMN dialled TEXT AS (fax || '!')")
    refused(world, "node", NEWEST, "column dialled on person does not fit")


def test_comments_and_quotes_do_not_hide_where_a_column_ends() -> None:
    sql = """CREATE TABLE "a (b" ("x, y" TEXT DEFAULT ')', -- one, two
        [z ] INTEGER /* , */ CHECK ("z " IN (1, 2)), `w``w` BLOB, UNIQUE ("x, y"))"""
    found: dict[str, Any] = {name: " ".join(text.split()) for name, text in _definitions(sql).items()}
    assert found == {
        "x, y": "\"x, y\" TEXT DEFAULT ')'",
        "z ": '[z ] INTEGER CHECK ("z " IN (1, 2))',
        "w`w": "`w``w` BLOB",
        "UNIQUE": 'UNIQUE ("x, y")',
    }
