"""Upgrade: declared tables of an older version, made those of this one in place, with the rows that are in them.

    what was written before is sealed (node) or journaled (centre) under the old declaration ─► triggers go
    ─► columns added and renamed; tables whose columns changed their type, or lost one, built anew ─► triggers come back

Runs inside the caller's one transaction: all of it or nothing. Row numbers stay, so marks and what is on its way stay
valid. A value that does not convert is kept as it is and noted in `_unconverted`. Driven by schema/install.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schema import altering, others, rebuilding
from schema.capture import Store
from schema.declare import Table
from schema.dialects.base import Connection, Dialect
from schema.dialects.sqlite import quote
from schema.lens import Lens, TableLens
from sync.errors import Altered, CannotUpgrade


class Way(Protocol):
    """How a database's tables are changed in place: schema/rebuilding.py, schema/altering.py."""

    def drop_capture(self, connection: Connection) -> None:
        """Drop the engine's triggers: another release writes others under the same names."""

    def drop_indexes(self, connection: Connection, table: str) -> None:
        """Drop the engine's indexes of a table: they are made anew under the names of its columns."""

    def rebuild(self, store: Store, table: TableLens) -> None:
        """Give a table the columns it has now, whose names are right already. Raises CannotUpgrade."""

    def taken(self, store: Store) -> set[str]:
        """Return the names that tables and views have, in lower case."""

    def own_columns(self, store: Store, table: Table) -> dict[str, bool]:
        """Return the columns of a table that are not declared, each with whether it holds values."""

    def set_aside(self, store: Store) -> list[str]:
        """Drop other programs' views and triggers that do not compile as it is; return how to make them again."""

    def put_back(self, connection: Connection, statements: list[str]) -> None:
        """Make again what was set aside."""

    def require_sound(self, store: Store) -> None:
        """Check that every view and trigger compiles. Raises CannotUpgrade."""


def way_of(dialect: Dialect) -> Way:
    """Return how tables of a database are changed."""
    return altering if dialect.is_typed else rebuilding


def require_free(store: Store, lens: Lens) -> None:
    """Check that no other program has a table or column of a name that is new in `lens.newer`. Raises CannotUpgrade."""
    way = way_of(store.dialect)
    there = way.taken(store)
    for table in lens.newer.tables:
        if table.name not in store.numbers and table.name.lower() in there:
            raise CannotUpgrade(
                f"{table.name} is a new table of this version, and another program has a table or view of that name here. Give that"
                f" another name first: ALTER TABLE {quote(table.name)} RENAME TO …, or drop the view."
            )
    for name, of in lens.tables.items():
        before = {column.name.lower() for column in of.older.columns}
        own = {column.lower(): column for column in way.own_columns(store, of.older)}
        for column in of.newer.columns:
            if column.name.lower() in own.keys() - before:
                raise CannotUpgrade(
                    f"{name}.{column.name} is a new column of this version, and another program has a column of that name there. Give"
                    f" that another name first: ALTER TABLE {quote(name)} RENAME COLUMN {quote(own[column.name.lower()])} TO …"
                )


def upgrade_tables(store: Store, lens: Lens) -> None:
    """Make the tables of `lens.older` those of `lens.newer`. Raises CannotUpgrade. `store` has the newer schema."""
    way = way_of(store.dialect)
    for table in lens.tables.values():
        if not table.is_plain or table.older.indexes != table.newer.indexes:
            way.drop_indexes(store.connection, table.older.name)
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
            way.rebuild(store, table)


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


def require_columns(store: Store, is_declared: bool) -> list[Table]:
    """Check that the columns are those of the declaration. `is_declared`: it is the one that the file was written with.

    Returns the tables that were here, and that another program has dropped. Raises Altered; CannotUpgrade where the declaration was
    changed without a new version.
    """
    gone = list[Table]()
    for table in store.schema.tables:
        found = store.dialect.columns_of(store.connection, table.name)
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


def require_rules(store: Store, older: Sequence[Table]) -> None:
    """Check that kinds, keys and scopes are those the tables were made with. Raises CannotUpgrade."""
    known: dict[str, str | None] = dict(store.connection.execute("SELECT name, rules FROM _table").fetchall())
    for table in older:
        if known.get(table.name) not in (None, rules(table)):
            raise CannotUpgrade(f"The kind, the key or the scope of {table.name} changed. Declare another table; this one stays as it is.")


def rules(table: Table) -> str:
    """Return what of a table cannot be changed in place."""
    return repr((str(table.kind), table.key, sorted(map(repr, table.scope))))
