"""A restored centre, and pages that no request can carry: they go in pieces, and what cannot be divided stops nothing else.

`tests.world.Link` refuses bodies as large as a real server refuses.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlmodel import Field

from node import pieces
from node.cli_healed import tell_healed
from schema.declare import By, Kind, Sync, Synced
from schema.registry import build
from server.draft import PAGE_BYTES
from sync.errors import TooLarge
from sync.limits import BODY_BYTES_MAX, MESSAGE_BYTES_MAX
from sync.messages import Page
from sync.rows import entries_of
from sync.wire import pack, unpack
from tests.healing.copies import copy_of, put_back_centre
from tests.healing.stories import settled
from tests.world import Node, World


class Album(Synced, table=True):
    """Photos that the centre collects."""

    __tablename__ = "large_album"
    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(By("branch", "branch_id"),))
    id: str = Field(primary_key=True)
    branch_id: str
    photo: bytes | None = None


class Shot(Synced, table=True):
    """A photo of a report."""

    __tablename__ = "large_shot"
    sync: ClassVar[Sync] = Sync(kind=Kind.EVENT, scope=(By("branch", "branch_id"),))
    id: str = Field(primary_key=True)
    branch_id: str
    photo: bytes | None = None


@pytest.fixture
def photos(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, build([Album, Shot]))
    yield made
    made.close()


def report(entry: Node, name: str, lines: int, size: int) -> None:
    """One transaction of an event with photos that do not compress."""
    chance = random.Random(name)
    entry.write([("large_shot", {"id": f"{name}-{i:04}", "branch_id": "A", "photo": chance.randbytes(size)}) for i in range(lines)])
    entry.sync()


def page_of(world: World, entry: Node) -> Page:
    """The first page that the node gets: of what it does not have yet."""
    found: list[Page] = []
    pull = entry.link.pull

    def see(request: Any) -> Page:
        found.append(pull(request))
        return found[-1]

    entry.link.pull = see  # type: ignore[method-assign]
    entry.sync()
    entry.link.pull = pull  # type: ignore[method-assign]
    return found[0]


@pytest.mark.covers("P-7.31")
def test_a_row_that_fits_no_request_is_passed_over_and_told(photos: World, capsys: pytest.CaptureFixture[str]) -> None:
    node = photos.node("n", "branch:A")
    node.sync()
    copy = copy_of(photos.database.path)
    photos.sql("INSERT INTO large_album (id, branch_id) VALUES ('small', 'A')")
    photos.sql("INSERT INTO large_album (id, branch_id, photo) VALUES ('large', 'A', ?)", os.urandom(BODY_BYTES_MAX + 1))
    photos.sql("INSERT INTO large_album (id, branch_id) VALUES ('later', 'A')")
    node.sync()
    put_back_centre(photos, copy)
    node.sql("INSERT INTO large_album (id, branch_id) VALUES ('mine', 'A')")
    done = node.sync()
    assert (done.pushed, done.too_large) == (1, 1)
    assert photos.sql("SELECT id FROM large_album ORDER BY id") == [("later",), ("mine",), ("small",)]
    tell_healed(done.document(0, 0))
    assert "1 row too large for any message" in capsys.readouterr().out
    assert settled(photos)
    assert node.sync().too_large == 0
    assert node.sql("SELECT SUM(rows) FROM _kept_page WHERE lost = 3") == [(1,)]  # kept, whatever backups cover


@pytest.mark.covers("P-7.31", "P-7.30")
def test_segments_with_photos_come_back_in_pieces(photos: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a centre that puts more into a page than this one."""
    reader, writer = photos.node("reader", "branch:A"), photos.node("writer", "branch:A")
    photos.sql("INSERT INTO large_album (id, branch_id) VALUES ('a', 'A')")
    photos.settle(1)
    copy = copy_of(photos.database.path)
    for name, size in (("one", 4_000), ("two", 4_000), ("three", 7_600)):
        report(writer, name, 1_100, size)
    monkeypatch.setattr("server.draft.PAGE_BYTES", 4 * PAGE_BYTES)
    reader.sync()
    monkeypatch.undo()
    kept = reader.sql("SELECT LENGTH(box), rows FROM _kept_page WHERE version > 2 ORDER BY number")
    assert sum(size for size, _ in kept) > BODY_BYTES_MAX
    assert max(size for size, _ in kept) <= BODY_BYTES_MAX
    put_back_centre(photos, copy)
    photos.nodes.pop("writer").database.close()
    assert reader.sync().too_large == 0
    assert photos.sql("SELECT COUNT(*), SUM(LENGTH(photo)) FROM large_shot") == [(3_300, 1_100 * 15_600)]
    assert settled(photos)


