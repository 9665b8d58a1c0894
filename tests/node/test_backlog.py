"""A large backlog is sealed in portions while the centre works on what was sent: the same result, nothing torn apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from node import cycle, documents, outbox
from node.cycle import Cycle
from sync.errors import BadReply
from sync.messages import PushReply, PushRequest
from tests.world import Link, Node, ReplyLost, World

PORTION = 50
SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, ?, 'sale', 'LON', 1, 'GBP', 100)"
LINE = "INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES (?, ?, 1000, 1000000, 100)"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(cycle, "PORTION_ROWS", PORTION)
    monkeypatch.setattr(documents, "ROOTS", 20)
    monkeypatch.setattr(documents, "SEGMENT_ROWS", PORTION)
    made = World(tmp_path)
    yield made
    made.close()


def sell(till: Node, count: int, *, lines: str = "none") -> None:
    """Record receipts as a foreign program's one transaction: without lines, each with its line, or all the lines at the end."""
    till.sql("BEGIN IMMEDIATE")
    for number in range(count):
        till.sql(SALE, f"s{number:04}", str(number))
        if lines == "each":
            till.sql(LINE, f"l{number:04}", f"s{number:04}")
    for number in range(count if lines == "at the end, backwards" else 0):
        till.sql(LINE, f"l{number:04}", f"s{count - 1 - number:04}")
    till.sql("COMMIT")


def pushes(till: Node) -> int:
    return [kind for kind, _ in till.link.requests].count("push")


def test_a_backlog_goes_in_portions_from_a_thread_and_arrives_whole(world: World) -> None:
    till, threads = world.node("till", "branch:LON"), []
    till.link.before = lambda kind: threads.append((kind, threading.current_thread() is threading.main_thread()))
    sell(till, 4 * PORTION + 7)
    report = till.sync()
    assert (report.pushed, report.verdicts["accepted"], till.unsynced()) == (207, 207, 0)
    assert [main for kind, main in threads if kind == "push"] == [False] * 4 + [True]
    assert world.sql("SELECT COUNT(*) FROM sale") == [(207,)]
    assert world.agree()


def test_receipts_go_in_portions_with_their_lines(world: World) -> None:
    till = world.node("till", "branch:LON")
    sell(till, 200, lines="each")
    report = till.sync()
    assert (report.pushed, report.verdicts["accepted"]) == (200, 200)
    assert pushes(till) > 3
    assert world.sql("SELECT COUNT(*) FROM sale_line") == [(200,)]
    assert world.agree()


def test_receipts_whose_lines_lie_elsewhere_are_not_torn_from_them(world: World) -> None:
    till = world.node("till", "branch:LON")
    sell(till, 200, lines="at the end, backwards")
    assert till.sync().pushed == 200
    assert pushes(till) == 1
    assert world.agree()


def test_other_tables_and_the_log_go_with_the_first_portion(world: World) -> None:
    till = world.node("till", "branch:LON")
    till.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Анна', 'LON')")
    till.sync()
    till.sql("UPDATE contact SET name = 'Ганна' WHERE id = 'c1'")
    till.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c2', 'person', 'Ben', 'LON')")
    sell(till, 200, lines="each")
    till.sql("INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, moved_ms) VALUES ('m1', 'p', 'LON', 1, 'r', 1)")
    till.sql("UPDATE sale SET total_minor = 7 WHERE id = 's0190'")  # not sent yet: it goes as it is now
    before = pushes(till)
    assert till.sync().pushed == 203
    assert pushes(till) - before > 3
    assert world.sql("SELECT name FROM contact ORDER BY id") == [("Ганна",), ("Ben",)]
    assert world.sql("SELECT total_minor FROM sale WHERE id = 's0190'") == [(7,)]
    assert till.held() == []
    assert world.agree()


def test_what_a_program_adds_between_two_portions_is_not_lost(world: World) -> None:
    till, added = world.node("till", "branch:LON"), []

    def add(kind: str) -> None:
        if kind == "push" and len(added) < 3:
            added.append(f"late{len(added)}")
            connection = world.database.dialect.open(till.database.path)
            connection.execute(SALE, (added[-1], "n"))
            connection.execute(LINE, (added[-1], "s0001"))
            connection.close()

    till.link.before = add
    sell(till, 200, lines="each")
    till.sync()
    till.sync()
    assert world.sql("SELECT COUNT(*) FROM sale") == world.sql("SELECT COUNT(*) FROM sale_line") == [(203,)]
    assert till.unsynced() == 0
    assert world.agree()


def test_a_portion_without_rows_of_a_table_leaves_its_mark_alone(world: World) -> None:
    """The mark of a table that the first portions had no rows of went back to 0: all its rows were sealed again."""
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON")
    other.sql(SALE, "theirs", "n")
    other.sql(LINE, "deleted", "theirs")
    world.settle()
    world.sql("DELETE FROM sale_line")
    till.sql("BEGIN IMMEDIATE")
    for number in range(4 * PORTION):
        till.sql(SALE, f"s{number:04}", str(number))
    till.sql(LINE, "last", f"s{4 * PORTION - 1:04}")
    till.sql("COMMIT")
    assert till.sync().pushed == 4 * PORTION
    assert world.sql("SELECT id FROM sale_line") == [("last",)]
    assert world.agree()


@pytest.mark.parametrize("lost", [1, 2])
def test_a_reply_lost_on_the_way_changes_nothing(world: World, lost: int) -> None:
    till, sent = world.node("till", "branch:LON"), []

    def lose(kind: str) -> None:
        sent.append(kind)
        if sent.count("push") == lost and kind == "push":
            till.link.lose.append("push")

    till.link.before = lose
    sell(till, 4 * PORTION)
    with pytest.raises(ReplyLost):
        till.sync()
    till.link.before = lambda _: None
    till.sync()
    assert world.sql("SELECT COUNT(*) FROM sale") == [(4 * PORTION,)]
    assert till.unsynced() == 0
    assert world.agree()


class Silent(Link):
    """A centre that leaves the last segments of a push unmentioned."""

    def push(self, request: PushRequest) -> PushReply:
        reply = super().push(request)
        return replace(reply, verdicts=reply.verdicts[:1])


def test_a_reply_that_leaves_segments_out_ends_the_push_and_changes_nothing(world: World) -> None:
    """The node would send them again without an end."""
    till = world.node("k2", "branch:LON")
    for number in range(3):
        till.sql(SALE, f"s{number}", str(number))
        with till.database.writing() as store:
            outbox.seal(store, till.database.clock_ms())
    with pytest.raises(BadReply, match="all that was sent"):
        Cycle(till.database, Silent(world, till.link.identity)).sync()
    assert till.unsynced() == 3
    till.sync()
    assert till.unsynced() == 0
    assert world.agree()
