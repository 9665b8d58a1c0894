"""The first pull as a file: fetched, cut, damaged, of another scope, on top of work that waits, and after the centre was restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import zstandard

from node import fetching, first, proof
from node.cycle import Cycle
from node.report import Report
from schema.dialects.sqlite import Sqlite
from server import journal
from server.service import Service
from server.snapshot import answer
from server.snapshot.making import PAUSE_MS, Maker
from server.snapshot.shelf import Wish
from sync.messages import SnapshotReply, SnapshotRequest
from sync.wire import unpack
from tests.healing.copies import copy_of, put_back_centre
from tests.simulation.schema import simulated_schema
from tests.world import Node, ReplyLost, World

CLIENT = "INSERT INTO client (id, branch, name) VALUES (?, ?, ?)"
CLIENTS = "SELECT id, branch, name FROM client ORDER BY id"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A centre that tells its rows as files, with forty clients, half of them of branch A."""
    made = World(tmp_path, simulated_schema())
    serve(made)
    for number in range(40):
        made.sql(CLIENT, f"c{number:02}", "AB"[number % 2], f"Клієнт {number}")
    yield made
    made.close()


def serve(world: World, rows_min: int = 1, start: Callable[[Callable[[], None]], None] = lambda work: work()) -> Maker:
    """Let the centre make files of so many rows and more, at once."""
    maker = Maker(world.database, world.clock.read, start, rows_min)
    world.service = Service(world.database, maker)
    return maker


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Parts of a few hundred bytes."""
    monkeypatch.setattr(answer, "SNAPSHOT_PART_BYTES", 300)
    monkeypatch.setattr(fetching, "SNAPSHOT_PART_BYTES", 300)
    return 300


def begun(world: World, name: str = "k2", *scope: str) -> Node:
    """A node for which the file is made already: the first that asks is told to pull, for it does not wait."""
    made = world.node(name, *(scope or ("branch:A",)))
    ask(world, made)
    return made


def ask(world: World, node: Node, name: bytes | None = None, have: int = 0) -> SnapshotReply:
    """What the centre says to a node that asks."""
    state = node.database.state()
    request = SnapshotRequest(1, state.epoch, state.incarnation, state.highest, node.database.schema.version, name, have)
    return world.service.snapshot(node.link.identity, request, world.clock.read())


def kinds(node: Node) -> list[str]:
    """What a node has asked for, in order."""
    return [kind for kind, _ in node.link.requests]


def asked(node: Node) -> list[SnapshotRequest]:
    return [unpack(SnapshotRequest, body) for kind, body in node.link.requests if kind == "snapshot"]


def files(node: Node) -> list[str]:
    """What lies beside a node's database."""
    return [path.name for path in node.database.path.parent.glob(f"{node.database.path.name}.*")]


def of_branch(branch: str) -> list[tuple[str, str, str]]:
    return [(f"c{number:02}", branch, f"Клієнт {number}") for number in range(40) if "AB"[number % 2] == branch]


@pytest.mark.covers("P-8.18", "P-8.22", "P-8.23")
def test_a_new_node_takes_a_file_and_is_identical_after_the_pull_that_follows(world: World) -> None:
    k2 = begun(world)
    report = k2.sync()
    assert kinds(k2) == ["snapshot", "pull"]  # no full verify
    assert (report.pulled, report.differing) == (20, 0)
    assert k2.sql(CLIENTS) == of_branch("A")
    assert k2.database.state().cursor.number == world.service.health()["version"]
    assert files(k2) == []
    assert k2.database.has_changes() is False
    assert k2.verify()
    assert k2.sync().pulled == 0


def test_it_says_that_it_is_identical_only_after_the_pull_that_follows(world: World) -> None:
    k2 = begun(world)
    first.pull(k2.database, k2.link, lambda _step, _done, _of: None)
    standing = proof.standing(k2.database.store)
    assert standing.document() == {"identical": False, "identical_ms": None, "differing": 0}
    k2.sync()
    assert proof.standing(k2.database.store).is_proven


