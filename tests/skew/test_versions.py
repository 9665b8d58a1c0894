"""A node of every version with a centre of every version: work goes both ways, nothing is wiped, upgrades lose nothing."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlmodel import Field

import server.database
from node import pending
from node.verify import verify, verify_and_repair
from schema.declare import By, Kind, Sync, Synced
from schema.registry import build
from server import conflicts
from server.service import Service
from sync.errors import Stale
from sync.messages import Page
from tests.healing.copies import copy_of, put_back_centre
from tests.skew.declarations import MODELS, VERSIONS
from tests.skew.world import SkewedWorld, insert, named, pulls, update
from tests.world import Node, ReplyLost

NEWEST = VERSIONS[-1]
ANN = {"id": "ann", "name": "Ann", "cell": "1", "fax": "f1", "weight": 1500, "street": "Low Rd", "city": "York", "branch_id": "LON"}
PAIRS = [(node, centre) for node in VERSIONS for centre in VERSIONS]

Make = Any


def listing(world: SkewedWorld) -> list[dict[str, Any]]:
    """What is on record at the centre."""
    with world.database.reading() as store:
        return conflicts.listing(store)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[SkewedWorld] = []

    def world(version: int) -> SkewedWorld:
        made.append(SkewedWorld(tmp_path / str(len(made)), version))
        return made[-1]

    (tmp_path / "0").mkdir()
    yield world
    for each in made:
        each.close()


def known(node: Node, values: dict[str, Any], table: str = "person") -> dict[str, Any]:
    """What a node of its version can show of newest values."""
    return named(node.database.schema.version, table, values)


def shows(world: SkewedWorld, name: str, key: str, values: dict[str, Any]) -> bool:
    row = world.row(name, "person", key) or {}
    return known(world.nodes[name], values).items() <= row.items()


@pytest.mark.covers("P-11.3", "P-11.4", "P-11.5", "P-11.6", "P-11.9")
@pytest.mark.parametrize(("node", "centre"), PAIRS)
def test_work_goes_both_ways_and_upgrades_lose_none_of_it(make: Make, node: int, centre: int) -> None:
    world = make(centre)
    here, there = world.node_of(node, "here"), world.node_of(centre, "there")
    insert(there, "person", ANN | {"loyalty": "gold", "country": "DE", "note": "n"})
    there.sync()
    here.sync()
    assert shows(world, "here", "ann", ANN | {"fax": "f1" if centre < 4 else ""})  # one that was never there is empty, not missing
    ahead = node > centre

    # both sell, both change the row: other columns, and the one group of which an old node knows less
    insert(here, "slip", {"id": "r1", "branch_id": "LON", "till": "T1", "total_minor": 1250})
    insert(here, "slip_line", {"id": "l1", "slip_id": "r1", "text": "tea"})
    update(here, "person", "ann", {"cell": "2", "street": "High Rd"})
    insert(there, "slip", {"id": "r2", "branch_id": "LON", "till": "T2", "total_minor": 990})
    update(there, "person", "ann", {"weight": 2500, "loyalty": "silver"})
    world.sql("UPDATE person SET name = 'Anna' WHERE id = 'ann'")
    there.sync()
    here.sync()
    there.sync()
    assert here.unsynced() == 0
    assert set(world.held()) <= ({"schema", "depends", "parent"} if ahead else set())
    if not ahead:
        after = {"name": "Anna", "cell": "2", "street": "High Rd", "weight": 2500, "loyalty": "silver", "country": "DE", "note": "n"}
        assert shows(world, "there", "ann", after)  # the old node wiped nothing of what it does not know
        assert shows(world, "here", "ann", after)
    world.settle(2)
    assert world.agree()

    # both are upgraded, the node with work of every kind on it: not captured yet, sealed, sent without an answer
    insert(here, "slip", {"id": "r3", "branch_id": "LON", "till": "T1", "total_minor": 1})
    here.link.lose = ["push"]
    with pytest.raises(ReplyLost):
        here.sync()
    insert(here, "slip", {"id": "r4", "branch_id": "LON", "till": "T1", "total_minor": 2})
    update(here, "person", "ann", {"city": "Leeds"})
    before = here.unsynced()
    world.upgrade("here", NEWEST)
    assert here.unsynced() == before + (2 if node < NEWEST else 0)  # sealed as they were written, none sent, none lost
    assert shows(world, "here", "ann", {"city": "Leeds", "cell": "2"})
    insert(here, "phone_call", {"id": "v1", "person_id": "ann", "minutes": 30.5, "text": "tea"})
    here.sync()
    world.upgrade_centre(NEWEST)
    assert world.held() == []
    world.upgrade("there", NEWEST)
    world.settle()
    assert world.agree()
    assert all(entry.unsynced() == 0 for entry in world.nodes.values())
    final = {"id": "ann", "name": "Anna", "cell": "2", "weight": 2500, "street": "High Rd", "city": "Leeds", "branch_id": "LON"}
    if centre >= 2:
        final |= {"loyalty": "silver", "country": "DE"}
    for name in world.nodes:
        assert (world.row(name, "person", "ann") or {}).items() >= final.items()
        assert world.nodes[name].sql("SELECT id, total_minor FROM slip ORDER BY id") == [("r1", 1250), ("r2", 990), ("r3", 1), ("r4", 2)]
        assert world.nodes[name].sql("SELECT id, text FROM slip_line") == [("l1", "tea")]
        assert world.nodes[name].sql("SELECT id, minutes FROM phone_call") == [("v1", 30.5)]
    assert (world.centre_row("person", "ann") or {})["fax"] == ("f1" if centre < 4 else None)


@pytest.mark.covers("P-11.8")
@pytest.mark.parametrize("node", VERSIONS[:-1])
def test_an_upgraded_node_gets_what_it_lacked_and_nothing_else(make: Make, node: int) -> None:
    world = make(NEWEST)
    here, there = world.node_of(node, "here"), world.node_of(NEWEST, "there")
    for number in range(5):
        insert(there, "person", ANN | {"id": f"c{number}", "loyalty": f"l{number}", "country": "FR"})
        insert(there, "slip", {"id": f"r{number}", "branch_id": "LON", "till": "T", "total_minor": number})
        insert(there, "slip_line", {"id": f"l{number}", "slip_id": f"r{number}", "text": "tea"})
        insert(there, "phone_call", {"id": f"v{number}", "person_id": f"c{number}", "minutes": 0.5, "text": "x"})
    there.sync()
    here.sync()
    insert(here, "slip", {"id": "mine", "branch_id": "LON", "till": "T1", "total_minor": 7})
    here.sync()
    world.upgrade("here", NEWEST)
    lacked = {1: 5 + 5 + 6, 2: 5 + 5 + 6, 3: 5 + 6, 4: 5}[node]  # persons where they have more, phone_calls, slips and its own
    assert here.sync().pulled == lacked
    assert here.sync().pulled == 0
    assert here.sql("SELECT COUNT(*) FROM person WHERE loyalty = 'l' || substr(id, 2) AND country = 'FR'") == [(5,)]
    assert here.sql("SELECT COUNT(*) FROM phone_call WHERE minutes = 0.5") == [(5,)]
    assert here.sql("SELECT COUNT(*) FROM slip WHERE till = 'T'") == [(5,)]
    assert world.agree()


@pytest.mark.covers("P-11.8", "P-8.8")
def test_what_was_lacking_comes_in_pages_also_when_the_pull_is_cut(make: Make) -> None:
    world = make(NEWEST)
    here, there = world.node_of(1, "here"), world.node_of(NEWEST, "there")
    for number in range(40):
        insert(there, "person", ANN | {"id": f"c{number:02}", "loyalty": "gold"})
    there.sync()
    here.sync(rows=10)
    world.upgrade("here", NEWEST)
    here.link.lose = ["pull"]
    with pytest.raises(ReplyLost):
        here.sync(rows=10)
    insert(there, "person", ANN | {"id": "late", "loyalty": "gold"})
    there.sync()
    here.sync(rows=10)
    assert here.sql("SELECT COUNT(*), COUNT(loyalty) FROM person") == [(41, 41)]
    assert world.agree()


@pytest.mark.covers("P-6.37", "P-11.4")
def test_held_work_on_a_group_is_corrected_after_an_upgrade_that_widened_the_group(make: Make) -> None:
    """The correction knows a column of the group that what it corrects did not; composed, they are one edit of all columns."""
    world = make(NEWEST)
    here, there = world.node_of(1, "here"), world.node_of(NEWEST, "there")
    insert(there, "person", ANN | {"country": "DE"})
    world.settle()
    here.sql("UPDATE person SET weight = 'heavy', street = 'High St' WHERE id = 'ann'")
    here.sync()
    assert world.held() == ["type"]
    world.upgrade("here", NEWEST)
    update(here, "person", "ann", {"weight": 71000, "city": "Leeds"})
    update(there, "person", "ann", {"country": "FR"})
    there.sync()
    here.sync()
    world.settle()
    row = world.centre_row("person", "ann") or {}
    assert row["weight"] == 71000
    assert world.held() == []
    [conflict] = listing(world)
    assert (conflict["rule"], conflict["column"]) == ("latest", ["street", "country", "city"])
    assert (conflict["mine"], conflict["theirs"]) == (["High St", "GB", "Leeds"], ["Low Rd", "FR", "York"])
    assert world.agree()


@pytest.mark.covers("P-8.9", "P-11.8")
def test_a_page_asked_for_before_an_upgrade_does_not_answer_for_what_was_lacking(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator's seed 91004567: an old page came late, was complete, and what the node lacked was never told."""
    world = make(NEWEST)
    here, there = world.node_of(1, "here"), world.node_of(NEWEST, "there")
    insert(there, "person", ANN | {"loyalty": "gold"})
    there.sync()
    here.sync()
    asked, kept = here.link.pull, list[Page]()
    monkeypatch.setattr(here.link, "pull", lambda request: kept.append(asked(request)) or kept[-1])
    here.sync()
    world.upgrade("here", NEWEST)
    monkeypatch.setattr(here.link, "pull", lambda _request: kept[-1])
    with pytest.raises(Stale):
        pulls(here)
    monkeypatch.setattr(here.link, "pull", asked)
    here.sync()
    assert (world.row("here", "person", "ann") or {})["loyalty"] == "gold"
    assert world.agree()


