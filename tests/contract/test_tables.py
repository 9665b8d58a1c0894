"""Every declared table, by itself: created, captured, round-tripped, scoped, merged by its policies.

A new file in schema/tables (or in tests/contract/tables, where tables stand that only tests need) is found here without
another line. All writing is done by a foreign program (tests/foreign.py). Rows are made up from the declaration alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schema.declare import By, Cell, Everyone, Kind, Table, Through
from schema.dialects.base import ROW_ID
from schema.registry import Schema, load
from server import conflicts as server_conflicts
from server.database import Place
from sync.policy import policies
from tests import foreign
from tests.world import Node, World

FOLDER = Path(__file__).parent / "tables"
SCHEMA = load((str(FOLDER),))

HERE = {"branch": "LON", "owner": "e1"}
THERE = {"branch": "PAR", "owner": "e2"}

EVERY = pytest.mark.parametrize("table", SCHEMA.tables, ids=lambda table: table.name)


def of_kind(*kinds: Kind) -> Any:
    tables = [table for table in SCHEMA.tables if table.kind in kinds]
    return pytest.mark.parametrize("table", tables, ids=lambda table: table.name)


WRITABLE = of_kind(Kind.RECORD, Kind.SET, Kind.DOCUMENT, Kind.EVENT)
CHANGEABLE = of_kind(Kind.RECORD)
IMMUTABLE = of_kind(Kind.DOCUMENT, Kind.EVENT)

REQUIRED = """
branch(id, name, region)  employee(id, name, branch_id, role)  product(id, sku, name, category)
price(id, product_id, branch_id, valid_from_ms, currency, amount_e4)  stage(id, name, position, probability)
refusal_reason(id, name)
contact(id, kind!, name!, organisation_id, phone, email, street, postcode, city, country, note, owner_id, branch_id,
  credit_limit_minor, created_ms)
deal(id, contact_id, owner_id, title, stage_id, currency, amount_minor, expected_on, refusal_reason_id)
activity(id, contact_id, employee_id, type, direction, topic, result, planned_ms, held_ms, minutes)
task(id, contact_id, owner_id, title, due_ms, done_ms)
sale(id, number!, kind!, branch_id!, till, employee_id, contact_id, original_sale_id, sold_ms!, business_date, currency!,
  total_minor!, tax_minor, discount_minor)
