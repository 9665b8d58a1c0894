"""A server that runs lets go of what is over by itself: once an hour, whatever the number of its processes."""

from __future__ import annotations

import pytest

from server import backup
from server.horizon import DAY_MS
from server.tending import PAUSE_MS, Tending
from tests.healing.test_late import began
from tests.world import World


def deleted(world: World) -> Tending:
    """Let a contact be deleted long ago, and a backup hold it; return what one of the server's processes does about it."""
    _, office = began(world)
    office.sql("DELETE FROM contact WHERE id = 'a'")
    world.settle(2)
    world.clock.now += 400 * DAY_MS
    backup.backup(world.database, world.folder / "backup", world.clock.read())
    return another(world)


def another(world: World) -> Tending:
    return Tending(world.database, lambda: world.clock.now)


def test_one_process_looks_and_the_others_wait_for_an_hour(world: World) -> None:
    first = deleted(world)
    done = first.look()
    assert done is not None
    assert done.images == 2  # the contact, and the activity that died with it
    assert world.sql("SELECT COUNT(*) FROM _tombstone") == [(0,)]
    second = another(world)
    assert second.look() is None
    world.clock.now += PAUSE_MS - 1
    assert second.look() is None
    world.clock.now += 1
    assert second.look() is not None
    assert first.look() is None


def test_a_clock_that_is_put_back_keeps_nobody_from_looking(world: World) -> None:
    tending = deleted(world)
    assert tending.look() is not None
    world.clock.now -= 1_000 * DAY_MS
    assert tending.look() is not None


def test_what_goes_wrong_is_told_in_the_log_and_tried_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    tending = deleted(world)
    with world.database.writing() as store:
        store.connection.execute("ALTER TABLE _tombstone RENAME TO _elsewhere")
    assert tending.look() is None
    assert "could not be compacted" in caplog.text
    with world.database.writing() as store:
        store.connection.execute("ALTER TABLE _elsewhere RENAME TO _tombstone")
    world.clock.now += PAUSE_MS
    done = tending.look()
    assert done is not None
    assert done.images == 2


def test_a_server_that_ends_leaves_the_rest_to_the_next(world: World) -> None:
    with deleted(world) as tending:
        pass
    assert tending.look() is None
    assert world.sql("SELECT COUNT(*) FROM _tombstone") == [(2,)]
    world.clock.now += PAUSE_MS
    done = another(world).look()
    assert done is not None
    assert done.images == 2
