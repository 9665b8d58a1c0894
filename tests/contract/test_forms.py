"""Forms (server/forms.py) find those changes plain that the checks of the row-by-row path let pass, and no others.

Changes of every table, made under a version of the declaration that is older, the centre's or newer, each with one thing that is not as
it should be: values of every other type, columns left out and unknown, keys that are too long, cells told twice or with other columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import pytest

from schema.capture import Store
from schema.declare import Table
from server.edits import plain_cells
from server.forms import Forms
from server.holding import Hold
from server.merging.judging import check
from sync.change import NEVER, Delete, Edit, Insert, Op, Transaction, Update
from sync.limits import KEY_BYTES_MAX
from sync.values import RawText
from tests.contract.test_paths import ALL
from tests.world import World

SOUND = {"text": "й", "integer": -1, "real": 1.5, "blob": b""}
ODD = (None, "a", 1, 1.5, b"a", RawText(b"\xff"))
PARTS = ("", "k" * KEY_BYTES_MAX, "k" * (KEY_BYTES_MAX + 1), "й" * (KEY_BYTES_MAX // 2), "й" * KEY_BYTES_MAX, 1, RawText(b"\xff"))
VERSIONS = (ALL.version - 1, ALL.version, ALL.version + 1)


def row(table: Table) -> dict[str, Any]:
    return {name: "k" if name in table.key else SOUND[table.columns[table.position[name]].type] for name in table.names}


def new(table: Table, values: dict[str, Any], **more: Any) -> Insert:
    return Insert(table.name, tuple(values.get(part, "k") for part in table.key), values, **more)


def new_rows(table: Table) -> Iterator[Insert]:
    values = row(table)
    yield from (new(table, values), new(table, values, number=1), new(table, values, later={"a": 1}))
    yield new(table, {**values, "unheard of": 1})
    yield from (new(table, {each: value for each, value in values.items() if each != name}) for name in table.names)
    yield from (new(table, {**values, name: odd}) for name, odd in product(table.names, ODD))
    yield from (new(table, {**values, table.key[0]: part}) for part in PARTS)


def edits(table: Table) -> Iterator[Update]:
    values, key = row(table), ("k",) * len(table.key)

    def edit(cell: str, columns: Iterable[str], **other: Any) -> Edit:
        told = tuple({**values, **other}[name] for name in columns)
        return Edit(cell, tuple(columns), told, told, 0, 1, 1)

    for cell in table.cells:
        sound = edit(cell.name, cell.columns)
        yield from (Update(table.name, (part, *key[1:]), [sound]) for part in ("k", *PARTS))
        yield Update(table.name, key, [sound, sound])
        yield from (Update(table.name, key, [edit(cell.name, cell.columns, **{cell.columns[-1]: odd})]) for odd in ODD)
        yield from (Update(table.name, key, [sound, edit(other.name, other.columns)]) for other in table.cells)
        yield from (Update(table.name, key, [edit(cell.name, columns)]) for columns in (cell.columns[:1], table.cells[-1].columns))
        composed = edit(cell.name, cell.columns)
        composed.number = 1
        yield Update(table.name, key, [composed])


def changes(table: Table) -> Iterator[Op]:
    yield from new_rows(table)
    yield from edits(table)
    yield Delete(table.name, ("k",) * len(table.key), NEVER, NEVER)


def is_plain(store: Store, op: Op, version: int) -> bool:
    """Tell whether a change passes the checks of the row-by-row path, and is a new row or an edit of cells on which nothing depends."""
    try:
        check(store, op, version)
    except Hold:
        return False
    table = store.schema.by_name[op.table]
    if len(table.key) > 1 or isinstance(op, Delete):
        return False
    if isinstance(op, Insert):
        return op.number is None and not op.later
    cells = plain_cells(store, table)
    return len({edit.cell for edit in op.edits}) == len(op.edits) and all(
        edit.number is None
        and edit.cell in cells
        and edit.columns == table.cell_named[edit.cell].columns
        and (version >= store.schema.version or len(edit.columns) == 1)
        for edit in op.edits
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    world = World(tmp_path_factory.mktemp("forms"), ALL)
    with world.database.reading() as found:
        yield found
    world.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_plain_is_what_the_checks_let_pass(store: Store, version: int) -> None:
    forms, seen = Forms(store, frozenset(store.schema.by_name), version), dict[bool, int]()
    for op in (op for table in store.schema.tables for op in changes(table)):
        expected = is_plain(store, op, version)
        assert forms.are_plain(Transaction(0, 1, 1, 0, [op], schema=version)) == expected, op
        seen[expected] = seen.get(expected, 0) + 1
    assert min(seen[True], seen[False]) > 300


def test_one_change_that_is_not_plain_makes_a_transaction_that_is_not(store: Store) -> None:
    table = store.schema.by_name["contact"]
    good, bad = new(table, row(table)), new(table, {**row(table), "name": RawText(b"\xff")})
    forms = Forms(store, frozenset(store.schema.by_name), ALL.version)
    assert [forms.are_plain(Transaction(0, 1, 1, 0, ops)) for ops in ([good], [good, bad], [bad], [])] == [True, False, False, False]
    assert not Forms(store, frozenset(), ALL.version).are_plain(Transaction(0, 1, 1, 0, [good])), "of a table with rules of its own"
