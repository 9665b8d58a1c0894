"""ask: for what no rule can decide (two notes on one client)."""

from sync.policy import Cell, Decision, policy


@policy("ask", symmetric=False)
def ask(base: Cell, mine: Cell, theirs: Cell) -> Decision:
    """What the centre already had stands until a person chooses; both values are kept.

    Nobody is asked to choose between equal values.
    """
    return Decision(theirs.value, "theirs", ask=mine.value != theirs.value)
