"""What a restore brings back, what it refuses before anything is touched, and where it works: logs beside FILE, files of other
releases, programs that write meanwhile, disks without hard links.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import node.database
import server.database
from node import backup
from schema.lock import HomeBusy
from schema.registry import Schema
from server import backup as centre_backup
from sync.errors import AlreadyThere, NewerFile, NotJoined, OutpostError
from tests import foreign
from tests.skew.declarations import declared
from tests.world import Node, World

pytestmark = pytest.mark.sqlite_centre("files are restored in their places")

ROOT = Path(__file__).parents[2]
SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, 'n', 'sale', 'LON', 1, 'GBP', 100)"
IDS = "SELECT id FROM sale ORDER BY id"
BEFORE, SINCE = [("s0",)], [("s0",), ("s1",)]


def copied(path: Path, folder: Path) -> Path:
    """A folder copied with everything in it, while the program was running."""
    folder.mkdir()
    for suffix in ("", "-wal", "-shm", "-journal"):
        if (part := path.with_name(path.name + suffix)).exists():
            (folder / part.name).write_bytes(foreign.read_bytes(part))
    return folder / path.name


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm")))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def till(world: World) -> Node:
    made = world.node("till", "branch:LON")
    made.sql(SALE, "s0")
    made.sync()
    return made


def restore_node(world: World, file: Path, path: Path) -> None:
    backup.restore(file, path, world.schema, world.clock.read)


def restore_centre(world: World, file: Path, path: Path) -> None:
    centre_backup.restore(file, path, world.schema, world.clock.read())


Restore = Callable[[World, Path, Path], None]
SIDES = pytest.mark.parametrize(("side", "restore"), [("node", restore_node), ("centre", restore_centre)], ids=["node", "centre"])


@SIDES
def test_what_lies_in_the_log_beside_a_copied_database_comes_back_too(world: World, till: Node, side: str, restore: Restore) -> None:
    database = till.database if side == "node" else world.database
    database.dialect.empty_log(till.database.connection if side == "node" else world.database._writer)
    till.sql(SALE, "s1")
    till.sync()
    file = copied(database.path, world.folder / "copied")
    log = file.with_name(file.name + "-wal")
    assert log.stat().st_size > 0
    before = contents(file.parent)
    new = world.folder / "new" / file.name
    restore(world, file, new)
    assert foreign.rows(new, IDS) == SINCE
    assert contents(file.parent) == before
    assert [path.name for path in new.parent.iterdir() if "restor" in path.name] == []
    log.unlink()
    restore(world, file, world.folder / "without" / file.name)
    assert foreign.rows(world.folder / "without" / file.name, IDS) == BEFORE


KILLED_IN_A_COMMIT = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=DELETE")
c.execute("PRAGMA cache_size=1")
c.execute("BEGIN IMMEDIATE")
c.execute("UPDATE sale SET currency = 'XXX'")
c.executemany("INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', ?, 'LON')", [(f"c{n}", "x" * 900) for n in range(400)])
os._exit(9)
"""


def test_a_commit_that_was_cut_in_a_copied_database_is_taken_back_by_the_journal_beside_it(world: World, till: Node) -> None:
    till.database.close()
    path = till.database.path
    subprocess.run([sys.executable, "-c", KILLED_IN_A_COMMIT, str(path)], timeout=60, check=False)
    file = copied(path, world.folder / "copied")
    assert file.with_name(file.name + "-journal").stat().st_size > 0
    new = world.folder / "new" / "till.db"
    restore_node(world, file, new)
    assert foreign.rows(new, "SELECT id, currency FROM sale") == [("s0", "GBP")]
    assert foreign.rows(new, "SELECT COUNT(*) FROM contact") == [(0,)]


