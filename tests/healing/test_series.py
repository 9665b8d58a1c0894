"""Receipt numbers are never given twice: by a successor, a database that was put back, or a copy. Reasons: node/series.py."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import node.database
from node import backup, healing, series
from node.writer import transaction
from server import held as held_work
from server import ingest, nodes
from sync.messages import JoinRequest
from tests import foreign
from tests.healing.copies import clone, copy_of, put_back_centre, put_back_node
from tests.world import Node, ReplyLost, World

PLAIN = re.compile(r"LON-1-(\d{6})")
OWN = re.compile(r"LON-1\.([A-HJ-NP-Z2-9]{4})-(\d{6})")


def sell(entry: Node, contact: str | None = None) -> str:
    """Sell as our own till does. A contact of another branch makes the sale one that the centre holds."""
    with transaction(entry.database) as tx:
        number = tx.receipt_number("LON", "1")
        if contact is not None:
            tx.insert("contact", {"id": contact, "kind": "person", "name": "x", "branch_id": "KYV"})
        row = {"id": tx.new_id(), "number": number, "kind": "sale", "branch_id": "LON", "sold_ms": 1, "currency": "GBP", "total_minor": 1}
        tx.insert("sale", row | {"contact_id": contact})
    return number


def restored(world: World, entry: Node, file: Path) -> backup.Restored:
    """What `outpost node restore FILE --anyway` does: the disk it had is gone."""
    path, clock = entry.database.path, entry.database.clock_ms
    entry.database.close()
    done = backup.restore(file, path, world.schema, clock, anyway=True)
    entry.database = node.database.Database(path, world.schema, clock)
    return done


def rejoin(world: World, entry: Node, name: str) -> None:
    """What `outpost node rejoin CODE` does."""
    with world.database.writing() as store:
        code = nodes.invite(store, name, ("branch:LON",), world.clock.read())
    incarnation = os.urandom(16)
    reply = world.service.join(JoinRequest((1,), code, os.urandom(32), incarnation), world.clock.read())
    for _ in range(2):  # the reply was lost once
        with entry.database.writing() as store:
            healing.rejoined(store, reply, incarnation)
    entry.link.identity = reply.node


def own(number: str) -> tuple[str, int]:
    """The letters and the place of a number of a series of its own."""
    found = OWN.fullmatch(number)
    assert found is not None, number
    return found[1], int(found[2])


@pytest.fixture
def till(world: World) -> Node:
    made = world.node("till", "branch:LON")
    made.sync()
    return made


def test_a_successor_goes_on_above_what_the_till_before_it_had_sent(world: World, till: Node) -> None:
    assert [sell(till) for _ in range(3)][-1] == "LON-1-000003"
    till.sync()
    successor = world.node("till, new computer", "branch:LON")
    successor.sync()
    assert [sell(successor) for _ in range(2)] == ["LON-1-000004", "LON-1-000005"]


def test_sales_that_any_program_wrote_count(world: World, till: Node) -> None:
    insert = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, ?, 'sale', 'LON', 1, 'GBP', 1)"
    foreign.run(till.database.path, (insert, "s1", "LON-1-41"))
    assert sell(till) == "LON-1-000042"
    odd = ["LON-1-x", "LON-1-" + "9" * 16, "LON-1-²", "LON-77", "-1-99", "", "LON--99"]
    foreign.run(till.database.path, *((insert, f"o{place}", number) for place, number in enumerate(odd)))
    foreign.run(till.database.path, (insert.replace("?, ?", "'raw', CAST(X'4C4F4E2DFF2D393939' AS TEXT)"),))  # no valid text
    assert sell(till) == "LON-1-000043"


def test_a_program_that_began_the_rows_numbering_anew_hides_no_number(world: World, till: Node) -> None:
    for _ in range(3):
        sell(till)
    for statement in ("DELETE FROM sale", "DELETE FROM sqlite_sequence WHERE name = 'sale'"):
        till.sql(statement)
    insert = (
        "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES ('a', 'LON-1-9', 'sale', 'LON', 1, 'GBP', 1)"
    )
    till.sql(insert)
    assert sell(till) == "LON-1-000010"


def test_the_first_number_after_a_large_pull_looks_at_nothing_that_the_pull_has_looked_at(world: World, till: Node) -> None:
    other = world.node("other", "branch:LON")
    for _ in range(20):
        sell(other)
    other.sync()
    till.sync()
    assert till.sql("SELECT seen FROM _numbering") == till.sql("SELECT MAX(_rid) FROM sale")
    assert till.sql("SELECT last FROM _series WHERE branch = 'LON' AND till = '1'") == [(20,)]


def test_after_a_pull_too_large_to_look_at_the_first_number_looks_at_the_rest(
    world: World, till: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "LOOK_ROWS_MAX", 5)
    monkeypatch.setattr(series, "_LOOK_ROWS", 5)
    other = world.node("other", "branch:LON")
    for _ in range(20):
        sell(other)
    other.sync()
    till.sync()
    assert till.sql("SELECT last FROM _series WHERE branch = 'LON' AND till = '1'") == [(5,)]
    till.sync()
    assert till.sql("SELECT last FROM _series WHERE branch = 'LON' AND till = '1'") == [(10,)]
    assert sell(till) == "LON-1-000021"


def test_numbers_of_sales_that_leave_unseen_stay_given(world: World, till: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "LOOK_ROWS_MAX", 0)
    other = world.node("other", "branch:LON")
    for _ in range(3):
        sell(other)
    other.sync()
    till.sync()
    world.rescope("till", "branch:KYV")
    till.sync()
    assert till.sql("SELECT * FROM sale") == []
    world.rescope("till", "branch:LON", "branch:KYV")
    assert sell(till) == "LON-1-000004"


def test_a_node_that_was_restored_gives_no_number_again_also_offline(world: World, till: Node) -> None:
    file = world.folder / "till.backup"
    first = sell(till)
    backup.backup(till.database, file)
    given = [first, *(sell(till) for _ in range(3))]
    till.sync()
    given.append(sell(till))  # printed, never sent: on paper and on a disk that is gone
    letters = restored(world, till, file).series
    offline = [sell(till) for _ in range(2)]
    assert [own(number) for number in offline] == [(letters, 1), (letters, 2)]
    till.sync()
    till.sync()
    assert own(sell(till))[1] in (1, 3)  # the sync shows that another life went on, and may draw other letters
    assert set(offline).isdisjoint(given)
    assert own(offline[0])[0] != restored(world, till, file).series


def test_letters_are_in_the_copy_before_it_takes_the_place(world: World, till: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a restore that is killed leaves a database that gives numbers again."""
    file, path, replace, seen = world.folder / "till.backup", till.database.path, os.replace, []
    backup.backup(till.database, file)
    till.database.close()

    def look(source: Path, target: Path) -> None:
        seen.extend(foreign.rows(source, "SELECT own FROM _numbering"))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    done = backup.restore(file, path, world.schema, world.clock.read)
    assert seen == [(done.series,)]


