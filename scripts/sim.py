"""Run histories of the simulator (tests/simulation) and say what broke.

    python3 scripts/sim.py --seeds 1..1000            on all processors
    python3 scripts/sim.py --seeds 42 --trace         one history, told step by step
    python3 scripts/sim.py --seeds 1..200 --table-set documents

Exit status 1 if any history broke a promise. Same seed, same history.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.simulation.batch import run_many


def main(arguments: Sequence[str]) -> int:
    """Run the histories asked for and return 0 when all kept their promises, else 1."""
    from tests.simulation.actors import TABLE_SETS

    parser = argparse.ArgumentParser(description="Simulated histories of the real code.")
    parser.add_argument("--seeds", default="1..100", help="A..B, both included, or one seed")
    parser.add_argument("--trace", action="store_true", help="tell every step")
    parser.add_argument("--table-set", choices=sorted(TABLE_SETS), default="all", help="which tables are written")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    first, _, last = given.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    start = time.monotonic()
    outcome = run_many(seeds, trace=given.trace, table_set=given.table_set, jobs=given.jobs)
    for line in outcome.trace:
        print(line)
    for name, number in sorted(outcome.counts.items()):
        print(f"{number:9,}  {name}")
    for seed, violation in outcome.violations[:20]:
        print(f"{seed}: {violation}")
    seconds = time.monotonic() - start
    print(f"{len(seeds)} histories, {len(outcome.violations)} broken, {len(seeds) / seconds:.1f} a second")
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
