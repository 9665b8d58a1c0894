"""The goals: which figure must reach what, at the sizes of sizes.FULL. What was not measured is neither met nor missed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.figures import ON_POSTGRES, Summary
from bench.peers import LEVELDB
from bench.sizes import FULL, Sizes


@dataclass(frozen=True)
class Goal:
    """A figure whose median must be at least, or at most, a bound; and which options measure it."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None
    needs: str = ""

    @property
    def words(self) -> str:
        """Return the bound for people."""
        return f"≥ {self.at_least:,g}" if self.at_least is not None else f"≤ {self.at_most:,g}"

    def is_met(self, median: float) -> bool:
        """Tell whether a median reaches the bound."""
        return not (self.at_least is not None and median < self.at_least) and not (self.at_most is not None and median > self.at_most)

    def document(self, figures: Mapping[str, Summary]) -> dict[str, Any]:
        """Return what became of it for JSON: `met` is null where its figure was not measured."""
        found = figures.get(self.figure)
        bound = {"at_least": self.at_least} if self.at_least is not None else {"at_most": self.at_most}
        if found is None:
            return {"goal": self.figure, **bound, "met": None, "needs": self.needs}
        return {"goal": self.figure, **bound, **found.document(), "met": self.is_met(found.median)}


def goals(sizes: Sizes = FULL) -> list[Goal]:
    """Return all goals, in the order of the report."""
    return [*_sales(sizes), *_postgres(), *_peers(), *_changes(sizes), *_first(sizes), *_herd(sizes)]


def missed(found: list[dict[str, Any]]) -> list[str]:
    """Return the goals that were measured and missed, of documents."""
    return [each["goal"] for each in found if each["met"] is False]


def _sales(sizes: Sizes) -> Iterator[Goal]:
    yield Goal("captured insert, times plain", at_most=1.25)
    yield Goal(f"captured insert in commits of {sizes.small:,}, times plain", at_most=1.25)
    yield Goal("node's file, times plain", at_most=1.08)
    yield Goal("node's file once a backup covers it, times plain", at_most=1.08)
    yield Goal("push, part of a plain insert", at_least=0.40)
    yield Goal("pull, part of a plain insert", at_least=0.45)
    yield Goal("push, bytes a row", at_most=32)
    yield Goal("pull, bytes a row", at_most=32)
    yield Goal(f"push of {sizes.small:,}, bytes a row", at_most=40)
    yield Goal("nothing to do, ms", at_most=10)
    yield Goal("nothing to do, bytes", at_most=1_000)
    yield Goal("push of changes, every second contended: part of uncontended", at_least=0.5)


def _postgres() -> Iterator[Goal]:
    for way in ("push", "pull"):
        yield Goal(f"{ON_POSTGRES}{way}, times as fast as with a file", at_least=0.8, needs="--database")


def _peers() -> Iterator[Goal]:
    yield Goal(f"push, times {LEVELDB}", at_least=35, needs="--peers")
    yield Goal(f"pull, times {LEVELDB}", at_least=40, needs="--peers")


def _changes(sizes: Sizes) -> Iterator[Goal]:
    small, large, needs = sizes.bases[0], sizes.bases[-1], "the whole run: without --quick and --only-sales"
    name = f"change of {sizes.small:,} on {large:,}"
    for way in ("push", "pull"):
        yield Goal(f"{name}, neighbours, {way} ms", at_most=40, needs=needs)
        yield Goal(f"{name}, neighbours, {way}: times that on {small:,}", at_most=1.3, needs=needs)
        yield Goal(f"{name}, scattered, {way}: times a plain UPDATE", at_most=1.3, needs=needs)
    for how in ("neighbours", "scattered"):
        yield Goal(f"{name}, {how}, bytes a changed cell", at_most=30, needs=needs)
    yield Goal(f"memory, MB: node with {large:,} contacts", at_most=120, needs=needs)
    yield Goal(f"memory, MB: server with {large:,} contacts", at_most=220, needs=needs)


def _first(sizes: Sizes) -> Iterator[Goal]:
    for where, rows, needs in (("", 800_000, "--first"), (ON_POSTGRES, 500_000, "--first --database")):
        name = f"{where}first sync of {sizes.first:,}"
        yield Goal(f"{name}, rows/s: joining", at_least=rows, needs=needs)
        yield Goal(f"{name}, MB: node", at_most=120, needs=needs)
        yield Goal(f"{name}, MB: server", at_most=220, needs=needs)


def _herd(sizes: Sizes) -> Iterator[Goal]:
    for where, needs in (("", "--herd"), (ON_POSTGRES, "--herd --database")):
        yield Goal(f"{where}{sizes.nodes:,} nodes at once, s until 99 of 100 are", at_most=3, needs=needs)
        yield Goal(f"{where}{sizes.nodes:,} nodes at once, MB: server's processes together", at_most=300, needs=needs)
