"""Another program alters or drops our tables: said, never worked around in silence."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2

import node.database
import server.database
from node import proof
from node.verify import verify_and_repair
from sync.errors import Altered
from tests.server.test_held import LINE, a_sale
from tests.world import Node, World


@pytest.fixture
def k2(world: World) -> Node:
    return world.node("k2", "branch:LIS")


def by_another_program(path: Path, sql: str) -> None:
    with closing(dbapi2.connect(str(path), isolation_level=None)) as connection:
        connection.execute(sql)


def opened_again(entry: Node) -> Node:
    database = entry.database
    database.close()
    entry.database = node.database.Database(database.path, database.schema, database.clock_ms)
    return entry


def test_a_dropped_table_is_made_anew_said_to_differ_and_fetched_again(world: World, k2: Node) -> None:
    a_sale(k2, "s1", "LIS")
    k2.sql(LINE, "l1", "s1")
    world.settle()
    by_another_program(k2.database.path, "DROP TABLE sale_line")
    opened_again(k2)
    k2.sql(LINE, "l2", "s1")  # below the old numbers it would never be seen
    assert k2.unsynced() == 0
    assert proof.standing(k2.database.store).differing
    k2.sync()
    assert world.sql("SELECT id FROM sale_line ORDER BY id") == [("l1",), ("l2",), ("s1-1",)]
    assert verify_and_repair(k2.database, k2.link)["equal"]
    assert k2.sql("SELECT id FROM sale_line ORDER BY id") == [("l1",), ("l2",), ("s1-1",)]
    assert world.agree()


def test_a_unique_index_of_another_program_is_named(world: World, k2: Node) -> None:
    l3 = world.node("l3", "branch:LIS")
    by_another_program(k2.database.path, "CREATE UNIQUE INDEX one_phone ON contact (phone)")
    for key in ("c1", "c2"):
        l3.sql("INSERT INTO contact (id, kind, name, branch_id, phone) VALUES (?, 'person', 'Ann', 'LIS', '1')", key)
    l3.sync()
    with pytest.raises(Altered, match="one_phone"):
        k2.sync()
    by_another_program(k2.database.path, "DROP INDEX one_phone")
    world.settle()
    assert world.agree()


def test_the_centre_does_not_go_on_without_a_table(world: World, k2: Node) -> None:
    a_sale(k2, "s1", "LIS")
    world.settle()
    by_another_program(world.database.path, "DROP TABLE sale")
    world.database.close()
    with pytest.raises(Altered, match="dropped sale from this database"):
        server.database.Database(world.database.path, world.schema, clock_ms=world.clock.read)


def test_an_altered_table_is_not_called_a_changed_declaration(k2: Node) -> None:
    by_another_program(k2.database.path, "ALTER TABLE contact RENAME COLUMN note TO notatka")
    with pytest.raises(Altered, match="altered the table contact of this database: note is not there"):
        opened_again(k2)
