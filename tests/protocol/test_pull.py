"""Pull (PROTOCOL.md §8), between a real node and a real server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from node.cycle import Cycle
from sync import columns
from sync.digest import BEGINNING
from sync.errors import BadReply, Malformed, OutpostError, UnknownTable
from sync.limits import PAGE_ROWS_MAX
from sync.messages import Page, Position, PullRequest, PushReply, PushRequest, Removals, Rows, Told, VerifyRequest
from sync.rows import columns_of
from tests.protocol.stories import k2 as k2  # fixtures
from tests.protocol.stories import pair as pair
from tests.protocol.stories import refused, sale
from tests.world import Link, Node, ReplyLost, World


@pytest.mark.covers("P-8.1", "P-8.2", "P-8.15")
def test_a_changed_entitlement_moves_exactly_the_difference(world: World, pair: tuple[Node, Node]) -> None:
    _, l3 = pair
    world.node("p1", "branch:PAR").write(
        [("contact", {"id": "c2", "kind": "person", "name": "P", "branch_id": "PAR"}), ("activity", {"id": "a2", "contact_id": "c2"})]
    )
    world.settle()
    world.rescope("l3", "branch:PAR")
    report = l3.sync()
    assert (report.pulled, report.removed) == (2, 1)
    assert l3.sql("SELECT id FROM contact") == [("c2",)]
    assert l3.sql("SELECT id FROM activity") == [("a2",)]
    assert l3.sync().pulled == 0
    assert world.agree()


@pytest.mark.covers("P-8.2", "P-8.4", "P-8.15")
def test_a_row_that_moves_leaves_one_disk_and_reaches_another(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    other = world.node("p1", "branch:PAR")
    k2.write([("activity", {"id": "a1", "contact_id": "c1"})])
    k2.sync()
    k2.sql("UPDATE contact SET branch_id = 'PAR'")
    world.settle()
    for entry, count in ((k2, 0), (l3, 0), (other, 1)):
        assert entry.sql("SELECT COUNT(*) FROM contact") == entry.sql("SELECT COUNT(*) FROM activity") == [(count,)]
    assert world.agree()


@pytest.mark.covers("P-8.7", "P-8.11", "P-8.5", "P-8.12", "P-1.4")
@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_pages_of_any_size_and_writes_between_them_end_in_the_same_rows(world: World, pair: tuple[Node, Node], rows: int) -> None:
    k2, l3 = pair
    for number in range(5):
        k2.write(sale(f"s{number}", 2))
    k2.sync()
    writes = iter(range(100))

    def meanwhile(kind: str) -> None:
        if kind == "pull" and (number := next(writes)) < 4:
            k2.write(sale(f"t{number}"))
            k2.sql(f"UPDATE contact SET phone = '{number}'")
            k2.sync()
            assert l3.sql("SELECT COUNT(*) FROM sale") == [(0,)]

    l3.link.before = meanwhile
    l3.sync(rows)
    assert l3.sql("SELECT COUNT(*) FROM sale") == [(9,)]
    l3.link.before = lambda _kind: None
    assert l3.sql("SELECT phone FROM contact") == [("3",)]
    assert world.agree()


@pytest.mark.covers("P-8.7")
def test_a_pull_that_was_cut_goes_on(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    for number in range(5):
        k2.write(sale(f"s{number}"))
    k2.sync()
    calls = iter(range(100))

    def cut(kind: str) -> None:
        if kind == "pull" and next(calls) == 2:
            raise ReplyLost(kind)

    l3.link.before = cut
    with pytest.raises(ReplyLost):
        l3.sync(3)
    assert l3.sql("SELECT COUNT(*) FROM sale") == [(0,)]
    staged = l3.sql("SELECT COUNT(*) FROM _stage")
    assert staged == [(2,)]
    l3.sync(3)
    assert l3.sql("SELECT COUNT(*) FROM sale") == [(5,)]
    assert world.agree()


def a_pull(entry: Node, **fields: Any) -> PullRequest:
    state = entry.database.state()
    return msgspec.structs.replace(PullRequest(1, 1, state.incarnation, state.cursor, state.highest, None, 0, Told(0, 0, 0, 0)), **fields)


@pytest.mark.covers("P-8.8")
@pytest.mark.parametrize("position", [Position(-1, 0, 0, -1, -1), Position(0, 2**60, 0, -1, -1), Position(2, 1, 0, -1, -1)])
def test_a_position_that_was_made_up_is_refused_or_harmless(world: World, pair: tuple[Node, Node], position: Position) -> None:
    refused(Malformed, lambda: pair[0].link.pull(a_pull(pair[0], position=position)), world)


@pytest.mark.covers("P-8.11")
@pytest.mark.parametrize("rows", [0, 1, 2**53])
def test_a_wish_for_rows_is_a_wish(pair: tuple[Node, Node], rows: int) -> None:
    k2, _ = pair
    page = k2.link.pull(a_pull(k2, rows=rows))
    assert sum(block.count for block in page.rows) <= PAGE_ROWS_MAX


class Replaced:
    """An Exchange whose pages are what a test makes of the real ones."""

    def __init__(self, link: Link, change: Callable[[Page], Page]) -> None:
        self._link, self._change = link, change

    def push(self, request: PushRequest) -> PushReply:
        return self._link.push(request)

    def pull(self, request: PullRequest) -> Page:
        return self._change(self._link.pull(request))

    def verify(self, request: VerifyRequest) -> Any:
        return self._link.verify(request)


def contacts(world: World, *rows: Sequence[Any]) -> Rows:
    table = world.schema.by_name["contact"]
    filled = [(*row, *[None] * (len(table.names) - len(row))) for row in rows]
    return Rows("contact", table.names, len(rows), columns_of(filled, len(table.names)))


MALFORMED: dict[str, Callable[[World, Rows], Any]] = {
    "a column of other rows": lambda _, block: {"rows": (msgspec.structs.replace(block, count=block.count + 1),)},
    "a column that is not there": lambda _, block: {"rows": (msgspec.structs.replace(block, values=block.values[1:]),)},
    "a key that is NULL": lambda world, _: {"rows": (contacts(world, (None, "person", "x")),)},
    "a required value that is NULL": lambda world, _: {"rows": (contacts(world, ("c9", "person", None)),)},
    "more rows than any page": lambda _, __: {"rows": (Rows("contact", ("id",), PAGE_ROWS_MAX, ()), Rows("sale", ("id",), 1, ()))},
    "a removal without its key": lambda _, __: {"removals": (Removals("contact", 1, ()),)},
    "a removal of too few keys": lambda _, __: {"removals": (Removals("contact", 2, (columns.Texts(["c1"]),)),)},
}


@pytest.mark.covers("P-8.10")
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_page_is_a_bad_reply_and_changes_nothing(world: World, pair: tuple[Node, Node], name: str) -> None:
    k2, l3 = pair
    k2.sql("UPDATE contact SET phone = '1'")
    k2.sync()
    block = contacts(world, ("c1", "person", "x"))
    exchange = Replaced(l3.link, lambda page: msgspec.structs.replace(page, **MALFORMED[name](world, block)))
    before = l3.database.state()
    for _ in range(2):
        with pytest.raises(BadReply):
            Cycle(l3.database, exchange).sync()
    assert (l3.database.state(), l3.sql("SELECT phone FROM contact")) == (before, [(None,)])
    l3.sync()
    assert world.agree()


@pytest.mark.covers("P-8.10", "P-11.3")
@pytest.mark.parametrize("change", [{"table": "unheard"}, {"columns": ("id",)}])
def test_a_page_of_another_schema_stops_the_node(world: World, pair: tuple[Node, Node], change: dict[str, Any]) -> None:
    _, l3 = pair
    block = msgspec.structs.replace(contacts(world, ("c1", "person", "x")), **change)
    exchange = Replaced(l3.link, lambda page: msgspec.structs.replace(page, rows=(block,)))
    with pytest.raises(UnknownTable):
        Cycle(l3.database, exchange).sync()
    assert l3.sql("SELECT name FROM contact") == [("Анна",)]


@pytest.mark.covers("P-8.9")
@pytest.mark.parametrize("change", [{"epoch": 9}, {"since": 0}, {"incarnation": bytes(16)}, {"to": BEGINNING}])
def test_a_page_of_another_life_is_discarded(world: World, pair: tuple[Node, Node], change: dict[str, Any]) -> None:
    _, l3 = pair
    tries = iter(range(100))

    def once(page: Page) -> Page:
        return msgspec.structs.replace(page, **change) if next(tries) == 0 else page

    Cycle(l3.database, Replaced(l3.link, once)).sync()
    assert next(tries) == 2
    assert world.agree()


@pytest.mark.covers("P-8.9")
def test_a_pull_that_does_not_move_is_given_up(world: World, pair: tuple[Node, Node]) -> None:
    _, l3 = pair
    stuck = Position(0, 1, 0, -1, -1)
    before = l3.database.state()
    with pytest.raises(OutpostError):
        Cycle(l3.database, Replaced(l3.link, lambda page: msgspec.structs.replace(page, position=stuck))).sync()
    assert l3.database.state() == before


@pytest.mark.covers("P-8.12", "P-8.13", "P-5.15")
def test_what_was_written_while_pages_came_stays_on_top(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("UPDATE contact SET phone = 'k2', email = 'k2'")
    k2.sync()
    l3.link.before = lambda kind: l3.sql("UPDATE contact SET phone = 'l3'") and None if kind == "pull" else None
    l3.sync()
    l3.link.before = lambda _kind: None
    assert l3.sql("SELECT phone, email FROM contact") == [("l3", "k2")]
    world.settle()
    assert world.agree()
