"""Declarations as large as may be: their tables can be made, written, synced and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from schema.declare import By, Kind
from schema.registry import build
from tests.declared import declare
from tests.world import World

FURTHER = tuple(f"c{number}" for number in range(498))
"""Columns beside `id` and `branch_id`: with these the table has 500."""


@pytest.mark.covers("P-2.15")
@pytest.mark.parametrize(
    ("kind", "grouped"),
    [
        pytest.param(Kind.RECORD, False, id="cells"),
        pytest.param(Kind.RECORD, True, id="one-group"),
        pytest.param(Kind.DOCUMENT, True, id="document"),
    ],
)
def test_a_table_of_500_columns(tmp_path: Path, kind: Kind, grouped: bool) -> None:
    """Every trigger names each of them, and a group is compared as a whole."""
    groups = {"all": FURTHER} if grouped else {}
    world = World(tmp_path, build([declare("wide", kind=kind, columns=dict.fromkeys(FURTHER, bytes), groups=groups)]))
    one, other = world.node("one", "branch:A"), world.node("other", "branch:A")
    one.sql("INSERT INTO wide (id, branch_id, c0, c497) VALUES ('x', 'A', x'01', x'02')")
    world.settle(2)
    if kind is Kind.RECORD:
        other.sql("INSERT OR REPLACE INTO wide (id, branch_id, c0, c497) VALUES ('x', 'A', x'01', x'03')")
        one.sql("UPDATE wide SET c1 = x'04' WHERE id = 'x'")
        world.settle(3)
        assert other.sql("SELECT c0, c497 FROM wide") == one.sql("SELECT c0, c497 FROM wide")
        other.sql("UPDATE wide SET id = 'y'")
        world.settle(3)
        assert one.sql("SELECT id FROM wide") == [("y",)]
        one.sql("DELETE FROM wide")
        world.settle(3)
    assert world.sql("SELECT COUNT(*) FROM wide") == [(int(kind is Kind.DOCUMENT),)]
    assert world.agree()
    world.close()


@pytest.mark.covers("P-2.15")
def test_a_key_of_100_columns(tmp_path: Path) -> None:
    key = ("branch_id", *(f"k{number}" for number in range(99)))
    world = World(tmp_path, build([declare("wide", kind=Kind.SET, key=key)]))
    one, other = world.node("one", "branch:A"), world.node("other", "branch:A")
    marks = ", ".join("?" * len(key))
    one.sql(f"INSERT INTO wide ({', '.join(key)}) VALUES ({marks})", *["A"] * len(key))
    world.settle(2)
    other.sql("UPDATE wide SET k98 = 'B'")
    world.settle(3)
    assert one.sql("SELECT k0, k98 FROM wide") == [("A", "B")]
    assert world.agree()
    world.close()


@pytest.mark.covers("P-2.15")
def test_500_tables(tmp_path: Path) -> None:
    """All of them stand in one page, one proof and one reply to verify."""
    names = [f"t{number}" for number in range(500)]
    world = World(tmp_path, build([declare(name, scope=(By("branch", "branch_id"),)) for name in names]))
    one, other = world.node("one", "branch:A"), world.node("other", "branch:A")
    with one.database.writing() as store:
        for name in names:
            store.connection.execute(f"INSERT INTO {name} (id, branch_id) VALUES ('x', 'A')")
    world.settle(2)
    assert other.sql("SELECT id FROM t499") == [("x",)]
    assert world.agree()
    world.close()
