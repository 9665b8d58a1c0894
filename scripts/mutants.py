"""Test the tests: switch deliberate protocol bugs on, one at a time, and see that something fails.

    python3 scripts/mutants.py                        all of tests/mutants/bugs.toml
    python3 scripts/mutants.py --only "tombstone"     those whose name contains it
    python3 scripts/mutants.py --control              the same selections on the tree as it is: nothing may fail

Each bug is an exact edit of a copy of the tree. Exit status 1 if any is not caught. Runs inside .venv.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from schema.console import progress
from tests.mutants.mutants import Outcome, load, try_bug, try_sound

app = typer.Typer(add_completion=False)


@app.command()
def main(
    only: Annotated[str, typer.Option("--only", metavar="TEXT", help="Only bugs whose name contains it.")] = "",
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="How many at a time.")] = 1,
    control: Annotated[bool, typer.Option("--control", help="Run the selections on the tree as it is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as one JSON document.")] = False,
) -> None:
    """Switch deliberate bugs on, one at a time; every one must be caught."""
    bugs = [bug for bug in load() if only in bug.name]
    outcomes: list[Outcome] = []
    with progress("bugs") as show, ThreadPoolExecutor(jobs) as pool:
        for outcome in pool.map(try_sound if control else try_bug, bugs):
            outcomes.append(outcome)
            show(len(outcomes), len(bugs))
            if not as_json:
                print(_line(outcome), flush=True)
    wrong = [outcome for outcome in outcomes if outcome.caught == control or (control and outcome.by)]
    if as_json:
        print(json.dumps({"bugs": len(bugs), "caught": sum(o.caught for o in outcomes), "outcomes": [asdict(o) for o in outcomes]}))
    else:
        print(f"{sum(outcome.caught for outcome in outcomes)} of {len(bugs)} {'failed without a bug' if control else 'caught'}")
    raise typer.Exit(1 if wrong or not bugs else 0)


def _line(outcome: Outcome) -> str:
    return f"{outcome.bug:58}  {'caught by ' if outcome.caught else 'NOT CAUGHT '}{outcome.by}  {outcome.seconds:.1f} s"


if __name__ == "__main__":
    app()