sale_line(id, sale_id!, product_id, name, qty_milli!, unit_price_e4!, discount_e4, amount_minor!)
payment(id, sale_id!, method!, amount_minor!)
stock_move(id, product_id!, branch_id!, qty_milli!, reason!, sale_id, moved_ms!)
stage_event(id, deal_id!, stage_id!, employee_id, entered_ms!)
contact_tag(contact_id!, tag!)
"""
"""What other programs rely on: the columns of each table; `!` marks those that may not be NULL, the key besides."""


# --- rows made up from the declaration ---------------------------------------------------------------------------------


def row_of(table: Table, tag: str, place: dict[str, str], variant: int = 0) -> dict[str, Any]:
    """Return values for all columns of a row that belongs to a place. Other variants differ in every free column."""
    values: dict[str, Any] = {}
    for position, column in enumerate(table.columns):
        cell = table.cell_of.get(column.name)
        if cell is not None and cell.policy == "union":
            values[column.name] = f'["{tag}","v{variant}"]'
        elif column.type == "integer":
            values[column.name] = 1000 * position + 7 * variant + 1
        elif column.type == "real":
            values[column.name] = position + variant + 0.1
        elif column.type == "blob":
            values[column.name] = bytes([0, position, variant, 255])
        else:
            values[column.name] = f"{table.name}-{tag}" if column.name in table.key else f"{column.name} {tag} й {variant}"
    for rule in table.scope:
        if isinstance(rule, By):
            values[rule.column] = place[rule.prefix]
        elif isinstance(rule, Through):
            values[rule.column] = f"{rule.table}-{tag}"
    return values


def family_of(table: Table, tag: str, place: dict[str, str]) -> list[tuple[Table, dict[str, Any]]]:
    """Return a row and before it the parents its scope runs through."""
    parents = [member for rule in table.parents for member in family_of(SCHEMA.by_name[rule.table], tag, place)]
    return [*parents, (table, row_of(table, tag, place))]


def insert(table: Table, values: dict[str, Any], verb: str = "INSERT") -> tuple[Any, ...]:
    names = ", ".join(f'"{name}"' for name in values)
    return (f'{verb} INTO "{table.name}" ({names}) VALUES ({", ".join("?" * len(values))})', *values.values())


def put(path: Place, table: Table, tag: str, place: dict[str, str]) -> dict[str, Any]:
    """Let a foreign program write a row and its parents; return the row."""
    family = family_of(table, tag, place)
    foreign.run(path, *[insert(*member) for member in family])
    return family[-1][1]


def where(table: Table, values: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    return " AND ".join(f'"{name}" = ?' for name in table.key), tuple(values[name] for name in table.key)


def update(table: Table, row: dict[str, Any], changes: dict[str, Any]) -> tuple[Any, ...]:
    condition, key = where(table, row)
    sets = ", ".join(f'"{name}" = ?' for name in changes)
    return (f'UPDATE "{table.name}" SET {sets} WHERE {condition}', *changes.values(), *key)


def delete(table: Table, row: dict[str, Any]) -> tuple[Any, ...]:
    condition, key = where(table, row)
    return (f'DELETE FROM "{table.name}" WHERE {condition}', *key)


def found(path: Place, table: Table, row: dict[str, Any]) -> list[str]:
    """Return what a foreign program reads of a row, exactly: `repr` tells 1 from 1.0, and -0.0 and '' from others."""
    condition, key = where(table, row)
    columns = ", ".join(f'"{name}"' for name in table.names)
    return [repr(entry) for entry in foreign.rows(path, f'SELECT {columns} FROM "{table.name}" WHERE {condition}', *key)]


def exactly(table: Table, row: dict[str, Any]) -> list[str]:
    return [repr(tuple(row.get(column.name, column.default) for column in table.columns))]


# --- a world of three nodes --------------------------------------------------------------------------------------------


def alone(table: Table) -> Schema:
    """Return the schema of a table, what it hangs on and a contact: each table stands by itself, and tests stay quick."""
    wanted = {"contact"}

    def want(name: str) -> None:
        wanted.add(name)
        for rule in (*SCHEMA.by_name[name].parents, *SCHEMA.by_name[name].ties):
            want(rule.table)

    want(table.name)
    return Schema(tuple(entry for entry in SCHEMA.tables if entry.name in wanted))


class Stage:
    """A centre, two nodes in one place and one elsewhere."""

    def __init__(self, folder: Path, schema: Schema) -> None:
        self.world = World(folder, schema)
        self.one, self.two = (self.world.node(name, "branch:LON", "owner:e1") for name in ("one", "two"))
        self.far = self.world.node("far", "branch:PAR", "owner:e2")

    @property
    def centre(self) -> Place:
        return self.world.database.path

    def writer(self, table: Table) -> Place:
        """Return the database where rows of a table are written: reference rows at the centre."""
        return self.centre if table.kind is Kind.REFERENCE else self.one.database.path

    def settle(self) -> None:
        """Let everyone sync, and check that everyone agrees."""
        self.world.settle(2)
        assert self.world.agree()

    def sees(self, table: Table, row: dict[str, Any]) -> list[list[str]]:
        """Return what the centre, both nodes here and the one elsewhere hold of a row."""
        return [found(path, table, row) for path in (self.centre, *(n.database.path for n in (self.one, self.two, self.far)))]


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """Return a stage for the test's table, or for all of them."""
    table = request.node.callspec.params.get("table")
    made = Stage(tmp_path, alone(table) if table is not None else SCHEMA)
    yield made
    made.world.close()


# --- created -----------------------------------------------------------------------------------------------------------


def required() -> dict[str, dict[str, bool]]:
    tables = re.findall(r"(\w+)\(([^)]*)\)", REQUIRED)
    return {name: {column.strip(" !\n"): column.strip().endswith("!") for column in columns.split(",")} for name, columns in tables}


@pytest.mark.parametrize("where_", ["node", "centre"])
def test_tables_have_the_columns_other_programs_rely_on(stage: Stage, where_: str) -> None:
    path = stage.centre if where_ == "centre" else stage.one.database.path
    for name, columns in required().items():
        there = foreign.columns(path, name)
        assert columns.keys() <= there.keys(), name
        for column, (_, is_required, default) in there.items():
            if column == ROW_ID:
                continue
            needed = columns.get(column, False) or column in SCHEMA.by_name[name].key
            assert (is_required and default is None) == needed, f"{name}.{column}: NOT NULL without a default"


