"""What is on one disk and nowhere else is said before another database takes its place: `outpost node restore` without --anyway."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import node.database
from node import backup, only_here, outbox
from node.only_here import OnlyHere
from sync.errors import BadValue
from tests.healing.copies import copy_of, put_back_centre
from tests.world import Node, ReplyLost, World

SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, 'n', 'sale', 'LON', 1, 'GBP', 100)"
CONTACT = "INSERT INTO contact (id, kind, name, note, branch_id) VALUES (?, 'person', 'Ann', ?, 'LON')"


def unsent(_world: World, till: Node) -> None:
    till.sql(SALE, "s1")


def withheld(world: World, till: Node) -> None:
    """A value longer than any message: its transaction waits on the node."""
    till.sql(CONTACT, "c1", "x" * 1_100_000)
    till.sync()
    assert world.sql("SELECT id FROM contact") == []


def unreadable(world: World, till: Node) -> None:
    """A disk that damaged a segment before it was sent."""
    till.sql(SALE, "s1")
    with till.database.writing() as store:
        outbox.seal(store, world.clock.read())
    till.sql("UPDATE _segment SET body = substr(body, 1, 20)")
    till.sync()


def repaired(_world: World, till: Node) -> None:
    """A row that was changed while capture was off: what stood here is put aside when the centre's is written."""
    till.sql(CONTACT, "c1", "")
    till.sync()
    for statement in ("UPDATE _state SET applying = 1", "UPDATE contact SET name = 'typed'", "UPDATE _state SET applying = 0"):
        till.sql(statement)
    till.repaired()


def lost(world: World, till: Node) -> None:
    """What another node had sent, the centre lost and this node has not offered yet."""
    other, copy = world.node("other", "branch:LON"), copy_of(world.database.path)
    other.sql(SALE, "s9")
    other.sync()
    till.sync()
    put_back_centre(world, copy)
    till.link.lose = ["offer"]
    with pytest.raises(ReplyLost):
        till.sync()


@pytest.mark.parametrize(
    ("make", "found", "words"),
    [
        (unsent, OnlyHere(unsent=1), "1 transaction never sent"),
        (withheld, OnlyHere(withheld=1), "1 transaction too long or too large to be sent"),
        (unreadable, OnlyHere(unreadable=1), "1 transaction that the centre could not read"),
        (repaired, OnlyHere(aside=1), "1 row that a repair put aside"),
        (lost, OnlyHere(lost=1), "1 row of others that the restored centre does not have again yet"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_restore_refuses_over_what_is_on_this_disk_only_and_says_what(
    make: Callable[[World, Node], None], found: OnlyHere, words: str, world: World
) -> None:
    till, file = world.node("till", "branch:LON"), world.folder / "till.backup"
    till.sync()
    backup.backup(till.database, file)
    make(world, till)
    path, clock = till.database.path, till.database.clock_ms
    assert backup.backup(till.database, world.folder / "now").only_here == found
    till.database.close()
    before = sorted(world.folder.iterdir())
    with pytest.raises(BadValue, match=words):
        backup.restore(file, path, world.schema, clock)
    assert sorted(world.folder.iterdir()) == before
    assert backup.restore(file, path, world.schema, clock, anyway=True).aside is not None
    till.database = node.database.Database(path, world.schema, clock)
    assert not only_here.look(till.database.store)


def test_a_backup_says_how_many_transactions_in_it_the_centre_does_not_have(world: World) -> None:
    till = world.node("till", "branch:LON")
    withheld(world, till)
    unsent(world, till)
    made = backup.backup(till.database, world.folder / "till.backup")
    assert (made.unsynced, made.only_here) == (2, OnlyHere(unsent=1, withheld=1))
    assert made.only_here.words() == "1 transaction never sent, 1 transaction too long or too large to be sent"
