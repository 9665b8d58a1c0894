"""Many histories on several processors."""

from __future__ import annotations

import multiprocessing
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.disk import make_folder
from tests.simulation.history import Outcome, run

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
        return batch
    within = make_folder()
    tasks = [(tuple(seeds[low : low + CHUNK]), trace, table_set, within) for low in range(0, len(seeds), CHUNK)]
    try:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            for outcomes in pool.map(_chunk, tasks):
                for outcome in outcomes:
                    batch.add(outcome)
    finally:
        shutil.rmtree(within, ignore_errors=True)
    return batch


def _chunk(task: tuple[tuple[int, ...], bool, str, Path]) -> list[Outcome]:
    seeds, trace, table_set, within = task
    return [run(seed, trace=trace, table_set=table_set, within=within) for seed in seeds]
