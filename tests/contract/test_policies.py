"""Every policy in sync/policies/, held to the same laws; a new file there is tested without a line changed here.

Below the laws: a few examples per policy, and what only the differential ones promise.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import sync.policies
from sync.policy import (
    Cell,
    CellValue,
    ColumnType,
    Decision,
    NoDifference,
    Policy,
    apply_difference,
    difference,
    policies,
    policy,
)
from sync.values import RawText, Value

FILES = sorted(path.stem for path in Path(sync.policies.__path__[0]).glob("[!_]*.py"))
EVERY = pytest.mark.parametrize("rule", [pytest.param(rule, id=name) for name, rule in policies().items()])
DIFFERENTIAL = [name for name, rule in policies().items() if rule.differential]
RULES = list(policies().values())
CALM = settings(deadline=None, max_examples=300)

INT64 = st.integers(-(2**63), 2**63 - 1)
CLEAN = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
TAGS = st.lists(st.sampled_from(["a", "b", "c", "й", "🏪", '"', "\\", "\n"]), max_size=4).map(json.dumps)
NUMBERS: st.SearchStrategy[Value] = st.none() | st.integers(-20, 20) | INT64 | st.floats(allow_nan=False)
TEXTS: st.SearchStrategy[Value] = st.none() | CLEAN | TAGS
VALUES: st.SearchStrategy[CellValue] = NUMBERS | TEXTS | st.binary(max_size=3) | st.just(RawText(b"\xff")) | st.tuples(CLEAN, NUMBERS)
STAMPS = st.integers(0, 3) | st.integers(0, 2**42)
WRITERS = st.permutations(["k1", "k2", "k3"])


Conflict: TypeAlias = tuple[Cell, Cell, Cell]


@st.composite
def conflicts(draw: st.DrawFn) -> Conflict:
    """Base, mine, theirs: of one kind or of any; written by different nodes, as concurrent edits are."""
    values = draw(st.sampled_from([VALUES, NUMBERS, st.integers(-3, 3), TEXTS, TAGS]))
    base, mine, theirs = (Cell(draw(values), draw(STAMPS), writer) for writer in draw(WRITERS))
    return base, mine, theirs


def exact(value: CellValue) -> object:
    """What makes two values the same: 1 is not 1.0, and 0.0 is not -0.0."""
    return [exact(part) for part in value] if isinstance(value, tuple) else (type(value), repr(value))


def close(one: CellValue, other: CellValue, *among: CellValue) -> bool:
    """Tell whether two numbers differ by no more than rounding the numbers they came from explains."""
    if not (isinstance(one, float) or isinstance(other, float)):
        return exact(one) == exact(other)
    sizes = [abs(float(number)) for number in (one, other, *among) if isinstance(number, int | float)]
    return (
        isinstance(one, int | float)
        and isinstance(other, int | float)
        and (one == other or math.isclose(one, other, abs_tol=1e-9 * max(sizes)))
    )


# ---- laws of all


def test_every_file_registers_the_policy_it_is_named_after() -> None:
    assert sorted(policies()) == FILES
    assert {"latest", "first", "server", "max", "min", "add", "union", "ask"} <= set(FILES)
    assert all(name == rule.name for name, rule in policies().items())


@EVERY
def test_a_policy_says_in_one_sentence_what_it_does(rule: Policy) -> None:
    assert 20 <= len(rule.doc) <= 100
    assert rule.doc.endswith(".")


@CALM
@given(conflicts())
def test_the_same_conflict_is_decided_the_same(conflict: Conflict) -> None:
    for rule in RULES:
        assert repr(rule(*conflict)) == repr(rule(*conflict)), rule.name


@CALM
@given(conflicts())
def test_a_side_that_stands_stands_untouched(conflict: Conflict) -> None:
    sides = {"mine": conflict[1].value, "theirs": conflict[2].value}
    for rule in RULES:
        decision = rule(*conflict)
        if decision.side == "both":
            assert rule.differential, rule.name
        else:
            assert exact(decision.value) == exact(sides[decision.side]), rule.name


@CALM
@given(conflicts())
def test_asking_leaves_what_stands(conflict: Conflict) -> None:
    """Nobody's value is gone while a person has not decided: theirs is in its place, mine is on record."""
    for rule in RULES:
        decision = rule(*conflict)
        if decision.ask:
            assert (decision.side, exact(decision.value)) == ("theirs", exact(conflict[2].value)), rule.name


@CALM
@given(conflicts())
def test_equal_values_ask_nobody_and_stay(conflict: Conflict) -> None:
    """But two sales of one item both write "9": equality does not apply to differences (RULES H19)."""
    base, mine, theirs = conflict
    for rule in RULES:
        if not rule.differential:
            decision = rule(base, mine, replace(theirs, value=mine.value))
            assert (exact(decision.value), decision.ask) == (exact(mine.value), False), rule.name


