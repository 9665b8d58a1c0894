"""A program without a table that is in the file: nothing of that table is passed over, taken as seen, or forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from sqlmodel import Field

from node import outbox
from schema.capture import Store, mark_all
from schema.declare import By, Kind, Sync, Synced, Through
from schema.install import known_numbers
from schema.past import Added, past
from schema.registry import Schema, build
from server import backup, centre, held_list, ingest
from server.replies import problem_response
from server.service import Service
from sync.errors import OtherTables, Overtaken
from tests.declared import declare
from tests.healing.copies import copy_of, replace_file
from tests.skew.declarations import MODELS, declared
from tests.skew.test_upgrade import contents
from tests.skew.test_versions import ANN
from tests.skew.world import SIDES, SkewedWorld, insert, opened

pytestmark = pytest.mark.sqlite_centre("files are opened by name")


class Coupon(Synced, table=True):
    """A table of an integrator's own, whose folder OUTPOST_TABLES names."""

    __tablename__ = "coupon"
    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(By("branch", "branch_id"),))

    id: str = Field(primary_key=True)
    branch_id: str
    amount_minor: int
    colour: str | None = past(Added(2))


WITH = build((*MODELS, Coupon))
COUPON = "INSERT INTO coupon (id, branch_id, amount_minor) VALUES (?, 'LON', 500)"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SkewedWorld]:
    made = SkewedWorld(tmp_path, 1, WITH)
    made.node_of(1, "k1")
    made.node_of(1, "k2")
    made.settle()
    yield made
    made.close()


def centre_with(world: SkewedWorld, schema: Schema, copy: Path | None = None) -> None:
    """Start the centre's program anew with these tables, on the same file or on a copy in its place."""
    world.database.close()
    if copy is not None:
        replace_file(world.database.path, copy)
    world.database = opened(world, "server", schema)
    world.service = Service(world.database)


@pytest.mark.covers("P-11.11")
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("side", list(SIDES))
def test_a_program_that_lacks_a_table_of_the_file_is_refused_and_touches_nothing(world: SkewedWorld, side: str, version: int) -> None:
    k1, k2 = world.nodes["k1"], world.nodes["k2"]
    for where in (k1, world):
        where.sql(COUPON, f"c{where is k1}")
    k1.database.close()
    world.database.close()
    before = contents(world.folder / SIDES[side])
    with pytest.raises(OtherTables, match=r"does not declare: coupon\. Is OUTPOST_TABLES set") as found:
        opened(world, side, declared(version))
    assert found.value.code == "home.tables"
    assert contents(world.folder / SIDES[side]) == before
    k1.database = opened(world, "node", WITH.at(version))
    centre_with(world, WITH.at(version))
    world.settle()
    assert k1.sql("SELECT id FROM coupon ORDER BY id") == k2.sql("SELECT id FROM coupon ORDER BY id") == [("cFalse",), ("cTrue",)]
    assert world.agree()


@pytest.mark.covers("P-11.11")
def test_a_backup_with_a_table_that_the_program_lacks_does_not_take_the_centre_s_place(world: SkewedWorld) -> None:
    file, path = world.folder / "backup", world.folder / "server.db"
    backup.backup(world.database, file, 1)
    world.sql(COUPON, "since")
    world.database.close()
    with pytest.raises(OtherTables):
        backup.restore(file, path, declared(1), 2, new_epoch=True)
    centre_with(world, WITH.at(1))
    assert world.sql("SELECT id FROM coupon") == [("since",)]


@pytest.mark.covers("P-11.11")
def test_a_table_that_another_program_dropped_stops_no_program_that_lacks_it(world: SkewedWorld) -> None:
    k1 = world.nodes["k1"]
    k1.sql("DROP TABLE coupon")
    k1.database.close()
    k1.database = opened(world, "node", declared(1))
    insert(k1, "person", ANN)
    k1.sync()
    assert world.sql("SELECT id FROM person") == [("ann",)]


@pytest.mark.covers("P-11.11")
def test_a_program_that_runs_while_a_table_comes_writes_nothing_more(tmp_path: Path) -> None:
    world = SkewedWorld(tmp_path, 1)
    k1 = world.node_of(1, "k1")
    for side in SIDES:
        opened(world, side, WITH.at(1)).close()
    k1.sql(COUPON, "c1")
    with pytest.raises(Overtaken, match="opened this database with other tables"), k1.database.writing() as store:
        outbox.seal(store, 1)
    with pytest.raises(Overtaken, match="opened this database with other tables") as found:
        world.service.health()
    assert problem_response(found.value).status_code == 500  # nodes try again
    k1.database.close()
    k1.database = opened(world, "node", WITH.at(1))
    centre_with(world, WITH.at(1))
    k1.sync()
    assert world.sql("SELECT id FROM coupon") == [("c1",)]
    world.close()


