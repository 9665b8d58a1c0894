"""Laptops that keep the sales of the last days: what is older leaves them, and stays at the centre; nothing that waits is lost."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from node import series
from node.cycle import Cycle
from node.report import Report
from node.writer import transaction
from schema import window
from schema.declare import BadDeclaration, Kind, Through
from schema.registry import build
from server import nodes, whole
from server.horizon import DAY_MS
from server.service import Service
from server.snapshot.making import Maker
from sync.errors import BadValue
from sync.messages import Page, Removals, SnapshotRequest
from sync.rows import rows_of
from tests.declared import declare
from tests.healing.copies import copy_of, put_back_centre
from tests.world import Node, World

NUMBERS = itertools.count()


def sell(entry: Node, key: str, days_ago: int) -> None:
    """Ring up a receipt with a line and a payment."""
    sold_ms = entry.link.world.clock.now - days_ago * DAY_MS
    entry.write(
        [
            ("sale", _sale(key, sold_ms)),
            ("sale_line", {"id": f"{key}/1", "sale_id": key, "qty_milli": 1000, "unit_price_e4": 5, "amount_minor": 5}),
            ("payment", {"id": f"{key}/p", "sale_id": key, "method": "cash", "amount_minor": 5}),
        ]
    )


def _sale(key: str, sold_ms: int) -> dict[str, Any]:
    named = {"id": key, "number": f"LON-t1-{next(NUMBERS):06d}", "kind": "sale", "branch_id": "LON", "till": "t1"}
    return {**named, "sold_ms": sold_ms, "currency": "GBP", "total_minor": 5}


def keep(world: World, name: str, days: int) -> None:
    with world.database.writing() as store:
        nodes.keep(store, name, days)


def sales(entry: Node) -> list[str]:
    """Return the receipts here, each of which is whole."""
    found = [row[0] for row in entry.sql("SELECT id FROM sale ORDER BY id")]
    assert [row[0] for row in entry.sql("SELECT sale_id FROM sale_line ORDER BY sale_id")] == found
    assert [row[0] for row in entry.sql("SELECT sale_id FROM payment ORDER BY sale_id")] == found
    return found


def rolled(world: World) -> tuple[Node, Node]:
    """A laptop that keeps ten days, and a branch that keeps everything, with receipts of 0, 5 and 20 days ago."""
    laptop, branch = world.node("laptop", "branch:LON"), world.node("branch", "branch:LON")
    keep(world, "laptop", 10)
    for days in (0, 5, 20):
        sell(branch, f"s{days:02d}", days)
    world.settle(2)
    return laptop, branch


@pytest.mark.covers("P-8.31", "P-8.32")
def test_a_laptop_gets_what_is_in_its_window(world: World) -> None:
    laptop, branch = rolled(world)
    assert sales(laptop) == ["s00", "s05"]
    assert sales(branch) == ["s00", "s05", "s20"]
    assert world.agree()


@pytest.mark.parametrize("rows", [1, 10_000])
@pytest.mark.covers("P-8.33")
def test_what_leaves_the_window_leaves_the_laptop_alone(world: World, rows: int) -> None:
    laptop, branch = rolled(world)
    world.clock.now += 6 * DAY_MS
    report = laptop.sync(rows)
    assert (sales(laptop), report.rolled, report.removed, report.differing) == (["s00"], 3, 0, 0)
    branch.sync()
    assert sales(branch) == ["s00", "s05", "s20"]
    assert world.sql("SELECT COUNT(*) FROM sale") == [(3,)]
    assert world.agree()
    assert laptop.sync(rows).rolled == 0


def test_an_exchange_of_nothing_proves_itself_within_a_window(world: World) -> None:
    laptop, branch = rolled(world)
    sell(branch, "s-new", 1)
    sell(branch, "s-old", 30)
    branch.sync()
    asked = len(laptop.link.requests)
    assert laptop.sync().differing == 0
    assert "verify" not in [kind for kind, _ in laptop.link.requests[asked:]]
    assert sales(laptop) == ["s-new", "s00", "s05"]


def test_a_receipt_typed_late_goes_to_the_centre_and_then_leaves(world: World) -> None:
    laptop, branch = rolled(world)
    sell(laptop, "late", 40)
    assert sales(laptop) == ["late", "s00", "s05"]
    laptop.sync()
    laptop.sync()
    assert sales(laptop) == ["s00", "s05"]
    branch.sync()
    assert sales(branch) == ["late", "s00", "s05", "s20"]
    assert world.agree()


def test_unsent_receipts_stay_however_old_they_are(world: World) -> None:
    laptop, branch = rolled(world)
    sell(laptop, "mine", 0)
    world.clock.now += 30 * DAY_MS
    seen = sales(laptop)
    laptop.link.before = lambda kind: laptop.sql("SELECT 1") if kind != "push" else (_ for _ in ()).throw(ConnectionError)
    with pytest.raises(ConnectionError):
        laptop.sync()
    assert sales(laptop) == seen == ["mine", "s00", "s05"]
    laptop.link.before = lambda _kind: None
    laptop.sync()
    assert sales(laptop) == []
    branch.sync()
    assert sales(branch) == ["mine", "s00", "s05", "s20"]
    assert world.agree()


def test_a_pull_alone_takes_nothing_that_is_unsent(world: World) -> None:
    laptop, _ = rolled(world)
    sell(laptop, "mine", 0)
    world.clock.now += 30 * DAY_MS
    Cycle(laptop.database, laptop.link).pull(Report())
    assert sales(laptop) == ["mine"]
    world.settle(2)
    assert world.sql("SELECT id FROM sale WHERE id = 'mine'") == [("mine",)]
    assert sales(laptop) == []


@pytest.mark.parametrize("days_ago", [0, 40])
def test_a_segment_is_told_whole_only_if_all_of_it_is_inside(world: World, days_ago: int) -> None:
    laptop, branch = rolled(world)
    pages = list[Page]()
    pull = laptop.link.pull
    laptop.link.pull = lambda request: (pages.append(pull(request)), pages[-1])[1]  # type: ignore[method-assign, func-returns-value]
    with transaction(branch.database) as tx:
        for number in range(whole.WHOLE_ROWS_MIN):
            tx.insert("sale", _sale(f"many{number:04}", world.clock.now - (days_ago if number == 3 else 0) * DAY_MS))
    branch.sync()
    asked = len(laptop.link.requests)
    report = laptop.sync()
    assert sum(sealed.count for page in pages for sealed in page.sealed) == (0 if days_ago else whole.WHOLE_ROWS_MIN)
    assert (report.pulled, report.differing) == (whole.WHOLE_ROWS_MIN - (1 if days_ago else 0), 0)
    assert "verify" not in [kind for kind, _ in laptop.link.requests[asked:]]


def test_what_comes_beside_what_is_asked_for_afresh_is_told_whole_or_not_but_told(world: World) -> None:
    """Found by the simulator (seed 81001991): a segment of receipts and stock moves, while receipts were asked for afresh."""
    laptop, branch = rolled(world)
    with laptop.database.writing() as store:
        wanted = json.dumps(dict.fromkeys(("sale", "sale_line", "payment"), world.schema.version))
        store.connection.execute("UPDATE _node SET afresh = ? WHERE id = 1", (wanted,))
    with transaction(branch.database) as tx:
        for number in range(whole.WHOLE_ROWS_MIN):
            tx.insert("sale", _sale(f"many{number:04}", world.clock.now))
            moved = {"id": f"move{number:04}", "branch_id": "LON", "product_id": "p", "qty_milli": -1, "reason": "sale", "moved_ms": 1}
            tx.insert("stock_move", moved)
    branch.sync()
    Cycle(laptop.database, laptop.link).pull(Report())
    assert laptop.sql("SELECT COUNT(*) FROM stock_move") == [(whole.WHOLE_ROWS_MIN,)]
    assert laptop.sync().differing == 0
    assert world.agree()


def test_held_receipts_stay_until_they_are_judged(world: World) -> None:
    laptop, branch = rolled(world)
    laptop.write([("payment", {"id": "p9", "sale_id": "missing", "method": "cash", "amount_minor": 5})])
    laptop.sync()
    assert [each["code"] for each in laptop.held()] == ["parent"]
    world.clock.now += 30 * DAY_MS
    laptop.sync()
    assert laptop.sql("SELECT id FROM payment") == [("p9",)]
    sold_ms = world.clock.now - 100 * DAY_MS
    branch.write([("sale", _sale("missing", sold_ms))])
    world.settle(2)
    assert laptop.held() == []
    assert laptop.sql("SELECT id FROM payment") == []
    assert world.agree()


@pytest.mark.parametrize("days", [25, 0])
@pytest.mark.covers("P-8.34")
def test_a_wider_window_brings_back_what_had_left(world: World, days: int) -> None:
    laptop, _ = rolled(world)
    keep(world, "laptop", days)
    assert laptop.sync().differing == 0
    assert sales(laptop) == ["s00", "s05", "s20"]
    assert world.agree()


def test_a_clock_of_the_centre_that_was_wrong_for_a_while_does_no_lasting_harm(world: World) -> None:
    laptop, _ = rolled(world)
    now = world.clock.now
    world.clock.now += 7_300 * DAY_MS
    laptop.sync()
    assert sales(laptop) == []
    world.clock.now = now
    laptop.sync()
    laptop.sync()
    assert sales(laptop) == ["s00", "s05"]
    assert world.agree()


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize(("before", "after"), [(3, 30), (30, 3), (30, 0), (0, 3)])
def test_a_pull_is_told_in_the_window_it_began_in(world: World, is_new: bool, before: int, after: int) -> None:
    _, branch = rolled(world)
    for number in range(6):
        sell(branch, f"more{number}", 2 * number)
    branch.sync()
    laptop = world.node("another", "branch:LON") if is_new else world.nodes["laptop"]
    keep(world, laptop.name, before)
    asked = list[str]()

    def change(kind: str) -> None:
        asked.append(kind)
        if kind == "pull" and asked.count("pull") == 4:
            keep(world, laptop.name, after)

    laptop.link.before = change
    laptop.sync(rows=2)
    found = sales(laptop)
    if is_new:  # else it pulls twice where its own window was another
        assert found == [key for key, days in days_of(branch) if days < (before or 99)]
    assert laptop.sync().differing == 0
    assert sales(laptop) == [key for key, days in days_of(branch) if days < (after or 99)]
    assert world.agree()


def days_of(entry: Node) -> list[tuple[str, int]]:
    now = entry.link.world.clock.now
    return [(key, (now - sold_ms) // DAY_MS) for key, sold_ms in entry.sql("SELECT id, sold_ms FROM sale ORDER BY id")]


@pytest.mark.covers("P-8.32")
def test_nobody_is_told_the_keys_of_others_that_the_centre_dates_back(world: World) -> None:
    laptop, branch = rolled(world)
    world.rescope("branch", "branch:LON", "branch:PAR")
    branch.sync()
    with transaction(branch.database) as tx:
        for number in range(6):
            tx.insert("sale", {**_sale(f"x{number}", world.clock.now), "branch_id": "LON" if number % 2 else "PAR"})
    branch.sync()  # one run of rows, some of which are the laptop's
    pages = list[Page]()
    pull = laptop.link.pull
    laptop.link.pull = lambda request: (pages.append(pull(request)), pages[-1])[1]  # type: ignore[method-assign, func-returns-value]
    world.sql("UPDATE sale SET sold_ms = 1")
    laptop.sync()
    told = {key for page in pages for block in page.removals if block.table == "sale" for (key,) in keys_of(block)}
    assert told == {"x1", "x3", "x5", "s00", "s05", "s20"}
    assert sales(laptop) == []
    assert world.agree()


def keys_of(block: Removals) -> list[tuple[Any, ...]]:
    return list(zip(*rows_of(block.key, block.count, 1), strict=True))


def test_a_clock_put_back_by_a_day_moves_nothing(world: World) -> None:
    laptop, _ = rolled(world)
    edge = laptop.database.state().edge
    world.clock.now -= DAY_MS
    laptop.sync()
    assert laptop.database.state().edge == edge
    assert world.agree()


def test_numbers_of_receipts_that_left_are_not_given_again(world: World) -> None:
    laptop, _ = rolled(world)
    sell(laptop, "mine", 0)
    (number,) = laptop.sql("SELECT number FROM sale WHERE id = 'mine'")[0]
    laptop.sync()
    world.clock.now += 30 * DAY_MS
    laptop.sync()
    laptop.sync()
    assert sales(laptop) == []
    assert int(number[-6:]) < int(_next_number(laptop)[-6:])


def _next_number(entry: Node) -> str:
    with entry.database.writing() as store:
        return series.next_number(store, "LON", "t1")


def test_a_receipt_that_the_centre_dates_back_leaves(world: World) -> None:
    laptop, branch = rolled(world)
    world.sql("UPDATE sale SET sold_ms = 1 WHERE id = 's05'")
    world.settle(2)
    assert sales(laptop) == ["s00"]
    world.sql("UPDATE sale SET sold_ms = ? WHERE id = 's05'", world.clock.now)
    world.settle(2)
    assert sales(laptop) == ["s00", "s05"]
    assert sales(branch) == ["s00", "s05", "s20"]
    assert world.agree()


def test_a_centre_that_was_put_back_names_its_own_edge(world: World) -> None:
    laptop, _ = rolled(world)
    with pytest.raises(BadValue):
        keep(world, "laptop", -1)
    assert laptop.sync().differing == 0


@pytest.mark.parametrize(
    ("kind", "by"), [(Kind.RECORD, "at_ms"), (Kind.DOCUMENT, "name"), (Kind.DOCUMENT, "id"), (Kind.DOCUMENT, "nothing")]
)
def test_only_documents_roll_and_only_by_an_instant(kind: Kind, by: str) -> None:
    with pytest.raises(BadDeclaration, match="window"):
        build([declare(kind=kind, columns={"at_ms": int, "name": str}, window=by)])


def test_what_is_owned_by_what_rolls_never_changes() -> None:
    models = [
        declare("trip", kind=Kind.DOCUMENT, columns={"at_ms": int}, window="at_ms"),
        declare("leg", kind=Kind.RECORD, columns={"trip_id": str}, scope=(Through("trip", "trip_id"),)),
    ]
    with pytest.raises(BadDeclaration, match="rolls"):
        build(models)


def test_what_dies_with_a_row_rolls_with_it() -> None:
    models = [
        declare("trip", kind=Kind.DOCUMENT, columns={"at_ms": int}, window="at_ms"),
        declare("leg", kind=Kind.DOCUMENT, columns={"trip_id": str}, scope=(Through("trip", "trip_id"),)),
        declare("note", kind=Kind.EVENT, columns={"trip_id": str}, scope=(Through("trip", "trip_id", owned=False),)),
    ]
    assert window.rolling(build(models)) == ("leg", "trip")


@pytest.mark.covers("P-8.35")
def test_a_file_for_a_window_has_what_is_in_it(world: World) -> None:
    world.service = Service(world.database, Maker(world.database, world.clock.read, start=lambda work: work(), rows_min=1))
    _, branch = rolled(world)
    for name, days in (("first", 10), ("second", 10), ("all", 0)):
        made = world.node(name, "branch:LON")
        keep(world, name, days)
        ask(made)
        report = made.sync()
        assert [kind for kind, _ in made.link.requests] == ["snapshot", "pull"]
        assert sales(made) == (["s00", "s05"] if days else ["s00", "s05", "s20"])
        assert report.differing == 0
    assert world.sql("SELECT COUNT(DISTINCT name) FROM _snapshot") == [(2,)]
    world.clock.now += 6 * DAY_MS
    sell(branch, "s-new", 0)
    world.settle(2)
    assert sales(world.nodes["second"]) == ["s-new", "s00"]
    third = world.node("third", "branch:LON")  # the file is older than its window
    keep(world, "third", 10)
    third.sync()
    assert sales(third) == ["s-new", "s00"]
    assert world.agree()


def ask(node: Node) -> None:
    """Ask for a file, so that it is made."""
    state = node.database.state()
    request = SnapshotRequest(1, state.epoch, state.incarnation, state.highest, node.database.schema.version, None, 0)
    node.link.world.service.snapshot(node.link.identity, request, node.link.world.clock.read())


def test_a_centre_restored_and_a_window_agree_in_the_end(world: World) -> None:
    laptop, branch = rolled(world)
    early = copy_of(world.database.path)
    sell(laptop, "mine", 1)
    sell(branch, "theirs", 2)
    sell(branch, "old", 50)
    world.settle(2)
    world.clock.now += 3 * DAY_MS
    put_back_centre(world, early)
    world.settle()
    assert sales(laptop) == ["mine", "s00", "s05", "theirs"]
    assert sales(branch) == ["mine", "old", "s00", "s05", "s20", "theirs"]
    assert world.agree()
