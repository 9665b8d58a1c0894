"""Rebuilding: how tables of an older version become those of this one in SQLite, which cannot change a column's type.

A table whose columns changed their type, or lost one, is built anew beside the old one, with every row under its number. What other
programs have laid on it is carried along: schema/others.py. Used by schema/upgrade.py; the counterpart for PostgreSQL is
schema/altering.py.
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
from schema.others import own_columns as own_columns
from schema.others import put_back as put_back
from schema.others import require_sound as require_sound
from schema.others import set_aside as set_aside
from schema.past import Column
from sync.values import RawText

_NEW = "_upgrading"


def drop_capture(connection: Connection) -> None:
    """Drop the engine's triggers: another release writes others under the same names."""
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE '\\_t%' ESCAPE '\\'").fetchall():
        connection.execute(f"DROP TRIGGER {quote(name)}")


def drop_indexes(connection: Connection, table: str) -> None:
    """Drop the engine's indexes of a table: they are made anew under the names of its columns."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND name LIKE '\\_%' ESCAPE '\\'"
    for (name,) in connection.execute(sql, (table,)).fetchall():
        connection.execute(f"DROP INDEX {quote(name)}")


def rebuild(store: Store, table: TableLens) -> None:
    """Build a table anew, with every row under its number, and convert what changed its type. Its columns have their new names."""
    connection, name = store.connection, table.newer.name
    above = connection.execute(
        "SELECT type || ' ' || name, sql FROM sqlite_master WHERE lower(tbl_name) = lower(?) AND type IN ('index', 'trigger')"
        " AND sql IS NOT NULL",
        (name,),  # a trigger's table is named there as its program wrote it
    ).fetchall()
    highest = store.dialect.highest(connection).get(name, 0)
    connection.execute(store.dialect.create(table.newer, _NEW))
    shared = [column.newer for column in table.columns if column.older is not None and column.newer is not None]
    kept = [column.name for column in shared] + others.add_columns(store, _standing(table), _NEW)
    names = ", ".join([*map(quote, kept), ROW_ID])
    connection.execute(f"INSERT INTO {_NEW} ({names}) SELECT {names} FROM {quote(name)} ORDER BY {ROW_ID}")
    for column in table.columns:
        if column.changes and column.older is not None and column.newer is not None:
            _convert(store, table.newer, column, column.newer)
    connection.execute(f"DROP TABLE {quote(name)}")
    connection.execute("PRAGMA legacy_alter_table=ON")  # views of other programs may name the table that is away just now
    connection.execute(f"ALTER TABLE {_NEW} RENAME TO {quote(name)}")
    connection.execute("PRAGMA legacy_alter_table=OFF")
    store.dialect.go_on_from(connection, name, highest)
    for what, sql in above:
        others.run(store, what, name, sql)


def _standing(table: TableLens) -> Table:
    """Return a table as it stands once its columns are renamed: those that are dropped are in it still."""
    columns = [column.newer if column.newer is not None and column.older is not None else column.older for column in table.columns]
    return replace(table.older, columns=tuple(column for column in columns if column is not None))


def _convert(store: Store, table: Table, change: ColumnLens, column: Column) -> None:
    update = f"UPDATE {_NEW} SET {quote(column.name)} = %s WHERE {ROW_ID} = ?"
    for rid, key, old, found, is_converted in converted(store, table, change, column, column.name):
        if isinstance(found, RawText):
            store.connection.execute(update % "CAST(? AS TEXT)", (found.raw, rid))
        else:
            store.connection.execute(update % "?", (found, rid))
        if not is_converted:
            note_unconverted(store, table, key, column.name, old)


def taken(store: Store) -> set[str]:
    """Return the names that tables and views have, in lower case."""
    return {str(name).lower() for (name,) in store.connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
