"""Rows tied to rows that are tied themselves: however deep, what one commit wrote arrives together, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node import documents, outbox
from node.sealing import Sealing
from schema.capture import Look
from schema.declare import By, Kind, Through, Tie
from schema.registry import build
from sync.errors import UsError
from sync.messages import PushRequest
from sync.segment import read_segment, transactions
from sync.wire import unpack
from tests.declared import declare
from tests.world import Node, World

BRANCH = By("branch", "branch_id")


def tied(name: str, kind: Kind, above: str, *, through: bool = False) -> type:
    """Declare a table whose column `up` names a row above."""
    return declare(name, kind=kind, columns={"up": str}, scope=(Through(above, "up") if through else BRANCH,), ties=(Tie(above, "up"),))


MODELS = [
    declare("bill", kind=Kind.DOCUMENT),
    tied("line", Kind.DOCUMENT, "bill", through=True),
    tied("serial", Kind.DOCUMENT, "line"),
    tied("scan", Kind.EVENT, "serial"),
    declare("customer"),
    tied("meeting", Kind.EVENT, "customer"),
    tied("shot", Kind.EVENT, "meeting"),
    declare("order_", kind=Kind.DOCUMENT),
    tied("item", Kind.DOCUMENT, "order_", through=True),
    tied("delivery", Kind.RECORD, "order_"),
]
TABLES = [model.__tablename__ for model in MODELS]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, build(MODELS))
    yield made
    made.close()


@pytest.fixture
def node(world: World) -> Node:
    made = world.node("k2", "branch:A")
    made.sync()
    return made


def row(text: str) -> str:
    """Return SQL for `table key`, or `table key < key of the row above`."""
    table, key, *above = text.replace("<", "").split()
    columns, values = ("id, branch_id, up", f"'{key}', 'A', '{above[0]}'") if above else ("id, branch_id", f"'{key}', 'A'")
    return f"INSERT INTO {table} ({columns}) VALUES ({values})"


def commit(node: Node, *rows: str) -> None:
    """Write rows as another program's one commit."""
    node.sql("BEGIN IMMEDIATE")
    for each in rows:
        node.sql(row(each))
    node.database.connection.commit()


def pushed(world: World, node: Node) -> list[str]:
    """Sync; return the transactions that were sent, the keys of each in order."""
    node.link.requests.clear()
    node.sync()
    keys = {table.name: table.key for table in world.schema.tables}
    requests = [unpack(PushRequest, body) for kind, body in node.link.requests if kind == "push"]
    works = [work for request in requests for sealed in request.segments for work in transactions(read_segment(sealed.body), keys)]
    return sorted(" ".join(sorted(str(op.key[0]) for op in work.ops)) for work in works)


DEEP = ["bill t", "line l < t", "line m < t", "serial s < l", "serial r < m", "scan x < s"]

GROUPS: dict[str, tuple[list[str], list[str], list[str]]] = {
    # synced before, in one commit, the transactions
    "three levels below a document": ([], DEEP, ["l m r s t x"]),
    "the lowest first": ([], DEEP[::-1], ["l m r s t x"]),
    "two documents": ([], [*DEEP, "bill u", "line k < u", "serial q < k"], ["k q u", "l m r s t x"]),
    "a line under a document that is there, with what is below it": (DEEP[:2], ["line m < t", "serial r < m", "scan y < r"], ["m r y"]),
    "rows under two lines that are there": (DEEP[:3], ["serial s < l", "serial p < l", "scan x < s", "serial r < m"], ["p s x", "r"]),
    "a row under nothing, with what is below it": ([], ["scan y", "scan z", "serial s < none", "scan x < s"], ["s x", "y", "z"]),
    "an event of an event of a record": ([], ["customer c", "meeting v < c", "shot x < v"], ["c v x"]),
    "an event of an event of no record": ([], ["meeting v", "shot x < v"], ["v x"]),
    "a record tied to a document": ([], ["order_ o", "item i < o", "delivery d < o"], ["d i o"]),
}


@pytest.mark.covers("P-5.7")
@pytest.mark.parametrize("case", GROUPS)
def test_what_one_commit_tied_together_is_one_transaction(world: World, node: Node, case: str) -> None:
    before, rows, groups = GROUPS[case]
    commit(node, *before)
    node.sync()
    commit(node, *rows)
    assert pushed(world, node) == groups
    for table in {text.split()[0] for text in rows}:
        assert world.sql(f"SELECT COUNT(*) FROM {table}") == node.sql(f"SELECT COUNT(*) FROM {table}")
    assert world.agree()


def test_a_record_that_is_put_under_a_new_document_goes_with_it(world: World, node: Node) -> None:
    commit(node, "delivery d")
    node.sync()
    node.sql("BEGIN IMMEDIATE")
    node.sql(row("order_ o"))
    node.sql("UPDATE delivery SET up = 'o'")
    node.database.connection.commit()
    assert pushed(world, node) == ["d o"]


def test_what_can_change_takes_everything_tied_to_it_out_of_bulk(world: World) -> None:
    assert documents.bulk_tables(world.schema) == {"bill", "line", "serial", "scan"}


def test_a_backlog_of_nested_documents_goes_in_portions(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each portion holds whole documents; together they hold all."""
    monkeypatch.setattr(documents, "ROOTS", 5)
    for number in range(20):
        commit(node, f"bill t{number}", f"line l{number} < t{number}", f"serial s{number} < l{number}", f"scan x{number} < s{number}")
    portions, more = 0, True
    while more:
        with node.database.writing() as store:
            more = outbox.seal_portion(store, 1, 20)
        portions += 1
    bodies = [read_segment(body) for (body,) in node.sql("SELECT body FROM _segment ORDER BY seq")]
    assert portions == 4
    assert sum(block.count for body in bodies for block in body.inserts) == 80
    assert sum(body.transactions for body in bodies) == 20


def test_no_mark_passes_a_row_that_was_not_sealed(node: Node) -> None:
    commit(node, *DEEP)
    with node.database.writing() as store:
        look, sealing = Look(store), Sealing(store, 1)
        with pytest.raises(UsError, match="would be sent"):
            documents.require_all(sealing, look)
        documents.seal(sealing, look)
        documents.require_all(sealing, look)
