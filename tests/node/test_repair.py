"""Repair under fire: killed at any statement it changes nothing, repeated it ends the same; and whatever is broken, by seed, is mended."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import node.database
from node import cycle, held, proof
from node.aside import BY_REPAIR
from node.cycle import Cycle
from node.narrow import Narrowing
from schema.keys import key_text
from tests.healing.copies import copy_of, put_back_centre
from tests.node.furnished import behind, firm, furnish
from tests.simulation.schema import simulated_schema
from tests.world import Link, Node, World

VISIBLE = ("product", "contact", "activity", "contact_tag", "sale", "sale_line", "stock_move", "specimen")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = firm(tmp_path)
    yield made
    made.close()


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """A connection that dies before its n-th statement from now on, and none of whose statements come through from then on."""

    def __init__(self, connection: Any, lives: int) -> None:
        self._connection, self.lives, self.count = connection, lives, 0

    def _live(self) -> None:
        self.count += 1
        if self.count == self.lives:
            raise Killed

    def execute(self, *arguments: Any) -> Any:
        self._live()
        return self._connection.execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        self._live()
        return self._connection.executemany(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_connection", "lives", "count"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._connection, name, value)


def mortal(node: Node, lives: int) -> Mortal:
    database = node.database
    made = Mortal(database.connection, lives)
    database.connection = made  # type: ignore[assignment]
    object.__setattr__(database.store, "connection", made)
    return made


def revive(node: Node, made: Mortal) -> None:
    node.database.connection = made._connection
    object.__setattr__(node.database.store, "connection", made._connection)


def rows(node: Node, world: World) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Every row people see, by table and key."""
    found: dict[tuple[str, str], tuple[Any, ...]] = {}
    for name in VISIBLE:
        table = world.schema.by_name[name]
        columns = ", ".join(
            f'CASE typeof("{column}") WHEN \'text\' THEN quote(CAST("{column}" AS BLOB)) ELSE quote("{column}") END'
            for column in table.names
        )
        keys = ", ".join(f'"{column}"' for column in table.key)
        for row in node.sql(f"SELECT {keys}, {columns} FROM {name}"):
            found[name, key_text(row[: len(table.key)])] = row[len(table.key) :]
    return found


def bookkeeping(node: Node) -> list[Any]:
    names = ("_quarantine", "_segment", "_own", "_op", "_shadow", "_conflict", "_mark", "_log", "_state", "_proof")
    return [node.sql(f"SELECT * FROM {name}") for name in names]


def break_all(node: Node) -> None:
    """Something of everything: gone, changed, too much, and under pending work."""
    node.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")
    assert node.verify()
    node.sql("UPDATE _shadow SET image = NULL")
    behind(
        node,
        "DELETE FROM sale WHERE id = 's1'",
        "UPDATE sale_line SET name = 'Gin' WHERE id = 'l2'",
        "UPDATE contact SET name = 'typed' WHERE id = 'c2'",
        "INSERT INTO sale (_rid, id, number, kind, branch_id, sold_ms, currency, total_minor)"
        " VALUES (-1, 'new', '9', 'sale', 'A', 1, 'EUR', 9)",
        "INSERT INTO activity (_rid, id, contact_id) VALUES (-1, 'gone', 'c1')",
    )


def test_a_repair_that_is_killed_anywhere_has_changed_nothing(world: World) -> None:
    k2, l3 = furnish(world)
    l3.sql("INSERT INTO activity (id, contact_id) VALUES ('gone', 'c1')")
    l3.sync()
    l3.sql("DELETE FROM activity WHERE id = 'gone'")
    world.settle(2)
    break_all(k2)
    before = rows(k2, world), bookkeeping(k2)
    lives, killed = 1, 0
    while True:
        made = mortal(k2, lives)
        try:
            done = k2.repaired()
        except Killed:
            killed += 1
        else:
            break
        finally:
            revive(k2, made)
        after = bookkeeping(k2)
        if after[:-1] != before[1][:-1]:  # the repair had come through whole; what was cut was the look at whether it is right
            assert k2.verify()
            done = k2.repaired()
            break
        assert rows(k2, world) == before[0], lives
        lives += 1 + lives // 12
    assert killed > 20
    assert done["equal"]
    assert {(each["table"], each["key"]): each["code"] for each in k2.held()} == {
        ("sale_line", "l2"): "verify",
        ("contact", "c2"): "verify",
        ("activity", "gone"): "verify",
    }
    k2.sync()
    assert world.sql("SELECT total_minor FROM sale WHERE id = 'new'") == [(9,)], "the sale that capture had not seen is at the centre"
    assert world.sql("SELECT phone FROM contact WHERE id = 'c1'") == [("1",)]
    assert proof.standing(k2.database.store).is_proven
    assert k2.verify()


