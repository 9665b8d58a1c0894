"""Whole segments: what a node pushed goes on as it came where it may, row by row where it may not; either way once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from node.cycle import Cycle
from schema.registry import load
from server import whole
from server.skew import View
from sync.builder import SegmentBuilder
from sync.digest import segment_point
from sync.errors import BadReply, UnknownTable
from sync.limits import PROTOCOL_VERSIONS
from sync.messages import Page, PullRequest, PushRequest, Sealed, SealedRows, Told
from tests.server.test_scopes import receipt
from tests.world import Link, Node, World

RECEIPTS = 250  # with two lines, a payment and a stock move each: more than WHOLE_ROWS_MIN rows, in one segment
ROWS = RECEIPTS * 5
TABLES = ("sale", "sale_line", "payment", "stock_move")


class Watched(Link):
    """A link that keeps the pages it carried, and may change the next one on its way."""

    def __init__(self, world: World, identity: str) -> None:
        super().__init__(world, identity)
        self.pages: list[Page] = []
        self.change = lambda page: page

    def pull(self, request: PullRequest) -> Page:
        page: Page = self.change(super().pull(request))
        self.pages.append(page)
        return page

    @property
    def sealed(self) -> int:
        return sum(sealed.count for page in self.pages for sealed in page.sealed)

    @property
    def single(self) -> int:
        return sum(block.count for page in self.pages for block in page.rows)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def write(node: Node, name: str, *branches: str, employee: str = "NULL", receipts: int = RECEIPTS, only: int = 5) -> None:
    """Let a program write receipts in one commit, of the branches in turn; of each `only` its first rows."""
    node.sql("BEGIN")
    for number in range(receipts):
        for statement in receipt(f"{name}{number:04}", branches[number % len(branches)], employee)[:only]:
            node.sql(statement)
    node.sql("COMMIT")


def watch(node: Node) -> Watched:
    node.link = Watched(node.link.world, node.link.identity)
    return node.link


def count(node: Node) -> int:
    return sum(node.sql(f"SELECT COUNT(*) FROM {table}")[0][0] for table in TABLES)


@pytest.mark.covers("P-8.16")
def test_a_segment_in_one_scope_of_another_node_goes_on_as_it_came(world: World) -> None:
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON")
    write(till, "s", "LON")
    till.sync()
    link = watch(other)
    assert other.sync().pulled == ROWS
    assert (link.sealed, link.single) == (ROWS, 0)
    with world.database.reading() as store:
        bodies = [row[0] for row in store.connection.execute("SELECT body FROM _journal WHERE kind = 'segment'")]
    assert [sealed.body for page in link.pages for sealed in page.sealed] == bodies
    assert world.agree()
    assert other.sync().pulled == till.sync().pulled == 0


def test_few_rows_go_as_rows(world: World) -> None:
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON")
    for statement in receipt("s1", "LON"):
        till.sql(statement)
    till.sync()
    link = watch(other)
    assert other.sync().pulled == 5
    assert link.sealed == 0


@pytest.mark.parametrize("scope", [["branch:LON"], ["branch:PAR"], ["owner:e1"], ["branch:LON", "owner:e1"]])
def test_a_segment_of_two_branches_goes_row_by_row_to_one_of_them(world: World, scope: list[str]) -> None:
    """Nor to the employee: the stock moves in it are not hers."""
    till, other = world.node("till", "branch:LON", "branch:PAR"), world.node("other", *scope)
    write(till, "s", "LON", "PAR", employee="'e1'")
    till.sync()
    link = watch(other)
    report = other.sync()
    assert report.pulled == link.single == count(other)
    assert link.sealed == 0
    assert world.agree()


def test_a_segment_in_two_scopes_of_a_node_is_told_once(world: World) -> None:
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON", "owner:e1", "branch:PAR")
    write(till, "s", "LON", employee="'e1'")
    till.sync()
    link = watch(other)
    assert other.sync().pulled == ROWS
    assert (link.sealed, link.single) == (ROWS, 0)
    assert world.agree()


def test_a_segment_partly_told_under_an_earlier_scope_goes_row_by_row(world: World) -> None:
    """All of it is the employee's, but half of it is told under branch:LON, before owner:e1 has its turn."""
    till, other = world.node("till", "branch:LON", "branch:PAR"), world.node("other", "branch:LON", "owner:e1")
    write(till, "s", "LON", "PAR", employee="'e1'", receipts=300, only=4)
    till.sync()
    link, rep = watch(other), watch(world.node("rep", "owner:e1"))
    assert other.sync().pulled == count(other) == world.nodes["rep"].sync().pulled == 300 * 4
    assert (link.sealed, rep.sealed) == (0, 300 * 4)
    assert world.agree()


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("UPDATE sale SET total_minor = 7 WHERE id = 's0003'", ROWS),
        ("UPDATE sale_line SET amount_minor = 7 WHERE id = 's0003-1'", ROWS),
        ("DELETE FROM stock_move WHERE id = 's0003'", ROWS - 1),
        ("DELETE FROM sale WHERE id = 's0003'", ROWS - 4),  # with its lines and its payment
        ("UPDATE sale SET branch_id = 'PAR' WHERE id = 's0003'", ROWS - 4),
        ("UPDATE stock_move SET id = 'other' WHERE id = 's0003'", ROWS),
    ],
)
def test_what_the_centre_changed_since_goes_row_by_row(world: World, statement: str, rows: int) -> None:
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON")
    write(till, "s", "LON")
    till.sync()
    world.sql(statement)
    link = watch(other)
    other.sync()
    assert link.sealed == 0
    assert count(other) == rows
    till.sync()
    assert world.agree()


