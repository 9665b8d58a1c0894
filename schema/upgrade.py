"""Upgrade: declared tables of an older version, made those of this one in place, with the rows that are in them.

    what was written before is sealed (node) or journaled (centre) under the old declaration ─► triggers go
    ─► columns added and renamed; tables whose columns changed their type, or lost one, built anew ─► triggers come back

Runs inside the caller's one transaction: all of it or nothing. Row numbers stay, so marks and what is on its way stay
valid. A value that does not convert is kept as it is and noted in `_unconverted`. Driven by schema/install.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from schema import others
from schema.capture import Store, clean_row, read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID, Connection
from schema.dialects.sqlite import quote
from schema.images import pack_values
from schema.keys import key_text
from schema.lens import ColumnLens, Lens, TableLens
from schema.past import Column, ColumnType
from sync.errors import Altered, CannotUpgrade
from sync.values import RawText

CHUNK_ROWS = 5_000
_NEW = "_upgrading"
_PYTHON: dict[ColumnType, type] = {"text": str, "integer": int, "real": float, "blob": bytes}


def drop_capture(connection: Connection) -> None:
    """Drop the engine's triggers: another release writes others under the same names."""
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE '\\_t%' ESCAPE '\\'").fetchall():
        connection.execute(f"DROP TRIGGER {quote(name)}")


def upgrade_tables(store: Store, lens: Lens) -> None:
    """Make the tables of `lens.older` those of `lens.newer`. Raises CannotUpgrade. `store` has the newer schema."""
    for table in lens.tables.values():
        if not table.is_plain or table.older.indexes != table.newer.indexes:
            drop_indexes(store.connection, table.older.name)
        if table.is_plain:
            continue
        kept = all(column.newer is not None and not column.changes for column in table.columns if column.older is not None)
        same_null = all(
            column.older.nullable == column.newer.nullable
            for column in table.columns
            if column.older is not None and column.newer is not None
        )
        _rename(store, table)
        if kept and same_null:
            _add(store, table)
        else:
            _rebuild(store, table)


def drop_indexes(connection: Connection, table: str) -> None:
    """Drop the engine's indexes of a table: they are made anew under the names of its columns."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND name LIKE '\\_%' ESCAPE '\\'"
    for (name,) in connection.execute(sql, (table,)).fetchall():
        connection.execute(f"DROP INDEX {quote(name)}")


def _rename(store: Store, table: TableLens) -> None:
    """Rename columns, in other programs' views and triggers too: that touches no row. Raises CannotUpgrade."""
    name = quote(table.newer.name)
    for column in table.columns:
        if column.older is not None and column.newer is not None and column.older.name != column.newer.name:
            old, new = quote(column.older.name), quote(column.newer.name)
            others.run(store, "view or trigger", table.newer.name, f"ALTER TABLE {name} RENAME COLUMN {old} TO {new}")


def _add(store: Store, table: TableLens) -> None:
    """Add columns: that touches no row."""
    for column in table.columns:
        if column.older is None and column.newer is not None:
            store.connection.execute(f"ALTER TABLE {quote(table.newer.name)} ADD COLUMN {store.dialect.column(column.newer)}")


def _rebuild(store: Store, table: TableLens) -> None:
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
    width = len(table.key)
    names = ", ".join(map(quote, [*table.key, column.name]))
    sql = f"SELECT {names}, {ROW_ID} FROM {quote(table.name)} WHERE {ROW_ID} > ? ORDER BY {ROW_ID} LIMIT ?"
    update = f"UPDATE {_NEW} SET {quote(column.name)} = %s WHERE {ROW_ID} = ?"
    wanted, last = _PYTHON[column.type], -(1 << 62)
    while rows := read_rows(store, sql, (last, CHUNK_ROWS)):
        last = rows[-1][-1]
        for row in map(clean_row, rows):
            value = row[width]
            found = change.up(value)
            if isinstance(found, RawText):
                store.connection.execute(update % "CAST(? AS TEXT)", (found.raw, row[-1]))
            else:
                store.connection.execute(update % "?", (found, row[-1]))
            if found is not None and type(found) is not wanted:
                note_unconverted(store, table, row[:width], column.name, value)


def note_unconverted(store: Store, table: Table, key: Sequence[Any], column: str, value: Any) -> None:
    """Keep a value that does not convert exactly as it was, where it can be found: SQLite may read it as a number."""
    store.connection.execute(
        "INSERT OR REPLACE INTO _unconverted (tbl, key, col, schema, value) VALUES (?, ?, ?, ?, ?)",
        (table.name, key_text(tuple(key)), column, store.schema.version, pack_values([value])),
    )


def require_columns(store: Store, is_declared: bool) -> list[Table]:
    """Check that the columns are those of the declaration. `is_declared`: it is the one that the file was written with.

    Returns the tables that were here, and that another program has dropped. Raises Altered; CannotUpgrade where the declaration was
    changed without a new version.
    """
    gone = list[Table]()
    for table in store.schema.tables:
        found = {row[1]: row[2] for row in store.connection.execute(f"PRAGMA table_info({quote(table.name)})").fetchall()}
        if not found:
            gone += [table] if table.name in store.numbers else []
            continue
        for column in table.columns:
            declared = store.dialect.type_name(column)
            if found.get(column.name) != declared:
                there = "is not there" if column.name not in found else f"is {found[column.name]}, not {declared}"
                if is_declared:
                    raise Altered(f"Another program has altered the table {table.name} of this database: {column.name} {there}.")
                raise CannotUpgrade(
                    f"This database cannot be opened: {table.name}.{column.name} {there}. The declaration of {table.name} changed without a"
                    " new version; say beside the column what changed, and in which version (schema/past.py)."
                )
    return gone


def others_indexes(store: Store) -> list[str]:
    """Return the UNIQUE indexes of other programs on declared tables."""
    sql = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql LIKE 'CREATE UNIQUE%'"
    return [name for name, table in store.connection.execute(sql).fetchall() if table in store.schema.by_name]


def require_rules(store: Store, older: Sequence[Table]) -> None:
    """Check that kinds, keys and scopes are those the tables were made with. Raises CannotUpgrade."""
    known: dict[str, str | None] = dict(store.connection.execute("SELECT name, rules FROM _table").fetchall())
    for table in older:
        if known.get(table.name) not in (None, rules(table)):
            raise CannotUpgrade(f"The kind, the key or the scope of {table.name} changed. Declare another table; this one stays as it is.")


def rules(table: Table) -> str:
    """Return what of a table cannot be changed in place."""
    return repr((str(table.kind), table.key, sorted(map(repr, table.scope))))