@pytest.mark.covers("P-11.8")
@pytest.mark.parametrize(("column", "theirs", "mine"), [("loyalty", "gold", "tin"), ("country", "DE", "FR")])
def test_what_an_upgraded_node_has_not_been_told_yet_it_does_not_overwrite_in_silence(
    make: Make, column: str, theirs: str, mine: str
) -> None:
    world = make(NEWEST)
    here, there = world.node_of(1, "here"), world.node_of(NEWEST, "there")
    insert(there, "person", ANN | {column: theirs})
    there.sync()
    here.sync()
    world.upgrade("here", NEWEST)
    update(here, "person", "ann", {column: mine, "name": "Anna"})
    here.sync()
    [conflict] = here.conflicts()
    assert theirs in str(conflict["theirs"])
    assert mine in str(conflict["mine"])
    assert (world.centre_row("person", "ann") or {}).items() >= {column: mine, "name": "Anna"}.items()
    update(here, "person", "ann", {column: "third"})  # told now
    here.sync()
    assert len(here.conflicts()) == 1
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-11.8")
def test_what_an_upgraded_node_fills_in_where_nothing_stands_is_no_conflict(make: Make) -> None:
    world = make(NEWEST)
    here, there = world.node_of(1, "here"), world.node_of(NEWEST, "there")
    insert(there, "person", ANN)
    there.sync()
    here.sync()
    world.upgrade("here", NEWEST)
    update(here, "person", "ann", {"loyalty": "tin"})
    update(here, "person", "ann", {"loyalty": "gold"})
    here.sync()
    assert here.conflicts() == []
    assert (world.centre_row("person", "ann") or {})["loyalty"] == "gold"


