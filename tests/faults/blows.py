"""Blows: how one process is killed, at a moment or at a system call, or only watched to learn its calls."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.processes import Running, Starter
from tests.faults.strace import Step, Traced, drawn

AT_A_CALL = 0.6
"""The share of kills at a system call, where strace can be used; the others come at a moment drawn from how long a thing takes."""

SLOWED = 2.0
"""How much longer a process takes that is watched, about."""


@dataclass
class Known:
    """What is known of each kind of victim: its calls and how long it takes. And what was killed, by kind and step."""

    folder: Path
    chance: random.Random
    with_strace: bool
    steps: dict[str, list[Step]] = field(default_factory=dict)
    takes: dict[str, float] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)


class Blow:
    """One process that is watched (the first of its kind) or killed. It has stopped itself and `go` lets it go on."""

    def __init__(self, known: Known, starter: Starter, victim: str) -> None:
        self.known, self.starter, self.victim = known, starter, victim
        self.traced: Traced | None = None
        self.at: Step | None = None
        self.moment = 0.0
        self.began = 0.0
        self.skip = 0
        self.watches = victim not in known.takes

    def go(self, running: Running) -> None:
        """Let the process go on, perhaps traced."""
        await_stop(running)
        known = self.known
        if self.watches:
            if known.with_strace:
                self.traced = Traced(running.pid, known.folder / f"{self.victim}.strace")
        elif known.steps.get(self.victim) and known.chance.random() < AT_A_CALL:
            self.at = drawn(known.steps[self.victim], known.chance)
            self.traced = Traced(running.pid, known.folder / "kill.strace", self.at)
        else:
            self.moment = known.chance.uniform(0, 1.1 * known.takes[self.victim])
        os.kill(running.pid, signal.SIGCONT)
        self.begin()

    def begin(self) -> None:
        """Say that now begins what is to be interrupted."""
        self.began = time.monotonic()
        if self.watches and self.traced is not None:
            self.skip = len(self.traced.steps())

    def end(self, running: Running, *, stays: bool = False) -> int:
        """Kill it when its moment comes, or wait for its end; `stays`: it would not end by itself. Return its status."""
        if not self.watches and self.at is None:
            time.sleep(max(0.0, self.began + self.moment - time.monotonic()))
        died_at_call = self.at is not None and (not stays or is_dead(running))
        waits = (self.watches or self.at is not None) and not stays
        lasted = time.monotonic() - self.began
        status = self.starter.wait(running) if waits else self.starter.kill(running)
        if self.traced is not None:
            self.traced.detach()
        if self.watches:
            lasted = lasted if stays else time.monotonic() - self.began
            self.known.takes[self.victim] = lasted / (SLOWED if self.traced is not None else 1)
            self.known.steps[self.victim] = self.traced.steps()[self.skip :] if self.traced is not None else []
        elif status == -signal.SIGKILL:
            self.known.killed[self.victim] += 1
            self.known.labels[f"{self.victim}: {self.at.label if self.at and died_at_call else 'at a moment'}"] += 1
        return status


def await_stop(running: Running) -> None:
    """Wait until a process that is to stop itself has done so."""
    while state(running) not in ("T", "Z"):
        time.sleep(0.0005)  # it is about to


def is_dead(running: Running) -> bool:
    """Tell whether a process has ended; it is not waited for yet, so its number is still its own."""
    return state(running) == "Z"


def state(running: Running) -> str:
    """Return the letter that the system gives for a process's state."""
    text = Path(f"/proc/{running.pid}/stat").read_text(encoding="utf-8")
    return text.rpartition(")")[2].split()[0]
