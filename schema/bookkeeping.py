"""Which release's tables a database has, and which declaration's: read first of all when it is opened.

    file older than the program ─► migrations (schema/migrations/), tables altered (schema/upgrade.py), one transaction
    file newer than the program ─► refused: an older program would leave out what it does not know

Used by schema/install.py. Spec: PROTOCOL.md §11; docs/decisions/0010-versions-of-the-declaration.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import Literal

import schema.migrations
from schema.dialects.base import Connection, Dialect
from schema.dialects.sqlite import quote
from schema.registry import Schema
from sync.errors import CannotUpgrade, NewerFile, OtherTables, Overtaken

DDL = (
    "CREATE TABLE IF NOT EXISTS _bookkeeping (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, schema INTEGER NOT NULL,"
    " digest TEXT NOT NULL)"
)

Added = tuple[str, str, str]
"""A table, a column of it, and its declaration."""


@dataclass(frozen=True, slots=True)
class Bookkeeping:
    """Whose bookkeeping it is, and the DDL of its tables as this release has them."""

    side: Literal["node", "server"]
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """What a database says it was written by: version of the bookkeeping, version and digest of the declaration."""

    version: int
    schema: int
    digest: str


@cache
def migrations() -> tuple[tuple[int, tuple[Added, ...], tuple[Added, ...]], ...]:
    """Return (number, columns of nodes, columns of servers) of every file in schema/migrations/, oldest first."""
    names = sorted(info.name for info in pkgutil.iter_modules(schema.migrations.__path__))
    modules = [importlib.import_module(f"schema.migrations.{name}") for name in names]
    numbers = [int(name.partition("_")[0][1:]) for name in names]
    return tuple((number, module.NODE, module.SERVER) for number, module in zip(numbers, modules, strict=True))


def version() -> int:
    """Return the version of the bookkeeping that this program writes."""
    return migrations()[-1][0]


def read(connection: Connection, dialect: Dialect) -> Written | None:
    """Return what a database was written by; None if there is nothing in it yet."""
    tables = dialect.tables_there(connection)
    if "_bookkeeping" in tables:
        row = connection.execute("SELECT version, schema, digest FROM _bookkeeping WHERE id = 1").fetchone()
        if row is not None:
            return Written(*row)
    return Written(0, 1, "") if "_state" in tables else None


def require_known(written: Written, schema: Schema) -> None:
    """Refuse a file from the future. Raises NewerFile."""
    if written.version > version():
        raise NewerFile(f"This database was written by a newer Outpost (bookkeeping {written.version}, here {version()}).")
    if written.schema > schema.version:
        raise NewerFile(f"This database was written with version {written.schema} of the tables; here are those of {schema.version}.")


def require_readable(connection: Connection, dialect: Dialect, schema: Schema) -> None:
    """Refuse a database from the future, or with tables that are not declared, as it lies there. Raises NewerFile, OtherTables."""
    written = read(connection, dialect)
    if written is not None:
        require_known(written, schema)
        require_declared(connection, dialect, schema)


def require_declared(connection: Connection, dialect: Dialect, schema: Schema) -> None:
    """Refuse a file with a table that this program does not declare: an upgrade would leave it behind. Raises OtherTables.

    No table leaves a declaration (docs/decisions/0010). One that another program has dropped is gone, and stops nobody.
    """
    there = dialect.tables_there(connection)
    names = [str(name) for (name,) in connection.execute("SELECT name FROM _table ORDER BY name").fetchall()]
    others = [name for name in names if name in there and name not in schema.by_name]
    if others:
        raise OtherTables(
            f"This database holds tables that this program does not declare: {', '.join(others)}. Is OUTPOST_TABLES set as it was?"
        )


def require_mine(connection: Connection, schema: Schema) -> None:
    """Refuse to go on in a database that another program has opened with another declaration meanwhile. Raises Overtaken."""
    written, declared, digest = connection.execute("SELECT version, schema, digest FROM _bookkeeping WHERE id = 1").fetchone()
    if (written, declared) != (version(), schema.version):
        raise Overtaken("A newer Outpost has brought this database up to date while this program was running.")
    if digest != schema.digest:
        raise Overtaken("Another program has opened this database with other tables while this one was running.")


def migrate(connection: Connection, dialect: Dialect, side: Bookkeeping, written: Written) -> None:
    """Add the columns that releases since then have added, inside the caller's transaction."""
    for number, node, server in migrations():
        for table, column, declared in node if side.side == "node" else server:
            if number > written.version and not _has(connection, dialect, table, column):
                connection.execute(f"ALTER TABLE {quote(table)} ADD COLUMN {quote(column)} {declared}")


def require_complete(connection: Connection, dialect: Dialect, own: Bookkeeping) -> None:
    """Refuse a file whose own tables lack a column after all migrations: one of a development version. Raises CannotUpgrade."""
    for statement in (*dialect.bookkeeping(), *own.tables):
        table, _, columns = statement.removeprefix("CREATE TABLE IF NOT EXISTS ").partition(" (")
        if not statement.startswith("CREATE TABLE"):
            continue
        plain = columns.replace(" AUTOINCREMENT", "")  # a sqlite_sequence among temporary tables would hide the file's own
        connection.execute(f"CREATE TEMP TABLE _wanted_columns ({plain}")
        names = list(dialect.columns_of(connection, "_wanted_columns"))
        connection.execute("DROP TABLE _wanted_columns")
        for name in names:
            if not _has(connection, dialect, table, name):
                raise CannotUpgrade(f"This database was written by a version that was never released: its {table} has no {name}.")


def _has(connection: Connection, dialect: Dialect, table: str, column: str) -> bool:
    """Tell whether a column is there, or its table is not: then it will be made with it."""
    names = dialect.columns_of(connection, table)
    return not names or column in names


def note(connection: Connection, schema: Schema) -> None:
    """Note what the database is written by from here on."""
    connection.execute(
        "INSERT INTO _bookkeeping (id, version, schema, digest) VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " version = excluded.version, schema = excluded.schema, digest = excluded.digest",
        (version(), schema.version, schema.digest),
    )
