"""Joining a centre that has much to tell: all rows come as one file, cut or not, from a real server to real nodes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.processes.conftest import PROGRAM, ROOT, Centre, Node

ROWS = 25_000
MOVE = "INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, moved_ms) VALUES (?, 'p1', ?, ?, 'count', 0)"


def fill(centre: Centre, branch: str) -> None:
    """Let a central program write many rows of a branch."""
    centre.write(*((MOVE, [f"{branch}{number:05}", branch, number]) for number in range(ROWS)))


def test_a_node_that_joins_gets_all_rows_as_a_file_and_works_at_once(centre: Centre, tmp_path: Path) -> None:
    fill(centre, "LON")
    first, second = Node(tmp_path / "first"), Node(tmp_path / "second")
    assert first.ok("join", centre.url, centre.invite("first", "branch:LON"))["rows"] == ROWS  # it waited until the file was made
    first.write((MOVE, ["own", "LON", 1]))
    report = first.ok("sync")
    assert (report["pulled"], report["pushed"], report["identical"]) == (0, 1, True)
    assert second.ok("join", centre.url, centre.invite("second", "branch:LON"))["rows"] == ROWS
    assert second.ok("sync")["pulled"] == 1
    assert second.ok("verify")["equal"]
    assert sorted(path.name for path in second.home.iterdir()) == ["node.db", "node.key", "node.lock"]


def test_a_join_killed_on_the_way_is_repeated_and_ends_well(centre: Centre, tmp_path: Path) -> None:
    fill(centre, "KYV")
    code, node = centre.invite("killed", "branch:KYV"), Node(tmp_path / "killed")
    command = [*PROGRAM, "node", "--home", str(node.home), "join", centre.url, code, "--json"]
    killed = 0
    for sign in ("joining.json", "node.db.snapshot-*", "node.db.snapshot-*.rows", "node.db.snapshot-*-wal", "node.db"):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not any(node.home.glob(sign)):
                pass
            killed += process.poll() is None
            process.kill()
    assert killed >= 3
    again = node.run("join", centre.url, code)
    assert again.status == 0 or again.error == "home.taken"
    assert node.ok("sync")["identical"]
    assert node.write(("SELECT COUNT(*) FROM stock_move", [])) == [[ROWS]]
    assert node.ok("verify")["equal"]
