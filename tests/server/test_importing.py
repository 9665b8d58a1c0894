"""`outpost server import` looks before it writes: a newer program may have brought the database up to date meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import server.database
from schema.importer import writer
from schema.importer.errors import ImportCut
from schema.importer.mapping import parse_mapping
from schema.importer.run import run_import
from server.importing import CentralTarget, import_reference
from tests.skew.declarations import declared
from tests.world import World

PEOPLE = """
[mapping]
title = "People"
currency = "GBP"

[files.people]
match = ["people.csv"]

[files.people.fields]
code = { column = "code", required = true }
weight = { column = "weight" }

[[rows]]
table = "person"
file = "people"
columns = { id = "{code}", name = "{code}", fax = "{code}", weight = "{weight}", branch_id = "{code}" }
"""


def test_an_import_ends_where_a_newer_program_has_upgraded_the_centre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two portions are in when the upgrade comes: they are upgraded with the rest of the file, and nothing of before goes in after."""
    monkeypatch.setattr(writer, "BATCH_ROWS", 10)
    monkeypatch.setattr(writer, "COMMIT_ROWS", 10)
    path = tmp_path / "people.csv"
    path.write_text("code,weight\n" + "".join(f"p{number},1.250\n" for number in range(25)), encoding="utf-8")
    database = server.database.create(tmp_path / "server.db", declared(1))
    target = CentralTarget(database)
    commit, committed = target.commit, []

    def upgraded_after_two() -> None:
        commit()
        committed.append(1)
        if len(committed) == 2:
            server.database.Database(tmp_path / "server.db", declared(3)).close()

    monkeypatch.setattr(target, "commit", upgraded_after_two)
    with pytest.raises(ImportCut, match=r"Rows that are in: 20 of person; the rest is not\. Run the same import again") as caught:
        run_import(target, parse_mapping(PEOPLE, "people.toml"), [path], writes=lambda _table: True)
    assert caught.value.code == "import.cut"
    assert target.connection.in_transaction is False
    assert target.connection.execute("SELECT DISTINCT weight, typeof(weight), COUNT(*) FROM person").fetchall() == [(1250, "integer", 20)]
    target.close()
    database.close()


def test_what_the_office_deleted_since_stays_deleted(world: World, tmp_path: Path) -> None:
    path = tmp_path / "online_retail.csv"
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    path.write_text(f"{header}\n1,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,11,United Kingdom\n", encoding="utf-8")

    def imported(*, bring_back: bool = False) -> dict[str, Any]:
        return import_reference(
            world.database,
            "online_retail",
            [path],
            branch=None,
            dry_run=False,
            bring_back=bring_back,
            clock_ms=world.clock.read,
            progress=lambda _done, _total: None,
        )

    imported()
    world.sql("DELETE FROM product")
    assert imported()["rows"]["product"] == {"new": 0, "same": 0, "differs": 0, "deleted": 1}
    assert world.sql("SELECT id FROM product") == []
    assert imported(bring_back=True)["rows"]["product"] == {"new": 1, "same": 0, "differs": 0, "deleted": 0}
    assert world.sql("SELECT id FROM product") == [("85123A",)]
