"""The views that reports and BI tools read: there on both sides, with the columns that docs/views.md names, and right."""

from __future__ import annotations

import re
from pathlib import Path

from schema.registry import load
from schema.views import VIEWS, fitting
from server.database import Database
from tests.world import World

PAGE = (Path(__file__).parents[2] / "docs" / "views.md").read_text(encoding="utf-8")


def columns(world: World, name: str) -> list[str]:
    with world.database.reading() as store:
        return [each[0] for each in store.connection.execute(f"SELECT * FROM {name}").description]  # type: ignore[attr-defined]


def test_they_are_those_of_the_page(world: World) -> None:
    told = {name: re.findall(r"`(\w+)`", cells) for name, cells in re.findall(r"^\| `(v_\w+)` \|[^|]*\|([^|]*)\|", PAGE, re.MULTILINE)}
    assert {view.name: columns(world, view.name) for view in VIEWS} == told


def test_a_node_has_all_but_those_of_the_centre(world: World) -> None:
    found = world.node("k1", "branch:LON").sql("SELECT name FROM sqlite_master WHERE type = 'view'")
    assert {row[0] for row in found} == {view.name for view in VIEWS if not view.is_central}
    assert [view.name for view in fitting(load(()).centre)] == [view.name for view in VIEWS]


def test_they_show_what_the_tables_hold(world: World) -> None:
    for table, key in (("branch", "LON"), ("employee", "e1"), ("product", "p1"), ("stage", "s1"), ("stage", "s2")):
        world.sql(f"INSERT INTO {table} (id, name) VALUES (?, ?)", key, f"Ім'я {key}")
    world.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c1', 'person', 'Анна', 'LON')")
    sale = "INSERT INTO sale (id, number, kind, branch_id, employee_id, contact_id, sold_ms, currency, total_minor)"
    world.sql(f"{sale} VALUES ('r1', 'LON-1-1', 'sale', 'LON', 'e1', 'c1', 5, 'GBP', 700)")
    world.sql(f"{sale} VALUES ('r2', 'PAR-1-1', 'return', 'PAR', NULL, NULL, 6, 'EUR', -300)")  # nothing else is known of it
    line = "INSERT INTO sale_line (id, sale_id, product_id, name, qty_milli, unit_price_e4, amount_minor)"
    world.sql(f"{line} VALUES ('l1', 'r1', 'p1', 'as typed', 2000, 35000, 700)")
    world.sql(f"{line} VALUES ('l2', 'r2', NULL, 'as typed', -1000, 30000, -300)")
    world.sql("INSERT INTO deal (id, contact_id, owner_id, title, stage_id, amount_minor) VALUES ('d1', 'c1', 'e1', 'Велика', 's2', 9)")
    for number, stage in enumerate(("s1", "s2")):
        world.sql("INSERT INTO stage_event (id, deal_id, stage_id, entered_ms) VALUES (?, 'd1', ?, ?)", f"v{number}", stage, number)
    sold = world.sql("SELECT sale_id, branch, employee, contact, total_minor FROM v_sales ORDER BY sale_id")
    assert sold == [("r1", "Ім'я LON", "Ім'я e1", "Анна", 700), ("r2", None, None, None, -300)]
    assert world.sql("SELECT number, product FROM v_sale_lines ORDER BY line_id") == [("LON-1-1", "Ім'я p1"), ("PAR-1-1", "as typed")]
    assert world.sql("SELECT stage, owner, branch_id, entered_ms FROM v_pipeline") == [("Ім'я s2", "Ім'я e1", "LON", 1)]
    assert world.sql("SELECT title, stage FROM v_stage_events ORDER BY entered_ms") == [("Велика", "Ім'я s1"), ("Велика", "Ім'я s2")]


def test_freshness_and_completeness(world: World) -> None:
    k1, k2 = world.node("k1", "branch:LON"), world.node("k2", "branch:LON", "branch:PAR")
    k1.sync()  # it has nothing to send
    found = "SELECT scope, nodes, complete, complete_ms FROM v_completeness ORDER BY scope"
    ((first,),) = world.sql("SELECT last_pull_ms FROM v_freshness WHERE node = 'k1'")
    assert world.sql(found) == [("branch:LON", 2, 1, first), ("branch:PAR", 1, 0, None)]
    k2.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('c2', 'person', 'Ben', 'PAR')")
    k2.sync()
    ((second,),) = world.sql("SELECT last_pull_ms FROM v_freshness WHERE node = 'k2'")
    assert world.sql(found) == [("branch:LON", 2, 2, first), ("branch:PAR", 1, 1, second)]
    behind = dict(world.sql("SELECT node, behind FROM v_freshness"))
    assert behind["k2"] == 0
    assert behind["k1"] > 0


def test_a_view_of_another_program_keeps_its_name(world: World) -> None:
    world.sql("DROP VIEW v_sales")
    world.sql("CREATE VIEW v_sales AS SELECT 1 AS theirs")
    path, schema = world.database.path, world.schema
    Database(path, schema).close()
    assert world.sql("SELECT * FROM v_sales") == [(1,)]
    world.sql("DROP VIEW v_sales")
    Database(path, schema).close()
    assert columns(world, "v_sales")[0] == "sale_id"
