"""Judging and merging one transaction of a node: the slow, obvious path, and the only one that decides conflicts.

    judge (rights, types, parents, what is held before it) ── Hold / Refuse ─► kept, told, nothing applied
       │
    apply ─► delete · insert · update, cell by cell (sync/merge.py) ─► rows, clocks, change index, conflicts

Works inside a savepoint that the caller rolls back on Hold and Refuse. Spec: PROTOCOL.md §6.3–6.5; RULES H2, H3, H8–H10,
H16, H17, H19.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schema.capture import Store, same
from schema.declare import By, Kind, Table, Through
from schema.dialects.sqlite import quote
from schema.keys import key_text
from schema.lens import complete, known_cells
from server import below, conflicts, healing, rows, scopes, waits
from server.conflicts import Conflict
from server.holding import BELOW, Hold, Refuse, check_required, check_values, touched
from sync.change import NEVER, Delete, Edit, Insert, Key, Op, Transaction, Update
from sync.limits import KEY_BYTES_MAX
from sync.merge import CENTRE, FILLED, Lineage, Meta, Outcome, merge_cell, same_values, seen
from sync.policy import policies
from sync.values import RawText


@dataclass(frozen=True, slots=True)
class Pusher:
    """Whose work is merged: node, incarnation, what it may call its own, and what it may see."""

    node: int
    node_id: str
    inc: int
    lineage: Lineage
    scope: frozenset[str]
    skew_ms: int  # server's clock minus the node's, at the exchange


_NEVER_SINCE = 1 << 62
"""A `since` that covers none of a node's own work."""


