"""The two ways to a proof (server/proof.py), lines that are read and lines that the session's tables hold, find the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from server import proof
from server.skew import View
from sync.messages import Proof
from tests.contract.test_paths import Step
from tests.contract.test_runs import STEPS, live
from tests.world import World

FOUND: list[bool] = []
"""Of each proof that was found both ways: whether there was anything in it."""


@pytest.fixture(autouse=True)
def both_ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Find every proof both ways, and compare them."""
    make = proof.make

    def compared(view: View, node: int, scope: frozenset[str], cursor: int, head: int) -> Proof | None:
        few = make(view, node, scope, cursor, head)
        with monkeypatch.context() as patch:
            patch.setattr(proof, "KEYS_MAX", -1)
            many = make(view, node, scope, cursor, head)
        assert without_nothing(few) == without_nothing(many)
        FOUND.append(few is not None and few != Proof((), ()))
        return few

    FOUND.clear()
    monkeypatch.setattr(proof, "make", compared)
    yield
    assert any(FOUND)


def without_nothing(found: Proof | None) -> Proof | None:
    """A table of which no row is in scope says the same as one that is not named."""
    return found and Proof(tuple(entry for entry in found.tables if entry.rows), found.whole)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(history=st.lists(STEPS, min_size=6, max_size=10))
def test_random_histories(history: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        live(Path(folder), history)


@pytest.mark.parametrize("runs", [(1, 10, 100), (1, 2)], ids=["few", "more than few"])
def test_segments_whole_and_in_part_and_scattered_rows(tmp_path: Path, runs: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "RUNS", runs)
    world = World(tmp_path)
    try:
        tills = [world.node("t1", "branch:LON"), world.node("t2", "branch:LON", "branch:PAR"), world.node("t3", "branch:PAR")]
        sale = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, 'n', 'sale', ?, 1, 'EUR', 1)"
        for low, high in ((0, 1_200), (1_200, 1_260)):
            with tills[0].database.writing() as store:
                store.connection.executemany(sale, [(f"s{number}", "LON") for number in range(low, high)])
            with tills[1].database.writing() as store:
                store.connection.executemany(sale, [(f"b{number}", ("LON", "PAR")[number % 2]) for number in range(low, high)])
            world.settle()
            world.sql(f"UPDATE sale SET total_minor = 2 WHERE id IN ('s{high - 1}', 's{high - 3}', 'b{high - 1}', 'b{high - 5}')")
            world.settle()
        world.rescope("t3", "branch:LON")
        world.node("late", "branch:LON", "branch:PAR")  # pulls segments together with rows in the middle of them that were changed
        world.settle()
        assert world.agree()
    finally:
        world.close()
