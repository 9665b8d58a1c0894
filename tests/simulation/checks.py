"""The judge: what must hold of the centre's rows whenever they change, and of everything at the end."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from schema.images import unpack_tuple
from schema.keys import key_text
from sync.change import Delete, Insert, Op, Update
from tests.simulation.causes import RECORDS, Write, is_common
from tests.simulation.lives import Snapshot, Work
from tests.simulation.oracle import ADDS, FIXED, OWNED, Key, Rows, cells_of, cut, differences
from tests.simulation.world import Station, Violation, is_healing

if TYPE_CHECKING:
    from tests.simulation.history import History
    from tests.simulation.mishaps import KeptCentre


VERIFIED = 4
"""One history in so many asks the engine's own verify as well, which says no more than the comparison of rows, and costs more."""


class Judge:
    """Watches one history."""

    def __init__(self, world: History) -> None:
        self.world, self.causes = world, world.causes
        self.central: list[Write] = []  # what the centre wrote itself
        self.central_typed: set[Write] = set()  # the same, and its documents
        self.added: dict[tuple[str, Key, str], int] = {}  # what it added
        self.kept: dict[tuple[str, Key], set[Any]] = {}  # values of conflicts, by row
        self.buried: dict[tuple[str, Key], dict[str, Any]] = {}  # rows as they were when they died
        self.left: dict[tuple[str, Key], set[str]] = {}  # scope keys that rows had once
        self.parents: set[tuple[str, Key]] = set()  # that ever were at the centre
        self.conflict_ids: set[bytes] = set()
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
                    same = any(
                        image[name] is not None and image[name] == value for name, value in now.rows[table][key].items() if name != "id"
                    )
                    counts["row revived" if same else "row in a new life"] += 1
            for key in last.rows[table].keys() - now.rows[table].keys():
                self.buried[table, key] = last.rows[table][key]
            for key in last.keys[table].keys() & now.keys[table].keys():
                if last.keys[table][key] != now.keys[table][key]:
                    counts["row moved"] += 1
                    counts["row regained"] += bool((now.keys[table][key] - last.keys[table][key]) & self.left.get((table, key), set()))
                    self.left.setdefault((table, key), set()).update(last.keys[table][key] - now.keys[table][key])

    def _conflicts(self) -> None:
        sql = "SELECT id, tbl, key, columns, mine, theirs, rule, winner, open FROM _conflict"
        for identity, table, key, columns, mine, theirs, rule, winner, is_open in self.world.centre.execute(sql):
            if identity in self.conflict_ids:
                continue
            self.conflict_ids.add(identity)
            world = self.world
            world.counts[f"conflict {rule}"] += 1
            sides = [unpack_tuple(mine), unpack_tuple(theirs)]
            world.say("  conflict", table, key, columns, f"mine={sides[0]} theirs={sides[1]}", rule, winner)
            width = len(world.schema.by_name[table].key)
            place = (table, (key,) if width == 1 else tuple(json.loads(key)))
            self.kept.setdefault(place, set()).update(value for side in sides if side for value in side)
            self.kept[place].update(side for side in sides if side and len(side) == 2)
            self._fair(table, place[1], json.loads(columns), sides, rule, winner, bool(is_open))

    def _fair(self, table: str, key: Key, columns: list[str], sides: list[Any], rule: str, winner: str, is_open: bool) -> None:
        """Check that a conflict was one, and that its rule decided it."""
        if not columns or table not in RECORDS:
            return
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
        if not reborn and not is_common(mine.value) and not is_common(theirs.value) and theirs in self.causes.past([mine], strict=True):
            raise Violation(f"no conflict: {mine} was written in the knowledge of {theirs.value}")

    def _on_record(self, write: Write) -> bool:
        """Tell whether a value, or one written in its knowledge, is in a conflict."""
        kept = self.kept.get((write.table, write.key), set())
        if all(part in kept for part in (write.value if isinstance(write.value, tuple) else (write.value,))):
            return True
        return write in self.causes.past(write._replace(value=value) for value in kept)

    def _changed(self, table: str, key: Key, row: dict[str, Any], new: dict[str, Any]) -> None:
        for was, now in zip(self.causes.row(table, key, row), self.causes.row(table, key, new), strict=True):
            if was == now or was.value is None or was.value == (None, None):
                continue
            if not (self.causes.knew(now, was) or self._on_record(was) or self.causes.deleted_knowingly(was)):
                raise Violation(f"silently overwritten: {was} by {now.value}")

    def _vanished(self, table: str, key: Key, row: dict[str, Any]) -> None:
        self.causes.lives.add((table, key))
        for was in self.causes.row(table, key, row):
            if is_common(was.value) or self.causes.deleted_knowingly(was) or self._on_record(was):
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

    # --- at the end -----------------------------------------------------------------------------------------------------------

    def final(self) -> None:
        """Ask the last questions."""
        world = self.world
        for station in world.stations:
            self._station(station)
        works = [work for work, _ in world.works.values()]
        accepted = [op for work in works if world.verdict(work, world.head) == "done" for op in work.ops]
        for station in world.stations:
            self._rights(station)
        self._nothing_is_nowhere(works)
        self._every_write_is_somewhere(accepted)
        self._sums(accepted)
        self._documents(accepted)
        self._takings(works)

    def _station(self, station: Station) -> None:
        world, database = self.world, station.node.database
        if station.cursor != world.head:
            raise Violation(f"{station.name} rests at {station.cursor}, the centre at {world.head}")
        snapshot = world.life.snapshots[world.head]
        found = differences(station.view(), cut(snapshot.rows, snapshot.keys, world.scope_of(station.origin)))
        if is_healing(station):
            raise Violation(f"{station.name} still heals at rest")
        if found:
            raise Violation(f"{station.name} is not the centre's: " + "; ".join(found[:4]))
        if world.seed % VERIFIED == 0 and not station.node.verify():
            raise Violation(f"{station.name} does not verify")
        for table in ("_segment", "_op", "_own", "_shadow", "_txn", "_stage", "_log"):
            if database.connection.execute(f"SELECT 1 FROM {table}").fetchone():
                rows = database.connection.execute(f"SELECT * FROM {table}").fetchall()
                raise Violation(f"{station.name}: {table} is not empty: {rows[:3]}")
        self._notices(station)

    def _rights(self, station: Station) -> None:
        """Check that nothing passed that a node may not write, unless the centre approved it."""
        world = self.world
        entitled = frozenset(key for _, keys in world.life.entitled[station.origin] for key in keys)
        for work in station.works:
            if world.verdict(work, world.head) != "done" or (work.segment, work.index) in world.approved:
                continue
            for op in work.ops:
                alien = isinstance(op, Insert) and op.table in ("client", "receipt", "stock") and entitled.isdisjoint(_own_keys(op))
                alien = alien and not self._changes_its_own(work, op, entitled)
                if op.table == "ware" or alien or (op.table in FIXED and not isinstance(op, Insert)):
                    raise Violation(f"{station.name} may not write this, and it was accepted: {op}")

    def _changes_its_own(self, work: Work, op: Op, entitled: frozenset[str]) -> bool:
        """Tell whether an insert replaces a row, or meets one, that the node may change: then it may give it away."""
        if any(isinstance(other, Delete) and (other.table, other.key) == (op.table, op.key) for other in work.ops):
            return True
        done = max(version for version in self.world.life.snapshots if self.world.verdict(work, version) != "done")
        return not entitled.isdisjoint(self.world.life.snapshots[done].keys[op.table].get(op.key, ()))

    def _notices(self, station: Station) -> None:
        """Check that a node knows the conflicts of rows in its scope that its edits took part in, and no others."""
        world = self.world
        number = world.centre.execute("SELECT node FROM _node WHERE name = ?", (station.origin,)).fetchone()[0]
        sql = "SELECT id, tbl, key FROM _conflict WHERE mine_node = ? OR theirs_node = ?"
        view = station.view()
        wanted = {
            identity
            for identity, table, key in world.centre.execute(sql, (number, number))
            if any(key_text(found) == key for found in view[table])
        }
        again = {key_text(key) for _, key in self.causes.lives}  # of an earlier life of a row one may know or not
        vague = {row[0] for row in world.centre.execute("SELECT id, key FROM _conflict") if row[1] in again}
        have = {row[0] for row in station.node.database.connection.execute("SELECT id FROM _conflict")}
        if have - wanted or wanted - have - vague:
            what = "knows a conflict it should not" if have - wanted else "does not know a conflict it took part in"
            raise Violation(f"{station.name} {what}: {[identity.hex()[:8] for identity in have ^ wanted]}")

    def _nothing_is_nowhere(self, works: list[Work]) -> None:
        """Check that everything typed was sealed, and everything sealed got its verdict; what was refused is kept at its node."""
        world = self.world
        for work in works:
            verdict, name = world.verdict(work, world.head), (work.segment, work.index)
            if verdict not in ("done", "refused") and name not in world.beyond_recovery:
                raise Violation(f"a transaction is nowhere ({verdict}): {work.segment.hex()[:6]} {work.index} {work.ops[:2]}")
        sealed = {write for work in works for op in work.ops for write in self._writes(op)}
        sealed |= {Write(op.table, op.key, "", "") for work in works for op in work.ops if isinstance(op, Insert) and op.table in FIXED}
        for station in world.stations:
            known = self.causes.past(station.typed)
            for write in station.typed - sealed - known - world.beyond_recovery:
                if is_common(write.value) and write.value != "":
                    continue
                if not self.causes.deleted_knowingly(write) and (write.table, write.key) not in self.causes.lives | world.tampered:
                    raise Violation(f"typed at {station.name} and never sealed: {write}")
            aside = {(row[0], row[1]) for row in station.program.execute("SELECT segment, txn FROM _quarantine")}
            refused = {(work.segment, work.index) for work in station.works if world.verdict(work, world.head) == "refused" and work.ops}
            if refused - aside:
                raise Violation(f"{station.name} does not keep what was refused: {[name.hex()[:6] for name, _ in refused - aside]}")

    def centre_put_back(self, kept: KeptCentre) -> None:
        """Forget what the lost history had on record, and note what was in it and on no other disk."""
        world = self.world
        views = [station.view() for station in world.stations]
        seen = {
            write for view in views for table in RECORDS for key, row in view[table].items() for write in self.causes.row(table, key, row)
        }
        seen |= {Write(table, key, "", "") for view in views for table in FIXED for key in view[table]}
        lost = self.central_typed - kept.central_typed
        world.beyond_recovery.update(lost - seen)
        on_disks = {(work.segment, work.index) for station in world.stations for work in station.works}
        for name, (work, _) in world.works.items():
            if name not in on_disks and work.segment in world.life.journal and work.segment not in kept.life.journal:
                world.beyond_recovery.add(name)
                for op in work.ops:
                    world.beyond_recovery.update(self._writes(op))
                    world.beyond_recovery.add(Write(op.table, op.key, "", ""))
        self.added, self.central_typed = dict(kept.added), set(kept.central_typed)
        self.kept, self.conflict_ids, self.parents = {}, set(), set()

    def _every_write_is_somewhere(self, accepted: list[Op]) -> None:
        """Check that every accepted value is current, on record, or was overwritten or deleted by someone who knew it."""
        written = [*self.central, *(write for op in accepted for write in self._writes(op))]
        rows = self.world.life.snapshots[self.world.head].rows
        current = {write for table in RECORDS for key, row in rows[table].items() for write in self.causes.row(table, key, row)}
        past = self.causes.past(written) | self.causes.past(current)
        for write in written:
            if is_common(write.value) or write in self.world.beyond_recovery:
                continue
            if write not in current and write not in past and not self._on_record(write) and not self.causes.deleted_knowingly(write):
                raise Violation(f"lost: {write}")
        self._no_older_value_stands(written, current)

    def _writes(self, op: Op) -> list[Write]:
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

    def _no_older_value_stands(self, written: list[Write], current: set[Write]) -> None:
        standing = {(write.table, write.key, write.cell): write for write in current}
        for write in written:
            stands = standing.get((write.table, write.key, write.cell))
            if stands is None or stands == write or is_common(stands.value) or is_common(write.value):
                continue
            if (write.table, write.key) in self.causes.lives or stands in self.taken:
                continue
            if self.world.restored and (write in self.world.beyond_recovery or self._on_record(write)):
                continue  # beside what stands (RULES, what holds after a restore)
            if stands in self.causes.past([write], strict=True) and write not in self.causes.past([stands]):
                raise Violation(f"an older value stands: {stands}, though {write.value} was written in its knowledge")

    def _sums(self, accepted: list[Op]) -> None:
        """Check that every difference counts exactly once."""
        sums = dict(self.added)
        for op in accepted:
            for cell, difference in _differences(op):
                sums[op.table, op.key, cell] = sums.get((op.table, op.key, cell), 0) + difference
        rows = self.world.life.snapshots[self.world.head].rows
        for table, cell in sorted(ADDS):
            for key, row in rows[table].items():
                if (table, key) in self.causes.lives:
                    continue
                self.world.counts["sums"] += 1
                if (row[cell] or 0) != sums.get((table, key, cell), 0):
                    raise Violation(f"{table} {key} {cell} is {row[cell]}, the differences make {sums.get((table, key, cell), 0)}")

    def _takings(self, works: list[Work]) -> None:
        """Check what was sold per branch and day, to the minor unit: as it was typed, against what the centre adds up, lines as well."""
        world = self.world
        refused = {
            op.key[0] for work in works if world.verdict(work, world.head) != "done" for op in work.ops if op.table == "receipt"
        }  # nor what is nowhere: it was on no other disk than one that was overwritten, or there would have been a complaint
        left_out = refused | {key[0] for table, key in world.tampered if table == "receipt"}
        left_out |= {write.key[0] for write in world.beyond_recovery if isinstance(write, Write) and write.table == "receipt"}
        typed: Counter[tuple[str | None, str | None]] = Counter()
        for key, branch, day, total in self.sold:
            if key not in left_out:
                typed[branch, day] += total
        sql = "SELECT r.id, r.branch, r.day, r.total, (SELECT SUM(amount) FROM receipt_line l WHERE l.receipt_id = r.id) FROM receipt r"
        totals, lines = Counter[tuple[str | None, str | None]](), Counter[tuple[str | None, str | None]]()
        for key, branch, day, total, amounts in world.centre.execute(sql):
            if key not in left_out:
                totals[branch, day] += total
                lines[branch, day] += amounts
        world.counts["takings of a branch and day"] += len(typed)
        if not typed == totals == lines:
            raise Violation(f"takings per branch and day: typed {dict(typed)}, at the centre {dict(totals)}, lines {dict(lines)}")

    def _documents(self, accepted: list[Op]) -> None:
        """Check that no accepted document or event is missing or changed, unless somebody at the centre did it."""
        rows = self.world.life.snapshots[self.world.head].rows
        for op in accepted:
            if isinstance(op, Insert) and op.table in FIXED and not self._tampered(op):
                row = rows[op.table].get(op.key)
                if row is None or any(row[name] != value for name, value in op.values.items()):
                    raise Violation(f"a document is gone or changed: {op.table} {op.key} {op.values}: {row}")

    def _tampered(self, op: Insert) -> bool:
        receipt = ("receipt", (op.values.get("receipt_id"),))
        return (op.table, op.key) in self.world.tampered or receipt in self.world.tampered


def _own_keys(op: Insert) -> set[str]:
    return {f"{name}:{value}" for name in ("branch", "owner") if isinstance(value := op.values.get(name), str)}


def _differences(op: Op) -> list[tuple[str, int]]:
    cells = [cell for table, cell in sorted(ADDS) if table == op.table]
    found: list[tuple[str, Any, Any]] = []
    match op:
        case Insert():
            found = [(cell, 0, op.values.get(cell)) for cell in cells]
        case Update():
            found = [(edit.cell, edit.old[0], edit.new[0]) for edit in op.edits if edit.cell in cells]
    return [(cell, (new or 0) - (old or 0)) for cell, old, new in found]