@dataclass(slots=True)
class Merging:
    """One transaction on its way in."""

    store: Store
    pusher: Pusher
    work: Transaction
    version: int
    at_ms: int
    seed: bytes  # tells this transaction from all others
    approved: bool = False
    held_id: int = 1 << 62  # only work held before this one is waited for
    verdict: str = "accepted"
    _deleted: set[tuple[str, Key]] = field(default_factory=set)
    _inserted: set[tuple[str, Key]] = field(default_factory=set)
    _moved: set[tuple[str, Key]] = field(default_factory=set)  # hung under a parent that this does not delete
    _orphaned: Refuse | None = None  # a parent it can do without will not come

    def run(self) -> str:
        """Apply the transaction and return its verdict. Raises Hold or Refuse; the caller then undoes what was done."""
        for op in self.work.ops:
            self._check(op)
        self._wait_for_held()
        for op in self.work.ops:
            self._check_kind(op)
        self._deleted = {(op.table, op.key) for op in self.work.ops if isinstance(op, Delete)}
        self._inserted = {(op.table, op.key) for op in self.work.ops if isinstance(op, Insert)}
        self._moved = {(op.table, op.key) for op in self.work.ops if isinstance(op, Update) and self._moves(op)} if self._deleted else set()
        for op in sorted(self.work.ops, key=self._order):
            match op:
                case Delete():
                    self._delete(op)
                case Insert():
                    self._insert(op)
                case Update():
                    self._update(op)
        for conflict in self.work.decisions:
            conflicts.close(self.store, conflict, self.version, self.pusher.node, self.at_ms)
        return self.verdict

    def _moves(self, op: Update) -> bool:
        named = [dict(zip(edit.columns, edit.new, strict=True)) for edit in op.edits]
        rules = self.store.schema.by_name[op.table].parents
        return any(rule.column in new and (rule.table, (new[rule.column],)) not in self._deleted for rule in rules for new in named)

    def _order(self, op: Op) -> tuple[int, int]:
        """Order changes, whatever their sender did: children go before parents and come after them, then updates."""
        rank = self.store.schema.rank[op.table]
        return {Delete: (0, -rank), Insert: (1, rank), Update: (2, rank)}[type(op)]

    # --- judging ---------------------------------------------------------------------------------------------------

    def _check(self, op: Op) -> None:
        """Check what can be told from the change alone: table, columns, types, and what the table's kind allows."""
        table = self.store.schema.by_name.get(op.table)
        if table is None:
            raise Hold("schema", f"the centre has no table {op.table}")
        if len(op.key) != len(table.key) or any(type(part) is not str or len(part.encode()) > KEY_BYTES_MAX for part in op.key):
            raise Hold("text" if any(isinstance(part, RawText) for part in op.key) else "type", f"{op.table}: not a usable key")
        if isinstance(op, Insert):
            check_values(table, op.values)
            check_required(table, op.values)
        elif isinstance(op, Update):
            for edit in op.edits:
                cell = table.cell_named.get(edit.cell)
                if cell is None or (table.name, cell.name, edit.columns) not in known_cells(self.store.schema):
                    raise Hold("schema", f"the centre has no {op.table}.{edit.cell}")
                check_values(table, dict(zip(edit.columns, edit.new, strict=True)))
        if table.kind is Kind.REFERENCE and not self.approved:
            raise Hold("reference", f"{table.name} is kept by the central office; this stands as a proposal")

    def _check_kind(self, op: Op) -> None:
        """Check that a document or event that is at the centre stays as it is; what is only held may still be corrected."""
        table = self.store.schema.by_name[op.table]
        if self.approved or not table.immutable or isinstance(op, Insert):
            return
        if scopes.rid_of(self.store, table, op.key) is not None or rows.grave(self.store, table, op.key) is not None:
            raise Hold("immutable", f"a {table.name} that was recorded is not changed; record a correction instead")

    def _wait_for_held(self) -> None:
        """Hold what shares a row with earlier held work of the same node, or hangs a child under it (RULES H9)."""
        found = self.store.connection.execute("SELECT 1 FROM _held_row WHERE node = ? LIMIT 1", (self.pusher.node,)).fetchone()
        if found is None:
            return
        sql = "SELECT 1 FROM _held_row WHERE node = ? AND tbl = ? AND key = ? AND held < ? LIMIT 1"
        for table, key in touched(self.store, self.work.ops) - self._never_here():
            if self.store.connection.execute(sql, (self.pusher.node, table, key, self.held_id)).fetchone():
                raise Hold("depends", f"waits for held work on {table} {key}", (table, key))

    def _never_here(self) -> set[tuple[str, str]]:
        """Return the places under rows it deletes that never were here: what is held there waits for a row that will not come."""
        tables = self.store.schema.by_name
        gone = [op for op in self.work.ops if isinstance(op, Delete) and scopes.rid_of(self.store, tables[op.table], op.key) is None]
        return {(op.table + BELOW, key_text(op.key)) for op in gone if rows.grave(self.store, tables[op.table], op.key) is None}

    # --- deletes ---------------------------------------------------------------------------------------------------

    def _delete(self, op: Delete) -> None:
        table = self.store.schema.by_name[op.table]
        found = rows.load(self.store, table, op.key)
        if found is None:
            if rows.grave(self.store, table, op.key) is None:
                waits.give_up(self.store, self.pusher.node, table.name, key_text(op.key))
            return
        rid, values = found
        before = scopes.keys_of(self.store, table, rid)
        if op.base == NEVER and self._is_strange(table, rid, before, op.base):
            return  # it takes back a row of its own that never came here; this one is somebody else's
        self._right(table, op.key, rid, before, op.base)
        metas = self._metas(table, rid)
        unseen = [meta for meta in metas.values() if not self._saw(op, meta)]
        writer = max(unseen, key=lambda meta: meta.version).writer if unseen else self._unseen_child(table, op, op.key[0])
        if writer is not None:
            self._record(table, op.key, (), None, None, values, "edit wins", "theirs", writer)
            self._touch(table, op.key, rid, CENTRE, before)
            self._raise_to("merged")
            return
        reborn = (op.table, op.key) in self._inserted
        bury_row(self.store, table, rid, values, self.version, self.pusher.inc, before, reborn=reborn, moved=self._moved)

    def _saw(self, op: Delete, meta: Meta, *, below: bool = False) -> bool:
        """Tell whether a deletion has seen a write of its row, or below it. Below it, of its own node's work only what the base
        covers, or what was plainly accepted before a restore: in which order a program without foreign keys typed the rest, after the
        deletion perhaps, nobody knows. A deletion that had lost in the lost history loses again.
        """
        if below and self.work.before != NEVER and healing.was_disputed(self.store, self.pusher.inc, self.work.number):
            return meta.version <= op.base
        until = self.work.number if op.number is None else op.number
        return seen(meta, op.base, _NEVER_SINCE if below else op.since, self.pusher.lineage, until=until)

    def _unseen_child(self, table: Table, op: Delete, identity: Any) -> int | None:
        """Return who wrote something below a row that its deleter has not seen, or None.

        A child counts as an edit of its parent (RULES H16). What dies with the row counts whole, with all below it; of
        a child that outlives it only that it hangs there. One that hangs there still, as its move away did not come, is unseen.
        """
        for edge in self.store.schema.children[table.name]:
            child = edge.table
            hung = rows.cell_number(child, child.cell_of[edge.column]) if edge.column in child.cell_of else rows.BIRTH
            for row in rows.select(self.store, child, f"{quote(edge.column)} = ?", (identity,)):
                key = row[: len(child.key)]
                if (child.name, key) in self._moved:
                    continue
                if waits.is_back(self.store, self.pusher.node, child.name, key_text(key), op.base):
                    return CENTRE
                for number, meta in self._metas(child, row[-1]).items():
                    if (edge.owned or number in (rows.BIRTH, hung)) and not self._saw(op, meta, below=True):
                        return meta.writer
                deeper = self._unseen_child(child, op, key[0]) if edge.owned and scopes.is_key(key[0]) else None
                if deeper is not None:
                    return deeper
        return None

    # --- inserts ---------------------------------------------------------------------------------------------------

    def _insert(self, op: Insert) -> None:
        table = self.store.schema.by_name[op.table]
        self._parents(table, op.values)
        found = rows.load(self.store, table, op.key)
        if found is None:
            self._new_life(table, op)
            return
        rid, values = found
        before = scopes.keys_of(self.store, table, rid)
        taken = (table.name, key_text(op.key))
        if before.isdisjoint(self._scope(self.work.base)) and not self.approved and self.work.before == NEVER:
            raise Hold("key", f"the key {key_text(op.key)} is taken in {table.name}", taken)
        if table.immutable:
            if any(not same(value, values[table.position[name]]) for name, value in op.values.items()):
                if self.work.before != NEVER:  # a node gave it back before; somebody at the centre had corrected it
                    mine = tuple(op.values.get(name) for name in table.names)
                    self._record(table, op.key, (), None, mine, values, conflicts.RESTORED, "theirs", CENTRE)
                    self._out_of_sight(table, rid, before)
                    return
                raise Hold("key", f"there is another {table.name} with the key {key_text(op.key)}", taken)
            self._out_of_sight(table, rid, before)
            return
        number = self.work.number if op.since == NEVER else op.since
        if before.isdisjoint(self._scope(self.work.base)) and not self.approved:
            self._beside(table, op, rid, values, before)
            return
        edits = [
            Edit(cell.name, cell.columns, *self._insert_values(table, cell.columns, op, values), op.base, number, self.work.wall)
            for cell in table.cells
            if any(column in op.values for column in cell.columns)
        ]
        if (table.name, op.key) in self._deleted:  # which lost: what stood when the new sum was typed is in it already
            edits = self._without_sums(table, op.key, values, edits)
        altered = self._edit(table, op.key, rid, values, edits, insert=True)
        if not table.cells:  # a set's element added again: a later removal that has not seen this loses
            born = rows.metas(self.store, table, rid).get(rows.BIRTH)  # none: nobody wrote it through sync
            is_alone = born is None or born.version <= self.work.base or self.pusher.lineage.has(born.writer, born.sequence)
            self._stamp(table, rid, rows.BIRTH, self._now_stamp(self.work.wall), is_alone=is_alone)
        self._touch(table, op.key, rid, CENTRE if altered else self.pusher.inc, before)

    def _without_sums(self, table: Table, key: Key, values: Sequence[Any], edits: list[Edit]) -> list[Edit]:
        """Put on record the sums and sets among the cells of an insert, where they differ from what stands; return the others."""
        found = []
        for edit in edits:
            standing = tuple(values[table.position[name]] for name in edit.columns)
            if not policies()[table.cell_named[edit.cell].policy].differential:
                found.append(edit)
            elif not same_values(edit.new, standing):
                self._record(table, key, edit.columns, None, edit.new, standing, "edit wins", "theirs", CENTRE)
        return found

    def _beside(self, table: Table, op: Insert, rid: int, values: Sequence[Any], before: set[str]) -> None:
        """Put an insert on record that the lost history had accepted, beside a row that is not the node's (any more): only what
        adds up is added.
        """
        differential = [cell for cell in table.cells if policies()[cell.policy].differential]
        edits = [
            Edit(cell.name, cell.columns, *self._insert_values(table, cell.columns, op, values), NEVER, self.work.number, self.work.wall)
            for cell in differential
            if any(column in op.values for column in cell.columns)
        ]
        self._edit(table, op.key, rid, values, edits, insert=True)
        summed = {column for cell in differential for column in cell.columns}
        others = [name for name in op.values if name not in summed]
        if any(not same(op.values[name], values[table.position[name]]) for name in others):
            mine, theirs = tuple(op.values[name] for name in others), tuple(values[table.position[name]] for name in others)
            self._record(table, op.key, tuple(others), None, mine, theirs, conflicts.RESTORED, "theirs", CENTRE)
        self._touch(table, op.key, rid, CENTRE, before)

    def _insert_values(self, table: Table, columns: Sequence[str], op: Insert, standing: Sequence[Any]) -> tuple[Key, Key]:
        new = tuple(op.values.get(name, standing[table.position[name]]) for name in columns)
        return tuple(None for _ in columns), new

    def _new_life(self, table: Table, op: Insert) -> None:
        old = rows.grave(self.store, table, op.key)
        self._check_below(table, op, old)
        foreign = old is not None and old.writer != self.pusher.inc and old.version > self.work.base
        if old is not None and foreign and scopes.died_in(self.store, table, old.rid, self._scope(self.work.base), old.version):
            inserted = tuple(op.values.get(name) for name in table.names)
            self._record(table, op.key, (), None, inserted, old.values, "new life", "mine", old.writer)
        rid = rows.insert(self.store, table, op.values)
        now = scopes.keys_of(self.store, table, rid)
        replaced = old is not None and old.version == self.version and (table.name, op.key) in self._deleted  # given away, as an update may
        if now.isdisjoint(self._scope(self.work.base)) and not (self.approved or replaced or self._parent_left(table, op.values)):
            if self._orphaned is not None:
                raise self._orphaned
            raise Hold("right", _no_right(table, op.values), self._parent_named(table, op.values))
        if table.name not in self.store.schema.fixed:
            self._stamp(table, rid, rows.BIRTH, self._now_stamp(self.work.wall))
        scopes.touch(self.store, table, rid, self.version, self.pusher.inc, None)
        if old is not None and old.writer != self.pusher.inc:
            scopes.note(self.store, table, now, self.version, rid, CENTRE, scopes.STATE)
        self._out_of_sight(table, rid, now)

    def _check_below(self, table: Table, op: Insert, old: rows.Grave | None) -> None:
        """Check that nothing of others hangs under a key that is new, or was dead: it would come into the new row's scopes."""
        since = self.work.base if old is None else min(self.work.base, old.version - 1)
        if self.approved:
            return
        strange = below.of_others(self.store, table, op.key[0], self._scope(since), since, dead=old is not None)
        if strange is not None:
            raise Hold("key", f"rows that this node does not have belong to the {table.name} {key_text(op.key)}", strange)

    def _parents(self, table: Table, values: dict[str, Any]) -> None:
        """Make sure the parents that the scope runs through are there; a deleted one comes back (RULES H16)."""
        for rule in table.parents:
            key = values.get(rule.column)
            if scopes.is_key(key):  # what a central program wrote need not be one: nothing is called so
                self._parent(table, rule, key)

    def _parent(self, table: Table, rule: Through, key: Any) -> None:
        parent = self.store.schema.by_name[rule.table]
        if scopes.rid_of(self.store, parent, (key,)) is not None:
            return
        if rows.grave(self.store, parent, (key,)) is not None:
            self._revive(parent, (key,), CENTRE)
            self._raise_to("merged")
            return
        if fate := waits.lost(self.store, self.pusher.node, parent.name, key):
            self._orphaned = Refuse("gone", f"its {parent.name} {key} was {fate}")
            if rule.owned:
                raise self._orphaned
            return  # it outlives its parent, where it has another right to be (§6.4.4)
        raise Hold("parent", f"its {parent.name} {key} is not at the centre yet", (parent.name, key))

    def _parent_named(self, table: Table, values: dict[str, Any]) -> tuple[str | None, str | None]:
        """Return the first parent that a row names: where that goes, the row goes too."""
        named = ((rule.table, values.get(rule.column)) for rule in table.parents)
        return next(((name, key) for name, key in named if isinstance(key, str)), (None, None))

    def _parent_left(self, table: Table, values: dict[str, Any]) -> bool:
        """Tell whether a parent was in the node's scope when the row was written, and has left it since."""
        scope = self._scope(self.work.base)
        for rule in table.parents:
            parent = self.store.schema.by_name[rule.table]
            rid = scopes.rid_of(self.store, parent, (values.get(rule.column),))
            if rid is not None and scopes.left_since(self.store, parent, rid, scope, self.work.base):
                return True
        return False

    # --- updates ---------------------------------------------------------------------------------------------------

    def _update(self, op: Update) -> None:
        table = self.store.schema.by_name[op.table]
        base = min(edit.base for edit in op.edits)
        found = rows.load(self.store, table, op.key)
        revived = found is None
        if found is None:
            found = self._dead_or_unknown(table, op, base)
        rid, values = found
        before = scopes.keys_of(self.store, table, rid)
        if not revived:
            self._right(table, op.key, rid, before, base)
        for edit in op.edits:
            self._parents(table, dict(zip(edit.columns, edit.new, strict=True)))
        altered = self._edit(table, op.key, rid, values, op.edits)
        self._touch(table, op.key, rid, CENTRE if altered or revived else self.pusher.inc, before)

    def _dead_or_unknown(self, table: Table, op: Update, base: int) -> tuple[int, tuple[Any, ...]]:
        old = rows.grave(self.store, table, op.key)
        if old is None:
            if fate := waits.lost(self.store, self.pusher.node, table.name, key_text(op.key)):
                raise Refuse("gone", f"{table.name} {key_text(op.key)} was {fate} when it was new")
            raise Hold("row", f"there is no {table.name} {key_text(op.key)} at the centre", (table.name, key_text(op.key)))
        scope = self._scope(base)
        if not self.approved and not scopes.left_since(self.store, table, old.rid, scope, NEVER):
            never = f"{table.name} {key_text(op.key)} was never in this node's scope"
            raise Hold("right", never, (table.name, key_text(op.key)))
        new = tuple(edit.new for edit in op.edits)
        self._record(table, op.key, (), None, [value for part in new for value in part], None, "edit wins", "mine", old.writer)
        self._raise_to("merged")
        return self._revive(table, op.key, self.pusher.inc, recorded=True)

    def _revive(self, table: Table, key: Sequence[Any], writer: int, *, recorded: bool = False) -> tuple[int, tuple[Any, ...]]:
        """Bring a deleted row back as it was, and the parents it hung under."""
        old = rows.grave(self.store, table, key)
        assert old is not None
        self._parents(table, dict(zip(table.names, old.values, strict=True)))
        rows.open_grave(self.store, table, old.rid)
        values = dict(zip(table.names, old.values, strict=True))
        rid = rows.insert(self.store, table, values, old.rid)
        if table.name in self.store.schema.fixed:  # it is not as it was pushed: server/whole.py
            self._stamp(table, rid, rows.BIRTH, self._now_stamp(self.work.wall))
        scopes.touch(self.store, table, rid, self.version, CENTRE, None)
        if not recorded:
            self._record(table, tuple(key), (), None, old.values, None, "child keeps parent", "mine", old.writer)
        return rid, old.values

    def _edit(self, table: Table, key: Key, rid: int, values: Sequence[Any], edits: Iterable[Edit], *, insert: bool = False) -> bool:
        """Merge cells into a living row; tell whether any ended other than as pushed."""
        metas = self._metas(table, rid)
        altered = False
        now: dict[str, Any] = {}
        for pushed in edits:
            cell = table.cell_named[pushed.cell]
            number = rows.cell_number(table, cell)
            standing = tuple(now.get(name, values[table.position[name]]) for name in cell.columns)
            edit = complete(pushed, cell, standing)
            meta = metas.get(number) or metas.get(rows.BIRTH) or Meta(0, CENTRE, 0, 0, "")
            outcome = self._outcome(table, edit, standing, meta, insert)
            if outcome.conflict:
                other = self._node_of(meta.writer)
                rule = conflicts.RESTORED if self._is_in(meta) else cell.policy
                self._conflict(table, key, cell.columns, edit, standing, rule, outcome, other)
            if outcome.write:
                is_alone = True
                if policies()[cell.policy].differential:  # a sum need not be of the type of what was added
                    check_values(table, dict(zip(cell.columns, outcome.value, strict=True)))
                    is_alone = seen(meta, pushed.base, pushed.since, self.pusher.lineage, insert=insert)
                now.update(zip(cell.columns, outcome.value, strict=True))
                self._stamp(table, rid, number, outcome.stamp, is_alone=is_alone)
            added = insert and not same_values(outcome.value, edit.new)  # the node takes an insert for what it names (P-8.13)
            altered = altered or outcome.altered or added
        rows.write(self.store, table, rid, now)
        return altered

    def _is_in(self, meta: Meta) -> bool:
        """Tell whether a value that was taken from a node's copy has this transaction in it already (RULES H15)."""
        return meta.writer == FILLED and NEVER < self.work.before <= meta.sequence

    def _metas(self, table: Table, rid: int) -> dict[int, Meta]:
        """Return who wrote what. A document has no clock: the index of changes tells who wrote it last."""
        found = rows.metas(self.store, table, rid)
        if found or table.name not in self.store.schema.fixed:
            return found
        version, writer = scopes.written(self.store, table, rid)
        return {rows.BIRTH: Meta(version, writer, self.work.number, 0, "")}

    def _outcome(self, table: Table, edit: Edit, standing: Key, meta: Meta, insert: bool) -> Outcome:
        policy = policies()[table.cell_named[edit.cell].policy]
        if self._is_in(meta) and not policy.differential:
            empty = insert and all(value is None for value in edit.new)  # a new row's empty columns are nobody's word
            differs = not same_values(edit.new, standing) and not empty
            return Outcome(standing, meta.stamp, False, differs, "theirs", True, False)
        known = seen(meta, edit.base, edit.since, self.pusher.lineage, insert=insert)
        at = self._now_stamp(edit.wall)
        if edit.base == NEVER and not insert and same_values(edit.old, standing):
            known = True  # it had not been told of the cell, and shown what stands (P-11.8)
        return merge_cell(policy, edit.old, edit.new, at, self.pusher.node_id, standing, meta, known)

    # --- what all of them do -----------------------------------------------------------------------------------------

    def _scope(self, base: int) -> frozenset[str]:
        """Return what the node was entitled to at any time since `base`, and is now."""
        return scopes.entitled(self.store, self.pusher.node, max(base, 0))

    def _right(self, table: Table, key: Key, rid: int, keys: set[str], base: int) -> None:
        """Check that the row was in the node's scope when it was changed, or is now (RULES §4)."""
        if not self.approved and self._is_strange(table, rid, keys, base):
            raise Hold("right", _no_right(table, {}), (table.name, key_text(key)))

    def _is_strange(self, table: Table, rid: int, keys: set[str], base: int) -> bool:
        """Tell whether a row was never in the node's scope since it was looked at."""
        scope = self._scope(base)
        return keys.isdisjoint(scope) and not scopes.left_since(self.store, table, rid, scope, base)

    def _touch(self, table: Table, key: Key, rid: int, writer: int, before: set[str]) -> None:
        now = scopes.touch(self.store, table, rid, self.version, writer, before)
        self._out_of_sight(table, rid, now)

    def _out_of_sight(self, table: Table, rid: int, keys: set[str]) -> None:
        """Tell the pusher about a row it put out of its own scope: nobody else will (RULES H2)."""
        if keys.isdisjoint(self.pusher.scope):
            private = scopes.node_scope(self.pusher.node)
            scopes.note(self.store, table, [private], self.version, rid, CENTRE, scopes.LEAVE)

    def _now_stamp(self, wall: int) -> int:
        return wall + self.pusher.skew_ms

    def _stamp(self, table: Table, rid: int, cell: int, at: int, *, is_alone: bool = True) -> None:
        """Note that the pusher wrote a cell; nobody did where what it wrote stands together with what it had not seen: to its own
        later deletion that is still unseen.
        """
        rows.stamp(self.store, table, rid, cell, self.version, self.pusher.inc if is_alone else CENTRE, self.work.number, at)

    def _raise_to(self, verdict: str) -> None:
        order = ("accepted", "merged", "ask")
        self.verdict = max(self.verdict, verdict, key=order.index)

    def _node_of(self, writer: int) -> int:
        row = self.store.connection.execute("SELECT node FROM _incarnation WHERE inc = ?", (writer,)).fetchone()
        return int(row[0]) if row else conflicts.CENTRE_NODE

    def _conflict(
        self, table: Table, key: Key, columns: tuple[str, ...], edit: Edit, standing: Key, rule: str, outcome: Outcome, other: int
    ) -> None:
        sides = (edit.old, edit.new, standing)
        entry = Conflict(table.name, key, columns, *sides, rule, outcome.side, outcome.ask, self.pusher.node, other)
        conflicts.record(self.store, entry, self.version, self.at_ms, self.seed)
        self._raise_to("ask" if outcome.ask else "merged")

    def _record(
        self, table: Table, key: Key, columns: tuple[str, ...], base: Any, mine: Any, theirs: Any, rule: str, winner: str, writer: int
    ) -> None:
        entry = Conflict(table.name, key, columns, base, mine, theirs, rule, winner, False, self.pusher.node, self._node_of(writer))
        conflicts.record(self.store, entry, self.version, self.at_ms, self.seed)


