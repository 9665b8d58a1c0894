"""max: for what only grows (a meter reading, the date of the last visit)."""

from sync.policy import Cell, Decision, cell_order, later, one_column, policy, stands


@policy("max", check=one_column)
def greatest(base: Cell, mine: Cell, theirs: Cell) -> Decision:
    """The greater of the two values stands; an empty one never beats a value.

    SQLite's order, in which NULL is the least. Equal in that order (1 and 1.0): the later edit.
    """
    ours, others = cell_order(mine.value), cell_order(theirs.value)
    if ours == others:
        return later(mine, theirs)
    return stands(mine, "mine") if ours > others else stands(theirs, "theirs")
