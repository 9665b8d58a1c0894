"""What ought to be, in plain dictionaries: written a second time, slowly, and without any of the engine's SQL.

Rows      table → key → row (column → value)
keys_of   which scope keys a row has
cut       the rows a set of scope keys entitles to
replay    rows after pending work
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schema.registry import Schema
from sync.change import Delete, Edit, Insert, Op, Update

Key = tuple[Any, ...]
Row = dict[str, Any]
Rows = dict[str, dict[Key, Row]]

SCOPES: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "ware": [("everyone", "", "")],
    "client": [("by", "branch", "branch"), ("by", "owner", "owner")],
    "visit": [("through", "client", "client_id")],
    "call": [("through", "client", "client_id")],
    "errand": [("by", "owner", "owner"), ("through", "client", "client_id")],
    "remark": [("through", "visit", "visit_id")],
    "client_label": [("through", "client", "client_id")],
    "receipt": [("by", "branch", "branch"), ("by", "owner", "owner")],
    "receipt_line": [("through", "receipt", "receipt_id")],
    "stock": [("by", "branch", "branch")],
}
"""How each table of the simulator is in scope: by a column, or through the parent a column names."""

OWNED: Mapping[str, Sequence[tuple[str, str]]] = {
    "client": [("visit", "client_id"), ("client_label", "client_id"), ("call", "client_id")],
    "visit": [("remark", "visit_id")],
    "receipt": [("receipt_line", "receipt_id")],
}
"""Children that die with their parent, and the column that names it."""

ADDS = {("client", "points"), ("visit", "minutes")}
UNIONS = {("client", "labels")}
GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {"client": {"address": ("street", "city")}}
FIXED = ("receipt", "receipt_line", "stock")


def read(connection: Any, schema: Schema) -> Rows:
    """Return every declared row of a database; of tables that only another version declares, none."""
    found: Rows = {}
    for table in schema.tables:
        rows = connection.execute(f"SELECT {', '.join(table.names)} FROM {table.name}").fetchall()
        width = len(table.key)
        found[table.name] = {row[:width]: dict(zip(table.names, row, strict=True)) for row in rows}
    return found | {table: {} for table in SCOPES if table not in found}


def cells_of(table: str, row: Row) -> dict[str, Any]:
    """Return what conflicts are decided on: columns, groups as one."""
    grouped = {column: group for group, columns in GROUPS.get(table, {}).items() for column in columns}
    cells = {name: value for name, value in row.items() if name not in grouped}
    for group, columns in GROUPS.get(table, {}).items():
        cells[group] = tuple(row[name] for name in columns)
    return cells


def keys_of(rows: Rows, table: str, row: Row) -> set[str]:
    """Return a row's scope keys."""
    keys: set[str] = set()
    for kind, name, column in SCOPES[table]:
        if kind == "everyone":
            keys.add("*")
        elif kind == "by":
            if row[column] is not None:
                keys.add(f"{name}:{row[column]}")
        else:
            parent = rows[name].get((row[column],))
            if parent is not None:
                keys |= keys_of(rows, name, parent)
    return keys


def all_keys(rows: Rows) -> dict[str, dict[Key, set[str]]]:
    """Return the scope keys of every row."""
    return {table: {key: keys_of(rows, table, row) for key, row in found.items()} for table, found in rows.items()}


def cut(rows: Rows, keys: Mapping[str, Mapping[Key, set[str]]], entitled: frozenset[str]) -> Rows:
    """Return the rows that a set of scope keys entitles to."""
    wanted = entitled | {"*"}
    return {table: {key: row for key, row in found.items() if not wanted.isdisjoint(keys[table][key])} for table, found in rows.items()}


def without_orphans(rows: Rows) -> Rows:
    """Return the rows but for those that go with a deleted one at the centre's next look: nobody writes below what he deleted."""
    kept = {table: dict(found) for table, found in rows.items()}
    for parent, children in OWNED.items():  # parents come before what hangs below them
        for child, column in children:
            kept[child] = {key: row for key, row in kept[child].items() if row[column] is None or (row[column],) in kept[parent]}
    return kept


def replay(rows: Rows, schema: Schema, ops: Iterable[Op], *, along: bool = True) -> Rows:
    """Return the rows after pending work; the rows given stay as they are. `along`: a row that got another key takes along what its
    writer's version does not have, as it will at the centre; its node shows that when the centre has taken the change.
    """
    now = {table: dict(found) for table, found in rows.items()}
    gone: dict[str, list[Row]] = {table: [] for table in now}
    for op in ops:
        table = now[op.table]
        match op:
            case Delete():
                gone[op.table] += [table.pop(op.key)] if op.key in table else []
            case Insert():
                of = schema.by_name[op.table]
                renamed = _under_another_key(op, of.key, gone[op.table]) if along else None
                before = table.get(op.key) or renamed or dict.fromkeys(of.names)
                table[op.key] = {**before, **op.values}
            case Update():
                if op.key in table:
                    table[op.key] = _updated(op, dict(table[op.key]))
    return now


def _under_another_key(op: Insert, key: Sequence[str], gone: Sequence[Row]) -> Row | None:
    """Return the row whose key was changed, if this insert repeats one: what its writer's version does not have goes along."""
    named = {name: value for name, value in op.values.items() if name not in key}
    found = [row for row in gone if all(row.get(name) == value for name, value in named.items())]
    return found[0] if len(found) == 1 else None


def _updated(op: Update, row: Row) -> Row:
    for edit in op.edits:
        if (op.table, edit.cell) in ADDS:
            row[edit.cell] = added(row[edit.cell], *_two(edit))
        elif (op.table, edit.cell) in UNIONS:
            row[edit.cell] = united(row[edit.cell], *_two(edit))
        else:
            row.update(zip(edit.columns, edit.new, strict=True))
    return row


def _two(edit: Edit) -> tuple[Any, Any]:
    return edit.old[0], edit.new[0]


def added(standing: int | None, old: int | None, new: int | None) -> int | None:
    """Return what a difference makes of a number; NULL counts as none, and where nothing else changed, what was typed stands."""
    if standing == old:
        return new
    return standing if old == new else (standing or 0) + (new or 0) - (old or 0)


def united(standing: str | None, old: str | None, new: str | None) -> str | None:
    """Return what was added and removed, done to a set."""
    if standing == old:
        return new
    if old == new:
        return standing
    there, before, after = (set(json.loads(text)) if text else set() for text in (standing, old, new))
    return json.dumps(sorted((there - (before - after)) | (after - before)), separators=(",", ":"))


def differences(one: Rows, other: Rows) -> list[str]:
    """Return what differs, in words, the first few."""
    found: list[str] = []
    for table in one:
        for key in sorted(set(one[table]) | set(other[table])):
            a, b = one[table].get(key), other[table].get(key)
            if a == b:
                continue
            if a is None or b is None:
                found.append(f"{table} {key}: {'missing' if a is None else 'should not be there'}: {a or b}")
            else:
                cells = {name: (a[name], b[name]) for name in a if a[name] != b[name] or type(a[name]) is not type(b[name])}
                found.append(f"{table} {key}: (is, should be) {cells}")
    return found
