"""Feed every decoder and every endpoint with spoiled input and say what was found.

    python3 scripts/fuzz.py decoders --executions 1000000
    python3 scripts/fuzz.py endpoints --cases 50000
    python3 scripts/fuzz.py decoders --seeds 4711..4711        one seed again: a thousand cases of one decoder

Exit status 1 if anything was found. Same seed, same cases. Runs inside .venv (scripts/run.py makes it).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from schema.console import progress

MEMORY = Path("/dev/shm")

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Feed decoders and endpoints with spoiled input.")

Seeds = Annotated[str, typer.Option("--seeds", metavar="A..B", help="Seeds to run, both included.")]
Minutes = Annotated[float | None, typer.Option("--minutes", min=0.01, help="Stop after so long.")]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON document.")]


@app.command()
def decoders(
    executions: Annotated[int, typer.Option("--executions", min=1, help="How many cases, of all decoders together.")] = 1_000_000,
    seeds: Seeds = "1..1000000",
    minutes: Minutes = None,
    as_json: Json = False,
) -> None:
    """Everything that reads bytes of a peer, of a file or of our own bookkeeping; then small inputs that ask for much."""
    from tests.fuzz.bombs import costly, measure
    from tests.fuzz.decoders import all_targets
    from tests.fuzz.run import fuzz

    with folder() as work, progress("decoders") as show:
        targets, limit = all_targets(work), None if minutes is None else minutes * 60
        tally = fuzz(targets, seeds_of(seeds), executions=executions, seconds=limit, progress=show)
        found = list(measure())
    document = {**tally.document(), "bombs": found}
    document["findings"] += [f"bomb: {entry}" for entry in found if costly(entry)]
    show_all(document, as_json)


@app.command()
def endpoints(
    cases: Annotated[int, typer.Option("--cases", min=1, help="How many requests.")] = 50_000,
    seeds: Seeds = "1..1000000",
    minutes: Minutes = None,
    as_json: Json = False,
) -> None:
    """The whole server: spoiled requests of nodes that have joined, and of nobody; honest nodes must still agree after it."""
    from tests.fuzz.endpoints import fuzz_endpoints

    with folder() as work, progress("endpoints") as show:
        limit = None if minutes is None else minutes * 60
        document = fuzz_endpoints(work, seeds_of(seeds), cases=cases, seconds=limit, progress=show)
    show_all(document, as_json)


def folder() -> Any:
    """Return a folder for files, in memory if the machine has such a place."""
    return _Folder(prefix="outpost-fuzz-", dir=MEMORY if MEMORY.is_dir() else None)


class _Folder(tempfile.TemporaryDirectory[str]):
    def __enter__(self) -> Any:
        return Path(super().__enter__())


def seeds_of(text: str) -> range:
    """Return the seeds that A..B, or one number, names."""
    first, _, last = text.partition("..")
    try:
        return range(int(first), int(last or first) + 1)
    except ValueError:
        raise typer.BadParameter("seeds are written as 1..1000") from None


def show_all(document: dict[str, Any], as_json: bool) -> None:
    """Print the figures and end with status 1 if anything was found."""
    findings = document["findings"]
    if as_json:
        print(json.dumps(document))
    else:
        for name, value in document.items():
            if name != "findings":
                _say(name, value, print)
        for finding in findings:
            print(f"\nFOUND {finding}")
        print(f"\n{len(findings)} findings")
    raise typer.Exit(1 if findings else 0)


def _say(name: str, value: Any, line: Callable[[str], None]) -> None:
    if isinstance(value, dict):
        line(f"{name}: " + ", ".join(f"{key} {count:,}" for key, count in value.items()))
    elif isinstance(value, list):
        for entry in value:
            line(f"{name}: {entry}")
    else:
        line(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")


if __name__ == "__main__":
    app()
