"""Blows: how one process is killed: at its N-th call, counted by the shim or by strace, or at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import shim, strace
from tests.faults.processes import Running, Starter, state

FRESH = 0.03
"""Which share of the commands to kill is started by exec, from nothing, and is no fork of a warm process."""

BY_SHIM, BY_STRACE = 0.5, 0.1
"""Which share of kills comes at a call, where they can; the others come at a moment drawn from how long a thing takes."""

CALLED = frozenset({"write", "foreign write"})
"""Victims that are no commands of the program but functions of ours."""


@dataclass
class Known:
    """What is known of each kind of victim: its calls and how long it takes. And what was killed, by kind and step."""

    folder: Path
    chance: random.Random
    calls: dict[str, int] = field(default_factory=dict)
    takes: dict[str, float] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    blows: int = 0
    fresh: int = 0

    def way(self) -> str:
        """Draw how the next victim is killed."""
        drawn = self.chance.random()
        if drawn < BY_SHIM and shim.why_not() is None:
            return "shim"
        return "strace" if drawn < BY_SHIM + BY_STRACE and strace.why_not() is None else "moment"


class Blow:
    """One process that is only watched (the first of its kind) or killed. Start it with `how`, then `go`, then `end`."""

    def __init__(self, known: Known, starter: Starter, victim: str) -> None:
        self.known, self.starter, self.victim = known, starter, victim
        known.blows += 1
        self.page = shim.Page(known.folder / f"{known.blows}.page") if shim.why_not() is None else None
        self.way = known.way() if victim in known.takes else "watch"
        can_be_fresh = self.page is not None and self.way in ("shim", "moment") and victim not in CALLED
        self.fresh = can_be_fresh and known.chance.random() < FRESH
        self.traced: strace.Traced | None = None
        self.moment = 0.0
        self.began = 0.0
        self.calls_before = 0

    @property
    def how(self) -> dict[str, Any]:
        """Return how the process is to be started."""
        how: dict[str, Any] = {"stopped": True, "watch": str(self.page.path) if self.page else None}
        return how if self.victim in CALLED else {**how, "fresh": self.fresh}

    @property
    def waits(self) -> bool:
        """Tell whether the process is left to itself until it dies or is done."""
        return self.way != "moment"

    def go(self, running: Running, *, later: bool = False) -> None:
        """Let the process go on, which has stopped itself; from now on it may die, or, `later`, from `begin` on."""
        while state(running) not in ("T", "Z"):
            time.sleep(0.0005)  # it is about to
        if self.way == "strace":
            self.traced = strace.Traced(running, self.known.folder / "kill.strace", self.known.chance)
        if not later:
            self.begin()
        os.kill(running.pid, signal.SIGCONT)

    def begin(self) -> None:
        """Say that now begins what is to be interrupted."""
        self.began = time.monotonic()
        self.calls_before = self.page.calls if self.page else 0
        if self.way == "shim" and self.page is not None:
            self.page.die_after(self.known.chance.randint(1, max(1, self.known.calls[self.victim])))
        elif self.way == "moment":
            self.moment = self.known.chance.uniform(0, 1.1 * self.known.takes[self.victim])

    def end(self, running: Running, *, stays: bool = False) -> int:
        """Kill it when its moment comes, or wait for its end; `stays`: it would not end by itself. Return its status."""
        if not self.waits:
            self._await_work(running)
            time.sleep(max(0.0, self.began + self.moment - time.monotonic()))
        lasted = time.monotonic() - self.began
        died_at_call = self.waits and (not stays or state(running) == "Z")
        status = self.starter.wait(running) if self.waits and not stays else self.starter.kill(running)
        if self.traced is not None:
            self.traced.detach()
        if self.way == "watch":
            self.known.takes[self.victim] = lasted if stays else time.monotonic() - self.began
            self.known.calls[self.victim] = self.page.calls - self.calls_before if self.page else 0
        elif status == -signal.SIGKILL:
            self.known.killed[self.victim] += 1
            self.known.fresh += self.fresh
            self.known.labels[f"{self.victim}: {self._label() if died_at_call else 'at a moment'}"] += 1
        if self.page is not None:
            self.page.path.unlink()
        return status

    def _await_work(self, running: Running) -> None:
        """Wait until a fresh process, which has imported nothing yet, comes to its first file; then its moment is counted."""
        while self.fresh and self.page is not None and not self.page.calls and state(running) != "Z":
            time.sleep(0.001)
            self.began = time.monotonic()

    def _label(self) -> str:
        if self.traced is not None:
            return self.traced.label
        return self.page.label if self.page else ""
