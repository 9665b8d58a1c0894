"""Merging a cell, against a second merge written here slowly and obviously, for every policy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sync.merge import CENTRE, Lineage, Meta, merge_cell, replay, same_values, seen
from sync.policy import policies
from sync.values import RawText, Value

NUMBERS: st.SearchStrategy[Value] = st.none() | st.integers(-5, 5) | st.sampled_from([2**63 - 1, -(2**63), 2**62])
SETS: st.SearchStrategy[Value] = (
    st.none() | st.sampled_from(["", "a", "b", "[]"]) | st.lists(st.sampled_from("abc"), max_size=3).map(json.dumps)
)
ANY: st.SearchStrategy[Value] = NUMBERS | st.sampled_from(["", "a", "b", "é", 1.0, -0.0, b"", b"x", RawText(b"\xff")])
STAMPS = st.integers(0, 4)
NODES = st.sampled_from(["k2", "l3", "", "z"])


@dataclass
class Result:
    """What a cell holds afterwards, whether the pushed value was set aside or a conflict was recorded, and who is asked."""

    value: tuple[Value, ...]
    stamp: int
    conflict: str  # "", "mine" or "theirs"
    ask: bool


def rank(value: Value) -> tuple[int, Any]:
    """SQLite's order, spelt out."""
    if value is None:
        return 0, 0
    if isinstance(value, int | float):
        return 1, value
    if isinstance(value, str):
        return 2, value.encode()
    return (2, value.raw) if isinstance(value, RawText) else (3, value)


def alike(one: tuple[Value, ...], other: tuple[Value, ...]) -> bool:
    return [(type(v), v) for v in one] == [(type(v), v) for v in other]


def as_set(value: Value) -> set[str]:
    if value is None or value == "":
        return set()
    assert isinstance(value, str)
    try:
        found = json.loads(value)
    except ValueError:
        return {value}
    return set(found) if isinstance(found, list) and all(isinstance(item, str) for item in found) else {value}


def slow_sum(rule: str, old: Value, new: Value, standing: Value) -> tuple[Value, bool]:
    """The result of a differential policy and whether a person is asked."""
    if new == old:
        return standing, False
    if standing == old:
        return new, False
    if rule == "union":
        if not all(value is None or isinstance(value, str) for value in (old, new, standing)):
            return standing, True
        found = (as_set(standing) - (as_set(old) - as_set(new))) | (as_set(new) - as_set(old))
        return json.dumps(sorted(found), ensure_ascii=False, separators=(",", ":")), False
    if not all(value is None or isinstance(value, int | float) for value in (old, new, standing)):
        return standing, True
    numbers = [0 if value is None else value for value in (old, new, standing)]
    difference = numbers[1] - numbers[0]  # type: ignore[operator]
    total = numbers[2] + difference  # type: ignore[operator]
    if any(isinstance(number, int) and not -(2**63) <= number < 2**63 for number in (difference, total)):
        return standing, True
    return total, False


def slow_merge(rule: str, old: Any, new: Any, stamp: int, node: str, standing: Any, meta: Meta, known: bool) -> Result:
    """The rules of PROTOCOL.md §2.3 and §6.4.2, one after the other."""
    later_stamp = stamp if stamp > meta.stamp else meta.stamp + 1
    if rule in ("add", "union"):
        value, ask = slow_sum(rule, old[0], new[0], standing[0])
        return Result(standing, meta.stamp, "theirs", True) if ask else Result((value,), later_stamp, "", False)
    if known:
        return Result(new, later_stamp, "", False)
    if alike(new, standing):
        return Result(new, max(stamp, meta.stamp), "", False)
    mine_is_later = (stamp, node) > (meta.stamp, meta.node)
    if rule == "latest":
        wins = mine_is_later
    elif rule == "first":
        wins = (stamp, node) < (meta.stamp, meta.node)
    elif rule in ("max", "min"):
        ours, theirs = rank(new[0]), rank(standing[0])
        if rule == "min":
            ours, theirs = theirs, ours
            if None in (new[0], standing[0]):
                ours, theirs = (0, new[0] is not None), (0, standing[0] is not None)
        wins = mine_is_later if ours == theirs else ours > theirs
    else:
        wins = False
    if wins:
        return Result(new, stamp, "mine", False)
    return Result(standing, meta.stamp, "theirs", rule == "ask" and new != standing)


