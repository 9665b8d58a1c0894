"""What is told while it is measured, on standard error: a bar with the lines above it on a terminal, lines alone elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.figures import Say

Begin = Callable[[str, int, int], None]
"""Says that a step begins: its title, how many are done, of how many."""


@dataclass(frozen=True)
class Teller:
    """Who tells."""

    say: Say
    begin: Begin


@contextmanager
def telling() -> Iterator[Teller]:
    """Give who tells while the block runs."""
    if not sys.stderr.isatty():
        start = time.monotonic()
        yield Teller(_line, lambda title, done, of: _line(f"{title} (step {done + 1} of {of}, after {time.monotonic() - start:,.0f} s)"))
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, transient=True, refresh_per_second=1) as bar:  # it runs on the processors that are measured
        task = bar.add_task("preparing", total=None)

        def begin(title: str, done: int, of: int) -> None:
            bar.console.print(title, style="bold", markup=False)
            bar.update(task, description=title, completed=done, total=of)

        yield Teller(lambda line: bar.console.print(line, markup=False), begin)


def _line(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
