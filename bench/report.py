"""The report: medians and ranges, what became of the goals, tables for people, one JSON document for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.figures import Measured, Summary, text
from bench.goals import goals, missed
from bench.sizes import FULL, Sizes


def document(measured: Measured, machine: Mapping[str, object], rounds: int, sizes: Sizes) -> dict[str, Any]:
    """Return everything as one JSON-able document. `complete`: nothing failed and nobody stopped it.

    Goals are judged at their own sizes only: a push of few rows costs more a row.
    """
    figures = {name: Summary.of(values) for name, values in measured.figures.items()}
    judged = [goal.document(figures if sizes.sales == FULL.sales else {}) for goal in goals()]
    return {
        "machine": dict(machine),
        "settings": measured.settings,
        "sizes": sizes.document(),
        "rounds": rounds,
        "load": measured.load,
        "figures": {name: found.document() for name, found in figures.items()},
        "goals": judged,
        "missed": missed(judged),
        "peers_left_out": measured.left_out,
        "failed": measured.failed,
        "complete": not measured.failed and not measured.stopped,
    }


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return the report as lines for people (Markdown)."""
    return [*_conditions(report), "", *_figures(report), "", *_goals(report), "", *_closing(report)]


def _conditions(report: Mapping[str, Any]) -> list[str]:
    machine, settings, sizes = report["machine"], report["settings"], report["sizes"]
    versions = {"SQLite": settings.get("sqlite", "?"), **machine["libraries"], **machine["peers"]}
    return [
        f"{machine['measured_at']}, Outpost {machine['outpost']}",
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_mb']:,} MB, {machine['filesystem']}, {machine['system']}",
        f"Python {machine['python']}, " + ", ".join(f"{name} {number}" for name, number in versions.items()),
        "Settings: " + ", ".join(f"{name}={value}" for name, value in settings.items() if name != "sqlite"),
        f"Commits: {sizes['sales']:,} rows in one transaction locally; segments of 10,000 rows, a push and a page each one commit. "
        f"{report['rounds']} rounds, interleaved; load {', '.join(map(str, report['load']))}",
    ]


def _figures(report: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name} | {text(each['median'])} | {_range(each)} |" for name, each in report["figures"].items()]
    return ["| | median | range |", "|---|---:|---:|", *rows]


def _goals(report: Mapping[str, Any]) -> list[str]:
    if report["sizes"]["sales"] != FULL.sales:
        return [f"Goals are for {FULL.sales:,} receipts: none was judged."]
    return ["| goal | must be | median | range | |", "|---|---:|---:|---:|---|", *map(_goal, report["goals"])]


def _goal(each: Mapping[str, Any]) -> str:
    bound = f"≥ {each['at_least']:,g}" if "at_least" in each else f"≤ {each['at_most']:,g}"
    if each["met"] is None:
        return f"| {each['goal']} | {bound} | | | not measured{': ' + each['needs'] if each['needs'] else ''} |"
    return f"| {each['goal']} | {bound} | {text(each['median'])} | {_range(each)} | {'met' if each['met'] else '**missed**'} |"


def _range(figure: Mapping[str, Any]) -> str:
    return f"{text(figure['low'])} – {text(figure['high'])}"


def _closing(report: Mapping[str, Any]) -> list[str]:
    found = [f"Peers left out: {left_out(report['peers_left_out'])}."] if report["peers_left_out"] else []
    found += [f"Failed: {step}: {why}" for step, why in report["failed"].items()]
    if not report["complete"] and not report["failed"]:
        found.append("Stopped before its end: this is what was measured until then.")
    judged = any(each["met"] is not None for each in report["goals"])
    if report["missed"]:
        found.append(f"Missed: {'; '.join(report['missed'])}")
    return [*found, "No goal that was measured is missed."] if judged and not report["missed"] else found


def left_out(peers: Mapping[str, str]) -> str:
    """Return which peers are left out and why, on one line; those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for name, why in peers.items():
        reasons.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
