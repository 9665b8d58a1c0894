"""Composing: several transactions as one leave the same rows, and know as little as the least of them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sync.change import NEVER, Delete, Edit, Insert, Op, Transaction, Update
from sync.compose import compose
from sync.merge import replay
from sync.policy import Policy, policies

KEYS, CELLS = ("a", "b"), ("name", "points")


def policy_of(_table: str, cell: str) -> Policy:
    return policies()["add" if cell == "points" else "latest"]


def test_a_delete_stays_typed_under_its_own_number() -> None:
    """What the same node wrote after it was not seen by it, however late the correction came."""
    works = [
        Transaction(0, 3, 0, 0, [Delete("t", ("a",), 1, 2)]),
        Transaction(0, 7, 0, 0, [Insert("t", ("b",), {"name": "x"}), Delete("t", ("c",), 1, 2)]),
    ]
    made, _ = compose(works, policy_of)
    assert {op.key: op.number for op in made.ops if isinstance(op, Delete)} == {("a",): 3, ("c",): 7}


Rows = dict[str, dict[str, object]]


def apply(rows: Rows, ops: Sequence[Op]) -> Rows:
    """What changes make of rows, one after the other: slowly, and obviously."""
    now = {key: dict(row) for key, row in rows.items()}
    for op in ops:
        key = str(op.key[0])
        match op:
            case Delete():
                now.pop(key, None)
            case Insert():
                now[key] = {**dict.fromkeys(CELLS), **now.get(key, {}), **op.values}
            case Update():
                if key in now:
                    for edit in op.edits:
                        now[key][edit.cell] = replay(policy_of("", edit.cell), edit.old, edit.new, (now[key][edit.cell],))[0]  # type: ignore[arg-type]
    return now


@st.composite
def histories(draw: st.DrawFn) -> tuple[Rows, list[Transaction]]:
    """Rows at the centre, and transactions that one node typed on top of them."""
    start: Rows = {key: {"id": key, "name": "old", "points": 10} for key in KEYS if draw(st.booleans())}
    view, works = {key: dict(row) for key, row in start.items()}, []
    for number in range(1, draw(st.integers(1, 6)) + 1):
        ops: list[Op] = []
        for key in draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=2)):
            base, since = draw(st.integers(0, 9)), draw(st.integers(1, number))
            if key not in view:
                ops.append(Insert("t", (key,), {"id": key, "name": f"n{number}", "points": draw(st.integers(0, 9))}))
            elif draw(st.integers(0, 3)) == 0:
                ops.append(Delete("t", (key,), base, since))
            else:
                cells = draw(st.lists(st.sampled_from(CELLS), unique=True, min_size=1))
                new = {"name": f"w{number}", "points": draw(st.integers(0, 99))}
                edits = [Edit(cell, (cell,), (view[key][cell],), (new[cell],), base, since, 0) for cell in cells]  # type: ignore[arg-type]
                ops.append(Update("t", (key,), edits))
            view = apply(view, ops[-1:])
        works.append(Transaction(0, number, 0, 9, ops))
    return start, works


@given(histories())
def test_one_transaction_leaves_what_all_of_them_leave(history: tuple[Rows, list[Transaction]]) -> None:
    start, works = history
    whole, given_up = compose(works, policy_of)
    assert apply(start, whole.ops) == apply(start, [op for work in works for op in work.ops])
    written = [(type(op), op.key) for op in whole.ops]
    assert len(written) == len(set(written)), "one change of a kind for each row"
    assert not {key for _, key in given_up} & {op.key for op in whole.ops}


@given(histories())
def test_it_knows_as_little_as_the_least(history: tuple[Rows, list[Transaction]]) -> None:
    _, works = history
    whole, _ = compose(works, policy_of)
    for op in whole.ops:
        if isinstance(op, Insert):
            assert op.since != NEVER, "its own number is another transaction's now"
        for edit in op.edits if isinstance(op, Update) else ():
            same = [  # whoever ends as an update was never anything else
                other
                for work in works
                for each in work.ops
                if isinstance(each, Update) and each.key == op.key
                for other in each.edits
                if other.cell == edit.cell
            ]
            assert edit.base == min(other.base for other in same)
            assert edit.since == min(other.since for other in same)
            assert edit.old == same[0].old or edit.cell == "points", "differences stay one after the other"


def test_a_difference_on_top_of_a_difference_counts_both() -> None:
    """In between somebody else's 5 had come: 10 → 12, then 17 → 20 makes 5 more."""
    first = Update("t", ("a",), [Edit("points", ("points",), (10,), (12,), 3, 1, 0)])
    then = Update("t", ("a",), [Edit("points", ("points",), (17,), (20,), 7, 1, 0)])
    whole, _ = compose([Transaction(0, 1, 0, 3, [first]), Transaction(0, 2, 5, 7, [then])], policy_of)
    edits = [Edit("points", ("points",), (10,), (12,), 3, 1, 0, number=1), Edit("points", ("points",), (17,), (20,), 3, 1, 0, number=2)]
    assert whole.ops == [Update("t", ("a",), edits)]
    assert (whole.number, whole.base, whole.wall) == (2, 3, 5)


def test_what_was_inserted_and_deleted_is_given_up() -> None:
    born = Transaction(0, 1, 0, 3, [Insert("t", ("a",), {"id": "a"})], [b"one"])
    gone = Transaction(0, 2, 0, 3, [Delete("t", ("a",), NEVER, 1)], [b"two", b"one"])
    whole, given_up = compose([born, gone], policy_of)
    assert (whole.ops, given_up, whole.decisions) == ([], {("t", ("a",))}, [b"one", b"two"])


def test_a_row_in_its_second_life_keeps_both_changes() -> None:
    first = [Delete("t", ("a",), 4, 1), Insert("t", ("a",), {"id": "a", "name": "new"}, 4, 1)]
    works = [
        Transaction(0, 1, 0, 4, list[Op](first)),
        Transaction(0, 2, 0, 4, [Update("t", ("a",), [Edit("name", ("name",), ("new",), ("x",), 4, 1, 0)])]),
    ]
    whole, _ = compose(works, policy_of)
    assert whole.ops == [Delete("t", ("a",), 4, 1, number=1), Insert("t", ("a",), {"id": "a", "name": "x"}, 4, 1, 1, {"name": 2})]
    ended, given_up = compose([*works, Transaction(0, 3, 0, 4, [Delete("t", ("a",), 4, 1)])], policy_of)
    assert (ended.ops, given_up) == (whole.ops[:1], set())


def test_what_is_composed_was_made_under_the_newest_declaration_of_all() -> None:
    """An older centre must know that it waits for its own upgrade (P-11.6): it called a correction of such work a wrong type."""
    works = [Transaction(0, number, 0, 0, schema=schema) for number, schema in ((1, 3), (2, 2))]
    assert compose(works, policy_of)[0].schema == 3
