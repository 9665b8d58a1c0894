"""A push full of conflicts: every second contact that it changes was changed by another node that it has not heard of."""

from __future__ import annotations

from bench import local, node
from bench.figures import Measured
from bench.pair import Pair

ALONE, CONTENDED = "push of changes, rows/s", "push of changes, every second contended, rows/s"


def contended_round(pair: Pair, number: int, measured: Measured) -> None:
    """Push a change of every contact, once with nobody in the way and once with every second changed elsewhere; in odd rounds the
    contended one goes first.
    """
    ways = (ALONE, CONTENDED)
    for name in reversed(ways) if number % 2 else ways:
        if name == CONTENDED:
            local.change_phones(pair.other.path, pair.ids[::2], f"{number} theirs ")
            pair.other.run(node.push)
        before = pair.mine.run(node.count, "_conflict")
        local.change_phones(pair.mine.path, pair.ids, f"{number} {name} ")
        moved = pair.mine.run(node.push)
        assert moved.pushed == len(pair.ids), f"{moved.pushed} of {len(pair.ids)} pushed"
        measured.add(name, len(pair.ids) / moved.seconds)
        pair.settle()
        conflicts = pair.mine.run(node.count, "_conflict") - before
        expected = len(pair.ids[::2]) if name == CONTENDED else 0
        assert conflicts == expected, f"{conflicts} conflicts, not {expected}"
    measured.add_ratio("push of changes, every second contended: part of uncontended", CONTENDED, ALONE)
