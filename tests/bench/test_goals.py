"""Goals: judged by their medians, at the sizes they are for; the report says met, missed or not measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench import report
from bench.figures import Measured
from bench.goals import Goal, goals
from bench.sizes import FULL, QUICK

MACHINE: dict[str, Any] = {
    "measured_at": "2026-11-23 12:00 UTC",
    "outpost": "0.1.0",
    "cores": 2,
    "cpu": "one",
    "memory_mb": 1,
    "filesystem": "ext4",
    "system": "Linux",
    "python": "3.11",
    "libraries": {},
    "peers": {},
}


@pytest.mark.parametrize(
    ("goal", "median", "is_met"),
    [
        pytest.param(Goal("rate", at_least=35), 35, True, id="at the bound"),
        pytest.param(Goal("rate", at_least=35), 34.9, False, id="below"),
        pytest.param(Goal("bytes", at_most=32), 32, True, id="at most"),
        pytest.param(Goal("bytes", at_most=32), 32.1, False, id="above"),
    ],
)
def test_a_median_meets_a_goal_or_misses_it(goal: Goal, median: float, is_met: bool) -> None:
    assert goal.is_met(median) is is_met


def test_every_goal_is_in_the_document_measured_or_not() -> None:
    found = {"push, times PouchDB leveldb": [30.0, 36.0, 40.0], "push, bytes a row": [33.0], "nothing to do, ms": [1.0, 90.0, 2.0]}
    document = report.document(Measured(figures=found, load=[1.0]), MACHINE, 3, FULL)
    assert [each["goal"] for each in document["goals"]] == [goal.figure for goal in goals()]
    by_name = {each["goal"]: each for each in document["goals"]}
    peer = {"at_least": 35, "median": 36.0, "low": 30.0, "high": 40.0, "times": 3, "met": True}
    assert by_name["push, times PouchDB leveldb"] == {"goal": "push, times PouchDB leveldb", **peer}
    assert by_name["nothing to do, ms"]["met"] is True  # by the median, whatever one round did
    assert by_name["pull, times PouchDB leveldb"] == {
        "goal": "pull, times PouchDB leveldb",
        "at_least": 40,
        "met": None,
        "needs": "--peers",
    }
    assert document["missed"] == ["push, bytes a row"]


def test_the_report_shows_goal_median_range_and_what_became_of_it() -> None:
    found = {"push, bytes a row": [33.0, 34.0, 35.0], "pull, bytes a row": [26.9]}
    lines = report.lines(report.document(Measured(figures=found, load=[1.0]), MACHINE, 3, FULL))
    assert "| push, bytes a row | ≤ 32 | 34.0 | 33.0 – 35.0 | **missed** |" in lines
    assert "| pull, bytes a row | ≤ 32 | 26.9 | 26.9 – 26.9 | met |" in lines
    assert "| push, times PouchDB leveldb | ≥ 35 | | | not measured: --peers |" in lines
    assert lines[-1] == "Missed: push, bytes a row"


def test_other_sizes_are_not_judged() -> None:
    document = report.document(Measured(figures={"push, bytes a row": [99.0]}, load=[1.0]), MACHINE, 1, FULL.times(0.5))
    assert document["missed"] == []
    assert "Goals are for 200,000 receipts: none was judged." in report.lines(document)


def test_a_run_that_was_stopped_or_failed_is_not_complete() -> None:
    stopped = report.document(replace(Measured(), stopped=True), MACHINE, 1, FULL)
    failed = report.document(Measured(failed={"round 1": "OSError: full"}), MACHINE, 1, FULL)
    assert (stopped["complete"], failed["complete"]) == (False, False)
    assert "Stopped before its end: this is what was measured until then." in report.lines(stopped)
    assert "Failed: round 1: OSError: full" in report.lines(failed)


def test_every_goal_has_one_bound_and_a_name_of_its_own() -> None:
    assert all((goal.at_least is None) != (goal.at_most is None) for goal in goals())
    assert len({goal.figure for goal in goals()}) == len(goals())


def test_quick_judges_what_does_not_depend_on_what_it_leaves_out() -> None:
    assert (QUICK.sales, QUICK.small) == (FULL.sales, FULL.small)


def test_a_scale_leaves_at_least_one_of_each() -> None:
    tiny = FULL.times(0.0001)
    assert tiny.document() == {"sales": 20, "small": 1, "contended": 1, "bases": (1, 100), "first": 100, "nodes": 1, "peers": 10}
