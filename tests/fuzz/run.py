"""Running decoders over many cases: what was raised, how long each took, how much memory the process came to need."""

from __future__ import annotations

import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.fuzz.decoders import Target, mutator_for

SECONDS_MAX = 1.0
"""Processor time of one execution: a hang is a finding however busy the machine is."""

FINDINGS_MAX = 50
Progress = Callable[[int, int], None]


@dataclass
class Tally:
    """What came of many executions. A finding says what is needed to see it again."""

    executions: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)  # that were good, and came back the same
    refused: Counter[str] = field(default_factory=Counter)  # by error code
    findings: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    seconds: float = 0.0
    memory_mib: int = 0

    def found(self, what: str) -> None:
        """Note a finding, the first fifty in full."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(what)

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON-able values."""
        return {
            "executions": sum(self.executions.values()),
            "by_target": dict(sorted(self.executions.items())),
            "read": dict(sorted(self.read.items())),
            "refused": dict(self.refused.most_common()),
            "slowest_seconds": round(self.slowest[0], 4),
            "slowest": self.slowest[1],
            "seconds": round(self.seconds, 1),
            "memory_mib": self.memory_mib,
            "findings": self.findings,
        }


def memory_mib() -> int:
    """Return the most memory this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def fuzz(
    targets: Sequence[Target], seeds: range, *, executions: int, seconds: float | None = None, progress: Progress | None = None
) -> Tally:
    """Run cases until there were enough of them or the time is over. A seed is 1,000 cases of one target."""
    tally, started = Tally(), time.monotonic()
    weighted = [target for target in targets for _ in range(target.share)]
    for seed in seeds:
        run_seed(weighted, seed, tally)
        done, tally.seconds = sum(tally.executions.values()), time.monotonic() - started
        if progress is not None:
            progress(done, executions)
        if done >= executions or (seconds is not None and tally.seconds > seconds):
            break
    tally.memory_mib = memory_mib()
    return tally


CASES = 1000


def run_seed(weighted: Sequence[Target], seed: int, tally: Tally, cases: int = CASES) -> None:
    """Run the cases of a seed: a thousand, or only the first of them."""
    random = Random(seed)
    target = weighted[seed % len(weighted)]
    mutator = mutator_for(target, random)
    for number in range(cases):
        case = target.case(mutator)
        begin = time.process_time()
        try:
            target.read(case)
            tally.read[target.name] += 1
        except target.allowed as error:
            tally.refused[getattr(error, "code", type(error).__name__)] += 1
        except Exception:
            tally.found(f"seed {seed}, case {number}, {target.name}: {traceback.format_exc(limit=-3)}\n{case!r:.600}")
        took = time.process_time() - begin
        if took > tally.slowest[0]:
            tally.slowest = (took, f"seed {seed}, case {number}, {target.name}")
        if took > SECONDS_MAX:
            tally.found(f"seed {seed}, case {number}, {target.name}: took {took:.1f} s\n{case!r:.200}")
    tally.executions[target.name] += cases
