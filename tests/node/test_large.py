"""Work that comes near the bounds of a segment, or passes them: it travels in parts or waits, and stops nothing behind it."""

from __future__ import annotations

import array
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import cycle, room
from node.cycle import Cycle
from node.writer import transaction
from schema.declare import Kind, Through, Tie
from schema.registry import build
from sync.limits import BODY_BYTES_MAX, SEGMENT_ROWS_MAX
from sync.messages import PushRequest
from sync.segment import OpenSegment, read_segment
from sync.wire import unpack
from tests.declared import declare
from tests.world import Node, World

PHOTOS, TEXTS, NUMBERS = ([f"{letter}{n:02}" for n in range(count)] for letter, count in (("p", 17), ("t", 34), ("n", 50)))
PHOTO_BYTES = 1_000_000
LONG_KEY = "k" * (2 << 20)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    below: dict[str, Any] = {"kind": Kind.DOCUMENT, "scope": (Through("outing", "up"),), "ties": (Tie("outing", "up"),)}
    models = [
        declare("album", columns={**dict.fromkeys(PHOTOS, bytes), **dict.fromkeys(TEXTS, str)}),
        declare("outing", kind=Kind.DOCUMENT),
        declare("leg", columns={"up": str, "photo": bytes}, **below),
        declare("reading", columns={"up": str, **dict.fromkeys(NUMBERS, float)}, **below),
    ]
    made = World(tmp_path, build(models))
    yield made
    made.close()


@pytest.fixture
def k2(world: World) -> Node:
    made = world.node("k2", "branch:A")
    made.sync()
    return made


def album(identity: str, **values: object) -> tuple[str, dict[str, Any]]:
    return "album", {"id": identity, "branch_id": "A", **values}


def photos(names: list[str]) -> dict[str, object]:
    return {name: os.urandom(PHOTO_BYTES) for name in names}


def segments(node: Node) -> list[OpenSegment]:
    """Return the segments that were pushed."""
    requests = [unpack(PushRequest, body) for kind, body in node.link.requests if kind == "push"]
    return [read_segment(sealed.body) for request in requests for sealed in request.segments]


def reasons(node: Node) -> set[str]:
    return {entry["reason"] for entry in node.held()}


