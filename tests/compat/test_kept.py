"""What earlier versions wrote is opened, upgraded, synced and verified by today's code (made by tests/compat/make.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

import node.database
import server.database
from node.verdicts import counts
from schema import bookkeeping
from schema.dialects.sqlite import Sqlite
from schema.registry import load
from server.service import Service
from sync.errors import CannotUpgrade, NewerFile
from sync.limits import MESSAGE_BYTES_MAX
from sync.messages import Page, PullRequest, PushReply, PushRequest, VerifyReply, VerifyRequest
from sync.wire import pack, unpack
from tests.world import Clock, Link, Node, World

FOLDER = Path(__file__).parent
KEPT = sorted(path.parent.name for path in FOLDER.glob("*/about.json"))
MESSAGES: dict[str, tuple[Any, Any]] = {
    "push": (PushRequest, PushReply),
    "pull": (PullRequest, Page),
    "verify": (VerifyRequest, VerifyReply),
}


class KeptWorld(World):
    """A world that begins with kept files instead of new ones."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.schema, self.clock = folder, load(()), Clock(about["clock_ms"])
        self.database = server.database.Database(folder / "server.db", self.schema, clock_ms=self.clock.read)
        self.service = Service(self.database)
        self.nodes = {}
        for identity, name in about["nodes"].items():
            database = node.database.Database(folder / f"{name}.db", self.schema, self.clock.read)
            self.nodes[name] = Node(name, database, Link(self, identity), [0])