@EVERY
@pytest.mark.parametrize("where_", ["node", "centre"])
def test_created_as_declared(stage: Stage, table: Table, where_: str) -> None:
    path = stage.centre if where_ == "centre" else stage.one.database.path
    there = foreign.columns(path, table.name)
    types = {"text": "TEXT", "integer": "INTEGER", "real": "REAL", "blob": "BLOB"}
    for column in table.columns:
        assert there[column.name][:2] == (types[column.type], not column.nullable or column.name in table.key)
    assert [name for name in there if name not in table.names and not name.startswith("_")] == []
    assert foreign.unique_keys(path, table.name) == 1, "no UNIQUE but the key"


@EVERY
def test_an_insert_of_any_sensible_subset_works(stage: Stage, table: Table) -> None:
    """Keys and what must not be NULL; with the place; all columns; via INSERT … SELECT: each arrives as it was written."""
    path = stage.writer(table)
    for tag in ("bare", "placed", "full", "copied"):
        foreign.run(path, *[insert(*member) for member in family_of(table, tag, HERE)[:-1]])
    bare, placed, full, copied = (row_of(table, tag, HERE) for tag in ("bare", "placed", "full", "copied"))
    needed = [column.name for column in table.columns if column.name in table.key or (not column.nullable and column.default is None)]
    scoped = [rule.column for rule in table.scope if not isinstance(rule, Everyone)]
    bare = {name: bare[name] for name in needed}
    placed = {name: placed[name] for name in dict.fromkeys([*needed, *scoped])}
    columns = ", ".join(f'"{name}"' for name in copied)
    literals = ", ".join("?" for _ in copied)
    select = (f'INSERT INTO "{table.name}" ({columns}) SELECT {literals} FROM (SELECT 1)', *copied.values())
    foreign.run(path, insert(table, bare), insert(table, placed), insert(table, full), select)
    assert found(path, table, bare) == exactly(table, bare)
    stage.settle()
    for row in (placed, full, copied):
        assert stage.sees(table, row)[:3] == [exactly(table, row)] * 3
    needs_place = table.kind is not Kind.REFERENCE and not set(scoped) & set(needed)
    if needs_place:
        assert (found(stage.centre, table, bare), [entry["code"] for entry in stage.one.held()]) == ([], ["right"])
    else:
        assert stage.sees(table, bare)[:3] == [exactly(table, bare)] * 3


@EVERY
def test_a_key_is_a_key(stage: Stage, table: Table) -> None:
    row = put(stage.writer(table), table, "t", HERE)
    with pytest.raises(foreign.Failed, match=r"(?i)unique"):
        foreign.run(stage.writer(table), insert(table, row))
    with pytest.raises(foreign.Failed, match=r"(?i)not.?null"):
        foreign.run(stage.writer(table), insert(table, row_of(table, "n", HERE) | {table.key[0]: None}))


# --- captured and round-tripped ----------------------------------------------------------------------------------------


@WRITABLE
@pytest.mark.covers("P-5.1", "P-5.5")
def test_what_a_foreign_program_inserts_arrives_byte_for_byte(stage: Stage, table: Table) -> None:
    row = put(stage.one.database.path, table, "t", HERE)
    pushed = stage.one.sync()
    assert pushed.pushed >= 1
    assert pushed.verdicts == {"accepted": pushed.pushed, "merged": 0, "ask": 0, "held": 0, "refused": 0, "withdrawn": 0}
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, row)] * 3 + [[]]
    again = stage.one.sync()
    assert (again.pushed, again.pulled, again.removed) == (0, 0, 0), "nothing is captured twice, nothing is echoed"


@CHANGEABLE
def test_what_a_foreign_program_changes_arrives_byte_for_byte(stage: Stage, table: Table) -> None:
    """Each cell by itself: another value, NULL where allowed, and back; then the row's deletion."""
    row = put(stage.one.database.path, table, "t", HERE)
    stage.settle()
    other = row_of(table, "t", HERE, 1)
    for cell in table.cells:
        for values in (other, dict.fromkeys(table.names), row):
            changes = {name: values[name] for name in cell.columns if not _moves(table, name)}
            if not changes or any(value is None and not _nullable(table, name) for name, value in changes.items()):
                continue
            foreign.run(stage.one.database.path, update(table, row, changes))
            row = row | changes
            report = stage.one.sync()
            assert (report.pushed, report.verdicts["accepted"], report.pulled) == (1, 1, 0), cell.name
            assert found(stage.centre, table, row) == exactly(table, row), cell.name
            assert stage.two.sync().pulled == 1
            assert found(stage.two.database.path, table, row) == exactly(table, row), cell.name
    foreign.run(stage.one.database.path, delete(table, row))
    stage.settle()
    assert stage.sees(table, row) == [[]] * 4
    assert not stage.one.conflicts()


