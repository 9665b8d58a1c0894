"""The proof at the end of every sync: cheap when all agrees, never silent when something does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node import apply as node_apply
from node import proof
from node.narrow import Narrowing
from server import proof as server_proof
from sync.errors import Offline
from sync.messages import Page, Proof, TableDigest
from tests.node.furnished import behind, firm, furnish
from tests.world import Node, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = firm(tmp_path)
    yield made
    made.close()


def standing(node: Node) -> proof.Standing:
    return proof.standing(node.database.store)


def asked(node: Node, step: Callable[[], object]) -> list[str]:
    """The requests a step makes."""
    node.link.requests.clear()
    step()
    return [kind for kind, _ in node.link.requests]


def sales(node: Node, low: int, high: int) -> None:
    """Sales with a line each, as one commit."""
    with node.database.writing() as store:
        store.connection.executemany(
            "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, 'n', 'sale', 'A', 1, 'EUR', 1)",
            [(f"b{number}",) for number in range(low, high)],
        )
        store.connection.executemany(
            "INSERT INTO sale_line (id, sale_id, name, qty_milli, unit_price_e4, amount_minor) VALUES (?, ?, 'Tea', 1, 1, 1)",
            [(f"bl{number}", f"b{number}") for number in range(low, high)],
        )


@pytest.mark.covers("P-8.17")
def test_every_kind_of_exchange_ends_proven_without_a_full_verify(world: World) -> None:
    k2, l3 = furnish(world)
    o1 = world.node("o1", "owner:e1")
    steps: list[Callable[[], object]] = [
        lambda: k2.sql("UPDATE contact SET phone = '1', note = 'k' WHERE id = 'c1'"),
        lambda: l3.sql("UPDATE contact SET phone = '2', note = 'l' WHERE id = 'c1'"),
        lambda: k2.sql("DELETE FROM contact_tag WHERE contact_id = 'c2'"),
        lambda: l3.sql("UPDATE contact SET branch_id = 'B' WHERE id = 'c3'"),
        lambda: k2.sql("UPDATE contact SET owner_id = 'e1' WHERE id = 'c4'"),
        lambda: sales(k2, 0, 30),
        lambda: sales(l3, 30, 1_500),
        lambda: world.sql("UPDATE product SET name = 'Oolong' WHERE id = 'p1'"),
        lambda: world.sql("UPDATE sale SET total_minor = 8 WHERE id = 'b31'"),
        lambda: k2.sql("UPDATE sale SET total_minor = 9 WHERE id = 's1'"),
        lambda: k2.sql("UPDATE contact SET owner_id = NULL, branch_id = 'B' WHERE id = 'c4'"),
        lambda: world.sql("DELETE FROM contact WHERE id = 'c5'"),
        lambda: None,
    ]
    for step in steps:
        step()
        for node in (k2, l3, o1, k2):
            assert "verify" not in asked(node, node.sync)
            known = standing(node)
            assert known.is_proven
            assert known.version == node.database.state().cursor.number
    assert o1.sql("SELECT COUNT(*) FROM contact") == [(0,)]
    assert world.agree()


def test_whole_segments_are_proven_by_their_names_and_counts(world: World) -> None:
    k2, l3 = world.node("k2", "branch:A"), world.node("l3", "branch:A")
    k2.sync()
    l3.sync()
    sales(k2, 0, 2_000)
    proofs: list[Proof | None] = []

    def keep(node: Node) -> None:
        carry = node.link.pull

        def pull(request: Any) -> Page:
            page = carry(request)
            proofs.append(page.proof)
            return page

        node.link.pull = pull  # type: ignore[method-assign]

    keep(k2)
    keep(l3)
    assert "verify" not in asked(k2, k2.sync) + asked(l3, l3.sync)
    for told in proofs:
        assert told is not None
        assert len(told.whole) == 1
        assert told.tables == ()
    assert standing(k2).is_proven
    assert standing(l3).is_proven


def test_a_row_that_was_not_applied_is_noticed_and_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that forgets to write one told row: the sync itself finds out, and says so to the centre."""
    k2, l3 = furnish(world)
    l3.sql("UPDATE contact SET phone = '2' WHERE id IN ('c1', 'c2')")
    l3.sync()
    put_rows = node_apply.pending.put_rows
    monkeypatch.setattr(node_apply.pending, "put_rows", lambda store, table, rows: put_rows(store, table, rows[1:]))
    report = k2.sync()
    monkeypatch.undo()
    assert report.differing == 1
    assert (standing(k2).is_proven, standing(k2).differing) == (False, 1)
    assert {(row["table"], row["key"], row["what"]) for row in k2.compared()["rows"]} == {("contact", "c1", "differs")}
    assert "verify" not in asked(k2, k2.sync), "known, and not looked for again at every sync"
    assert (standing(k2).differing, k2.sync().differing) == (1, 1)
    with world.database.reading() as store:
        assert store.connection.execute("SELECT MAX(rows) FROM _differing").fetchall() == [(1,)]
    assert k2.repaired()["equal"]
    assert standing(k2).is_proven
    k2.sync()
    with world.database.reading() as store:
        assert store.connection.execute("SELECT MAX(rows) FROM _differing").fetchall() == [(0,)]