@CALM
@given(conflicts())
def test_the_order_of_arrival_does_not_matter(conflict: Conflict) -> None:
    base, mine, theirs = conflict
    for rule in RULES:
        one, other = rule(base, mine, theirs), rule(base, theirs, mine)
        unaddable = rule.differential and (one.ask or other.ask)
        if rule.symmetric and not unaddable:
            assert close(one.value, other.value, base.value, mine.value, theirs.value), rule.name


@EVERY
def test_a_policy_that_depends_on_arrival_says_so(rule: Policy) -> None:
    """The claim is tested both ways: what is not declared symmetric is not."""
    mine, theirs = Cell("a", 1, "k1"), Cell("b", 2, "k2")
    if not rule.symmetric:
        assert rule(mine, mine, theirs).value != rule(mine, theirs, mine).value


@EVERY
@pytest.mark.parametrize("types", [(), ("text",), ("integer",), ("real",), ("blob",), ("text", "text")])
def test_a_check_is_silent_or_says_what_is_wrong(rule: Policy, types: tuple[ColumnType, ...]) -> None:
    error = rule.check(types)
    assert error is None or (error.startswith("takes ") and "\n" not in error)


# ---- examples

EARLY, LATE = 1_000, 2_000
EXAMPLES: list[Any] = [
    pytest.param("latest", None, ("Ann", EARLY, "k1"), ("Anna", LATE, "k2"), "Anna", "theirs", id="latest-theirs"),
    pytest.param("latest", "Ann", (None, LATE, "k1"), ("Anna", EARLY, "k2"), None, "mine", id="clearing-is-an-edit"),
    pytest.param("latest", None, ("a", LATE, "k2"), ("b", LATE, "k1"), "a", "mine", id="latest-tie-greater-node"),
    pytest.param("latest", None, ("a", LATE, "k1"), ("b", LATE, "k2"), "b", "theirs", id="latest-tie-smaller-node"),
    pytest.param(
        "latest", ("x", "y"), (("High St 1", "N1"), LATE, "k1"), (("Low St 2", "S2"), EARLY, "k2"), ("High St 1", "N1"),
        "mine", id="a-group-stands-or-falls-as-one",
    ),
    pytest.param("first", None, ("Kim", EARLY, "k2"), ("Lee", LATE, "k1"), "Kim", "mine", id="first-claim-was-offline"),
    pytest.param("first", None, ("Kim", LATE, "k1"), ("Lee", EARLY, "k2"), "Lee", "theirs", id="first-theirs-earlier"),
    pytest.param("first", None, ("Kim", LATE, "k1"), ("Lee", LATE, "k2"), "Kim", "mine", id="first-tie-smaller-node"),
    pytest.param("first", None, ("Kim", LATE, "k2"), ("Lee", LATE, "k1"), "Lee", "theirs", id="first-tie-greater-node"),
    pytest.param("server", 0, (500, LATE, "k9"), (100, EARLY, "k1"), 100, "theirs", id="server-whatever-the-stamps"),
    pytest.param("max", 1, (3, EARLY, "k1"), (2, LATE, "k2"), 3, "mine", id="max-mine"),
    pytest.param("max", 1, (2, LATE, "k1"), (3, EARLY, "k2"), 3, "theirs", id="max-theirs"),
    pytest.param("max", 1, (None, LATE, "k2"), (-5, EARLY, "k1"), -5, "theirs", id="max-null-beats-nothing"),
    pytest.param("max", 1, (2, LATE, "k1"), (2.0, EARLY, "k2"), 2, "mine", id="max-equal-numbers-later-edit"),
    pytest.param("max", "", ("ж", LATE, "k1"), ("z", EARLY, "k2"), "ж", "mine", id="max-text-by-utf8"),
    pytest.param("min", 9, (3, LATE, "k1"), (2, EARLY, "k2"), 2, "theirs", id="min-theirs"),
    pytest.param("min", 9, (2, EARLY, "k1"), (3, LATE, "k2"), 2, "mine", id="min-mine"),
    pytest.param("min", 9, (None, LATE, "k2"), (7, EARLY, "k1"), 7, "theirs", id="min-null-beats-nothing"),
    pytest.param("min", 9, (7, EARLY, "k1"), (None, LATE, "k2"), 7, "mine", id="min-value-beats-null"),
    pytest.param("min", 9, (0.0, LATE, "k1"), (-0.0, EARLY, "k2"), 0.0, "mine", id="min-equal-numbers-later-edit"),
    pytest.param("add", 10, (9, EARLY, "k1"), (9, LATE, "k2"), 8, "both", id="two-sales-of-one-item"),
    pytest.param("add", None, (3, EARLY, "k1"), (4, LATE, "k2"), 7, "both", id="add-null-base"),
    pytest.param("add", 2, (5, EARLY, "k1"), (None, LATE, "k2"), 3, "both", id="add-theirs-cleared"),
    pytest.param("add", 2, (None, EARLY, "k1"), (5, LATE, "k2"), 3, "both", id="add-mine-cleared"),
    pytest.param("add", 1.5, (2.0, EARLY, "k1"), (4, LATE, "k2"), 4.5, "both", id="add-doubles"),
    pytest.param("add", 0.3, (0.1, EARLY, "k1"), (0.3, LATE, "k2"), 0.1, "mine", id="add-nobody-else-so-as-typed"),
    pytest.param("add", 5, (5, EARLY, "k1"), (7, LATE, "k2"), 7, "theirs", id="add-mine-changed-nothing"),
    pytest.param("union", '["a"]', ('["a","c"]', 1, "k1"), ('["a","b"]', 2, "k2"), '["a","b","c"]', "both", id="tags"),
    pytest.param("union", '["a","b"]', ('["b"]', 1, "k1"), ('["a","b","c"]', 2, "k2"), '["b","c"]', "both", id="gone"),
    pytest.param("union", '["a"]', ("[]", 1, "k1"), ('["b"]', 2, "k2"), '["b"]', "both", id="both-removed"),
    pytest.param("union", None, ("vip", 1, "k1"), ('["old"]', 2, "k2"), '["old","vip"]', "both", id="typed-by-hand"),
    pytest.param("union", '["a"]', ("", 1, "k1"), ('["a","b"]', 2, "k2"), '["b"]', "both", id="emptied"),
    pytest.param("union", None, ('["ж", "a"]', 1, "k1"), (None, 2, "k2"), '["ж", "a"]', "mine", id="as-typed"),
    pytest.param("ask", "x", ("a", LATE, "k1"), ("b", EARLY, "k2"), "b", "theirs", id="ask"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "base", "mine", "theirs", "kept", "side"), EXAMPLES)
