"""A stray quote runs lines together: what these belong to stays out whole, or nothing goes in; never less than the file says."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from schema.importer.errors import SourceUnreadable
from schema.importer.mapping import load_mapping, parse_mapping
from schema.importer.report import ImportReport
from schema.importer.run import run_import
from tests.schema.importer.local import LocalTarget, everything

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
REST = "2010-12-01 08:26:00,1.00,17850,United Kingdom"


def line(number: str, code: str, name: str = "plain", quantity: int = 1) -> str:
    return f"{number},{code},{name},{quantity},{REST}"


def imported(folder: Path, lines: Sequence[str], *, delimiter: str = ",", encoding: str = "utf-8") -> tuple[ImportReport, LocalTarget]:
    path, target = folder / "online_retail.csv", LocalTarget(folder / "target.db")
    path.write_bytes("".join(f"{each}\n" for each in [HEADER, *lines]).replace(",", delimiter).encode(encoding))
    return run_import(target, load_mapping("online_retail"), [path], writes=everything), target


def totals(target: LocalTarget) -> list[tuple[str, int]]:
    return target.rows("SELECT number, total_minor FROM sale ORDER BY number")


AROUND = [line("A1", "S1"), line("Z9", "S1")]
TAKEN = [line("B1", "S1"), line("B1", "S2", quantity=100)]


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        pytest.param(line("A2", "S1", '"TUBE 5 INCH'), line("B2", "S1", '"LIGHT HOLDER'), id="text-behind-the-closing-quote"),
        pytest.param(line("A2", "S1", '"TUBE 5 INCH'), line("B2", "S1", 'LIGHT 5"'), id="a-comma-behind-it-by-chance"),
        pytest.param(line("A2", "S1", '"TUBE'), line("B2", "S1", 'LIGHT, 5"'), id="and-a-field-too-many"),
        pytest.param(line("A2", '"S1'), line("B2", "S1", 'LIGHT 5"'), id="and-a-field-too-few"),
    ],
)
@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "cp1251"), ("\t", "utf-8-sig")])
def test_sales_whose_lines_a_quote_took_stay_out_whole(tmp_path: Path, opens: str, closes: str, delimiter: str, encoding: str) -> None:
    rows = [AROUND[0], opens, *TAKEN, closes, line("B1", "S3", "крюк"), AROUND[1]]
    report, target = imported(tmp_path, rows, delimiter=delimiter, encoding=encoding)
    assert totals(target) == [("A1", 100), ("Z9", 100)]
    first, *rest = report.rejected
    assert first["line"] == 3
    assert "(lines 3 to 6)" in str(first["reason"])
    assert "(sale A2, sale B1, sale B2)" in str(first["reason"])
    assert [each["reason"] for each in rest] == [
        "sale B1 is left out whole: line 4 of online_retail.csv, which belongs to it, was rejected"
    ]
    mended = [each.replace('"', "") for each in rows if "LIGHT," not in each]
    again, _ = imported(tmp_path, mended, delimiter=delimiter, encoding=encoding)
    assert again.rejected == []
    assert ("B1", 10_200) in totals(target)


def test_two_lines_that_a_quote_made_one_row(tmp_path: Path) -> None:
    report, target = imported(tmp_path, [line("A2", "S1", '"TUBE'), line("B1", "S1", 'LIGHT 5"'), line("B1", "S2")])
    assert totals(target) == []
    assert "takes in whole rows (lines 2 to 3) (sale A2, sale B1)" in str(report.rejected[0]["reason"])


def test_a_quote_that_is_never_closed_takes_no_part_of_a_sale(tmp_path: Path) -> None:
    report, target = imported(tmp_path, [*AROUND, line("B1", "S1"), line("A2", "S1", '"TUBE'), *TAKEN])
    assert totals(target) == [("A1", 100), ("Z9", 100)]
    assert "never closed (lines 5 to 7) (sale A2, sale B1)" in str(report.rejected[0]["reason"])


def test_a_quote_that_runs_to_the_limit_takes_no_part_of_a_sale(tmp_path: Path) -> None:
    many = [line(f"M{number}", "S1") for number in range(4_000)]
    report, target = imported(tmp_path, [line("M5", "S0"), line("A2", "S1", '"TUBE'), *many])
    swallowed = int(str(report.rejected[0]["reason"]).split(" to ")[1].split(")")[0]) - 3
    assert "a field is longer than" in str(report.rejected[0]["reason"])
    assert "and 2,09" in str(report.rejected[0]["reason"])
    assert [number for number, _ in totals(target)] == sorted(f"M{number}" for number in range(swallowed, 4_000))


KEY_LAST = """
[mapping]
title = "Slips"
currency = "GBP"