def test_a_difference_that_an_ordinary_change_mended_is_forgotten(world: World) -> None:
    k2, l3 = furnish(world)
    behind(k2, "UPDATE contact SET phone = 'broken' WHERE id IN ('c1', 'c2')", "DELETE FROM sale_line WHERE id = 'l3'")
    behind(k2, "UPDATE contact_tag SET tag = 'broken' WHERE contact_id = 'c4'")
    assert k2.compared()["differing"] == 5
    l3.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")
    l3.sync()
    assert "verify" not in asked(k2, k2.sync)
    assert standing(k2).differing == 4
    world.sql("DELETE FROM contact WHERE id = 'c2'")
    k2.sql("UPDATE contact SET note = 'k' WHERE id = 'c5'")
    assert "verify" not in asked(k2, k2.sync)
    assert (standing(k2).differing, standing(k2).is_proven) == (3, False)
    assert k2.compared()["differing"] == 3, "as a full verify sees it"
    l3.sql("DELETE FROM contact_tag WHERE contact_id = 'c4'")
    l3.sql("INSERT INTO contact_tag (contact_id, tag) VALUES ('c4', 'broken')")
    world.sql("UPDATE sale_line SET name = 'Ale' WHERE id = 'l3'")
    l3.sync()
    assert "verify" not in asked(k2, k2.sync)
    assert standing(k2).is_proven
    assert k2.verify()


def test_more_differences_than_are_known_by_name_are_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "NAMED_ROWS", 2)
    k2, l3 = furnish(world)
    behind(k2, "UPDATE contact SET phone = 'broken' WHERE id IN ('c1', 'c2', 'c3')")
    assert k2.compared()["differing"] == 3
    assert "verify" not in asked(k2, k2.sync), "nothing has changed"
    l3.sql("UPDATE contact SET phone = '1' WHERE id IN ('c1', 'c2')")
    l3.sync()
    assert "verify" in asked(k2, k2.sync)
    assert standing(k2).differing == 1


def test_a_full_verify_is_noted_for_the_cursor_it_was_made_at(world: World) -> None:
    """Another process of the node pulls while this one compares: what it says is of its own cursor, not of the later one."""
    k2, l3 = furnish(world)
    l3.sql("UPDATE contact SET phone = '2' WHERE id = 'c1'")
    l3.sync()
    found = Narrowing(k2.database, k2.link)
    at = found.state.cursor.number
    k2.sync()
    proof.note_found(found, 1)
    assert standing(k2).version == at < k2.database.state().cursor.number
    l3.sql("UPDATE contact SET phone = '3' WHERE id = 'c1'")
    l3.sync()
    assert "verify" in asked(k2, k2.sync)
    assert standing(k2).is_proven


def test_an_own_change_that_ended_otherwise_is_noticed(world: World) -> None:
    """The centre changed a row of ours and forgot to say so (RULES H3): only the proof can see it."""
    k2, _ = furnish(world)
    k2.sql("UPDATE contact SET phone = '1' WHERE id = 'c1'")

    def meddle(kind: str) -> None:
        if kind == "pull":
            world.sql("UPDATE _state SET applying = 1")
            world.sql("UPDATE contact SET email = 'untold' WHERE id = 'c1'")
            world.sql("UPDATE _state SET applying = 0")

    k2.link.before = meddle
    assert k2.sync().differing == 1
    assert k2.compared()["rows"] == [{"table": "contact", "key": "c1", "what": "differs", "columns": ["email"]}]


