"""Changes: plain values, each transaction with lists of its own."""

from __future__ import annotations

from sync.change import NEVER, Insert, Transaction


def test_an_insert_builds_on_nothing_unless_it_says_so() -> None:
    insert = Insert("t", ("k",), {"id": "k"})
    assert (insert.base, insert.since) == (NEVER, NEVER) == (-1, -1)


def test_transactions_share_nothing() -> None:
    one, other = Transaction(0, 1, 0, 0), Transaction(0, 1, 0, 0)
    one.ops.append(Insert("t", ("k",), {}))
    one.decisions.append(b"")
    assert (other.ops, other.decisions) == ([], [])