def test_what_is_not_declared_is_not_taken_as_seen(world: SkewedWorld) -> None:
    """Below the doors that are closed above: neither marks nor the log move for tables that nobody read."""
    k1 = world.nodes["k1"]
    k1.sql(COUPON, "c1")
    world.sql(COUPON, "c2")
    world.settle()
    for where in (k1, world):
        where.sql("UPDATE coupon SET amount_minor = 999 WHERE id = 'c1'")
        where.sql("DELETE FROM coupon WHERE id = 'c2'")
        where.sql(COUPON, f"c{where is k1}")
    for side, schema in (("node", declared(1)), ("server", declared(1).centre)):
        connection = world.database.dialect.open(world.folder / SIDES[side])
        store = Store(connection, world.database.dialect, schema, known_numbers(connection))
        assert (outbox.seal(store, 1) if side == "node" else centre.absorb(store, 1)) == 0
        mark_all(store)
        connection.close()
    with k1.database.writing() as store:
        assert outbox.seal(store, 1) == 3
    with world.database.writing() as store:
        assert centre.absorb(store, 1) == 3
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-7.28")
@pytest.mark.parametrize("told", ["row", "death"])
def test_pages_with_a_table_that_the_restored_centre_lacks_wait_until_it_has_it(tmp_path: Path, told: str) -> None:
    world = SkewedWorld(tmp_path, 1, WITH)
    centre_with(world, WITH.at(1))
    here, gone = world.node_of(1, "here"), world.node_of(1, "gone")
    world.settle()
    world.sql("DROP TABLE coupon")  # as in a copy of before the integrator's table came
    world.sql("DELETE FROM _table WHERE name = 'coupon'")
    copy = copy_of(world.database.path)
    centre_with(world, WITH.at(1))
    writer = gone if told == "row" else here
    writer.sql(COUPON, "c1")
    writer.sync()
    gone.sync()
    insert(gone, "slip", {"id": "s1", "branch_id": "LON", "total_minor": 100})
    if told == "death":
        gone.sql("DELETE FROM coupon")
    gone.sync()
    here.sync()
    world.nodes.pop("gone").database.close()
    centre_with(world, declared(1), copy)
    here.sync()
    here.sync()
    assert here.database.connection.execute("SELECT COUNT(*) FROM _kept_page WHERE lost AND offered IS NULL").fetchone()[0] > 0
    centre_with(world, WITH.at(1))
    world.settle(3)
    assert world.sql("SELECT id FROM coupon") == here.sql("SELECT id FROM coupon") == [("c1",)]
    assert world.sql("SELECT tbl, rule FROM _conflict") == ([] if told == "row" else [("coupon", "restored")])
    assert world.sql("SELECT id FROM slip") == [("s1",)]
    assert world.agree()
    world.close()


@pytest.mark.covers("P-11.6")
def test_work_that_is_held_for_a_table_goes_in_when_the_centre_has_it_though_the_version_is_the_same(tmp_path: Path) -> None:
    world = SkewedWorld(tmp_path, 1)
    world.schema = WITH.at(1)
    k1 = world.node("k1", "branch:LON")
    k1.sql(COUPON, "c1")
    k1.sql("UPDATE coupon SET amount_minor = 900")
    k1.sync()
    k1.sql("UPDATE coupon SET amount_minor = 700")
    k1.sync()
    assert set(world.held()) <= {"schema", "depends"}
    assert world.held()
    centre_with(world, WITH.at(1))
    assert world.held() == []
    assert world.sql("SELECT id, amount_minor FROM coupon") == [("c1", 700)]
    world.settle()
    assert k1.held() == []
    assert world.agree()
    world.close()


class Gift(Synced, table=True):
    """A table of an integrator's own, below one of ours."""

    __tablename__ = "gift"
    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(Through("person", "person_id"),))

    id: str = Field(primary_key=True)
    person_id: str


