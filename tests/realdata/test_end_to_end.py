"""Public sales data imported offline on a node per branch, synced over HTTP, reported at the centre: real processes throughout."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes.conftest import Centre, Node, Warm
from tests.realdata.expected import NORTHWIND, ONLINE_RETAIL, Totals, northwind_expected, online_retail_expected

pytestmark = pytest.mark.realdata

NOTHING_MOVED = {"pushed": 0, "pulled": 0, "removed": 0, "unsynced": 0, "held": 0}
IMPORT_MEMORY_KIB_MAX = 300 * 1024
CORES = 2


@dataclass(frozen=True)
class Case:
    """One source: its mapping, its file, what the centre must say, how many reference rows there are."""

    mapping: str
    path: Path
    expected: Mapping[str, Totals]
    reference_rows: int


@dataclass
class World:
    """A centre and its nodes after the first sync, and what that took."""

    case: Case
    centre: Centre
    nodes: dict[str, Node]
    imported: dict[str, Any]
    synced: dict[str, Any]


@pytest.fixture(scope="module", params=["online_retail", "northwind"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = {"online_retail": ONLINE_RETAIL, "northwind": NORTHWIND}[request.param]
    if not path.exists():
        pytest.skip(f"no data at {path.name}; see README")
    online = request.param == "online_retail"
    expected = online_retail_expected(path) if online else northwind_expected(path)
    case = Case(request.param, path, expected, 5 + 4_070 if online else 4 + 9 + 77 + 77)
    folder = tmp_path_factory.mktemp(case.mapping)
    centre = Centre(folder / "server", folder)
    centre.ok("init")
    centre.start()
    try:
        yield first_sync(case, centre)
    finally:
        tell("server while it served", centre.process)
        centre.stop()


def first_sync(case: Case, centre: Centre) -> World:
    """Join the nodes, import offline, two at a time; then the reference tables at the centre; then sync all."""
    nodes = {branch: centre.node(branch, f"branch:{branch}") for branch in sorted(case.expected)}
    with ThreadPoolExecutor(CORES) as threads:
        imported = dict(zip(nodes, threads.map(lambda branch: imports(case, branch, nodes[branch]), nodes), strict=True))
    reference = timed("import at the centre", centre, "import", case.mapping, case.path)
    assert sum(table["new"] for table in reference["rows"].values()) == case.reference_rows
    synced = {branch: timed(f"sync {branch}", node, "sync") for branch, node in nodes.items()}
    return World(case, centre, nodes, imported, synced)


def imports(case: Case, branch: str, node: Node) -> Any:
    """Import one branch's rows with a runner of this thread's own."""
    return timed(f"import {branch}", node, "import", case.mapping, case.path, "--branch", branch, runner=Warm())


def timed(what: str, side: Node | Centre, *arguments: object, runner: Warm | None = None) -> Any:
    """Run a command, print its seconds and peak memory, and return its document."""
    begin = time.monotonic()
    done = side.run(*arguments, runner=runner)
    assert done.status == 0, done.document
    print(f"{what}: {time.monotonic() - begin:.1f} s, {(done.peak_kib or 0) // 1024} MiB")
    return done.document | {"peak_kib": done.peak_kib} if isinstance(done.document, dict) else done.document


def tell(what: str, process: subprocess.Popen[str] | None) -> None:
    """Print a living process's peak memory, where the system tells it."""
    status = Path(f"/proc/{process.pid}/status") if process else Path("none")
    if status.exists():
        print(f"{what}: {next(line.split(':')[1].strip() for line in status.read_text().splitlines() if line.startswith('VmHWM'))}")


def test_every_line_is_imported_offline(world: World) -> None:
    for branch, totals in world.case.expected.items():
        report = world.imported[branch]
        assert report["rejected"] == []
        assert report["rows"]["sale_line"] == {"new": totals.lines, "same": 0, "differs": 0, "deleted": 0}
        assert report["rows"]["sale"] == {"new": totals.receipts + totals.returns, "same": 0, "differs": 0, "deleted": 0}


def test_an_import_stays_under_300_mb(world: World) -> None:
    peaks = [report["peak_kib"] for report in world.imported.values()]
    if None in peaks:
        pytest.skip("the peak of memory is told by Unix only")
    assert max(peaks) < IMPORT_MEMORY_KIB_MAX


def test_all_of_it_is_accepted(world: World) -> None:
    for branch, report in world.synced.items():
        rows = world.imported[branch]["rows"]
        assert report["pushed"] == report["verdicts"]["accepted"] == rows["sale"]["new"] + rows["contact"]["new"]
        assert (report["pulled"], report["removed"], report["unsynced"]) == (world.case.reference_rows, 0, 0)
    assert world.centre.ok("held") == []
    assert world.centre.ok("conflicts") == []


def test_the_centre_s_report_equals_an_independent_computation(world: World) -> None:
    report = timed("report by branch", world.centre, "report", "sales", "--by", "branch")["sales"]
    names = ("receipts", "returns", "lines", "qty_milli", "total_minor")
    assert {each["key"]: {name: each[name] for name in names} for each in report} == {
        branch: asdict(totals) for branch, totals in world.case.expected.items()
    }
    assert all(each["name"] for each in report)


@pytest.mark.parametrize("by", ["month", "region", "product", "employee", "contact"])
def test_every_grouping_sums_to_the_same(by: str, world: World) -> None:
    report = timed(f"report by {by}", world.centre, "report", "sales", "--by", by)["sales"]
    expected = world.case.expected.values()
    for name in ("lines", "qty_milli", "total_minor"):
        assert sum(each[name] for each in report) == sum(getattr(totals, name) for totals in expected)
    if by != "product":  # a receipt counts once for each product on it
        assert sum(each["receipts"] for each in report) == sum(totals.receipts for totals in expected)


def test_a_second_sync_moves_nothing(world: World) -> None:
    for branch, node in world.nodes.items():
        again = timed(f"second sync {branch}", node, "sync")
        assert {name: again[name] for name in NOTHING_MOVED} == NOTHING_MOVED


def test_every_node_verifies_equal(world: World) -> None:
    for branch, node in world.nodes.items():
        found = timed(f"verify {branch}", node, "verify")
        assert found["equal"] is True
        assert found["tables"]["sale_line"]["rows"] == world.case.expected[branch].lines


def test_the_same_file_again_changes_nothing(world: World) -> None:
    branch = min(world.nodes, key=lambda branch: world.case.expected[branch].lines)
    again = timed(f"import {branch} again", world.nodes[branch], "import", world.case.mapping, world.case.path, "--branch", branch)
    assert {table["new"] for table in again["rows"].values()} == {0}
    assert world.nodes[branch].ok("status")["unsynced"] == 0
