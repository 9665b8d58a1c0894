"""All 541,909 lines of UCI Online Retail, into a local database, against an independent computation."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schema.importer.mapping import load_mapping
from schema.importer.run import run_import
from tests.realdata.expected import ONLINE_RETAIL, online_retail_contacts, online_retail_expected
from tests.realdata.sums import sums_by_branch
from tests.schema.importer.local import LocalTarget, everything

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not ONLINE_RETAIL.exists(), reason=f"no Online Retail data at {ONLINE_RETAIL.name}; see README"),
]

MEMORY_KIB_MAX = 300 * 1024
BRANCHES = ("UK", "DE", "FR", "IE", "XX")

IN_A_PROCESS = """
import json, sys, time
from pathlib import Path
from schema.importer.mapping import load_mapping
from schema.importer.run import run_import
from tests.schema.importer.local import LocalTarget, everything

started = time.monotonic()
target = LocalTarget(Path(sys.argv[1]))
steps = []
mapping, paths = load_mapping("online_retail"), [Path(sys.argv[2])]
report = run_import(target, mapping, paths, writes=everything, progress=lambda *step: steps.append(step))
status = Path("/proc/self/status")
peak = [line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line] if status.exists() else []
print(json.dumps({
    "report": report.as_json(),
    "seconds": time.monotonic() - started,
    "peak_kib": int(peak[0]) if peak else None,
    "announced": len(target.announced),
    "last_step": steps[-1],
}))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The whole file, imported by a process of its own: the database, and what the process told."""
    path = tmp_path_factory.mktemp("online_retail") / "whole.db"
    command = [sys.executable, "-c", IN_A_PROCESS, str(path), str(ONLINE_RETAIL)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(f"\nOnline Retail: {told['seconds']:.1f} s, {told['peak_kib']} KiB")
    return path, told


def test_totals_by_branch_equal_the_independent_computation(whole: tuple[Path, dict[str, Any]]) -> None:
    assert sums_by_branch(LocalTarget(whole[0])) == online_retail_expected(ONLINE_RETAIL)


def test_every_line_is_there_and_nothing_was_rejected(whole: tuple[Path, dict[str, Any]]) -> None:
    report = whole[1]["report"]
    new = {table: count["new"] for table, count in report["rows"].items()}
    assert new == {"branch": 5, "product": 4_070, "contact": 4_372, "sale": 25_900, "sale_line": 541_909}
    assert report["rejected"] == []
    assert report["notes"] == {"customers_in_two_countries": 8, "sales_with_two_times": 43}
    assert whole[1]["announced"] == 5 + 4_070 + 4_372 + 25_900


def test_contacts_belong_to_the_first_country(whole: tuple[Path, dict[str, Any]]) -> None:
    found = dict(LocalTarget(whole[0]).rows("SELECT id, branch_id FROM contact"))
    assert found == online_retail_contacts(ONLINE_RETAIL)


def test_memory_stays_under_300_mb(whole: tuple[Path, dict[str, Any]]) -> None:
    if whole[1]["peak_kib"] is None:
        pytest.skip("the peak of memory (VmHWM) is told by Linux only")
    assert whole[1]["peak_kib"] < MEMORY_KIB_MAX


def test_progress_ends_at_its_end(whole: tuple[Path, dict[str, Any]]) -> None:
    done, total = whole[1]["last_step"]
    assert done == total >= 541_909


def test_a_second_run_changes_nothing(whole: tuple[Path, dict[str, Any]]) -> None:
    target = LocalTarget(whole[0])
    again = run_import(target, load_mapping("online_retail"), [ONLINE_RETAIL], writes=everything)
    assert {count["new"] for count in again.rows.values()} == {0}
    assert again.rows["sale_line"]["same"] == 541_909
    assert target.connection.total_changes == 0


def test_five_branches_sum_to_the_whole(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    target, mapping = LocalTarget(tmp_path / "branches.db"), load_mapping("online_retail")
    expected = online_retail_expected(ONLINE_RETAIL)
    for branch in BRANCHES:
        before = set(sums_by_branch(target))
        report = run_import(target, mapping, [ONLINE_RETAIL], writes=everything, branch=branch)
        assert report.rows["sale_line"] == {"new": expected[branch].lines, "same": 0, "differs": 0, "deleted": 0}
        assert set(sums_by_branch(target)) - before == {branch}
    target.connection.execute("ATTACH ? AS whole", [str(whole[0])])
    for table in ("sale", "sale_line", "contact", "product", "branch"):
        columns = ", ".join(name for _, name, *_ in target.rows(f"PRAGMA table_info({table})") if name != "_rid")
        for one, other in (("main", "whole"), ("whole", "main")):
            difference = f"SELECT {columns} FROM {one}.{table} EXCEPT SELECT {columns} FROM {other}.{table}"
            assert target.rows(f"SELECT COUNT(*) FROM ({difference})") == [(0,)]
