"""Altering: how tables of an older version become those of this one in PostgreSQL, which changes columns in place.

A column of another type is added beside the old one, filled value by value as nodes convert theirs, and takes its name. What other
programs have laid on our tables PostgreSQL looks after itself: a view that names a column that goes stands in its way, and is named.
Used by schema/upgrade.py; the counterpart for files is schema/rebuilding.py.
"""

from __future__ import annotations

from dataclasses import replace

from schema import others
from schema.capture import Store
from schema.conversion import converted, note_unconverted
from schema.declare import Table
from schema.dialects.base import ROW_ID, Connection
from schema.dialects.sqlite import quote
from schema.lens import ColumnLens, TableLens
from schema.past import Column
from sync.errors import CannotUpgrade

_OLD = "_upgrading"

_TRIGGERS = (
    "SELECT t.tgname, c.relname, p.proname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid"
    " WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal AND t.tgname LIKE '\\_t%'"
)
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
    name, kept, new = quote(table.name), quote(_OLD), quote(column.name)
    store.connection.execute(f"ALTER TABLE {name} RENAME COLUMN {new} TO {kept}")
    store.connection.execute(f"ALTER TABLE {name} ADD COLUMN {store.dialect.column(replace(column, nullable=True))}")
    for rid, key, old, found, is_converted in converted(store, table, change, column, _OLD):
        if not is_converted:
            note_unconverted(store, table, key, column.name, old)
            continue
        store.connection.execute(f"UPDATE {name} SET {new} = ? WHERE {ROW_ID} = ?", (found, rid))
    others.run(store, "view or index", table.name, f"ALTER TABLE {name} DROP COLUMN {kept}")
    if not column.nullable:
        if store.connection.execute(f"SELECT 1 FROM {name} WHERE {new} IS NULL LIMIT 1").fetchone():
            raise CannotUpgrade(f"{table.name}.{column.name} holds values that are none of its new type, and may not be empty.")
        store.connection.execute(f"ALTER TABLE {name} ALTER COLUMN {new} SET NOT NULL")


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
