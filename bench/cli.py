"""`outpost bench`: measure what Outpost costs on this machine, against plain SQLite and, where they are there, other engines.

    options ─► Wanted ─► running.run ─► Measured ─► report ─► lines for people, or one JSON document
                            │ standard error: every figure as it is measured
                            └ --output: the document, anew after every step

Exit status: 0 measured; 1 something failed or was stopped, or a goal was missed and --check was given; 2 wrong use. What was measured
is printed in any case. Errors: `bench.database` (PostgreSQL cannot be used), `bench.system` (not Linux), `bench.files` (no room, no
permission), `usage.value`.
"""

from __future__ import annotations

import signal
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import machine, peers, postgres, report
from bench.figures import Measured
from bench.plan import Wanted
from bench.running import run
from bench.sizes import FULL, QUICK
from bench.telling import Teller, telling
from schema.cli import FAILED
from schema.console import CommandFailed, Json, as_text, printable
from schema.files import write_whole
from sync.errors import BadValue

app = typer.Typer(add_completion=False)

ROOT = Path(__file__).resolve().parent.parent
PEERS_VARIABLE = "OUTPOST_BENCH_PEERS"
ROUNDS, ROUNDS_QUICK = 5, 3


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="3 rounds, fewer contacts, fewer receipts for the peers.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit status 1 if a goal is missed. Nothing else should run then.")] = False,
    only_sales: Annotated[bool, typer.Option("--only-sales", help="Leave out the changes on many contacts.")] = False,
    herd: Annotated[bool, typer.Option("--herd", help="Also let a thousand nodes arrive at once.")] = False,
    first: Annotated[bool, typer.Option("--first", help="Also let new nodes begin with a million receipts.")] = False,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="Also measure with the centre on PostgreSQL: postgresql://… of a server, or 'postgres' for one from a wheel.",
        ),
    ] = None,
    peers_folder: Annotated[
        Path | None,
        typer.Option(
            "--peers",
            metavar="FOLDER",
            envvar=PEERS_VARIABLE,
            exists=True,
            file_okay=False,
            help="Folder with the scripts of other engines; they need Node.js and their packages.",
            show_default="../shared/bench beside the project, if it is there",
        ),
    ] = None,
    no_peers: Annotated[bool, typer.Option("--no-peers", help="Leave the other engines out.")] = False,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="How often each is measured.", show_default="5, or 3 with --quick")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", exists=True, file_okay=False, help="Where to put the databases: on a real disk, not a RAM disk."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", dir_okay=False, help="Also keep the JSON document in this file, anew after every step.")
    ] = None,
    scale: Annotated[
        float,
        typer.Option("--scale", min=0.0001, max=10, help="Measure so many times the usual number of rows: to try it. Goals are for 1."),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Measure what syncing costs on this machine: capture, push, pull, small changes, bytes, memory."""
    if check and scale != 1:
        raise typer.BadParameter("Goals are for the usual number of rows: leave out --scale, or --check.", param_hint="--check / --scale")
    machine.require()
    _require_folder(output)
    ready, left_out = ([], {}) if no_peers else peers.find(peers_folder or _usual_peers())
    sizes = (QUICK if quick else FULL).times(scale)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever stops us gets what was measured until then
    try:
        with telling() as teller, postgres.serving(database) if database else nullcontext() as url:
            wanted = Wanted(rounds or (ROUNDS_QUICK if quick else ROUNDS), sizes, not only_sales, herd, first, url, ready)
            found = _measure(wanted, folder, left_out, output, teller)
    except OSError as error:
        raise CommandFailed("bench.files", f"A file cannot be written: {error}. Name another place: --folder, --output.") from error
    for line in [as_text(found)] if as_json else report.lines(found):
        print(printable(line), flush=True)
    if not found["complete"] or (check and found["missed"]):
        raise typer.Exit(FAILED)


def _measure(wanted: Wanted, folder: Path | None, left_out: dict[str, str], output: Path | None, teller: Teller) -> dict[str, Any]:
    """Carry it out in a folder of its own, and return the document."""
    measured = Measured(teller.say, left_out=left_out)
    if left_out:
        teller.say(f"peers left out: {report.left_out(left_out)}")
    with tempfile.TemporaryDirectory(prefix="outpost-bench-", dir=folder and folder.resolve(), ignore_cleanup_errors=True) as place:
        facts = {**machine.facts(Path(place)), "peers": peers.versions(wanted.peers)}

        def document() -> dict[str, Any]:
            return report.document(measured, facts, wanted.rounds, wanted.sizes)

        run(wanted, Path(place), measured, teller.begin, lambda: _keep(output, document()))
        return document()


def _keep(output: Path | None, document: dict[str, Any]) -> None:
    if output is not None:
        write_whole(output, as_text(document) + "\n")


def _require_folder(output: Path | None) -> None:
    if output is not None and not output.absolute().parent.is_dir():
        raise BadValue(
            f"There is no folder {output.absolute().parent} to keep the result in. Make it, or name another file. Nothing was done."
        )


def _usual_peers() -> Path | None:
    """Return the folder of peers that lies beside a checkout, if one does."""
    beside = ROOT.parent / "shared" / "bench"
    return beside if beside.is_dir() else None
