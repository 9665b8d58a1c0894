"""How much of everything is measured. The goals (goals.py) are of these sizes; others are for trying it out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """Rows, nodes, and the bases of contacts on which changes are measured, each at least 1."""

    sales: int = 200_000  # receipts that are inserted, pushed and pulled
    small: int = 1_000  # rows of a small commit, a small push, a small change
    contended: int = 10_000  # contacts that two nodes change
    bases: tuple[int, ...] = (10_000, 1_000_000)  # contacts that are there, of which few are changed
    first: int = 1_000_000  # receipts that a new node begins with
    nodes: int = 1_000  # nodes that arrive at once
    peers: int = 100_000  # of the same receipts; the slowest peer takes a minute for them

    def times(self, scale: float) -> Sizes:
        """Return all sizes times a scale."""
        bases = tuple(_times(each, scale) for each in self.bases)
        sales, small, contended = (_times(each, scale) for each in (self.sales, self.small, self.contended))
        return Sizes(sales, small, contended, bases, *(_times(each, scale) for each in (self.first, self.nodes, self.peers)))

    def document(self) -> dict[str, Any]:
        """Return them for JSON."""
        return asdict(self)


def _times(value: int, scale: float) -> int:
    return max(1, round(value * scale))


FULL = Sizes()
QUICK = Sizes(bases=(10_000, 100_000), peers=20_000)
