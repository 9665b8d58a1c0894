"""Random mixes of held work: everything ends, nothing is lost, and all of it happens."""

from __future__ import annotations

import os
from collections import Counter

from tests.simulation.held import run_held

SEEDS = int(os.environ.get("OUTPOST_SIM_HELD_SEEDS", "60"))

SITUATIONS = (
    *("wrote what it may not", "corrected", "deleted what is held", "withdrawn by a node", "withdrawn by the centre", "handed on"),
    *("approved", "refused by the centre", "verdict withdrawn", "ended done", "ended refused", "ended replaced", "sent again"),
)


def test_held_work_ends_and_nothing_of_it_is_lost() -> None:
    counts: Counter[str] = Counter()
    told = []
    for seed in range(1, SEEDS + 1):
        world, violation = run_held(seed)
        counts += world.counts
        told += [violation] if violation else []
    assert not told, "\n".join(told[:5])
    missing = [situation for situation in SITUATIONS if not counts[situation]]
    assert not missing or SEEDS < 60, f"never happened: {missing}"
