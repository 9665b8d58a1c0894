"""What the simulator has seen of the centre: its rows at every version, and what had become of every transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass

from sync.change import NEVER, Delete, Insert, Op
from tests.simulation.oracle import Key, Rows


@dataclass(frozen=True)
class Work:
    """One transaction of a node, as it was sealed."""

    segment: bytes
    index: int
    number: int
    ops: tuple[Op, ...]


@dataclass
class Snapshot:
    """The centre's rows at one version, and every row's scope keys."""

    rows: Rows
    keys: dict[str, dict[Key, set[str]]]


class Life:
    """One life of the centre: what it held at each version, and what had become of each transaction.

    A centre that is restored begins another, which shares its first versions with the one before.
    """

    def __init__(self) -> None:
        self.snapshots: dict[int, Snapshot] = {}
        self.digests: dict[int, bytes] = {}
        self.truth: dict[tuple[bytes, int], list[tuple[int, str]]] = defaultdict(list)
        self.journal: dict[bytes, int] = {}
        self.replaced: dict[tuple[bytes, int], tuple[int, tuple[bytes, int]]] = {}  # withdrawn work: when, and what took its place
        self.taken_by: dict[tuple[bytes, int], tuple[bytes, int]] = {}  # the same: what took its place first
        self.entitled: dict[str, list[tuple[int, frozenset[str]]]] = {}

    def copy(self) -> Life:
        other = Life()
        other.entitled = {name: list(found) for name, found in self.entitled.items()}
        other.replaced, other.taken_by = dict(self.replaced), dict(self.taken_by)
        other.snapshots, other.digests, other.journal = dict(self.snapshots), dict(self.digests), dict(self.journal)
        other.truth.update({name: list(found) for name, found in self.truth.items()})
        return other

    def verdict(self, work: Work, version: int) -> str:
        """Return what had become of a transaction at a version: pending, held, refused (or withdrawn), or done. Of one that a
        correction took the place of: what had become of that.
        """
        return self._verdict((work.segment, work.index), version)

    def verdicts_at(self, works: Sequence[Work], version: int) -> list[tuple[Work, str]]:
        """Return what a node with these works knows of each at a version. Where a correction that is not on its disk (a copy of
        the node made it) took the place of its work, that is withdrawn, and no more ([P-8.14], [P-8.30]).
        """
        own = {(work.segment, work.index) for work in works}
        return [(work, self._verdict((work.segment, work.index), version, own)) for work in works]

    def pending_ops(self, works: Sequence[Work], version: int) -> list[Op]:
        """Return what of a node's works is not settled at a version, in its order. A row that held work brought and its correction
        took back is nothing between the two: somebody may have brought it anew meanwhile.
        """
        waiting = [work for work, verdict in self.verdicts_at(works, version) if verdict in ("pending", "held")]
        place = {(work.segment, work.index): self._place((work.segment, work.index), version) for work in waiting}
        born: dict[tuple[tuple[bytes, int], str, Key], list[int]] = {}
        nothing: set[int] = set()
        ops = [(place[work.segment, work.index], op) for work in waiting for op in work.ops]
        for number, (name, op) in enumerate(ops):
            row = (name, op.table, op.key)
            if isinstance(op, Insert) and op.base == NEVER:
                born[row] = [number]
            elif row in born:
                born[row].append(number)
                if isinstance(op, Delete):
                    nothing.update(born.pop(row))
        return [op for number, (_, op) in enumerate(ops) if number not in nothing]

    def _place(self, name: tuple[bytes, int], version: int) -> tuple[bytes, int]:
        """Return what had taken the place of work at a version, in the end."""
        since, _ = self.replaced.get(name, (1 << 62, name))
        return self._place(self.taken_by[name], version) if since <= version else name

    def _verdict(self, name: tuple[bytes, int], version: int, own: Container[tuple[bytes, int]] | None = None) -> str:
        since, into = self.replaced.get(name, (1 << 62, name))
        if since <= version:
            into = into if own is None else self.taken_by[name]
            return self._verdict(into, version, own) if own is None or into in own else "refused"
        found = self.truth.get(name, ())
        standing = "pending"
        if self.journal.get(name[0], 1 << 62) <= version and not any(at == self.journal[name[0]] for at, _ in found):
            standing = "done"
        for at, verdict in found:
            if at <= version:
                standing = {"held": "held", "refused": "refused", "withdrawn": "refused"}.get(verdict, "done")
        return standing