def test_example(name: str, base: Any, mine: Any, theirs: Any, kept: Any, side: Any) -> None:
    decision = policies()[name](Cell(base, 0, "k0"), Cell(*mine), Cell(*theirs))
    assert exact(decision.value) == exact(kept)
    assert (decision.side, decision.ask) == (side, name == "ask")


@pytest.mark.parametrize(
    ("name", "base", "mine", "theirs"),
    [
        pytest.param("add", 0, 1, 2**63 - 1, id="sum-beyond-64-bits"),
        pytest.param("add", 0, -1, -(2**63), id="sum-below-64-bits"),
        pytest.param("add", -(2**63), 2**63 - 1, 0, id="difference-beyond-64-bits"),
        pytest.param("add", 0.0, 1e308, 1.7e308, id="sum-beyond-doubles"),
        pytest.param("add", 1, "two", 3, id="mine-no-number"),
        pytest.param("add", 1, 2, "three", id="theirs-no-number"),
        pytest.param("add", (1, 2), (2, 2), (3, 2), id="a-group"),
        pytest.param("union", "[]", b"[]", '["a"]', id="mine-blob"),
        pytest.param("union", "[]", '["a"]', RawText(b"\xff"), id="theirs-raw-text"),
    ],
)
def test_what_cannot_be_added_is_asked(name: str, base: Any, mine: Any, theirs: Any) -> None:
    decision = policies()[name](Cell(base, 0, "k0"), Cell(mine, LATE, "k1"), Cell(theirs, EARLY, "k2"))
    assert decision == Decision(theirs, "theirs", ask=True)


def test_nobody_is_asked_between_equal_values() -> None:
    assert not policies()["ask"](Cell(1, 0, "k0"), Cell("a", 1, "k1"), Cell("a", 2, "k2")).ask


@pytest.mark.parametrize(
    ("name", "types", "error"),
    [
        ("latest", ("text", "text"), None),
        ("max", ("integer",), None),
        ("max", ("integer", "text"), "takes one column, not a group of 2"),
        ("min", ("blob",), None),
        ("add", ("integer",), None),
        ("add", ("real",), None),
        ("add", ("text",), "takes a column of type integer or real, not text"),
        ("add", ("integer", "integer"), "takes one column, not a group of 2"),
        ("union", ("text",), None),
        ("union", ("blob",), "takes a column of type text, not blob"),
    ],
)
def test_a_declaration_is_checked(name: str, types: tuple[ColumnType, ...], error: str | None) -> None:
    assert policies()[name].check(types) == error