def _moves(table: Table, column: str) -> bool:
    return any(not isinstance(rule, Everyone) and rule.column == column for rule in table.scope)


def _nullable(table: Table, column: str) -> bool:
    return table.columns[table.position[column]].nullable


@CHANGEABLE
def test_every_cell_changed_in_one_statement_and_the_whole_row_replaced(stage: Stage, table: Table) -> None:
    row = put(stage.one.database.path, table, "t", HERE)
    stage.settle()
    changed = row | {
        name: value for name, value in row_of(table, "t", HERE, 1).items() if name not in table.key and not _moves(table, name)
    }
    foreign.run(stage.one.database.path, update(table, row, {name: changed[name] for name in table.values}))
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, changed)] * 3 + [[]]
    foreign.run(stage.one.database.path, insert(table, row, "INSERT OR REPLACE"))
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, row)] * 3 + [[]]
    assert not stage.one.conflicts()


@of_kind(Kind.RECORD, Kind.SET)
def test_a_changed_key_is_another_row(stage: Stage, table: Table) -> None:
    row = put(stage.one.database.path, table, "t", HERE)
    stage.settle()
    free = table.key[-1]
    foreign.run(stage.one.database.path, update(table, row, {free: "another"}))
    stage.settle()
    assert stage.sees(table, row) == [[]] * 4
    moved = row | {free: "another"}
    assert stage.sees(table, moved) == [exactly(table, moved)] * 3 + [[]]


@of_kind(Kind.SET)
def test_an_element_removed_and_added_again_stays(stage: Stage, table: Table) -> None:
    """Adding wins over a removal that has not seen it; a removal that has seen it removes."""
    row = put(stage.one.database.path, table, "t", HERE)
    stage.settle()
    foreign.run(stage.one.database.path, delete(table, row))
    foreign.run(stage.one.database.path, insert(table, row))
    stage.one.sync()
    foreign.run(stage.two.database.path, delete(table, row))
    stage.settle()
    foreign.run(stage.two.database.path, delete(table, row))
    stage.settle()
    assert stage.sees(table, row) == [[]] * 4


# --- scoped ------------------------------------------------------------------------------------------------------------


@WRITABLE
@pytest.mark.covers("P-2.5")
def test_only_nodes_in_scope_get_a_row(stage: Stage, table: Table) -> None:
    here = put(stage.one.database.path, table, "here", HERE)
    there = put(stage.far.database.path, table, "there", THERE)
    stage.settle()
    assert stage.sees(table, here) == [exactly(table, here)] * 3 + [[]]
    assert stage.sees(table, there) == [exactly(table, there), [], [], exactly(table, there)]


@of_kind(Kind.REFERENCE)
@pytest.mark.covers("P-2.5")
def test_everyone_gets_reference_rows(stage: Stage, table: Table) -> None:
    row = put(stage.centre, table, "t", HERE)
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, row)] * 4


@WRITABLE
@pytest.mark.covers("P-6.10")
def test_a_node_writes_for_its_own_scope_only(stage: Stage, table: Table) -> None:
    """A row for another place is held, stays on the node that wrote it, and reaches nobody."""
    row = put(stage.one.database.path, table, "t", THERE)
    assert stage.one.sync().verdicts["held"] >= 1
    stage.settle()
    assert stage.sees(table, row) == [[], exactly(table, row), [], []]
    held = [entry for entry in stage.one.held() if entry["table"] == table.name]
    assert [(entry["verdict"], entry["code"]) for entry in held] == [("held", "right" if not table.parents else held[0]["code"])]
    assert held[0]["code"] in ("right", "depends", "parent")


def _movable() -> Any:
    cases = [
        pytest.param(table, rule, id=f"{table.name}.{rule.column}")
        for table in SCHEMA.tables
        if table.kind is Kind.RECORD
        for rule in table.scope
        if not isinstance(rule, Everyone)
    ]
    return pytest.mark.parametrize(("table", "rule"), cases)


