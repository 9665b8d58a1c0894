"""One history: a seed, a few nodes and a centre, some tens of steps, then quiet, then the last questions."""

from __future__ import annotations

import datetime as dt
import json
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from node.writer import transaction
from server import held as held_work
from server import ingest, whole
from sync.errors import BadValue, NoSuch
from tests.simulation import skew, upgrades
from tests.simulation.actors import BRANCHES, OWNERS, TABLE_SETS, Typist
from tests.simulation.checks import Judge
from tests.simulation.disk import Process
from tests.simulation.mishaps import Kept, KeptCentre, mishaps
from tests.simulation.network import Wire, exchange, killed, pull_again, push_again
from tests.simulation.oracle import FIXED, Key, Rows, without_orphans
from tests.simulation.world import SimulatedWorld, Station, Violation, pool, seeded

Gone = dict[tuple[str, Key], set[Any]]

YEAR_MS = 365 * 24 * 3600 * 1000
ROUNDS_MAX = 14
DEFAULT_FAULTS = ("base", "disk", "clock")


@dataclass
class Outcome:
    """What became of a history."""

    seed: int
    violation: str | None
    counts: Counter[str]
    trace: list[str]


class History(SimulatedWorld):
    """A world and what happens in it."""

    def __init__(
        self, seed: int, trace: bool, tables: Sequence[str], within: Path | None = None, faults: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(seed, trace, within, "schema" in faults)
        self.tables = tables
        self.mishaps = mishaps(faults)
        self.network = {"hang": 0.03, "cut off": 0.03, "twice": 0.03} if "base" in faults else {}
        self.full: set[Process] = set()  # whose disk is full
        self.kept: dict[str, list[Kept]] = {}
        self.kept_centres: list[KeptCentre] = []
        self.old_pushes: list[tuple[str, bytes]] = []
        self.old_pages: list[tuple[str, bytes]] = []
        self.used_page = False
        self.documents: set[str] = set()  # receipts ever written
        self.tampered: set[tuple[str, Key]] = set()  # documents and events that were written twice, changed or deleted
        self.approved: set[tuple[bytes, int]] = set()  # held work that the centre let pass
        self.judge = Judge(self)

    def scope(self) -> list[str]:
        """Return what a node may be entitled to."""
        random = self.random
        found = [f"branch:{name}" for name in random.sample(BRANCHES, random.choice([0, 1, 2, 2, 3]))]
        found += [f"owner:{name}" for name in random.sample(OWNERS, random.choice([0, 0, 0, 1, 2]))]
        return sorted(found) or ["branch:A"]

    def run(self) -> None:
        """Live through it. Raises Violation."""
        for index in range(self.random.choice([2, 3, 3])):
            station = self.join(f"n{index}", Wire, *self.scope())
            self.say(station.name, "joins", *sorted(self.scope_of(station.origin)))
        self.centre_writes(initial=True)
        for number in range(self.random.choice([8, 15, 25, 40])):
            self.clock.now += self.random.randrange(1, 2000)
            self.say(f"-- {number}")
            self.step()
        self.quiet()
        head, digest = self.centre.execute("SELECT head, digest FROM _server").fetchone()
        self.say("-- the centre rests at", head, digest.hex().upper())
        self.judge.final()

    def is_full(self, process: Process, error: Exception) -> bool:
        """Tell whether an error is what a full disk says."""
        return process in self.full and "full" in str(error)

    def step(self) -> None:
        random, station = self.random, self.random.choice(self.stations)
        chance = random.random()
        for mishap, odds in self.mishaps:
            chance -= odds
            if chance < 0:
                mishap(self, station)
                return
        chance = random.random()
        if chance < 0.40:
            self.user_writes(station)
        elif chance < 0.45:
            self.centre_writes()
        elif chance < 0.58:
            exchange(self, station, "push", meanwhile=self.meanwhile, **{"lose": 0.25, "cut": 0.05, "late": 0.1, **self.network})
        elif chance < 0.70:
            odds = {"lose": 0.06, "cut": 0.06, "between": 0.3, "late": 0.1, "keep_page": 0.3, **self.network}
            exchange(self, station, "pull", random.choice([10_000, 1, 2, 3]), self.meanwhile, **odds)
        elif chance < 0.83:
            rows = random.choice([10_000, 10_000, 3])
            odds = {"lose": 0.08, "cut": 0.02, "between": 0.15, "late": 0.05, "keep_page": 0.1, **self.network}
            exchange(self, station, "sync", rows, self.meanwhile, **odds)
        elif chance < 0.86:
            killed(self, station)
        elif chance < 0.885:
            self.something_old()
        elif chance < 0.91:
            self.decide()
        elif chance < 0.94:
            self.rescope(station.origin, *self.scope())
        elif chance < 0.98:
            self.resolve(station)
        else:
            self.counts["node clock wrong"] += 1
            station.node.skew[0] = random.choice([0, -YEAR_MS, YEAR_MS, 5000, -5000])
            self.say(station.name, "clock", station.node.skew[0])

    # --- writing ---------------------------------------------------------------------------------------------------------

    def user_writes(self, station: Station, ours: bool | None = None) -> None:
        """Let a program or our own code write one transaction on a node."""
        before = self.seen(station)
        scope = self.scope_of(station.origin)
        ended = [key[0] for table, key in self.causes.lives if table == "client"]
        today = day(station.process.clock_ms())
        typist = self.typist(station.file.version)(self.fresh, before, scope, self.tables, today, ended)
        statements = typist.type(self.random.choice([1, 1, 2, 3]))
        if not statements:
            return
        ours = self.random.random() < 0.4 if ours is None else ours
        self.say(station.name, "writes" if ours else "program writes", *statements)
        self.counts["own transactions" if ours else "programs' transactions"] += 1
        if ours:
            with transaction(station.node.database) as writing:
                for sql, values in statements:
                    writing.connection.execute(sql, values)
        else:
            self._as_program(station.program, statements)
        station.typed |= self.record(before, self.after(station, before, typist.ended), station.gone)
        if ours or self.random.random() < 0.3:
            self.check(station, "after writing")

    def after(self, station: Station, before: Rows, ended: Iterable[tuple[str, Key]] = ()) -> Rows:
        """Return what a node has after somebody typed there. Whoever ends a row's life and begins another, ends with it what his
        version does not know.
        """
        if not self.upgrades:
            return station.view()
        view = station.view()
        known = before
        if station.told < station.file.version and (ended or before["client"].keys() - view["client"].keys()):
            known = self.expected(station, untold=True)  # as an older program that deletes: the whole row, whatever is in it
            for key in sorted((before["client"].keys() - view["client"].keys()) & known["client"].keys()):
                self.causes.deleted([known], "client", key, {})
        for table, key in ended:
            rows = [each[table][key] for each in (before, known) if key in each[table]]
            self.causes.deletes[table, key].update(write for row in rows for write in self.causes.row(table, key, row))
        return skew.with_hidden(view, skew.without(before, ended), station.file.version)

    def typist(self, version: int, *, centre: bool = False) -> type[Typist]:
        """Return who types into a database of a version."""
        return type("Versed", (skew.SkewedTypist,), {"version": version, "centre": centre}) if self.upgrades else Typist

    def record(self, before: Rows, after: Rows, gone: Gone) -> set[Any]:
        """Take down what one person changed in one go; return the values."""
        self.causes.record(before, after, gone)
        typed = self.judge.typed(before, after)
        for table in FIXED:
            changed = [key for key, row in before[table].items() if after[table].get(key) != row]
            self.tampered.update((table, key) for key in changed)
        for key in after["receipt"].keys() - before["receipt"].keys():
            if key[0] in self.documents:
                self.tampered.add(("receipt", key))
            self.documents.add(key[0])
            row = after["receipt"][key]
            self.judge.sold.append((row["id"], row["branch"], row["day"], row["total"]))
        return typed

    @staticmethod
    def _as_program(connection: Any, statements: Sequence[tuple[str, Sequence[Any]]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for sql, values in statements:
            connection.execute(connection.in_words(sql), values)
        connection.execute("COMMIT")

    def centre_writes(self, initial: bool = False) -> None:
        """Let a central program write by plain SQL."""
        before = self.centre_rows()
        everywhere = frozenset([*(f"branch:{name}" for name in BRANCHES), *(f"owner:{name}" for name in OWNERS)])
        seen = without_orphans(before)
        typist = self.typist(self.file.version, centre=True)(self.fresh, seen, everywhere, self.tables, day(self.server_time()))
        statements = typist.type(self.random.choice([1, 1, 2]))
        if initial:
            typist.insert("ware", {"id": "W0", "name": self.fresh.text()})
            typist.new_client()
        if statements:
            self.say("centre writes", *statements)
            self._as_program(self.centre, statements)
            after = self.centre_rows()
            self.record(before, after, {})
            self.causes.lives |= typist.ended
            self.judge.centre_wrote(before, after)
            self.counts["central writes"] += 1

    # --- other things that happen ------------------------------------------------------------------------------------------

    def meanwhile(self, station: Station) -> None:
        """Do something while an exchange of a node is under way."""
        other = self.random.choice(self.stations)
        chance = self.random.random()
        self.say("  meanwhile:")
        if self.upgrades and self.random.random() < 0.05:
            upgrades.upgrade_centre(self)
        elif chance < 0.2:
            self.centre_writes()
        elif chance < 0.5:
            self.user_writes(other)
            exchange(self, other, "push") if other is not station else self._alongside(station, "push")
        elif chance < 0.7:
            self.user_writes(station)
            self._alongside(station, "push")
        elif chance < 0.8:
            self.user_writes(station)
        elif chance < 0.85:
            self._alongside(station, "sync")
        elif chance < 0.9:
            self.rescope(other.origin, *self.scope())
        elif chance < 0.95:
            self.decide()
        elif other is not station:
            exchange(self, other, "sync")
        self.say("  so much for that")

    def _alongside(self, station: Station, what: str) -> None:
        """Let a second process of the same node exchange something."""
        wire: Any = station.node.link
        kept = (wire.odds, wire.page, wire.meanwhile)
        self.counts[f"{what} alongside"] += 1
        exchange(self, station, what)
        wire.odds, wire.page, wire.meanwhile = kept

    def something_old(self) -> None:
        """Let an old push or page turn up again."""
        kinds = [kind for kind, old in (("push", self.old_pushes), ("page", self.old_pages)) if old]
        if not kinds:
            return
        if self.random.choice(kinds) == "push":
            push_again(self, *self.random.choice(self.old_pushes))
        else:
            pull_again(self, *self.old_pages.pop(self.random.randrange(len(self.old_pages))))

    def waiting(self) -> list[Any]:
        """Return the work that waits for a decision of the centre."""
        with self.database.reading() as store:
            return list(held_work.waiting(store))

    def decide(self, approve: bool | None = None) -> int:
        """Let the centre decide on some held work; return how much it decided on."""
        waiting = self.waiting()
        if not waiting:
            return 0
        held = self.random.choice(waiting)
        yes = self.random.random() < 0.6 if approve is None else approve
        self.say("centre approves" if yes else "centre refuses", held.segment.hex()[:6], held.txn, held.code)
        self.counts["approved" if yes else "refused by the centre"] += 1
        if yes:
            self.approved.add((held.segment, held.txn))
        with self.database.writing() as store:
            ingest.decide(store, held.id, yes, self.server_time())
        self.observe()
        return 1

    def rescope(self, name: str, *scope: str) -> None:
        self.say("rescope", name, *scope)
        super().rescope(name, *scope)
        self.observe()
        if self.scope_of(name) != frozenset(scope):
            self.life.entitled[name].append((self.head, frozenset(scope)))
            self.counts["rescoped"] += 1

    def resolve(self, station: Station) -> None:
        """Let a person on a node take one side of a conflict, or another value."""
        able = [other for other in [station, *self.stations] if other.node.conflicts()]
        if not able:
            return
        station = able[0]
        found = station.node.conflicts()
        conflict = skew.plain_conflict(self.random.choice(found), station.version)
        way = self.random.choice(["mine", "theirs", "theirs", "value"])
        columns = conflict["column"] if isinstance(conflict["column"], list) else [conflict["column"]]
        if way == "value" and conflict["column"] is None:
            return
        before = self.seen(station)
        self.say(station.name, "resolves", conflict["table"], conflict["key"], conflict["column"], way)
        try:
            if way == "value":
                texts = [self._text(station, conflict["table"], name) for name in columns]
                station.node.resolve(conflict["id"], None, *texts)
            else:
                station.node.resolve(conflict["id"], way)
        except (BadValue, NoSuch) as error:
            self.say("  ", error.code)
            return
        self.counts["resolved"] += 1
        after = self.after(station, before)
        station.typed |= self.record(before, after, station.gone)
        self.judge.resolved(conflict, before, after)
        self.check(station, "after resolving")

    def _text(self, station: Station, table: str, name: str) -> str:
        if name in ("high", "low"):
            return str(skew.actual_value(table, station.version, name, self.fresh.size()))
        if name == "labels":  # programs read it as a list
            return json.dumps([self.fresh.text()])
        return self.fresh.text()

    # --- the end -------------------------------------------------------------------------------------------------------------

    def quiet(self) -> None:
        """Deliver what is still on its way, decide what is held, and sync until nothing moves."""
        self.say("-- quiet")
        if self.upgrades:
            upgrades.the_rest(self)
        for name, body in self.old_pushes:
            push_again(self, name, body)
        for number in range(ROUNDS_MAX):
            moved = sum(exchange(self, station, "sync") for station in self.stations)
            decided = 0
            while (number > 1 or self.random.random() < 0.7) and self.decide(False if number > 1 else None):
                decided += 1
            if not moved and not decided and not self.waiting():
                return
        raise Violation("never quiet")


def day(at_ms: int) -> str:
    """Return the day that a clock shows."""
    return str(dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).date())


def run(
    seed: int, *, trace: bool = False, table_set: str = "all", within: Path | None = None, faults: Iterable[str] = DEFAULT_FAULTS
) -> Outcome:
    """Run one history. What the engine itself trips over is a violation too."""
    pool(within)
    with seeded(Random(seed ^ 0x5EED)), patch.object(whole, "WHOLE_ROWS_MIN", 1 if seed % 2 else whole.WHOLE_ROWS_MIN):
        world = History(seed, trace, TABLE_SETS[table_set], within, frozenset(faults))
        try:
            world.run()
            violation = None
        except Violation as error:
            violation = str(error)
        except Exception as error:
            violation = f"{type(error).__name__}: {error} ({_where(error)})"
        finally:
            world.close()
    return Outcome(seed, violation, world.counts, world.trace)


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[::-1][:6])