@pytest.mark.covers("P-8.20")
def test_what_came_since_the_file_was_made_comes_with_the_pull(world: World) -> None:
    assert begun(world).sync().pulled == 20
    world.sql("UPDATE client SET name = 'neu' WHERE id = 'c00'")
    world.sql("DELETE FROM client WHERE id = 'c02'")
    world.sql("UPDATE client SET branch = 'B' WHERE id = 'c04'")
    world.sql("UPDATE client SET branch = 'A' WHERE id = 'c01'")
    l3 = world.node("l3", "branch:A")  # entitled later than the file was made
    report = l3.sync()
    assert (report.pulled, report.removed, report.differing) == (22, 2, 0)
    world.settle()
    assert world.agree()
    assert [row[0] for row in l3.sql(CLIENTS)] == [row[0] for row in world.nodes["k2"].sql(CLIENTS)]


def test_a_scope_that_changes_after_the_file_was_taken_is_told(world: World) -> None:
    k2 = begun(world)
    first.pull(k2.database, k2.link, lambda _step, _done, _of: None)
    world.rescope("k2", "branch:B")
    k2.sync()
    assert k2.sql(CLIENTS) == of_branch("B")
    assert k2.verify()


@pytest.mark.parametrize("has_files", [True, False])
def test_work_that_waits_lies_on_top_of_the_file_as_on_pages(world: World, has_files: bool) -> None:
    k2 = begun(world)
    if not has_files:
        world.service = Service(world.database)
    k2.write([("client", {"id": "n1", "branch": "A", "name": "neu"})])
    k2.sql("INSERT INTO receipt (id, branch, owner, day, total) VALUES ('r1', 'A', 'o1', '2026-11-23', 5)")
    k2.write([("client", {"id": "c00", "branch": "A", "name": "schon da"})])  # a key the centre has too
    k2.write([("client", {"id": "c01", "branch": "A", "name": "anderswo"})])  # one that it has elsewhere
    report = k2.sync()
    assert kinds(k2)[:2] == ["snapshot", "push"]
    assert report.pushed == 4
    assert [held["code"] for held in k2.held()] == ["key"]
    world.settle()
    assert world.agree()
    assert world.sql("SELECT name FROM client WHERE id IN ('n1', 'c00', 'c01') ORDER BY id") == [("schon da",), ("Клієнт 1",), ("neu",)]
    assert len(k2.conflicts()) == 1
    assert world.sql("SELECT total FROM receipt") == [(5,)]


@pytest.mark.covers("P-8.19")
def test_a_file_that_was_cut_goes_on_where_it_ended(world: World, small_parts: int) -> None:
    k2 = begun(world)
    count = 0

    def cut(kind: str) -> None:
        nonlocal count
        count += kind == "snapshot"
        if count == 4:
            raise ReplyLost(kind)

    k2.link.before = cut
    with pytest.raises(ReplyLost):
        k2.sync()
    assert len(files(k2)) == 1
    assert k2.sql(CLIENTS) == []
    k2.link.before = lambda _kind: None
    before = len(asked(k2))
    assert k2.sync().pulled == 20
    assert asked(k2)[before].have == 3 * small_parts
    assert files(k2) == []
    assert k2.verify()


def test_a_file_damaged_on_the_disk_is_thrown_away_and_fetched_again(world: World, small_parts: int) -> None:
    k2 = begun(world)
    k2.link.before = lambda kind: spoil(k2) if len(asked(k2)) == 2 else None
    assert k2.sync().pulled == 20
    assert [each.have for each in asked(k2)].count(0) == 2
    assert k2.verify()
    assert files(k2) == []


def spoil(node: Node) -> None:
    (path,) = node.database.path.parent.glob(f"{node.database.path.name}.snapshot-*")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def test_a_file_whose_frame_is_sound_and_whose_rows_are_not_is_thrown_away(world: World) -> None:
    """The digest is of what is expanded, not of what had come: the disk, or another process, may have changed it since."""
    k2 = begun(world)
    reply = ask(world, k2)
    assert reply.snapshot is not None
    content = zstandard.ZstdDecompressor().decompress(reply.part)
    other = content.replace("Клієнт 4".encode(), "Клієнт 5".encode(), 1)
    assert other != content
    packed = k2.database.path.with_name(f"{k2.database.path.name}.snapshot-{reply.snapshot.name.hex()}")
    packed.write_bytes(zstandard.ZstdCompressor(level=6, write_checksum=True).compress(other))
    told: SnapshotReply = changed(reply, bytes=packed.stat().st_size)
    replies = iter([SnapshotReply(told.snapshot, packed.stat().st_size, b"", 0, 0), answer.PULL])
    assert fetching.fetch(k2.database.path, k2.database.schema, lambda _name, _have: next(replies), lambda _step, _done, _of: None) is None
    assert next(replies, None) is None
    assert files(k2) == []


