"""Run histories of the simulator (tests/simulation) and say what broke.

    python3 scripts/sim.py --seeds 1..1000                        on all processors
    python3 scripts/sim.py --seeds 1..1000000 --minutes 30        as many as half an hour allows
    python3 scripts/sim.py --seeds 1..500 --faults base,copy      which may happen: base, disk, clock, copy, restore, schema, growth; none
    python3 scripts/sim.py --seeds 42 --trace                     one history, told step by step
    python3 scripts/sim.py --seeds 1..200 --table-set documents

Same seed and faults, same history. Exit status 1 if any history broke a promise; each is named with the command that tells it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.simulation.batch import Batch, Setting, run_many

_SHOWN_MAX = 20
_BAR = 30


def main(arguments: Sequence[str]) -> int:
    """Run the histories asked for and return 0 when all kept their promises, else 1."""
    from tests.simulation.actors import TABLE_SETS
    from tests.simulation.history import DEFAULT_FAULTS

    parser = argparse.ArgumentParser(description="Simulated histories of the real code.")
    parser.add_argument("--seeds", default="1..100", help="A..B, both included, or one seed")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many minutes, whatever is left of the seeds")
    parser.add_argument("--faults", type=_faults, default=DEFAULT_FAULTS, help="which mishaps may happen, by commas; none: no further ones")
    parser.add_argument("--trace", action="store_true", help="tell every step")
    parser.add_argument("--table-set", choices=sorted(TABLE_SETS), default="all", help="which tables are written")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    first, _, last = given.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    setting = Setting(given.trace, given.table_set, given.faults)
    start = time.monotonic()
    batch = run_many(seeds, setting, jobs=given.jobs, seconds=60 * given.minutes, progress=_bar(len(seeds), 60 * given.minutes, start))
    _tell(batch, setting, time.monotonic() - start)
    return 1 if batch.violations else 0


def _faults(text: str) -> tuple[str, ...]:
    from tests.simulation.mishaps import FAULTS

    named = [] if text == "none" else text.split(",")
    unknown = sorted(set(named) - set(FAULTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    return tuple(name for name in FAULTS if name in named)


def _bar(total: int, seconds: float, start: float) -> Callable[[Batch], None]:
    """Return what draws a bar of how many histories are done, where somebody is looking."""

    def draw(batch: Batch) -> None:
        spent = time.monotonic() - start
        share = min(1.0, max(batch.histories / total, spent / seconds))
        bar = "█" * int(share * _BAR) + "░" * (_BAR - int(share * _BAR))
        told = f"{bar} {batch.histories:,} of {total:,} histories, {len(batch.violations)} broken, {batch.histories / spent:.1f} a second"
        print(f"\r{told}", end="\n" if share == 1 else "", file=sys.stderr, flush=True)

    return draw if sys.stderr.isatty() else lambda _batch: None


def _tell(batch: Batch, setting: Setting, seconds: float) -> None:
    for line in batch.trace:
        print(line)
    if batch.trace:
        print("trace", hashlib.sha256("\n".join(batch.trace).encode()).hexdigest()[:16])
    for name, number in sorted(batch.counts.items()):
        print(f"{number:11,}  {name}")
    for seed, violation in batch.violations[:_SHOWN_MAX]:
        print(f"{seed}: {violation}\n    {setting.command(seed)}")
    if len(batch.violations) > _SHOWN_MAX:
        print(f"and {len(batch.violations) - _SHOWN_MAX} more: {', '.join(str(seed) for seed, _ in batch.violations[_SHOWN_MAX:][:200])}")
    print(f"{batch.histories:,} histories, {len(batch.violations)} broken, {batch.histories / seconds:.1f} a second")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