def test_a_file_that_is_written_to_while_it_is_copied_is_not_taken_for_a_backup(
    world: World, till: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = copied(till.database.path, world.folder / "copied")
    real = shutil.copyfile

    def meanwhile(source: Path, target: Path) -> None:
        real(source, target)
        foreign.run(file, (SALE, "s1"))

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    with pytest.raises(HomeBusy, match="writing to"):
        restore_node(world, file, world.folder / "new" / "till.db")
    assert list((world.folder / "new").iterdir()) == []


def test_a_log_that_another_file_left_is_not_taken_for_the_backups(world: World, till: Node) -> None:
    file = world.folder / "till.backup"
    log = file.with_name("till.backup-wal")
    log.write_bytes(b"of another life")
    with pytest.raises(AlreadyThere, match="Move it away"):
        backup.backup(till.database, file)
    assert (file.exists(), log.read_bytes()) == (False, b"of another life")


# --- programs that write meanwhile -------------------------------------------------------------------------------------------


def test_a_sale_made_while_the_backup_is_copied_is_not_set_aside_unsaid(world: World, till: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    path, file, real = till.database.path, world.folder / "till.backup", shutil.copyfile
    backup.backup(till.database, file)
    till.database.close()

    def meanwhile(source: Path, target: Path) -> None:
        foreign.run(path, (SALE, "s1"), connection="till")
        foreign.close(path, "till")
        real(source, target)

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    with pytest.raises(HomeBusy, match=r"has written to .* Nothing was changed"):
        restore_node(world, file, path)
    monkeypatch.undo()
    assert foreign.rows(path, IDS) == SINCE
    assert [each.name for each in world.folder.iterdir() if "restor" in each.name] == []
    with pytest.raises(OutpostError, match="1 transaction never sent"):
        restore_node(world, file, path)


def test_a_node_that_joins_while_the_backup_is_copied_is_not_set_aside(world: World, till: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    file, path, real = world.folder / "till.backup", world.folder / "new.db", shutil.copyfile
    backup.backup(till.database, file)

    def meanwhile(source: Path, target: Path) -> None:
        world.node("new", "branch:LON").database.close()
        real(source, target)

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    with pytest.raises(HomeBusy):
        restore_node(world, file, path)
    assert foreign.rows(path, "SELECT name FROM _node") == [("new",)]


# --- files of other releases -------------------------------------------------------------------------------------------------


@pytest.fixture
def skewed(tmp_path: Path) -> World:
    made = World(tmp_path, declared(4))
    made.node("till", "branch:LON").sync()
    return made


def written_by(schema: Schema, world: World, side: str) -> Path:
    """A copy of a database, as a program with another declaration leaves it."""
    path = world.nodes["till"].database.path if side == "node" else world.database.path
    file = world.folder / f"{side} of {schema.version}"
    world.database.dialect.backup(path, file, 1000, lambda _done, _total: None)
    if side == "node":
        node.database.Database(file, schema, world.clock.read).close()
    else:
        server.database.Database(file, schema).close()
    return file


@SIDES
def test_a_backup_that_a_newer_program_wrote_is_refused_and_what_is_here_stays(skewed: World, side: str, restore: Restore) -> None:
    file = written_by(declared(5), skewed, side)
    path = skewed.nodes["till"].database.path if side == "node" else skewed.database.path
    skewed.close()
    before = names(skewed.folder)
    with pytest.raises(NewerFile, match="cannot be put back"):
        restore(skewed, file, path)
    assert names(skewed.folder) == before
    restore(skewed, written_by(declared(4), skewed, side), path)


@SIDES
def test_a_backup_that_cannot_be_opened_is_refused_before_anything_is_set_aside(skewed: World, side: str, restore: Restore) -> None:
    """Every refusal to open counts, an upgrade's too: here another program has altered a table of the copy."""
    file = written_by(declared(4), skewed, side)
    foreign.run(file, "ALTER TABLE person RENAME COLUMN note TO other")
    path = skewed.nodes["till"].database.path if side == "node" else skewed.database.path
    skewed.close()
    before = names(skewed.folder)
    with pytest.raises(OutpostError, match="cannot be put back"):
        restore(skewed, file, path)
    assert names(skewed.folder) == before


@SIDES
def test_a_backup_of_an_older_program_is_brought_up_to_date(skewed: World, side: str, restore: Restore) -> None:
    file = written_by(declared(4), skewed, side)
    foreign.run(file, "UPDATE _bookkeeping SET version = 1", f"ALTER TABLE _node DROP COLUMN {'afresh' if side == 'node' else 'schema'}")
    new = skewed.folder / "new" / "file.db"
    skewed.schema = declared(5)
    restore(skewed, file, new)
    assert foreign.rows(new, "SELECT schema FROM _bookkeeping") == [(5,)]
    assert foreign.rows(file, "SELECT version, schema FROM _bookkeeping") == [(1, 4)]


# --- disks without hard links ------------------------------------------------------------------------------------------------


def no_links(_source: Path, _target: Path) -> None:
    """What FAT and exFAT say."""
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_a_backup_onto_a_stick_is_made_and_replaces_nothing(world: World, till: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    file = world.folder / "stick"
    backup.backup(till.database, file)
    assert foreign.rows(file, IDS) == BEFORE

    def meanwhile(done: int, total: int) -> None:
        if done == total:
            (world.folder / "taken").write_bytes(b"somebody's")

    with pytest.raises(AlreadyThere, match="There is a file here already"):
        backup.backup(till.database, world.folder / "taken", meanwhile)
    assert (world.folder / "taken").read_bytes() == b"somebody's"
    assert list(world.folder.glob("*.part*")) == []


@pytest.mark.parametrize("has_links", [True, False])
def test_a_restore_that_cannot_replace_the_file_leaves_it_under_its_name(
    has_links: bool, world: World, till: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file, replace = till.database.path, world.folder / "till.backup", os.replace
    backup.backup(till.database, file)
    till.database.close()

    def failing(source: Path, target: Path) -> None:
        if source.name.endswith(".restoring"):
            raise PermissionError(errno.EACCES, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(PermissionError):
        restore_node(world, file, path)
    assert foreign.rows(path, IDS) == BEFORE


KILLED = """
import errno, os, sys
from pathlib import Path
from node import backup
from schema.registry import load
replace, left = os.replace, [int(sys.argv[3])]
def no_links(source, target):
    raise PermissionError(errno.EPERM, "Operation not permitted")
def killed(source, target):
    if not left[0]:
        os._exit(9)
    left[0] -= 1
    replace(source, target)
    if not left[0]:
        os._exit(9)
os.link, os.replace = no_links, killed
backup.restore(Path(sys.argv[1]), Path(sys.argv[2]), load(), lambda: 7, anyway=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="the old file is let go before it is replaced there")
@pytest.mark.parametrize("renames", [0, 1, 2, 3])  # a journal without content, the old file, the copy
def test_a_restore_without_hard_links_may_be_killed_anywhere(renames: int, world: World, till: Node) -> None:
    path, file = till.database.path, world.folder / "till.backup"
    backup.backup(till.database, file)
    till.sql(SALE, "s1")
    till.database.close()
    done = subprocess.run([sys.executable, "-c", KILLED, str(file), str(path), str(renames)], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 9
    aside = path.with_name(path.name + ".before-restore-7")
    assert foreign.rows(path if renames < 2 else aside, IDS) == SINCE
    assert path.exists() == (renames != 2)
    if renames == 2:  # neither has the name: said, and not taken for a folder where nobody has joined
        with pytest.raises(NotJoined, match=f"cut short here .* kept as {aside}"):
            node.database.Database(path, world.schema, world.clock.read)
    backup.restore(file, path, world.schema, world.clock.read, anyway=True)
    assert foreign.rows(path, IDS) == BEFORE
    kept = [foreign.rows(each, IDS) for each in world.folder.glob("till.db.before-restore-*") if each.suffix.rpartition("-")[2].isdecimal()]
    assert SINCE in kept