class Lying:
    """A server that tells another file than it says."""

    def __init__(self, node: Node, lie: Callable[[SnapshotReply], SnapshotReply]) -> None:
        self.link, self.lie = node.link, lie

    def __getattr__(self, name: str) -> Any:
        return getattr(self.link, name)

    def snapshot(self, request: SnapshotRequest) -> SnapshotReply:
        return self.lie(self.link.snapshot(request))


def changed(reply: SnapshotReply, **fields: Any) -> SnapshotReply:
    assert reply.snapshot is not None
    return SnapshotReply(msgspec.structs.replace(reply.snapshot, **fields), reply.offset, reply.part, 0, 0)


def test_a_file_that_is_never_what_it_is_said_to_be_is_left_and_all_is_pulled(world: World) -> None:
    k2 = begun(world)
    for lie in (lambda reply: changed(reply, expanded=9), lambda reply: changed(reply, name=bytes(32))):
        assert first.pull(k2.database, Lying(k2, lie), lambda _step, _done, _of: None) is None  # type: ignore[arg-type]
        assert len(asked(k2)) == 2  # and no more
        k2.link.requests.clear()
    assert files(k2) == []
    assert k2.sync().pulled == 20


def test_where_parts_are_not_those_that_follow_all_is_pulled(world: World, small_parts: int) -> None:
    k2 = begun(world)
    lies = [
        lambda reply: SnapshotReply(reply.snapshot, reply.offset + 1, reply.part, 0, 0),
        lambda reply: SnapshotReply(reply.snapshot, reply.offset, reply.part[:-1], 0, 0),
        lambda reply: SnapshotReply(reply.snapshot, reply.offset, b"", 0, 0),
        lambda reply: SnapshotReply(reply.snapshot, reply.offset, reply.part * 2, 0, 0),
    ]
    for lie in lies:
        assert first.pull(k2.database, Lying(k2, lie), lambda _step, _done, _of: None) is None  # type: ignore[arg-type]
        assert files(k2) == []
    assert k2.sql(CLIENTS) == []
    assert k2.sync().pulled == 20


