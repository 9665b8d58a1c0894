"""The judge: what must hold of the centre's rows whenever they change, and of everything at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from schema.images import unpack_tuple
from sync.change import Delete, Insert, Op
from tests.simulation.causes import RECORDS, Write, is_common
from tests.simulation.final import Final
from tests.simulation.lives import Snapshot
from tests.simulation.oracle import ADDS, FIXED, OWNED, Key, Rows, cells_of, keys_of
from tests.simulation.skew import names_of, plain_name, plain_side
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.history import History
    from tests.simulation.mishaps import KeptCentre


class Judge:
    """Watches one history."""

    def __init__(self, world: History) -> None:
        self.world, self.causes = world, world.causes
        self.central: list[Write] = []  # what the centre wrote itself
        self.central_typed: set[Write] = set()  # the same, and its documents
        self.strange: set[str] = set()  # lost receipts of the centre, known only to nodes whose right to them was lost as well
        self.only_pulled: set[Write] = set()  # of these, what a lost history had and some node had pulled
        self.added: dict[tuple[str, Key, str], int] = {}  # what it added
        self.kept: dict[tuple[str, Key], set[Any]] = {}  # values of conflicts, by row
        self.buried: dict[tuple[str, Key], dict[str, Any]] = {}  # rows as they were when they died
        self.left: dict[tuple[str, Key], set[str]] = {}  # scope keys that rows had once
        self.parents: set[tuple[str, Key]] = set()  # that ever were at the centre
        self.conflict_ids: set[bytes] = set()
        self.judged: set[bytes] = set()  # conflicts of a copy the centre was put back to: some have been decided by people since
        self.sold: list[tuple[str, str | None, str | None, int]] = []  # every receipt typed: id, branch, day, total
        self.taken: set[Write] = set()  # values that a decision wrote
        world.watchers.append(self.moved)

    # --- what people do -------------------------------------------------------------------------------------------------

    def typed(self, before: Rows, after: Rows) -> set[Write]:
        """Return the values that a person changed in one go."""
        found: set[Write] = set()
        for table in RECORDS:
            for key, row in after[table].items():
                old = before[table].get(key)
                if old is not row and old != row:
                    known = set(self.causes.row(table, key, old)) if old else set()
                    found |= {write for write in self.causes.row(table, key, row) if write not in known}
        for table in FIXED:
            found |= {Write(table, key, "", "") for key in after[table].keys() - before[table].keys()}
        return found

    def centre_wrote(self, before: Rows, after: Rows) -> None:
        """Take down what the centre typed."""
        self.central_typed |= self.typed(before, after)
        for table in RECORDS:
            for key, row in after[table].items():
                old = before[table].get(key)
                if old == row:
                    continue
                known = set(self.causes.row(table, key, old)) if old else set()
                self.central += [write for write in self.causes.row(table, key, row) if write not in known]
                for cell in [cell for name, cell in ADDS if name == table]:
                    place = (table, key, cell)
                    self.added[place] = self.added.get(place, 0) + (row[cell] or 0) - ((old or {}).get(cell) or 0)

    def resolved(self, conflict: dict[str, Any], before: Rows, after: Rows) -> None:
        """Note that whoever decides has seen both sides."""
        table, key = conflict["table"], tuple(conflict["key"]) if isinstance(conflict["key"], list) else (conflict["key"],)
        row = after[table].get(key)
        if table not in RECORDS or row is None or conflict["column"] is None:
            return
        cell = "address" if isinstance(conflict["column"], list) else conflict["column"]
        if (table, cell) in ADDS or cell == "labels":
            return
        now = Write(table, key, cell, cells_of(table, row)[cell])
        self.taken.add(now)
        for side in ("mine", "theirs"):
            value = tuple(conflict[side]) if isinstance(conflict[side], list) else conflict[side]
            if value != now.value:
                self.causes.seen[now].add(Write(table, key, cell, value))

    # --- whenever the centre has a new version ------------------------------------------------------------------------------

    def moved(self, last: Snapshot, now: Snapshot) -> None:
        """Check that nothing was overwritten in silence, and that documents are whole."""
        self._conflicts()
        self._count(last, now)
        for table in RECORDS:
            for key, row in last.rows[table].items():
                new = now.rows[table].get(key)
                if new is None:
                    self._vanished(table, key, row)
                elif new != row:
                    self._changed(table, key, row, new)
        self._whole(now.rows, "the centre")
        self._no_orphans(now.rows)

    def _count(self, last: Snapshot, now: Snapshot) -> None:
        """Count what happens to rows, so that a test can tell that it did."""
        counts = self.world.counts
        for table in RECORDS:
            for key in now.rows[table].keys() - last.rows[table].keys():
                image = self.buried.get((table, key))
                if image is not None:
                    shared = set(self.causes.row(table, key, image)) & set(self.causes.row(table, key, now.rows[table][key]))
                    revived = any(not is_common(write.value) for write in shared)
                    counts["row revived" if revived else "row in a new life"] += 1
            for key in last.rows[table].keys() - now.rows[table].keys():
                self.buried[table, key] = last.rows[table][key]
            for key in last.keys[table].keys() & now.keys[table].keys():
                if last.keys[table][key] != now.keys[table][key]:
                    counts["row moved"] += 1
                    counts["row regained"] += bool((now.keys[table][key] - last.keys[table][key]) & self.left.get((table, key), set()))
                    self.left.setdefault((table, key), set()).update(last.keys[table][key] - now.keys[table][key])

    def _conflicts(self) -> None:
        sql = "SELECT id, tbl, key, columns, mine, theirs, rule, winner, open, decided_ms FROM _conflict"
        for identity, table, key, columns, mine, theirs, rule, winner, is_open, decided_ms in self.world.centre.execute(sql):
            if identity in self.conflict_ids:
                continue
            self.conflict_ids.add(identity)
            world = self.world
            world.counts[f"conflict {rule}"] += 1
            names = names_of(world.version, table, json.loads(columns))
            sides = [plain_side(table, world.version, names, unpack_tuple(side)) for side in (mine, theirs)]
            world.say("  conflict", table, key, columns, f"mine={sides[0]} theirs={sides[1]}", rule, winner)
            width = len(world.schema.by_name[table].key)
            place = (table, (key,) if width == 1 else tuple(json.loads(key)))
            self.kept.setdefault(place, set()).update(value for side in sides if side for value in side)
            self.kept[place].update(side for side in sides if side and len(side) == 2)
            if identity not in self.judged and decided_ms is None:  # else a person has decided it in the same push
                self._fair(table, place[1], [plain_name(table, name) for name in json.loads(columns)], sides, rule, winner, bool(is_open))

    def _fair(self, table: str, key: Key, columns: list[str], sides: list[Any], rule: str, winner: str, is_open: bool) -> None:
        """Check that a conflict was one, and that its rule decided it."""
        if not columns or table not in RECORDS or None in sides:
            return  # of a whole row; or of a row that is not there: what a cell of it held was on record before a restore
        cell = "address" if len(columns) > 1 else columns[0]
        mine, theirs = (Write(table, key, cell, side if len(side) > 1 else side[0]) for side in sides)
        best = {"max": max, "min": min}.get(rule)
        if (
            best
            and None not in (mine.value, theirs.value)
            and best(mine.value, theirs.value) != (mine if winner == "mine" else theirs).value
        ):
            raise Violation(f"{rule} of {mine} and {theirs.value} is not {winner}")
        if rule in ("ask", "server") and winner != "theirs":
            raise Violation(f"{rule} let {mine} win")
        if is_open != (rule == "ask"):
            raise Violation(f"{rule}: open={is_open} {mine}")
        reborn = (table, key) in self.causes.lives  # an insert over a deletion knows only what the deletion knew (RULES H10)
        if theirs in self.taken:
            return  # written a second time, by who decided: `mine` need not know of that
        if self.world.restored:
            return  # a restore leaves orders that nobody can tell: a doubt too many is no loss (RULES, introduction)
        if reborn or is_common(mine.value) or is_common(theirs.value):
            return
        if theirs in self.causes.past([mine], strict=True, twice=self.taken):
            raise Violation(f"no conflict: {mine} was written in the knowledge of {theirs.value}")

    def on_record(self, write: Write) -> bool:
        """Tell whether a value, or one written in its knowledge, is in a conflict."""
        kept = self.kept.get((write.table, write.key), set())
        if all(part in kept for part in (write.value if isinstance(write.value, tuple) else (write.value,))):
            return True
        return write in self.causes.past(write._replace(value=value) for value in kept)

    def _changed(self, table: str, key: Key, row: dict[str, Any], new: dict[str, Any]) -> None:
        for was, now in zip(self.causes.row(table, key, row), self.causes.row(table, key, new), strict=True):
            if was == now or was.value is None or was.value == (None, None):
                continue
            if not (self.causes.knew(now, was) or self.on_record(was) or self.causes.deleted_knowingly(was)):
                raise Violation(f"silently overwritten: {was} by {now.value}")

    def _vanished(self, table: str, key: Key, row: dict[str, Any]) -> None:
        self.causes.lives.add((table, key))
        for was in self.causes.row(table, key, row):
            if is_common(was.value) or self.causes.deleted_knowingly(was) or self.on_record(was):
                continue
            raise Violation(f"silently deleted: {was}")

    def _whole(self, rows: Rows, where: str) -> None:
        """Check that every sale has all of its lines."""
        totals: dict[str, int] = {}
        for row in rows["receipt_line"].values():
            totals[row["receipt_id"]] = totals.get(row["receipt_id"], 0) + row["amount"]
        for key, row in rows["receipt"].items():
            if ("receipt", key) not in self.world.tampered and totals.get(key[0], 0) != row["total"]:
                raise Violation(f"half a sale at {where}: {row}, lines {totals.get(key[0], 0)}")

    def _no_orphans(self, rows: Rows) -> None:
        for parent, children in OWNED.items():
            self.parents |= {(parent, key) for key in rows[parent]}
            for child, column in children:
                for key, row in rows[child].items():
                    if row[column] is not None and (row[column],) not in rows[parent] and (parent, (row[column],)) in self.parents:
                        raise Violation(f"orphan at the centre: {child} {key} of {parent} {row[column]}")

    def writes(self, op: Op) -> list[Write]:
        if op.table not in RECORDS or isinstance(op, Delete):
            return []
        if isinstance(op, Insert):
            row = {name: op.values.get(name) for name in self.world.schema.by_name[op.table].names}
            return self.causes.row(op.table, op.key, row)
        return [
            Write(op.table, op.key, edit.cell, edit.new if len(edit.new) > 1 else edit.new[0])
            for edit in op.edits
            if (op.table, edit.cell) not in ADDS and edit.cell != "labels"
        ]

    def centre_put_back(self, kept: KeptCentre) -> None:
        """Forget what the lost history had on record, and note what was in it and on no other disk."""
        world = self.world
        seen = self.standing_in([station.view() for station in world.stations])
        lost = (self.central_typed | set(self.central)) - kept.central_typed
        world.beyond_recovery.update(lost - seen)
        self.only_pulled |= lost & seen
        mine = {key for station in world.stations for key in self._entitled(station.view(), kept.life.entitled.get(station.origin, []))}
        self.strange |= {write.key[0] for write in lost & seen if write.table == "receipt" and write.key not in mine}
        on_disks = {(work.segment, work.index) for station in world.stations for work in station.works}
        for name, (work, _) in world.works.items():
            if name not in on_disks and work.segment in world.life.journal and work.segment not in kept.life.journal:
                world.beyond_recovery.add(name)
                for op in work.ops:
                    world.beyond_recovery.update(self.writes(op))
                    world.beyond_recovery.add(Write(op.table, op.key, "", ""))
        self.added, self.central_typed = dict(kept.added), set(kept.central_typed)
        self.kept, self.conflict_ids, self.judged, self.parents = {}, set(), set(kept.judged), set()

    @staticmethod
    def _entitled(view: Rows, entitled: Sequence[tuple[int, frozenset[str]]]) -> set[Key]:
        """Return the receipts in view that a node was entitled to at some time."""
        scope = {key for _, keys in entitled for key in keys}
        return {key for key, row in view["receipt"].items() if not scope.isdisjoint(keys_of(view, "receipt", row))}

    def only_on_record(self) -> set[str]:
        """Return the receipts that came with pages of a node that this life of the centre never entitled to them: on record, and
        not in the books ([P-7.23], [P-7.24]).
        """
        return {key for key in self.strange if ("receipt", (key,)) in self.kept}

    def standing_in(self, views: Iterable[Rows]) -> set[Write]:
        """Return the writes that stand in rows."""
        found = {
            write for rows in views for table in RECORDS for key, row in rows[table].items() for write in self.causes.row(table, key, row)
        }
        return found | {Write(table, key, "", "") for rows in views for table in FIXED for key in rows[table]}

    def node_put_back(self, before: Rows, dropped: set[Write]) -> None:
        """Note which of the centre's own writes, lost with its history, were on no other disk than this one: in rows, or in columns
        that an upgrade has dropped from them, with the pages that brought them.
        """
        lost = self.only_pulled & (self.standing_in([before]) | dropped)
        if lost:
            lost -= self.standing_in([self.world.centre_rows(), *(station.view() for station in self.world.stations)])
            self.world.beyond_recovery.update(write for write in lost if not self.on_record(write))

    def final(self) -> None:
        """Ask the last questions."""
        self._conflicts()  # a centre that was put back and had nothing to do since shows no new version
        Final(self).ask()
