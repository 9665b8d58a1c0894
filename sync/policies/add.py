"""add: for a number that several people change by some amount (stock on hand, points, a counter)."""

import math
from collections.abc import Sequence

from sync.policy import Cell, CellValue, ColumnType, Decision, Difference, NoDifference, one_column, policy
from sync.values import INT_MAX, INT_MIN, Value


def _check(types: Sequence[ColumnType]) -> str | None:
    return one_column(types, "integer", "real")


def between(old: CellValue, new: CellValue) -> Value:
    """Return new - old; NULL counts as 0. Raises NoDifference for what is not a number or takes more than 64 bits."""
    return _fitting(_number(new) - _number(old))


def onto(value: CellValue, difference: Value) -> Value:
    """Return value + difference; NULL counts as 0. Raises NoDifference as `between` does."""
    return _fitting(_number(value) + _number(difference))


def _number(value: CellValue) -> int | float:
    if value is None:
        return 0
    if isinstance(value, int | float):
        return value
    raise NoDifference(f"not a number: {value!r}")


def _fitting(number: int | float) -> int | float:
    # Wrapping round, or turning into a double, would lose amounts in silence; a person can correct what they are asked.
    fits = INT_MIN <= number <= INT_MAX if isinstance(number, int) else math.isfinite(number)
    if not fits:
        raise NoDifference(f"beyond what a column holds: {number}")
    return number


DIFFERENCE = Difference(between, onto)


@policy("add", check=_check, difference=DIFFERENCE)
def add(base: Cell, mine: Cell, theirs: Cell) -> Decision:
    """Both changes count: what one person added or took away is added to the other's number.

    theirs + (mine - base). Exact for integers: keep money in minor units and quantities in thousandths, because the
    last bits of a sum of doubles depend on the order. Where a sum is beyond 64 bits or a side is not a number, theirs
    stands and a person is asked.
    """
    return DIFFERENCE.decide(base, mine, theirs)
