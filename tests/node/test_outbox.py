"""The outbox: what becomes one transaction, and what is sealed is what was written, once."""

from __future__ import annotations

import pytest

from node.cycle import Cycle
from node.writer import transaction
from schema.keys import key_text
from sync.segment import read_segment, transactions
from tests import foreign
from tests.world import Node, ReplyLost, World

CONTACT = "INSERT INTO contact (id, kind, name, branch_id) VALUES ('{0}', 'person', 'Ann', 'LON')"
TAG = "INSERT INTO contact_tag (contact_id, tag) VALUES ('{0}', '{1}')"
ACTIVITY = "INSERT INTO activity (id, contact_id) VALUES ('{0}', '{1}')"
TASK = "INSERT INTO task (id, owner_id) VALUES ('{0}', 'e1')"
DEAL = "INSERT INTO deal (id, owner_id) VALUES ('{0}', 'e1')"
STAGE = "INSERT INTO stage_event (id, deal_id, stage_id, entered_ms) VALUES ('{0}', '{1}', 'won', 1)"
SALE = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES ('{0}', 'n', 'sale', 'LON', 1, 'GBP', 1)"
LINE = "INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES ('{0}', '{1}', 1, 1, 1)"
PAYMENT = "INSERT INTO payment (id, sale_id, method, amount_minor) VALUES ('{0}', '{1}', 'cash', 1)"
MOVE = "INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, moved_ms, sale_id) VALUES ('{0}', 'p', 'LON', 1, 'r', 1, {1})"


@pytest.fixture
def node(world: World) -> Node:
    return world.node("k2", "branch:LON", "owner:e1")


def sealed(world: World, node: Node) -> list[set[str]]:
    """Seal; return what waits to be sent: the rows of each transaction, as `table key`."""
    Cycle(node.database, node.link).seal()
    found: list[set[str]] = []
    keys = {table.name: table.key for table in world.schema.tables}
    for (body,) in node.sql("SELECT body FROM _segment WHERE version IS NULL ORDER BY seq"):
        works = transactions(read_segment(body), keys)
        found += [{f"{op.table} {key_text(op.key)}".replace('", "', '","') for op in work.ops} for work in works]
    return found


def grouped(*groups: str) -> list[list[str]]:
    """Return groups in an order of their own; rows are separated by commas."""
    return sorted(sorted(group.split(", ")) for group in groups)


def in_order(groups: list[set[str]]) -> list[list[str]]:
    return sorted(map(sorted, groups))


WHOLE = "sale s1, sale_line l1, sale_line l2, payment p1, stock_move m1"
PARTS = [SALE.format("s1"), LINE.format("l1", "s1"), LINE.format("l2", "s1"), PAYMENT.format("p1", "s1"), MOVE.format("m1", "'s1'")]