[files.lines]
match = ["slips.csv"]

[files.lines.fields]
code = { column = "code", required = true }
name = { column = "name" }
amount = { column = "amount", type = "minor", required = true }
number = { column = "number", required = true }

[[documents]]
table = "sale"
file = "lines"
key = "number"

[documents.columns]
id = "{number}"
number = "{number}"
kind = "sale"
branch_id = "UK"
sold_ms = 1
currency = "GBP"
total_minor = { total = "sale_line.amount_minor" }

[[documents.parts]]
table = "sale_line"
parent = "sale_id"
file = "lines"
key = "number"

[documents.parts.columns]
id = "{number}-{code}"
name = "{name}"
qty_milli = 1000
unit_price_e4 = 1
amount_minor = "{amount}"
"""


def slips(folder: Path, text: str) -> tuple[ImportReport, LocalTarget]:
    path, target = folder / "slips.csv", LocalTarget(folder / "target.db")
    path.write_text("code,name,amount,number\n" + text, encoding="utf-8")
    return run_import(target, parse_mapping(KEY_LAST, "slips.toml"), [path], writes=everything), target


def test_where_it_cannot_be_known_what_a_line_belongs_to_nothing_goes_in(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"slips\.csv: line 4: .*\(lines 3 to 5\).*nothing was imported\. Mend the quotes") as caught:
        slips(tmp_path, 'a,x,1.00,B1\nb,"5 inch,2.00,B1\nhalf a line\nc,"x" y,1.00,B2\nd,x,1.00,Z9\n')
    assert caught.value.code == "import.source"
    assert totals(LocalTarget(tmp_path / "target.db")) == []


def test_the_key_behind_a_stray_quote_is_found(tmp_path: Path) -> None:
    report, target = slips(tmp_path, 'a,x,1.00,B1\nb,"5 inch,2.00,B1\nc,"x" y,1.00,B2\nd,x,1.00,Z9\n')
    assert totals(target) == [("Z9", 100)]
    assert "(sale B1, sale B2)" in str(report.rejected[0]["reason"])


LEGAL = [
    pytest.param('a,"first\nsecond, with a comma\n""third""\n",1.00,B1\n', id="text"),
    pytest.param('"a\nb",x,1.00,B1\n', id="in-the-first-column"),
    pytest.param('"a\nb","c\nd","1.00","B1"\n', id="in-two-columns"),
    pytest.param('a,"one, two, three, four\nx, y, z, w\n",1.00,B1\n', id="as-many-commas-as-a-row-has"),
    pytest.param('a,"\n\n\n",1.00,B1\n', id="nothing-but-breaks"),
]


@pytest.mark.parametrize("text", LEGAL)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_breaks_inside_quotes_go_in(tmp_path: Path, text: str, end: str) -> None:
    path, target = tmp_path / "slips.csv", LocalTarget(tmp_path / "target.db")
    path.write_bytes(f"code,name,amount,number\n{text}b,x,1.00,B1\n".replace("\n", end).encode())
    report = run_import(target, parse_mapping(KEY_LAST, "slips.toml"), [path], writes=everything)
    assert report.rejected == []
    assert totals(target) == [("B1", 200)]


def test_a_bad_value_beside_line_breaks_leaves_out_its_own_sale_alone(tmp_path: Path) -> None:
    report, target = slips(tmp_path, 'a,"first\nsecond",much,B1\nb,x,1.00,Z9\n')
    assert totals(target) == [("Z9", 100)]
    assert report.rejected == [{"file": "slips.csv", "line": 2, "reason": "amount 'much': not a number (lines 2 to 3) (sale B1)"}]
