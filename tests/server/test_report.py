"""The consolidated view: each receipt counts once, sums are exact whatever was written, and it says how complete it is."""

from __future__ import annotations

from typing import Any

import pytest

from server.report import DAY_MS, By, Freshness, freshness, sales
from tests.world import START_MS, World

OCTOBER_MS = 1_760_000_000_000


def sell(world: World, identity: str, total: int, lines: tuple[tuple[str | None, int, int], ...] = (), **values: Any) -> None:
    row = {"id": identity, "number": identity, "kind": "sale", "branch_id": "b", "sold_ms": OCTOBER_MS, "currency": "UAH", **values}
    row["total_minor"] = total
    world.sql(f"INSERT INTO sale ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", *row.values())
    for number, (product, quantity, amount) in enumerate(lines):
        world.sql(
            "INSERT INTO sale_line (id, sale_id, product_id, qty_milli, unit_price_e4, amount_minor) VALUES (?, ?, ?, ?, 0, ?)",
            f"{identity}-{number}",
            identity,
            product,
            quantity,
            amount,
        )


def report(world: World, by: By) -> list[tuple[Any, ...]]:
    with world.database.reading() as store:
        return [tuple(each.document().values()) for each in sales(store, by)]


def test_a_receipt_with_several_lines_and_payments_counts_once(world: World) -> None:
    sell(world, "s", 1_000, (("p", 1_500, 600), ("p", 500, 400)))
    world.sql("INSERT INTO payment (id, sale_id, method, amount_minor) VALUES ('a', 's', 'cash', 400), ('b', 's', 'card', 600)")
    assert report(world, By.branch) == [("b", None, "UAH", 1, 0, 2, 2_000, 1_000)]
    assert report(world, By.product) == [("p", None, "UAH", 1, 0, 2, 2_000, 1_000)]


def test_returns_are_counted_apart_and_summed_as_signed(world: World) -> None:
    sell(world, "s", 1_000, (("p", 1_000, 1_000),))
    sell(world, "r", -300, (("p", -300, -300),), kind="return")
    assert report(world, By.branch) == [("b", None, "UAH", 1, 1, 2, 700, 700)]
    assert report(world, By.product) == [("p", None, "UAH", 1, 1, 2, 700, 700)]


def test_currencies_are_never_added(world: World) -> None:
    sell(world, "s", 1)
    sell(world, "t", 2, currency="EUR")
    assert [(row[2], row[-1]) for row in report(world, By.branch)] == [("EUR", 2), ("UAH", 1)]


def test_a_sale_without_lines_and_lines_without_a_sale(world: World) -> None:
    sell(world, "s", 5)
    world.sql("INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES ('l', 'absent', 1, 1, 1)")
    assert report(world, By.branch) == [("b", None, "UAH", 1, 0, 0, 0, 5)]


@pytest.mark.parametrize(
    ("values", "month"),
    [
        pytest.param({"business_date": "2025-09-30"}, "2025-09", id="business-date-first"),
        pytest.param({}, "2025-10", id="else-the-day-in-utc"),
        pytest.param({"business_date": "30.09.2025"}, "2025-10", id="no-such-date"),
        pytest.param({"sold_ms": -1}, "1969-12", id="before-1970"),
    ],
)
def test_month(values: dict[str, Any], month: str, world: World) -> None:
    sell(world, "s", 1, **values)
    assert [row[:2] for row in report(world, By.month)] == [(month, month)]


def test_names_come_from_the_tables_that_have_them(world: World) -> None:
    world.sql("INSERT INTO branch (id, name, region) VALUES ('b', 'Київ', 'Центр'), ('c', 'Львів', 'Захід')")
    world.sql("INSERT INTO employee (id, name) VALUES ('e', 'Оксана')")
    world.sql("INSERT INTO contact (id, kind, name) VALUES ('k', 'person', 'Ганна')")
    world.sql("INSERT INTO product (id, name) VALUES ('p', 'Чай')")
    sell(world, "s", 1, (("p", 1, 1),), employee_id="e", contact_id="k")
    sell(world, "t", 3, ((None, 1, 3),), branch_id="c")
    found = {by: [row[:2] for row in report(world, by)] for by in By}
    assert found[By.branch] == [("b", "Київ"), ("c", "Львів")]
    assert found[By.region] == [("Захід", "Захід"), ("Центр", "Центр")]
    assert found[By.employee] == [(None, None), ("e", "Оксана")]
    assert found[By.contact] == [(None, None), ("k", "Ганна")]
    assert found[By.product] == [(None, None), ("p", "Чай")]


def test_sums_are_exact_beyond_64_bits(world: World) -> None:
    for number in range(3):
        sell(world, f"s{number}", 2**63 - 1, (("p", -(2**63), 2**63 - 1),))
    assert report(world, By.branch) == [("b", None, "UAH", 3, 0, 3, -3 * 2**63, 3 * (2**63 - 1))]
    assert report(world, By.product) == [("p", None, "UAH", 3, 0, 3, -3 * 2**63, 3 * (2**63 - 1))]


@pytest.mark.sqlite_centre("text that is not UTF-8")
def test_a_name_that_is_not_utf_8_does_not_stop_the_report(world: World) -> None:
    world.sql("INSERT INTO branch (id, name) VALUES ('b', CAST(x'C328' AS TEXT))")
    sell(world, "s", 1)
    assert report(world, By.branch)[0][:2] == ("b", "\ufffd(")


# --- how complete -----------------------------------------------------------------------------------------------------


def node(name: str, pull: int | None, unsynced: int | None = 0, **values: Any) -> dict[str, Any]:
    return {
        "name": name,
        "joined_ms": 1,
        "revoked": False,
        "last_push_ms": None,
        "last_pull_ms": pull,
        "unsynced": unsynced,
        "held": 0,
        **values,
    }


def told(*nodes: dict[str, Any]) -> Freshness:
    return freshness(nodes)


def test_complete_to_the_oldest_of_those_that_are_complete() -> None:
    found = told(node("a", START_MS), node("b", START_MS - 5))
    assert (found.complete_to_ms, found.complete, found.nodes, found.behind) == (START_MS - 5, 2, 2, ())


def test_who_had_more_to_send_is_named() -> None:
    found = told(node("a", START_MS), node("b", START_MS, 3, last_push_ms=START_MS - 9))
    assert (found.complete_to_ms, found.complete, found.nodes) == (START_MS, 1, 2)
    assert [(each.name, each.unsynced, each.last_ms) for each in found.behind] == [("b", 3, START_MS)]


def test_one_long_silent_node_does_not_pull_the_date_down() -> None:
    found = told(node("a", START_MS), node("b", START_MS - DAY_MS - 1), node("c", None, None))
    assert (found.complete_to_ms, found.complete, found.nodes) == (START_MS, 1, 3)
    assert [(each.name, each.last_ms) for each in found.behind] == [("b", START_MS - DAY_MS - 1), ("c", None)]


def test_invitations_and_revoked_nodes_do_not_count() -> None:
    found = told(node("a", None, None, joined_ms=None), node("b", START_MS, revoked=True))
    assert found == Freshness(None, 0, 0, ())