@pytest.mark.covers("P-11.6")
def test_what_held_work_hangs_under_is_told_as_soon_as_its_table_is_known(tmp_path: Path) -> None:
    """Until then nobody can tell that it names a parent; from then on the parent's deletion waits for it."""
    family = build((*MODELS, Gift))
    world = SkewedWorld(tmp_path, 1)
    world.schema = family.at(1)
    k1 = world.node("k1", "branch:LON")
    insert(k1, "person", ANN)
    k1.sync()
    k1.write([("gift", {"id": "g1", "person_id": "ann"}), ("slip", {"id": "s1", "branch_id": "PAR", "total_minor": 1})])
    k1.sync()
    assert world.held() == ["schema"]
    centre_with(world, family.at(1))
    assert world.held() == ["right"]
    k1.sql("DELETE FROM person")
    k1.sync()
    assert world.held() == ["right", "depends"]
    world.close()


@pytest.mark.covers("P-7.28")
def test_what_the_restored_centre_can_read_of_a_page_comes_back_beside_what_it_cannot(tmp_path: Path) -> None:
    """The page that has both is kept, and offered again: one a sync, for as long as the table is missing; the sync says so."""
    world = SkewedWorld(tmp_path, 1, WITH)
    centre_with(world, WITH.at(1))
    here, gone = world.node_of(1, "here"), world.node_of(1, "gone")
    world.settle()
    world.sql("DROP TABLE coupon")
    world.sql("DELETE FROM _table WHERE name = 'coupon'")
    copy = copy_of(world.database.path)
    centre_with(world, WITH.at(1))
    for number in range(4):
        insert(gone, "slip", {"id": f"s{number}", "branch_id": "LON", "total_minor": 100})
        gone.sql(COUPON, f"c{number}")
        gone.sync()
        here.sync()
    world.nodes.pop("gone").database.close()
    centre_with(world, declared(1), copy)
    assert here.sync().unread == 4
    slips = [(f"s{number}",) for number in range(4)]
    assert world.sql("SELECT id FROM slip ORDER BY id") == here.sql("SELECT id FROM slip ORDER BY id") == slips
    assert here.sync().unread == 1
    centre_with(world, WITH.at(1))
    world.settle(3)
    assert world.sql("SELECT id FROM coupon ORDER BY id") == here.sql("SELECT id FROM coupon ORDER BY id")
    assert len(world.sql("SELECT id FROM coupon")) == 4
    assert world.sql("SELECT id FROM slip ORDER BY id") == slips
    assert world.agree()
    world.close()


@pytest.mark.covers("P-11.6")
def test_held_work_without_the_key_that_the_centre_declares_later_stays_held_and_stops_nobody(tmp_path: Path) -> None:
    """A node's own table has a key column of another name: what it sent cannot be read, and the centre opens and goes on."""
    world = SkewedWorld(tmp_path, 1)
    mine, world.schema = world.schema, build((*MODELS, declare("tour", key=("number",), columns={"words": str}))).at(1)
    k1 = world.node("k1", "branch:LON")
    world.schema = mine
    k2 = world.node("k2", "branch:LON")
    k1.sql("INSERT INTO tour (number, branch_id, words) VALUES ('5', 'LON', 'to the lake')")
    k1.sync()
    assert world.held() == ["schema"]
    centre_with(world, build((*MODELS, declare("tour", columns={"words": str}))).at(1))
    assert world.held() == ["schema"]
    insert(k2, "person", ANN)
    k1.sync()
    k2.sync()
    assert world.sql("SELECT id FROM person") == [("ann",)]
    with world.database.reading() as store:
        assert [(row["key"], row["values"]["words"]) for row in held_list.listing(store)] == [("5", "to the lake")]
        assert [row["key"] for row in held_list.export(store)["held"]] == ["5"]
    with world.database.writing() as store:
        assert ingest.decide(store, 1, False, world.clock.read())
    assert world.held() == []
    k1.sync()
    assert [work["verdict"] for work in k1.held()] == ["refused"]
    world.close()


@pytest.mark.covers("P-11.6")
def test_fresh_rows_without_the_key_that_the_centre_declares_are_held_and_what_came_with_them_is_not(tmp_path: Path) -> None:
    world = SkewedWorld(tmp_path, 1)
    mine, world.schema = world.schema, build((*MODELS, declare("tour", key=("number",), columns={"words": str}))).at(1)
    k1 = world.node("k1", "branch:LON")
    world.schema = mine
    centre_with(world, build((*MODELS, declare("tour", columns={"words": str}))).at(1))
    k1.sql("INSERT INTO tour (number, branch_id, words) VALUES ('5', 'LON', 'to the lake')")
    insert(k1, "person", ANN)
    k1.sync()
    assert world.held() == ["schema"]
    assert world.sql("SELECT id FROM person") == [("ann",)]
    assert [(row["code"], row["key"]) for row in k1.held()] == [("schema", "5")]
    world.close()
