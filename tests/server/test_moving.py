"""A centre's database moved from one kind to the other and back: every row, number and version goes along, and work goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from server import database as databases_of_servers
from server import moving
from server.database import Database, Place
from server.service import Service
from sync.errors import BadValue
from tests import databases
from tests.simulation.schema import simulated_schema
from tests.world import Node, World

OTHER = "postgres"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A centre in a file, whichever database the other tests run on."""
    monkeypatch.delenv(databases.VARIABLE, raising=False)
    world = World(tmp_path, simulated_schema())
    monkeypatch.setenv(databases.VARIABLE, os.environ.get(databases.VARIABLE) or OTHER)
    yield world
    world.close()


def move(world: World, target: Place) -> Place:
    """Move the centre, and let the world go on there."""
    Service(world.database).absorb(world.clock.read())
    with world.database.reading() as store:
        moving.copy_into(store, target, world.schema)
    world.database.close()
    world.database = Database(target, world.schema)
    world.service = Service(world.database)
    return target


def contents(database: Database) -> dict[str, list[Any]]:
    """Return everything a database holds but what each kind counts for itself."""
    with database.reading() as store:
        names = [*moving._bookkeeping_tables(store), *(table.name for table in store.schema.tables)]
        columns = {name: sorted(store.dialect.columns_of(store.connection, name)) for name in names}
        found = {name: store.connection.execute(f'SELECT {", ".join(columns[name])} FROM "{name}"').fetchall() for name in names}
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def work(world: World, first: Node, second: Node, name: str) -> None:
    """Writes of all sorts: new, changed, deleted, held, by nodes and by a central program."""
    first.sql("INSERT INTO client (id, branch, name, points) VALUES (?, 'A', 'Ann', 1)", name)
    first.sql("INSERT INTO client (id, branch) VALUES (?, 'Z')", f"{name} held")
    first.sql("INSERT INTO receipt (id, branch, day, total) VALUES (?, 'A', '2026-01-01', 5)", f"{name} receipt")
    world.settle(2)
    world.sql(f"INSERT INTO client (id, branch, name) VALUES ('{name} central', 'A', 'Ben')")
    world.sql(f"UPDATE client SET credit = 'good' WHERE id = '{name}'")
    second.sql("UPDATE client SET points = points + 2 WHERE id = ?", name)
    second.sql("DELETE FROM client WHERE id = ?", f"{name} central")
    world.settle(3)
    assert world.agree()


def test_a_centre_moves_to_postgresql_and_back_and_goes_on(made: World, tmp_path: Path) -> None:
    first, second = made.node("first", "branch:A"), made.node("second", "branch:A")
    work(made, first, second, "one")
    before = contents(made.database)
    url = move(made, databases.new())
    assert contents(made.database) == before
    work(made, first, second, "two")
    held = [entry["key"] for entry in first.held()]
    assert held == ["one held", "two held"]
    before = contents(made.database)
    move(made, tmp_path / "back.db")
    assert contents(made.database) == before
    work(made, first, second, "three")
    move(made, again := databases.new())
    work(made, first, second, "four")
    move(made, tmp_path / "last.db")
    for place in (url, again):
        databases.drop(place)


def test_a_value_that_postgresql_cannot_hold_is_named_and_nothing_is_copied(made: World) -> None:
    made.sql("INSERT INTO client (id, branch, name, points) VALUES ('c1', 'A', 'Ann', 'about five')")
    Service(made.database).absorb(made.clock.read())
    url = databases.new()
    with made.database.reading() as store, pytest.raises(BadValue, match="client c1: points holds 'about five'"):
        moving.copy_into(store, url, made.schema)
    with closing(databases_of_servers.dialect_of(url).open(url)) as connection:
        assert databases_of_servers.dialect_of(url).tables_there(connection) <= {"_lock"}
    databases.drop(url)
