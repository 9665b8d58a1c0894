"""Backups of before an upgrade, put back after it: what other versions kept of the lost history comes back translated."""

from __future__ import annotations

from pathlib import Path

import pytest

import node.database
import server.database
from server.service import Service
from tests.healing.copies import copy_of
from tests.skew.declarations import VERSIONS, declared
from tests.skew.test_versions import ANN
from tests.skew.world import SkewedWorld, insert, update

NEWEST = VERSIONS[-1]


def put_back(path: Path, copy: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(copy.read_bytes())


@pytest.mark.parametrize("first", [1, NEWEST])
@pytest.mark.parametrize("second", [1, 3, NEWEST])
def test_a_centre_restored_to_before_its_upgrade_gets_everything_back(tmp_path: Path, first: int, second: int) -> None:
    """The rows of a node that never returns come from what another pulled of them under the version of then."""
    world = SkewedWorld(tmp_path, 1)
    gone, here = world.node_of(1, "gone"), world.node_of(1, "here")
    gone.sync()
    here.sync()
    copy = copy_of(world.database.path)
    insert(gone, "person", ANN)
    insert(gone, "slip", {"id": "s1", "branch_id": "LON", "total_minor": 100})
    insert(gone, "slip_line", {"id": "l1", "slip_id": "s1", "text": "tea"})
    gone.sync()
    here.sync()
    insert(here, "slip", {"id": "s2", "branch_id": "LON", "total_minor": 200})
    here.sync()
    if first == NEWEST:  # upgraded, then restored to before that
        world.upgrade_centre(NEWEST)
        world.upgrade("here", second)
        world.nodes["here"].sync()
    world.database.close()
    put_back(world.database.path, copy)
    world.schema = declared(NEWEST)
    world.database = server.database.Database(world.database.path, world.schema, clock_ms=world.clock.read)
    world.service = Service(world.database)
    world.nodes.pop("gone").database.close()
    world.upgrade("here", second)
    world.settle()
    row = world.centre_row("person", "ann") or {}
    assert (row["cell"], row["weight"], row["city"], row["country"]) == ("1", 1500, "York", "GB")
    assert world.sql("SELECT id, total_minor FROM slip ORDER BY id") == [("s1", 100), ("s2", 200)]
    assert world.sql("SELECT id FROM slip_line") == [("l1",)]
    assert world.agree()
    world.close()


def test_a_node_restored_to_before_its_upgrade_goes_on(tmp_path: Path) -> None:
    world = SkewedWorld(tmp_path, NEWEST)
    here, there = world.node_of(1, "here"), world.node_of(NEWEST, "there")
    insert(there, "person", ANN | {"loyalty": "gold"})
    world.settle()
    copy = copy_of(here.database.path)
    update(here, "person", "ann", {"cell": "2"})
    here.sync()
    world.upgrade("here", NEWEST)
    update(here, "person", "ann", {"city": "Leeds", "loyalty": "silver"})
    here.sync()
    clock_ms = here.database.clock_ms
    here.database.close()
    put_back(world.folder / "here.db", copy)
    here.database = node.database.Database(world.folder / "here.db", declared(1), clock_ms)
    update(here, "person", "ann", {"name": "Anna"})
    here.sync()
    assert world.agree()
    world.upgrade("here", NEWEST)
    world.settle()
    assert world.agree()
    for name in world.nodes:
        row = world.row(name, "person", "ann") or {}
        assert (row["name"], row["cell"], row["city"], row["loyalty"]) == ("Anna", "2", "Leeds", "silver")
    world.close()
