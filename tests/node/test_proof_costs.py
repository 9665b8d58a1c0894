"""What a proof and a verify cost: they look at many scope keys, rows and tables at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import centre
from node.verify import SHOWN_ROWS
from schema import digests
from server import proof as server_proof
from server.proof import KEYS_MAX
from tests.node.furnished import behind, firm, furnish
from tests.world import Node, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = firm(tmp_path)
    yield made
    made.close()


def statements(world: World, node: Node, monkeypatch: pytest.MonkeyPatch) -> int:
    """Sync; return how many statements the centre ran for the proof."""
    make, counts = server_proof.make, list[int]()

    def counting(view: Any, *rest: Any) -> Any:
        ran: list[str] = []
        view.store.connection.set_trace_callback(lambda sql: ran.append(sql) if "INTO _visible" not in sql else None)
        try:
            return make(view, *rest)
        finally:
            view.store.connection.set_trace_callback(None)
            counts.append(len(ran))

    monkeypatch.setattr(server_proof, "make", counting)
    before = len(node.link.requests)
    node.sync()
    monkeypatch.undo()
    assert [kind for kind, _ in node.link.requests[before:] if kind == "verify"] == []
    return counts[-1]


def test_a_proof_takes_no_more_statements_for_a_thousand_scope_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    k2, _ = furnish(world)
    one, some, many = (
        world.node(f"of {count}", "branch:A", *(f"branch:{number}" for number in range(count))) for count in (0, KEYS_MAX, 1_000)
    )
    for node in (one, some, many):
        node.sync()
    k2.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")
    k2.sql("INSERT INTO contact_tag (contact_id, tag) VALUES ('c1', 'new')")
    k2.sync()
    assert statements(world, some, monkeypatch) == statements(world, many, monkeypatch) > 5
    assert statements(world, one, monkeypatch) <= 6, "of a few keys the lines are read"


def test_a_whole_segment_in_one_of_many_scopes_is_told_by_name(world: World) -> None:
    k2, _ = furnish(world)
    many = world.node("many", "branch:A", "branch:B", "branch:C")
    many.sync()
    with k2.database.writing() as store:
        store.connection.executemany(
            "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, 'n', 'sale', 'A', 1, 'EUR', 1)",
            [(f"b{number}",) for number in range(1_200)],
        )
    k2.sync()
    carry, told = many.link.pull, list[Any]()

    def pull(request: Any) -> Any:
        told.append(carry(request))
        return told[-1]

    many.link.pull = pull  # type: ignore[method-assign]
    assert many.sync().differing == 0
    assert (len(told[-1].proof.whole), told[-1].proof.tables) == (1, ())


@pytest.mark.parametrize("room", [0, 10**9])
def test_much_of_a_table_is_read_in_the_order_of_keys_with_the_same_digest(
    world: World, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First syncs, own work, work under way and sets, with every digest by the one way and by the other."""
    monkeypatch.setattr(digests, "SORTED_ROWS_MAX", room)
    k2, l3 = furnish(world)
    late = world.node("late", "branch:A")
    late.sync()
    l3.sql("UPDATE contact SET note = 'x' || id, owner_id = NULL")
    l3.sql("UPDATE contact_tag SET tag = 'old' WHERE contact_id <> 'c3'")
    l3.sync()
    for node in (k2, late):
        node.sql("UPDATE contact SET phone = '2' WHERE id IN ('c1', 'c4')")
        node.link.requests.clear()
        assert node.sync().differing == 0
        assert "verify" not in [kind for kind, _ in node.link.requests]
    world.settle(2)
    assert world.agree()


def test_rows_of_sets_are_found_by_whatever_keys_they_have(world: World) -> None:
    """Keys of two columns, with all that JSON writes otherwise: a row that was not found would be taken for a missing one."""
    k2, l3 = furnish(world)
    l3.sql("""INSERT INTO contact_tag (contact_id, tag) VALUES ('c1', 'a"[]\\'), ('c1', 'имя'), ('c2', '\\u0041'), ('c2', '')""")
    l3.sync()
    world.sql("INSERT INTO contact_tag (contact_id, tag) VALUES ('c3', CAST(x'ff61' AS TEXT))")
    world.sql("INSERT INTO product (id, name) VALUES (CAST(x'ff62' AS TEXT), 'odd')")
    k2.link.requests.clear()
    assert k2.sync().differing == 0
    assert "verify" not in [kind for kind, _ in k2.link.requests]
    assert k2.sql("SELECT COUNT(*) FROM contact_tag WHERE CAST(tag AS BLOB) = x'ff61'") == [(1,)]
    assert k2.sql("SELECT COUNT(*) FROM contact_tag WHERE tag IN ('a\"[]\\', 'имя', '\\u0041')") == [(3,)]


def test_verify_looks_for_pending_work_once_a_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    k2, _ = furnish(world)
    behind(k2, "UPDATE contact SET note = 'broken'", "UPDATE sale SET total_minor = -1")
    parts, asked = centre.parts, list[str]()

    def counted(store: Any, table: Any) -> Any:
        asked.append(table.name)
        return parts(store, table)

    monkeypatch.setattr(centre, "parts", counted)
    found = k2.compared()
    assert found["differing"] == 12 <= SHOWN_ROWS
    assert {tuple(row["columns"]) for row in found["rows"]} == {("note",), ("total_minor",)}
    assert max(map(asked.count, asked)) <= 4, "compared, listed, shown: not once a row"
