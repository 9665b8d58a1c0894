"""Elsewhere: rows that a step need not tell, for the node is told them under an earlier scope, keeps them, or has them already.

Used by server/telling.py. Spec: PROTOCOL.md §8.2, §8.3; RULES H18.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from schema.capture import Store
from schema.declare import Table
from server.scopes import ENTER, STATE
from server.sweep import Step, Sweep, may_have

_RUNS_MAX = 2_000
"""Lines of the change index that are looked through to tell which rows a node has already; beyond, all are told again."""


class _Runs:
    """Runs of row numbers."""

    def __init__(self, found: Sequence[tuple[int, int]]) -> None:
        self._singles = {low for low, high in found if low == high}
        self._runs = [(low, high) for low, high in found if low != high]

    def holds(self, rid: int) -> bool:
        """Tell whether a row is in one of them."""
        return rid in self._singles or any(low <= rid <= high for low, high in self._runs)


class Elsewhere:
    """What one node has, or is told in other steps of a sweep. `inc`: whose own work it is not told; `cursor`: where its pull begins;
    `head`: the version that is read.
    """

    def __init__(self, store: Store, plan: Sweep, scope: frozenset[str], inc: int, cursor: int, head: int) -> None:
        self.store, self.scope, self.inc, self.cursor, self._plan, self._head = store, scope, inc, cursor, plan, head
        self._touched: dict[tuple[int, str], _Runs | None] = {}
        self._came: dict[tuple[int, str, int], frozenset[int]] = {}

    def may_be(self, step: Step) -> bool:
        """Tell whether any row of a step can be told elsewhere at all: of most tables none can."""
        if step.mode == "lost":
            return may_have(self.store, step.table, self.scope)
        return self._plan.may_be_told_earlier(step) or may_have(self.store, step.table, step.held)

    def told(self, step: Step, rid: int, keys: set[str]) -> bool:
        """Tell whether a row is told under an earlier scope, or not at all: the node keeps it, or has it."""
        if step.mode == "lost":
            return not self.scope.isdisjoint(keys)
        told = any(rid not in self._entered(step.table, key) for key in self._plan.earlier_of(step, keys))
        return told or self._has(step, rid, keys)

    def _entered(self, table: Table, scope: str) -> frozenset[int]:
        """Return the rows that came into a scope after the sweep's end: its step did not tell them, and the next sweep may have none."""
        if self._plan.high == self._head:
            return frozenset()
        place = (self.store.numbers[table.name], scope, self._plan.high)
        if place not in self._came:
            sql = f"SELECT lo FROM _change WHERE t = ? AND sc = ? AND ver > ? AND op = {ENTER}"
            self._came[place] = frozenset(row[0] for row in self.store.connection.execute(sql, place))
        return self._came[place]

    def _has(self, step: Step, rid: int, keys: set[str]) -> bool:
        """Tell whether the node has a row already: it had it under a key it held at its cursor, and nobody else has touched it
        since. A scope that is gained for one that is lost moves only the difference.
        """
        return any(changed is not None and not changed.holds(rid) for changed in map(self._changed(step), step.held & keys))

    def _changed(self, step: Step) -> Callable[[str], _Runs | None]:
        """Return what tells the rows of a table that others touched in a scope since the cursor; None: too many to tell."""
        t = self.store.numbers[step.table.name]
        sql = f"SELECT lo, hi FROM _change WHERE t = ? AND sc = ? AND ver > ? AND (op <> {STATE} OR wr <> ?) LIMIT ?"

        def find(scope: str) -> _Runs | None:
            place = (t, scope)
            if place not in self._touched:
                found = self.store.connection.execute(sql, (*place, self.cursor, self.inc, _RUNS_MAX + 1)).fetchall()
                self._touched[place] = _Runs(found) if len(found) <= _RUNS_MAX else None
            return self._touched[place]

        return find
