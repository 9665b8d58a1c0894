"""Torture real processes: kill them at any step, part them, mistreat their network, take their power away.

    .venv/bin/python scripts/torture.py kills --seeds 1..40 --kills 50         SIGKILL at random and at chosen system calls
    .venv/bin/python scripts/torture.py kills --database postgres              PostgreSQL's processes and the line to them as well
    .venv/bin/python scripts/torture.py failover --seeds 1..20 --rounds 3      a replica takes over that lags (--synchronous: does not)
    .venv/bin/python scripts/torture.py rivals --seeds 1..20                   programs that want PostgreSQL's rows at the same time
    .venv/bin/python scripts/torture.py swarm --seeds 1..100 --rounds 5        5 to 10 nodes at once behind the fault proxy
    .venv/bin/python scripts/torture.py power --seeds 1..40 --images 2500      power losses, replayed from recorded writes
    .venv/bin/python scripts/torture.py power --control                        the same, less careful: must lose something
    .venv/bin/python scripts/torture.py feed --rows 1000000                    32 writers on PostgreSQL, and who reads meanwhile

Exit status 1 if a promise was broken; each failure comes with the command that shows it again. Same seed, same faults in
the same order; what the operating system does between them is its own.
"""

from __future__ import annotations

import enum
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests import databases
from tests.faults import cluster, failover, feed, kills, pg_kills, rivals, shim, strace, swarm
from tests.faults.power import runs
from tests.faults.power.images import Found


class Kind(enum.StrEnum):
    """What the centre's database is."""

    file = "file"
    postgres = "postgres"


_AIMED = {Kind.file: "at a call", Kind.postgres: "around a COMMIT"}

app = typer.Typer(no_args_is_help=True, add_completion=False)

Seeds = Annotated[str, typer.Option("--seeds", help="A..B, both included, or one seed.")]
Minutes = Annotated[float, typer.Option("--minutes", help="Begin no further run after so many minutes.")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="How many runs at a time.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Keep = Annotated[Path, typer.Option("--keep", help="Where the recordings of failed runs are kept.")]
KEEP = Path("torture-failures")
STEP = "at "
"""How the names of counts begin that say at which step a process was killed."""

LONGEST = "longest "
"""How the names of counts begin of which the greatest counts, not the sum."""


@app.callback()
def root() -> None:
    """Torture real processes and say what broke."""


@dataclass
class Outcome:
    """What runs came to. `failures` are pairs of what broke and the command that shows it again."""

    runs: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, seed: int, counts: Counts, failures: list[tuple[str, str]]) -> None:
        """Count one run."""
        self.runs += 1
        self.seeds.append(seed)
        self.failures += failures
        for name, number in counts.items():
            before = self.counts.get(name, 0)
            self.counts[name] = max(before, number) if name.startswith(LONGEST) else before + number

    def document(self) -> dict[str, Any]:
        """Return it as --json prints it."""
        failures = [{"what": what, "again": again} for what, again in self.failures]
        seeds = f"{min(self.seeds)}..{max(self.seeds)}" if self.seeds else ""
        return {"runs": self.runs, "seeds": seeds, "counts": self.counts, "failures": failures, "seconds": round(self.seconds, 1)}


Counts = dict[str, int]
Told = tuple[Counts, list[tuple[str, str]]]
"""What one run tells: its counts, and pairs of what broke and the command that shows it again."""

One = Callable[[int], Told]


def many(seeds: str, one: One, minutes: float, jobs: int) -> Outcome:
    """Run every seed, some at a time, and begin none once the minutes are over."""
    outcome, begin = Outcome(), time.monotonic()
    first, _, last = seeds.partition("..")
    waiting = iter(range(int(first), int(last or first) + 1))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(one, seed): seed for seed in _next(waiting, jobs)}
        while running:
            done = next(as_completed(running))
            seed = running.pop(done)
            outcome.add(seed, *done.result())
            line = ", ".join(f"{number:,} {name}" for name, number in outcome.counts.items() if not name.startswith(STEP))
            typer.echo(f"{outcome.runs} runs, {len(outcome.failures)} broken, {line}", err=True)
            if time.monotonic() - begin < minutes * 60:
                running |= {pool.submit(one, seed): seed for seed in _next(waiting, 1)}
    outcome.seconds = time.monotonic() - begin
    return outcome


def _next(waiting: Iterator[int], count: int) -> list[int]:
    return [seed for _, seed in zip(range(count), waiting, strict=False)]


def tell(outcome: Outcome, as_json: bool, *, must_break: bool = False) -> None:
    """Print what came out; raises Exit(1) if a promise was broken, or, of a control, if none was."""
    if as_json:
        typer.echo(json.dumps(outcome.document(), ensure_ascii=False))
    else:
        for name, number in sorted(outcome.counts.items()):
            if not name.startswith(STEP):
                typer.echo(f"{number:11,}  {name}")
        steps = [name for name in outcome.counts if name.startswith(STEP)]
        if steps:
            typer.echo(f"{len(steps):11,}  different steps")
        for what, again in outcome.failures[:20]:
            typer.echo(f"{what}\n    again: .venv/bin/python scripts/torture.py {again}")
        typer.echo(f"{outcome.runs} runs, {len(outcome.failures)} broken, {outcome.seconds:.0f} s")
    if bool(outcome.failures) is not must_break:
        raise typer.Exit(1)


