"""The plan of a sweep: which tables under which scopes it goes through, in which order, and what that order means.

    for each table: scopes the node kept ─► its own private one ─► scopes it gained ─► scopes it lost

A row is told once, under the first of its scopes. Everything here but `scope`, what the node is entitled to now, follows
from versions up to `high`, so it is the same on every page of the sweep. Spec: PROTOCOL.md §8.2, §8.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from schema.capture import Store
from schema.declare import EVERYONE, Table
from server import scopes
from server.scope_sql import prefix_of

_END = 1 << 62


@dataclass(frozen=True, slots=True)
class Step:
    """One table under one scope. `low` is where it begins: the sweep's, or never for a gained scope."""

    table: Table
    scope: str
    mode: str  # kept, gained, regained, lost
    rank: int  # rows that are in a scope of a lower rank are told there
    low: int  # what died or left after it has to be told: the sweep's, or the cursor
    since: int = 0  # a gained scope: from which version on; what the node wrote in it since then, it has
    held: frozenset[str] = frozenset()  # a gained scope: keys the node had at its cursor, and has no more
    until: int = _END  # a lost scope: what came into it later, the node never had, so it is not told that it went


class Sweep:
    """The steps from one version to another for one node."""

    def __init__(
        self, store: Store, node: int, cursor: int, low: int, high: int, scope: frozenset[str], afresh: frozenset[str] = frozenset()
    ) -> None:
        self.store, self.cursor, self.low, self.high, self.scope = store, cursor, low, high, scope
        self.afresh = afresh if low == cursor else frozenset[str]()  # once in a pull: the first sweep tells all of them
        self._private = scopes.node_scope(node)
        rows = scopes.entitlements(store, node)

        def at(version: int) -> dict[str, int]:
            return {scope: since for scope, since, until in rows if since <= version and (until is None or until > version)}

        def place(scope: str) -> tuple[int, str]:  # the same in every sweep of a pull: held at its cursor, then by when they came
            return max(at_high[scope], cursor), scope

        at_low, at_high = at(low), at(high)
        self._steady = {EVERYONE, *(scope for scope, since, until in rows if since <= high and until is None)}
        self._broken = {scope for scope, since, until in rows if until is not None and low < until <= high}  # lost for a while
        kept = sorted((at_low.keys() & at_high.keys()) - self._broken, key=place)
        self._kept = [EVERYONE, *kept]
        self._gained = {scope: at_high[scope] for scope in sorted(at_high.keys() - set(kept), key=place)}  # since when
        self._lost = sorted((at_low.keys() | self._broken) - at_high.keys())
        had = [(scope, since, until) for scope, since, until in rows if until is None or until > cursor]
        self._first = {scope: since for scope, since, _ in sorted(had, key=itemgetter(1), reverse=True)}  # since when it had each
        self._last = {scope: until for scope, _, until in sorted(had, key=itemgetter(1)) if until is not None and until <= high}
        # in a later sweep a page of this pull may have taken away what the node had under them
        self._held = frozenset(at(cursor).keys() - at_high.keys()) if low == cursor else frozenset[str]()
        self._ranks = {scope: rank for rank, scope in enumerate([*self._kept, *self._gained])}
        self._lowest: dict[str, int] = {}  # the lowest rank of a key with a prefix
        for key, rank in self._ranks.items():
            if key in scope:
                self._lowest.setdefault(prefix_of(key), rank)

    def steps(self) -> Iterator[Step]:
        """Yield every step, whether the node is still entitled to it or not: their numbers stay the same."""
        for table in self.store.schema.tables:
            prefixes = {path.prefix for path in self.store.schema.paths[table.name]}

            def concerning(keys: Iterable[str], prefixes: set[str] = prefixes) -> Iterator[str]:
                return (key for key in keys if prefix_of(key) in prefixes)

            for scope in concerning(self._kept):
                if table.name in self.afresh:  # as if it had come back: all its rows, the node's own too
                    yield Step(table, scope, "regained", self._ranks[scope], self.low, _END)
                else:
                    yield Step(table, scope, "kept", self._ranks[scope], self.low)
            yield Step(table, self._private, "kept", 0, self.low)
            for scope in concerning(self._gained):
                if table.name in self.afresh:
                    yield Step(table, scope, "regained", self._ranks[scope], self.cursor, _END)
                    continue
                mode, begin = ("regained", max(self.cursor, self._first[scope])) if scope in self._broken else ("gained", self.low)
                yield Step(table, scope, mode, self._ranks[scope], begin, self._gained[scope], self._held)
            for scope in concerning(self._lost):
                begin = max(self.cursor, self._first[scope])  # from the cursor: its steps of earlier sweeps may have been left out
                yield Step(table, scope, "lost", 0, begin, until=self._last[scope])

    def earlier_of(self, step: Step, keys: Iterable[str]) -> Iterator[str]:
        """Yield those of the keys that have a step before this one which ran for sure: the node had them all the time since `high`."""
        return (key for key in keys if self._ranks.get(key, _END) < step.rank and key in self._steady)

    def may_be_told_earlier(self, step: Step) -> bool:
        """Tell whether that can be so for any row of the step's table."""
        return any(self._lowest.get(path.prefix, _END) < step.rank for path in self.store.schema.paths[step.table.name])

    def earlier(self, step: Step) -> Iterator[str]:
        """Yield the scope keys before the step's, those included that the node has lost since."""
        return islice(self._ranks, step.rank)


def may_have(store: Store, table: Table, keys: Iterable[str]) -> bool:
    """Tell whether rows of a table can have any of these keys at all."""
    prefixes = {path.prefix for path in store.schema.paths[table.name]}
    return any(prefix_of(key) in prefixes for key in keys)
