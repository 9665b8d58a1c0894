"""What becomes a segment (PROTOCOL.md §5), between a real node and a real server."""

from __future__ import annotations

import pytest

from node.cycle import Cycle
from node.report import Report
from node.writer import transaction
from sync.change import NEVER, Delete, Insert, Update
from sync.segment import read_segment
from tests.protocol.stories import k2 as k2  # fixtures
from tests.protocol.stories import pair as pair
from tests.protocol.stories import push_request, replace_segments, sale, sealed
from tests.world import START_MS, Node, World


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
