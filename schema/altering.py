"""Altering: how tables of an older version become those of this one in PostgreSQL, which changes columns in place.

A column of another type stays where it is; what it held is put beside it and converted value by value, as nodes convert theirs. What
other programs have laid on our tables PostgreSQL looks after itself: indexes are built anew, and a view or a trigger that stands in the
way is named. Nobody else is at work on the tables meanwhile (`Dialect.begin_alone`).
Used by schema/upgrade.py; the counterpart for files is schema/rebuilding.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from schema import others
from schema.capture import Store
from schema.conversion import CHUNK_ROWS, converted, note_unconverted
from schema.declare import Table
from schema.dialects.base import ROW_ID, Connection
from schema.dialects.sqlite import literal, quote
from schema.lens import ColumnLens, TableLens
from schema.past import Column
from sync.errors import CannotUpgrade

_OLD = "_upgrading"

_TRIGGERS = (
    "SELECT t.tgname, c.relname, p.proname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid"
    " WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal AND t.tgname LIKE '\\_t%'"
)
_OTHERS_TRIGGERS = (
    "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = to_regclass(CAST(? AS text)) AND NOT tgisinternal AND tgenabled <> 'D'"
)
_MODES = {"O": "", "R": "REPLICA ", "A": "ALWAYS "}
_INDEXES = "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename = ? AND indexname LIKE '\\_%'"
_NAMES = "SELECT lower(relname) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')"


def drop_capture(connection: Connection) -> None:
    """Drop the engine's triggers and their functions: another release writes others under the same names."""
    for trigger, table, function in connection.execute(_TRIGGERS).fetchall():
        connection.execute(f"DROP TRIGGER {quote(trigger)} ON {quote(table)}")
        connection.execute(f"DROP FUNCTION {quote(function)}()")


def drop_indexes(connection: Connection, table: str) -> None:
    """Drop the engine's indexes of a table: they are made anew under the names of its columns."""
    for (name,) in connection.execute(_INDEXES, (table,)).fetchall():
        if not str(name).endswith("_rid_key"):
            connection.execute(f"DROP INDEX {quote(name)}")


def rebuild(store: Store, table: TableLens) -> None:
    """Give a table the columns it has now, whose names are right already. Raises CannotUpgrade."""
    name = quote(table.newer.name)
    for column in table.columns:
        if column.newer is None:
            continue
        if column.older is None:
            store.connection.execute(f"ALTER TABLE {name} ADD COLUMN {store.dialect.column(column.newer)}")
        elif column.changes:
            _retype(store, table.newer, column, column.newer)
        elif column.older.nullable != column.newer.nullable and column.newer.name not in table.newer.key:
            null = "DROP" if column.newer.nullable else "SET"
            others.run(store, "rows", table.newer.name, f"ALTER TABLE {name} ALTER COLUMN {quote(column.newer.name)} {null} NOT NULL")


def _retype(store: Store, table: Table, change: ColumnLens, column: Column) -> None:
    """Change a column's type in its place, which carries other programs' indexes along; what they had is converted value by value."""
    connection, name, kept, new = store.connection, quote(table.name), quote(_OLD), quote(column.name)
    older = change.older
    assert older is not None
    with _quiet(connection, table):
        connection.execute(f"ALTER TABLE {name} ADD COLUMN {kept} {older.type.upper()}")
        connection.execute(f"UPDATE {name} SET {kept} = {new}")
        connection.execute(f"ALTER TABLE {name} ALTER COLUMN {new} DROP DEFAULT, ALTER COLUMN {new} DROP NOT NULL")
        others.run(
            store, "view, index or trigger", table.name, f"ALTER TABLE {name} ALTER COLUMN {new} TYPE {column.type.upper()} USING NULL"
        )
        values = _values(store, table, change, column)
        while chunk := list(islice(values, CHUNK_ROWS)):
            _fill(store, table, f"UPDATE {name} SET {new} = ? WHERE {ROW_ID} = ?", chunk)
        connection.execute(f"ALTER TABLE {name} DROP COLUMN {kept}")
        if column.default is not None:
            connection.execute(f"ALTER TABLE {name} ALTER COLUMN {new} SET DEFAULT {literal(column.default)}")
        if not column.nullable:
            if connection.execute(f"SELECT 1 FROM {name} WHERE {new} IS NULL LIMIT 1").fetchone():
                raise CannotUpgrade(f"{table.name}.{column.name} holds values that are none of its new type, and may not be empty.")
            connection.execute(f"ALTER TABLE {name} ALTER COLUMN {new} SET NOT NULL")


def _values(store: Store, table: Table, change: ColumnLens, column: Column) -> Iterator[tuple[Any, int]]:
    """Yield the values that convert, each with its row's number; the others are noted."""
    for rid, key, old, found, is_converted in converted(store, table, change, column, _OLD):
        if is_converted:
            yield found, rid
        else:
            note_unconverted(store, table, key, column.name, old)


def _fill(store: Store, table: Table, sql: str, rows: Sequence[tuple[Any, int]]) -> None:
    try:
        store.connection.executemany(sql, rows)
    except store.dialect.errors as error:
        if not store.dialect.is_refusal(error):
            raise
        words = store.dialect.words_of(error)
        raise CannotUpgrade(f"Another program's rule on {table.name} refuses a value of its new type: {words}. Drop it first.") from error


@contextmanager
def _quiet(connection: Connection, table: Table) -> Iterator[None]:
    """Let no trigger of another program run while the engine rewrites rows that stay what they are."""
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what a deferred one has still to look at would stop the next ALTER
    triggers = connection.execute(_OTHERS_TRIGGERS, (quote(table.name),)).fetchall()
    for trigger, _ in triggers:
        connection.execute(f"ALTER TABLE {quote(table.name)} DISABLE TRIGGER {quote(trigger)}")
    yield
    for trigger, mode in triggers:
        connection.execute(f"ALTER TABLE {quote(table.name)} ENABLE {_MODES[mode]}TRIGGER {quote(trigger)}")


def taken(store: Store) -> set[str]:
    """Return the names that tables and views have, in lower case."""
    return {str(name) for (name,) in store.connection.execute(_NAMES).fetchall()}


def own_columns(store: Store, table: Table) -> dict[str, bool]:
    """Return the columns of a table that are not declared; all of them hold values."""
    declared = {ROW_ID, *(column.name.lower() for column in table.columns)}
    return dict.fromkeys((name for name in store.dialect.columns_of(store.connection, table.name) if name.lower() not in declared), True)


def set_aside(store: Store) -> list[str]:
    """Return nothing: PostgreSQL lets no view stand that does not compile."""
    return []


def put_back(connection: Connection, statements: list[str]) -> None:
    """Do nothing: see `set_aside`."""


def require_sound(store: Store) -> None:
    """Do nothing: see `set_aside`."""