@_movable()
@pytest.mark.covers("P-8.2", "P-8.4")
def test_a_row_moves_out_and_in(stage: Stage, table: Table, rule: By | Through) -> None:
    """Of several ways into a scope only this one holds the row; when it leads elsewhere, the row goes along, and back."""
    family = family_of(table, "t", HERE)
    row = family[-1][1]
    for other in table.scope:
        if other is not rule and not isinstance(other, Everyone):
            row[other.column] = None
    foreign.run(stage.one.database.path, *[insert(*member) for member in family])
    if isinstance(rule, Through):
        put(stage.far.database.path, SCHEMA.by_name[rule.table], "elsewhere", THERE)
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, row)] * 3 + [[]]
    back = row[rule.column]
    away = THERE[rule.prefix] if isinstance(rule, By) else f"{rule.table}-elsewhere"
    foreign.run(stage.one.database.path, update(table, row, {rule.column: away}))
    stage.settle()
    gone = row | {rule.column: away}
    assert stage.sees(table, row) == [exactly(table, gone), [], [], exactly(table, gone)]
    foreign.run(stage.far.database.path, update(table, row, {rule.column: back}))
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, row)] * 3 + [[]]
    assert not stage.one.conflicts()


# --- merged by its policies ----------------------------------------------------------------------------------------------


def tick() -> None:
    """Let the clock that capture reads move on, so that two edits have an order in time."""
    end = time.time_ns() // 1_000_000 + 2
    while time.time_ns() // 1_000_000 < end:
        pass


def _rivals(cell: Cell, rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return a cell's values before, and what two people make of it without knowing of each other: the second is later."""
    if cell.policy == "union":
        base, early, late = ({cell.name: text} for text in ('["a","b"]', '["b","c"]', '["a","b","d"]'))
        return base, early, late
    order = (0, 1, 2) if cell.policy == "min" else (0, 2, 1)
    base, early, late = ({name: rows[index][name] for name in cell.columns} for index in order)
    return base, early, late


def _expected(cell: Cell, base: dict[str, Any], early: dict[str, Any], late: dict[str, Any], arrived: dict[str, Any]) -> dict[str, Any]:
    """Return what must stand: an independent reading of what the policies promise."""
    name = cell.columns[0]
    match cell.policy:
        case "latest":
            return late
        case "first" | "max" | "min":
            return early
        case "server" | "ask":
            return arrived
        case "add":
            return {name: early[name] + late[name] - base[name]}
        case "union":
            return {name: '["b","c","d"]'}
    raise AssertionError(cell.policy)


def test_the_tables_here_have_every_policy() -> None:
    assert {cell.policy for table in SCHEMA.tables for cell in table.cells} == set(policies())


@CHANGEABLE
@pytest.mark.parametrize("first", ["early", "late"])
@pytest.mark.covers("P-2.10")
def test_concurrent_edits_follow_the_declared_policy(stage: Stage, table: Table, first: str) -> None:
    """Every cell, edited by two at once, whoever syncs first: the policy decides; both values are on record everywhere."""
    cells = [cell for cell in table.cells if not any(_moves(table, name) for name in cell.columns)]
    rows = [row_of(table, "t", HERE, variant) for variant in range(3)]
    rivals = {cell.name: _rivals(cell, rows) for cell in cells}
    row = family_of(table, "t", HERE)[-1][1]
    for base, _, _ in rivals.values():
        row |= base
    foreign.run(stage.one.database.path, *[insert(*member) for member in family_of(table, "t", HERE)[:-1]], insert(table, row))
    stage.settle()
    for index, node in ((1, stage.one), (2, stage.two)):
        edits = {name: value for sides in rivals.values() for name, value in sides[index].items()}
        foreign.run(node.database.path, update(table, row, edits))
        tick()
    _in_order(stage, first)
    for cell in cells:
        base, early, late = rivals[cell.name]
        row |= _expected(cell, base, early, late, early if first == "early" else late)
    assert stage.sees(table, row) == [exactly(table, row)] * 3 + [[]]
    recorded = [cell for cell in cells if cell.policy not in ("add", "union")]
    _check_conflicts(stage, recorded, rivals, row, first)


def _in_order(stage: Stage, first: str) -> None:
    order = (stage.one, stage.two) if first == "early" else (stage.two, stage.one)
    for node in (*order, order[0]):
        node.sync()
    stage.settle()


def _check_conflicts(stage: Stage, cells: list[Cell], rivals: dict[str, Any], row: dict[str, Any], first: str) -> None:
    sides: tuple[tuple[Node, int, int], ...] = ((stage.one, 1, 2), (stage.two, 2, 1))
    pushed_last = stage.two if first == "early" else stage.one
    with stage.world.database.reading() as store:
        at_centre = {_name(entry): entry for entry in server_conflicts.listing(store)}
    for node, mine, theirs in sides:
        listed = {_name(entry): entry for entry in node.conflicts()}
        assert listed.keys() == at_centre.keys() == {_name({"column": list(cell.columns)}) for cell in cells}
        for cell in cells:
            entry = listed[_name({"column": list(cell.columns)})]
            values = [_plain(rivals[cell.name][index].values()) for index in (0, mine, theirs)]
            assert [entry["base"], entry["mine"], entry["theirs"]] == (values if node is pushed_last else [entry["base"], *values[1:]])
            stands = _plain(row[name] for name in cell.columns)
            assert entry["mine" if entry["winner"] == "mine" else "theirs"] == stands
            assert (entry["rule"], entry["open"]) == (cell.policy, cell.policy == "ask")
            assert at_centre[_name(entry)]["mine"] == (entry["mine"] if node is pushed_last else entry["theirs"])


def _name(entry: dict[str, Any]) -> str:
    column = entry["column"]
    return column if isinstance(column, str) else ",".join(column)


def _plain(values: Any) -> Any:
    plain = [value.hex() if isinstance(value, bytes) else value for value in values]
    return plain[0] if len(plain) == 1 else plain


@CHANGEABLE
def test_edits_of_different_cells_both_survive(stage: Stage, table: Table) -> None:
    cells = [cell for cell in table.cells if not any(_moves(table, name) for name in cell.columns)]
    row = put(stage.one.database.path, table, "t", HERE)
    other = row_of(table, "t", HERE, 1)
    stage.settle()
    for index, node in enumerate((stage.one, stage.two)):
        edits = {name: other[name] for cell in cells[index::2] for name in cell.columns}
        foreign.run(node.database.path, update(table, row, edits))
        row |= edits
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, row)] * 3 + [[]]
    assert not stage.one.conflicts()
    assert not stage.two.conflicts()