@pytest.mark.covers("P-5.12")
@pytest.mark.parametrize("foreign", [True, False])
def test_large_rows_that_lie_together_travel_in_parts(world: World, k2: Node, foreign: bool) -> None:
    """A report of 100 legs, 20 neighbours of which have a photo: no part is larger than a request."""
    legs = [("leg", {"id": f"l{n:03}", "up": "o", "photo": os.urandom(PHOTO_BYTES) if n < 20 else None}) for n in range(100)]
    rows: list[tuple[str, dict[str, Any]]] = [("outing", {"id": "o", "branch_id": "A"}), *legs]
    if foreign:
        k2.sql("BEGIN IMMEDIATE")
        for table, values in rows:
            k2.sql(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", *values.values())
        k2.database.connection.commit()
    else:
        k2.write(rows)
    k2.write([album("after")])
    assert k2.sync().pushed == 2
    assert world.sql("SELECT COUNT(*), COUNT(photo) FROM leg") == [(100, 20)]
    assert world.agree()


@pytest.mark.covers("P-5.19")
def test_a_row_larger_than_a_segment_waits_here_until_it_is_shortened(world: World, k2: Node) -> None:
    k2.write([album("large", **photos(PHOTOS))])
    k2.write([album("after")])
    assert k2.sync().pushed == 1
    assert {entry["code"] for entry in k2.held()} == {"long"}
    assert "more than 12 MiB" in reasons(k2).pop()
    k2.sql(f"UPDATE album SET {', '.join(f'{name} = NULL' for name in PHOTOS[:8])} WHERE id = 'large'")
    assert k2.sync().pushed == 1
    assert k2.held() == []
    assert world.sql("SELECT id FROM album ORDER BY id") == [("after",), ("large",)]
    assert world.agree()


@pytest.mark.covers("P-5.19")
def test_many_photos_of_one_row_are_replaced(world: World, k2: Node) -> None:
    """Old and new would not go together: what only tells what was before stays behind."""
    l3 = world.node("l3", "branch:A")
    k2.write([album("a", **photos(PHOTOS[:9]))])
    k2.sync()
    new = photos(PHOTOS[:9])
    k2.sql(f"UPDATE album SET {', '.join(f'{name} = ?' for name in new)}", *new.values())
    assert k2.sync().verdicts["accepted"] == 1
    l3.sync()
    assert l3.sql(f"SELECT {', '.join(new)} FROM album") == [tuple(new.values())]
    assert world.agree()


def test_texts_are_measured_in_bytes(world: World, k2: Node) -> None:
    """11.7 million characters that no compression shortens are some 35 MB."""
    dense = {name: "".join(chr(0x4E00 + each % 20_000) for each in array.array("H", os.urandom(690_000))) for name in TEXTS}
    k2.write([album("large", **dense)])
    k2.write([album("small", **{name: dense[name] for name in TEXTS[:10]})])
    assert k2.sync().pushed == 1
    assert world.sql("SELECT id FROM album") == [("small",)]
    assert k2.sql("SELECT COUNT(*) FROM album") == [(2,)]
    assert [entry["code"] for entry in k2.held()] == ["long"]


def test_numbers_are_measured(world: World, k2: Node) -> None:
    """50,000 rows of 50 numbers that no compression shortens, in one transaction, are 20 MB."""
    rows = [[each / 7 for each in array.array("q", os.urandom(8 * len(NUMBERS)))] for _ in range(SEGMENT_ROWS_MAX - 1)]
    with k2.database.writing() as store:
        store.connection.execute("INSERT INTO outing (id, branch_id) VALUES ('o', 'A')")
        store.connection.executemany(
            f"INSERT INTO reading (id, up, {', '.join(NUMBERS)}) VALUES (?, 'o', {', '.join('?' * len(NUMBERS))})",
            [(f"r{number}", *row) for number, row in enumerate(rows)],
        )
    assert k2.sync().pushed == 1
    assert world.sql("SELECT COUNT(*) FROM reading") == [(SEGMENT_ROWS_MAX - 1,)]
    assert world.agree()


@pytest.mark.covers("P-6.43")
def test_a_segment_larger_than_a_request_is_set_aside(world: World, k2: Node) -> None:
    """As earlier programs sealed them: nobody reads it, so nobody says which segment it is; there is only this one."""
    k2.write([album("a")])
    Cycle(k2.database, k2.link).seal()
    k2.sql("UPDATE _segment SET body = ?", os.urandom(BODY_BYTES_MAX + 1))
    k2.write([album("b")])
    assert k2.sync().pushed == 1
    assert world.sql("SELECT id FROM album") == [("b",)]
    assert k2.sql("SELECT id FROM album ORDER BY id") == [("a",), ("b",)]
    assert [entry["code"] for entry in k2.held()] == ["unreadable"]


@pytest.mark.covers("P-6.43")
def test_segments_that_are_too_large_together_go_one_by_one(world: World, k2: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle, "PUSH_BYTES", 2 * BODY_BYTES_MAX)
    for name in "abc":
        k2.write([album(name, **photos(PHOTOS[:9]))])
    assert k2.sync().pushed == 3
    assert [len(unpack(PushRequest, body).segments) for kind, body in k2.link.requests if kind == "push"][-3:] == [1, 1, 1]
    assert k2.held() == []
    assert world.agree()


# --- keys -----------------------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-5.19")
def test_a_row_whose_key_is_too_long_waits_with_its_changes(world: World, k2: Node) -> None:
    """An import gone wrong: what is changed of such a row afterwards is no less long, and takes nothing along."""
    k2.sql("INSERT INTO album (id, branch_id) VALUES (?, 'A')", LONG_KEY)
    k2.sync()
    k2.sql("UPDATE album SET t00 = 'typed' WHERE id = ?", LONG_KEY)
    k2.write([album("after")])
    assert k2.sync().pushed == 1
    assert len({entry["id"].split(".")[0] for entry in k2.held()}) == 1
    k2.sql("UPDATE album SET id = 'short' WHERE id = ?", LONG_KEY)
    assert k2.sync().pushed == 1
    assert k2.held() == []
    assert world.sql("SELECT id, t00 FROM album ORDER BY id") == [("after", None), ("short", "typed")]
    assert world.agree()


@pytest.mark.covers("P-5.19")
@pytest.mark.parametrize("changed", [True, False])
def test_a_row_whose_key_is_too_long_is_deleted_and_nothing_waits(world: World, k2: Node, changed: bool) -> None:
    k2.sql("INSERT INTO album (id, branch_id) VALUES (?, 'A')", LONG_KEY)
    k2.sync()
    if changed:
        k2.sql("UPDATE album SET t00 = 'typed' WHERE id = ?", LONG_KEY)
        k2.sync()
    k2.sql("DELETE FROM album WHERE id = ?", LONG_KEY)
    k2.write([album("after")])
    assert k2.sync().pushed == 1
    assert (k2.held(), k2.sql("SELECT id FROM album")) == ([], [("after",)])
    assert world.agree()


@pytest.mark.parametrize("statement", ["UPDATE album SET t00 = 'x' WHERE id = ?", "DELETE FROM album WHERE id = ?"])
def test_a_change_of_a_row_with_a_long_key_that_the_centre_wrote_waits_here(world: World, k2: Node, statement: str) -> None:
    world.sql("INSERT INTO album (id, branch_id) VALUES (?, 'A')", LONG_KEY)
    k2.sync()
    assert k2.sql("SELECT COUNT(*) FROM album") == [(1,)]
    k2.sql(statement, LONG_KEY)
    k2.write([album("after")])
    assert k2.sync().pushed == 1
    assert {entry["code"] for entry in k2.held()} == {"long"}


# --- blocks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "bound"), [("SEGMENT_BLOCKS_MAX", 25), ("SEGMENT_COLUMNS_MAX", 75)])
def test_no_segment_has_more_blocks_or_columns_than_may_be(
    world: World, k2: Node, monkeypatch: pytest.MonkeyPatch, limit: str, bound: int
) -> None:
    """Three rows, of each of which other twenty columns are changed: 60 blocks of a key, an old and a new value."""
    names = [*PHOTOS, *TEXTS][:60]
    k2.write([album(each) for each in "abc"])
    k2.sync()
    monkeypatch.setattr(room, limit, bound)
    for in_one in (False, True):
        k2.link.requests.clear()
        with transaction(k2.database) as writing:
            for number, each in enumerate("abc"):
                writing.update("album", (each,), dict.fromkeys(names[number * 17 : number * 17 + 17], str(in_one)))
                if not in_one:
                    writing.announce()
        k2.sync()
        found = segments(k2)
        assert len(found) > 2
        assert all(len(each.updates) <= 25 for each in found)
    assert k2.held() == []
    assert world.agree()
