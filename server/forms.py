"""Forms: which changes are plain, found out once for all that write the same columns of a table.

    a change ─► its form: table, columns, what types may stand in each ─► its own values and key against that

A plain change is one that server/merging/judging.py lets pass by itself, and that asks for no more than a new row or new values of a row
that stays where it is. Used by server/runs.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from operator import contains
from types import NoneType
from typing import Any

from schema.capture import Store
from schema.declare import Kind, Table
from server.edits import plain_cells
from server.holding import Hold, accepted, check_required
from sync.change import Edit, Insert, Key, Op, Transaction, Update
from sync.limits import KEY_BYTES_MAX
from sync.rows import UTF8_BYTES_MAX

Form = tuple[frozenset[type], ...] | None
"""The types that may stand in each of some columns; None: nothing that names these columns is plain."""


class Forms:
    """The forms of changes made under one version of the declaration, within the `allowed` tables; kept as they are met."""

    def __init__(self, store: Store, allowed: frozenset[str], version: int) -> None:
        self._store, self._version = store, version
        one_key = (table for table in store.schema.tables if len(table.key) == 1 and table.kind is not Kind.REFERENCE)
        self._tables = {table.name: table for table in one_key if table.name in allowed}
        self._new: dict[tuple[str, tuple[str, ...]], Form] = {}
        self._edited: dict[tuple[str, str, tuple[str, ...]], Form] = {}

    def are_plain(self, work: Transaction) -> bool:
        """Tell whether nothing in a transaction itself asks for more than new rows and new values of rows that stay where they are."""
        if work.decisions or work.withdrawals or not work.ops:
            return False
        return all(map(self._is_plain, work.ops))

    def _is_plain(self, op: Op) -> bool:
        if op.table not in self._tables or not _is_usable(op.key):
            return False
        if isinstance(op, Update):
            has_twice = len(op.edits) > 1 and len({edit.cell for edit in op.edits}) < len(op.edits)
            return not has_twice and all(map(self._is_plain_edit, repeat(op.table), op.edits))
        if not isinstance(op, Insert) or op.number is not None or op.later:
            return False
        named = (op.table, tuple(op.values))
        if named not in self._new:
            self._new[named] = self._form_of_new(op)
        return _fits(op.values.values(), self._new[named])

    def _is_plain_edit(self, table: str, edit: Edit) -> bool:
        named = (table, edit.cell, edit.columns)
        if named not in self._edited:
            self._edited[named] = self._form_of_edit(*named)
        return edit.number is None and _fits(edit.new, self._edited[named])

    def _form_of_new(self, op: Insert) -> Form:
        table = self._tables[op.table]
        if not op.values.keys() >= set(table.key):
            return None
        try:
            check_required(table, op.values)
        except Hold:
            return None
        return self._types(table, tuple(op.values))

    def _form_of_edit(self, name: str, cell: str, columns: tuple[str, ...]) -> Form:
        table = self._tables[name]
        if cell not in plain_cells(self._store, table) or columns != table.cell_named[cell].columns:
            return None
        is_of_now = self._version >= self._store.schema.version  # else a group may have to be completed
        return self._types(table, columns) if is_of_now or len(columns) == 1 else None

    def _types(self, table: Table, columns: tuple[str, ...]) -> Form:
        if not set(columns) <= table.position.keys():
            return None
        declared = [table.columns[table.position[name]] for name in columns]
        types = accepted(self._store, self._version)
        return tuple(types[column.type] | ({NoneType} if column.nullable else set()) for column in declared)


def _is_usable(key: Key) -> bool:
    """Tell whether a key is one clean text that is not too long."""
    if len(key) != 1 or type(key[0]) is not str:
        return False
    return len(key[0]) * UTF8_BYTES_MAX <= KEY_BYTES_MAX or len(key[0].encode()) <= KEY_BYTES_MAX


def _fits(values: Iterable[Any], form: Form) -> bool:
    return form is not None and all(map(contains, form, map(type, values)))
