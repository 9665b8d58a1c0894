"""latest: the usual policy of a column."""

from sync.policy import Cell, Decision, later, policy


@policy("latest")
def latest(base: Cell, mine: Cell, theirs: Cell) -> Decision:
    """Of the two edits, the one made later stands.

    Same millisecond: the greater node id. Stamps are corrected, and only edits that did not know of each other come
    here, so a wrong clock can lose a tie, never data: the loser is recorded.
    """
    return later(mine, theirs)
