"""Transactions too large for one segment: whatever happens between their parts, all of them arrive or none."""

from __future__ import annotations

import os
from typing import Any

import pytest

from node import cycle, group, healing, sealing
from node.cycle import Cycle
from node.writer import transaction
from server import backup, held, ingest, nodes
from sync.messages import JoinRequest
from tests.healing.copies import copy_of, put_back_centre, put_back_node
from tests.world import Node, World

ROWS = 30
COUNT = "SELECT COUNT(*) FROM contact"


@pytest.fixture
def k2(world: World, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node whose segments hold ten rows; a colleague of the same branch beside it."""
    for module, name in ((sealing, "SEGMENT_ROWS_MAX"), (sealing, "SEGMENT_ROWS"), (group, "SEGMENT_ROWS")):
        monkeypatch.setattr(module, name, 10)
    made = world.node("k2", "branch:A")
    world.node("l3", "branch:A")
    world.settle()
    return made


def contacts(letter: str) -> list[tuple[str, dict[str, Any]]]:
    return [("contact", {"id": f"{letter}{n:02}", "kind": "person", "name": "x", "branch_id": "A"}) for n in range(ROWS)]


def write_with_a_proposal(entry: Node) -> None:
    """Write one large transaction that the centre holds."""
    with transaction(entry.database) as writing:
        for table, values in contacts("a"):
            writing.insert(table, values)
        writing.insert("product", {"id": "p1", "name": "Tea"})


def approve_all(world: World) -> None:
    with world.database.writing() as store:
        for each in held.waiting(store):
            ingest.decide(store, each.id, True, world.clock.read())


def everywhere(world: World, sql: str = COUNT) -> list[Any]:
    return [world.sql(sql), *(each.sql(sql) for each in world.nodes.values())]


@pytest.mark.covers("P-5.12")
def test_a_node_that_rejoins_in_the_middle_sends_all_parts_again(world: World, k2: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle, "PUSH_BYTES", 1)
    k2.write(contacts("a"))
    kinds: list[str] = []

    def cut(kind: str) -> None:
        kinds.append(kind)
        if kinds.count("push") == 2:
            raise ConnectionError

    k2.link.before = cut
    with pytest.raises(ConnectionError):
        k2.sync()
    k2.link.before = lambda _kind: None
    with world.database.writing() as store:
        nodes.revoke(store, "k2", world.clock.read())
        code = nodes.invite(store, "k2 again", ["branch:A"], world.clock.read())
    incarnation = os.urandom(16)
    reply = world.service.join(JoinRequest((1,), code, os.urandom(32), incarnation), world.clock.read())
    with k2.database.writing() as store:
        healing.rejoined(store, reply, incarnation)
    k2.link.identity = reply.node
    world.settle()
    assert everywhere(world) == [[(ROWS,)]] * 3
    assert world.agree()


@pytest.mark.covers("P-5.12", "P-6.43")
def test_parts_whose_rest_cannot_be_sent_do_not_go_into_the_next(world: World, k2: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle, "PUSH_BYTES", 1)
    k2.write(contacts("a"))
    k2.write(contacts("b"))
    Cycle(k2.database, k2.link).seal()
    third = k2.sql("SELECT seq FROM _segment ORDER BY seq")[2][0]
    k2.sql("UPDATE _segment SET body = substr(body, 1, 40) WHERE seq = ?", third)
    k2.sync()
    world.settle()
    assert world.sql("SELECT DISTINCT substr(id, 1, 1) FROM contact") == [("b",)]
    assert {each["code"] for each in k2.held()} == {"unreadable"}
    assert world.agree()


@pytest.mark.covers("P-7.20", "P-5.12")
def test_held_parts_are_kept_as_long_as_the_last(world: World, k2: Node) -> None:
    """A backup covers the work as held, and an older one is put back."""
    older = copy_of(world.database.path)
    write_with_a_proposal(k2)
    k2.sync()
    backup.backup(world.database, world.folder / "newer", world.clock.read())
    world.settle()
    put_back_centre(world, older)
    world.settle()
    assert len(k2.held()) == ROWS + 1
    approve_all(world)
    world.settle()
    assert everywhere(world) == [[(ROWS,)]] * 3
    assert world.agree()


@pytest.mark.covers("P-7.22", "P-5.12")
def test_work_in_parts_that_is_held_again_is_shown_again(world: World, k2: Node) -> None:
    """The backup that is put back knows it as held; the centre had let it in since."""
    write_with_a_proposal(k2)
    k2.sync()
    file = world.folder / "backup"
    backup.backup(world.database, file, world.clock.read())
    world.settle()
    approve_all(world)
    world.settle()
    assert k2.held() == []
    put_back_centre(world, file)
    world.settle()
    assert len(k2.held()) == ROWS + 1
    assert k2.sql(COUNT) == [(ROWS,)]
    assert world.agree()


def test_what_came_back_is_counted_in_transactions(world: World, k2: Node) -> None:
    copy = copy_of(k2.database.path)
    k2.write(contacts("a"))
    k2.sync()
    put_back_node(world, k2, copy)
    k2.write(contacts("b")[:1])
    report = k2.sync()
    assert (report.new_history, report.came_back) == (True, 1)