def test_a_server_that_only_says_that_it_makes_one_is_not_waited_for_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    k2, now = begun(world), [0.0]
    monkeypatch.setattr(fetching.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    for made in (lambda turn: turn % 2, lambda turn: turn):  # to and fro; always on
        turns = iter(range(100_000))
        began = now[0]
        ask_how_far = lambda _name, _have, made=made, turns=turns: SnapshotReply(None, 0, b"", made(next(turns)), 9)  # noqa: E731
        assert fetching.fetch(k2.database.path, k2.database.schema, ask_how_far, lambda _step, _done, _of: None) is None
        assert now[0] - began <= fetching.ALL_SECONDS_MAX + 10


@pytest.mark.sqlite_centre("in files")
@pytest.mark.parametrize("what", ["short", "long", "a folder", "no folder"])
def test_a_bad_file_at_the_centre_is_made_anew(world: World, what: str) -> None:
    k2 = begun(world)
    assert isinstance(world.database.path, Path)
    folder = world.database.path.with_name("server.db-snapshots")
    (path,) = folder.iterdir()
    content = path.read_bytes()
    path.unlink()
    if what == "no folder":
        folder.rmdir()
        folder.write_bytes(b"")
    elif what == "a folder":
        path.mkdir()
    else:
        path.write_bytes(content[:-9] if what == "short" else content + b"more")
    assert k2.sync().pulled == 20  # page by page
    l3 = world.node("l3", "branch:A")
    if "folder" in what:  # nothing can be made there until somebody looks after it
        ask(world, l3)
        assert l3.sync().pulled == 20
    else:
        ask(world, l3)
        assert ask(world, l3).snapshot is not None
        assert l3.sync().pulled == 20
        assert l3.verify()


def test_a_file_with_more_in_it_than_tables_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger in it would run on the node with its rights."""
    k2, tables = world.node("k2", "branch:A"), Sqlite.tables
    trigger = "CREATE TRIGGER evil_{0} AFTER INSERT ON {0} BEGIN DELETE FROM {0}; END"
    monkeypatch.setattr(Sqlite, "tables", lambda self, some: [*tables(self, some), trigger.format(some[0].name)])
    ask(world, k2)
    monkeypatch.undo()
    assert ask(world, k2).snapshot is not None
    assert k2.sync().pulled == 20
    assert kinds(k2).count("snapshot") == 2
    assert k2.verify()


@pytest.mark.covers("P-8.20")
def test_who_has_sent_something_pulls_all(world: World) -> None:
    """What became of its work is told by pages from the beginning alone. Found by seed 113."""
    k2 = begun(world)
    k2.write([("client", {"id": "n1", "branch": "A", "name": "neu"})])
    Cycle(k2.database, k2.link).push(Report())
    assert ask(world, k2) == answer.PULL
    assert k2.sync().pulled == 20
    assert k2.verify()


def test_each_scope_has_a_file_of_its_own(world: World) -> None:
    k2, l3 = begun(world, "k2", "branch:A"), begun(world, "l3", "branch:B")
    k2.sync()
    l3.sync()
    assert (k2.sql(CLIENTS), l3.sql(CLIENTS)) == (of_branch("A"), of_branch("B"))
    assert len(world.sql("SELECT DISTINCT scope FROM _snapshot")) == 2


def test_a_scope_changed_while_it_is_fetched_begins_another_file(world: World, small_parts: int) -> None:
    k2 = begun(world)
    begun(world, "l3", "branch:B")
    k2.link.before = lambda kind: world.rescope("k2", "branch:B") if len(asked(k2)) == 3 else None
    k2.sync()
    assert k2.sql(CLIENTS) == of_branch("B")
    assert k2.verify()
    assert files(k2) == []


def test_a_file_that_is_lost_at_the_centre_is_made_anew(world: World) -> None:
    k2 = begun(world)
    if isinstance(world.database.path, Path):
        for path in world.database.path.with_name("server.db-snapshots").iterdir():
            path.unlink()
    else:
        world.sql("DELETE FROM _snapshot_piece")
    assert ask(world, k2) == answer.PULL
    assert ask(world, k2).of > 0  # made now
    assert ask(world, k2).snapshot is not None


def test_a_new_one_is_made_when_much_has_come_since(world: World) -> None:
    k2 = begun(world)
    old = ask(world, k2).snapshot
    for number in range(3):
        world.sql(CLIENT, f"d{number}", "A", "neu")
    told = ask(world, k2).snapshot
    assert told == old  # this one serves while the next is made
    new = ask(world, k2).snapshot
    assert old is not None
    assert new is not None
    assert (new.rows, new.at.number > old.at.number) == (23, True)
    again = ask(world, k2, old.name, 0).snapshot
    assert again == old  # who has begun it gets it to its end


def test_only_two_of_a_scope_are_kept(world: World) -> None:
    k2, names = begun(world), []
    for turn in range(4):
        for number in range(3):
            world.sql(CLIENT, f"d{turn}{number}", "A", "neu")
        ask(world, k2)
        found = ask(world, k2).snapshot
        assert found is not None
        names.append(found.name)
    assert len(world.sql("SELECT * FROM _snapshot")) == 2
    assert ask(world, k2, names[0], 10).offset == 0
    if isinstance(world.database.path, Path):
        kept = {path.stem for path in world.database.path.with_name("server.db-snapshots").iterdir()}
        assert kept == {name.hex() for name in names[-2:]}


def test_one_that_cannot_be_made_is_not_tried_again_for_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    k2 = world.node("k2", "branch:A")

    def full(*_: object) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("server.snapshot.making.squeeze", full)
    assert ask(world, k2).of > 0
    assert ask(world, k2) == answer.PULL
    monkeypatch.undo()
    assert ask(world, k2) == answer.PULL
    assert k2.sync().pulled == 20  # page by page
    l3 = world.node("l3", "branch:A")
    world.clock.now += PAUSE_MS
    assert ask(world, l3).of > 0
    assert ask(world, l3).snapshot is not None


def test_what_another_process_makes_is_waited_for_until_it_is_silent_for_too_long(world: World) -> None:
    later: list[Callable[[], None]] = []
    dead = serve(world, start=later.append)
    k2 = world.node("k2", "branch:A")
    assert ask(world, k2).of > 0
    serve(world)  # another process; the first dies before it has begun
    assert ask(world, k2) == SnapshotReply(None, 0, b"", 0, 20)
    world.clock.now += 10 * 60_000
    assert ask(world, k2).of > 0
    assert ask(world, k2).snapshot is not None
    later[0]()  # it was not dead: its work counts no more
    assert len(world.sql("SELECT * FROM _snapshot")) == 1
    assert dead.rows_min == 1


@pytest.mark.sqlite_centre("PostgreSQL takes no such text")
def test_text_that_is_no_utf8_goes_by_pages(world: World) -> None:
    world.sql("UPDATE client SET name = CAST(x'ff41' AS TEXT) WHERE id = 'c00'")
    k2 = begun(world)
    assert ask(world, k2) == answer.PULL
    assert k2.sync().pulled == 20
    assert k2.verify()


def test_a_node_of_another_version_pulls(world: World) -> None:
    k2 = begun(world)
    state = k2.database.state()
    request = SnapshotRequest(1, state.epoch, state.incarnation, state.highest, 99, None, 0)
    assert world.service.snapshot(k2.link.identity, request, world.clock.read()) == answer.PULL


@pytest.mark.covers("P-8.22")
def test_a_centre_restored_to_before_the_file_gets_its_rows_from_who_took_it(world: World) -> None:
    lost, l3 = world.node("lost", "branch:A"), world.node("l3", "branch:A")
    copy = copy_of(world.database.path)
    lost.write([("client", {"id": "n1", "branch": "A", "name": "nur dort"})])
    lost.sync()
    world.sql("DELETE FROM _snapshot")
    ask(world, l3)
    l3.sync()
    assert kinds(l3)[0] == "snapshot"
    assert l3.sql("SELECT COUNT(*) FROM _kept_page") == [(0,)]
    world.nodes.pop("lost").database.close()
    put_back_centre(world, copy)
    assert world.sql("SELECT name FROM client WHERE id = 'n1'") == []
    assert l3.sync().lost is not None
    world.settle()
    assert world.sql("SELECT name FROM client WHERE id = 'n1'") == [("nur dort",)]
    assert world.agree()


def test_what_a_node_was_entitled_to_counts_from_the_file_on(world: World) -> None:
    begun(world)
    l3 = world.node("l3", "branch:A")
    since = "SELECT since FROM _entitled WHERE node = (SELECT node FROM _node WHERE name = 'l3')"
    ((before,),) = world.sql(since)
    told = ask(world, l3).snapshot
    assert told is not None
    assert world.sql(since) == [(told.at.number,)]
    assert told.at.number < before


def test_a_part_begun_by_another_node_in_the_same_folder_does_as_well(world: World, small_parts: int) -> None:
    """Joined anew with another invitation: what the new node is entitled to counts from the file's version on all the same."""
    k2 = begun(world)
    k2.link.before = lambda kind: cut_at(k2, 4)
    with pytest.raises(ReplyLost):
        k2.sync()
    world.sql("DELETE FROM client WHERE id = 'c02'")
    world.sql("UPDATE client SET branch = 'B' WHERE id = 'c04'")
    l3 = world.node("l3", "branch:A")
    (part,) = k2.database.path.parent.glob("k2.db.snapshot-*")
    part.rename(part.with_name(part.name.replace("k2", "l3")))
    l3.sync()
    assert asked(l3)[0].have == 3 * small_parts
    assert {"c02", "c04"}.isdisjoint(row[0] for row in l3.sql(CLIENTS))
    assert l3.verify()


def cut_at(node: Node, count: int) -> None:
    if len(asked(node)) == count - 1:
        raise ReplyLost("snapshot")


@pytest.mark.covers("P-8.20")
@pytest.mark.parametrize("what", ["rescoped", "sent"])
def test_what_happens_between_the_answer_and_its_note_makes_the_node_pull(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    begun(world)
    l3 = world.node("l3", "branch:A")
    world.sql("DELETE FROM client WHERE id = 'c02'")
    late, note = [True], answer.note

    def noted(*given: Any) -> bool:
        if late.pop():
            store, node = given[:2]
            if what == "sent":
                store.connection.execute("UPDATE _incarnation SET seq = 1 WHERE node = ?", (node,))
            else:
                store.connection.execute("UPDATE _entitled SET scope = 'branch:B' WHERE node = ?", (node,))
        return note(*given)

    monkeypatch.setattr(answer, "note", noted)
    assert ask(world, l3) == answer.PULL


@pytest.mark.covers("P-8.21")
def test_what_a_program_wrote_and_took_back_before_any_look_is_in_no_file(world: World) -> None:
    later: list[Callable[[], None]] = []
    serve(world, start=later.append)
    k2 = world.node("k2", "branch:A")
    assert ask(world, k2).of > 0
    world.sql(CLIENT, "ghost", "A", "nie gewesen")
    world.sql("UPDATE client SET branch = 'B' WHERE id = 'c04'")
    later.pop()()
    world.sql("DELETE FROM client WHERE id = 'ghost'")
    world.sql("UPDATE client SET branch = 'A' WHERE id = 'c04'")
    k2.sync()
    assert kinds(k2)[0] == "snapshot"
    assert k2.sql(CLIENTS) == of_branch("A")
    assert k2.verify()


def test_none_is_made_while_programs_write_without_a_pause(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.absorbing.has_to_absorb", lambda _store: True)
    k2 = world.node("k2", "branch:A")
    assert ask(world, k2).of > 0
    monkeypatch.undo()
    assert ask(world, k2) == answer.PULL
    assert world.sql("SELECT COUNT(*) FROM _snapshot") == [(0,)]


@pytest.mark.covers("P-8.22", "P-7.20")
def test_points_of_backups_before_the_file_are_known_from_then_on(world: World) -> None:
    with world.database.writing() as store:
        version = journal.append(store, journal.Entry("backup", 0, b""), world.clock.read())
    world.sql(CLIENT, "d1", "A", "neu")
    k2 = begun(world)
    first.pull(k2.database, k2.link, lambda _step, _done, _of: None)
    assert k2.sql("SELECT version FROM _point WHERE backup") == [(version,)]


def test_where_there_is_no_room_for_a_file_all_is_pulled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    k2 = begun(world)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=1))
    assert k2.sync().pulled == 20
    assert files(k2) == []


def test_what_processes_that_died_left_is_removed(world: World) -> None:
    begun(world)
    if not isinstance(world.database.path, Path):
        world.sql("INSERT INTO _snapshot_piece (name, number, body) VALUES ('\\x00', 0, '\\x00')")
    else:
        folder = world.database.path.with_name("server.db-snapshots")
        (folder / "making-dead").mkdir()
        (folder / "00.zst").write_bytes(b"")
    begun(world, "l3", "branch:B")
    if isinstance(world.database.path, Path):
        assert {path.name for path in folder.iterdir()} == {f"{bytes(row[0]).hex()}.zst" for row in world.sql("SELECT name FROM _snapshot")}
    else:
        assert world.sql("SELECT COUNT(DISTINCT name) FROM _snapshot_piece") == [(2,)]


def test_the_order_of_scope_keys_is_nothing() -> None:
    assert Wish(frozenset(["a", "b"]), 1).key == Wish(frozenset(["b", "a"]), 1).key != Wish(frozenset(["ab"]), 1).key
    assert Wish(frozenset(["a"]), 1).key != Wish(frozenset(["a"]), 2).key
