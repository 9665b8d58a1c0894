"""min: for what only shrinks (the earliest delivery date promised)."""

from sync.policy import Cell, Decision, cell_order, later, one_column, policy, stands


@policy("min", check=one_column)
def least(base: Cell, mine: Cell, theirs: Cell) -> Decision:
    """The smaller of the two values stands; an empty one never beats a value.

    SQLite's order, but NULL comes last: clearing a date is not promising an earlier one. Equal in that order (1 and
    1.0): the later edit.
    """
    ours, others = ((cell.value is None, cell_order(cell.value)) for cell in (mine, theirs))
    if ours == others:
        return later(mine, theirs)
    return stands(mine, "mine") if ours < others else stands(theirs, "theirs")
