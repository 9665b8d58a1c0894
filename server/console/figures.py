"""Figures: what the first page shows, read from one snapshot, with how fresh each is."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from schema.capture import Store
from schema.console import count
from server import conflicts, journal, nodes, report
from server.console.picture import Cell, Picture, draw
from server.report import By, Freshness, Totals
from server.words import money

PICTURES_MAX: Final = 3
"""Currencies that get a picture of their own."""

BRANCHES_MAX, NODES_MAX = 100, 100
"""Lines of a table on the page; the commands show all."""

MONTH: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
SILENT_MS: Final = 24 * 3600 * 1000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Seat:
    """One node on the board. `mark`: well, waits, silent, apart."""

    node: dict[str, Any]
    mark: str
    state: str
    silence_ms: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything on the first page."""

    now_ms: int
    version: int
    freshness: Freshness
    branches: Sequence[Totals]
    totals: Sequence[Totals]
    pictures: Sequence[Picture]
    seats: Sequence[Seat]
    conflicts: int
    held: int


def read(store: Store, now_ms: int) -> Figures:
    """Return the figures as they are in this snapshot."""
    listing: list[dict[str, Any]] = nodes.listing(store)
    branches = report.sales(store, By.branch)
    return Figures(
        now_ms=now_ms,
        version=journal.head(store).number,
        freshness=report.freshness(listing),
        branches=sorted(branches, key=lambda each: (each.currency, -each.total_minor)),
        totals=_totals(branches),
        pictures=_pictures(store, branches, now_ms),
        seats=sorted((_seat(node, now_ms) for node in listing), key=lambda seat: (seat.mark == "apart", -seat.silence_ms)),
        conflicts=conflicts.waiting(store),
        held=int(store.connection.execute("SELECT COUNT(*) FROM _held").fetchone()[0]),
    )


def _totals(branches: Sequence[Totals]) -> list[Totals]:
    """Return the sums over all branches, by currency."""
    sums: dict[str, Totals] = {}
    for each in branches:
        total = sums.setdefault(each.currency, Totals(None, None, each.currency))
        for name in ("receipts", "returns", "lines", "qty_milli", "total_minor"):
            setattr(total, name, getattr(total, name) + getattr(each, name))
    return sorted(sums.values(), key=lambda each: -each.receipts)


def _pictures(store: Store, branches: Sequence[Totals], now_ms: int) -> list[Picture]:
    names = {each.key: each.name or each.key or "no branch" for each in branches}
    cells: defaultdict[str, list[Cell]] = defaultdict(list)
    for branch, month, currency, minor in report.by_branch_and_month(store):
        if month is not None and MONTH.fullmatch(month):
            cells[currency].append(Cell(names.get(branch, branch or "no branch"), month, minor))
    largest = sorted(cells, key=lambda currency: -len(cells[currency]))[:PICTURES_MAX]
    this_month = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m")
    return [draw(currency, cells[currency], this_month) for currency in largest]


def _seat(node: dict[str, Any], now_ms: int) -> Seat:
    heard = max(filter(None, (node["last_push_ms"], node["last_pull_ms"])), default=None)
    silence = now_ms - heard if heard is not None else 1 << 60
    if node["revoked"]:
        return Seat(node, "apart", "revoked", silence)
    if node["joined_ms"] is None:
        return Seat(node, "apart", "invited, not joined yet", silence)
    if heard is None:
        return Seat(node, "silent", "joined, never synced", silence)
    if silence > SILENT_MS:
        return Seat(node, "silent", f"silent for {span(silence)}", silence)
    if node["unsynced"]:
        return Seat(node, "waits", f"{count(node['unsynced'], 'transaction')} unsent", silence)
    return Seat(node, "well", "up to date", silence)


def span(ms: int) -> str:
    """Return a length of time in its largest fitting unit."""
    for unit, name in ((DAY_MS, "day"), (HOUR_MS, "hour"), (MINUTE_MS, "minute")):
        if ms >= 2 * unit or (ms >= unit and unit is not DAY_MS):
            return count(ms // unit, name)
    return "less than a minute"


def ago(ms: int | None, now_ms: int) -> str:
    """Return how long ago something was; a time to come means that the clock was put back."""
    if ms is None:
        return "never"
    if ms > now_ms + MINUTE_MS:
        return "in the future: check the clock"
    return "just now" if now_ms - ms < MINUTE_MS else f"{span(now_ms - ms)} ago"


def amount(total: Totals) -> str:
    """Return a group's total with its currency."""
    return f"{money(total.total_minor, total.currency)} {total.currency}"
