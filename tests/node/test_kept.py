"""What a node keeps in case the centre is restored, and what people are told of it."""

from __future__ import annotations

from dataclasses import replace

from node.kept import ADVISE_BYTES, Kept, kept, tell_kept
from server import backup, journal, nodes
from server.cli import _backup_line
from tests.world import World

CONTACT = "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', ?, 'LON')"


def test_kept_counts_what_is_kept_and_names_the_newest_backup(world: World) -> None:
    first, second = world.node("first", "branch:LON"), world.node("second", "branch:LON")
    assert kept(first.database.store) == Kept(0, 0, 0, 0)
    first.sql(CONTACT, "c1", "Ann")
    world.settle()
    ((own,),) = first.sql("SELECT SUM(LENGTH(box)) FROM _retained")
    ((pulled,),) = second.sql("SELECT SUM(LENGTH(box)) FROM _kept_page")
    assert (kept(first.database.store), kept(second.database.store)) == (Kept(1, 0, own, 0), Kept(0, 1, pulled, 0))
    with world.database.reading() as store:
        assert journal.newest_backup(store) is None
        assert {each["uncovered"] for each in nodes.listing(store)} == {journal.head(store).number}
    made = backup.backup(world.database, world.folder / "backup", world.clock.read())
    at_ms = world.clock.now
    world.settle()
    assert kept(first.database.store) == kept(second.database.store) == Kept(0, 0, 0, made.version)
    with world.database.reading() as store:
        assert journal.newest_backup(store) == (made.version, at_ms)
        assert {each["uncovered"] for each in nodes.listing(store)} == {0}


def test_a_backup_is_advised_where_none_was_made_and_much_is_kept() -> None:
    much = Kept(3, 1, ADVISE_BYTES + 1, 0)
    assert "3 segments sent and 1 page received, 100.0 MB; it has told of no backup yet." in tell_kept(much)
    assert "outpost server backup FILE" in tell_kept(much)
    assert "outpost server backup" not in tell_kept(replace(much, bytes=ADVISE_BYTES))
    assert "outpost server backup" not in tell_kept(replace(much, covered=7))
    assert "up to version 7" in tell_kept(replace(much, covered=7))


def test_the_office_is_told_how_old_its_newest_backup_is() -> None:
    assert _backup_line(None, 0) == "No backup was made yet, or none since this was restored. Make one: outpost server backup FILE"
    assert _backup_line(None, 2).startswith("No backup was made yet, or none since this was restored; nodes keep up to 2 versions")
    assert "up to version 5, 20" in _backup_line((5, 1_760_000_000_000), 0)
    assert "outpost server backup" in _backup_line((5, 1_760_000_000_000), 1)
    assert "outpost server backup" not in _backup_line((5, 1_760_000_000_000), 0)
