"""The last questions: what must hold of everything when all is quiet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from schema.keys import key_text
from server import windows
from sync.change import Delete, Insert, Op, Update
from tests.simulation.causes import RECORDS, Write, is_common
from tests.simulation.lives import Work
from tests.simulation.oracle import ADDS, FIXED, UNIONS, cut, differences, replay
from tests.simulation.skew import is_all_dropped, knows_any
from tests.simulation.world import Station, Violation, inside, is_healing

if TYPE_CHECKING:
    from tests.simulation.checks import Judge

VERIFIED = 4
"""One history in so many asks the engine's own verify as well, which says no more than the comparison of rows, and costs more."""


class Final:
    """Looks at one history at its end."""

    def __init__(self, judge: Judge) -> None:
        self.judge, self.world, self.causes = judge, judge.world, judge.causes

    def ask(self) -> None:
        """Ask the last questions."""
        world = self.world
        for station in world.stations:
            self._station(station)
        works = [work for work, _ in world.works.values()]
        accepted = [op for work in works if world.verdict(work, world.head) == "done" for op in work.ops]
        refused = [op for work in works if world.verdict(work, world.head) == "refused" for op in work.ops]
        for station in world.stations:
            self._rights(station)
        self._nothing_is_nowhere(works)
        self._every_write_is_somewhere(accepted)
        self._no_older_value_stands(accepted, refused)
        self._sums(accepted)
        self._documents(accepted)
        self._takings(works)

    def _station(self, station: Station) -> None:
        world, database = self.world, station.node.database
        if station.cursor != world.head:
            raise Violation(f"{station.name} rests at {station.cursor}, the centre at {world.head}")
        snapshot = world.life.snapshots[world.head]
        known = cut(snapshot.rows, snapshot.keys, world.scope_of(station.origin))
        (days,) = world.centre.execute("SELECT keep_days FROM _node WHERE name = ?", (station.origin,)).fetchone()
        known = inside(known, windows.edge(days, world.server_time())) if days else known
        found = differences(station.view(), world.shown(station, known))
        if is_healing(station):
            raise Violation(f"{station.name} still heals at rest")
        if found:
            raise Violation(f"{station.name} is not the centre's: " + "; ".join(found[:4]))
        if world.seed % VERIFIED == 0 and not station.node.verify():
            raise Violation(f"{station.name} does not verify")
        for table in ("_segment", "_op", "_own", "_shadow", "_txn", "_stage", "_log", "_withdrawal"):
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
            for op in self._judged(station, work):
                alien = isinstance(op, Insert) and op.table in ("client", "receipt", "stock") and entitled.isdisjoint(_own_keys(op))
                alien = alien and not (self._changes_its_own(station, work, op, entitled) or self._is_beside(work, op))
                fixed = op.table in FIXED and not isinstance(op, Insert) and not self._takes_back(op)
                if op.table == "ware" or alien or fixed:
                    raise Violation(f"{station.name} may not write this, and it was accepted: {op}")

    def _takes_back(self, op: Op) -> bool:
        """Tell whether an op deletes what never was at the centre: its insert was refused, and nothing comes of it ([P-6.26])."""
        return isinstance(op, Delete) and all(op.key not in each.rows[op.table] for each in self.world.life.snapshots.values())

    def _judged(self, station: Station, work: Work) -> Sequence[Op]:
        """Return what the centre judged under a transaction's name: with a correction what it took the place of."""
        replaced = self.world.life.replaced
        name = (work.segment, work.index)
        if name in replaced:
            return ()
        before = [op for other in station.works if replaced.get((other.segment, other.index), (0, None))[1] == name for op in other.ops]
        if not before:
            return work.ops
        new = {(op.table, op.key) for op in (*before, *work.ops) if isinstance(op, Insert)}
        rows = replay({table: {} for table in self.world.schema.by_name}, self.world.schema, [*before, *work.ops])
        born = [Insert(table, key, row) for table, found in rows.items() for key, row in found.items() if (table, key) in new]
        return [*born, *(op for op in (*before, *work.ops) if (op.table, op.key) not in new)]

    def _changes_its_own(self, station: Station, work: Work, op: Op, entitled: frozenset[str]) -> bool:
        """Tell whether an insert replaces a row, or meets one, that the node may change: then it may give it away."""
        if any(isinstance(other, Delete) and (other.table, other.key) == (op.table, op.key) for other in work.ops):
            return True
        snapshots, last = self.world.life.snapshots, self._until(work)
        # what a central program wrote is journaled by the very request that brings the work: the row is in no snapshot before
        around = (last, min(version for version in snapshots if version > last))
        if any(not entitled.isdisjoint(snapshots[version].keys[op.table].get(op.key, ())) for version in around):
            return True
        # nor is one in between that the same request had brought, and whose deletion lost
        same = [other for other in station.works[: station.works.index(work)] if self.world.verdict(other, around[1]) == "done"]
        born = [each for other in same if self._until(other) == last for each in other.ops if isinstance(each, Insert)]
        return any((each.table, each.key) == (op.table, op.key) and not entitled.isdisjoint(_own_keys(each)) for each in born)

    def _until(self, work: Work) -> int:
        """Return the last version at which work was not in."""
        return max(version for version in self.world.life.snapshots if self.world.verdict(work, version) != "done")

    def _is_beside(self, work: Work, op: Op) -> bool:
        """Tell whether an insert came again and met the row, which another had brought back: it is put on record beside that, and
        only differences and sets take it in ([P-7.26]).
        """
        snapshots, last = self.world.life.snapshots, self._until(work)
        was = snapshots[last].rows[op.table].get(op.key)
        now = snapshots[min(version for version in snapshots if version > last)].rows[op.table].get(op.key)
        if not self.world.restored or was is None or now is None:
            return False
        return all(was[name] == now[name] for name in was if (op.table, name) not in ADDS | UNIONS)

    def _notices(self, station: Station) -> None:
        """Check that a node knows the conflicts of rows and cells it has that its edits took part in, and no others."""
        world = self.world
        number = world.centre.execute("SELECT node FROM _node WHERE name = ?", (station.origin,)).fetchone()[0]
        sql = "SELECT id, tbl, key, columns FROM _conflict WHERE mine_node = ? OR theirs_node = ?"
        view = station.view()
        wanted = {
            identity
            for identity, table, key, columns in world.centre.execute(sql, (number, number))
            if any(key_text(found) == key for found in view[table]) and knows_any(station.version, table, json.loads(columns))
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
        sealed = {write for work in works for op in work.ops for write in self.judge.writes(op)}
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
            dropped = {(work.segment, work.index) for work in station.works if is_all_dropped(work.ops, station.version)}
            world.counts["refused work on dropped columns, in the journal alone"] += len((refused & dropped) - aside)
            if refused - aside - dropped:
                raise Violation(f"{station.name} does not keep what was refused: {[name.hex()[:6] for name, _ in refused - aside]}")

    def _every_write_is_somewhere(self, accepted: list[Op]) -> None:
        """Check that every accepted value is current, on record, or was overwritten or deleted by someone who knew it."""
        written = [*self.judge.central, *(write for op in accepted for write in self.judge.writes(op))]
        current = self._current()
        past = self.causes.past(written) | self.causes.past(current)
        for write in written:
            if is_common(write.value) or write in self.world.beyond_recovery:
                continue
            if write not in current and write not in past and not self.judge.on_record(write) and not self.causes.deleted_knowingly(write):
                raise Violation(f"lost: {write}")

    def _no_older_value_stands(self, accepted: list[Op], refused: list[Op]) -> None:
        """Check that nothing stands which an accepted write knew of and replaced."""
        written = [*self.judge.central, *(write for op in accepted for write in self.judge.writes(op))]
        in_vain = self.judge.taken & {write for op in refused for write in self.judge.writes(op)}
        standing = {(write.table, write.key, write.cell): write for write in self._current()}
        for write in written:
            stands = standing.get((write.table, write.key, write.cell))
            if stands is None or stands == write or is_common(stands.value) or is_common(write.value):
                continue
            if (write.table, write.key) in self.causes.lives or stands in self.judge.taken:
                continue
            if write in in_vain:
                continue  # who decided for it saw what stands, and was refused; who had typed it first did not see that
            if self.world.copied and write in self.judge.taken:
                continue  # who decided for it saw what stands; that decision may have gone with a disk, and what was typed first not
            if self.world.restored and (write in self.world.beyond_recovery or self.judge.on_record(write)):
                continue  # beside what stands (RULES, what holds after a restore)
            if stands in self.causes.past([write], strict=True) and write not in self.causes.past([stands]):
                raise Violation(f"an older value stands: {stands}, though {write.value} was written in its knowledge")

    def _current(self) -> set[Write]:
        rows = self.world.life.snapshots[self.world.head].rows
        return {write for table in RECORDS for key, row in rows[table].items() for write in self.causes.row(table, key, row)}

    def _sums(self, accepted: list[Op]) -> None:
        """Check that every difference counts exactly once."""
        sums = dict(self.judge.added)
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
        left_out |= self.judge.only_on_record()
        left_out |= {write.key[0] for write in world.beyond_recovery if isinstance(write, Write) and write.table == "receipt"}
        typed: Counter[tuple[str | None, str | None]] = Counter()
        for key, branch, day, total in self.judge.sold:
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