@CHANGEABLE
def test_a_deletion_that_has_not_seen_an_edit_loses(stage: Stage, table: Table) -> None:
    cell = next(cell for cell in table.cells if not any(_moves(table, name) for name in cell.columns))
    row = put(stage.one.database.path, table, "t", HERE)
    stage.settle()
    edit = {name: row_of(table, "t", HERE, 1)[name] for name in cell.columns}
    foreign.run(stage.one.database.path, update(table, row, edit))
    foreign.run(stage.two.database.path, delete(table, row))
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, row | edit)] * 3 + [[]]
    assert [entry["rule"] for entry in stage.two.conflicts()] == ["edit wins"]


# --- kinds -------------------------------------------------------------------------------------------------------------


@of_kind(Kind.REFERENCE)
@pytest.mark.covers("P-2.4")
def test_a_reference_row_written_by_a_node_is_a_proposal(stage: Stage, table: Table) -> None:
    """Insert, update and delete: held, shown, the centre's row unchanged, and other work goes through."""
    row, gone = put(stage.centre, table, "t", HERE), put(stage.centre, table, "gone", HERE)
    stage.settle()
    path, proposal = stage.one.database.path, row_of(table, "new", HERE)
    changed = {name: row_of(table, "t", HERE, 1)[name] for name in table.values}
    foreign.run(path, insert(table, proposal), update(table, row, changed), delete(table, gone))
    other = put(path, SCHEMA.by_name["contact"], "other", HERE)
    report = stage.one.sync()
    assert (report.verdicts["held"], report.verdicts["accepted"]) == (3, 1)
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, row), exactly(table, row | changed), exactly(table, row), exactly(table, row)]
    assert stage.sees(table, gone) == [exactly(table, gone), [], exactly(table, gone), exactly(table, gone)]
    assert stage.sees(table, proposal) == [[], exactly(table, proposal), [], []]
    assert stage.sees(SCHEMA.by_name["contact"], other)[0]
    assert sorted((entry["key"], entry["code"]) for entry in stage.one.held()) == sorted(
        (entry["id"], "reference") for entry in (row, gone, proposal)
    )