def test_a_segment_changed_between_two_pages_is_told_again(world: World) -> None:
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON")
    write(till, "s", "LON")
    till.sync()
    write(till, "t", "LON")
    till.sync()
    link = watch(other)
    asked: list[str] = []

    def change(kind: str) -> None:
        asked.append(kind)
        if asked == ["snapshot", "pull", "pull"]:
            world.sql("DELETE FROM payment WHERE id = 's0003'")

    link.before = change
    other.sync(rows=10)
    assert link.sealed == 2 * ROWS
    assert count(other) == 2 * ROWS - 1
    till.sync()
    assert world.agree()


def test_a_page_with_rows_in_it_leaves_a_large_segment_to_the_next(world: World) -> None:
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON")
    for statement in receipt("a", "LON"):
        till.sql(statement)
    till.sync()
    write(till, "s", "LON")
    till.sync()
    link = watch(other)
    other.sync(rows=1000)
    assert [sum(sealed.count for sealed in page.sealed) for page in link.pages][:2] == [0, ROWS]
    assert world.agree()


def test_a_gained_scope_tells_segments_whole_but_not_what_the_node_has(world: World) -> None:
    till, other = world.node("till", "branch:LON"), world.node("other", "owner:e1")
    write(till, "s", "LON", employee="'e1'")
    write(till, "t", "LON", employee="'e2'")
    till.sync()
    other.sync()
    had = count(other)
    world.rescope("other", "branch:LON")
    assert other.sync().pulled == count(other) - had
    world.rescope("other", "branch:LON", "owner:e2")
    assert other.sync().pulled == 0
    third = world.node("third", "branch:PAR")
    world.rescope("third", "branch:LON", "branch:PAR")
    link = watch(third)
    assert third.sync().pulled == count(third) == 2 * ROWS
    assert link.sealed == 2 * ROWS
    assert world.agree()


def test_a_row_that_came_back_is_not_as_it_was_pushed(world: World) -> None:
    """A number is taken again only by the row that had it: its entry in `_clock` keeps the segment from being told whole."""
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON")
    write(till, "s", "LON", receipts=1200, only=1)
    till.sync()
    with world.database.reading() as store:
        version = store.connection.execute("SELECT ver FROM _journal WHERE kind = 'segment'").fetchone()[0]
        assert whole.find(View.of(store, 1), "branch:LON", version, ()) is not None
    till.sql("INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES ('late', 's0003', 1, 1, 1)")
    world.sql("DELETE FROM sale WHERE id = 's0003'")
    till.sync()  # the line brings its sale back
    assert world.sql("SELECT COUNT(*) FROM sale") == [(1200,)]
    with world.database.reading() as store:
        assert whole.find(View.of(store, 1), "branch:LON", version, ()) is None
    other.sync()
    till.sync()
    assert world.agree()


def test_a_segment_that_leaves_columns_out_goes_on_as_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program's node may name fewer columns than there are; the nodes it would go to take all or none."""
    till, other = world.node("till", "branch:LON"), world.node("other", "branch:LON")
    monkeypatch.setattr(whole, "WHOLE_ROWS_MIN", 1)
    till.sync()
    builder = SegmentBuilder()
    builder.begin(1, 0)
    columns = ("id", "product_id", "branch_id", "qty_milli", "reason", "moved_ms")
    builder.insert_rows("stock_move", columns, [("m1", "p", "LON", 1, "r", 1)], [0])
    body = builder.build(bytes(range(16)), load(()).version, 1)
    state = till.database.state()
    sealed = Sealed(body, segment_point(state.acked, body).digest, None)
    told, version = Told(0, 0, 0, 0), PROTOCOL_VERSIONS[-1]
    request = (
        version,
        state.epoch,
        state.incarnation,
        None,
        state.cursor,
        state.highest,
        state.acked,
        (sealed,),
        (),
        world.clock.now,
        told,
    )
    assert till.link.push(PushRequest(*request)).verdicts[0].exceptions == ()
    link = watch(other)
    assert other.sync().pulled == 1
    assert (link.sealed, link.single) == (0, 1)
    assert other.sql("SELECT id, sale_id FROM stock_move") == [("m1", None)]


def _segment(*, count: int = 2, table: str = "stock_move", columns: tuple[str, ...] = ()) -> SealedRows:
    names = columns or ("id", "product_id", "branch_id", "qty_milli", "reason", "sale_id", "moved_ms")
    rows: list[Any] = [tuple(f"m{n}" if name == "id" else n for name in names) for n in range(2)]
    builder = SegmentBuilder()
    builder.begin_many(2, 1, 0)
    builder.insert_rows(table, names, rows, [0, 1])
    body = builder.build(bytes(16), 1, 1)
    return SealedRows(count, body)


@pytest.mark.covers("P-8.16")
@pytest.mark.parametrize(
    "sealed",
    [
        _segment(count=3),
        _segment(columns=("id", "qty_milli")),
        _segment(table="task", columns=("id", "contact_id", "owner_id", "title", "due_ms", "done_ms")),
        SealedRows(2, b"nothing"),
    ],
    ids=["another count", "columns left out", "rows that may change", "not a segment"],
)
def test_a_segment_that_no_server_sends_is_refused_and_changes_nothing(world: World, sealed: SealedRows) -> None:
    other = world.node("other", "branch:LON")
    world.sql("INSERT INTO branch (id, name) VALUES ('LON', 'London')")
    link = watch(other)
    link.change = lambda page: msgspec.structs.replace(page, sealed=(sealed,))
    with pytest.raises((BadReply, UnknownTable)):
        Cycle(other.database, other.link).sync()
    assert other.sql("SELECT * FROM branch") == other.sql("SELECT * FROM stock_move") == []
    link.change = lambda page: page
    other.sync()
    assert other.sql("SELECT id FROM branch") == [("LON",)]
