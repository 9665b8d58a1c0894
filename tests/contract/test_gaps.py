"""What the deliberate bugs of tests/mutants showed that nothing else would have noticed."""

from __future__ import annotations

from typing import Any

import pytest

from sync.change import Delete, Edit, Update
from tests.protocol.stories import CONTACT, a_push, copy_of, held, sale, sealed, segment
from tests.world import START_MS, World


def _edit(since: int, base: int, **phone: str) -> Update:
    return Update("contact", ("c1",), [Edit("phone", ("phone",), (None,), (phone["new"],), base, since, START_MS)])


@pytest.mark.covers("P-6.10")
@pytest.mark.parametrize("kind", ["update", "delete"])
def test_a_row_of_others_is_not_changed_by_whoever_knows_its_key(world: World, kind: str) -> None:
    """An honest node cannot even try: it does not have the row. One that says what it likes can."""
    owner, stranger = world.node("k2", "branch:LON"), world.node("p1", "branch:PAR")
    owner.write([("contact", {"id": "c1", **CONTACT})])
    world.settle()
    base = stranger.database.state().cursor.number
    op: Any = _edit(1, base, new="mine now") if kind == "update" else Delete("contact", ("c1",), base, 1)
    reply = stranger.link.push(a_push(stranger, segment(op, base=base)))
    assert [(exception.verdict, exception.code) for exception in reply.verdicts[0].exceptions] == [("held", "right")]
    assert world.sql("SELECT id, phone FROM contact") == [("c1", None)]
    world.settle()
    assert held(owner) == []
    assert owner.sql("SELECT id, phone FROM contact") == [("c1", None)]


@pytest.mark.covers("P-7.8")
def test_what_another_life_brought_first_is_own_and_seen(world: World) -> None:
    """Two copies hold the same unsent edit; one sends it and goes on, so the other must begin a new life. What it typed on top
    of that edit has seen it, although it came under the other life's name.
    """
    k2 = world.node("k2", "branch:LON")
    k2.write([("contact", {"id": "c1", **CONTACT})])
    k2.sync()
    k2.sql("UPDATE contact SET note = 'first'")
    sealed(k2)
    copy = copy_of(world, k2, "copy")
    k2.sql("UPDATE contact SET phone = 'only here'")
    k2.sync()
    copy.sql("UPDATE contact SET note = 'second'")
    assert copy.sync().new_history
    assert world.sql("SELECT note, phone FROM contact") == [("second", "only here")]
    assert world.sql("SELECT COUNT(*) FROM _conflict") == [(0,)]
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-8.12")
def test_no_reader_sees_a_part_of_a_pull(world: World) -> None:
    """Another connection looks every few instructions of the node's own while a sale comes in pages of one row."""
    k2, l3 = world.node("k2", "branch:LON"), world.node("l3", "branch:LON")
    k2.write(sale("s1", 6))
    k2.sync()
    reader: Any = l3.database.dialect.open(l3.database.path, readonly=True)
    seen: set[tuple[int, int]] = set()

    def look() -> int:
        seen.add(reader.execute("SELECT (SELECT COUNT(*) FROM sale), (SELECT COUNT(*) FROM sale_line)").fetchone())
        return 0

    connection: Any = l3.database.connection
    connection.set_progress_handler(look, 40)
    l3.sync(rows=1)
    connection.set_progress_handler(None, 0)
    look()
    reader.close()
    assert seen == {(0, 0), (1, 6)}


@pytest.mark.covers("P-5.18", "P-6.23")
def test_an_insert_has_not_seen_the_row_it_meets_however_far_its_cursor_was(world: World) -> None:
    """The row was there before, out of sight; the scope that shows it was given after the insert was typed."""
    k2, p1 = world.node("k2", "branch:LON"), world.node("p1", "branch:PAR")
    p1.write([("contact", {"id": "c1", **CONTACT, "branch_id": "PAR", "note": "theirs"})])
    world.settle()
    k2.write([("contact", {"id": "c1", **CONTACT, "note": "mine"})])
    sealed(k2)
    world.rescope("k2", "branch:LON", "branch:PAR")
    k2.sync()
    assert world.sql("SELECT note FROM contact") == [("theirs",)]
    sides = [(entry["mine"], entry["theirs"], entry["open"]) for entry in k2.conflicts() if entry["column"] == "note"]
    assert sides == [("mine", "theirs", True)]
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-6.24")
def test_a_tag_that_two_added_survives_the_removal_of_one(world: World) -> None:
    """l3 saw the tag of m and took it away; that k2 had added it too, l3 could not know."""
    k2, l3, m = (world.node(name, "branch:LON") for name in ("k2", "l3", "m"))
    k2.write([("contact", {"id": "c1", **CONTACT})])
    world.settle()
    m.write([("contact_tag", {"contact_id": "c1", "tag": "vip"})])
    m.sync()
    l3.sync()
    k2.write([("contact_tag", {"contact_id": "c1", "tag": "vip"})])
    l3.sql("DELETE FROM contact_tag")
    k2.sync()
    l3.sync()
    assert world.sql("SELECT tag FROM contact_tag") == [("vip",)]
    world.settle()
    assert world.agree()