class Early(Synced, table=True):
    """A table of an integrator's, which stands before ours in the order of steps."""

    __tablename__ = "early"
    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(By("branch", "branch_id"),))

    id: str = Field(primary_key=True)
    branch_id: str | None = None


@pytest.mark.covers("P-8.8")
@pytest.mark.parametrize("then", ["upgraded", "without a table"])
def test_a_pull_goes_on_when_the_centre_s_tables_change_between_two_pages(make: Make, then: str) -> None:
    """The steps of a sweep have other numbers then: a position of the old ones begins them anew."""
    world = make(1)
    if then == "without a table":
        world.database.close()
        world.schema = build([Early, *MODELS]).at(1)
        world.database = server.database.Database(world.database.path, world.schema, clock_ms=world.clock.read)
        world.service = Service(world.database)
    here, there = world.node_of(1, "here"), world.node_of(1, "there")
    for number in range(30):
        insert(there, "person", ANN | {"id": f"c{number:02}"})
        insert(there, "slip", {"id": f"r{number:02}", "branch_id": "LON", "total_minor": 1})
    there.sync()
    pages = 0

    def upgrade(kind: str) -> None:
        nonlocal pages
        pages += kind == "pull"
        if pages == 2:
            pages += 1
            if then == "without a table":
                world.sql("DROP TABLE early")  # as long as it is there, no program opens the file that does not declare it
            world.upgrade_centre(NEWEST if then == "upgraded" else 1)

    here.link.before = upgrade
    here.sync(rows=10)
    assert pages > 4
    assert here.sql("SELECT (SELECT COUNT(*) FROM person), (SELECT COUNT(*) FROM slip)") == [(30, 30)]
    assert here.verify()


