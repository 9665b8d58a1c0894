"""Push (PROTOCOL.md §6), between a real node and a real server."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from server import ingest
from sync.builder import SegmentBuilder
from sync.change import Delete, Insert
from sync.digest import BEGINNING, segment_point, version_point
from sync.errors import Forked, Gap, Malformed
from sync.messages import Parent, Point, Told
from tests.protocol.stories import CONTACT, a_push, held, phone, push_request, refused, replace_segments, sale, segment
from tests.protocol.stories import k2 as k2  # fixtures
from tests.protocol.stories import pair as pair
from tests.world import START_MS, Node, World


@pytest.mark.covers("P-6.2", "P-6.14")
def test_a_push_repeated_has_no_other_effect_and_the_same_answer(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    request = push_request(k2)
    first = k2.link.push(request)
    journaled = world.sql("SELECT COUNT(*) FROM _journal")
    assert k2.link.push(request).verdicts == first.verdicts
    assert world.sql("SELECT COUNT(*) FROM _journal") == journaled
    assert world.sql("SELECT COUNT(*) FROM sale") == [(1,)]


@pytest.mark.covers("P-6.1", "P-6.2")
def test_a_segment_out_of_its_place_refuses_the_push(world: World, k2: Node) -> None:
    one, two, other = (segment(Insert("contact", (key,), {"id": key, **CONTACT})) for key in "abc")
    push = a_push(k2, one, two)
    wrong = msgspec.structs.replace(push.segments[1], digest=bytes(32))
    refused(Malformed, lambda: k2.link.push(replace_segments(push, [push.segments[0], wrong])), world)
    k2.link.push(push)
    refused(Forked, lambda: k2.link.push(a_push(k2, other)), world)
    end = segment_point(segment_point(BEGINNING, one), two)
    beyond = Point(end.number + 1, end.digest)
    refused(Gap, lambda: k2.link.push(a_push(k2, before=beyond)), world)
    refused(Forked, lambda: k2.link.push(a_push(k2, before=Point(1, bytes(32)))), world)


@pytest.mark.covers("P-6.3")
def test_a_segment_in_another_chain_is_known_by_its_id(world: World, k2: Node) -> None:
    body = segment(Insert("contact", ("c1",), {"id": "c1", **CONTACT}))
    first = k2.link.push(a_push(k2, body))
    again = a_push(k2, body, incarnation=os.urandom(16), parent=Parent(k2.database.state().incarnation, BEGINNING))
    assert k2.link.push(again).verdicts == first.verdicts
    assert world.sql("SELECT COUNT(*) FROM _journal WHERE kind = 'segment'") == [(1,)]


@pytest.mark.covers("P-6.4", "P-6.1")
def test_a_transaction_cannot_build_on_the_future(world: World, k2: Node) -> None:
    body = segment(Insert("contact", ("c1",), {"id": "c1", **CONTACT}), base=1000)
    refused(Malformed, lambda: k2.link.push(a_push(k2, body)), world)


@pytest.mark.covers("P-6.5")
def test_a_push_of_nothing_tells_how_the_node_is(world: World, k2: Node) -> None:
    k2.link.push(a_push(k2, told=Told(5, 4, 3, 2)))
    assert world.sql("SELECT unsynced FROM _node") == [(5,)]


@pytest.mark.covers("P-6.6", "P-6.7")
def test_versions_have_no_gaps_and_the_chain_can_be_recomputed(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.write(sale("s1"))
    l3.sql("UPDATE contact SET phone = '1'")
    world.sql("INSERT INTO branch (id) VALUES ('LON')")
    world.rescope("l3", "branch:LON", "owner:e1")
    world.settle()
    point = BEGINNING
    for number, kind, body, at_ms, digest in world.sql("SELECT ver, kind, body, at_ms, digest FROM _journal ORDER BY ver"):
        point = version_point(point, kind, body, at_ms)
        assert (point.number, point.digest) == (number, digest)
    assert world.sql("SELECT head, digest FROM _server") == [(point.number, point.digest)]


@pytest.mark.covers("P-6.8", "P-6.13", "P-6.15", "P-6.16", "P-8.14", "P-2.6")
def test_held_work_holds_what_depends_on_it_only_and_goes_when_it_can(world: World, k2: Node) -> None:
    k2.write([("activity", {"id": "a1", "contact_id": "c9"})])
    k2.sql("UPDATE activity SET result = 'good'")
    k2.write(sale("s1"))
    k2.write([("contact", {"id": "c1", **CONTACT, "organisation_id": "unknown"})])
    report = k2.sync()
    assert report.verdicts == {"accepted": 2, "merged": 0, "ask": 0, "held": 2, "refused": 0, "withdrawn": 0}
    assert held(k2) == [("a1", "parent"), ("a1", "depends")]
    assert k2.sql("SELECT result FROM activity") == [("good",)]
    assert k2.verify()
    world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c9', 'person', 'x', 'LON')")
    k2.sync()
    assert held(k2) == []
    assert world.sql("SELECT result FROM activity") == [("good",)]
    assert world.agree()


@pytest.mark.covers("P-6.15", "P-8.14", "P-6.8")
def test_refused_work_is_taken_out_of_sight_and_kept(world: World, k2: Node) -> None:
    k2.write([("product", {"id": "p1", "name": "mine"})])
    k2.sync()
    (waiting,) = world.sql("SELECT id FROM _held")
    with world.database.writing() as store:
        ingest.decide(store, waiting[0], False, world.clock.read())
    k2.sync()
    assert k2.sql("SELECT * FROM product") == []
    assert held(k2) == [("p1", "refused")]
    assert world.agree()


@pytest.mark.covers("P-2.4", "P-6.15")
def test_an_approved_proposal_is_applied(world: World, k2: Node) -> None:
    k2.write([("product", {"id": "p1", "name": "mine"})])
    k2.sync()
    with world.database.writing() as store:
        ingest.decide(store, world.sql("SELECT id FROM _held")[0][0], True, world.clock.read())
    k2.sync()
    assert world.sql("SELECT name FROM product") == [("mine",)]
    assert held(k2) == []
    assert world.agree()


@pytest.mark.covers("P-6.9")
@pytest.mark.parametrize(
    ("values", "code"),
    [
        pytest.param({"created_ms": "soon"}, "type", id="text-for-an-integer"),
        pytest.param({"created_ms": 1.5}, "type", id="real-for-an-integer"),
        pytest.param({"phone": 5}, "type", id="integer-for-a-text"),
        pytest.param({"phone": b"x"}, "type", id="blob-for-a-text"),
        pytest.param({"name": None}, "null", id="null-where-none-may-be"),
        pytest.param({"nonsense": 1}, "schema", id="unknown-column"),
    ],
)
def test_values_a_column_does_not_take_are_held(k2: Node, values: dict[str, Any], code: str) -> None:
    body = segment(Insert("contact", ("c1",), {"id": "c1", **CONTACT, **values}))
    (verdict,) = k2.link.push(a_push(k2, body)).verdicts
    assert [(entry.verdict, entry.code) for entry in verdict.exceptions] == [("held", code)]


@pytest.mark.covers("P-6.9", "P-11.3")
def test_what_is_missing_or_unknown_is_held(k2: Node) -> None:
    bodies = [
        segment(Insert("contact", ("c1",), {"id": "c1", "kind": "person"})),
        segment(Insert("unheard", ("x",), {"id": "x"})),
        segment(Delete("contact", ("a", "b"), 0, 1)),
        segment(Delete("contact", ("k" * 600,), 0, 1)),
        segment(Insert("contact", ("c2",), {"id": "c2", **CONTACT})),
    ]
    verdicts = k2.link.push(a_push(k2, *bodies)).verdicts
    assert [[entry.code for entry in verdict.exceptions] for verdict in verdicts] == [["null"], ["schema"], ["type"], ["type"], []]


@pytest.mark.covers("P-6.10")
def test_a_node_may_give_its_row_away_but_not_take_one(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    other = world.node("p1", "branch:PAR")
    k2.sql("UPDATE contact SET branch_id = 'PAR'")
    k2.sync()
    assert held(k2) == []
    other.write([("contact", {"id": "c2", **CONTACT})])
    other.sync()
    assert held(other) == [("c2", "right")]
    l3.sql("UPDATE contact SET phone = 'before it knew'")
    l3.sync()
    assert held(l3) == []
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-6.11")
def test_a_key_taken_elsewhere_is_held_and_nothing_is_told(world: World, pair: tuple[Node, Node]) -> None:
    other = world.node("p1", "branch:PAR")
    other.write([("contact", {"id": "c1", "kind": "person", "name": "X", "branch_id": "PAR"})])
    other.sync()
    assert held(other) == [("c1", "key")]
    assert "Анна" not in str(other.held())
    assert world.sql("SELECT branch_id FROM contact") == [("LON",)]


@pytest.mark.covers("P-6.12")
def test_a_document_twice_is_the_document_and_another_is_held(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.write(sale("s1"))
    l3.write(sale("s1"))
    world.settle()
    assert held(l3) == []
    l3.sql("DELETE FROM sale_line")
    l3.sql("DELETE FROM sale")
    l3.sync()
    other = sale("s2")
    k2.write(other)
    other[0][1]["total_minor"] = 999
    l3.write(other)
    world.settle()
    assert [code for _, code in held(l3)][-1] == "key"
    assert world.sql("SELECT total_minor FROM sale WHERE id = 's2'") == [(5,)]
    assert world.agree()


@pytest.mark.covers("P-6.18")
def test_stamps_are_corrected_by_the_skew_of_the_exchange(world: World, pair: tuple[Node, Node]) -> None:
    """The one whose clock is a year behind made the later edit: it wins."""
    k2, l3 = pair
    world.clock.now += 60_000
    l3.skew[0] = -365 * 86_400_000
    earlier, later = (
        segment(edit, base=k2.database.state().cursor.number, number=9) for edit in (phone("k2"), phone("l3", l3.skew[0] + 5_000))
    )
    k2.link.push(a_push(k2, earlier, clock_ms=world.clock.now))
    l3.link.push(a_push(l3, later, clock_ms=world.clock.now + l3.skew[0]))
    assert world.sql("SELECT phone FROM contact") == [("l3",)]


@pytest.mark.covers("P-6.22", "P-6.26")
def test_a_new_life_after_an_unseen_deletion_is_recorded(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    l3.sql("DELETE FROM contact")
    k2.sql("DELETE FROM contact")
    k2.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'new', 'LON')")
    l3.sync()
    k2.sync()
    assert world.sql("SELECT name, phone FROM contact") == [("new", None)]
    assert world.sql("SELECT rule, winner FROM _conflict") == [("new life", "mine")]
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-6.23")
def test_an_insert_on_a_living_row_is_an_edit_that_has_seen_nothing(world: World, k2: Node) -> None:
    l3 = world.node("l3", "branch:LON")
    k2.write([("contact", {"id": "c1", **CONTACT, "note": "k2"})])
    l3.write([("contact", {"id": "c1", **CONTACT, "name": "Anna", "note": "l3", "phone": "1"})])
    world.settle()
    assert world.sql("SELECT name, note, phone FROM contact") == [("Anna", "k2", "1")]
    assert sorted(world.sql("SELECT rule, base, open FROM _conflict WHERE rule <> 'x'"))[0][0] == "ask"
    assert world.agree()


@pytest.mark.covers("P-6.29")
def test_a_row_cannot_be_hung_under_a_parent_that_is_not_there(world: World, pair: tuple[Node, Node]) -> None:
    k2, _ = pair
    k2.write([("activity", {"id": "a1", "contact_id": "c1"})])
    k2.sync()
    k2.sql("UPDATE activity SET contact_id = 'nobody'")
    k2.sync()
    assert held(k2) == [("a1", "parent")]


@pytest.mark.covers("P-6.31", "P-8.3")
def test_own_accepted_work_is_not_sent_back_and_a_lost_value_is_put_right(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("UPDATE contact SET note = 'k2'")
    report = k2.sync()
    assert (report.pushed, report.pulled) == (1, 0)
    l3.sql("UPDATE contact SET note = 'l3'")
    report = l3.sync()
    assert report.pulled == 1
    assert l3.sql("SELECT note FROM contact") == [("k2",)]


@pytest.mark.covers("P-6.33")
def test_the_first_decision_counts(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("UPDATE contact SET note = 'k2'")
    l3.sql("UPDATE contact SET note = 'l3'")
    world.settle()
    for entry, value in ((k2, "one"), (l3, "two")):
        entry.resolve(entry.conflicts()[0]["id"], None, value)
    k2.sync()
    l3.sync()
    assert {why for (why,) in ((c["why"],) for c in k2.conflicts()) if why.startswith("decided")} <= {"decided by k2: one"}
    unknown = SegmentBuilder()
    unknown.decide(unknown.begin(START_MS, 0), os.urandom(16))
    k2.sync()
    assert k2.link.push(a_push(k2, unknown.build(os.urandom(16), 1, 50))).verdicts[0].exceptions == ()


@pytest.mark.parametrize(("take", "winner", "why"), [("mine", "mine", ""), ("theirs", "theirs", ""), (None, "theirs", ": третє")])
def test_a_decided_conflict_says_what_stands(world: World, pair: tuple[Node, Node], take: str | None, winner: str, why: str) -> None:
    k2, l3 = pair
    k2.sql("UPDATE contact SET note = 'k2'")
    l3.sql("UPDATE contact SET note = 'l3'")
    world.settle()
    l3.resolve(l3.conflicts()[0]["id"], take, *([] if take else ["третє"]))
    world.settle()
    other = {"mine": "theirs", "theirs": "mine"}[winner]
    assert [(found["winner"], found["why"]) for found in l3.conflicts()] == [(winner, f"decided by l3{why}")]
    assert [(found["winner"], found["why"]) for found in k2.conflicts()] == [(other, f"decided by l3{why}")]
    assert world.sql("SELECT note FROM contact") == [({"mine": "l3", "theirs": "k2"}.get(take or "", "третє"),)]


@pytest.mark.covers("P-6.33")
def test_a_node_that_took_no_part_decides_nothing(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    m4 = world.node("m4", "branch:LON")
    k2.sql("UPDATE contact SET note = 'k2'")
    l3.sql("UPDATE contact SET note = 'l3'")
    world.settle()
    stranger = SegmentBuilder()
    stranger.decide(stranger.begin(START_MS, 0), bytes.fromhex(k2.conflicts()[0]["id"]))
    m4.link.push(a_push(m4, stranger.build(os.urandom(16), 1, 1)))
    world.settle()
    assert [conflict["open"] for conflict in (*k2.conflicts(), *l3.conflicts())] == [True, True]


@pytest.mark.covers("P-6.34")
def test_what_the_centre_wrote_is_journaled_before_the_answer_and_never_conflicts(world: World, pair: tuple[Node, Node]) -> None:
    k2, _ = pair
    world.sql("UPDATE contact SET phone = 'centre'")
    k2.sql("UPDATE contact SET phone = 'k2'")
    k2.sync()
    assert world.sql("SELECT mine_node <> 0, theirs_node FROM _conflict") == [(1, 0)]
    world.sql("UPDATE contact SET phone = 'centre again'")
    assert k2.sync().pulled == 1
    assert world.sql("SELECT COUNT(*) FROM _conflict") == [(1,)]
    assert world.agree()