@IMMUTABLE
@pytest.mark.parametrize("what", ["update", "delete", "replace", "delete and insert", "update and replace"])
@pytest.mark.covers("P-2.3")
def test_what_was_recorded_is_not_changed_by_a_node(stage: Stage, table: Table, what: str) -> None:
    row = put(stage.one.database.path, table, "t", HERE)
    stage.settle()
    changed = row_of(table, "t", HERE, 1) | {name: row[name] for name in table.names if _moves(table, name)}
    statements = {
        "update": update(table, row, {name: changed[name] for name in table.values}),
        "delete": delete(table, row),
        "insert": insert(table, changed),
        "replace": insert(table, changed, "INSERT OR REPLACE"),
    }
    foreign.run(stage.one.database.path, *[statements[word] for word in what.split(" and ")])
    assert stage.one.sync().verdicts["held"] >= 1
    stage.settle()
    mine = [] if what == "delete" else exactly(table, changed)
    assert stage.sees(table, row) == [exactly(table, row), mine, exactly(table, row), []]
    assert {entry["key"] for entry in stage.one.held()} == {row[table.key[0]]}
    stage.settle()
    assert stage.sees(table, row)[1] == mine


@IMMUTABLE
def test_a_document_changed_before_it_was_ever_sent_is_an_ordinary_document(stage: Stage, table: Table) -> None:
    row = put(stage.one.database.path, table, "t", HERE)
    name = next(column for column in table.values if not _moves(table, column))
    changed = row | {name: row_of(table, "t", HERE, 1)[name]}
    foreign.run(stage.one.database.path, update(table, row, {name: changed[name]}))
    assert stage.one.sync().verdicts["held"] == 0
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, changed)] * 3 + [[]]


# --- the centre writes plain SQL -----------------------------------------------------------------------------------------


@EVERY
@pytest.mark.covers("P-6.34")
def test_what_a_central_program_writes_reaches_the_nodes(stage: Stage, table: Table) -> None:
    row = put(stage.centre, table, "t", HERE)
    nodes = 3 if table.kind is not Kind.REFERENCE else 4

    def everyone(expected: list[str]) -> list[list[str]]:
        return [expected] * nodes + [[]] * (4 - nodes)

    stage.settle()
    assert stage.sees(table, row) == everyone(exactly(table, row))
    changes = {name: row_of(table, "t", HERE, 1)[name] for name in table.values if not _moves(table, name)}
    if changes:
        foreign.run(stage.centre, update(table, row, changes))
        stage.settle()
        assert stage.sees(table, row) == everyone(exactly(table, row | changes))
        if isinstance(stage.centre, str):  # PostgreSQL's programs do it in two steps
            foreign.run(stage.centre, delete(table, row), insert(table, row))
        else:
            foreign.run(stage.centre, insert(table, row, "INSERT OR REPLACE"))
        stage.settle()
        assert stage.sees(table, row) == everyone(exactly(table, row))
    renamed = row | {table.key[-1]: "renamed"}
    foreign.run(stage.centre, update(table, row, {table.key[-1]: "renamed"}))
    stage.settle()
    assert stage.sees(table, row) == [[]] * 4
    assert stage.sees(table, renamed) == everyone(exactly(table, renamed))
    foreign.run(stage.centre, delete(table, renamed))
    stage.settle()
    assert stage.sees(table, renamed) == [[]] * 4
    foreign.run(stage.centre, insert(table, renamed))
    stage.settle()
    assert stage.sees(table, renamed) == everyone(exactly(table, renamed))


@IMMUTABLE
def test_a_central_correction_of_a_document_reaches_who_wrote_it(stage: Stage, table: Table) -> None:
    row = put(stage.one.database.path, table, "t", HERE)
    stage.settle()
    changed = {name: row_of(table, "t", HERE, 1)[name] for name in table.values if not _moves(table, name)}
    foreign.run(stage.centre, update(table, row, changed))
    stage.settle()
    assert stage.sees(table, row) == [exactly(table, row | changed)] * 3 + [[]]
    foreign.run(stage.centre, delete(table, row))
    stage.settle()
    assert stage.sees(table, row) == [[]] * 4
