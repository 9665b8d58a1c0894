"""Runs full of edits that had not seen each other leave what the row-by-row path leaves: rows, clocks, index, conflicts, verdicts.

Three nodes that hold the same few contacts, specimens (every policy, groups) and tasks write them over and over, mostly all of a column
at once, and sync now and then: most edits meet one that their writer had not seen, made earlier or later, equal or other, by a node that
itself lost. Beside tests/contract/test_runs.py, whose histories are mixed and seldom contended.
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

from server import edits, runs
from server.conflicts import Found
from sync.change import Transaction
from tests.contract.test_paths import SCOPES, Statement, Step, ids
from tests.contract.test_runs import ACTIVITY, BARE, SCHEMA, SPECIMEN, TASK, A, C, live, tell_the_time
from tests.world import World

EVERY = "UPDATE OR IGNORE {} SET {} = ?"
ODD = "UPDATE OR IGNORE {} SET {} = ? WHERE substr(id, 2) % 2"
WORD, NUMBER = st.sampled_from(["a", "b", "c", "d", "e", "й"]), st.integers(-3, 9)
"""Without what is held for its type: what is held holds up what comes after it, and nothing is contended."""
COLUMNS = [
    *(("contact", column, WORD) for column in ("phone", "note", "name", "street", "city")),
    ("activity", "topic", WORD),
    ("task", "title", WORD),
    *(("specimen", column, NUMBER) for column in ("whole", "grade", "finder", "reading", "latitude", "stock")),
]


NEW = st.one_of(
    st.tuples(st.just(BARE), st.tuples(ids("n", 8), WORD, st.just("LON"))),
    st.tuples(st.just(ACTIVITY), st.tuples(A, C, WORD)),
)
NODES = ("london", "rep", "office")
BEGIN = [
    Step(
        "office",
        [
            *((SPECIMEN, (f"s{number}", "LON", f"c{number}", number, number, 1)) for number in range(6)),
            *((TASK, (f"t{number}", f"c{number}", "e1", "call")) for number in range(6)),
        ],
        True,
        None,
    ),
    *(Step(name, [], True, None) for name in NODES),
]
"""Rows that all three hold."""


def written(columns: list[tuple[str, str, st.SearchStrategy[Any]]]) -> st.SearchStrategy[list[Statement]]:
    """Statements of one commit: mostly of these columns."""
    some = [st.tuples(st.just(sql.format(table, column)), st.tuples(values)) for table, column, values in columns for sql in (EVERY, ODD)]
    return st.lists(st.one_of(*some, *some, *some, NEW), min_size=2, max_size=6)


@st.composite
def a_round(draw: st.DrawFn) -> list[Step]:
    """Everybody writes without hearing of the others; then some or all of them sync, in some order."""
    columns = draw(st.lists(st.sampled_from(COLUMNS), min_size=2, max_size=3))
    writers, senders = draw(st.permutations(NODES)), draw(st.permutations(NODES))
    steps = [Step(name, draw(written(columns)), False, None) for name in writers]
    return steps + [Step(name, [], True, None) for name in senders[: draw(st.sampled_from([2, 3, 3]))]]


@settings(
    max_examples=int(os.environ.get("OUTPOST_EXAMPLES", "12")),
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(a_round(), min_size=1, max_size=3))
def test_contended_runs_leave_the_state_that_one_by_one_leaves(rounds: list[list[Step]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        together, alone = Path(folder, "together"), Path(folder, "alone")
        together.mkdir()
        alone.mkdir()
        history = BEGIN + [step for each in rounds for step in each]
        patch.setitem(SCOPES, "office", ["branch:LON", "branch:PAR"])
        first = live(together, history)
        patch.setattr(runs, "take", lambda *_: 0)
        second = live(alone, history)
        assert {name: first[name] for name in first if first[name] != second[name]} == {
            name: second[name] for name in second if first[name] != second[name]
        }


def test_a_push_in_which_every_second_edit_is_contended_is_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the property above could compare the slow path with itself."""
    taken: list[int] = []
    found: list[int] = []
    take, put = runs.take, edits.put_on_record

    def counted(coming: edits.Coming, allowed: frozenset[str], works: Sequence[Transaction]) -> int:
        taken.append(take(coming, allowed, works))
        return taken[-1]

    def recorded(coming: edits.Coming, some: Sequence[tuple[edits.Edited, Found]]) -> None:
        found.append(len(some))
        put(coming, some)

    monkeypatch.setattr(runs, "take", counted)
    monkeypatch.setattr(runs, "put_on_record", recorded)
    world = World(tmp_path, SCHEMA)
    one, other = world.node("one", "branch:LON"), world.node("other", "branch:LON")
    for node in (one, other):
        tell_the_time(world, node.database.connection)
    for number in range(20):
        one.sql(BARE, f"c{number:02}", "a", "LON")
    world.settle(2)
    one.sql("UPDATE contact SET phone = '1', note = 'mine'")
    world.clock.now += 1_000
    other.sql("UPDATE contact SET phone = '2', note = 'theirs' WHERE substr(id, 2) % 2")
    other.sync()
    taken.clear()
    found.clear()
    assert one.sync().verdicts == {"accepted": 10, "merged": 0, "ask": 10, "held": 0, "refused": 0, "withdrawn": 0}
    assert (taken, found) == ([20], [20])
    world.settle(2)
    assert world.agree()
    assert world.sql("SELECT phone, note, COUNT(*) FROM contact GROUP BY phone, note ORDER BY phone") == [
        ("1", "mine", 10),
        ("2", "theirs", 10),
    ]
    assert [number for (number,) in world.sql("SELECT COUNT(*) FROM _conflict c JOIN _about a ON a.conflict = c.id")] == [20]
    world.close()
