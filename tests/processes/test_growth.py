"""What keeps a centre and its laptops small, as an operator does it: compact, and laptops that keep the last days."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.conftest import Centre, Node, served

DAY_MS = 24 * 3600 * 1000
SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, ?, 'sale', 'LON', ?, 'GBP', 100)"


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    """A server for each test: what it waits for depends on all of its nodes."""
    with served(tmp_path) as made:
        yield made


def sell(node: Node, key: str, days_ago: int) -> tuple[str, list[Any]]:
    return SALE, [key, f"№ {key}", int(time.time() * 1000) - days_ago * DAY_MS]


def sales(node: Node) -> list[str]:
    return [row[0] for row in node.write(("SELECT id FROM sale ORDER BY id", []))]


def test_a_laptop_keeps_the_last_days_and_is_widened(centre: Centre) -> None:
    laptop, branch = centre.node("Ноутбук", "branch:LON"), centre.node("branch", "branch:LON")
    found = centre.ok("rescope", "Ноутбук", "--scope", "branch:LON", "--keep-days", 30)
    assert found["keep_days"] == 30
    branch.write(sell(branch, "new", 1), sell(branch, "old", 90))
    branch.sync()
    laptop.sync()
    assert sales(laptop) == ["new"]
    assert laptop.ok("verify")["equal"] is True
    begin = laptop.ok("status")["window_from_ms"]
    assert 29 * DAY_MS < time.time() * 1000 - begin < 32 * DAY_MS
    assert sales(branch) == ["new", "old"]
    assert [each["keep_days"] for each in centre.ok("nodes")] == [0, 30]
    assert centre.ok("rescope", "Ноутбук", "--keep-days", 0)["scope"] == ["branch:LON"]
    laptop.sync()
    assert sales(laptop) == ["new", "old"]
    assert laptop.ok("verify")["equal"] is True
    assert laptop.ok("status")["window_from_ms"] is None


@pytest.mark.parametrize("days", ["-1", "x", "40000"])
def test_days_are_whole_numbers(centre: Centre, days: str) -> None:
    centre.node("laptop", "branch:LON")
    done = centre.run("rescope", "laptop", "--scope", "branch:LON", "--keep-days", days)
    assert (done.status, done.document["error"]["code"]) == (2, "cli.usage")
    for option in ("--forget-days", "--lease-days", "--unbacked-days"):
        done = centre.run("compact", option, days)
        assert done.status == 2, (option, done.document)


def test_the_centre_forgets_what_a_backup_holds_and_nobody_needs(centre: Centre) -> None:
    branch = centre.node("branch", "branch:LON")
    branch.write(sell(branch, "one", 1))
    branch.sync()
    looked = centre.ok("compact", "--look", "--forget-days", 0)
    assert (looked["horizon"], looked["waits_for"]["reason"], looked["policy"]["forget"]) == (0, "backup", 0)
    assert centre.ok("compact", "--look")["policy"]["forget"] == 90, "a look changes nothing"
    centre.ok("backup", centre.folder / "backup.outpost")
    assert centre.ok("compact", "--forget-days", 0)["waits_for"] == {"version": 0, "reason": "node", "node": "branch"}
    branch.sync()
    branch.sync()
    done = centre.ok("compact")
    assert done["horizon"] > 0
    assert done["gone"]["bodies"] > 0
    assert centre.ok("compact")["gone"]["bodies"] == 0
    branch.write(sell(branch, "two", 0))
    assert branch.sync()["taken_anew"] is False
    fresh = centre.node("fresh", "branch:LON")
    fresh.sync()
    assert sales(fresh) == ["one", "two"]
    assert fresh.ok("verify")["equal"] is True
