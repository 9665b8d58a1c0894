"""The vectors of merges: one cell, and what was seen (PROTOCOL.md §6.4)."""

from __future__ import annotations

from typing import Any

from sync.change import NEVER
from sync.values import Value
from tests.vectors.making.shown import value_json

EARLY, LATE = 100, 200
MINE, THEIRS, NEITHER = "mine", "theirs", ""
"""What becomes of a cell: `mine` and `theirs` are conflicts with that winner, `""` is none."""

Case = tuple[str, str, list[Value], list[Value], list[Value], int, int, bool, list[Value], int, str, bool]

MERGES: list[Case] = [
    # name, policy, old, new, standing, own stamp, old stamp, seen → value, stamp, conflict won by, asks
    ("seen: the later write stands", "latest", ["a"], ["b"], ["a"], LATE, EARLY, True, ["b"], LATE, NEITHER, False),
    ("seen: a clock that is behind", "latest", ["a"], ["b"], ["a"], EARLY, LATE, True, ["b"], LATE + 1, NEITHER, False),
    ("seen under server", "server", ["a"], ["b"], ["a"], LATE, EARLY, True, ["b"], LATE, NEITHER, False),
    ("seen under ask", "ask", ["a"], ["b"], ["a"], LATE, EARLY, True, ["b"], LATE, NEITHER, False),
    ("seen under first", "first", ["a"], ["b"], ["a"], LATE, EARLY, True, ["b"], LATE, NEITHER, False),
    ("seen under max", "max", [9], [3], [9], LATE, EARLY, True, [3], LATE, NEITHER, False),
    ("seen under min", "min", [3], [9], [3], LATE, EARLY, True, [9], LATE, NEITHER, False),
    ("seen under add", "add", [5], [7], [5], LATE, EARLY, True, [7], LATE, NEITHER, False),
    ("seen under union", "union", ['["a"]'], ['["b"]'], ['["a"]'], LATE, EARLY, True, ['["b"]'], LATE, NEITHER, False),
    ("equal, unseen", "latest", ["a"], ["b"], ["b"], EARLY, LATE, False, ["b"], LATE, NEITHER, False),
    ("equal, unseen, under ask", "ask", ["a"], ["b"], ["b"], LATE, EARLY, False, ["b"], LATE, NEITHER, False),
    ("1 is not 1.0, but nobody is asked", "ask", [0], [1], [1.0], LATE, EARLY, False, [1.0], EARLY, THEIRS, False),
    ("NULL is not ''", "server", ["a"], [None], [""], LATE, EARLY, False, [""], EARLY, THEIRS, False),
    ("latest: mine is later", "latest", ["a"], ["b"], ["c"], LATE, EARLY, False, ["b"], LATE, MINE, False),
    ("latest: theirs is later", "latest", ["a"], ["b"], ["c"], EARLY, LATE, False, ["c"], LATE, THEIRS, False),
    ("latest: a tie, the greater node", "latest", ["a"], ["b"], ["c"], EARLY, EARLY, False, ["b"], EARLY, MINE, False),
    ("latest: clearing is an edit", "latest", ["a"], [None], ["c"], LATE, EARLY, False, [None], LATE, MINE, False),
    ("latest: a group is one", "latest", ["a", 1], ["b", 1], ["a", 2], LATE, EARLY, False, ["b", 1], LATE, MINE, False),
    ("latest: a group in part equal", "latest", ["a", 1], ["b", 2], ["b", 3], EARLY, LATE, False, ["b", 3], LATE, THEIRS, False),
    ("first: mine is earlier", "first", ["a"], ["b"], ["c"], EARLY, LATE, False, ["b"], EARLY, MINE, False),
    ("first: theirs is earlier", "first", ["a"], ["b"], ["c"], LATE, EARLY, False, ["c"], EARLY, THEIRS, False),
    ("first: a tie, the smaller node", "first", ["a"], ["b"], ["c"], EARLY, EARLY, False, ["c"], EARLY, THEIRS, False),
    ("server: what stands", "server", ["a"], ["b"], ["c"], LATE, EARLY, False, ["c"], EARLY, THEIRS, False),
    ("ask: what stands, and a person", "ask", ["a"], ["b"], ["c"], LATE, EARLY, False, ["c"], EARLY, THEIRS, True),
    ("max: mine", "max", [1], [9], [5], EARLY, LATE, False, [9], EARLY, MINE, False),
    ("max: theirs", "max", [1], [5], [9], LATE, EARLY, False, [9], EARLY, THEIRS, False),
    ("max: NULL is the least", "max", [1], [None], [-5], LATE, EARLY, False, [-5], EARLY, THEIRS, False),
    ("max: text above numbers", "max", [1], ["0"], [9], EARLY, LATE, False, ["0"], EARLY, MINE, False),
    ("max: 2 and 2.0, the later", "max", [1], [2], [2.0], LATE, EARLY, False, [2], LATE, MINE, False),
    ("min: mine", "min", [9], [1], [5], EARLY, LATE, False, [1], EARLY, MINE, False),
    ("min: theirs", "min", [9], [5], [1], LATE, EARLY, False, [1], EARLY, THEIRS, False),
    ("min: NULL never wins", "min", [9], [None], [5], LATE, EARLY, False, [5], EARLY, THEIRS, False),
    ("add: both count", "add", [10], [9], [8], EARLY, LATE, False, [7], LATE + 1, NEITHER, False),
    ("add: equal values are two sales", "add", [10], [9], [9], LATE, EARLY, False, [8], LATE, NEITHER, False),
    ("add: NULL is 0", "add", [None], [3], [4], LATE, EARLY, False, [7], LATE, NEITHER, False),
    ("add: nothing added", "add", [5], [5], [8], LATE, EARLY, False, [8], LATE, NEITHER, False),
    ("add: beyond 64 bits", "add", [0], [2**62], [2**63 - 1], LATE, EARLY, False, [2**63 - 1], EARLY, THEIRS, True),
    ("add: not a number", "add", [1], [2], ["x"], LATE, EARLY, False, ["x"], EARLY, THEIRS, True),
    (
        "union: both additions",
        "union",
        ['["a"]'],
        ['["a","b"]'],
        ['["a","c"]'],
        LATE,
        EARLY,
        False,
        ['["a","b","c"]'],
        LATE,
        NEITHER,
        False,
    ),
    ("union: a removal", "union", ['["a","b"]'], ['["b"]'], ['["a","b","c"]'], LATE, EARLY, False, ['["b","c"]'], LATE, NEITHER, False),
    ("union: adding wins", "union", ["[]"], ['["a"]'], [None], LATE, EARLY, False, ['["a"]'], LATE, NEITHER, False),
    ("union: not a text", "union", ['["a"]'], ['["b"]'], [b"x"], LATE, EARLY, False, [b"x"], EARLY, THEIRS, True),
]

