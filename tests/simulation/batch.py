"""Many histories on several processors."""

from __future__ import annotations

import atexit
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.history import Outcome, run
from tests.simulation.world import clean_up

CHUNK = 20


@dataclass
class Batch:
    """What became of many histories."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.counts += outcome.counts
        self.trace += outcome.trace
        if outcome.violation is not None:
            self.violations.append((outcome.seed, outcome.violation))


def run_many(seeds: Sequence[int], *, trace: bool = False, table_set: str = "all", jobs: int = 1) -> Batch:
    """Run a history for every seed."""
    batch = Batch()
    if jobs == 1 or len(seeds) <= 2:
        for seed in seeds:
            batch.add(run(seed, trace=trace, table_set=table_set))
        clean_up()
        return batch
    tasks = [(tuple(seeds[low : low + CHUNK]), trace, table_set) for low in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin) as pool:
        for outcomes in pool.map(_chunk, tasks):
            for outcome in outcomes:
                batch.add(outcome)
    return batch


def _begin() -> None:
    atexit.register(clean_up)


def _chunk(task: tuple[tuple[int, ...], bool, str]) -> list[Outcome]:
    return list(_outcomes(*task))


def _outcomes(seeds: tuple[int, ...], trace: bool, table_set: str) -> Iterator[Outcome]:
    for seed in seeds:
        yield run(seed, trace=trace, table_set=table_set)
