"""What the board of nodes shows of pulls that are answered side by side is committed together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from schema.capture import Store
from server import together
from server.board import Board, Note
from tests.faults.cluster import until
from tests.world import World

THREADS = 8


class Counted:
    """A board over a database whose commits are counted."""

    def __init__(self, world: World) -> None:
        self.world, self.commits = world, 0
        self.board = Board(self._write)

    def _write(self, note: Note) -> Exception | None:
        self.commits += 1
        return together.write(self.world.database, [note])[0]

    def shown(self) -> list[int]:
        return [row[0] for row in self.world.sql("SELECT node FROM _differing ORDER BY node")]


@pytest.fixture
def counted(world: World) -> Counted:
    for number in range(THREADS):
        world.node(f"n{number}", "branch:LON")
    return Counted(world)


def note(node: int) -> Note:
    def noted(store: Store) -> None:
        sql = "INSERT INTO _differing (node, rows, told_ms) VALUES (?, 0, 1) ON CONFLICT (node) DO UPDATE SET rows = _differing.rows + 1"
        store.connection.execute(sql, (node,))

    return noted


def refused(store: Store) -> None:
    store.connection.execute("INSERT INTO nowhere VALUES (1)")


def nodes_of(world: World) -> list[int]:
    return [row[0] for row in world.sql("SELECT node FROM _node WHERE name LIKE 'n%' ORDER BY node")]


def test_what_waits_for_the_writer_is_committed_at_once(counted: Counted) -> None:
    nodes = nodes_of(counted.world)
    with ThreadPoolExecutor(THREADS) as threads:
        with counted.world.database.writing():
            shown = [threads.submit(counted.board.show, [note(node)]) for node in nodes]
            until(lambda: len(counted.board._waiting) == THREADS, "all threads wait")
            assert not wait(shown, 0).done
        for each in shown:
            each.result()
    assert counted.shown() == nodes
    assert counted.commits == 1


def test_who_comes_alone_is_done_when_it_returns(counted: Counted) -> None:
    for number, node in enumerate(nodes_of(counted.world), 1):
        counted.board.show([note(node)])
        assert (len(counted.shown()), counted.commits) == (number, number)
    counted.board.show([])
    assert counted.commits == THREADS


def test_what_cannot_be_noted_is_logged_and_holds_up_nothing(counted: Counted, caplog: pytest.LogCaptureFixture) -> None:
    first, *_ = nodes_of(counted.world)
    counted.board.show([note(first), refused])
    assert "could not be noted" in caplog.text
    assert counted.shown() == []
    counted.board.show([note(first)])
    assert counted.shown() == [first]


def test_a_thread_that_is_ended_leaves_nothing_waiting(counted: Counted) -> None:
    def ends(_: Store) -> None:
        raise KeyboardInterrupt

    first, *_ = nodes_of(counted.world)
    with pytest.raises(KeyboardInterrupt):
        counted.board.show([ends])
    counted.board.show([note(first)])
    assert counted.shown() == [first]
