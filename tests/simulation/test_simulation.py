"""Two thousand histories: none breaks a promise, and together they meet every situation worth meeting."""

from __future__ import annotations

import os

from tests import databases
from tests.simulation.batch import Setting, run_many

SEEDS = int(os.environ.get("OUTPOST_SIM_SEEDS", "30" if databases.is_postgres() else "1000"))
"""On PostgreSQL a history takes five times as long, and most of what it tries is the same code."""

SITUATIONS = (
    *(f"conflict {rule}" for rule in ("latest", "first", "server", "max", "min", "ask", "edit wins", "child keeps parent", "new life")),
    *(f"verdict {verdict}" for verdict in ("merged", "ask", "held", "accepted", "refused")),
    *("approved", "refused by the centre", "central writes", "own transactions", "programs' transactions", "resolved", "rescoped"),
    *("lost reply push", "lost reply pull", "late reply push", "late reply pull", "cut before push", "cut before pull"),
    *("stale push", "late push", "stale page refused", "stale page applied", "stale stage"),
    *("later pages", "something between two pages", "push alongside", "sync alongside", "segments told whole"),
    *("request hangs, push", "request hangs, pull", "request twice, push", "request twice, pull"),
    *(f"cut off, {half} {kind}" for half in ("request", "reply") for kind in ("push", "pull")),
    *("crash of the node", "crash of the server", "crash while writing", "power cut", "server restarted"),
    *("disk of the node full", "disk of the server full", "node clock years wrong", "server clock wrong"),
    *("killed in _rows", "killed in _removals", "killed in redraw", "killed in mark_all", "killed in hear", "killed in release"),
    *("removed", "row regained", "row revived", "row in a new life", "row moved", "node clock wrong", "sums"),
)
"""Counted over all histories; the last eight hundred of a thousand are there so that the rare ones happen."""


COPIES = ("node put back", "node cloned", "second process", "new history", "history.forked in half an exchange")
RESTORES = (
    *("centre put back", "centre backed up", "centre restored, and said so", "conflict restored", "looked at while healing"),
    *("history.diverged in half an exchange", "stale push: history.diverged"),
)
"""The same, where nodes are copied, and where the centre is."""

UPGRADES = (
    *("centre upgraded", "node upgraded", "node upgraded before the centre", "node upgraded with unsent work"),
    *("node upgraded with held work", "node upgraded with work that is not sealed"),
    *("old node synced with newer centre", "newer node synced with older centre"),
    *("crash while the centre is upgraded", "crash while a node is upgraded"),
)
"""The same, where programs are replaced by newer ones with another declaration."""


GROWTH = ("centre forgot", "deleted rows forgotten", "too late for a part of an exchange", "late node taken in", "window set")
"""The same, where the centre forgets what is over, and nodes keep only some receipts."""


def _run(seeds: range, setting: Setting, situations: tuple[str, ...], needed: int) -> None:
    batch = run_many(seeds, setting, jobs=os.cpu_count() or 1)
    told = [f"{violation}\n    {setting.command(seed)}" for seed, violation in batch.violations]
    assert not told, f"{len(told)} of {len(seeds)} histories:\n" + "\n".join(told[:10])
    missing = [situation for situation in situations if not batch.counts[situation]]
    assert not missing or len(seeds) < needed, f"never happened: {missing}"


def test_no_history_breaks_a_promise() -> None:
    _run(range(1, SEEDS + 1), Setting(), SITUATIONS, 1000)


def test_copies_of_nodes_lose_nothing() -> None:
    _run(range(1, SEEDS // 10 + 1), Setting(faults=("base", "copy")), COPIES, 100)


def test_a_restored_centre_gets_back_what_nodes_still_have() -> None:
    _run(range(1, SEEDS // 10 + 1), Setting(faults=("base", "restore")), RESTORES, 100)


def test_upgrades_lose_nothing_and_old_and_new_agree() -> None:
    _run(range(1, SEEDS // 5 + 1), Setting(faults=("base", "schema")), UPGRADES, 100)


def test_what_is_forgotten_is_missed_by_nobody() -> None:
    _run(range(1, SEEDS // 5 + 1), Setting(faults=("base", "growth")), GROWTH, 200)


def test_all_of_it_at_once() -> None:
    everything = ("base", "disk", "clock", "copy", "restore")
    _run(range(1, SEEDS * 6 // 10 + 1), Setting(faults=everything), (*SITUATIONS[:14], *COPIES, *RESTORES), 600)
