"""What the centre holds a transaction for, and what later work then waits for (RULES H9).

Hold and Refuse are raised by server/merging/ while it judges; server/ingest.py keeps the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from schema.capture import Store
from schema.declare import Table
from schema.keys import key_text
from sync.change import Delete, Insert, Op
from sync.limits import KEY_BYTES_MAX
from sync.values import RawText

Types = dict[str, frozenset[type]]
"""By the type of a column, the types of the values that may be written there."""

_ACCEPTED: Types = {
    "text": frozenset([str]),
    "integer": frozenset([int]),
    "real": frozenset([float, int]),
    "blob": frozenset([bytes, str, int, float]),
}

_TYPED: Types = {**_ACCEPTED, "blob": frozenset([bytes])}
"""Where the database keeps a column's values in the column's own type alone."""

_AHEAD: Types = {**_TYPED, "real": frozenset([float])}
"""Of a newer node, whose database gives a column's values in the column's own type: another one is another type's ([P-11.6])."""

REASON_CHARS_MAX = 1000


class Hold(Exception):
    """The transaction needs something first; it is kept and tried again when that comes."""

    def __init__(self, code: str, reason: str, waits: tuple[str | None, str | None] = (None, None)) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason[:REASON_CHARS_MAX]
        self.waits = waits  # (table, key) of the row it waits for


class Refuse(Hold):
    """The transaction can never be accepted; it is kept aside, whole."""


def accepted(store: Store, version: int = 0) -> Types:
    """Return what may be written here, by a node with a version of the declaration."""
    if version > store.schema.version:
        return _AHEAD
    return _TYPED if store.dialect.is_typed else _ACCEPTED


def check_values(table: Table, values: dict[str, Any], accepts: Types) -> None:
    """Check columns and types of a row. Raises Hold: what a person recorded is kept, whatever it is."""
    for name, value in values.items():
        position = table.position.get(name)
        if position is None:
            raise Hold("schema", f"the centre has no column {table.name}.{name}")
        if isinstance(value, RawText):
            raise Hold("text", f"{table.name}.{name} holds text that is not valid UTF-8 or has a NUL inside")
        if value is None:
            if not table.columns[position].nullable:
                raise Hold("null", f"{table.name}.{name} is missing")
        elif type(value) not in accepts[table.columns[position].type]:
            raise Hold("type", f"{table.name}.{name} holds {type(value).__name__}, not {table.columns[position].type}")


def is_refused(store: Store, error: Exception) -> bool:
    """Tell whether an error is the refusal of a row by a rule of another program's, and leaves something to go on with. A row that has
    come under a key meanwhile is no such thing: the work is done again on what stands then.
    """
    is_refusal = store.connection.in_transaction and store.dialect.is_refusal(error)
    return is_refusal and store.dialect.taken_key(error) not in store.schema.by_name


def check_required(table: Table, values: dict[str, Any]) -> None:
    """Check that an insert names what a row cannot do without."""
    for column in table.columns:
        if not column.nullable and column.default is None and column.name not in values:
            raise Hold("null", f"{table.name}.{column.name} is missing")


def touched(store: Store, ops: Iterable[Op]) -> set[tuple[str, str]]:
    """Return the rows a transaction writes and the parents it hangs rows under, as (table, key text)."""
    found: set[tuple[str, str]] = set()
    for op in ops:
        found.add((op.table, key_text(op.key)))
        table = store.schema.by_name.get(op.table)
        if isinstance(op, Delete):
            found.add((op.table + BELOW, key_text(op.key)))
        if table is None or isinstance(op, Delete):
            continue
        values = op.values if isinstance(op, Insert) else {n: v for edit in op.edits for n, v in zip(edit.columns, edit.new, strict=True)}
        for rule in table.parents:
            parent = values.get(rule.column)
            if isinstance(parent, str):
                found.add((rule.table, parent))
    return found


BELOW = "/below"
"""Marks a parent in `_held_row`: held work hangs a row under it, or takes one away from it."""


def held_rows(store: Store, ops: Iterable[Op]) -> set[tuple[str, str]]:
    """Return what later work waits for while this is held, as (table, key text): the rows it writes; for deletions also
    the parents under which it hangs rows, or from under which it takes them (RULES H9).
    """
    found: set[tuple[str, str]] = set()
    for op in ops:
        found.add((op.table, key_text(op.key)))
        table = store.schema.by_name.get(op.table)
        for rule in table.parents if table else ():
            found |= {(rule.table + BELOW, parent) for parent in _parents_named(op, rule.column) if isinstance(parent, str)}
    return found


def _parents_named(op: Op, column: str) -> list[Any]:
    if isinstance(op, Insert):
        return [op.values.get(column)]
    if isinstance(op, Delete):
        return []
    edits = [edit for edit in op.edits if column in edit.columns]
    return [side[edit.columns.index(column)] for edit in edits for side in (edit.old, edit.new)]


def is_sound(store: Store, table: Table, row: Sequence[Any]) -> bool:
    """Tell whether a row may stand in the table by what a node may write; central programs write what they like."""
    values = dict(zip(table.names, row, strict=True))
    try:
        check_values(table, values, accepted(store))
        check_required(table, values)
    except Hold:
        return False
    return all(type(part) is str and len(part.encode()) <= KEY_BYTES_MAX for part in row[: len(table.key)])


def is_let(store: Store, act: Callable[[], None]) -> bool:
    """Do something to a row; False, and nothing done, where a rule refuses it that another program gave the centre's database: one row
    stops no offer.
    """
    store.connection.execute("SAVEPOINT one_row")
    try:
        act()
    except (Hold, *store.dialect.errors) as error:  # type: ignore[misc]  # classes of the driver
        if not isinstance(error, Hold) and not is_refused(store, error):
            raise
        store.connection.execute("ROLLBACK TO one_row")
        store.connection.execute("RELEASE one_row")
        return False
    store.connection.execute("RELEASE one_row")
    return True
