"""What is run and in which order: rounds of every measurement in turn, so that a slow spell of the machine hits all alike.

sales ─ sales on PostgreSQL ─ peers ─ contended ─ herd    × rounds
first sync, on a file ─ on PostgreSQL                     × rounds
changes on the one base ─ on the other                    × rounds
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import changes, contention, herd, machine, peers, sales
from bench.figures import ON_POSTGRES, Measured
from bench.first import Beginners
from bench.pair import Pair
from bench.postgres import database
from bench.sizes import Sizes
from bench.workload import Row
from bench.workload import sales as receipts


@dataclass(frozen=True)
class Wanted:
    """What was asked for. `postgres`: the URL of a server in which databases may be made."""

    rounds: int
    sizes: Sizes
    changes: bool = True
    herd: bool = False
    first: bool = False
    postgres: str | None = None
    peers: list[peers.Ready] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """One thing to do. Where it fails, the later steps of its group are left out: they would need it."""

    group: str
    title: str
    work: Callable[[], None]


class Plan:
    """The steps of one run. What they leave open is closed with the stack."""

    def __init__(self, wanted: Wanted, folder: Path, measured: Measured, stack: ExitStack) -> None:
        self._wanted, self._sizes = wanted, wanted.sizes
        self._folder, self._measured, self._stack = folder, measured, stack
        self._rows: list[Row] = receipts(wanted.sizes.sales + wanted.sizes.small)
        self._contended: list[Pair] = []
        self._bases: list[Pair] = []
        self._beginners: dict[str, Beginners] = {}

    def steps(self) -> list[Step]:
        """Return all steps, in order."""
        return [*self._sales_steps(), *self._first_steps(), *self._change_steps()]

    # --- receipts, and what is interleaved with them -----------------------------------------------------------------------

    def _sales_steps(self) -> Iterator[Step]:
        yield Step("contended", f"contacts for two nodes: {self._sizes.contended:,}", self._open_contended)
        if self._wanted.peers:
            yield Step("peers", "receipts for the peers", self._export)
        for number in range(self._wanted.rounds):
            yield from self._round(number)

    def _round(self, number: int) -> Iterator[Step]:
        sizes, wanted, measured, folder = self._sizes, self._wanted, self._measured, self._folder
        title = f"round {number + 1} of {wanted.rounds}"
        yield Step("sales", f"{title}: {sizes.sales:,} receipts", partial(self._sales, number))
        if wanted.postgres:
            work = partial(sales.postgres_round, folder / "postgres", wanted.postgres, self._rows[: sizes.sales], measured)
            yield Step("postgres", f"{title}: {sizes.sales:,} receipts on PostgreSQL", work)
        for ready in wanted.peers:
            work = partial(peers.peer_round, ready, folder / "peers", self._peer_rows, measured)
            yield Step("peers", f"{title}: {self._peer_rows:,} receipts by {ready.peer.name}", work)
        yield Step("contended", f"{title}: contended changes", partial(self._contend, number))
        if wanted.herd:
            yield Step("herd", f"{title}: {sizes.nodes:,} nodes at once", partial(self._herd, None))
            if wanted.postgres:
                yield Step(
                    "herd on PostgreSQL", f"{title}: {sizes.nodes:,} nodes at once on PostgreSQL", partial(self._herd, wanted.postgres)
                )

    def _sales(self, number: int) -> None:
        self._measured.load.append(machine.load())
        sales.sales_round(self._folder / "sales", self._rows, number, self._sizes, self._measured)

    @property
    def _peer_rows(self) -> int:
        return min(self._sizes.peers, self._sizes.sales)

    def _export(self) -> None:
        peers.export(self._folder / "peers", self._rows[: self._peer_rows])

    def _open_contended(self) -> None:
        self._contended.append(Pair(self._folder / "contended", self._sizes.contended, self._stack))

    def _contend(self, number: int) -> None:
        contention.contended_round(self._contended[0], number, self._measured)

    def _herd(self, postgres: str | None) -> None:
        if postgres is None:
            herd.herd_round(self._folder / "herd", self._sizes.nodes, self._measured)
            return
        with database(postgres) as url:
            herd.herd_round(self._folder / "herd-postgres", self._sizes.nodes, self._measured, url)

    # --- first syncs ---------------------------------------------------------------------------------------------------------

    def _first_steps(self) -> Iterator[Step]:
        if not self._wanted.first:
            return
        centres: dict[str, str | None] = {"first sync": None}
        if self._wanted.postgres:
            centres[f"{ON_POSTGRES}first sync"] = self._wanted.postgres
        for name, postgres in centres.items():
            title = f"{name}: a centre with {self._sizes.first:,} receipts"
            yield Step(name, title, partial(self._open_first, name, postgres))
        for number in range(self._wanted.rounds):
            for name in centres:
                yield Step(name, f"{name}: node {number + 1} of {self._wanted.rounds}", partial(self._join, name, number))

    def _open_first(self, name: str, postgres: str | None) -> None:
        home = self._folder / f"first{len(self._beginners)}"
        self._beginners[name] = Beginners(home, self._sizes.first, self._stack, self._measured, postgres)

    def _join(self, name: str, number: int) -> None:
        self._beginners[name].round(number)

    # --- changes ---------------------------------------------------------------------------------------------------------------

    def _change_steps(self) -> Iterator[Step]:
        if not self._wanted.changes:
            return
        for base in self._sizes.bases:
            yield Step("changes", f"a base of {base:,} contacts", partial(self._open_base, base))
        for number in range(self._wanted.rounds):
            title = f"round {number + 1} of {self._wanted.rounds}: changes of {self._sizes.small:,} contacts"
            yield Step("changes", title, partial(self._changes, number))

    def _open_base(self, base: int) -> None:
        home = self._folder / f"contacts{len(self._bases)}"
        self._bases.append(Pair(home, base, self._stack, plain=True))

    def _changes(self, number: int) -> None:
        changes.change_round(self._bases, self._sizes.small, number, self._measured)