def test_a_page_takes_no_more_whole_segments_than_its_bytes(photos: World) -> None:
    reader, writer = photos.node("reader", "branch:A"), photos.node("writer", "branch:A")
    photos.sql("INSERT INTO large_album (id, branch_id) VALUES ('a', 'A')")
    photos.settle(1)
    for name in ("one", "two", "three"):
        report(writer, name, 1_100, 3_700)
    page = page_of(photos, reader)
    assert len(page.sealed) == 2
    assert len(pack(page)) <= PAGE_BYTES + 65_536
    assert reader.sql("SELECT COUNT(*) FROM large_shot") == [(3_300,)]


@pytest.mark.covers("P-7.31")
def test_pieces_hold_every_row_and_death_once_parents_first(photos: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES_MAX", 20_000)
    reader, writer = photos.node("reader", "branch:A"), photos.node("writer", "branch:A")
    photos.sql("INSERT INTO large_album (id, branch_id) VALUES ('a', 'A'), ('dead', 'A')")
    photos.settle(1)
    photos.sql("DELETE FROM large_album WHERE id = 'dead'")
    photos.sql("INSERT INTO large_album (id, branch_id) VALUES ('b', 'A')")
    report(writer, "whole", 1_000, 50)
    page = page_of(photos, reader)
    assert (len(page.sealed), entries_of(page)) == (1, 1_002)
    cut = list(pieces.pieces(page, photos.schema.rank))
    found = [unpack(Page, body, MESSAGE_BYTES_MAX) for body, _ in cut]
    assert max(len(body) for body, _ in cut) <= 20_000
    assert [rows for _, rows in cut] == [entries_of(piece) for piece in found]
    assert sum(rows for _, rows in cut) == 1_002
    assert {(piece.head, piece.epoch, piece.life, piece.schema) for piece in found} == {(page.head, page.epoch, page.life, page.schema)}
    assert next(block.table for piece in found for block in piece.rows) == "large_album"
    assert [piece.deaths[0].count for piece in found if piece.deaths] == [1]
    assert found[-1].deaths
    assert reader.sql("SELECT COUNT(*) FROM _kept_page WHERE version = ?", page.head) == [(len(cut),)]


@pytest.mark.covers("P-7.31")
def test_a_centre_that_finds_every_offer_too_large_stops_nothing(photos: World) -> None:
    """Whatever its reason: first one by one, then without them."""
    node = photos.node("n", "branch:A")
    node.sync()
    copy = copy_of(photos.database.path)
    for key in "xy":
        photos.sql("INSERT INTO large_album (id, branch_id) VALUES (?, 'A')", key)
        node.sync()
    put_back_centre(photos, copy)
    offers = 0

    def refuse(kind: str) -> None:
        nonlocal offers
        if kind == "offer":
            offers += 1
            raise TooLarge

    node.link.before = refuse
    node.sql("INSERT INTO large_album (id, branch_id) VALUES ('mine', 'A')")
    done = node.sync()
    assert (done.pushed, done.too_large, offers) == (1, 2, 3)  # both together, then one by one
    assert photos.sql("SELECT id FROM large_album") == [("mine",)]