@pytest.mark.covers("P-11.4")
def test_conflicts_over_columns_that_one_side_does_not_know(make: Make) -> None:
    """An old node changes a group of which it knows less, a new one the rest; a person decides on either."""
    world = make(NEWEST)
    old, new = world.node_of(1, "old"), world.node_of(NEWEST, "new")
    insert(new, "person", ANN | {"country": "FR", "note": "first"})
    world.settle()
    update(new, "person", "ann", {"country": "IT", "note": "new"})
    update(old, "person", "ann", {"city": "Rome", "note": "old"})
    new.sync()
    old.sync()
    world.settle()
    assert world.agree()
    row = world.centre_row("person", "ann") or {}
    told = {entry["rule"]: entry for entry in old.conflicts()}
    city = "Rome" if told["latest"]["winner"] == "mine" else "York"  # neither knew of the other: chance decides whose address is later
    assert (row["city"], row["country"], row["note"]) == (city, "IT", "new")  # the country old does not know is never its to undo
    assert told["ask"]["mine"] == "old"
    assert told["latest"]["column"] == ["street", "city"]  # the group as an old node knows it
    assert {tuple(e["column"]) if isinstance(e["column"], list) else e["column"] for e in new.conflicts()} == {
        ("street", "country", "city"),
        "note",
    }
    old.resolve(told["ask"]["id"], "mine")
    world.settle()
    assert (world.centre_row("person", "ann") or {})["note"] == "old"
    assert world.agree()


