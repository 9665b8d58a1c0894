"""Histories of held work: much of what is typed may not pass, and everybody corrects, withdraws, approves, refuses and hands it on.

All promises of the simulator are checked as ever (checks.py). At the end besides: every transaction has come to an end that can
be told (`Ends`), and what was not applied is kept where it can be found.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from node import held
from server import held as held_work
from server import ingest
from sync.errors import BadValue
from tests.simulation.actors import BRANCHES, Typist
from tests.simulation.history import History
from tests.simulation.network import exchange
from tests.simulation.world import Station, Violation


class HeldHistory(History):
    """A history in which most work is held at first."""

    def step(self) -> None:
        random, station = self.random, self.random.choice(self.stations)
        chance = random.random()
        if 0.25 <= chance < 0.6:  # whoever has something held
            station = next((other for other in [station, *self.stations] if other.node.held()), station)
        if chance < 0.13:
            self.user_writes(station)
        elif chance < 0.25:
            self.writes_what_it_may_not(station)
        elif chance < 0.41:
            self.corrects(station)
        elif chance < 0.47:
            self.deletes_held(station)
        elif chance < 0.54:
            self.withdraws(station)
        elif chance < 0.6:
            self.sends_again()
        elif chance < 0.76:
            exchange(self, station, "sync", random.choice([10_000, 3]), self.meanwhile, lose=0.1, cut=0.05, late=0.1)
        elif chance < 0.83:
            exchange(self, station, random.choice(["push", "pull"]), 10_000, self.meanwhile, lose=0.15, late=0.15)
        elif chance < 0.92:
            self.decide(random.random() < 0.4)
        elif chance < 0.96:
            self.centre_takes_in_hand()
        elif chance < 0.98:
            self.rescope(station.name, *self.scope())
        else:
            self.centre_writes()

    def quiet(self) -> None:
        """Come to rest; most is refused only now, and somebody sends some of it again: then that must come to rest as well."""
        super().quiet()
        for _ in range(3):
            self.sends_again()
        super().quiet()

    # --- people on nodes --------------------------------------------------------------------------------------------------

    def writes_what_it_may_not(self, station: Station) -> None:
        """Write what will be held, and something that hangs under it."""
        before = station.view()
        typist = Typist(self.fresh, before, self.scope_of(station.name), self.tables)
        typist.forbidden()
        key, other = f"C{self.fresh.number()}", self.random.choice(BRANCHES)
        typist.insert("client", {"id": key, **typist._client(), "branch": other, "owner": None})
        self._type(station, typist.statements)
        self._type(
            station, [("INSERT INTO visit (id, client_id, topic) VALUES (?, ?, ?)", [f"V{self.fresh.number()}", key, self.fresh.text()])]
        )
        self.counts["wrote what it may not"] += 1

    def _type(self, station: Station, statements: list[Any]) -> None:
        before = station.view()
        self.say(station.name, "program writes", *statements)
        self._as_program(station.program, statements)
        station.typed |= self.record(before, station.view(), station.gone)

    def _held_rows(self, station: Station, table: str, verdict: str = "held") -> list[dict[str, Any]]:
        view = station.view()[table]
        found = [each for each in station.node.held() if each["table"] == table and each["verdict"] == verdict]
        return [each for each in found if verdict != "held" or (each["key"],) in view]

    def corrects(self, station: Station) -> None:
        """Set right what is held, by plain SQL or by command."""
        rows = self._held_rows(station, "client") or self._held_rows(station, "receipt")
        branch = self._own_branch(station)
        if not rows:
            return
        row = self.random.choice(rows)
        value = branch if self.random.random() < 0.7 else self.random.choice(BRANCHES)
        self.say(station.name, "corrects", row["id"], row["table"], row["key"], "branch", value, row["code"])
        self.counts["corrected"] += 1
        before = station.view()
        if self.random.random() < 0.5:
            with suppress(BadValue):  # it is being withdrawn
                held.correct(station.node.database, row["id"], [f"branch={value}"], f"{row['table']}:{row['key']}")
            station.typed |= self.record(before, station.view(), station.gone)
        else:
            more = f", name = '{self.fresh.text()}', points = COALESCE(points, 0) + 3" if row["table"] == "client" else ""
            self._type(station, [(f"UPDATE {row['table']} SET branch = ?{more} WHERE id = ?", [value, row["key"]])])
        self.check(station, "after correcting")

    def _own_branch(self, station: Station) -> str | None:
        own = sorted(key[7:] for key in self.scope_of(station.name) if key.startswith("branch:"))
        return self.random.choice(own) if own else None

    def deletes_held(self, station: Station) -> None:
        """Delete a row that is only held."""
        rows = self._held_rows(station, self.random.choice(["client", "visit", "receipt"]))
        if rows:
            row = self.random.choice(rows)
            self.counts["deleted what is held"] += 1
            self._type(station, [(f"DELETE FROM {row['table']} WHERE id = ?", [row["key"]])])

    def withdraws(self, station: Station) -> None:
        found = [each for each in station.node.held() if each["verdict"] == "held"]
        if found:
            identity = self.random.choice(found)["id"]
            try:
                held.withdraw(station.node.database, identity)
            except BadValue:  # its correction is on its way
                self.counts["could not be withdrawn"] += 1
                return
            self.say(station.name, "withdraws", identity)
            self.counts["withdrawn by a node"] += 1
            self.check(station, "after withdrawing")

    def sends_again(self) -> None:
        """Write refused work anew, corrected, wherever there is some."""
        found = [
            (station, each)
            for station in self.stations
            for each in station.node.held()
            if each["verdict"] == "refused" and each["table"] == "client" and each["change"] == "insert"
        ]
        if not found:
            return
        station, row = self.random.choice(found)
        branch, before = self._own_branch(station), station.view()
        if branch is None:
            return
        try:
            held.correct(station.node.database, row["id"], [f"branch={branch}"], f"client:{row['key']}")
        except BadValue:
            self.counts["could not be sent again"] += 1
            return
        self.say(station.name, "sends again", row["id"])
        self.counts["sent again"] += 1
        station.typed |= self.record(before, station.view(), station.gone)
        self.causes.lives.add(("client", (row["key"],)))

    # --- people at the centre ----------------------------------------------------------------------------------------------

    def centre_takes_in_hand(self) -> None:
        with self.database.reading() as store:
            waiting = held_work.waiting(store)
        if not waiting:
            return
        one = self.random.choice(waiting)
        with self.database.writing() as store:
            if self.random.random() < 0.5:
                self.counts["withdrawn by the centre"] += 1
                assert ingest.withdraw(store, one.id, "not ours", self.clock.read())
            else:
                self.counts["handed on"] += 1
                assert ingest.hand_over(store, one.id, "Anna", self.fresh.text(), self.clock.read())
        self.say("centre takes in hand", one.id, one.segment.hex()[:6], one.txn)
        self.observe()

    # --- the end ------------------------------------------------------------------------------------------------------------

    def ends(self) -> None:
        """Check that everything has come to an end, and that what was not applied is kept."""
        with self.database.reading() as store:
            assert held_work.waiting(store) == []
        for station in self.stations:
            kept = set(station.node.database.connection.execute("SELECT segment, txn, tbl, key FROM _quarantine").fetchall())
            names = {entry[:2] for entry in kept}
            for work in station.works:
                name, verdict = (work.segment, work.index), self.verdict(work, self.head)
                if verdict not in ("done", "refused"):
                    raise Violation(f"{station.name}: {work} is {verdict} at the end")
                self.counts[f"ended {'replaced' if name in self.life.replaced else verdict}"] += 1
                if work.ops and (verdict == "refused" or name in self.life.replaced) and name not in names:
                    raise Violation(f"{station.name}: {work} was not applied, and is not kept")


def run_held(seed: int, trace: bool = False) -> tuple[Any, str | None]:
    """Run one history of held work; return it and what went wrong."""
    from random import Random

    from tests.simulation.world import pool, seeded

    pool(None)
    with seeded(Random(seed ^ 0xE1D)):
        world = HeldHistory(seed, trace, ())
        try:
            world.run()
            world.ends()
            return world, None
        except Violation as error:
            return world, f"seed {seed}: {error}"
        finally:
            world.close()
