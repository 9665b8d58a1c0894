"""A file that was imported before, as it was or corrected: nothing is undone by it, and what differs is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from schema.importer import brought, report, writer
from schema.importer.mapping import load_mapping
from schema.importer.present import VALUES_PER_QUERY, Shape, difference, present
from schema.importer.report import ImportReport
from schema.importer.run import run_import
from tests.schema.importer.local import LocalTarget, everything

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
ORDERS = "OrderID,CustomerID,EmployeeID,OrderDate,Freight\n10248,VINET,5,1996-07-04,32.38\n"


def line(number: int, customer: int, name: str = "plain") -> str:
    return f"{number},S{number},{name},1,2010-12-01 08:26:00,1.00,{customer},Germany"


LINES = [line(number, 17_850 + number) for number in range(3)]


def again(target: LocalTarget, folder: Path, lines: Sequence[str] = LINES, **options: bool) -> ImportReport:
    path = folder / "online_retail.csv"
    path.write_text("\n".join([HEADER, *lines, ""]), encoding="utf-8")
    return run_import(target, load_mapping("online_retail"), [path], writes=everything, **options)


def northwind(target: LocalTarget, folder: Path, quantity: int, freight: str = "32.38") -> ImportReport:
    files = {
        "territories.csv": "TerritoryID,TerritoryDescription,RegionID\nT1,x,1\n",
        "employeeterritories.csv": "EmployeeID,TerritoryID\n5,T1\n",
        "orders.csv": ORDERS.replace("32.38", freight),
        "orderdetails.csv": f"OrderID,ProductID,UnitPrice,Quantity,Discount\n10248,11,14,{quantity},0\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return run_import(target, load_mapping("northwind"), [folder], writes=lambda table: table in ("sale", "sale_line"))


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    return LocalTarget(tmp_path / "target.db")


def counted(report: ImportReport, table: str) -> tuple[int, ...]:
    return tuple(report.rows[table][kind] for kind in ("new", "same", "differs", "deleted"))


def test_a_corrected_sale_is_rejected_and_the_reason_says_what_differs_and_what_to_do(tmp_path: Path, target: LocalTarget) -> None:
    northwind(target, tmp_path, 12)
    before = target.contents()
    report = northwind(target, tmp_path, 21)
    assert [each["reason"] for each in report.rejected] == [
        "sale 10248 is left out: it is here with other content: sale NW-10248: total_minor is '20038' here, '32638' in the file"
        " (and 1 more of its rows). What was recorded once is not changed: if the file is right, record a correction (a return) as"
        " something new"
    ]
    assert counted(report, "sale") == counted(report, "sale_line") == (0, 0, 0, 0)
    assert target.contents() == before
    assert northwind(target, tmp_path, 12).rejected == []


def test_what_people_edited_since_is_not_undone_by_the_file(tmp_path: Path, target: LocalTarget) -> None:
    again(target, tmp_path)
    target.connection.execute("UPDATE contact SET name = 'Ann', country = NULL WHERE id = '17850'")
    before = target.contents()
    report = again(target, tmp_path)
    assert target.contents() == before
    assert counted(report, "contact") == (0, 2, 1, 0)
    assert (report.left_count, report.rejected_count) == (1, 0)
    assert report.left == [
        {
            "file": "online_retail.csv",
            "line": 2,
            "reason": "contact 17850 stays as it is: name is 'Ann' here, 'Customer 17850' in the file; country is empty here, 'Germany' in"
            " the file. If the file is right, change it by hand",
        }
    ]


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_was_deleted_since_stays_deleted(tmp_path: Path, target: LocalTarget, dry_run: bool) -> None:
    again(target, tmp_path)
    target.connection.execute("DELETE FROM contact WHERE id = '17850'")
    target.connection.execute("DELETE FROM sale WHERE id = 'OR-1'")
    target.connection.execute("DELETE FROM sale_line WHERE sale_id = 'OR-1'")
    before = target.contents()
    report = again(target, tmp_path, dry_run=dry_run)
    assert target.contents() == before
    assert counted(report, "contact") == counted(report, "sale") == counted(report, "sale_line") == (0, 2, 0, 1)
    assert report.rejected == []
    assert [str(each["reason"]).partition(":")[0] for each in report.left] == ["contact 17850 is left out", "sale 1 is left out"]
    assert "--bring-back" in str(report.left[0]["reason"])


def test_it_comes_back_when_asked_for(tmp_path: Path, target: LocalTarget) -> None:
    again(target, tmp_path)
    whole = target.contents()
    target.connection.execute("DELETE FROM contact WHERE id = '17850'")
    report = again(target, tmp_path, bring_back=True)
    assert counted(report, "contact") == (1, 2, 0, 0)
    assert target.contents() == whole


def test_what_a_release_without_the_record_had_imported_is_remembered_by_the_next_import(tmp_path: Path, target: LocalTarget) -> None:
    again(target, tmp_path)
    target.connection.execute("DELETE FROM _imported")
    again(target, tmp_path)
    target.connection.execute("DELETE FROM contact WHERE id = '17850'")
    assert counted(again(target, tmp_path), "contact") == (0, 2, 0, 1)


def test_what_was_rejected_is_not_taken_for_imported(tmp_path: Path, target: LocalTarget) -> None:
    again(target, tmp_path)
    target.connection.execute("DELETE FROM _imported")
    target.connection.execute("DELETE FROM sale WHERE id = 'OR-1'")  # its line is there still
    assert again(target, tmp_path).rejected_count == 1
    target.connection.execute("DELETE FROM sale_line WHERE sale_id = 'OR-1'")
    assert counted(again(target, tmp_path), "sale") == (1, 2, 0, 0)


def test_the_same_file_again_writes_nothing_at_all(tmp_path: Path, target: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH_ROWS", 2)
    lines = [line(number, 17_850) for number in range(VALUES_PER_QUERY // 4)]
    again(target, tmp_path, lines)
    changes = target.connection.total_changes
    report = again(target, tmp_path, lines)
    assert counted(report, "sale_line") == (0, len(lines), 0, 0)
    assert target.connection.total_changes == changes


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [("TEXT", 5, "5"), ("INTEGER", "5", 5), ("REAL", 5, 5.0), ("TEXT", None, None), ("", "5", "5")],
)
def test_a_value_is_the_same_as_the_column_keeps_it(target: LocalTarget, kind: str, value: Any, kept: Any) -> None:
    target.connection.execute(f"CREATE TABLE t (id TEXT PRIMARY KEY, c {kind})")
    target.connection.execute("INSERT INTO t VALUES ('a', ?)", [value])
    assert target.rows("SELECT c FROM t") == [(kept,)]
    shape = Shape("t", ("id", "c"))
    rows = [("a", value), ("b", value)]
    assert present(target, shape, rows) == {"a": True}
    assert present(target, shape, [("a", "other")]) == {"a": False}


def test_text_of_another_program_that_is_not_utf8_does_no_harm(target: LocalTarget) -> None:
    target.connection.execute("INSERT INTO branch (id, name) VALUES ('a', CAST(X'C0E9' AS TEXT))")
    shape = Shape("branch", ("id", "name"))
    assert present(target, shape, [("a", "Ай")]) == {"a": False}
    assert difference(target, shape, ("a", "Ай")) == "name is '\ufffd\ufffd' here, 'Ай' in the file"


def test_the_list_is_bounded_and_its_count_is_not(tmp_path: Path, target: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "REJECTED_LISTED_MAX", 2)
    again(target, tmp_path)
    target.connection.execute("UPDATE contact SET name = 'Ann'")
    found = again(target, tmp_path)
    assert (len(found.left), found.left_count) == (2, 3)


def test_names_of_two_tables_do_not_meet() -> None:
    assert len({brought.name_of("a", "b"), brought.name_of("a", "c"), brought.name_of("b", "a")}) == 3
