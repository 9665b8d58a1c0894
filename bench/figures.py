"""What was measured: figure by figure, told as it comes and kept, so that a run that is cut short has measured what it told."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

Say = Callable[[str], None]
ON_POSTGRES = "PostgreSQL: "
"""What the name of a figure begins with that was measured with the centre on PostgreSQL."""


def silent(_line: str) -> None:
    """Tell nobody."""


@dataclass
class Measured:
    """Every figure of every round, what it was measured with, and what did not come to a figure, and why."""

    say: Say = silent
    figures: dict[str, list[float]] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    load: list[float] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # peer → why
    failed: dict[str, str] = field(default_factory=dict)  # step → what went wrong
    stopped: bool = False  # by Ctrl-C or SIGTERM

    def add(self, name: str, value: float) -> None:
        """Add one round's figure, and tell it."""
        self.figures.setdefault(name, []).append(value)
        self.say(f"  {name}: {text(value)}")

    def last(self, name: str) -> float:
        """Return the newest value of a figure. Raises KeyError where it was not measured."""
        return self.figures[name][-1]

    def add_ratio(self, name: str, above: str, below: str) -> None:
        """Add how many times the one figure of this round is the other, where both are there."""
        if above in self.figures and below in self.figures:
            self.add(name, self.last(above) / self.last(below))


@dataclass(frozen=True)
class Summary:
    """One figure over all rounds."""

    median: float
    low: float
    high: float
    times: int  # how often it was measured

    @classmethod
    def of(cls, values: list[float]) -> Summary:
        """Return the summary of one or more values."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    def document(self) -> dict[str, float]:
        """Return it for JSON, rounded to what is worth reading."""
        return {"median": rounded(self.median), "low": rounded(self.low), "high": rounded(self.high), "times": self.times}


def rounded(value: float) -> float:
    """Return a value with three digits that count, or all of a large whole number."""
    return round(value) if value >= 1000 else round(value, 2 if value < 10 else 1)


def text(value: float) -> str:
    """Return a value for people."""
    return f"{rounded(value):,}"