@st.composite
def pushes(draw: st.DrawFn, rule: str) -> tuple[Any, ...]:
    values = {"add": NUMBERS | st.just("x"), "union": SETS | st.just(b"x")}.get(rule, ANY)
    width = 1 if rule in ("add", "union", "max", "min") else draw(st.integers(1, 2))
    old, new, standing = (draw(st.tuples(*[values] * width)) for _ in range(3))
    meta = Meta(5, 1, 1, draw(STAMPS), draw(NODES))
    return old, new, draw(STAMPS), draw(NODES), standing, meta, draw(st.booleans())


@pytest.mark.covers("P-2.11", "P-2.12", "P-2.13", "P-2.14", "P-6.19", "P-6.20", "P-6.21")
@pytest.mark.parametrize("rule", sorted(policies()))
def test_the_merge_is_the_slow_one(rule: str) -> None:
    @settings(deadline=None, max_examples=400)
    @given(pushes(rule))
    def check(push: tuple[Any, ...]) -> None:
        outcome, wanted = merge_cell(policies()[rule], *push), slow_merge(rule, *push)
        assert alike(outcome.value, wanted.value)
        assert (outcome.side if outcome.conflict else "", outcome.ask) == (wanted.conflict, wanted.ask)
        assert outcome.write is (wanted.conflict != "theirs")
        assert outcome.altered is (wanted.conflict == "theirs")
        if outcome.write:
            assert outcome.stamp == wanted.stamp

    check()


@pytest.mark.covers("P-6.17", "P-7.7")
@given(
    st.integers(0, 9), st.integers(0, 9), st.integers(-1, 9), st.integers(0, 9), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)))
)
@example(5, 3, 4, 4, [(0, 9)])  # own, and before since
@example(5, 4, 4, 4, [(0, 9)])
@example(5, 4, 4, 4, [(5, 9)])
def test_seen_is_older_than_the_base_or_own_since(version: int, number: int, base: int, since: int, ranges: list[tuple[int, int]]) -> None:
    own = any(low <= number <= high for low, high in ranges)
    lineage = Lineage({3: ranges, 4: [(0, 99)]})
    assert seen(Meta(version, 3, number, 0, ""), base, since, lineage) is (version <= base or (own and number >= since))
    assert not lineage.has(CENTRE, number)


@pytest.mark.covers("P-8.13")
@pytest.mark.parametrize(
    ("rule", "old", "new", "standing", "shown"),
    [
        pytest.param("latest", ("a",), ("b",), ("c",), ("b",), id="an-edit-stands-over-newer-values"),
        pytest.param("latest", ("a", 1), ("b", 1), ("c", 2), ("b", 1), id="a-group-is-one"),
        pytest.param("server", ("a",), ("b",), ("c",), ("b",), id="until-it-is-judged-whatever-the-policy"),
        pytest.param("add", (10,), (9,), (20,), (19,), id="a-difference-is-added"),
        pytest.param("add", (10,), (9,), ("x",), ("x",), id="what-cannot-be-added-stands"),
        pytest.param("union", ('["a"]',), ('["a","b"]',), ('["c"]',), ('["b","c"]',), id="a-difference-of-sets"),
    ],
)
def test_replay(rule: str, old: Any, new: Any, standing: Any, shown: Any) -> None:
    assert replay(policies()[rule], old, new, standing) == shown


def test_the_same_value_has_the_same_type() -> None:
    assert same_values((1, "a"), (1, "a"))
    assert not same_values((1,), (1.0,))
    assert not same_values(("",), (None,))
    assert not same_values((b"a",), ("a",))
