"""`outpost server import` looks before it writes: a newer program may have brought the database up to date meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

import server.database
from schema.importer import writer
from schema.importer.errors import ImportCut
from schema.importer.mapping import parse_mapping
from schema.importer.run import run_import
from server.importing import CentralTarget
from tests.skew.declarations import declared

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