GROUPS: dict[str, tuple[list[str], list[str], list[str]]] = {
    # before (synced), in one commit, the transactions
    "a sale with what belongs to it": ([], PARTS, [WHOLE]),
    "lines before their sale": ([], PARTS[::-1], [WHOLE]),
    "two sales mixed up": (
        [],
        [SALE.format("s1"), SALE.format("s2"), LINE.format("a", "s2"), LINE.format("b", "s1"), LINE.format("c", "s2")],
        ["sale s1, sale_line b", "sale s2, sale_line a, sale_line c"],
    ),
    "a contact with its tags": (
        [],
        [TAG.format("c1", "x"), CONTACT.format("c1"), TAG.format("c1", "y")],
        ['contact c1, contact_tag ["c1","x"], contact_tag ["c1","y"]'],
    ),
    "two contacts": ([], [CONTACT.format("c1"), CONTACT.format("c2")], ["contact c1", "contact c2"]),
    "a contact and its activity": ([], [CONTACT.format("c1"), ACTIVITY.format("a1", "c1")], ["contact c1", "activity a1"]),
    "unrelated rows": (
        [],
        [TASK.format("t1"), SALE.format("s1"), CONTACT.format("c1"), MOVE.format("m1", "NULL"), MOVE.format("m2", "NULL")],
        ["task t1", "sale s1", "contact c1", "stock_move m1", "stock_move m2"],
    ),
    "lines for an earlier sale": (
        [SALE.format("s1")],
        [LINE.format("l1", "s1"), LINE.format("l2", "s1")],
        ["sale_line l1, sale_line l2"],
    ),
    "lines for two earlier sales": (
        [SALE.format("s1"), SALE.format("s2")],
        [LINE.format("l1", "s2"), LINE.format("l2", "s1"), LINE.format("l3", "s2")],
        ["sale_line l1, sale_line l3", "sale_line l2"],
    ),
    "a line for an earlier sale beside a new sale": (
        [SALE.format("s1")],
        [LINE.format("l1", "s1"), *(statement.replace("s1", "s2").replace("'l", "'k") for statement in PARTS)],
        ["sale_line l1", "sale s2, sale_line k1, sale_line k2, payment p1, stock_move m1"],
    ),
    "a stock move of no sale we know": ([], [MOVE.format("m1", "'gone'"), MOVE.format("m2", "'gone'")], ["stock_move m1, stock_move m2"]),
    "a deal that enters a stage": ([], [DEAL.format("d1"), STAGE.format("e1", "d1")], ["deal d1, stage_event e1"]),
    "an earlier deal that enters two stages": (
        [DEAL.format("d1")],
        [STAGE.format("e1", "d1"), STAGE.format("e2", "d1")],
        ["stage_event e1, stage_event e2"],
    ),
    "a tag more and an edit of its contact": (
        [CONTACT.format("c1")],
        [TAG.format("c1", "x"), "UPDATE contact SET phone = '1'"],
        ['contact c1, contact_tag ["c1","x"]'],
    ),
    "edits of two contacts": (
        [CONTACT.format("c1"), CONTACT.format("c2")],
        ["UPDATE contact SET phone = '1'"],
        ["contact c1", "contact c2"],
    ),
    "a contact deleted with its tags": (
        [CONTACT.format("c1"), TAG.format("c1", "x")],
        ["DELETE FROM contact_tag", "DELETE FROM contact"],
        ['contact c1, contact_tag ["c1","x"]'],
    ),
}


@pytest.mark.parametrize("case", GROUPS)
def test_rows_tied_by_declared_references_are_one_transaction(world: World, node: Node, case: str) -> None:
    before, commit, expected = GROUPS[case]
    if before:
        foreign.run(node.database.path, *before)
        node.sync()
    foreign.run(node.database.path, *commit)
    assert in_order(sealed(world, node)) == grouped(*expected)
    report = node.sync()
    assert report.pushed == report.verdicts["accepted"] == len(expected)
    assert node.verify()


def test_a_sale_written_in_several_commits_before_the_exchange_is_one_transaction(world: World, node: Node) -> None:
    for statement in PARTS[::-1]:
        foreign.run(node.database.path, statement)
    assert in_order(sealed(world, node)) == grouped(WHOLE)


def test_what_was_sealed_is_not_sealed_again(world: World, node: Node) -> None:
    foreign.run(node.database.path, *PARTS, CONTACT.format("c1"))
    first = sealed(world, node)
    assert sealed(world, node) == first
    foreign.run(node.database.path, "UPDATE contact SET phone = '1'")
    assert sealed(world, node) == [*first, {"contact c1"}]


def test_many_sales_fill_several_segments_at_transaction_borders(world: World, node: Node) -> None:
    count = 4_000
    foreign.run(
        node.database.path,
        (SALE.replace("'{0}'", "?"), [(f"s{i}",) for i in range(count)]),
        (LINE.replace("'{0}', '{1}'", "?, ?"), [(f"l{i}", f"s{i % count}") for i in range(3 * count)]),
    )
    groups = sealed(world, node)
    assert len(groups) == count
    assert {len(group) for group in groups} == {4}
    assert node.sql("SELECT COUNT(*) FROM _segment")[0][0] > 1
    assert node.sync().verdicts["accepted"] == count
    assert world.sql("SELECT COUNT(*) FROM sale_line") == [(3 * count,)]
    assert node.verify()