def skipped(reason: str | None, as_json: bool) -> None:
    """End with a clear message where something cannot run here."""
    if reason is None:
        return
    typer.echo(json.dumps({"skipped": reason}) if as_json else f"Skipped: {reason}.")
    raise typer.Exit(0)


@app.command()
def power(
    seeds: Seeds = "1..4",
    images: Annotated[int, typer.Option("--images", min=1, help="Images of each recording.")] = 2500,
    control: Annotated[bool, typer.Option("--control", help="With synchronous=NORMAL, which must lose acknowledged rows.")] = False,
    trace: Annotated[Path | None, typer.Option("--trace", help="Open images of this recording again.", show_default=False)] = None,
    minutes: Minutes = 60.0,
    jobs: Jobs = 1,
    keep: Keep = KEEP,
    as_json: Json = False,
) -> None:
    """Power losses: record every write and sync of a node and its centre, then open what their disks may show."""
    if trace is not None:
        with tempfile.TemporaryDirectory() as folder:
            found = runs.replay(trace, int(seeds.partition("..")[0]), images, Path(folder))
        again = Outcome()
        again.add(int(seeds.partition("..")[0]), *_of_power(found, f"power --trace {trace} --seeds {seeds} --images {images}"))
        tell(again, as_json, must_break=control)
        return
    skipped(shim.why_not(), as_json)
    one = partial(_one_power, images=images, synchronous="NORMAL" if control else "FULL", keep=None if control else keep.resolve())
    tell(many(seeds, one, minutes, jobs), as_json, must_break=control)


def _one_power(seed: int, images: int, synchronous: str, keep: Path | None) -> Told:
    return _of_power(*runs.run(seed, images, synchronous=synchronous, keep=keep))


def _of_power(found: Found, again: str) -> Told:
    counts = {
        "images": found.images,
        "distinct disk contents": found.unique,
        "integrity checks": found.integrity,
        "opened by the program": found.opened,
        "seen by the connection that stays open": found.standing,
        "images with something acknowledged missing": len(found.lost),
    }
    return counts, [(what, again) for what in found.lost[:3]]


@app.command("kills")
def kills_(
    seeds: Seeds = "1..4",
    each: Annotated[int, typer.Option("--kills", min=1, help="Kills of each run.")] = 50,
    database: Annotated[
        Kind, typer.Option("--database", help="What the centre is on. On postgres its processes are killed too.")
    ] = Kind.file,
    minutes: Minutes = 60.0,
    jobs: Jobs = 1,
    keep: Keep = KEEP,
    as_json: Json = False,
) -> None:
    """Kills: SIGKILL to every process of node and centre, at random and at chosen system calls; ordinary commands go on.

    On PostgreSQL: to the server's and the database's, immediate stops, cut lines, at any moment and around COMMIT.
    """
    if database is Kind.postgres:
        skipped(cluster.why_not(), as_json)
        tell(many(seeds, partial(_one_kills, each=each, keep=keep.resolve(), database=database), minutes, jobs), as_json)
        return
    for what, reason in (("counted by the shim", shim.why_not()), ("counted by strace", strace.why_not())):
        if reason is not None:
            typer.echo(f"Kills at calls {what} are left out: {reason}.", err=True)
    tell(many(seeds, partial(_one_kills, each=each, keep=keep.resolve()), minutes, jobs), as_json)


def _one_kills(seed: int, each: int, keep: Path, database: Kind = Kind.file) -> Told:
    def counts(folder: Path) -> Counts:
        life = (pg_kills if database is Kind.postgres else kills).run(folder, seed, each)
        killed = {f"kills: {victim}": number for victim, number in life.known.killed.items()}
        steps = {f"{STEP}{label}": number for label, number in life.known.labels.items() if "at a moment" not in label}
        aimed = {"kills": life.kills(), f"kills {_AIMED[database]}": sum(steps.values()), "kills of fresh processes": life.known.fresh}
        return {**aimed, "acknowledged writes": len(life.acknowledged()), **killed, **steps}

    return _lived("kills", seed, f"--database {database} --kills {each}", keep, counts)


@app.command("failover")
def failover_(
    seeds: Seeds = "1..4",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Fail-overs of each run, one after the other.")] = 3,
    synchronous: Annotated[
        bool, typer.Option("--synchronous", help="Of a replica that every commit waits for: nothing goes back.")
    ] = False,
    minutes: Minutes = 60.0,
    jobs: Jobs = 1,
    keep: Keep = KEEP,
    as_json: Json = False,
) -> None:
    """Fail-over: PostgreSQL's primary ends while nodes exchange, and a replica takes over that lacks what was acknowledged."""
    skipped(cluster.why_not(), as_json)
    tell(many(seeds, partial(_one_failover, rounds=rounds, synchronous=synchronous, keep=keep.resolve()), minutes, jobs), as_json)


