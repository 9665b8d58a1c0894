"""Rules of PROTOCOL.md §5–§9 that only show between a real node and a real server."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

import node.database
from node import healing
from node.cycle import Cycle, Report
from node.writer import transaction
from schema.capture import mark_all
from server import ingest, journal, nodes
from sync import columns
from sync.builder import SegmentBuilder
from sync.change import NEVER, Delete, Insert, Transaction, Update
from sync.digest import BEGINNING, segment_point, version_point
from sync.errors import (
    BadInvitation,
    BadReply,
    Diverged,
    Forked,
    Gap,
    Malformed,
    Moved,
    OutpostError,
    Revoked,
    UnknownIncarnation,
    UnknownTable,
)
from sync.limits import INVITATION_LIFE_MS, PAGE_ROWS_MAX
from sync.messages import (
    JoinRequest,
    Page,
    Parent,
    Point,
    Position,
    PullRequest,
    PushReply,
    PushRequest,
    Removals,
    Rows,
    Sealed,
    Told,
    VerifyRequest,
)
from sync.rows import columns_of
from sync.segment import read_segment, transactions
from tests.world import START_MS, Link, Node, ReplyLost, World

CONTACT = {"kind": "person", "name": "Анна", "branch_id": "LON"}


@pytest.fixture
def k2(world: World) -> Node:
    return world.node("k2", "branch:LON")


@pytest.fixture
def pair(world: World, k2: Node) -> tuple[Node, Node]:
    """Two nodes of one branch that both know the contact c1."""
    l3 = world.node("l3", "branch:LON")
    k2.write([("contact", {"id": "c1", **CONTACT})])
    world.settle(1)
    return k2, l3


def sale(key: str, lines: int = 1) -> list[tuple[str, dict[str, Any]]]:
    head = {"id": key, "number": key, "kind": "sale", "branch_id": "LON", "sold_ms": 1, "currency": "GBP", "total_minor": 5}
    line = {"sale_id": key, "qty_milli": 1000, "unit_price_e4": 5, "amount_minor": 5}
    return [("sale", head), *(("sale_line", {"id": f"{key}-{i}", **line}) for i in range(lines))]


def sealed(entry: Node) -> list[Transaction]:
    """The transactions the node has sealed and not yet sent."""
    Cycle(entry.database, entry.link).seal()
    keys = {table.name: table.key for table in entry.database.schema.tables}
    bodies = entry.sql("SELECT body FROM _segment WHERE version IS NULL ORDER BY seq")
    return [work for (body,) in bodies for work in transactions(read_segment(body), keys)]


def push_request(entry: Node) -> PushRequest:
    exchange = Cycle(entry.database, entry.link)
    exchange.seal()
    request = exchange._push_request()
    assert request is not None
    return request


def a_push(entry: Node, *bodies: bytes, **fields: Any) -> PushRequest:
    """A push as this node would send it, of these segments."""
    state, found = entry.database.state(), []
    point = state.acked
    for body in bodies:
        point = segment_point(point, body)
        found.append(Sealed(body, point.digest, None))
    whole = {
        "protocol": 1,
        "epoch": 1,
        "incarnation": state.incarnation,
        "parent": None,
        "cursor": state.cursor,
        "highest": state.highest,
        "before": state.acked,
        "segments": tuple(found),
        "adopted": (),
        "clock_ms": START_MS,
        "told": Told(0, 0, 0, 0),
    }
    return PushRequest(**(whole | fields))


def segment(*ops: Any, base: int = 0, number: int = 1, segment_id: bytes | None = None) -> bytes:
    builder = SegmentBuilder()
    index = builder.begin(START_MS, base)
    for op in ops:
        builder.add(index, op)
    return builder.build(segment_id or os.urandom(16), 1, number)


def held(entry: Node) -> list[tuple[Any, Any]]:
    return [(row["key"], row["code"]) for row in entry.held()]


def refused(error: type[OutpostError], work: Callable[[], object], world: World) -> None:
    """The request is refused and leaves no trace."""
    before = world.sql("SELECT head, digest FROM _server")
    with pytest.raises(error):
        work()
    assert world.sql("SELECT head, digest FROM _server") == before


# --- §5 segments -------------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-5.1", "P-5.2", "P-5.3")
def test_what_is_captured_is_net(pair: tuple[Node, Node]) -> None:
    k2, _ = pair
    k2.sql("INSERT INTO contact (id, kind, name) VALUES ('gone', 'person', 'x')")
    k2.sql("DELETE FROM contact WHERE id = 'gone'")
    k2.sql("UPDATE contact SET phone = '1', email = 'same'")
    k2.sql("UPDATE contact SET phone = '2', email = NULL")
    (work,) = sealed(k2)
    (op,) = work.ops
    assert isinstance(op, Update)
    assert [(edit.cell, edit.old, edit.new) for edit in op.edits] == [("phone", (None,), ("2",))]


@pytest.mark.covers("P-5.4")
def test_a_changed_key_is_a_delete_and_an_insert(pair: tuple[Node, Node]) -> None:
    k2, _ = pair
    k2.sql("UPDATE contact SET id = 'c2'")
    assert [(type(op), op.key) for work in sealed(k2) for op in work.ops] == [(Delete, ("c1",)), (Insert, ("c2",))]


@pytest.mark.covers("P-5.6", "P-5.10")
def test_announced_transactions_are_kept_apart(k2: Node) -> None:
    with transaction(k2.database) as writing:
        for table, row in sale("s1"):
            writing.insert(table, row)
        writing.announce()
        for table, row in sale("s2", 2):
            writing.insert(table, row)
    works = sealed(k2)
    assert [len(work.ops) for work in works] == [2, 3]
    assert [work.number for work in works] == [1, 2]


@pytest.mark.covers("P-5.6")
def test_announced_transactions_of_one_row_become_one(pair: tuple[Node, Node]) -> None:
    k2, _ = pair
    with transaction(k2.database) as writing:
        writing.update("contact", ("c1",), {"phone": "1"})
        writing.announce()
        writing.update("contact", ("c1",), {"email": "2"})
    assert len(sealed(k2)) == 1


@pytest.mark.covers("P-5.7")
def test_foreign_rows_tied_together_are_one_transaction(k2: Node) -> None:
    for key in ("s1", "s2"):
        for table, row in sale(key, 2):
            k2.sql(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", *row.values())
    k2.sql("INSERT INTO contact (id, kind, name) VALUES ('c', 'person', 'x')")
    k2.sql("INSERT INTO contact_tag (contact_id, tag) VALUES ('c', 'vip')")
    k2.sql("INSERT INTO task (id, contact_id) VALUES ('t', 'c')")
    assert sorted(sorted(op.table for op in work.ops) for work in sealed(k2)) == [
        ["contact", "contact_tag"],
        ["sale", "sale_line", "sale_line"],
        ["sale", "sale_line", "sale_line"],
        ["task"],
    ]


@pytest.mark.covers("P-5.15", "P-5.16")
def test_an_edit_knows_no_more_than_the_own_edits_it_rests_on(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("UPDATE contact SET phone = '1'")
    first = sealed(k2)[0]
    l3.sql("UPDATE contact SET email = 'x'")
    l3.sync()
    Cycle(k2.database, k2.link).pull(Report())
    k2.sql("UPDATE contact SET phone = '2', city = 'Y'")
    second = sealed(k2)[1]
    assert isinstance(first.ops[0], Update)
    assert isinstance(second.ops[0], Update)
    phone, address = sorted(second.ops[0].edits, key=lambda edit: edit.cell, reverse=True)
    assert second.base > first.base
    assert (phone.base, phone.since) == (first.base, first.number)
    assert (address.base, address.since) == (second.base, second.number)


@pytest.mark.covers("P-5.17", "P-5.18")
def test_a_delete_knows_the_least_and_an_insert_on_it_as_much(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("UPDATE contact SET phone = '1'")
    first = sealed(k2)[0]
    l3.sql("UPDATE contact SET email = 'x'")
    l3.sync()
    Cycle(k2.database, k2.link).pull(Report())
    k2.sql("DELETE FROM contact")
    delete = sealed(k2)[1].ops[0]
    k2.sql("INSERT INTO contact (id, kind, name) VALUES ('c1', 'person', 'new'), ('c2', 'person', 'new')")
    (again,), (fresh,) = (work.ops for work in sealed(k2)[2:])
    assert isinstance(delete, Delete)
    assert isinstance(again, Insert)
    assert isinstance(fresh, Insert)
    assert (delete.base, delete.since) == (first.base, first.number)
    assert (again.base, again.since) == (delete.base, delete.since)
    assert (fresh.base, fresh.since) == (NEVER, NEVER)


@pytest.mark.covers("P-5.12")
def test_a_transaction_in_parts_arrives_whole(world: World, k2: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.sealing.SEGMENT_ROWS_MAX", 64)
    k2.write(sale("s1", 100))
    request = push_request(k2)
    opened = [read_segment(entry.body) for entry in request.segments]
    assert [part.part for part in opened] == [1] * (len(opened) - 1) + [2]
    assert {part.first for part in opened} == {1}
    for count in range(1, len(opened)):
        world.service.push(k2.link.identity, replace_segments(request, request.segments[:count]), START_MS)
        assert world.sql("SELECT COUNT(*) FROM sale_line") == [(0,)]
    k2.sync()
    assert world.sql("SELECT COUNT(*) FROM sale_line") == [(100,)]
    assert world.agree()


def replace_segments(request: PushRequest, segments: Sequence[Sealed]) -> PushRequest:
    return msgspec.structs.replace(request, segments=tuple(segments))


# --- §6 push -----------------------------------------------------------------------------------------------------------


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
        segment(edit, base=k2.database.state().cursor.number, number=9) for edit in (_phone("k2"), _phone("l3", l3.skew[0] + 5_000))
    )
    k2.link.push(a_push(k2, earlier, clock_ms=world.clock.now))
    l3.link.push(a_push(l3, later, clock_ms=world.clock.now + l3.skew[0]))
    assert world.sql("SELECT phone FROM contact") == [("l3",)]


def _phone(value: str, skew: int = 0) -> Update:
    from sync.change import Edit

    return Update("contact", ("c1",), [Edit("phone", ("phone",), (None,), (value,), 0, 9, START_MS + skew)])


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


# --- §7 histories ------------------------------------------------------------------------------------------------------


def copy_of(world: World, entry: Node, name: str) -> Node:
    """Return a second node on a copy of the database: a cloned disk, a restored backup."""
    path = world.folder / f"{name}.db"
    entry.sql("VACUUM INTO ?", str(path))
    database = node.database.Database(path, world.schema, world.clock.read)
    with database.writing() as store:
        mark_all(store)
    world.nodes[name] = Node(name, database, Link(world, entry.link.identity), [0])
    return world.nodes[name]


@pytest.mark.covers("P-7.2", "P-7.6", "P-7.1")
def test_an_incarnation_continues_only_what_the_server_knows(world: World, k2: Node) -> None:
    mine = k2.database.state().incarnation
    strange, ahead = Parent(os.urandom(16), BEGINNING), Parent(mine, Point(1, bytes(32)))
    for parent, ancestors in ((None, 1), (strange, 1), (ahead, 1), (Parent(mine, BEGINNING), 2)):
        fresh = os.urandom(16)
        k2.link.push(a_push(k2, incarnation=fresh, parent=parent))
        sql = "SELECT COUNT(*) FROM _lineage l JOIN _incarnation i USING (inc) WHERE i.id = ?"
        assert world.sql(sql, fresh) == [(ancestors,)]
    l3 = world.node("l3", "branch:LON")
    refused(UnknownIncarnation, lambda: l3.link.push(a_push(l3, incarnation=mine)), world)


@pytest.mark.covers("P-7.3", "P-7.5", "P-7.7", "P-6.3")
def test_a_copy_goes_on_under_a_history_of_its_own(world: World, k2: Node) -> None:
    k2.write([("contact", {"id": "c1", **CONTACT})])
    k2.sync()
    copy = copy_of(world, k2, "copy")
    k2.sql("UPDATE contact SET phone = 'k2'")
    copy.sql("UPDATE contact SET email = 'copy'")
    k2.sync()
    before = sealed(copy)
    assert copy.sync().new_history
    assert len(before) == 1
    world.settle()
    assert world.sql("SELECT phone, email FROM contact") == [("k2", "copy")]
    assert world.agree()


@pytest.mark.covers("P-7.4", "P-7.5")
def test_a_copy_that_only_pulls_notices_too(world: World, k2: Node) -> None:
    copy = copy_of(world, k2, "copy")
    k2.write(sale("s1"))
    k2.sync()
    assert copy.sync().new_history
    assert copy.sql("SELECT id FROM sale") == [("s1",)]
    assert world.agree()


@pytest.mark.covers("P-7.7", "P-7.8", "P-7.9")
def test_pending_work_in_both_copies_is_one_and_stays_own(world: World, k2: Node) -> None:
    k2.write([("contact", {"id": "c1", **CONTACT})])
    k2.sync()
    k2.sql("UPDATE contact SET note = 'first'")
    sealed(k2)
    copy = copy_of(world, k2, "copy")
    k2.sync()
    copy.sql("UPDATE contact SET note = 'second'")
    world.clock.now += 10
    copy.sync()
    copy.sync()
    assert world.sql("SELECT note FROM contact") == [("second",)]
    assert world.sql("SELECT COUNT(*) FROM _conflict") == [(0,)]
    world.settle()
    assert world.agree()


@pytest.mark.covers("P-7.9")
def test_what_others_did_cannot_be_adopted(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    body = segment(_phone("l3"), base=l3.database.state().cursor.number, number=9)
    l3.link.push(a_push(l3, body))
    k2.link.push(a_push(k2, adopted=(read_segment(body).id, os.urandom(16))))
    assert world.sql("SELECT COUNT(*) FROM _lineage WHERE inc <> ancestor") == [(0,)]


@pytest.mark.covers("P-7.10", "P-7.11", "P-1.4")
def test_a_lost_reply_is_made_up_for_by_a_pull(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    k2.link.lose.append("push")
    with pytest.raises(ReplyLost):
        k2.sync()
    assert k2.unsynced() == 1
    Cycle(k2.database, k2.link).pull(Report())
    assert k2.unsynced() == 0
    assert k2.sync().pushed == 0
    assert world.agree()


@pytest.mark.covers("P-7.10")
def test_acknowledged_work_stays_pending_until_the_cursor_covers_it(world: World, pair: tuple[Node, Node]) -> None:
    k2, _ = pair
    k2.sql("UPDATE contact SET phone = '1'")
    exchange = Cycle(k2.database, k2.link)
    exchange.push(Report())
    assert k2.sql("SELECT COUNT(*) FROM _op") == [(1,)]
    exchange.pull(Report())
    assert k2.sql("SELECT COUNT(*) FROM _op") == [(0,)]


@pytest.mark.covers("P-7.12", "P-7.13", "P-6.1")
def test_a_restored_server_is_noticed_on_every_request(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    k2.sync()
    state = k2.database.state()
    assert state.highest == state.cursor != BEGINNING
    other = Point(state.highest.number, bytes(32))
    pull = PullRequest(1, 1, state.incarnation, state.cursor, state.highest, None, 0, Told(0, 0, 0, 0))
    verify = VerifyRequest(1, 1, state.incarnation, state.cursor, (), None)
    for changed in ({"epoch": 2}, {"highest": other}, {"cursor": other}, {"highest": Point(99, bytes(32))}):
        refused(Diverged, lambda changed=changed: k2.link.push(a_push(k2, **changed)), world)  # type: ignore[misc]
        refused(Diverged, lambda changed=changed: k2.link.pull(msgspec.structs.replace(pull, **changed)), world)  # type: ignore[misc]
        if "highest" not in changed:
            refused(Diverged, lambda changed=changed: k2.link.verify(msgspec.structs.replace(verify, **changed)), world)  # type: ignore[misc]


# --- §8 pull -----------------------------------------------------------------------------------------------------------


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


# --- §9 joining, verifying ---------------------------------------------------------------------------------------------


@pytest.mark.covers("P-9.8", "P-9.9", "P-7.1", "P-11.1")
def test_an_invitation_is_good_once_for_a_while(world: World) -> None:
    with world.database.writing() as store:
        code = nodes.invite(store, "n", ("branch:LON",), START_MS)
        late = nodes.invite(store, "m", ("branch:LON",), START_MS)
    key, incarnation = os.urandom(32), os.urandom(16)

    def join(code: str, key: bytes, incarnation: bytes, now: int = START_MS) -> Any:
        return world.service.join(JoinRequest((1, 99), code, key, incarnation), now)

    first = join(f"  {code.lower()} ", key, incarnation)
    assert first.protocol == 1
    assert join(code, key, incarnation) == first
    for wrong in (
        (code, os.urandom(32), incarnation, START_MS),
        (code, key, os.urandom(16), START_MS),
        ("AAAA", key, incarnation, START_MS),
    ):
        with pytest.raises(BadInvitation):
            join(*wrong)
    with pytest.raises(BadInvitation):
        join(late, os.urandom(32), os.urandom(16), START_MS + INVITATION_LIFE_MS + 1)


@pytest.mark.covers("P-9.10")
def test_a_revoked_node_is_told_so_and_what_it_sent_stays(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    k2.sync()
    with world.database.writing() as store:
        nodes.revoke(store, "k2", START_MS)
    with pytest.raises(Revoked):
        world.service.key_of(k2.link.identity)
    assert world.sql("SELECT COUNT(*) FROM sale") == [(1,)]


@pytest.mark.covers("P-9.11", "P-9.13")
def test_verify_compares_at_the_cursor_and_leaves_own_pending_work_out(world: World, pair: tuple[Node, Node]) -> None:
    k2, l3 = pair
    k2.sql("UPDATE contact SET phone = '1'")
    k2.write(sale("s1"))
    assert k2.verify()
    l3.sql("UPDATE contact SET email = '2'")
    l3.sync()
    state = k2.database.state()
    with pytest.raises(Moved):
        k2.link.verify(VerifyRequest(1, 1, state.incarnation, state.cursor, (), None))
    assert k2.verify()
    assert k2.unsynced() == 2


@pytest.mark.covers("P-9.11", "P-1.4")
def test_verify_tells_a_difference(world: World, pair: tuple[Node, Node]) -> None:
    k2, _ = pair
    k2.sql("UPDATE _state SET applying = 1")
    k2.sql("UPDATE contact SET phone = 'tampered'")
    k2.sql("UPDATE _state SET applying = 0")
    assert not k2.verify()


def test_the_journal_keeps_the_bytes_that_were_sealed(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    (body,) = (entry.body for entry in push_request(k2).segments)
    k2.sync()
    with world.database.reading() as store:
        assert journal.head(store).number > 0
        assert store.connection.execute("SELECT body FROM _journal WHERE kind = 'segment'").fetchall() == [(body,)]


def test_a_new_history_resends_what_is_unsent(world: World, k2: Node) -> None:
    k2.write(sale("s1"))
    sealed(k2)
    with k2.database.writing() as store:
        healing.new_incarnation(store)
    assert k2.sync().pushed == 1
    assert world.agree()
