"""What must hold at rest: nothing acknowledged is lost, everything is there once, sums are right, all sides are equal.

Databases are read by a foreign program (tests/foreign.py), never by the process that checks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from server.database import Place
from tests import foreign
from tests.faults.processes import Centre, NodeHome, Starter
from tests.faults.workload import amount_of, own_contact, total_of

ROUNDS_MAX = 8
COLUMNS = {
    "sale": "id, number, kind, branch_id, sold_ms, currency, total_minor",
    "sale_line": "id, sale_id, qty_milli, unit_price_e4, amount_minor",
    "payment": "id, sale_id, method, amount_minor",
    "stock_move": "id, product_id, branch_id, qty_milli, reason, sale_id",
    "contact": "id, kind, name, branch_id, phone",
}


class Broken(AssertionError):
    """A promise was broken; the text says which."""


def rows(path: Place) -> dict[str, list[Any]]:
    """Return the rows of a database, sorted."""
    return {table: sorted(foreign.rows(path, f"SELECT {columns} FROM {table}")) for table, columns in COLUMNS.items()}


def demand(holds: bool, what: str) -> None:
    """Raise Broken unless a promise holds."""
    if not holds:
        raise Broken(what)


def acknowledged(*outputs: str) -> set[str]:
    """Return what writers acknowledged; a line that a kill cut short was not acknowledged."""
    return {line for text in outputs for line in text.split("\n")[:-1] if " " in line}


def quieten(starter: Starter, nodes: Sequence[NodeHome]) -> int:
    """Sync all at once, in rounds, until a whole round moves nothing; return how many it took. Raises Broken if there is no end."""
    for number in range(1, ROUNDS_MAX + 1):
        moved = 0
        running = [(node, starter.start("node", "--home", node.home, "sync", "--json")) for node in nodes]
        for node, sync in running:
            status = starter.wait(sync)
            demand(status == 0, f"{node.name} cannot sync although all is well: {sync.said()}")
            said = json.loads(sync.said())
            moved += said["pushed"] + said["pulled"] + said["removed"] + said["unsynced"]
        if not moved:
            return number
    raise Broken(f"no rest after {ROUNDS_MAX} rounds: stuck")


def is_on_node(node: NodeHome, wanted: Iterable[str]) -> None:
    """Demand that what was acknowledged is on its node, whole."""
    _is_kept(node.path, node.name, wanted, {node.name})


def at_rest(starter: Starter, centre: Centre, nodes: Sequence[NodeHome], wanted: Iterable[str]) -> dict[str, list[Any]]:
    """Demand every promise at rest and return the centre's rows."""
    found = rows(centre.path)
    _is_kept(centre.path, "the centre", wanted, {node.name for node in nodes})
    _is_whole(found)
    for node in nodes:
        here = rows(node.path)
        for table, expected in found.items():
            demand(here[table] == expected, f"{node.name} and the centre differ in {table}: {_difference(here[table], expected)}")
    verifying = [(node, starter.start("node", "--home", node.home, "verify", "--json")) for node in nodes]
    for node, running in verifying:
        demand(starter.wait(running) == 0 and json.loads(running.said())["equal"], f"{node.name} does not verify: {running.said()}")
    segments, distinct = foreign.rows(centre.path, "SELECT COUNT(*), COUNT(DISTINCT segment) FROM _journal WHERE segment IS NOT NULL")[0]
    demand(segments == distinct, "a segment is in the journal twice")
    for path in (centre.path, *(node.path for node in nodes)):
        if isinstance(path, str):
            continue
        demand(foreign.rows(path, "PRAGMA integrity_check") == [("ok",)], f"{path.name} is damaged")
    return found


def _is_kept(path: Place, where: str, wanted: Iterable[str], names: set[str]) -> None:
    sales = {row[0] for row in foreign.rows(path, "SELECT id FROM sale")}
    phones = dict(foreign.rows(path, "SELECT id, phone FROM contact"))
    latest: dict[str, int] = {}
    for line in wanted:
        kind, name, key = _parts(line)
        if kind == "sale":
            demand(key in sales, f"{where} lost the acknowledged sale {key}")
        elif kind == "own" and name in names:
            latest[name] = max(latest.get(name, -1), int(key))
    for name, number in latest.items():
        stands = phones.get(own_contact(name))
        demand(stands is not None and int(stands) >= number, f"{where} lost the acknowledged edit {number} of {name}: {stands}")


def _parts(line: str) -> tuple[str, str, str]:
    """Return (kind, node, key) of an acknowledgement, `sale NODE-0000001` or `NODE own 12`."""
    words = line.split()
    return (words[0], "", words[1]) if words[0] == "sale" else (words[1], words[0], words[2])


def _is_whole(found: dict[str, list[Any]]) -> None:
    """Demand that every sale has all its parts, each once, to the minor unit."""
    keys = [row[0] for row in found["sale"]]
    expected = {
        "sale_line": sorted((f"{key}/{n}", key, amount_of(f"{key}/{n}")) for key in keys for n in (1, 2)),
        "payment": sorted((f"{key}/p", key, total_of(key)) for key in keys),
        "stock_move": sorted((f"{key}/m", key, -amount_of(key)) for key in keys),
    }
    there = {
        "sale_line": [(row[0], row[1], row[4]) for row in found["sale_line"]],
        "payment": [(row[0], row[1], row[3]) for row in found["payment"]],
        "stock_move": [(row[0], row[5], row[3]) for row in found["stock_move"]],
    }
    demand(len(set(keys)) == len(keys), "a sale is there twice")
    demand(all(row[6] == total_of(row[0]) for row in found["sale"]), "a sale's total is wrong")
    for table, wanted in expected.items():
        demand(sorted(there[table]) == wanted, f"{table} does not match the sales: {_difference(there[table], wanted)}")


def _difference(left: list[Any], right: list[Any]) -> str:
    only_left, only_right = sorted(set(left) - set(right)), sorted(set(right) - set(left))
    return f"{len(only_left)} only here {only_left[:3]}, {len(only_right)} missing {only_right[:3]}"
