"""Policies: who stands when two people changed one cell without knowing of each other.

    base, mine, theirs ─► policy() ─► Decision: the value, whose it is, and whether a person must be asked

A policy is a pure function in a file of its own in sync/policies/, named by the declaration of a column or group and
found by listing that folder: a new policy is a new file, and tests/contract/test_policies.py then holds it to the laws.

`mine` is the edit that arrives, `base` what its writer saw before it, `theirs` what stands. No policy decides *whether*
two edits are concurrent (merge.py does, from versions), and none can discard a value: both sides are recorded whoever
stands.

A *differential* policy (add, union) is applied as a difference, mine - base, to whatever stands: two sales of one
item take two from the stock, although both wrote "9". So equality does not apply to it, and a node that has pending
work adds its difference again to each newer value it pulls.

Spec: PROTOCOL.md §6.4; RULES H17, H19 and §2. Driven by sync/merge.py.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from sync.values import Value, value_order

CellValue: TypeAlias = Value | tuple[Value, ...]
ColumnType: TypeAlias = Literal["text", "integer", "real", "blob"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One side of a conflict: the value (a tuple for a column group), when it was written, and on which node.

    `stamp` is milliseconds UTC, corrected by the skew measured at the exchange. `writer` is a node id, for ties; two
    concurrent edits have different writers.
    """

    value: CellValue
    stamp: int
    writer: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What stands: `value`, whose it is ("both": combined from both sides), and whether a person must decide."""

    value: CellValue
    side: Literal["mine", "theirs", "both"]
    ask: bool


class NoDifference(ValueError):
    """Values that cannot be subtracted or added: not numbers, not sets, or beyond what a column holds.

    A person's doing (a text in a number column) or a peer's. Nothing is changed; a person is asked to decide.
    """

    code: ClassVar[str] = "policy.difference"
    retry: ClassVar[bool] = False


Rule: TypeAlias = Callable[[Cell, Cell, Cell], Decision]
Check: TypeAlias = Callable[[Sequence[ColumnType]], str | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a differential policy subtracts and adds; both raise NoDifference where there is nothing to add.

    `between(old, new)` → a difference, itself a Value; `onto(value, difference)` → a Value. For all values it can
    subtract, onto(old, between(old, new)) is new, in its canonical form (doubles: to within rounding).
    """

    between: Callable[[CellValue, CellValue], Value]
    onto: Callable[[CellValue, Value], Value]

    def decide(self, base: Cell, mine: Cell, theirs: Cell) -> Decision:
        """Return theirs + (mine - base), or that a person must be asked because they cannot be added.

        Where only one side differs from the base, it stands exactly as typed: no rounding, no canonical form.
        """
        if mine.value == base.value:
            return stands(theirs, "theirs")
        if theirs.value == base.value:
            return stands(mine, "mine")
        try:
            return Decision(self.onto(theirs.value, self.between(base.value, mine.value)), "both", ask=False)
        except NoDifference:
            return Decision(theirs.value, "theirs", ask=True)


@dataclass(frozen=True, slots=True)
class Policy:
    """A registered policy. Calling it decides: `policy(base, mine, theirs)`.

    `symmetric`: the order of arrival does not matter to two edits (pairwise only: over a chain of edits of one node it
    may, RULES §2), as long as nobody is asked. `doc` is one sentence for the person who asks why a value won.
    `check(types of the cell's columns)` returns what is wrong with declaring the policy there, or None.
    """

    name: str
    function: Rule
    doc: str
    symmetric: bool
    check: Check
    difference: Difference | None

    @property
    def differential(self) -> bool:
        """Tell whether edits are logged, sent, folded and taken_anew as differences (RULES H19)."""
        return self.difference is not None

    def __call__(self, base: Cell, mine: Cell, theirs: Cell) -> Decision:
        """Return the decision between two concurrent edits."""
        return self.function(base, mine, theirs)


def any_columns(types: Sequence[ColumnType]) -> str | None:
    """Accept every cell, groups too."""
    return None


def one_column(types: Sequence[ColumnType], *allowed: ColumnType) -> str | None:
    """Return an error unless the cell is a single column, of one of the allowed types (none given: of any)."""
    if len(types) != 1:
        return f"takes one column, not a group of {len(types)}"
    if allowed and types[0] not in allowed:
        return f"takes a column of type {' or '.join(allowed)}, not {types[0]}"
    return None


_registered: dict[str, Policy] = {}


def policy(
    name: str, *, symmetric: bool = True, check: Check = any_columns, difference: Difference | None = None
) -> Callable[[Rule], Rule]:
    """Register the decorated function as a policy; the first line of its docstring explains it to people."""

    def register(function: Rule) -> Rule:
        assert name not in _registered, f"policy {name} is registered twice"
        doc = (function.__doc__ or "").strip().split("\n", 1)[0]
        assert doc, f"policy {name} does not say what it does"
        _registered[name] = Policy(name, function, doc, symmetric, check, difference)
        return function

    return register


@cache
def policies() -> Mapping[str, Policy]:
    """Return every policy by name: whatever the files in sync/policies/ register. Read once."""
    folder = importlib.import_module("sync.policies")
    for module in sorted(module.name for module in pkgutil.iter_modules(folder.__path__)):
        importlib.import_module(f"{folder.__name__}.{module}")
    return MappingProxyType(_registered)


def stands(cell: Cell, side: Literal["mine", "theirs"]) -> Decision:
    """Return the decision that one side stands and nobody need be asked."""
    return Decision(cell.value, side, ask=False)


def later(mine: Cell, theirs: Cell) -> Decision:
    """Return the decision that the edit with the greater stamp stands, on a tie the one of the greater node id."""
    if (mine.stamp, mine.writer) > (theirs.stamp, theirs.writer):
        return stands(mine, "mine")
    return stands(theirs, "theirs")


def cell_order(value: CellValue) -> tuple[tuple[int, int | float | bytes], ...]:
    """Return a sort key with SQLite's order of values; a group compares value by value."""
    return tuple(map(value_order, value)) if isinstance(value, tuple) else (value_order(value),)


def difference(policy: Policy, old: CellValue, new: CellValue) -> Value:
    """Return what the edit old → new adds, as a Value to keep and to send.

    Raises NoDifference: then keep and send the value itself, and a person is asked if somebody else changed it too.
    """
    return _operations(policy).between(old, new)


def apply_difference(policy: Policy, value: CellValue, difference: Value) -> Value:
    """Return `value` with a difference added, as a node replays its pending work over a newer value.

    Raises NoDifference: then `value` stands.
    """
    return _operations(policy).onto(value, difference)


def _operations(policy: Policy) -> Difference:
    assert policy.difference is not None, f"policy {policy.name} is not differential"
    return policy.difference