def test_a_database_that_was_put_back_unsaid_closes_its_series_when_that_is_noticed(world: World, till: Node) -> None:
    empty = copy_of(till.database.path)
    assert sell(till) == "LON-1-000001"
    one = copy_of(till.database.path)
    given = [sell(till) for _ in range(2)]
    till.sync()
    for copy in (one, empty):
        put_back_node(world, till, copy)
        report = till.sync()
        letters, place = own(sell(till))
        assert (letters, place) == (report.new_series, 1)
        till.sync()
    assert till.sync().new_series is None
    numbers = [row[0] for row in world.sql("SELECT number FROM sale")]
    assert len(numbers) == len(set(numbers)) == 5
    assert set(given) < set(numbers)
    world.settle()
    assert world.agree()


def test_a_series_stays_closed_where_the_first_exchange_was_cut(world: World, till: Node) -> None:
    """The fork was noticed, the reply to what followed was lost."""
    empty = copy_of(till.database.path)
    sell(till)
    till.sync()
    put_back_node(world, till, empty)
    till.link.lose = ["push"]
    with pytest.raises(ReplyLost):
        till.sync()
    assert own(sell(till))[1] == 1
    till.sync()
    assert own(sell(till))[1] == 2


@pytest.mark.parametrize("approve", [True, False, None])
def test_a_number_whose_sale_the_centre_holds_or_refused_is_not_given_again(approve: bool | None, world: World, till: Node) -> None:
    """No pull brings it back to a disk that was put back: the printed receipt has it all the same."""
    empty = copy_of(till.database.path)
    printed = sell(till, contact="c9")
    till.sync()
    assert till.held() != []
    put_back_node(world, till, empty)
    if approve is not None:
        with world.database.writing() as store:
            ingest.decide(store, held_work.waiting(store)[0].id, approve=approve, now_ms=world.clock.read())
    till.sync()
    till.sync()
    assert sell(till) != printed
    till.sync()
    assert world.sql("SELECT number FROM sale GROUP BY number HAVING COUNT(*) > 1") == []


def test_a_copy_that_rejoins_has_numbers_of_its_own_for_good(world: World, till: Node) -> None:
    sell(till)
    till.sync()
    other = clone(world, till, "copy")
    other.sync()
    rejoin(world, other, "a node of its own")
    letters = series.own(other.database.store)
    other.sync()
    till.sync()
    assert [sell(till) for _ in range(2)] == ["LON-1-000002", "LON-1-000003"]
    till.sync()
    other.sync()
    assert [own(sell(other)) for _ in range(2)] == [(letters, 1), (letters, 2)]
    other.sync()
    other.sync()
    assert own(sell(other)) == (letters, 3)
    copy = clone(world, other, "copy of the copy")
    rejoin(world, copy, "another")
    assert own(sell(copy))[0] != letters


def test_a_restore_of_the_centre_closes_no_series(world: World, till: Node) -> None:
    centre = copy_of(world.database.path)
    other = world.nodes["till"]
    numbers = [sell(till) for _ in range(2)]
    till.sync()
    put_back_centre(world, centre)
    other.sync()
    assert [PLAIN.fullmatch(number) is not None for number in [*numbers, sell(till)]] == [True] * 3
    till.sync()
    assert sell(till) == "LON-1-000004"
    assert series.own(till.database.store) is None