def _one_failover(seed: int, rounds: int, synchronous: bool, keep: Path) -> Told:
    def counts(folder: Path) -> Counts:
        found = failover.run(folder, seed, rounds, synchronous=synchronous)
        return {**found.counts, "acknowledged writes": len(found.life.acknowledged())}

    return _lived("failover", seed, f"--rounds {rounds}{' --synchronous' if synchronous else ''}", keep, counts)


@app.command("rivals")
def rivals_(
    seeds: Seeds = "1..4",
    exchanges: Annotated[int, typer.Option("--exchanges", min=1, help="Exchanges of each node in each run.")] = 10,
    minutes: Minutes = 60.0,
    jobs: Jobs = 1,
    keep: Keep = KEEP,
    as_json: Json = False,
) -> None:
    """Rivals: programs take PostgreSQL's rows in any order at every level of isolation: deadlocks and conflicts of snapshots."""
    skipped(cluster.why_not(), as_json)
    tell(many(seeds, partial(_one_rivals, exchanges=exchanges, keep=keep.resolve()), minutes, jobs), as_json)


def _one_rivals(seed: int, exchanges: int, keep: Path) -> Told:
    return _lived("rivals", seed, f"--exchanges {exchanges}", keep, lambda folder: dict(rivals.run(folder, seed, exchanges)))


@app.command("swarm")
def swarm_(
    seeds: Seeds = "1..2",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of faults, healing and checks of each swarm.")] = 5,
    minutes: Minutes = 60.0,
    jobs: Jobs = 1,
    keep: Keep = KEEP,
    as_json: Json = False,
) -> None:
    """Swarms: 5 to 10 nodes at 10 to 50 transactions a second while networks part and processes die and pause."""
    tell(many(seeds, partial(_one_swarm, rounds=rounds, keep=keep.resolve()), minutes, jobs), as_json)


def _one_swarm(seed: int, rounds: int, keep: Path) -> Told:
    def counts(folder: Path) -> Counts:
        lived = swarm.run(folder, seed, rounds)
        longest = {f"{LONGEST}way to rest, ms": round(lived.rest_seconds_max * 1000)}
        return {**lived.counts, "acknowledged writes": len(lived.acknowledged()), "nodes": len(lived.members), **longest}

    return _lived("swarm", seed, f"--rounds {rounds}", keep, counts)


@app.command("feed")
def feed_(
    seeds: Seeds = "1",
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows that writers commit in each run.")] = 100_000,
    writers: Annotated[int, typer.Option("--writers", min=1, help="Programs that write at once.")] = 32,
    control: Annotated[bool, typer.Option("--control", help="Judge who reads by a cursor on a sequence: it must miss rows.")] = False,
    as_json: Json = False,
) -> None:
    """Feed: programs write to a centre on PostgreSQL, pause and abort, while nodes pull; none may miss a row, or be told one twice."""
    os.environ.setdefault(databases.VARIABLE, "postgres")
    one = partial(_one_feed, rows=rows, writers=writers, judged="control" if control else "reader")
    tell(many(seeds, one, 60.0, 1), as_json, must_break=control)


def _one_feed(seed: int, rows: int, writers: int, judged: str) -> Told:
    folder = scratch()
    try:
        under = feed.run(folder, seed, rows, writers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    counts = {"rows committed": under.committed, "rows aborted": under.aborted}
    failures = []
    for name, found in under.readers.items():
        counts |= {f"{name}: {what}": number for what, number in found.items()}
        if name.startswith(judged) and +found:
            failures.append((f"{name}: {dict(+found)}", f"feed --seeds {seed} --rows {rows} --writers {writers}"))
    return counts, failures


def _lived(what: str, seed: int, options: str, keep: Path, counts: Callable[[Path], Counts]) -> Told:
    """Run once in a new folder; keep the files of a run that broke a promise."""
    folder = scratch() / f"{what}-{seed}"
    try:
        return counts(folder), []
    except Exception as broken:  # whatever it is, the next run goes on, and this one can be seen again
        shutil.copytree(folder, keep / folder.name, dirs_exist_ok=True)
        told = f"{folder.name}: {type(broken).__name__}: {str(broken)[:2000]}\n    files: {keep / folder.name}"
        return {"broken": 1}, [(told, f"{what} --seeds {seed} {options}")]
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


def scratch() -> Path:
    """Return a new folder, in memory where that can be: what is killed here is processes, not the machine."""
    return Path(tempfile.mkdtemp(prefix="outpost-torture-", dir=runs.MEMORY if runs.MEMORY.is_dir() else None))


if __name__ == "__main__":
    app()
