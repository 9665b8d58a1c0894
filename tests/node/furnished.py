"""A small firm for the tests of verify, repair and proof: rows in tables of every kind, and ways to break them by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schema.registry import load
from tests.world import Node, World

SPECIMENS = Path(__file__).parents[1] / "contract" / "tables"
ODD = (2**63 - 1, -(2**63), 2**53 + 1)


def firm(folder: Path) -> World:
    """A server that knows a table with a column of every type."""
    return World(folder, load((SPECIMENS,)))


def furnish(world: World) -> tuple[Node, Node]:
    """Two nodes of one branch with some rows in tables of every kind."""
    world.sql("INSERT INTO product (id, sku, name) VALUES ('p1', '1', 'Tea'), ('p2', '2', 'Milk'), ('p3', '3', 'Ale')")
    k2, l3 = world.node("k2", "branch:A"), world.node("l3", "branch:A")
    for number in range(6):
        k2.write([("contact", {"id": f"c{number}", "kind": "person", "name": f"имя {number}", "branch_id": "A", "note": "x"})])
        k2.write(
            [("contact_tag", {"contact_id": f"c{number}", "tag": "vip"}), ("activity", {"id": f"a{number}", "contact_id": f"c{number}"})]
        )
        sale = {
            "id": f"s{number}",
            "number": str(number),
            "kind": "sale",
            "branch_id": "A",
            "sold_ms": 1,
            "currency": "EUR",
            "total_minor": 5,
        }
        line = {"id": f"l{number}", "sale_id": f"s{number}", "name": "Tea", "qty_milli": 1, "unit_price_e4": 1, "amount_minor": 5}
        k2.write([("sale", sale), ("sale_line", line)])
        k2.write(
            [
                (
                    "stock_move",
                    {"id": f"m{number}", "product_id": "p1", "branch_id": "A", "qty_milli": ODD[number % 3], "reason": "in", "moved_ms": 1},
                )
            ]
        )
        values = {
            "raw": -0.0 if number == 3 else bytes([0, 255, number]),
            "whole": ODD[number % 3],
            "ratio": (float("inf"), -0.0, 1.5)[number % 3],
            "words": "a\U0001f600",
        }
        k2.write([("specimen", {"id": f"z{number}", "branch_id": "A", **values})])
    world.settle(2)
    assert world.agree()
    return k2, l3


def behind(node: Node, *statements: str) -> None:
    """Write with capture off: what no program may do, and what a broken engine would."""
    node.sql("UPDATE _state SET applying = 1")
    for statement in statements:
        node.sql(statement)
    node.sql("UPDATE _state SET applying = 0")


def named(document: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(row["table"], str(row["key"]), row["what"]) for row in document["rows"]}
