"""The report: medians and ranges, the floors of issue 2, a table for people, one JSON document for programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from bench.contended import CONTENDED
from bench.rounds import Measured

AT_LEAST = {"push, rows/s": 80_000.0, "pull, rows/s": 80_000.0, CONTENDED: 0.5}
AT_MOST = {"captured insert, times plain": 1.5, "push, bytes a row": 50.0, "pull, bytes a row": 50.0}
"""What a machine with two cores must reach. Checked by `--check`, never by a test: the machine may be busy."""


def document(measured: Measured, machine: Mapping[str, object], rounds: int, sales: int) -> dict[str, Any]:
    """Return everything as one JSON-able document."""
    return {
        "machine": dict(machine),
        "settings": measured.settings,
        "commit": f"{sales:,} rows in one transaction locally; segments of 10,000 rows, a push and a page each one commit",
        "rounds": rounds,
        "load": measured.load,
        "figures": {name: summary(name, values) for name, values in measured.figures.items()},
        "missed": missed(measured),
    }


def summary(name: str, values: list[float]) -> dict[str, Any]:
    """Return the median and the range of one figure, and its floor if it has one."""
    found = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    bound = {"at_least": AT_LEAST.get(name), "at_most": AT_MOST.get(name)}
    return {**{key: _rounded(value) for key, value in found.items()}, **{key: value for key, value in bound.items() if value is not None}}


def _rounded(value: float) -> float:
    return round(value) if value >= 1000 else round(value, 2 if value < 10 else 1)


def missed(measured: Measured) -> list[str]:
    """Return the figures whose median misses its floor."""
    medians = {name: statistics.median(values) for name, values in measured.figures.items()}
    low = [name for name, bound in AT_LEAST.items() if medians.get(name, bound) < bound]
    return low + [name for name, bound in AT_MOST.items() if medians[name] > bound]


def table(report: Mapping[str, Any]) -> str:
    """Return the report as lines for people (Markdown)."""
    machine, settings = report["machine"], report["settings"]
    lines = [
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_mb']:,} MB, {machine['filesystem']}, {machine['system']}",
        f"Python {machine['python']}, SQLite {settings['sqlite']}, "
        + ", ".join(f"{name} {number}" for name, number in machine["libraries"].items()),
        "Settings: " + ", ".join(f"{name}={value}" for name, value in settings.items() if name != "sqlite"),
        f"Commits: {report['commit']}. {report['rounds']} rounds, interleaved; load {', '.join(map(str, report['load']))}",
        "",
        "| | median | range | must be |",
        "|---|---:|---:|---:|",
    ]
    for name, figure in report["figures"].items():
        bound = f"≥ {figure['at_least']:,g}" if "at_least" in figure else f"≤ {figure['at_most']:g}" if "at_most" in figure else ""
        lines.append(f"| {name} | {_text(figure['median'])} | {_text(figure['low'])} – {_text(figure['high'])} | {bound} |")
    lines += ["", f"Missed: {', '.join(report['missed'])}" if report["missed"] else "No floor missed."]
    return "\n".join(lines)


def _text(value: float) -> str:
    return f"{value:,}"
