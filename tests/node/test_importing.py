"""An import on a node, again after others have worked on what it brought: nothing they did is undone."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.writer import ImportTarget
from schema.importer.mapping import load_mapping
from schema.importer.report import ImportReport
from schema.importer.run import run_import
from tests.world import Node, World

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
LINES = "".join(f"{number},85123A,HOLDER,6,2010-12-01 08:26:00,2.55,{customer},United Kingdom\n" for number, customer in [(1, 11), (2, 22)])


@pytest.fixture
def till(world: World) -> Node:
    return world.node("UK", "branch:UK")


def imported(entry: Node, folder: Path, text: str = LINES) -> ImportReport:
    path = folder / "online_retail.csv"
    path.write_text(HEADER + text, encoding="utf-8")
    writes = ("contact", "sale", "sale_line")
    report = run_import(ImportTarget(entry.database), load_mapping("online_retail"), [path], writes=writes.__contains__)
    entry.sync()
    return report


def test_a_contact_that_the_office_deleted_does_not_come_back(world: World, till: Node, tmp_path: Path) -> None:
    imported(till, tmp_path)
    world.sql("DELETE FROM contact WHERE id = '11'")
    till.sync()
    assert till.sql("SELECT id FROM contact") == [("22",)]
    report = imported(till, tmp_path)
    assert report.rows["contact"] == {"new": 0, "same": 1, "differs": 0, "deleted": 1}
    assert till.sql("SELECT id FROM contact") == world.sql("SELECT id FROM contact") == [("22",)]
    assert till.unsynced() == 0
    assert till.verify()


def test_what_the_office_edited_stays_edited(world: World, till: Node, tmp_path: Path) -> None:
    imported(till, tmp_path)
    world.sql("UPDATE contact SET name = 'Ann' WHERE id = '11'")
    till.sync()
    report = imported(till, tmp_path)
    assert report.rows["contact"] == {"new": 0, "same": 1, "differs": 1, "deleted": 0}
    assert world.sql("SELECT name FROM contact WHERE id = '11'") == [("Ann",)]


def test_a_corrected_file_changes_no_sale_and_says_so(world: World, till: Node, tmp_path: Path) -> None:
    imported(till, tmp_path)
    report = imported(till, tmp_path, LINES.replace(",6,", ",7,", 1))
    assert [each["line"] for each in report.rejected] == [2]
    assert "sale 1 is left out: it was imported before with other content" in str(report.rejected[0]["reason"])
    assert world.sql("SELECT SUM(total_minor) FROM sale") == [(2 * 1530,)]


def test_a_cut_import_remembers_no_more_than_is_in(till: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: ImportTarget) -> None:
        self.rollback()
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(ImportTarget, "commit", full)
        with pytest.raises(OSError, match="full"):
            imported(till, tmp_path)
    assert imported(till, tmp_path).rows["contact"] == {"new": 2, "same": 0, "differs": 0, "deleted": 0}
