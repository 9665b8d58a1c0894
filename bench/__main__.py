"""Measure what Outpost costs on this machine.

python3 scripts/run.py bench           5 rounds, changes on 100,000 and on 1,000,000 contacts: some ten minutes
python3 scripts/run.py bench --quick   3 rounds, changes on 100,000 contacts
    --json     exactly one JSON document instead of the table
    --check    exit status 1 if a floor is missed (the machine should have nothing else to do)
    --only-sales   leave the changes of contacts out
    --herd         a thousand nodes with 50 receipts each that arrive at once, as well
    --first        a million receipts that come to new nodes as a file, as well
    --database postgres   push and pull sales on PostgreSQL as well, in the same rounds
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from bench import herd, machine, report
from bench.postgres import serving
from bench.rounds import FIRST, SALES, run


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds, the smaller base only")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a floor is missed")
    parser.add_argument("--only-sales", action="store_true", help="leave the changes of contacts out")
    parser.add_argument("--herd", action="store_true", help="let a thousand nodes arrive at once, too")
    parser.add_argument("--first", action="store_true", help="let new nodes begin with a million receipts, too")
    parser.add_argument("--database", help="also on PostgreSQL: postgresql://… of a server, or postgres for one from a wheel")
    parser.add_argument("--rounds", type=int, help="rounds (5, or 3 with --quick)")
    parser.add_argument("--folder", type=Path, help="where to put the databases: a real disk, not a RAM disk")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 5)
    bases: tuple[int, ...] = () if options.only_sales else (100_000,) if options.quick else (100_000, 1_000_000)
    with (
        tempfile.TemporaryDirectory(prefix="outpost-bench-", dir=options.folder, ignore_cleanup_errors=True) as folder,
        serving(options.database) if options.database else nullcontext() as postgres,
    ):
        nodes, first = herd.NODES if options.herd else 0, FIRST if options.first else 0
        measured = run(Path(folder), rounds, bases, _say, postgres=postgres, nodes_at_once=nodes, first=first)
        found = report.document(measured, machine.facts(Path(folder)), rounds, SALES)
    print(json.dumps(found, ensure_ascii=False, indent=1) if options.json else report.table(found))
    return 1 if options.check and found["missed"] else 0


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
