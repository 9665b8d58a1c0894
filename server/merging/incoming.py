"""One transaction of a node on its way in: what is known of it, and what every change of it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schema.capture import Store
from schema.declare import By, Table
from schema.keys import key_text
from server import conflicts, rows, scopes
from server.conflicts import Conflict
from server.holding import Hold, Refuse
from server.merging.renamed import Buried
from sync.change import Edit, Key, Transaction
from sync.merge import CENTRE, Lineage, Meta, Outcome


@dataclass(frozen=True, slots=True)
class Pusher:
    """Whose work is merged: node, incarnation, what it may call its own, and what it may see."""

    node: int
    node_id: str
    inc: int
    lineage: Lineage
    scope: frozenset[str]
    skew_ms: int  # server's clock minus the node's, at the exchange


@dataclass(frozen=True, slots=True)
class Standing:
    """A row that stands at the centre, and the keys of the scopes it is in."""

    table: Table
    key: Key
    rid: int
    values: Sequence[Any]
    keys: set[str]

    def named(self, columns: Iterable[str]) -> Key:
        """Return the values of columns."""
        return tuple(self.values[self.table.position[name]] for name in columns)


@dataclass(slots=True)
class Incoming:
    """One transaction on its way in. What it cannot be is raised as Hold or Refuse; whoever let it in then undoes what was done."""

    store: Store
    pusher: Pusher
    work: Transaction
    version: int
    at_ms: int
    seed: bytes  # tells this transaction from all others
    approved: bool = False
    held_id: int = 1 << 62  # only work held before this one is waited for
    verdict: str = "accepted"
    deleted: set[tuple[str, Key]] = field(default_factory=set)
    inserted: set[tuple[str, Key]] = field(default_factory=set)
    moved: set[tuple[str, Key]] = field(default_factory=set)  # hung under a parent that this does not delete
    buried: Buried = field(default_factory=Buried)
    orphaned: Refuse | None = None  # a parent it can do without will not come

    def scope(self, base: int) -> frozenset[str]:
        """Return what the node was entitled to at any time since `base`, and is now."""
        return scopes.entitled(self.store, self.pusher.node, max(base, 0))

    def standing(self, table: Table, key: Key) -> Standing | None:
        """Return a row that is at the centre."""
        found = rows.load(self.store, table, key)
        return None if found is None else Standing(table, key, *found, scopes.keys_of(self.store, table, found[0]))

    def require_right(self, row: Standing, base: int) -> None:
        """Check that a row was in the node's scope when it was changed, or is now (RULES §4)."""
        if not self.approved and self.is_strange(row, base):
            raise Hold("right", no_right(row.table, {}), (row.table.name, key_text(row.key)))

    def is_strange(self, row: Standing, base: int) -> bool:
        """Tell whether a row was never in the node's scope since it was looked at."""
        scope = self.scope(base)
        return row.keys.isdisjoint(scope) and not scopes.left_since(self.store, row.table, row.rid, scope, base)

    def touch(self, row: Standing, writer: int) -> None:
        """Note in the feed's index that a row was written."""
        now = scopes.touch(self.store, row.table, row.rid, self.version, writer, row.keys)
        self.out_of_sight(row.table, row.rid, now)

    def out_of_sight(self, table: Table, rid: int, keys: set[str]) -> None:
        """Tell the pusher about a row it put out of its own scope: nobody else will (RULES H2)."""
        if keys.isdisjoint(self.pusher.scope):
            private = scopes.node_scope(self.pusher.node)
            scopes.note(self.store, table, [private], self.version, rid, CENTRE, scopes.LEAVE)

    def metas(self, table: Table, rid: int) -> dict[int, Meta]:
        """Return who wrote what. A document has no clock: the index of changes tells who wrote it last."""
        found = rows.metas(self.store, table, rid)
        if found or table.name not in self.store.schema.fixed:
            return found
        version, writer = scopes.written(self.store, table, rid)
        return {rows.BIRTH: Meta(version, writer, self.work.number, 0, "")}

    def now_stamp(self, wall: int) -> int:
        """Return what the centre's clock showed when the node's showed this."""
        return wall + self.pusher.skew_ms

    def stamp(self, table: Table, rid: int, cell: int, at: int, *, is_alone: bool = True, number: int | None = None) -> None:
        """Note that the pusher wrote a cell; nobody did where what it wrote stands together with what it had not seen: to its own
        later deletion that is still unseen. `number`: the own one under which it was typed, if not the transaction's.
        """
        writer, sequence = self.pusher.inc if is_alone else CENTRE, self.work.number if number is None else number
        if is_alone and sequence != self.work.number:
            writer = self.pusher.lineage.first_told(sequence, self.pusher.inc)
        rows.stamp(self.store, table, rid, cell, self.version, writer, sequence, at)

    def raise_to(self, verdict: str) -> None:
        """Let the verdict be at least this."""
        self.verdict = graver(self.verdict, verdict)

    def node_of(self, writer: int) -> int:
        """Return the node of an incarnation."""
        row = self.store.connection.execute("SELECT node FROM _incarnation WHERE inc = ?", (writer,)).fetchone()
        return int(row[0]) if row else conflicts.CENTRE_NODE

    def conflict(self, row: Standing, columns: tuple[str, ...], edit: Edit, standing: Key, rule: str, outcome: Outcome, other: int) -> None:
        """Put a cell on record that both sides had written."""
        sides = (edit.old, edit.new, standing)
        entry = Conflict(row.table.name, row.key, columns, *sides, rule, outcome.side, outcome.ask, self.pusher.node, other)
        conflicts.record(self.store, entry, self.version, self.at_ms, self.seed)
        self.raise_to("ask" if outcome.ask else "merged")

    def record(
        self, table: Table, key: Key, columns: tuple[str, ...], base: Any, mine: Any, theirs: Any, rule: str, winner: str, writer: int
    ) -> None:
        """Put on record what became of a row, or of values of it, as a rule decided it against `writer`."""
        entry = Conflict(table.name, key, columns, base, mine, theirs, rule, winner, False, self.pusher.node, self.node_of(writer))
        conflicts.record(self.store, entry, self.version, self.at_ms, self.seed)


def graver(one: str, other: str) -> str:
    """Return which of two verdicts on one transaction says more."""
    return max(one, other, key=("accepted", "merged", "ask").index)


def no_right(table: Table, values: Mapping[str, Any]) -> str:
    """Return why a node may not write a row, in what it typed itself: whose a row is that stands is not for it to know."""
    named = [f"{rule.prefix}:{values[rule.column]}" for rule in table.scope if isinstance(rule, By) and values.get(rule.column) is not None]
    return f"this {table.name} belongs to {', '.join(sorted(named)) or 'others'}, which this node does not write for"
