"""The fast path of ingest (server/bulk.py) and the row-by-row path (server/merge.py) leave the same state.

Random histories of three nodes with sales, lines, payments, stock moves and soundings: several branches and owners, keys that clash,
missing parents, no rights, wrong types, work that hangs on held work. The same history is lived twice, once with the fast path
switched off; then rows everywhere, digests and verdicts must be the same.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from node.verify import verify
from schema.registry import Schema, load
from server import bulk, held_list, whole
from tests.world import World

ALL = load((str(Path(__file__).parent / "tables"),))
TABLES = ("sale", "sale_line", "payment", "stock_move", "sounding")
SCHEMA = Schema(tuple(table for table in ALL.tables if table.name in TABLES))

SCOPES = {"london": ["branch:LON"], "paris": ["branch:PAR", "owner:e1"], "rep": ["owner:e1", "owner:e2"]}
SALE = (
    "INSERT OR IGNORE INTO sale (id, number, kind, branch_id, employee_id, sold_ms, currency, total_minor)"
    " VALUES (?, ?, 'sale', ?, ?, 1, 'GBP', ?)"
)
LINE = "INSERT OR IGNORE INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES (?, ?, ?, 1, 1)"
PAYMENT = "INSERT OR IGNORE INTO payment (id, sale_id, method, amount_minor) VALUES (?, ?, ?, 1)"
MOVE = "INSERT OR IGNORE INTO stock_move (id, product_id, branch_id, qty_milli, reason, sale_id, moved_ms) VALUES (?, 'p', ?, ?, 'r', ?, 1)"
SOUNDING = "INSERT OR IGNORE INTO sounding (id, branch_id, ratio, raw) VALUES (?, ?, ?, ?)"

Statement = tuple[str, tuple[Any, ...]]


def ids(letter: str, count: int) -> st.SearchStrategy[str]:
    return st.integers(0, count - 1).map(lambda number: f"{letter}{number}")


BRANCH = st.sampled_from(["LON", "LON", "LON", "PAR", "PAR", "NYC"])
OWNER = st.sampled_from([None, "e1", "e2", "e3"])
NUMBER = st.one_of(st.integers(-5, 5), st.integers(-5, 5), st.integers(-5, 5), st.sampled_from([2**63 - 1, "text", 1.5]))
WORD = st.sampled_from(["cash", "card", "card", "й", "nul \0 inside"])
STATEMENTS: st.SearchStrategy[Statement] = st.one_of(
    st.tuples(st.just(SALE), st.tuples(ids("s", 6), WORD, BRANCH, OWNER, NUMBER)),
    st.tuples(st.just(SALE), st.tuples(ids("s", 40), st.just("n"), BRANCH, OWNER, st.integers(0, 9))),
    st.tuples(st.just(LINE), st.tuples(ids("l", 60), ids("s", 8), NUMBER)),
    st.tuples(st.just(PAYMENT), st.tuples(ids("p", 60), ids("s", 8), WORD)),
    st.tuples(st.just(MOVE), st.tuples(ids("m", 60), BRANCH, NUMBER, st.one_of(st.none(), ids("s", 8)))),
    st.tuples(
        st.just(SOUNDING), st.tuples(ids("d", 60), BRANCH, st.sampled_from([0.1, -0.0, 1e-308, "text"]), st.sampled_from([b"", b"\0", 1]))
    ),
)


@dataclass(frozen=True)
class Step:
    """One commit of a foreign program on a node, which then syncs or does not; or the centre changes the node's scope."""

    node: str
    statements: list[Statement]
    sync: bool
    rescope: list[str] | None


STEPS = st.builds(
    Step,
    st.sampled_from(sorted(SCOPES)),
    st.lists(STATEMENTS, max_size=12),
    st.booleans(),
    st.one_of(
        st.none(), st.none(), st.none(), st.lists(st.sampled_from(["branch:LON", "branch:PAR", "owner:e1", "owner:e3"]), unique=True)
    ),
)


def live(folder: Path, history: list[Step], schema: Schema = SCHEMA) -> dict[str, Any]:
    """Live a history and return everything that can be told from outside."""
    world = World(folder, schema)
    try:
        for name, scope in SCOPES.items():
            world.node(name, *scope)
        for step in history:
            node = world.nodes[step.node]
            connection = node.database.connection
            connection.execute("BEGIN IMMEDIATE")
            for sql, values in step.statements:
                connection.execute(sql, values)
            connection.commit()
            if step.rescope is not None:
                world.rescope(step.node, *step.rescope)
            if step.sync:
                node.sync()
        world.settle(3)
        return seen(world)
    finally:
        world.close()


def seen(world: World) -> dict[str, Any]:
    everything: dict[str, Any] = {}
    for table in world.schema.tables:
        sql = f"SELECT {', '.join(table.names)} FROM {table.name}"
        everything["centre", table.name] = sorted(world.sql(sql), key=repr)
        for node in world.nodes.values():
            rows = node.database.connection.execute(sql).fetchall()
            everything[node.name, table.name] = sorted(rows, key=repr)
    for node in world.nodes.values():
        proof = verify(node.database, node.link)
        assert proof["equal"], proof
        everything[node.name, "digests"] = {name: entry["digest"] for name, entry in proof["tables"].items()}  # type: ignore[attr-defined]
        everything[node.name, "held"] = sorted((e["table"], e["key"], e["verdict"], e["code"], e["reason"]) for e in node.held())
        everything[node.name, "conflicts"] = len(node.conflicts())
    with world.database.reading() as store:
        everything["held"] = sorted((e["node"], e["table"], e["key"], e["code"], e["reason"]) for e in held_list.listing(store))  # type: ignore[type-var]
    return everything


@settings(
    max_examples=int(os.environ.get("OUTPOST_EXAMPLES", "20")),
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(STEPS, min_size=1, max_size=7))
def test_both_paths_leave_the_same_state(history: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        fast, slow = Path(folder, "fast"), Path(folder, "slow")
        fast.mkdir()
        slow.mkdir()
        patch.setattr(whole, "WHOLE_ROWS_MIN", 1)  # and what it took goes on whole
        first = live(fast, history)
        patch.setattr(bulk, "take", lambda *_, **__: False)
        assert live(slow, history) == first


def test_ordinary_sales_take_the_fast_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the property above could compare the slow path with itself."""
    taken: list[bool] = []
    take = bulk.take
    monkeypatch.setattr(bulk, "take", lambda *given, **more: taken.append(take(*given, **more)) or taken[-1])
    sales = [(SALE, (f"s{i}", "n", branch, "e1", i)) for i, branch in enumerate(["LON", "PAR", "LON"])]
    lines = [(LINE, (f"l{i}", f"s{i % 3}", i)) for i in range(9)]
    moves = [(MOVE, (f"m{i}", "LON", i, f"s{i}")) for i in range(3)]
    world = World(tmp_path, SCHEMA)
    node = world.node("both", "branch:LON", "owner:e1")
    for sql, values in [*sales, *lines, *moves]:
        node.sql(sql, *values)
    assert node.sync().verdicts["accepted"] == 3
    assert taken == [True]
    world.close()
