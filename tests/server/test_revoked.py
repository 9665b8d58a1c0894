"""A revocation outlives the backup that was made before it: a stolen laptop stays out of a centre that was put back."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

import server.database
from server import backup, nodes, revoked
from server.database import Database
from sync.errors import Revoked, UsError
from tests.healing.copies import copy_of, put_back_centre
from tests.world import START_MS, Node, World

pytestmark = pytest.mark.sqlite_centre("revocations are kept beside a file")


def revoke(world: World, name: str) -> None:
    with world.database.writing() as store:
        nodes.revoke(store, name, world.clock.read())


def is_let_in(world: World, entry: Node) -> bool:
    try:
        world.service.key_of(entry.link.identity)
    except Revoked:
        return False
    return True


@pytest.fixture
def laptop(world: World) -> Node:
    return world.node("laptop", "branch:LON")


@pytest.mark.covers("P-9.10")
def test_a_copy_of_before_put_back_by_hand_does_not_let_a_revoked_node_in(world: World, laptop: Node) -> None:
    till, copy = world.node("till", "branch:LON"), copy_of(world.database.path)
    revoke(world, "laptop")
    put_back_centre(world, copy)
    assert not is_let_in(world, laptop)
    assert is_let_in(world, till)


def test_a_restore_tells_who_is_kept_out_and_who_may_sync(world: World, laptop: Node, tmp_path: Path) -> None:
    world.node("till", "branch:LON")
    world.node("found before", "branch:LON")
    revoke(world, "found before")
    backup.backup(world.database, tmp_path / "b", world.clock.read())
    revoke(world, "laptop")
    world.database.close()
    done = backup.restore(tmp_path / "b", world.database.path, world.schema, START_MS)
    assert (done.revoked_again, done.admitted, done.is_record_here) == (["laptop"], ["till"], True)


def test_a_restore_on_another_machine_says_that_it_does_not_know_whom_it_lets_in(world: World, laptop: Node, tmp_path: Path) -> None:
    backup.backup(world.database, tmp_path / "b", world.clock.read())
    revoke(world, "laptop")
    done = backup.restore(tmp_path / "b", tmp_path / "elsewhere" / "server.db", world.schema, START_MS)
    assert (done.revoked_again, done.admitted, done.is_record_here) == ([], ["laptop"], False)


def test_a_centre_that_never_revoked_anybody_knows_that_after_a_restore(world: World, laptop: Node, tmp_path: Path) -> None:
    backup.backup(world.database, tmp_path / "b", world.clock.read())
    world.database.close()
    done = backup.restore(tmp_path / "b", world.database.path, world.schema, START_MS)
    assert (done.revoked_again, done.admitted, done.is_record_here) == ([], ["laptop"], True)


def test_revocations_of_before_there_was_a_file_are_kept_by_the_next_opening(world: World, laptop: Node) -> None:
    copy = copy_of(world.database.path)
    revoke(world, "laptop")
    revoked.file_of(world.database.path).unlink()
    server.database.Database(world.database.path, world.schema).close()
    put_back_centre(world, copy)
    assert not is_let_in(world, laptop)


def test_a_revocation_that_was_cut_after_its_file_was_written_holds(world: World, laptop: Node) -> None:
    def cut() -> None:
        with world.database.writing() as store:
            nodes.revoke(store, "laptop", START_MS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut()
    assert world.sql("SELECT revoked_ms FROM _node") == [(None,)]
    put_back_centre(world, copy_of(world.database.path))
    assert not is_let_in(world, laptop)


def test_the_first_revocation_stands_and_nodes_that_nobody_knows_here_do_no_harm(world: World, laptop: Node) -> None:
    revoked.note(world.database.path, "of another centre", 5)
    revoke(world, "laptop")
    first = world.sql("SELECT revoked_ms FROM _node WHERE name = 'laptop'")
    revoke(world, "laptop")
    server.database.Database(world.database.path, world.schema).close()
    assert world.sql("SELECT revoked_ms FROM _node WHERE name = 'laptop'") == first
    kept = json.loads(revoked.file_of(world.database.path).read_text(encoding="utf-8"))
    assert kept == {"revoked": {"of another centre": 5, laptop.link.identity: first[0][0]}}


@pytest.mark.parametrize("damage", ["", "[]", '{"revoked": [1]}', '{"revoked": {"a": "x"}}', "\x00"])
def test_a_damaged_file_is_said_to_be_one_before_anything_is_changed(world: World, laptop: Node, damage: str, tmp_path: Path) -> None:
    backup.backup(world.database, tmp_path / "b", world.clock.read())
    world.database.close()
    revoked.file_of(world.database.path).write_text(damage, encoding="utf-8")
    with pytest.raises(UsError, match="is damaged"):
        server.database.Database(world.database.path, world.schema)
    with pytest.raises(UsError, match="is damaged"):
        backup.restore(tmp_path / "b", world.database.path, world.schema, START_MS)
    assert list(tmp_path.glob("*before-restore*")) == []


def test_a_restore_by_a_link_knows_who_was_revoked(tmp_path: Path) -> None:
    """The database lies elsewhere, and the server's folder has a link to it; `revoke` and `restore` may come by different names."""
    world = World(tmp_path / "real")
    world.node("k2", "branch:LON")
    world.close()
    link = tmp_path / "home" / "server.db"
    link.parent.mkdir()
    link.symlink_to(world.database.path)
    file = tmp_path / "backup.db"
    with closing(Database(link, world.schema)) as database:
        backup.backup(database, file, 1)
        with database.writing() as store:
            nodes.revoke(store, "k2", 5)
    done = backup.restore(file, link, world.schema, 9)
    assert (done.admitted, done.revoked_again, done.is_record_here) == ([], ["k2"], True)
    with closing(Database(link, world.schema)) as database, database.reading() as store:
        assert nodes.names(store, is_revoked=True) == ["k2"]


@pytest.mark.skipif(os.name == "nt", reason="no owners and modes there")
def test_the_file_has_the_permissions_of_the_database(world: World) -> None:
    """`sudo outpost server revoke` must not leave a file that the server's own user cannot read."""
    world.database.path.chmod(0o640)
    world.node("k2", "branch:LON")
    with world.database.writing() as store:
        nodes.revoke(store, "k2", 5)
    assert revoked.file_of(world.database.path).stat().st_mode & 0o777 == 0o640
