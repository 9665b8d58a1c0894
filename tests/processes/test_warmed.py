"""Commands as forks of a warm process and commands started from nothing: both do the same, and a fork imports nothing anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import shim
from tests.faults.processes import FRESH_EVERY, ROOT, Centre, Starter

WARMED = """
import json, sys
from tests.faults import warmed
warmed.warm()
before = set(sys.modules)
status = warmed.outpost(sys.argv[1:])
print(json.dumps([status, sorted(set(sys.modules) - before)]), file=sys.stderr)
"""


def test_a_fork_imports_nothing_anew(tmp_path: Path) -> None:
    starter = Starter(tmp_path)
    centre = Centre(starter, tmp_path)
    node = centre.node("till", "branch:LON")
    starter.ok("node", "--home", node.home, "sync")
    try:
        for command in (
            ["server", "--home", str(tmp_path / "another"), "init"],
            ["server", "--home", str(centre.home), "invite", "--name", "other", "--scope", "branch:LON"],
            *(["node", "--home", str(node.home), word] for word in ("status", "sync", "verify")),
        ):
            done = subprocess.run([sys.executable, "-c", WARMED, *command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
            assert json.loads(done.stderr) == [0, []], command
    finally:
        centre.kill()
        starter.close()


@pytest.mark.skipif(shim.why_not() is not None, reason=str(shim.why_not()))
def test_a_fresh_command_is_the_same_and_counts_its_calls_from_its_first_file_on(tmp_path: Path) -> None:
    starter = Starter(tmp_path, {"LD_PRELOAD": str(shim.compiled(tmp_path)), "OUTPOST_UNDER": f"{tmp_path}/"})
    calls, said = [], []
    for fresh in (False, True):
        page, home = shim.Page(tmp_path / f"{fresh}.page"), tmp_path / f"home-{fresh}"
        starter.ok("server", "--home", home, "init", fresh=fresh)
        said.append(starter.ok("server", "--home", home, "nodes", fresh=fresh, watch=str(page.path)))
        calls.append(page.calls)
    assert said[0] == said[1]
    assert 0 < calls[1] < 1.5 * calls[0], "what it opens to import is not counted"
    starter.close()


def test_every_so_many_commands_one_is_fresh(tmp_path: Path) -> None:
    starter = Starter(tmp_path)
    commands = []
    for _ in range(FRESH_EVERY):
        running = starter.start("node", "--home", tmp_path / "none", "status", "--json")
        commands.append(starter.wait(running))
    starter.close()
    assert set(commands) == {1}
    assert starter.fresh == 1