def test_a_sale_of_60_000_lines_arrives_whole_or_not_at_all(world: World, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a segment holds: it travels in parts, one a request. The link breaks after each; nobody sees a part of the sale."""
    other, count = world.node("l3", "branch:LON"), 60_000
    monkeypatch.setattr("node.cycle.PUSH_BYTES", 1)
    foreign.run(node.database.path, SALE.format("small"), LINE.format("small", "small"))
    lines = [(f"l{i}",) for i in range(count)]
    foreign.run(node.database.path, SALE.format("big"), (LINE.replace("'{0}', '{1}'", "?, 'big'"), lines), PAYMENT.format("p", "big"))
    counts = set()

    def look(_kind: str) -> None:
        for path in (world.database.path, other.database.path):
            sales = foreign.rows(path, "SELECT COUNT(*) FROM sale WHERE id = 'big'")[0][0]
            lines = foreign.rows(path, "SELECT COUNT(*) FROM sale_line WHERE sale_id = 'big'")[0][0]
            payments = foreign.rows(path, "SELECT COUNT(*) FROM payment WHERE sale_id = 'big'")[0][0]
            counts.add((sales, lines, payments))

    node.link.before = other.link.before = look
    cuts = 0
    for _ in range(20):
        node.link.lose = ["push"]
        try:
            node.sync()
            break
        except ReplyLost:
            cuts += 1
        other.sync(rows=20_000)
    node.link.lose = []
    node.sync()
    other.sync(rows=20_000)
    look("")
    assert cuts >= 3
    assert counts == {(0, 0, 0), (1, count, 1)}
    assert world.sql("SELECT COUNT(*) FROM sale") == [(2,)]
    assert node.verify()
    assert other.verify()
    again = node.sync()
    assert (again.pushed, again.pulled) == (0, 0)


# --- our own code --------------------------------------------------------------------------------------------------------


def test_our_own_transactions_are_exact(world: World, node: Node) -> None:
    foreign.run(node.database.path, TASK.format("foreign"))
    with transaction(node.database) as tx:
        for statement in (SALE.format("s1"), TASK.format("t1"), CONTACT.format("c1"), MOVE.format("m1", "NULL")):
            tx.connection.execute(statement)
    with transaction(node.database) as tx:
        tx.connection.execute(LINE.format("l1", "s1"))
    expected = [{"task foreign"}, {"sale s1", "task t1", "contact c1", "stock_move m1"}, {"sale_line l1"}]
    assert sealed(world, node) == expected
    assert node.sync().verdicts["accepted"] == 3


def test_announced_borders_cut_one_commit_into_transactions(world: World, node: Node) -> None:
    with transaction(node.database) as tx:
        for i in range(3):
            tx.connection.execute(SALE.format(f"s{i}"))
            tx.connection.execute(TASK.format(f"t{i}"))
            tx.announce()
        tx.connection.execute(TASK.format("last"))
    assert sealed(world, node) == [{f"sale s{i}", f"task t{i}"} for i in range(3)] + [{"task last"}]


def test_announced_transactions_that_touch_the_same_row_are_one(world: World, node: Node) -> None:
    foreign.run(node.database.path, CONTACT.format("c1"), CONTACT.format("c2"))
    node.sync()
    with transaction(node.database) as tx:
        tx.connection.execute("UPDATE contact SET phone = '1' WHERE id = 'c1'")
        tx.announce()
        tx.connection.execute("UPDATE contact SET phone = '2' WHERE id = 'c2'")
        tx.announce()
        tx.connection.execute("UPDATE contact SET phone = '3' WHERE id = 'c1'")
    groups = sealed(world, node)
    assert set().union(*groups) == {"contact c1", "contact c2"}
    assert sum("contact c1" in group for group in groups) == 1
    node.sync()
    assert world.sql("SELECT id, phone FROM contact ORDER BY id") == [("c1", "3"), ("c2", "2")]
    assert node.verify()


def test_a_failed_transaction_of_ours_leaves_nothing(world: World, node: Node) -> None:
    def fail() -> None:
        with transaction(node.database) as tx:
            tx.connection.execute(SALE.format("s1"))
            tx.insert("task", {"id": "t1", "no_such_column": 1})

    with pytest.raises(Exception, match="no_such_column"):
        fail()
    assert sealed(world, node) == []
    assert node.sql("SELECT * FROM sale") == []