def _no_right(table: Table, values: Mapping[str, Any]) -> str:
    """Return why a node may not write a row, in what it typed itself: whose a row is that stands is not for it to know."""
    named = [f"{rule.prefix}:{values[rule.column]}" for rule in table.scope if isinstance(rule, By) and values.get(rule.column) is not None]
    return f"this {table.name} belongs to {', '.join(sorted(named)) or 'others'}, which this node does not write for"


def bury_row(
    store: Store,
    table: Table,
    rid: int,
    values: Sequence[Any],
    version: int,
    writer: int,
    before: set[str],
    *,
    reborn: bool = False,
    moved: Collection[tuple[str, Key]] = (),
) -> None:
    """Delete a row; children that exist only through it go with it, under the rule's hand (writer `*`).

    `reborn`: the same transaction inserts the key again, so the children have a parent when it is done; `moved`: children that it
    hangs elsewhere.
    """
    key = values[: len(table.key)]
    for edge in store.schema.children[table.name]:
        if reborn or not edge.owned or not scopes.is_key(key[0]):
            continue
        for child in rows.select(store, edge.table, f"{quote(edge.column)} = ?", (key[0],)):
            if (edge.table.name, child[: len(edge.table.key)]) in moved:
                continue
            keys = before | scopes.keys_of(store, edge.table, child[-1])  # a child has every key its parent had
            bury_row(store, edge.table, child[-1], child[:-1], version, CENTRE, keys, moved=moved)
    rows.bury(store, table, rid, values, version, writer)
    scopes.bury(store, table, rid, key, version, writer, before)