@pytest.mark.covers("P-11.9")
@pytest.mark.parametrize(("node", "centre"), [(1, 2), (1, 3), (1, 5), (5, 3), (3, 1), (5, 4)])
def test_rows_that_differ_are_found_and_repaired_between_versions(make: Make, node: int, centre: int) -> None:
    world = make(centre)
    here, there = world.node_of(node, "here"), world.node_of(centre, "there")
    for key in ("ann", "bob", "cat"):
        insert(there, "person", ANN | {"id": key})
    there.sync()
    here.sync()
    assert here.verify()
    for statement in ("DELETE FROM person WHERE id = 'ann'", "UPDATE person SET city = 'wrong' WHERE id = 'bob'"):
        here.sql("UPDATE _state SET applying = 1")  # unnoticed by capture
        here.sql(statement)
        here.sql("UPDATE _state SET applying = 0")
    found = verify(here.database, here.link)
    assert sorted((row["key"], row["what"]) for row in found["rows"]) == [("ann", "missing here"), ("bob", "differs")]
    assert verify_and_repair(here.database, here.link)["equal"]
    fax = {"fax": "f1" if centre < 4 else ""}
    assert all(shows(world, "here", key, ANN | {"id": key} | fax) for key in ("ann", "bob", "cat"))


@pytest.mark.covers("P-8.17")
@pytest.mark.parametrize("node", VERSIONS[:-1])
def test_a_column_of_another_type_does_not_make_every_sync_a_full_verify(make: Make, node: int) -> None:
    world = make(NEWEST)
    here, there = world.node_of(node, "here"), world.node_of(NEWEST, "there")
    insert(there, "person", ANN)
    insert(there, "person", ANN | {"id": "bob"})
    world.settle()
    assert here.verify()
    for step in ({"weight": 2500}, {"cell": "2", "weight": 1}, {"city": "Hull"}):
        update(there, "person", "ann", step)
        there.sync()
        here.link.requests.clear()
        assert here.sync().differing == 0
        assert "verify" not in [kind for kind, _ in here.link.requests]
    put_rows = pending.put_rows
    with pytest.MonkeyPatch.context() as patch:  # an engine that forgets a row is found out all the same
        patch.setattr(pending, "put_rows", lambda store, table, rows: put_rows(store, table, rows[1:]))
        update(there, "person", "bob", {"city": "Ely"})
        there.sync()
        assert here.sync().differing == 1
    assert verify_and_repair(here.database, here.link)["equal"]


@pytest.mark.covers("P-11.7")
@pytest.mark.sqlite_centre("values of any type in any column")
def test_a_value_that_does_not_convert_is_kept_and_noted(make: Make) -> None:
    world = make(1)
    here = world.node_of(1, "here")
    for key, weight in [("ann", "heavy"), ("bob", "007"), ("cat", "1.250"), ("dan", None)]:
        insert(here, "person", ANN | {"id": key})
        here.sql("UPDATE person SET weight = ? WHERE id = ?", weight, key)
    here.sync()
    world.upgrade_centre(NEWEST)
    rows = world.sql("SELECT id, weight, typeof(weight) FROM person ORDER BY id")
    assert rows == [("ann", "heavy", "text"), ("bob", 7000, "integer"), ("cat", 1250, "integer"), ("dan", None, "null")]
    assert [(row[0], row[1]) for row in world.sql("SELECT key, col FROM _unconverted")] == [("ann", "weight")]
    here.sql("UPDATE person SET weight = 'light' WHERE id = 'cat'")
    here.sync()
    assert world.held() == ["type"]
    assert here.sql("SELECT weight FROM person WHERE id IN ('ann', 'cat') ORDER BY id") == [("heavy",), ("light",)]
    world.upgrade("here", NEWEST)
    assert here.sql("SELECT weight FROM person ORDER BY id") == [("heavy",), (7000,), ("light",), (None,)]
    here.sync()
    assert world.agree()


