"""A thousand histories: none breaks a promise, and together they meet every situation worth meeting."""

from __future__ import annotations

import os

from tests.simulation.batch import Setting, run_many

SEEDS = int(os.environ.get("OUTPOST_SIM_SEEDS", "1000"))

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


def test_no_history_breaks_a_promise() -> None:
    setting = Setting()
    batch = run_many(range(1, SEEDS + 1), setting, jobs=os.cpu_count() or 1)
    told = [f"{violation}\n    {setting.command(seed)}" for seed, violation in batch.violations]
    assert not told, f"{len(told)} of {SEEDS} histories:\n" + "\n".join(told[:10])
    missing = [situation for situation in SITUATIONS if not batch.counts[situation]]
    assert not missing or SEEDS < 1000, f"never happened: {missing}"