# ---- differences


def canonical(rule: Policy, value: Value) -> Value:
    """What a value is once it went through the policy: added to nothing."""
    return apply_difference(rule, None, difference(rule, None, value))


def subtractable(name: str) -> st.SearchStrategy[Value]:
    return {"add": NUMBERS, "union": TEXTS}.get(name, NUMBERS | TEXTS)


def or_none(rule: Policy, old: Value, new: Value) -> Value:
    try:
        return difference(rule, old, new)
    except NoDifference:
        return None


@pytest.mark.parametrize("name", DIFFERENTIAL)
@CALM
@given(st.data())
def test_a_difference_added_to_the_old_value_gives_the_new(name: str, data: st.DataObject) -> None:
    rule, values = policies()[name], subtractable(name)
    old, new = data.draw(values), data.draw(values)
    change = or_none(rule, old, new)
    assume(change is not None)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(change)) == change
    assert close(apply_difference(rule, old, change), canonical(rule, new), old, new)


@pytest.mark.parametrize("name", DIFFERENTIAL)
@CALM
@given(st.data())
def test_a_node_that_replays_gets_what_the_server_decides(name: str, data: st.DataObject) -> None:
    rule, values = policies()[name], subtractable(name)
    base, mine, theirs = data.draw(values), data.draw(values), data.draw(values)
    decision = rule(Cell(base, 0, "k0"), Cell(mine, 1, "k1"), Cell(theirs, 2, "k2"))
    if decision.side == "both":
        assert exact(apply_difference(rule, theirs, difference(rule, base, mine))) == exact(decision.value)


@pytest.mark.parametrize("name", DIFFERENTIAL)
@CALM
@given(st.data())
def test_differences_are_added_in_any_order(name: str, data: st.DataObject) -> None:
    rule, values = policies()[name], subtractable(name)
    base, one, two = data.draw(values), data.draw(values), data.draw(values)
    try:
        first, second = difference(rule, base, one), difference(rule, base, two)
        there = apply_difference(rule, apply_difference(rule, base, first), second)
        back = apply_difference(rule, apply_difference(rule, base, second), first)
    except NoDifference:
        return
    assert close(there, back, base, one, two)


@pytest.mark.parametrize(
    ("name", "old", "new", "change"),
    [
        ("add", 10, 9, -1),
        ("add", None, 5, 5),
        ("add", 5, None, -5),
        ("add", 1, 1.5, 0.5),
        ("union", '["a","b"]', '["b","й","🏪"]', '{"add":["й","🏪"],"del":["a"]}'),
        ("union", None, None, '{"add":[],"del":[]}'),
        ("union", '["a"', '["a"]', '{"add":["a"],"del":["[\\"a\\""]}'),
    ],
)
def test_a_difference_reads_like_this(name: str, old: Value, new: Value, change: Value) -> None:
    assert exact(difference(policies()[name], old, new)) == exact(change)


def test_adding_wins_over_removing() -> None:
    assert apply_difference(policies()["union"], "[]", '{"add":["a"],"del":["a"]}') == '["a"]'


def test_a_set_is_written_one_way() -> None:
    """Sorted by code point (not as UTF-16 would), each text once, nothing escaped that need not be."""
    value = json.dumps(["🏪", "\uff5e", "z", "z", 'say "hi"', "tab\there", "\x01"])
    assert canonical(policies()["union"], value) == '["\\u0001","say \\"hi\\"","tab\\there","z","\uff5e","🏪"]'


@pytest.mark.parametrize(
    ("name", "change"),
    [("add", "1"), ("add", b""), ("union", 1), ("union", "[]"), ("union", '{"add":[],"del":[],"x":1}'), ("union", "{")],
)
def test_a_difference_that_is_none_is_refused(name: str, change: Value) -> None:
    with pytest.raises(NoDifference) as caught:
        apply_difference(policies()[name], None, change)
    assert caught.value.code == "policy.difference"


# ---- our own mistakes


def test_only_differential_policies_have_differences() -> None:
    with pytest.raises(AssertionError, match="not differential"):
        difference(policies()["latest"], 1, 2)


def test_a_name_is_given_once() -> None:
    with pytest.raises(AssertionError, match="twice"):
        policy("latest")(policies()["latest"].function)


def test_a_policy_must_explain_itself() -> None:
    def silent(base: Cell, mine: Cell, theirs: Cell) -> Decision:
        return Decision(theirs.value, "theirs", ask=False)

    with pytest.raises(AssertionError, match="does not say"):
        policy("silent")(silent)
    assert "silent" not in policies()
