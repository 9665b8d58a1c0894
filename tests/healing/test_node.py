"""A node is put back to an older copy, copied and used twice, or synced by two programs at once: nothing lost, nothing doubled."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest

from node import backup, series
from node.cycle import Cycle
from sync.errors import AlreadyThere, BadValue, Stale
from tests.healing.copies import clone, copy_of, put_back_centre, put_back_node
from tests.world import World

CONTACT = "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', ?, 'LON')"
SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, 'n', 'sale', 'LON', 1, 'GBP', 100)"


def settled(world: World) -> bool:
    world.settle()
    return world.agree() and all(entry.unsynced() == 0 for entry in world.nodes.values())


def ids(place: Any, table: str) -> list[str]:
    return [row[0] for row in place.sql(f"SELECT id FROM {table} ORDER BY id")]


def test_a_node_put_back_gets_what_it_had_sent_and_sends_what_it_has(world: World) -> None:
    london = world.node("London", "branch:LON")
    london.sql(SALE, "s1")
    london.sync()
    london.sql(SALE, "s2")
    Cycle(london.database, london.link).seal()
    copy = copy_of(london.database.path)
    london.sql(SALE, "s3")
    london.sql(CONTACT, "c1", "Ann")
    london.sync()
    put_back_node(world, london, copy)
    london.sql(SALE, "s4")
    report = london.sync()
    assert report.new_history
    assert report.came_back == 2
    assert ids(world, "sale") == ids(london, "sale") == ["s1", "s2", "s3", "s4"]
    assert ids(london, "contact") == ["c1"]
    assert settled(world)


def test_our_own_backup_of_a_node_names_its_unsent_work_once(world: World) -> None:
    london = world.node("London", "branch:LON")
    london.sync()
    london.sql(SALE, "s1")
    file = world.folder / "backup"
    made = backup.backup(london.database, file)
    assert made.unsynced == 1
    london.sync()
    london.sql(SALE, "s2")
    path = london.database.path
    london.database.close()
    done = backup.restore(file, path, world.schema, lambda: 7, anyway=True)
    assert (done.name, done.aside) == ("London", path.with_name("London.db.before-restore-7"))
    put_back_node(world, london, copy_of(path))
    london.sync()
    assert ids(world, "sale") == ["s1"]
    assert settled(world)
    with pytest.raises(AlreadyThere):
        backup.backup(london.database, file)


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(4000)])
def test_what_is_no_backup_is_not_put_back(world: World, content: bytes) -> None:
    london = world.node("London", "branch:LON")
    london.sync()
    file = world.folder / "file"
    file.write_bytes(content)
    london.database.close()
    with pytest.raises(BadValue):
        backup.restore(file, london.database.path, world.schema, world.clock.read)
    put_back_node(world, london, copy_of(london.database.path))
    assert london.sync().pushed == 0
    assert sorted(path.name for path in world.folder.iterdir() if "restor" in path.name) == []


def test_the_backup_of_a_centre_is_no_backup_of_a_node(world: World) -> None:
    london = world.node("London", "branch:LON")
    london.database.close()
    with pytest.raises(BadValue, match="no backup of this kind"):
        backup.restore(copy_of(world.database.path), london.database.path, world.schema, world.clock.read)


def test_two_copies_of_one_disk_are_both_used(world: World) -> None:
    london = world.node("London", "branch:LON")
    london.sql(CONTACT, "c1", "Ann")
    london.sync()
    london.sql(SALE, "s1")
    london.sync()
    other = clone(world, london, "copy")
    for turn in range(3):
        for entry in (london, other):
            entry.sql(SALE, f"{entry.name}-{turn}")
            entry.sql("UPDATE contact SET phone = ? WHERE id = 'c1'", f"{entry.name}-{turn}")
        london.sync()
        other.sync()
    assert settled(world)
    assert len(ids(world, "sale")) == 7
    assert ids(world, "sale") == ids(london, "sale") == ids(other, "sale")


def test_a_copy_that_only_pulls_misses_nothing(world: World) -> None:
    """RULES H5: to the centre it looks like the node that wrote the rows."""
    london = world.node("London", "branch:LON")
    london.sync()
    other = clone(world, london, "copy")
    london.sql(CONTACT, "c1", "Ann")
    london.sync()
    other.sync()
    assert ids(other, "contact") == ["c1"]
    assert settled(world)


def test_a_correction_made_on_one_copy_takes_the_held_work_from_the_other(world: World) -> None:
    """[P-8.30]. What the correction says is on the disk that made it alone; the other keeps what it had among the withdrawn,
    and gets the row when the centre lets it in.
    """
    london = world.node("London", "branch:LON")
    london.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Ann', 'LEE')")
    london.sync()
    other = clone(world, london, "copy")
    london.sql("UPDATE contact SET name = 'Anne' WHERE id = 'c1'")
    london.sync()
    assert other.sync().late["withdrawn"] == 1
    assert (ids(london, "contact"), ids(other, "contact")) == (["c1"], [])
    assert [(row["key"], row["code"]) for row in other.held(withdrawn=True)] == [("c1", "replaced")]
    london.sql("UPDATE contact SET branch_id = 'LON' WHERE id = 'c1'")
    assert settled(world)
    assert other.sql("SELECT id, name FROM contact") == [("c1", "Anne")]


def test_node_and_centre_are_both_put_back(world: World) -> None:
    london, leeds = world.node("London", "branch:LON"), world.node("Leeds", "branch:LON")
    london.sql(SALE, "s1")
    london.sync()
    centre = copy_of(world.database.path)
    london.sql(SALE, "s2")
    london.sync()
    laptop = copy_of(london.database.path)
    london.sql(SALE, "s3")
    london.sync()
    leeds.sync()
    put_back_centre(world, centre)
    put_back_node(world, london, laptop)
    london.sql(SALE, "s4")
    london.sync()
    leeds.sync()
    assert settled(world)
    assert ids(world, "sale") == ids(london, "sale") == ids(leeds, "sale") == ["s1", "s2", "s3", "s4"]


@pytest.mark.parametrize("seed", range(12))
def test_two_programs_sync_one_database_at_once(world: World, seed: int) -> None:
    """Between any two requests of one exchange another exchange of the same node runs from end to end."""
    chance = random.Random(seed)
    london, leeds = world.node("London", "branch:LON"), world.node("Leeds", "branch:LON")
    for number in range(30):
        leeds.sql(CONTACT, f"c{number}", "Ann")
        london.sql(SALE, f"s{number}")
    leeds.sync()
    inside = False

    def meanwhile(kind: str) -> None:
        nonlocal inside
        if not inside and chance.random() < 0.4:
            inside = True
            london.sql("UPDATE contact SET phone = ? WHERE id = 'c3'", str(chance.random()))
            with suppress(Stale):
                Cycle(london.database, london.link, rows=chance.choice([3, 7, 10_000])).sync()
            inside = False

    london.link.before = meanwhile
    for _ in range(4):
        with suppress(Stale):
            london.sync(rows=5)
    london.link.before = lambda _kind: None
    assert settled(world)
    assert series.own(london.database.store) is None  # no other copy, so its receipt numbers stay plain
    assert len(ids(world, "sale")) == len(ids(london, "sale")) == 30
    assert ids(london, "contact") == ids(world, "contact")
