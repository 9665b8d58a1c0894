"""server: for what the centre decides (a credit limit)."""

from sync.policy import Cell, Decision, policy, stands


@policy("server", symmetric=False)
def server(base: Cell, mine: Cell, theirs: Cell) -> Decision:
    """What the centre already had stands.

    Whoever wrote it: of two nodes, the one that synced first. The other value is recorded.
    """
    return stands(theirs, "theirs")
