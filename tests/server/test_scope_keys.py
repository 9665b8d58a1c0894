"""Scope keys of tables that a declaration may hold and the shipped ones do not: loose children, names that SQL must quote."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from sqlmodel import Field

from schema.declare import By, Everyone, Kind, Sync, Synced, Through
from schema.registry import build
from tests.world import World


class Brand(Synced, table=True):
    """What everybody has."""

    __tablename__ = "maker"
    sync: ClassVar[Sync] = Sync(Kind.RECORD, (Everyone(),))
    id: str = Field(primary_key=True)


class Remark(Synced, table=True):
    """Under a brand, or of a branch alone."""

    __tablename__ = "maker_remark"
    sync: ClassVar[Sync] = Sync(Kind.RECORD, (Through("maker", "brand_id", owned=False), By("branch", "branch_id")))
    id: str = Field(primary_key=True)
    brand_id: str | None = None
    branch_id: str | None = None


class Client(Synced, table=True):
    """A table whose name ends a text in SQL, or a name, unless it is quoted."""

    __tablename__ = 'client\'s "own"'
    sync: ClassVar[Sync] = Sync(Kind.RECORD, (By("branch", "branch_id"),))
    id: str = Field(primary_key=True)
    branch_id: str
    name: str | None = None


class Call(Synced, table=True):
    """Under such a table."""

    __tablename__ = "own_call"
    sync: ClassVar[Sync] = Sync(Kind.RECORD, (Through('client\'s "own"', "client_id"),))
    id: str = Field(primary_key=True)
    client_id: str | None = None


@pytest.mark.covers("P-2.5", "P-6.10")
def test_a_child_of_everybodys_table_without_a_parent_is_not_everybodys(tmp_path: Path) -> None:
    world = World(tmp_path, build([Brand, Remark]))
    a, b = world.node("a", "branch:A"), world.node("b", "branch:B")
    b.sql("INSERT INTO maker (id) VALUES ('tea')")
    b.sql("INSERT INTO maker_remark (id, branch_id) VALUES ('secret', 'B')")
    b.sql("INSERT INTO maker_remark (id, branch_id, brand_id) VALUES ('open', 'B', 'tea')")
    a.sql("INSERT INTO maker_remark (id, branch_id) VALUES ('of others', 'B')")
    world.settle()
    assert [entry["code"] for entry in a.held()] == ["right"]
    assert world.agree()
    assert a.repaired()["equal"]
    assert a.sql("SELECT id FROM maker_remark WHERE branch_id = 'B' AND id <> 'of others'") == [("open",)]
    world.sql("DELETE FROM maker")  # what is left of it is branch B's alone
    world.settle()
    assert a.sql("SELECT id FROM maker_remark") == [("of others",)]
    assert b.sql("SELECT id FROM maker_remark ORDER BY id") == [("open",), ("secret",)]
    assert world.agree()
    world.close()


def test_a_row_without_any_scope_is_nobodys(tmp_path: Path) -> None:
    world = World(tmp_path, build([Brand, Remark]))
    old = world.node("old", "branch:A")
    old.sql("INSERT INTO maker_remark (id) VALUES ('of none')")
    old.sync()
    assert [entry["code"] for entry in old.held()] == ["right"]
    world.sql("INSERT INTO maker_remark (id) VALUES ('of the centre')")
    world.node("new", "branch:A")
    world.settle()
    assert world.nodes["new"].sql("SELECT id FROM maker_remark") == []
    assert world.agree()
    world.close()


def test_what_waits_for_a_row_of_an_oddly_named_table_waits_and_goes(tmp_path: Path) -> None:
    world = World(tmp_path, build([Client, Call]))
    a, b = world.node("a", "branch:A"), world.node("b", "branch:A")
    a.sql("INSERT INTO own_call (id, client_id) VALUES ('v', 'c')")
    assert a.sync().verdicts["held"] == 1
    assert [entry["code"] for entry in a.held()] == ["parent"]
    b.sql('INSERT INTO "client\'s ""own""" (id, branch_id) VALUES (\'c\', \'A\')')
    world.settle()
    for node, name in ((a, "Ann"), (b, "Anna")):  # told again with its conflict
        node.sql('UPDATE "client\'s ""own""" SET name = ?', name)
    world.settle()
    world.sql('UPDATE "client\'s ""own""" SET branch_id = \'B\'')
    world.settle()
    assert world.sql("SELECT id FROM own_call") == [("v",)]
    assert a.sql("SELECT id FROM own_call") == []
    assert world.agree()
    world.close()