@pytest.mark.covers("P-9.16")
@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_broken_is_named_exactly_and_mended_exactly(world: World, seed: int) -> None:
    chance = random.Random(seed)
    k2, l3 = furnish(world)
    true = rows(k2, world)
    pending = chance.sample(range(6), 2)
    for number in pending:
        k2.sql("UPDATE contact SET email = 'mine' WHERE id = ?", f"c{number}")
    assert k2.verify()
    own = rows(k2, world)
    hidden = {("contact", f"c{number}") for number in pending}
    for _ in range(chance.randrange(1, 12)):
        name, key = chance.choice(sorted(true.keys() - hidden))
        table = world.schema.by_name[name]
        where = " AND ".join(f"{column} = '{part}'" for column, part in zip(table.key, _parts(key), strict=True))
        columns = [column for column in table.columns if column.nullable and column.name not in ("branch_id", "contact_id")]
        action = chance.random()
        if action < 0.4:
            behind(k2, f"DELETE FROM {name} WHERE {where}")
        elif action < 0.8 and columns:
            column = chance.choice(columns)
            value = {"text": "'?'", "integer": "-9", "real": "1e308", "blob": "x'00'"}[column.type]
            behind(k2, f"UPDATE {name} SET {column.name} = {value} WHERE {where}")
        elif name in ("contact", "sale", "stock_move", "specimen"):
            values = ", ".join(f"'{key}+'" if column == table.key[0] else column for column in table.names)
            low, names = -chance.randrange(1, 10**6), ", ".join(table.names)
            behind(k2, f"INSERT OR IGNORE INTO {name} (_rid, {names}) SELECT {low}, {values} FROM {name} WHERE {where}")
    broken = rows(k2, world)
    added = broken.keys() - own.keys()
    expected = {(name, key, "missing here") for name, key in own.keys() - broken.keys()}
    expected |= {(name, key, "not at the centre") for name, key in added}
    expected |= {(name, key, "differs") for name, key in own.keys() & broken.keys() if own[name, key] != broken[name, key]}
    found = k2.compared()
    named = {
        (row["table"], key_text(tuple(row["key"]) if isinstance(row["key"], list) else (row["key"],)), row["what"]) for row in found["rows"]
    }
    assert named == expected
    done = k2.repaired()
    assert done["equal"]
    assert {(row["table"], row["what"]) for row in done["repaired"]["rows"]} == {(name, what) for name, _, what in expected}
    assert rows(k2, world) == own | {place: broken[place] for place in added}
    kept = {(each["table"], key_text(tuple(each["key"]) if isinstance(each["key"], list) else (each["key"],))) for each in k2.held()}
    assert kept == {(name, key) for name, key, what in expected if what == "differs"}
    k2.sync()
    l3.sync()
    assert world.agree()
    assert added <= rows(l3, world).keys(), "what capture had not seen is everywhere now"


def _parts(key: str) -> list[str]:
    return json.loads(key) if key.startswith("[") else [key]


def test_the_program_says_what_it_found_and_did(world: World) -> None:
    """The document of `--repair` is that of a comparison, with what was repaired."""
    k2, _ = furnish(world)
    behind(k2, "DELETE FROM contact WHERE id = 'c1'")
    done = k2.repaired()
    assert set(done) == {"equal", "version", "tables", "differing", "rows", "held", "repaired"}
    assert done["repaired"] == {
        "mended": 1,
        "put_aside": 0,
        "offered": 0,
        "left": 0,
        "total": 1,
        "rows": [{"table": "contact", "key": "c1", "what": "missing here", "done": ["mended"]}],
    }


