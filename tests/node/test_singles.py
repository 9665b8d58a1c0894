"""Single changes, sealed many at once, leave what sealing them one by one leaves: segments, what is kept for replay, and under it.

The histories of tests/contract/test_runs.py are lived twice, once with every transaction added by itself. covers: P-5.7
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from node import sealing
from node.cycle import Cycle
from node.database import Database
from node.sealing import Sealing
from schema.capture import Change
from sync.limits import VALUE_BYTES_MAX
from sync.segment import read_segment, transactions
from tests.contract.test_paths import SCOPES, Step
from tests.contract.test_runs import CONTACT, SALE, SCHEMA, STEPS, tell_the_time, write
from tests.world import World


def live(folder: Path, history: list[Step]) -> list[Any]:
    """Live a history; return what every node has sealed and kept after each step."""
    folder.mkdir()
    world, found = World(folder, SCHEMA), list[Any]()
    try:
        for name, scope in SCOPES.items():
            tell_the_time(world, world.node(name, *scope).database.connection)
        for number in range(9):
            world.sql(CONTACT.replace("INSERT OR IGNORE", "INSERT"), f"c{number}", "n", "1", "LON", "e1")
        world.settle(1)
        for number, step in enumerate(history):
            node = world.nodes[step.node]
            write(node.database, step.statements, is_one=number % 3 == 2)
            Cycle(node.database, node.link).seal()
            found.append(left(node.database))
            if step.sync:
                node.sync()
        return found
    finally:
        world.close()


def left(database: Database) -> Any:
    """Return a node's segments, opened, and its pending work; without the names of segments, which are drawn by chance."""
    connection, keys = database.connection, {table.name: table.key for table in SCHEMA.tables}
    bodies = connection.execute("SELECT body FROM _segment WHERE version IS NULL ORDER BY seq").fetchall()
    works = [each for (body,) in bodies for each in transactions(read_segment(body), keys)]
    return (
        [(each.number, each.wall, each.base, each.ops, [(one.index, one.replaced) for one in each.withdrawals]) for each in works],
        connection.execute("SELECT n, txn, tbl, key, kind, body FROM _op ORDER BY id").fetchall(),
        connection.execute("SELECT tbl, key, image FROM _shadow ORDER BY tbl, key").fetchall(),
    )


@settings(
    max_examples=int(os.environ.get("OUTPOST_EXAMPLES", "25")),
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(STEPS, min_size=2, max_size=8), st.sampled_from([1, 2, 1_000]))
def test_single_changes_leave_what_one_by_one_leaves(history: list[Step], size: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "SINGLES", size)
        together = live(Path(folder, "together"), history)
        patch.setattr(Sealing, "is_single", lambda *_: False)
        assert together == live(Path(folder, "alone"), history)


def test_many_edits_and_new_rows_are_sealed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the property above could compare the slow path with itself. Segments end where they are full."""
    taken: list[int] = []
    add = Sealing.add_singles

    def add_singles(self: Sealing, changes: Sequence[Change]) -> None:
        taken.append(len(changes))
        add(self, changes)

    monkeypatch.setattr(Sealing, "add_singles", add_singles)
    monkeypatch.setattr(sealing, "SINGLES", 2)
    monkeypatch.setattr(sealing, "SEGMENT_ROWS", 5)
    world = World(tmp_path, SCHEMA)
    node = world.node("one", "branch:LON")
    for number in range(9):
        node.sql(CONTACT, f"c{number}", "a", "1", "LON", None)
    node.sync()
    node.sql("UPDATE contact SET phone = '2'")
    node.sync()
    assert taken == [9, 9]
    assert world.sql("SELECT transactions FROM _journal WHERE kind = 'segment' ORDER BY ver") == [(4,), (5,)] * 2
    world.settle()
    assert world.agree()
    world.close()


def test_a_document_that_is_changed_on_its_way_is_kept_under_the_change(world: World) -> None:
    node = world.node("till", "branch:LON")
    for sql in (SALE, "UPDATE sale SET total_minor = 5"):
        node.sql(sql, *(("s1", "1", "LON", "e1") if sql is SALE else ()))
        Cycle(node.database, node.link).seal()
    assert node.sql("SELECT n, kind FROM _op ORDER BY id") == [(1, "insert"), (2, "update")]


def test_one_value_that_is_too_long_holds_up_no_other(world: World) -> None:
    node = world.node("one", "branch:LON")
    for number, name in enumerate(["a", "й" * (VALUE_BYTES_MAX // 2 + 1), "b"]):
        node.sql(CONTACT, f"c{number}", name, "1", "LON", None)
    assert node.sync().pushed == 2
    assert [(each["key"], each["code"]) for each in node.held()] == [("c1", "long")]