@pytest.mark.parametrize("seed", range(12))
def test_every_value_typed_stands_whoever_typed_it_and_whenever_they_were_upgraded(make: Make, seed: int) -> None:
    """Each cell has one writer, so nothing conflicts; nodes and centre are upgraded at random, with whatever they hold."""
    chance = random.Random(seed)
    world = make(chance.choice(VERSIONS[:3]))
    names = ["k1", "k2", "k3"]
    for name in names:
        world.node_of(chance.choice(VERSIONS[:4]), name)
    writers = {"name": "k1", "cell": "k2", "loyalty": "k3", "weight": "k1", "street": "k2", "city": "k2", "country": "k2", "note": "k3"}
    typed: dict[tuple[str, str], Any] = {}
    rows: list[str] = []
    for step in range(60):
        name = chance.choice(names)
        entry = world.nodes[name]
        match chance.randrange(8):
            case 0:
                rows.append(key := f"c{step}")
                insert(entry, "person", ANN | {"id": key, "fax": "f"})
            case 1:
                insert(entry, "slip", {"id": f"r{step}", "branch_id": "LON", "till": name, "total_minor": step})
            case 2 if entry.database.schema.version < NEWEST:
                world.upgrade(name, chance.randint(entry.database.schema.version + 1, NEWEST))
            case 3 if world.schema.version < NEWEST and chance.random() < 0.5:
                world.upgrade_centre(chance.randint(world.schema.version + 1, NEWEST))
            case 4 | 5:
                entry.link.lose = chance.choice([[], [], ["push"], ["pull"]])
                with contextlib.suppress(ReplyLost):
                    entry.sync(rows=chance.choice([3, 10_000]))
                entry.link.lose = []
            case _:
                mine = [column for column in writers if writers[column] == name]
                key = chance.choice(rows) if rows else ""
                if key and entry.sql("SELECT 1 FROM person WHERE id = ?", key):
                    values = {column: step * 10 if column == "weight" else f"{column}{step}" for column in chance.sample(mine, 1)}
                    update(entry, "person", key, values)
                    typed |= {(key, column): value for column, value in values.items() if known(entry, {column: value})}
    world.upgrade_centre(NEWEST)
    for name in names:
        world.upgrade(name, NEWEST)
    world.settle()
    assert world.held() == []
    assert world.agree()
    for (key, column), value in typed.items():
        assert (world.centre_row("person", key) or {})[column] == value, (key, column)
    for name in names:
        assert sorted(row[0] for row in world.nodes[name].sql("SELECT id FROM person")) == sorted(rows)
        assert world.nodes[name].unsynced() == 0


@pytest.mark.sqlite_centre("values of any type in any column")
def test_a_group_with_text_that_is_none_can_be_edited_by_a_node_that_does_not_know_the_column(make: Make) -> None:
    """A central program wrote it; every push of the node failed with it."""
    world = make(2)
    a = world.node_of(1, "a")
    world.sql("INSERT INTO person (id, name, branch_id, street, city, fax) VALUES ('p1', 'Ann', 'LON', 's', 'c', '')")
    a.sync()
    world.sql("UPDATE person SET country = CAST(x'C5ff' AS TEXT)")
    a.sync()
    a.sql("UPDATE person SET street = 'new' WHERE id = 'p1'")
    assert a.sync().verdicts["accepted"] == 1
    assert world.sql("SELECT street, hex(country) FROM person") == [("new", "C5FF")]


@pytest.mark.covers("P-7.24")
@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
def test_a_page_says_nothing_of_columns_that_its_version_did_not_have(order: tuple[str, str], make: Make) -> None:
    """A restored centre hears of the row from the older node first, and then of the new column's value; seeds 63000295, 63001422."""
    world = make(2)
    world.node_of(1, "old")
    world.node_of(2, "new")
    world.sql("INSERT INTO person (id, name, branch_id, street, city, country, fax) VALUES ('p1', 'Ann', 'LON', 's', 'c', 'FR', 'f')")
    world.settle(2)
    copy = copy_of(world.database.path)
    world.sql("UPDATE person SET country = 'DE', fax = 'later'")
    world.settle(1)
    put_back_centre(world, copy)
    for name in order:
        world.nodes[name].sync()
    world.settle()
    assert world.agree()
    kept = [(each["column"], each["mine"]) for each in listing(world)]
    assert ("fax", "later") in kept
    assert any("DE" in (value if isinstance(value, list) else [value]) for _, value in kept)
    assert not any("GB" in (value if isinstance(value, list) else [value]) for _, value in kept), "the default is nobody's word"
