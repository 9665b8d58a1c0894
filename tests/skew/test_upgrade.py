"""Upgrade in place: all of it or nothing, with everything that lies under the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2

import node.database
import server.database
from node import held
from node.writer import transaction
from schema.dialects.base import Connection
from schema.dialects.sqlite import Sqlite
from server import held as held_work
from server import ingest
from server.replies import problem_response
from sync.errors import BadValue, CannotUpgrade, NewerFile
from tests.skew.declarations import VERSIONS, declared
from tests.skew.test_versions import ANN
from tests.skew.world import SkewedWorld, insert, update

NEWEST = VERSIONS[-1]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SkewedWorld]:
    made = SkewedWorld(tmp_path, 1)
    made.node_of(1, "k1")
    made.node_of(1, "k2")
    yield made
    made.close()


class Failing(Sqlite):
    """A database whose statements are interrupted after some steps, as when the machine goes down there."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.left = steps, steps

    def open(self, url: Path, *, readonly: bool = False) -> Connection:
        connection = super().open(url, readonly=readonly)

        def count() -> int:
            self.left -= 1
            return int(self.left < 0)

        connection.set_progress_handler(count, 50)  # type: ignore[attr-defined]
        return connection


def contents(path: Path) -> dict[str, Any]:
    connection = Sqlite().open(path)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    found = {name: sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"').fetchall())) for name in names}
    found["master"] = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return found


@pytest.mark.covers("P-11.10")
@pytest.mark.parametrize("side", ["node", "server"])
@pytest.mark.sqlite_centre("a file is opened, and looked into, by name")
def test_an_upgrade_that_is_cut_anywhere_changes_nothing(world: SkewedWorld, side: str) -> None:
    k1 = world.nodes["k1"]
    insert(k1, "person", ANN)
    k1.sync()
    update(k1, "person", "ann", {"cell": "2"})
    world.sql("UPDATE person SET name = 'Anna'")
    path = world.folder / ("k1.db" if side == "node" else "server.db")
    k1.database.close()
    world.database.close()
    before, cut = contents(path), 0
    for steps in range(0, 100_000, 4):
        try:
            if side == "node":
                node.database.Database(path, declared(NEWEST), world.clock.read, Failing(steps)).close()
            else:
                server.database.Database(path, declared(NEWEST), Failing(steps), clock_ms=world.clock.read).close()
            break
        except dbapi2.OperationalError:
            now = contents(path)
            if now != before:
                break  # cut behind the commit; that it is whole is seen below
            cut += 1
    assert cut > 20
    assert contents(path) != before
    k1.database = node.database.Database(world.folder / "k1.db", declared(NEWEST), world.clock.read)
    world.upgrade_centre(NEWEST)
    world.upgrade("k2", NEWEST)
    world.settle()
    assert world.agree()
    row = world.centre_row("person", "ann") or {}
    assert (row["cell"], row["name"]) == ("2", "Anna")


def test_a_server_whose_file_was_upgraded_under_it_asks_nodes_to_try_again(world: SkewedWorld) -> None:
    server.database.Database(world.database.path, declared(NEWEST), clock_ms=world.clock.read).close()
    with pytest.raises(NewerFile, match="while this program was running") as found:
        world.service.health()
    response = problem_response(found.value)
    assert (response.status_code, json.loads(bytes(response.body))["retry"]) == (500, True)
    with pytest.raises(NewerFile):
        world.nodes["k1"].sync()
    world.upgrade_centre(NEWEST)
    world.settle()
    assert world.agree()


def test_the_centre_s_rows_under_pending_and_held_work_are_brought_up_to_date(world: SkewedWorld) -> None:
    k1 = world.nodes["k1"]
    insert(k1, "person", ANN)
    insert(k1, "slip", {"id": "s1", "branch_id": "LON", "total_minor": 100})
    k1.sync()
    k1.sql("UPDATE slip SET total_minor = 999 WHERE id = 's1'")  # held: a document does not change
    k1.sync()
    assert world.held() == ["immutable"]
    update(k1, "person", "ann", {"cell": "2", "weight": 9000, "city": "Leeds"})
    world.upgrade_centre(NEWEST)
    k1 = world.upgrade("k1", NEWEST)
    assert k1.unsynced() == 1
    assert k1.verify()  # compares what lies under the pending work
    assert k1.held()[0]["values"] == {"total_minor": 999}
    row = world.row("k1", "person", "ann") or {}
    assert (row["cell"], row["weight"], row["city"], row["country"]) == ("2", 9000, "Leeds", "GB")
    with world.database.writing() as store:
        ingest.decide(store, held_work.waiting(store)[0].id, False, world.clock.read())
    world.settle()
    assert world.row("k1", "slip", "s1") == {"id": "s1", "branch_id": "LON", "till": None, "total_minor": 100}
    assert world.agree()
    assert k1.held()[0]["verdict"] == "refused"


@pytest.mark.parametrize("beside", [True, False])
def test_refused_work_of_a_column_that_was_dropped_is_sent_again_without_it(tmp_path: Path, beside: bool) -> None:
    world = SkewedWorld(tmp_path / "w3", 3)
    k1 = world.node_of(3, "k1")
    insert(k1, "person", ANN | {"note": "old"})
    k1.sync()
    with transaction(k1.database) as writing:
        writing.connection.execute("UPDATE person SET fax = CAST(x'ff' AS TEXT) WHERE id = 'ann'")
        if beside:
            writing.insert("person", {"id": "bob", "name": "Bob", "fax": "f3", "branch_id": "LON"})
    k1.sync()
    with world.database.writing() as store:
        ingest.decide(store, held_work.waiting(store)[0].id, False, world.clock.read())
    k1.sync()
    world.upgrade_centre(NEWEST)
    k1 = world.upgrade("k1", NEWEST)
    (work,) = {each["id"] for each in k1.held()}
    if beside:
        held.correct(k1.database, work, ["branch_id=LON"], "person:bob")
        world.settle()
        assert world.sql("SELECT id, branch_id FROM person ORDER BY id") == [("ann", "LON"), ("bob", "LON")]
    else:
        with pytest.raises(BadValue, match="columns that are not in use any more"):
            held.correct(k1.database, work, ["name=Ann B"])
        assert [each["id"] for each in k1.held()] == [work]
    assert world.agree()
    world.close()


def test_row_numbers_marks_and_other_programs_indexes_stay(world: SkewedWorld) -> None:
    """A number is never given twice, so that nothing new is taken for something sealed."""
    k1 = world.nodes["k1"]
    for key in ("a", "b", "c"):
        insert(k1, "person", ANN | {"id": key})
    k1.sync()
    k1.sql("DELETE FROM person WHERE id = 'c'")
    k1.sync()
    k1.sql("CREATE INDEX mine ON person (name, city)")
    k1.sql("CREATE VIEW names AS SELECT name FROM person")
    numbers = k1.sql("SELECT _rid, id FROM person ORDER BY id")
    k1 = world.upgrade("k1", NEWEST)
    assert k1.sql("SELECT _rid, id FROM person ORDER BY id") == numbers
    assert k1.sql("SELECT tbl_name FROM sqlite_master WHERE name = 'mine'") == [("person",)]
    assert k1.sql("SELECT name FROM names") == [("Ann",), ("Ann",)]
    insert(k1, "person", ANN | {"id": "d"})
    assert k1.sql("SELECT _rid FROM person WHERE id = 'd'")[0][0] > 3
    world.upgrade_centre(NEWEST)
    world.settle()
    assert world.sql("SELECT id FROM person ORDER BY id") == [("a",), ("b",), ("d",)]
    assert world.agree()


@pytest.mark.covers("P-11.10")
def test_what_does_not_fit_is_refused_in_words_and_the_old_program_goes_on(world: SkewedWorld) -> None:
    k1 = world.nodes["k1"]
    insert(k1, "person", ANN)
    k1.sql("CREATE INDEX mine ON person (fax)")
    before = contents(world.folder / "k1.db")
    with pytest.raises(CannotUpgrade, match="index mine on person"):
        node.database.Database(world.folder / "k1.db", declared(NEWEST), world.clock.read)
    assert contents(world.folder / "k1.db") == before
    k1.sync()
    assert world.agree()


@pytest.mark.sqlite_centre("a file is opened, and looked into, by name")
def test_a_declaration_that_changed_without_a_version_is_refused(world: SkewedWorld) -> None:
    world.database.close()
    connection = Sqlite().open(world.folder / "server.db")
    connection.execute("ALTER TABLE person RENAME COLUMN note TO remark")
    connection.execute("UPDATE _bookkeeping SET digest = 'another declaration, of the same version'")
    connection.close()
    with pytest.raises(CannotUpgrade, match=r"person\.note is not there.*without a new version"):
        server.database.Database(world.folder / "server.db", declared(1))
    connection = Sqlite().open(world.folder / "server.db")
    connection.execute("ALTER TABLE person RENAME COLUMN remark TO note")
    connection.execute("UPDATE _table SET rules = 'another scope' WHERE name = 'person'")
    connection.close()
    with pytest.raises(CannotUpgrade, match="scope of person changed"):
        server.database.Database(world.folder / "server.db", declared(1))
    connection = Sqlite().open(world.folder / "server.db")
    connection.execute("UPDATE _table SET rules = NULL")
    connection.close()
    world.upgrade_centre(1)


def test_who_wrote_which_cell_is_known_after_columns_moved(world: SkewedWorld) -> None:
    """New columns stand before old ones: a clock that was counted wrong would make a seen edit a conflict, or the reverse."""
    k1, k2 = world.nodes["k1"], world.nodes["k2"]
    insert(k1, "person", ANN)
    world.settle()
    update(k1, "person", "ann", {"cell": "k1"})
    k1.sync()
    update(k2, "person", "ann", {"name": "k2"})  # has not seen k1's, but changes another cell
    world.upgrade_centre(NEWEST)
    k2.sync()
    assert k2.conflicts() == []
    update(k1, "person", "ann", {"weight": 1})
    k2 = world.upgrade("k2", NEWEST)
    update(k2, "person", "ann", {"cell": "seen"})
    k2.sync()
    assert k2.conflicts() == []
    k1.sync()
    world.settle()
    row = world.centre_row("person", "ann") or {}
    assert (row["cell"], row["name"], row["weight"]) == ("seen", "k2", 1)
    assert world.agree()


def test_what_central_programs_wrote_before_is_journaled_for_the_column_it_was_in(world: SkewedWorld) -> None:
    """Columns move when others come before them: read after the upgrade, the old log would name another column."""
    k1 = world.nodes["k1"]
    insert(k1, "person", ANN | {"note": "first"})
    world.settle()
    world.sql("UPDATE person SET note = 'centre' WHERE id = 'ann'")
    update(k1, "person", "ann", {"note": "k1", "name": "Anna"})  # the note was changed unseen, the name was not
    world.upgrade_centre(NEWEST)
    k1.sync()
    assert [(entry["column"], entry["mine"], entry["theirs"]) for entry in k1.conflicts()] == [("note", "k1", "centre")]
    world.settle()
    assert world.agree()


def test_a_deleted_row_comes_back_in_todays_columns(world: SkewedWorld) -> None:
    k1, k2 = world.nodes["k1"], world.nodes["k2"]
    insert(k1, "person", ANN)
    world.settle()
    k1.sql("DELETE FROM person WHERE id = 'ann'")
    k1.sync()
    update(k2, "person", "ann", {"city": "Leeds"})  # unseen: the edit wins, the row lives
    world.upgrade_centre(NEWEST)
    k2.sync()
    row = world.centre_row("person", "ann") or {}
    assert (row["cell"], row["weight"], row["city"], row["country"]) == ("1", 1500, "Leeds", "GB")
    world.settle()
    assert world.agree()
    world.upgrade("k1", NEWEST)
    world.upgrade("k2", NEWEST)
    world.settle()
    assert world.agree()
    assert [entry["rule"] for entry in world.nodes["k2"].conflicts()] == ["edit wins"]


@pytest.mark.covers("P-8.16")
@pytest.mark.parametrize("reader", VERSIONS)
def test_segments_go_whole_only_to_nodes_with_the_same_columns(tmp_path: Path, reader: int) -> None:
    (tmp_path / "w").mkdir()
    world = SkewedWorld(tmp_path / "w", 3)
    seller, here = world.node_of(2, "seller"), world.node_of(reader, "here")
    seller.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)"
        " INSERT INTO slip (id, branch_id, total_minor) SELECT 'r' || i, 'LON', i FROM n"
    )
    seller.sync()
    pages: list[int] = []
    pull = here.link.pull

    def counted(request: Any) -> Any:
        page = pull(request)
        pages.append(len(page.sealed))
        return page

    here.link.pull = counted  # type: ignore[method-assign]
    here.sync()
    assert sum(pages) == (1 if reader <= 3 else 0)  # slip is the same in 1, 2 and 3; of a node ahead nobody knows
    assert here.sql("SELECT COUNT(*), SUM(total_minor) FROM slip") == [(1500, 1500 * 1501 // 2)]
    assert here.verify()
    world.close()
