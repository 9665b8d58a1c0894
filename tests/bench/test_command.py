"""`outpost bench`: what it measures, its document, what it says of peers, and what is left of a run that is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.bench import peers_folder

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "schema.cli", "bench"]
SECONDS_MAX = 600

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the benchmark runs on Linux")


@dataclass(frozen=True)
class Done:
    """What the command answered, and what it kept."""

    status: int
    document: Any
    lines: str
    kept: Any = None


def bench(*arguments: object, **environment: str) -> Done:
    """Run the command with --json, and insist on exactly one document."""
    command = [*PROGRAM, *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment, timeout=SECONDS_MAX, check=False)
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    return Done(done.returncode, json.loads(done.stdout), done.stderr)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run of everything but PostgreSQL, with one peer that works and one that does not."""
    folder = tmp_path_factory.mktemp("bench")
    peers_folder.make(folder / "peers")
    output = folder / "kept.json"
    places = ["--folder", folder, "--peers", folder / "peers", "--output", output]
    done = bench("--scale", 0.0005, "--rounds", 2, "--first", "--herd", *places, PATH=peers_folder.path_with_node(folder / "bin"))
    assert sorted(path.name for path in folder.iterdir()) == ["bin", "kept.json", "peers"]  # nothing is left behind
    return Done(done.status, done.document, done.lines, json.loads(output.read_text(encoding="utf-8")))


def test_a_run_ends_well_and_says_where_it_was(whole: Done) -> None:
    assert (whole.status, whole.document["complete"], whole.document["failed"]) == (0, True, {})
    assert whole.document["rounds"] == 2
    assert whole.document["sizes"]["sales"] == 100
    assert {"measured_at", "outpost", "cores", "cpu", "memory_mb", "filesystem", "python", "libraries"} <= set(whole.document["machine"])
    assert whole.document["settings"]["synchronous"] == "FULL"


@pytest.mark.parametrize(
    ("figure", "times"),
    [
        ("captured insert, times plain", 2),
        ("captured insert in commits of 1, times plain", 2),
        ("node's file, times plain", 2),
        ("push, part of a plain insert", 2),
        ("pull, part of a plain insert", 2),
        ("push of 1, bytes a row", 2),
        ("nothing to do, bytes", 2),
        ("push of changes, every second contended: part of uncontended", 2),
        ("first sync of 500, rows/s: joining", 2),
        ("first sync of 500, rows/s: the file is made for it", 1),
        ("change of 1 on 500, neighbours, push: times that on 5", 2),
        ("change of 1 on 500, scattered, pull: times a plain UPDATE", 2),
        ("change of 1 on 500, scattered, bytes a changed cell", 2),
        ("memory, MB: node with 500 contacts", 2),
        ("1 nodes at once, s until 99 of 100 are", 2),
        ("1 nodes at once, MB: server's processes together", 2),
    ],
)
def test_every_kind_of_figure_is_measured_in_every_round(whole: Done, figure: str, times: int) -> None:
    found = whole.document["figures"][figure]
    assert found["times"] == times
    assert 0 < found["low"] <= found["median"] <= found["high"]


def test_a_figure_is_told_when_it_is_measured(whole: Done) -> None:
    for figure, found in whole.document["figures"].items():
        assert whole.lines.count(f"bench:   {figure}: ") == found["times"]


def test_the_document_is_kept_in_a_file_too(whole: Done) -> None:
    assert whole.kept == whole.document


def test_goals_are_not_judged_at_other_sizes(whole: Done) -> None:
    assert {each["met"] for each in whole.document["goals"]} == {None}
    assert whole.document["missed"] == []


def test_a_peer_is_measured_on_the_same_receipts(whole: Done) -> None:
    """The stand-in counts the lines it finds: 50 receipts in half a second."""
    assert whole.document["figures"]["PouchDB leveldb: push, rows/s"]["median"] == 100
    assert whole.document["figures"]["PouchDB leveldb: push, bytes a row"]["median"] == 440
    assert whole.document["figures"]["push, times PouchDB leveldb"]["times"] == 2
    assert whole.document["machine"]["peers"] == {"node": "v20.0.0", "pouchdb": "1.2.3", "rxdb": "1.2.3"}


def test_a_peer_that_fails_is_left_out_with_its_own_words(whole: Done) -> None:
    assert whole.document["peers_left_out"] == {"RxDB memory": "its script failed: Error: no such adapter"}
    assert "RxDB memory left out from here on" in whole.lines


def test_a_run_that_is_stopped_keeps_what_was_measured(tmp_path: Path) -> None:
    command = [*PROGRAM, "--scale", "0.0005", "--only-sales", "--no-peers", "--folder", str(tmp_path), "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            if "push, rows/s" in line:
                process.send_signal(signal.SIGTERM)
                break
        out, lines = process.communicate(timeout=SECONDS_MAX)
    found = json.loads(out)
    assert (process.returncode, found["complete"], found["failed"]) == (1, False, {})
    assert "captured insert, times plain" in found["figures"]
    assert "Traceback" not in lines
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["--rounds", 0], 2, "cli.usage"),
        (["--rounds", "few"], 2, "cli.usage"),
        (["--scale", 0], 2, "cli.usage"),
        (["--check", "--scale", 0.5], 2, "cli.usage"),
        (["--folder", "nowhere"], 2, "cli.usage"),
        (["--peers", "nowhere"], 2, "cli.usage"),
        (["--output", "nowhere/kept.json"], 2, "usage.value"),
        (["--database", "mysql://localhost/shop"], 2, "usage.value"),
        (["--database", "postgresql://127.0.0.1:1/shop"], 1, "bench.database"),
        (["--nothing"], 2, "cli.usage"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_measured(arguments: list[object], status: int, code: str) -> None:
    done = bench(*arguments)
    assert (done.status, done.document["error"]["code"]) == (status, code)
    assert done.document["error"]["message"]
    assert "Traceback" not in done.lines
    assert "round 1" not in done.lines


def test_other_commands_do_not_pay_for_it() -> None:
    program = "import sys; from schema.cli import main; main(['node', 'status', '--home', 'nowhere']); print('bench.cli' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
