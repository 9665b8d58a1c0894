"""Many histories on several processors."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tests import databases
from tests.simulation.disk import make_folder
from tests.simulation.history import DEFAULT_FAULTS, Outcome, run

CHUNK = 20
_NICE = 10


@dataclass(frozen=True)
class Setting:
    """What the histories of a run have in common."""

    trace: bool = False
    table_set: str = "all"
    faults: tuple[str, ...] = DEFAULT_FAULTS
    within: Path | None = None

    def command(self, seed: int) -> str:
        """Return the command that tells one history again."""
        faults = "" if self.faults == DEFAULT_FAULTS else f" --faults {','.join(self.faults) or 'none'}"
        tables = "" if self.table_set == "all" else f" --table-set {self.table_set}"
        return f"python3 scripts/sim.py --seeds {seed}{faults}{tables} --trace"


@dataclass
class Batch:
    """What became of many histories."""

    histories: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.histories += 1
        self.counts += outcome.counts
        self.trace += outcome.trace
        if outcome.violation is not None:
            self.violations.append((outcome.seed, outcome.violation))


def run_many(
    seeds: Sequence[int],
    setting: Setting = Setting(),
    *,
    jobs: int = 1,
    seconds: float = float("inf"),
    progress: Callable[[Batch], None] = lambda _batch: None,
) -> Batch:
    """Run a history for every seed, in their order, until the time is up; `progress` is called now and then."""
    batch, end = Batch(), time.monotonic() + seconds
    if jobs == 1 or len(seeds) <= 2:
        for low in range(0, len(seeds), CHUNK):
            if time.monotonic() < end:
                _add(batch, _chunk(seeds[low : low + CHUNK], setting), progress)
        return batch
    within = make_folder()
    shared = Setting(setting.trace, setting.table_set, setting.faults, within)
    chunks = (seeds[low : low + CHUNK] for low in range(0, len(seeds), CHUNK) if time.monotonic() < end)
    try:
        with databases.shared(), ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), os.nice, (_NICE,)) as pool:
            for outcomes in _results(pool, chunks, shared, 2 * jobs):
                _add(batch, outcomes, progress)
    finally:
        shutil.rmtree(within, ignore_errors=True)
    batch.violations.sort()
    return batch


def _results(pool: ProcessPoolExecutor, chunks: Iterator[Sequence[int]], setting: Setting, ahead: int) -> Iterator[list[Outcome]]:
    """Yield what comes back, a few chunks ahead: the time may be up at any moment."""
    waiting: set[Future[list[Outcome]]] = {pool.submit(_chunk, seeds, setting) for seeds in islice(chunks, ahead)}
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
        waiting |= {pool.submit(_chunk, seeds, setting) for seeds in islice(chunks, len(done))}


def _add(batch: Batch, outcomes: Iterable[Outcome], progress: Callable[[Batch], None]) -> None:
    for outcome in outcomes:
        batch.add(outcome)
    progress(batch)


def _chunk(seeds: Sequence[int], setting: Setting) -> list[Outcome]:
    gc.disable()  # a history leaves few cycles; looking for them at every turn costs a tenth of it
    try:
        return [run(seed, trace=setting.trace, table_set=setting.table_set, within=setting.within, faults=setting.faults) for seed in seeds]
    finally:
        gc.enable()
        gc.collect()
        if not gc.get_freeze_count():
            gc.freeze()  # modules and the schema: what is there for good need not be looked through every time