@pytest.fixture(params=KEPT)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A kept folder, unpacked, and what is known of it."""
    source = FOLDER / request.param
    for path in source.glob("*.zst"):
        (tmp_path / path.stem).write_bytes(zstandard.ZstdDecompressor().decompress(path.read_bytes()))
    return tmp_path, json.loads((source / "about.json").read_text(encoding="utf-8"))


@pytest.fixture
def world(kept: tuple[Path, dict[str, Any]]) -> Iterator[KeptWorld]:
    made = KeptWorld(*kept)
    yield made
    made.close()


def traffic(folder: Path) -> list[tuple[str, str, bytes, bytes]]:
    return [tuple(entry) for entry in msgspec.msgpack.decode((folder / "traffic").read_bytes())]


def test_there_is_a_series() -> None:
    assert KEPT[0] == "v1"


@pytest.mark.covers("P-11.10")
def test_kept_stores_are_upgraded_with_the_work_that_is_on_them(world: KeptWorld, kept: tuple[Path, dict[str, Any]]) -> None:
    expected = kept[1]["expected"]
    k1, k2 = world.nodes["k1"], world.nodes["k2"]
    assert k1.unsynced() >= 2  # one sent without an answer, one sealed; a third is not captured yet
    world.settle()
    assert world.agree()
    for connection in (world.sql, k1.sql, k2.sql):
        assert connection("SELECT COUNT(*), SUM(total_minor) FROM sale WHERE id IN (SELECT sale_id FROM sale_line)") == [
            (expected["sales"], expected["total_minor"])
        ]
        assert connection("SELECT city FROM contact WHERE id = 'ann'") == [(expected["city"],)]
        assert connection("SELECT name FROM product") == [(expected["product"],)]
    assert counts(k1.database.store) == (0, expected["open_conflicts"], expected["held"])
    mine = next(entry for entry in k1.conflicts() if entry["open"])
    assert {mine["mine"], mine["theirs"]} == {"from k1", "from k2"}
    k1.resolve(mine["id"], "theirs")
    world.settle()
    assert [entry for entry in k2.conflicts() if entry["open"]] == []
    assert world.agree()


@pytest.mark.covers("P-4.4", "P-6.2")
def test_kept_requests_are_answered_as_they_were(world: KeptWorld, kept: tuple[Path, dict[str, Any]]) -> None:
    """A node that was not upgraded sends these very bytes; what came before is answered again and changes nothing."""
    world.service.absorb(world.clock.read())
    absorbed = world.service.health()["version"]
    pages = 0
    for identity, kind, request, reply in traffic(kept[0]):
        request_type, reply_type = MESSAGES[kind]
        then = unpack(reply_type, reply, MESSAGE_BYTES_MAX)
        if kind == "verify":
            continue  # the centre has moved on since
        now = getattr(world.service, kind)(identity, unpack(request_type, request, MESSAGE_BYTES_MAX), world.clock.read())
        assert unpack(reply_type, pack(now), MESSAGE_BYTES_MAX) == now
        if kind == "push":
            assert [each.segment for each in now.verdicts] == [each.segment for each in then.verdicts]
            assert [each.version for each in now.verdicts] == [each.version for each in then.verdicts]
        else:
            assert (now.since, now.incarnation, now.schema) == (then.since, then.incarnation, then.schema)
            pages += 1
    assert pages > 0
    assert absorbed == world.service.health()["version"]
    world.settle()
    assert world.agree()


def opened(path: Path, world: KeptWorld) -> object:
    if path.name == "server.db":
        return server.database.Database(path, load(()))
    return node.database.Database(path, load(()), world.clock.read)


def shape(connection: Any) -> dict[str, Any]:
    """Every table's columns (type, NULL, default, key), and every index: whatever order they were made in."""
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    found: dict[str, Any] = {name: sorted(row[1:] for row in connection.execute(f"PRAGMA table_info('{name}')")) for name in names}
    found["indexes"] = sorted(row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('index', 'view')"))
    found["triggers"] = sorted(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall())
    return found


def test_an_upgraded_file_has_the_tables_of_a_new_one(world: KeptWorld, tmp_path: Path) -> None:
    """Fails when a release adds a column to the bookkeeping without a file in schema/migrations/."""
    (tmp_path / "new").mkdir()
    fresh = World(tmp_path / "new")
    fresh.node("k1", "branch:LON")
    for old, new in ((world.folder / "server.db", "server.db"), (world.folder / "k1.db", "k1.db")):
        connections = [Sqlite().open(path) for path in (old, tmp_path / "new" / new)]
        kept_shape, fresh_shape = map(shape, connections)
        numbers = [dict(connection.execute("SELECT name, t FROM _table").fetchall()) for connection in connections]
        if numbers[0] != numbers[1]:  # triggers are named by them
            del kept_shape["triggers"], fresh_shape["triggers"]
        assert {name: (kept_shape.get(name), fresh_shape.get(name)) for name in kept_shape.keys() | fresh_shape.keys()
                if kept_shape.get(name) != fresh_shape.get(name)} == {}  # fmt: skip
        for connection in connections:
            connection.close()
    fresh.close()


def test_a_file_of_a_development_version_is_refused_in_words(kept: tuple[Path, dict[str, Any]]) -> None:
    """It lacks what no migration adds: better said at once than met in the middle of an exchange."""
    path = kept[0] / "k1.db"
    connection = Sqlite().open(path)
    connection.execute("ALTER TABLE _node DROP COLUMN box_key")
    connection.execute("UPDATE _bookkeeping SET version = 1")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(CannotUpgrade, match="its _node has no box_key"):
        node.database.Database(path, load(()), lambda: kept[1]["clock_ms"])
    assert path.read_bytes() == before


@pytest.mark.covers("P-11.10")
@pytest.mark.parametrize("column", ["version", "schema"])
def test_a_file_from_the_future_is_refused_and_not_touched(world: KeptWorld, column: str) -> None:
    for file in ("server.db", "k1.db"):
        path = world.folder / file
        connection = Sqlite().open(path)
        connection.execute(f"UPDATE _bookkeeping SET {column} = 99")
        connection.close()
        before = path.read_bytes()
        with pytest.raises(NewerFile, match="99"):
            opened(path, world)
        assert path.read_bytes() == before
    with pytest.raises(NewerFile, match="while this program was running"):  # those that have it open notice, and write nothing
        world.nodes["k1"].sync()
    with pytest.raises(NewerFile, match="while this program was running"):
        world.service.health()
    assert bookkeeping.version() < 99
