"""What people read of how a node compares with the centre."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from node.cli_verify import tell_proof, tell_verify
from node.proof import Standing
from server import nodes
from tests.node.furnished import behind, firm, furnish
from tests.world import World

NOON = int(datetime(2026, 11, 3, 12, 0).timestamp()) * 1000
AT = NOON + 2 * 3_600_000 + 120_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = firm(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("standing", "now", "said"),
    [
        pytest.param(Standing(7, AT, 0), NOON, "What was exchanged agrees with the centre as of 14:02.", id="today"),
        pytest.param(
            Standing(7, AT, 0), NOON + 86_400_000, "What was exchanged agrees with the centre as of 2026-11-03 14:02:00.", id="another-day"
        ),
        pytest.param(Standing(7, AT, None), NOON, "Not proven identical to the centre since 14:02.", id="not-proven"),
        pytest.param(Standing(0, None, None), NOON, "Not proven identical to the centre yet.", id="never"),
        pytest.param(Standing(7, AT, 3), NOON, "3 rows differ from the centre, run: outpost node verify --repair", id="three"),
        pytest.param(Standing(7, None, 1), NOON, "1 row differs from the centre, run: outpost node verify --repair", id="one"),
    ],
)
def test_status_says_what_is_known(standing: Standing, now: int, said: str) -> None:
    assert tell_proof(standing, now) == said
    assert standing.document() == {
        "identical": standing.differing == 0,
        "identical_ms": standing.proven_ms,
        "differing": standing.differing,
    }


@pytest.mark.parametrize(
    ("unsynced", "held", "besides"),
    [
        (0, 1, "; 1 transaction held is not part of that."),
        (1, 0, "; 1 transaction unsent is not part of that."),
        (2, 1, "; 2 transactions unsent and 1 transaction held are not part of that."),
    ],
)
def test_what_is_not_exchanged_is_named(unsynced: int, held: int, besides: str) -> None:
    said = tell_proof(Standing(7, AT, 0), NOON, unsynced, held)
    assert said == f"What was exchanged agrees with the centre as of 14:02{besides}"


def test_a_difference_and_its_repair_in_words(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    k2, _ = furnish(world)
    behind(k2, "UPDATE contact SET phone = '7' WHERE id = 'c1'", "INSERT INTO activity (_rid, id, contact_id) VALUES (-1, 'a9', 'c1')")
    tell_verify(k2.compared())
    told = capsys.readouterr().out
    assert "2 rows differ." in told
    assert "phone" in told
    assert "Nothing was changed. Mend it: outpost node verify --repair" in told
    tell_verify(k2.repaired())
    told = capsys.readouterr().out
    for part in ("1 row fetched", "put aside, none thrown away", "1 row that no sync had seen", "Equal: "):
        assert part in told


def test_the_centre_s_board_shows_a_node_that_differs(world: World) -> None:
    k2, _ = furnish(world)
    behind(k2, "DELETE FROM contact WHERE id = 'c1'")
    k2.compared()
    k2.sync()
    with world.database.reading() as store:
        assert {entry["name"]: entry["differing"] for entry in nodes.listing(store)} == {"k2": 1, "l3": 0}
