"""first: for what must not be taken over later (who claimed a lead)."""

from sync.policy import Cell, Decision, policy, stands


@policy("first")
def first(base: Cell, mine: Cell, theirs: Cell) -> Decision:
    """Of the two edits, the one made earlier stands.

    Earliest corrected stamp among concurrent edits, not first to arrive (RULES §2): a laptop that was offline keeps
    its claim. Same millisecond: the smaller node id.
    """
    if (mine.stamp, mine.writer) < (theirs.stamp, theirs.writer):
        return stands(mine, "mine")
    return stands(theirs, "theirs")
