"""Northwind, and its malformed export, into a local database, against an independent computation."""

from collections import Counter
from pathlib import Path

import pytest

from schema.importer.mapping import load_mapping
from schema.importer.run import run_import
from tests.realdata.expected import NORTHWIND, northwind_expected
from tests.realdata.sums import sums_by_branch
from tests.schema.importer.local import LocalTarget, everything, records

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not NORTHWIND.exists(), reason=f"no Northwind data at {NORTHWIND.name}; see README"),
]

MAPPING = load_mapping("northwind")


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    return LocalTarget(tmp_path / "target.db")


def test_totals_by_branch_equal_the_independent_computation(target: LocalTarget) -> None:
    report = run_import(target, MAPPING, [NORTHWIND], writes=everything)
    assert sums_by_branch(target) == northwind_expected(NORTHWIND)
    assert report.rejected == []
    new = {table: count["new"] for table, count in report.rows.items()}
    assert new == {
        "branch": 4,
        "employee": 9,
        "product": 77,
        "price": 77,
        "contact": 91 * 2,
        "sale": 830,
        "sale_line": 2_155 + 830,
    }
    assert report.notes == {"contact_without_branch": 2 * 2, "customers_in_two_branches": 87}


def test_a_second_run_changes_nothing(target: LocalTarget) -> None:
    first = run_import(target, MAPPING, [NORTHWIND], writes=everything)
    changes = target.connection.total_changes
    again = run_import(target, MAPPING, [NORTHWIND], writes=everything)
    assert again.rows == {table: {"new": 0, "same": count["new"], "differs": 0, "deleted": 0} for table, count in first.rows.items()}
    assert target.connection.total_changes == changes


def test_four_branches_sum_to_the_whole_but_for_customers_without_orders(target: LocalTarget, tmp_path: Path) -> None:
    whole = LocalTarget(tmp_path / "whole.db")
    run_import(whole, MAPPING, [NORTHWIND], writes=everything)
    expected = northwind_expected(NORTHWIND)
    for branch in sorted(expected):
        report = run_import(target, MAPPING, [NORTHWIND], writes=records, branch=branch)
        assert report.rows["sale_line"] == {"new": expected[branch].lines, "same": 0, "differs": 0, "deleted": 0}
    whole.connection.execute("DELETE FROM contact WHERE branch_id IS NULL")
    for table in ("sale", "sale_line", "contact"):
        assert target.contents()[table] == whole.contents()[table]


def test_text_and_times_come_through(target: LocalTarget) -> None:
    run_import(target, MAPPING, [NORTHWIND], writes=everything)
    assert target.rows("SELECT name, street, postcode, city, country FROM contact WHERE id = 'ANATR'") == [
        ("Ana Trujillo Emparedados y helados", "Avda. de la Constitución 2222", "05021", "México D.F.", "Mexico")
    ]
    # 1996-07-04 00:00 in New York, which is the same day in UTC
    assert target.rows("SELECT sold_ms, business_date, branch_id, total_minor FROM sale WHERE number = '10248'") == [
        (836_452_800_000, "1996-07-04", "1", 16_800 + 9_800 + 17_400 + 3_238)
    ]


def test_the_malformed_export_is_reported_and_its_good_customers_go_in(target: LocalTarget) -> None:
    report = run_import(target, MAPPING, [NORTHWIND / "raw_unquoted_commas"], writes=everything)
    malformed = Counter(each["file"] for each in report.rejected if "too many fields" in str(each["reason"]))
    assert malformed == {"customers.csv": 24, "orders.csv": 176, "suppliers.csv": 9}
    without = [each for each in report.rejected if "no file orderdetails.csv was given" in str(each["reason"])]
    assert len(without) == 830 - 176
    assert len(report.rejected) == 24 + 830 + 9
    assert all(isinstance(each["line"], int) and each["line"] >= 2 for each in report.rejected)
    assert target.rows("SELECT kind, COUNT(*) FROM contact GROUP BY kind") == [("organisation", 67), ("person", 67)]
    assert target.rows("SELECT phone FROM contact WHERE id = 'ANTON'") == [("(5) 555-3932",)]
    assert target.rows("SELECT id FROM sale") == []
