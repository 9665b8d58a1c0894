"""Picture: sales by branch and month as columns, their geometry worked out here and drawn by a template as SVG.

The branches with the greatest totals have a colour each, the others one together; what was given back beyond what was
sold hangs below the line. Months without sales are drawn as gaps, so that time runs evenly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from server.words import MINOR_DIGITS, money

WIDTH, HEIGHT = 960, 300
LEFT, RIGHT, TOP, BOTTOM = 76, 8, 14, 30
MONTHS_MAX: Final = 24
SERIES_MAX: Final = 6
"""Colours: the last is for all others when there are more branches than colours."""

STEPS: Final = (1, 2, 5)
LINES_WANTED: Final = 5
GAP: Final = 0.28
"""Share of a month's room that is left free."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One branch's total in one month."""

    branch: str
    month: str
    minor: int


@dataclass(frozen=True, slots=True)
class Series:
    """A branch, or the others together, with its colour's number and its total in each month shown."""

    name: str
    colour: int
    minors: tuple[int, ...]

    @property
    def minor(self) -> int:
        """Return its total over the months shown."""
        return sum(self.minors)


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle, and what it stands for in words."""

    x: float
    y: float
    width: float
    height: float
    colour: int
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A label with its place on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything the template needs."""

    currency: str
    months: tuple[str, ...]
    series: tuple[Series, ...]
    bars: tuple[Bar, ...]
    across: tuple[Mark, ...]
    up: tuple[Mark, ...]
    zero: float
    is_cut: bool


def draw(currency: str, cells: Sequence[Cell], this_month: str) -> Picture:
    """Return the picture of one currency's sales: the newest MONTHS_MAX months, none to come unless there is no other."""
    named = sorted({cell.month for cell in cells})
    past = [month for month in named if month <= this_month] or named
    months = _months(past[0], past[-1])[-MONTHS_MAX:]
    series = _series(cells, months)
    tops = [sum(max(0, each.minors[place]) for each in series) for place in range(len(months))]
    bottoms = [sum(min(0, each.minors[place]) for each in series) for place in range(len(months))]
    step = _step(max(tops) - min(bottoms))
    low, high = min(bottoms) // step * step, -(-max(tops) // step) * step
    high = max(high, low + step)
    scale = (HEIGHT - TOP - BOTTOM) / (high - low)

    def at(minor: int) -> float:
        return round(TOP + (high - minor) * scale, 2)

    room = (WIDTH - LEFT - RIGHT) / len(months)
    return Picture(
        currency=currency,
        months=tuple(months),
        series=tuple(series),
        bars=tuple(_bars(currency, months, series, room, at)),
        across=tuple(_labels(months, room)),
        up=tuple(Mark(at(minor), _short(minor, currency)) for minor in range(low, high + 1, step)),
        zero=at(0),
        is_cut=not {*named} <= {*months},
    )


def _series(cells: Sequence[Cell], months: Sequence[str]) -> list[Series]:
    sums: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for cell in cells:
        if cell.month in months:
            sums[cell.branch][cell.month] = sums[cell.branch].get(cell.month, 0) + cell.minor
    ranked = sorted(sums, key=lambda branch: (-sum(sums[branch].values()), branch))
    kept = ranked if len(ranked) <= SERIES_MAX else ranked[: SERIES_MAX - 1]
    found = [Series(branch, place, tuple(sums[branch].get(month, 0) for month in months)) for place, branch in enumerate(kept)]
    others = ranked[len(kept) :]
    if others:
        together = tuple(sum(sums[branch].get(month, 0) for branch in others) for month in months)
        found.append(Series(f"{len(others)} others", SERIES_MAX - 1, together))
    return found


def _bars(currency: str, months: Sequence[str], series: Sequence[Series], room: float, at: Callable[[int], float]) -> Iterator[Bar]:
    width = round(min(room * (1 - GAP), 56), 2)
    for place, month in enumerate(months):
        x = round(LEFT + room * (place + 0.5) - width / 2, 2)
        above = below = 0
        for each in series:
            minor = each.minors[place]
            if not minor:
                continue
            start = above if minor > 0 else below
            y, end = sorted((at(start), at(start + minor)))
            yield Bar(x, y, width, round(end - y, 2), each.colour, f"{each.name}, {month}: {money(minor, currency)} {currency}")
            above, below = (above + minor, below) if minor > 0 else (above, below + minor)


def _labels(months: Sequence[str], room: float) -> Iterator[Mark]:
    """Yield months' names under the columns, as many as fit; the year where it begins."""
    every = -(-44 // max(1, int(room)))
    for place, month in enumerate(months):
        if place % every == 0:
            year, number = month.split("-")
            name = NAMES[int(number) - 1]
            yield Mark(round(LEFT + room * (place + 0.5), 2), f"{name} {year}" if place == 0 or int(number) <= every else name)


NAMES: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _months(first: str, last: str) -> list[str]:
    """Return all months from one to another; at most a century, so that one wrong date cannot fill memory."""
    low, high = _number(first), _number(last)
    return [f"{month // 12:04d}-{month % 12 + 1:02d}" for month in range(max(low, high - 1_200), high + 1)]


def _number(month: str) -> int:
    year, number = month.split("-")
    return int(year) * 12 + min(max(int(number), 1), 12) - 1


def _step(span: int) -> int:
    """Return a round distance between lines that gives about LINES_WANTED of them."""
    power = 1
    while True:
        for factor in STEPS:
            if factor * power * LINES_WANTED >= span:
                return factor * power
        power *= 10


def _short(minor: int, currency: str) -> str:
    """Return an amount for the axis: 120k, 1.5M. Lines stand at round amounts, so little is left out."""
    major = minor / 10 ** MINOR_DIGITS.get(currency, 2)
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(major) >= size:
            return f"{major / size:g}{letter}".replace("-", "−")
    return f"{major:g}".replace("-", "−")
