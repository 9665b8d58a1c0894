"""Whole imports of small files, made here, into a real database."""

import gzip
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from schema.importer.errors import BranchUnknown, MappingInvalid, SourceUnreadable
from schema.importer.mapping import load_mapping, parse_mapping
from schema.importer.report import REJECTED_LISTED_MAX, ImportReport
from schema.importer.run import run_import
from tests.schema.importer.local import LocalTarget, everything, records, reference

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
LINES = [
    "1,85123A,LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
    "1,85123A,LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
    "2,22139,,-3,2011-07-01 09:00:00,0.0,,Germany",
    "1,85123a,,1,2010-12-01 08:25:00,0.005,17850.0,United Kingdom",
    "C3,22139,Retro Spot,-1,2011-07-02 10:00:00,4.25,12429.0,France",
    "4,22139,Other Name,2,2011-07-03 10:00:00,4.25,12429.0,Spain",
]

Import = Callable[..., ImportReport]


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    return LocalTarget(tmp_path / "target.db")


def csv(folder: Path, lines: Iterable[str], name: str = "online_retail.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
    return path


def retail(target: LocalTarget, path: Path, branch: str | None = None, *, dry_run: bool = False) -> ImportReport:
    return run_import(target, load_mapping("online_retail"), [path], writes=everything, branch=branch, dry_run=dry_run)


def test_lines_become_whole_sales(tmp_path: Path, target: LocalTarget) -> None:
    report = retail(target, csv(tmp_path, LINES))
    assert report.rejected == []
    assert target.rows(
        "SELECT id, number, kind, branch_id, contact_id, sold_ms, business_date, currency, total_minor FROM sale ORDER BY id"
    ) == [
        ("OR-1", "1", "sale", "UK", "17850", 1_291_191_900_000, "2010-12-01", "GBP", 1530 + 1530 + 1),
        ("OR-2", "2", "sale", "DE", None, 1_309_507_200_000, "2011-07-01", "GBP", 0),
        ("OR-4", "4", "sale", "XX", "12429", 1_309_683_600_000, "2011-07-03", "GBP", 850),
        ("OR-C3", "C3", "return", "FR", "12429", 1_309_597_200_000, "2011-07-02", "GBP", -425),
    ]
    assert target.rows("SELECT product_id, name, qty_milli, unit_price_e4, amount_minor FROM sale_line WHERE sale_id = 'OR-1'") == [
        ("85123A", "LIGHT HOLDER", 6000, 25_500, 1530),
        ("85123A", "LIGHT HOLDER", 6000, 25_500, 1530),
        ("85123a", None, 1000, 50, 1),
    ]
    assert target.rows("SELECT id, sku, name FROM product ORDER BY id") == [
        ("22139", "22139", "Retro Spot"),
        ("85123A", "85123A", "LIGHT HOLDER"),
        ("85123a", "85123a", None),
    ]
    assert target.rows("SELECT id, kind, name, country, branch_id FROM contact ORDER BY id") == [
        ("12429", "organisation", "Customer 12429", "France", "FR"),
        ("17850", "organisation", "Customer 17850", "United Kingdom", "UK"),
    ]
    assert target.rows("SELECT id, name FROM branch ORDER BY id") == [
        ("DE", "Germany"),
        ("FR", "France"),
        ("IE", "EIRE"),
        ("UK", "United Kingdom"),
        ("XX", "Rest of world"),
    ]
    assert report.notes == {"customers_in_two_countries": 1, "sales_with_two_times": 1}


def test_line_ids_come_from_content_and_occurrence(tmp_path: Path, target: LocalTarget) -> None:
    retail(target, csv(tmp_path, LINES))
    first, second = [id for (id,) in target.rows("SELECT id FROM sale_line WHERE name = 'LIGHT HOLDER' ORDER BY id")]
    assert first.startswith("OR-1-")
    assert second == f"{first}-2"


def test_each_sale_and_each_contact_is_announced_by_itself(tmp_path: Path, target: LocalTarget) -> None:
    before = target.connection.total_changes
    retail(target, csv(tmp_path, LINES))
    sizes = [b - a for a, b in zip([before, *target.announced], target.announced, strict=False)]
    assert sizes == [1] * (5 + 3 + 2) + [1 + 3, 1 + 1, 1 + 1, 1 + 1]
    assert target.calls == ["begin", "commit"]


def test_the_same_file_again_changes_nothing_in_any_form(tmp_path: Path, target: LocalTarget) -> None:
    first = retail(target, csv(tmp_path, LINES))
    contents, announced = target.contents(), len(target.announced)
    other = [line.replace(",", ";").replace(".55", ",55") for line in reversed(LINES)]
    path = tmp_path / "again.csv.gz"
    path.write_bytes(gzip.compress("\r\n".join([HEADER.replace(",", ";"), *other]).encode("utf-8-sig")))
    again = retail(target, path)
    expected = {table: {"new": 0, "same": count["new"], "differs": 0, "deleted": 0} for table, count in first.rows.items()}
    expected["product"] |= {"same": 2, "differs": 1}  # it takes the name that it has first in the file
    assert again.rows == expected
    assert (target.contents(), len(target.announced)) == (contents, announced)


def test_a_dry_run_reports_the_same_and_writes_nothing(tmp_path: Path, target: LocalTarget) -> None:
    lines = [*LINES, "9,1,x,abc,2010-12-01 08:26:00,1,,Spain"]
    dry = retail(target, csv(tmp_path, lines), dry_run=True)
    assert target.calls == []
    assert not any(target.contents().values())
    real = retail(target, csv(tmp_path, lines))
    assert real.as_json() == dry.as_json() | {"dry_run": False}


def test_one_bad_line_keeps_its_whole_sale_out(tmp_path: Path, target: LocalTarget) -> None:
    path = csv(tmp_path, [*LINES, "1,X,bad,six,2010-12-01 08:26:00,1,,United Kingdom", "4,X,a,b,1,2010-12-01,1,,Spain", "5,X"])
    report = retail(target, path)
    assert [id for (id,) in target.rows("SELECT id FROM sale ORDER BY id")] == ["OR-2", "OR-C3"]
    assert report.rows["sale_line"] == {"new": 2, "same": 0, "differs": 0, "deleted": 0}
    assert report.rejected == [
        {"file": path.name, "line": 8, "reason": "Quantity 'six': not a number (sale 1)"},
        {"file": path.name, "line": 9, "reason": "too many fields: 9 instead of 8 (sale 4)"},
        {"file": path.name, "line": 10, "reason": "too few fields: 2 instead of 8 (sale 5)"},
        {
            "file": path.name,
            "line": 2,
            "reason": f"sale 1 is left out whole: line 8 of {path.name}, which belongs to it, was rejected",
        },
        {
            "file": path.name,
            "line": 7,
            "reason": f"sale 4 is left out whole: line 9 of {path.name}, which belongs to it, was rejected",
        },
    ]


def test_a_sale_that_is_there_is_never_added_to(tmp_path: Path, target: LocalTarget) -> None:
    retail(target, csv(tmp_path, LINES))
    contents = target.contents()
    report = retail(target, csv(tmp_path, [*LINES, "4,X,more,1,2011-07-03 10:00:00,1,,Spain"]))
    assert [str(each["reason"]).partition(". ")[0] for each in report.rejected] == [
        "sale 4 is left out: it was imported before with other content (2 of 3 rows)"
    ]
    assert target.contents() | {"product": []} == contents | {"product": []}


def test_branches_partition_the_whole(tmp_path: Path, target: LocalTarget) -> None:
    path = csv(tmp_path, LINES)
    whole = LocalTarget(tmp_path / "whole.db")
    retail(whole, path)
    elsewhere = {}
    for branch in ("UK", "DE", "FR", "IE", "XX"):
        elsewhere[branch] = retail(target, path, branch).notes["contact_of_another_branch"]
        assert {each for (each,) in target.rows(f"SELECT branch_id FROM sale WHERE branch_id = '{branch}'")} <= {branch}
    assert target.contents() == whole.contents()
    assert elsewhere == {"UK": 0, "DE": 0, "FR": 0, "IE": 0, "XX": 1}


def test_a_branchs_import_leaves_other_branches_contacts_alone(tmp_path: Path, target: LocalTarget) -> None:
    report = retail(target, csv(tmp_path, LINES), "XX")
    assert target.rows("SELECT contact_id FROM sale") == [("12429",)]
    assert target.rows("SELECT id FROM contact") == []
    assert report.notes["customers_in_two_countries"] == 1


def test_an_unknown_branch_lists_those_there_are(tmp_path: Path, target: LocalTarget) -> None:
    with pytest.raises(BranchUnknown, match="no branch 'LON' in online_retail; there are: UK, DE, FR, IE, XX"):
        retail(target, csv(tmp_path, LINES), "LON")
    assert target.calls == []


def test_centre_and_node_each_write_what_they_may(tmp_path: Path) -> None:
    path, mapping = csv(tmp_path, LINES), load_mapping("online_retail")
    centre, node = LocalTarget(tmp_path / "centre.db"), LocalTarget(tmp_path / "node.db")
    assert set(run_import(centre, mapping, [path], writes=reference).rows) == {"branch", "product"}
    assert set(run_import(node, mapping, [path], writes=records).rows) == {"contact", "sale", "sale_line"}
    products = {id for (id,) in centre.rows("SELECT id FROM product")}
    assert {id for (id,) in node.rows("SELECT product_id FROM sale_line")} == products


def test_a_failure_rolls_back_and_the_same_import_again_brings_the_rest(tmp_path: Path) -> None:
    path = csv(tmp_path, LINES)
    failing = LocalTarget(tmp_path / "target.db", fail_at=12)
    with pytest.raises(OSError, match="disk is full"):
        retail(failing, path)
    assert failing.calls == ["begin", "rollback"]
    assert not any(failing.contents().values())
    whole = LocalTarget(tmp_path / "whole.db")
    retail(whole, path)
    again = LocalTarget(tmp_path / "target.db")
    retail(again, path)
    assert again.contents() == whole.contents()


def test_progress_rises_to_its_end(tmp_path: Path, target: LocalTarget) -> None:
    steps: list[tuple[int, int]] = []
    lines = [f"{n},A,x,1,2010-12-01 08:26:00,1,,Spain" for n in range(9_000)]
    run_import(
        target,
        load_mapping("online_retail"),
        [csv(tmp_path, lines)],
        writes=everything,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert len(steps) > 5
    assert steps == sorted(steps)
    assert len({total for _, total in steps}) == 1
    assert steps[-1][0] == steps[-1][1]


def test_a_database_without_a_column_is_told_before_anything_is_written(tmp_path: Path, target: LocalTarget) -> None:
    target.connection.execute("ALTER TABLE sale_line DROP COLUMN unit_price_e4")
    with pytest.raises(MappingInvalid, match="unit_price_e4"):
        retail(target, csv(tmp_path, LINES))
    assert target.calls == []


def test_a_file_of_another_kind_is_refused_by_its_columns(tmp_path: Path, target: LocalTarget) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(SourceUnreadable, match=r"other\.csv: there is no column InvoiceNo; the first line names: a, b"):
        retail(target, path)


def test_the_list_of_rejections_is_bounded_and_their_count_is_not() -> None:
    report = ImportReport("m", None, False)
    for line in range(REJECTED_LISTED_MAX + 5):
        report.reject("f", line, "r")
    assert (len(report.rejected), report.rejected_count) == (REJECTED_LISTED_MAX, REJECTED_LISTED_MAX + 5)


AGENTS = """
[mapping]
title = "Russian agents"
currency = "RUB"

[files.agents]
match = ["agents*.tsv"]

[files.agents.fields]
tax = { column = "ИНН", required = true }
name = { column = "Наименование", required = true }
email = { column = "Почта", drop_prefix = ["email:"] }
limit = { column = "Лимит", type = "minor", drop_suffix = ["руб."] }
address = { column = "Адрес" }
priority = { column = "Приоритет", type = "whole" }

[[rows]]
table = "contact"
file = "agents"
when = { name = ["Ёлка", "МетизСтрой"] }

[rows.columns]
id = "inn-{tax}"
kind = "organisation"
name = "{name}"
email = "{email}"
credit_limit_minor = { greatest = "limit" }
street = "{address}"
created_ms = { sum = "priority" }
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1251"])
def test_a_users_mapping_reads_russian_agents(tmp_path: Path, target: LocalTarget, encoding: str) -> None:
    rows = [
        "ИНН\tНаименование\tПочта\tЛимит\tАдрес\tПриоритет",
        '0077\tЁлка\temail: a@b\t1 768,50 руб.\t"ул. Ленина,\r\n20"\t2',
        "0077\tЁлка\t\t2000\t\t3",
        "0078\tЛишний\t\t\t\t",
        "0079\tМетизСтрой\t\t\t\tмного",
    ]
    path = tmp_path / "agents.tsv"
    path.write_bytes("\r\n".join(rows).encode(encoding))
    report = run_import(target, parse_mapping(AGENTS, "agents.toml"), [path], writes=everything)
    assert target.rows("SELECT id, name, email, credit_limit_minor, street, created_ms FROM contact") == [
        ("inn-0077", "Ёлка", "a@b", 200_000, "ул. Ленина,\r\n20", 5)
    ]
    assert report.rejected == [{"file": "agents.tsv", "line": 6, "reason": "Приоритет 'много': not a number"}]
