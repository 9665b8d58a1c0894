"""Running a plan: step by step, so that one that fails, or Ctrl-C, leaves what was measured before it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import machine
from bench.figures import Measured
from bench.plan import Plan, Step, Wanted
from bench.telling import Begin
from sync.errors import OutpostError


def run(wanted: Wanted, folder: Path, measured: Measured, begin: Begin, keep: Callable[[], None]) -> None:
    """Carry out all steps; `keep` is called after each that added something, and at the end.

    Raises nothing of a step: a failure is in `measured.failed`, an interruption in `measured.stopped`.
    """
    try:
        with ExitStack() as stack:
            steps, broken = Plan(wanted, folder, measured, stack).steps(), set[str]()
            for number, step in enumerate(steps):
                if step.group in broken:
                    continue
                begin(step.title, number, len(steps))
                if not _done(step, measured):
                    broken.add(step.group)
                keep()
    except KeyboardInterrupt:
        measured.stopped = True
    except Exception as error:  # what was open could not be closed in order; the figures stand
        _fail("closing", error, measured)
    measured.load.append(machine.load())
    keep()


def _done(step: Step, measured: Measured) -> bool:
    try:
        step.work()
    except Exception as error:  # of any kind: an hour of other figures does not hang on this one
        _fail(step.title, error, measured)
        return False
    return True


def _fail(title: str, error: Exception, measured: Measured) -> None:
    """Keep what went wrong, and tell it; of a mistake of ours, with where it was."""
    measured.failed[title] = f"{type(error).__name__}: {error}"
    if not (isinstance(error, OutpostError) or hasattr(error, "retry")):
        measured.say("".join(traceback.format_exception(error)).rstrip())
    measured.say(f"  failed: {measured.failed[title]}")
