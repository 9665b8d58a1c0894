"""Putting a database's backup in its place while programs of any kind still have the old one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2

import node.database
from node import backup
from node.only_here import OnlyHere
from schema.backup import put_back
from schema.dialects.base import Connection
from schema.dialects.sqlite import Sqlite
from schema.lock import HomeBusy
from server import backup as centre_backup
from sync.errors import AlreadyThere
from tests import foreign
from tests.world import Node, World

pytestmark = pytest.mark.sqlite_centre("files are restored in their places")

ROOT = Path(__file__).parents[2]
CONTACT = "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', ?, 'LON')"
IDS = "SELECT id FROM contact ORDER BY id"
private = pytest.mark.skipif(os.name == "nt", reason="permissions are of another kind there")


@pytest.fixture
def till(world: World) -> Iterator[Node]:
    """A node that has written since its backup `till.backup`, and that only programs have open."""
    made = world.node("till", "branch:LON")
    made.sql(CONTACT, "c1", "before")
    backup.backup(made.database, world.folder / "till.backup")
    made.sql(CONTACT, "c2", "since")
    made.database.close()
    yield made
    made.database = node.database.Database(made.database.path, world.schema, world.clock.read)


def names(folder: Path) -> list[str]:
    """Which files are here, but for what SQLite keeps beside a database that is open."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm", "-journal")))


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_restore_under_an_open_till_refuses_and_loses_no_sale(world: World, till: Node) -> None:
    path, file = till.database.path, world.folder / "till.backup"
    foreign.run(path, IDS, connection="till", commit=False)  # idle from here on
    before = names(world.folder)
    with pytest.raises(HomeBusy, match="Nothing was changed"):
        backup.restore(file, path, world.schema, world.clock.read, anyway=True)
    assert names(world.folder) == before
    foreign.run(path, (CONTACT, "c3", "sold after"), connection="till")
    assert foreign.rows(path, IDS) == [("c1",), ("c2",), ("c3",)]
    foreign.close(path, "till")

    done = backup.restore(file, path, world.schema, world.clock.read, anyway=True)
    assert done.aside is not None
    assert foreign.rows(path, IDS) == [("c1",)]
    assert foreign.rows(done.aside, IDS) == [("c1",), ("c2",), ("c3",)]


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_a_program_in_the_middle_of_a_commit_is_noticed_in_any_journal_mode(world: World, till: Node, journal: str) -> None:
    path = till.database.path
    foreign.run(path, f"PRAGMA journal_mode={journal}", connection="till", commit=False)
    foreign.run(path, "BEGIN IMMEDIATE", (CONTACT, "c3", "under way"), connection="till", commit=False)
    with pytest.raises(HomeBusy):
        backup.restore(world.folder / "till.backup", path, world.schema, world.clock.read, anyway=True)
    foreign.run(path, "COMMIT", connection="till", commit=False)
    foreign.close(path, "till")
    assert foreign.rows(path, IDS) == [("c1",), ("c2",), ("c3",)]


def test_what_a_restore_would_replace_is_not_taken_for_nothing_while_a_program_writes(world: World, till: Node) -> None:
    """Else, once that program has ended, its unsent work would be set aside unsaid."""
    path = till.database.path
    foreign.run(path, "BEGIN IMMEDIATE", (CONTACT, "c3", "under way"), connection="till", commit=False)
    with pytest.raises(HomeBusy, match="Nothing was changed"):
        backup.present(path, world.schema, world.clock.read)
    foreign.run(path, "COMMIT", connection="till", commit=False)
    foreign.close(path, "till")
    here = backup.present(path, world.schema, world.clock.read)
    assert isinstance(here, backup.Present)
    assert here.only_here == OnlyHere(unsent=3)


@pytest.mark.skipif(os.name == "nt", reason="a file that is open cannot be replaced there")
def test_a_program_that_had_opened_the_file_and_not_looked_into_it_is_told_and_loses_no_sale(world: World, till: Node) -> None:
    path = till.database.path
    foreign.run(path, connection="till", commit=False)  # a file handle, and no lock that anybody could see
    done = backup.restore(world.folder / "till.backup", path, world.schema, world.clock.read, anyway=True)
    assert done.aside is not None
    with pytest.raises(foreign.Failed, match="readonly"):
        foreign.run(path, (CONTACT, "c3", "sold after"), connection="till")
    foreign.close(path, "till")
    foreign.run(path, (CONTACT, "c4", "sold in the new one"))
    assert foreign.rows(path, IDS) == [("c1",), ("c4",)]
    assert foreign.rows(done.aside, IDS) == [("c1",), ("c2",)]


