"""What the stories of the protocol begin with: two nodes of a branch, requests as a node sends them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

import node.database
from node.cycle import Cycle
from schema.capture import mark_all
from sync.builder import SegmentBuilder
from sync.change import Edit, Transaction, Update
from sync.digest import segment_point
from sync.errors import OutpostError
from sync.messages import PushRequest, Sealed, Told
from sync.segment import read_segment, transactions
from tests.world import START_MS, Link, Node, World

CONTACT = {"kind": "person", "name": "Анна", "branch_id": "LON"}


@pytest.fixture
def k2(world: World) -> Node:
    return world.node("k2", "branch:LON")


@pytest.fixture
def pair(world: World, k2: Node) -> tuple[Node, Node]:
    """Two nodes of one branch that both know the contact c1."""
    l3 = world.node("l3", "branch:LON")
    k2.write([("contact", {"id": "c1", **CONTACT})])
    world.settle(1)
    return k2, l3


def sale(key: str, lines: int = 1) -> list[tuple[str, dict[str, Any]]]:
    head = {"id": key, "number": key, "kind": "sale", "branch_id": "LON", "sold_ms": 1, "currency": "GBP", "total_minor": 5}
    line = {"sale_id": key, "qty_milli": 1000, "unit_price_e4": 5, "amount_minor": 5}
    return [("sale", head), *(("sale_line", {"id": f"{key}-{i}", **line}) for i in range(lines))]


def sealed(entry: Node) -> list[Transaction]:
    """The transactions the node has sealed and not yet sent."""
    Cycle(entry.database, entry.link).seal()
    keys = {table.name: table.key for table in entry.database.schema.tables}
    bodies = entry.sql("SELECT body FROM _segment WHERE version IS NULL ORDER BY seq")
    return [work for (body,) in bodies for work in transactions(read_segment(body), keys)]


def push_request(entry: Node) -> PushRequest:
    exchange = Cycle(entry.database, entry.link)
    exchange.seal()
    request = exchange._push_request()
    assert request is not None
    return request


def a_push(entry: Node, *bodies: bytes, **fields: Any) -> PushRequest:
    """A push as this node would send it, of these segments."""
    state, found = entry.database.state(), []
    point = state.acked
    for body in bodies:
        point = segment_point(point, body)
        found.append(Sealed(body, point.digest, None))
    whole = {
        "protocol": 1,
        "epoch": 1,
        "incarnation": state.incarnation,
        "parent": None,
        "cursor": state.cursor,
        "highest": state.highest,
        "before": state.acked,
        "segments": tuple(found),
        "adopted": (),
        "clock_ms": START_MS,
        "told": Told(0, 0, 0, 0),
    }
    return PushRequest(**(whole | fields))


def segment(*ops: Any, base: int = 0, number: int = 1, segment_id: bytes | None = None) -> bytes:
    builder = SegmentBuilder()
    index = builder.begin(START_MS, base)
    for op in ops:
        builder.add(index, op)
    return builder.build(segment_id or os.urandom(16), 1, number)


def held(entry: Node) -> list[tuple[Any, Any]]:
    return [(row["key"], row["code"]) for row in entry.held()]


def refused(error: type[OutpostError], work: Callable[[], object], world: World) -> None:
    """The request is refused and leaves no trace."""
    before = world.sql("SELECT head, digest FROM _server")
    with pytest.raises(error):
        work()
    assert world.sql("SELECT head, digest FROM _server") == before


def phone(value: str, skew: int = 0) -> Update:
    return Update("contact", ("c1",), [Edit("phone", ("phone",), (None,), (value,), 0, 9, START_MS + skew)])


def replace_segments(request: PushRequest, segments: Sequence[Sealed]) -> PushRequest:
    return msgspec.structs.replace(request, segments=tuple(segments))


def copy_of(world: World, entry: Node, name: str) -> Node:
    """Return a second node on a copy of the database: a cloned disk, a restored backup."""
    path = world.folder / f"{name}.db"
    entry.sql("VACUUM INTO ?", str(path))
    database = node.database.Database(path, world.schema, world.clock.read)
    with database.writing() as store:
        mark_all(store)
    world.nodes[name] = Node(name, database, Link(world, entry.link.identity), [0])
    return world.nodes[name]