SEEN: list[tuple[str, int, int, bool, int, int, bool]] = [
    # name, version, own number of what stands, in the lineage; base, since → seen
    ("older than the base", 5, 1, False, 5, 9, True),
    ("newer than the base", 6, 1, False, 5, 9, False),
    ("newer, but own and not before since", 6, 9, True, 5, 9, True),
    ("newer, own, before since", 6, 8, True, 5, 9, False),
    ("newer, as high a number of another history", 6, 9, False, 5, 9, False),
    ("an insert has seen nothing", 1, 1, False, NEVER, 9, False),
    ("a row nobody wrote through sync", 0, 0, False, 0, 1, True),
]


def merge_vectors() -> dict[str, Any]:
    """Return the vectors of PROTOCOL.md §2.3 and §6.4."""
    cells = []
    for name, rule, old, new, standing, stamp, before, seen, value, after, side, ask in MERGES:
        values = {"old": old, "new": new, "standing": standing}
        cells.append(
            {
                "name": name,
                "policy": rule,
                **{key: list(map(value_json, found)) for key, found in values.items()},
                "stamp": stamp,
                "node": "node-b",
                "standing_stamp": before,
                "standing_node": "node-a",
                "seen": seen,
                "outcome": {
                    "value": list(map(value_json, value)),
                    "stamp": after,
                    "conflict": side != NEITHER,
                    "winner": side or None,
                    "ask": ask,
                },
            }
        )
    return {
        "about": "PROTOCOL.md 2.3 and 6.4. A cell: old -> new is pushed by node-b onto standing, written by node-a.",
        "seen": [
            {"name": name, "version": version, "number": number, "own": own, "base": base, "since": since, "seen": seen}
            for name, version, number, own, base, since, seen in SEEN
        ],
        "cells": cells,
    }