@pytest.mark.skipif(os.name == "nt", reason="a file that is open cannot be replaced there")
def test_nobody_gets_in_between_the_look_and_the_replacement(world: World, till: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    path, replace, told = till.database.path, os.replace, []

    def late(source: Path, target: Path) -> None:
        with pytest.raises(foreign.Failed) as failed:
            foreign.run(path, "PRAGMA busy_timeout=0", (CONTACT, "c3", "at the last moment"), commit=False)
        told.append(str(failed.value))
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    backup.restore(world.folder / "till.backup", path, world.schema, world.clock.read, anyway=True)
    assert told == ["OperationalError: database is locked"]


def test_the_centre_is_not_put_back_under_an_open_program(world: World) -> None:
    file, path = world.folder / "centre.backup", world.database.path
    centre_backup.backup(world.database, file, world.clock.read())
    world.database.close()
    foreign.run(path, "SELECT 1 FROM _server", connection="office", commit=False)
    with pytest.raises(HomeBusy, match="Close every program"):
        centre_backup.restore(file, path, world.schema, world.clock.read())
    foreign.close(path, "office")
    centre_backup.restore(file, path, world.schema, world.clock.read())


def test_a_file_that_cannot_be_read_is_set_aside_as_it_is(world: World, till: Node) -> None:
    path = till.database.path
    path.write_bytes(b"no database" * 1000)
    done = backup.restore(world.folder / "till.backup", path, world.schema, world.clock.read, anyway=True)
    assert done.aside is not None
    assert done.aside.read_bytes() == b"no database" * 1000
    assert foreign.rows(path, IDS) == [("c1",)]


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_log_whose_database_is_gone_is_not_taken_for_the_new_ones(world: World, till: Node, suffix: str) -> None:
    path = till.database.path
    path.unlink()
    log = path.with_name(path.name + suffix)
    log.write_bytes(b"of another life")
    with pytest.raises(AlreadyThere, match="Move it away"):
        backup.restore(world.folder / "till.backup", path, world.schema, world.clock.read, anyway=True)
    assert (log.read_bytes(), path.exists()) == (b"of another life", False)
    log.unlink()
    assert backup.restore(world.folder / "till.backup", path, world.schema, world.clock.read, anyway=True).aside is None


@private
def test_backups_are_for_their_owner_from_their_first_moment_on(world: World) -> None:
    first = world.node("first", "branch:LON")
    seen: list[tuple[str, int]] = []

    def look(_done: int, _total: int) -> None:
        seen.extend((path.name, mode(path)) for path in world.folder.glob("*.part*"))

    backup.backup(first.database, world.folder / "n.backup", look)
    centre_backup.backup(world.database, world.folder / "c.backup", world.clock.read(), look)
    assert {name for name, _ in seen} >= {"n.backup.part", "c.backup.part"}
    assert {permissions for _, permissions in seen} == {0o600}
    assert (mode(world.folder / "n.backup"), mode(world.folder / "c.backup")) == (0o600, 0o600)


@private
@pytest.mark.parametrize("permissions", [0o600, 0o644, 0o664])
def test_what_is_being_restored_is_private_and_gets_the_permissions_of_what_it_replaces(
    world: World, till: Node, permissions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file, seen = till.database.path, world.folder / "till.backup", []
    file.chmod(0o644)  # one that came from elsewhere
    path.chmod(permissions)
    is_whole = Sqlite.is_whole

    def look(self: Sqlite, connection: object) -> bool:
        seen.extend(mode(each) for each in world.folder.glob("*.restoring*"))
        return is_whole(self, connection)  # type: ignore[arg-type]

    monkeypatch.setattr(Sqlite, "is_whole", look)
    backup.restore(file, path, world.schema, world.clock.read, anyway=True)
    assert set(seen) == {0o600}
    assert mode(path) == permissions
    with closing(Sqlite().open(path)) as connection:
        connection.execute("CREATE TABLE x (y)")
        assert mode(path.with_name(path.name + "-wal")) == permissions


KILLED = """
import os, sys
from pathlib import Path
from node import backup
from schema.registry import load
replace = os.replace
def killed(source, target):
    if sys.argv[3] == "after":
        replace(source, target)
    os._exit(9)
os.replace = killed
backup.restore(Path(sys.argv[1]), Path(sys.argv[2]), load(), lambda: 7, anyway=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="the old file is let go before it is replaced there")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_restore_that_is_killed_with_the_old_file_in_its_hands_harms_neither(world: World, till: Node, when: str) -> None:
    path, file = till.database.path, world.folder / "till.backup"
    done = subprocess.run([sys.executable, "-c", KILLED, str(file), str(path), when], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 9
    expected = [("c1",), ("c2",)] if when == "before" else [("c1",)]
    assert (foreign.rows(path, IDS), foreign.rows(path, "PRAGMA integrity_check")) == (expected, [("ok",)])
    assert foreign.rows(path.with_name(path.name + ".before-restore-7"), IDS) == [("c1",), ("c2",)]
    foreign.run(path, (CONTACT, "c3", "goes on"))
    again = backup.restore(file, path, world.schema, world.clock.read, anyway=True)
    assert again.aside is not None
    assert foreign.rows(again.aside, IDS) == [*expected, ("c3",)]


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_second_restore_at_the_same_moment_sets_aside_beside_the_first(is_damaged: bool, world: World, till: Node) -> None:
    """The clock had been set back; found by seed 40001163 in a folder where an earlier history had left its file."""
    path, file = till.database.path, world.folder / "till.backup"
    first = backup.restore(file, path, world.schema, lambda: 7, anyway=True).aside
    if is_damaged:
        path.write_bytes(b"no database")
    second = backup.restore(file, path, world.schema, lambda: 7, anyway=True).aside
    assert first is not None
    assert second not in (None, first)
    assert foreign.rows(first, IDS) == [("c1",), ("c2",)]
    assert foreign.rows(path, IDS) == [("c1",)]


class FailingDisk(Sqlite):
    """A database on a disk that fails while its pages are looked through."""

    def is_whole(self, connection: Connection) -> bool:
        error = dbapi2.OperationalError("disk I/O error")
        error.sqlite_errorcode = DISK_READ  # type: ignore[attr-defined]
        raise error


DISK_READ = 10 | (1 << 8)  # SQLITE_IOERR_READ


def test_a_disk_that_fails_is_not_a_backup_of_another_kind(world: World, till: Node) -> None:
    path, file = till.database.path, world.folder / "till.backup"
    with pytest.raises(dbapi2.OperationalError, match="disk I/O error"):
        put_back(FailingDisk(), file, path, lambda _connection: None, world.clock.read())
    assert foreign.rows(path, IDS) == [("c1",), ("c2",)]
    assert "till.db.restoring" not in names(world.folder)