def test_a_sale_that_did_not_arrive_is_noticed(world: World) -> None:
    k2, l3 = furnish(world)
    sales(k2, 0, 1_200)
    k2.sync()
    carry = l3.link.pull

    def pull(request: Any) -> Page:
        page = carry(request)
        behind(
            l3,
            "INSERT INTO sale_line (_rid, id, sale_id, name, qty_milli, unit_price_e4, amount_minor)"
            " VALUES (-7, 'bl7', 'b7', 'x', 1, 1, 1)",
        )
        return page

    l3.link.pull = pull  # type: ignore[method-assign]
    l3.sync()
    l3.link.pull = carry  # type: ignore[method-assign]
    assert l3.verify(), "the centre's row was written over it"
    behind(l3, "DELETE FROM sale_line WHERE id = 'bl9'")
    sales(k2, 1_200, 2_400)
    k2.sync()
    assert "verify" not in asked(l3, l3.sync), "what breaks later, without a sync, is for verify"
    assert not l3.verify()


@pytest.mark.parametrize(
    "spoilt",
    [Proof((), (b"x" * 16,)), Proof((TableDigest("contact", 1, bytes(32)),), ()), Proof((TableDigest("no", 0, bytes(32)),), ()), None],
)
def test_a_proof_that_does_not_hold_leads_to_a_full_verify(world: World, spoilt: Proof | None, monkeypatch: pytest.MonkeyPatch) -> None:
    k2, _ = furnish(world)
    monkeypatch.setattr(server_proof, "make", lambda *_: spoilt)
    assert "verify" in asked(k2, k2.sync)
    assert standing(k2).is_proven, "everything was compared, and agrees"


def test_a_change_of_scope_is_proven_by_a_full_verify(world: World) -> None:
    k2, _ = furnish(world)
    world.rescope("k2", "branch:A", "branch:B")
    assert "verify" in asked(k2, k2.sync)
    assert standing(k2).is_proven


def test_what_cannot_be_compared_now_is_said_and_made_up_for(world: World) -> None:
    """No connection for the full verify: the exchange stands, the proof waits, and the next sync makes up for it."""
    k2, _l3 = furnish(world)
    proven = standing(k2).proven_ms
    world.rescope("k2", "branch:A", "branch:B")

    def cut(kind: str) -> None:
        if kind == "verify":
            raise Offline("The server cannot be reached.")

    k2.link.before = cut
    assert k2.sync().differing is None
    assert standing(k2).differing is None
    assert standing(k2).proven_ms == proven
    assert not standing(k2).is_proven
    k2.link.before = lambda _kind: None
    assert "verify" in asked(k2, k2.sync)
    assert standing(k2).is_proven


def test_the_state_moves_with_the_cursor(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apply that is undone leaves what was known before."""
    k2, l3 = furnish(world)
    before = standing(k2)
    l3.sql("UPDATE contact SET phone = '2' WHERE id = 'c1'")
    l3.sync()
    note = proof.note

    def fail(*arguments: Any) -> None:
        note(*arguments)
        raise RuntimeError("killed")

    monkeypatch.setattr(proof, "note", fail)
    with pytest.raises(RuntimeError):
        k2.sync()
    monkeypatch.undo()
    assert standing(k2) == before
    assert Narrowing(k2.database, k2.link).state.cursor.number == before.version


def test_a_document_that_was_typed_twice_is_held_and_the_rest_is_proven(world: World) -> None:
    """The key of a document is taken: the centre sends the one that stands, and the proof covers it."""
    k2, l3 = furnish(world)
    line = "INSERT INTO sale_line (id, sale_id, name, qty_milli, unit_price_e4, amount_minor) VALUES ('twice', 's1', ?, 1, 1, 1)"
    k2.sql(line, "Tea")
    l3.sql(line, "Ale")
    for node in (k2, l3, k2, l3):
        assert "verify" not in asked(node, node.sync)
        assert standing(node).is_proven
    assert [entry["code"] for entry in l3.held()] == ["key"]
    line = (
        "INSERT OR REPLACE INTO sale_line (id, sale_id, name, qty_milli, unit_price_e4, amount_minor) VALUES ('l1', 's1', 'Gin', 1, 1, 1)"
    )
    k2.sql(line)  # of one that both have had for long
    assert "verify" not in asked(k2, k2.sync)
    assert standing(k2).is_proven
    assert [entry["code"] for entry in k2.held()] == ["key"]
    assert k2.verify()


@pytest.mark.parametrize("table", ["sale", "sale_line"])
def test_a_row_of_a_whole_segment_that_is_not_written_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    k2, l3 = furnish(world)
    sales(k2, 0, 1_200)
    k2.sync()
    insert_rows = node_apply.insert_rows

    def forget(connection: Any, name: str, columns: Any, rows: Any) -> None:
        insert_rows(connection, name, columns, rows[:-1] if name == table else rows)

    monkeypatch.setattr(node_apply, "insert_rows", forget)
    assert l3.sync().differing == 1
    monkeypatch.undo()
    assert l3.repaired()["equal"]