# --- beside other things ---------------------------------------------------------------------------------------------------


CONTACT = "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', ?, 'LON')"
UNSEEN = "INSERT INTO contact (_rid, id, kind, name, branch_id) VALUES (-1, 'c9', 'person', 'Ann', 'LON')"


def test_a_repair_does_not_write_over_what_another_process_has_received_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    k2, l3 = world.node("k2", "branch:LON"), world.node("l3", "branch:LON")
    for key in ("c1", "c2"):
        k2.sql(CONTACT, key, "old")
    world.settle()
    behind(k2, "UPDATE contact SET phone = 'broken' WHERE id = 'c1'", "DELETE FROM contact WHERE id = 'c2'")
    other = node.database.Database(k2.database.path, world.schema, k2.database.clock_ms)
    fetch = Narrowing.fetch

    def then_another_syncs(self: Narrowing, limit: int | None = None) -> None:
        fetch(self, limit)
        if limit is None:
            monkeypatch.undo()
            l3.sql("UPDATE contact SET name = 'new' WHERE id = 'c1'")
            l3.sql("DELETE FROM contact WHERE id = 'c2'")
            l3.sync()
            Cycle(other, Link(world, k2.link.identity)).sync()

    monkeypatch.setattr(Narrowing, "fetch", then_another_syncs)
    k2.repaired()
    other.close()
    world.settle()
    assert k2.sql("SELECT id, name, phone FROM contact") == [("c1", "new", None)]
    assert world.agree()


def test_a_repair_in_the_middle_of_a_healing_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "clients", simulated_schema())
    k2, _ = world.node("k2", "branch:A"), world.node("l3", "branch:A")
    world.settle()
    centre = copy_of(world.database.path)
    for number in range(3):
        k2.sql("INSERT INTO client (id, branch, points) VALUES (?, 'A', 10)", f"c{number}")
        k2.sync()
    world.settle()
    put_back_centre(world, centre)
    monkeypatch.setattr(cycle, "PUSH_SEGMENTS_MAX", 1)
    kinds: list[str] = []

    def cut(kind: str) -> None:
        kinds.append(kind)
        if kind == "push" and kinds.count("push") == 3:  # the first found out, the second registered
            raise Killed

    k2.link.before = cut
    with pytest.raises(Killed):
        k2.sync()
    k2.link.before = lambda _kind: None
    k2.repaired()
    world.settle()
    assert world.sql("SELECT id, points FROM client ORDER BY id") == [("c0", 10), ("c1", 10), ("c2", 10)]
    assert world.agree()
    world.close()


@pytest.mark.covers("P-5.20")
@pytest.mark.parametrize("is_sent", [False, True])
def test_an_unseen_row_and_what_was_typed_on_it_do_not_wait_for_each_other(world: World, is_sent: bool) -> None:
    k2, l3 = world.node("k2", "branch:LON"), world.node("l3", "branch:LON")
    world.settle()
    behind(k2, UNSEEN)
    k2.sql("UPDATE contact SET phone = '5' WHERE id = 'c9'")
    if is_sent:
        k2.sync()  # the centre holds it, and the repair can only put the row aside
    k2.repaired()
    if is_sent:
        world.settle()
        held.correct(k2.database, next(each["id"] for each in k2.held() if each["code"] == BY_REPAIR), ["phone=5"])
    world.settle()
    assert world.sql("SELECT id, name, phone FROM contact") == l3.sql("SELECT id, name, phone FROM contact") == [("c9", "Ann", "5")]
    assert k2.held() == []
    assert world.agree()


def test_what_a_repair_put_aside_is_set_again_where_its_row_is(world: World) -> None:
    k2, l3 = world.node("k2", "branch:LON"), world.node("l3", "branch:LON")
    k2.sql(CONTACT, "c1", "Ann")
    world.settle()
    behind(k2, "UPDATE contact SET phone = '7', note = 'n'")
    k2.repaired()
    l3.sql("UPDATE contact SET email = 'e'")
    world.settle()
    held.correct(k2.database, k2.held()[0]["id"], ["phone=7"])
    world.settle()
    assert world.sql("SELECT phone, email, note FROM contact") == [("7", "e", None)]
    assert k2.held() == []
    assert world.agree()
