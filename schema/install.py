"""Creating the declared tables, their capture and the engine's bookkeeping in a database, node's or server's alike.

Runs in one transaction and may run again at any time: what is there stays, what is older is brought up to date, what is
newer is refused (schema/bookkeeping.py, schema/upgrade.py). Table numbers are given once per database and
kept in `_table`, so that a table that is declared later does not shift the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schema import bookkeeping
from schema.bookkeeping import Bookkeeping, Written
from schema.capture import Store
from schema.declare import Table
from schema.dialects.base import Connection, Dialect
from schema.lens import Lens
from schema.registry import Schema
from schema.upgrade import require_columns, require_free, require_rules, rules, upgrade_tables, way_of
from schema.views import VIEWS, fitting


class Keeper(Protocol):
    """What a node and the centre do with their own bookkeeping when the declaration moves on, in the same transaction."""

    def before(self, store: Store) -> None:
        """Take what was written under the declaration before (`store.schema`)."""

    def gone(self, store: Store, tables: Sequence[Table]) -> None:
        """Do what can be done about tables that another program has dropped, or refuse to open the file."""

    def after(self, store: Store, lens: Lens) -> None:
        """Bring what is kept of rows and changes up to the declaration now (`store.schema`)."""

    def redeclared(self, store: Store) -> None:
        """Look again at what waited for another declaration: this is one, of the version before (a table more, say)."""


def install(
    connection: Connection, dialect: Dialect, schema: Schema, own: Bookkeeping, keeper: Keeper | None = None, *, begun: bool = False
) -> None:
    """Create everything that is missing and bring an older file up to date: all of it or nothing.

    `own` is the bookkeeping of a node or of a server; `begun`: inside the caller's write transaction. Raises NewerFile, OtherTables,
    CannotUpgrade.
    """
    if begun:
        _install(connection, dialect, schema, own, keeper)
        return
    dialect.prepare(connection)
    dialect.begin_write(connection)
    try:
        tables = _to_be_changed(connection, dialect, schema)
        if tables:  # begun again, so that nothing is read before the programs at work on them have ended
            connection.rollback()
            dialect.begin_alone(connection, tables)
        _install(connection, dialect, schema, own, keeper)
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _install(connection: Connection, dialect: Dialect, schema: Schema, own: Bookkeeping, keeper: Keeper | None) -> None:
    written = bookkeeping.read(connection, dialect)
    if written is not None:
        bookkeeping.require_known(written, schema)
        bookkeeping.require_declared(connection, dialect, schema)
        bookkeeping.migrate(connection, dialect, own, written)
        if written.version < bookkeeping.version():
            bookkeeping.require_complete(connection, dialect, own)
    now = Written(bookkeeping.version(), schema.version, schema.digest)
    if written == now and dialect.is_complete(connection, schema.tables, {view.name for view in fitting(schema)}):
        return
    for statement in (bookkeeping.DDL, *dialect.bookkeeping(), *own.tables):
        connection.execute(statement)
    if written is None or not _bring_up(connection, dialect, schema, written, keeper):
        _create(connection, dialect, schema)
        if written is not None and written.digest != schema.digest and keeper is not None:
            keeper.redeclared(Store(connection, dialect, schema, known_numbers(connection)))
    bookkeeping.note(connection, schema)


def _to_be_changed(connection: Connection, dialect: Dialect, schema: Schema) -> list[str]:
    """Return the declared tables that are there, if this program brings them up to date."""
    written = bookkeeping.read(connection, dialect)
    if written is None or (written.version, written.schema) == (bookkeeping.version(), schema.version):
        return []
    bookkeeping.require_known(written, schema)  # before anybody has to wait for us
    return sorted(dialect.tables_there(connection) & known_numbers(connection).keys())


def _bring_up(connection: Connection, dialect: Dialect, schema: Schema, written: Written, keeper: Keeper | None) -> bool:
    """Bring the tables of an older file up to the declaration; tell whether all that was missing is created with that."""
    older = schema.centre_at(written.schema) if schema.is_centre else schema.at(written.schema)
    before = Store(connection, dialect, older, known_numbers(connection))
    gone = require_columns(before, older.digest == written.digest)
    require_rules(before, older.tables)
    if gone and keeper is not None:
        keeper.gone(before, gone)
    lens, newer, way = Lens(older, schema), written.schema < schema.version, way_of(dialect)
    if written.digest != schema.digest:
        require_free(before, lens)
    if newer and keeper is not None:
        keeper.before(before)
    if newer or written.version < bookkeeping.version():
        way.drop_capture(connection)
    if newer:
        for view in VIEWS:
            connection.execute(f"DROP VIEW IF EXISTS {view.name}")
        aside = way.set_aside(before)
        after = Store(connection, dialect, schema, number_tables(connection, schema))
        upgrade_tables(after, lens)
        _create(connection, dialect, schema)
        way.require_sound(after)
        if keeper is not None:
            keeper.after(after, lens)
        way.put_back(connection, aside)
    return newer


def _create(connection: Connection, dialect: Dialect, schema: Schema) -> None:
    """Create the tables, triggers and views that are missing."""
    for statement in dialect.tables(schema.tables):
        connection.execute(statement)
    numbers = number_tables(connection, schema)
    connection.executemany("UPDATE _table SET rules = ? WHERE name = ?", [(rules(table), table.name) for table in schema.tables])
    for table in schema.tables:
        for statement in dialect.capture(table, numbers[table.name]):
            connection.execute(statement)
    there = dialect.views_there(connection)  # one of another program's keeps its name
    for view in fitting(schema):
        if view.name not in there:
            connection.execute(f"CREATE VIEW {view.name} AS {view.query}")


def known_numbers(connection: Connection) -> dict[str, int]:
    """Return the number of each table that has one."""
    return {str(name): int(t) for t, name in connection.execute("SELECT t, name FROM _table").fetchall()}


def number_tables(connection: Connection, schema: Schema) -> dict[str, int]:
    """Return each table's number in this database, giving numbers to new ones."""
    known = known_numbers(connection)
    new = [table.name for table in schema.tables if table.name not in known]
    connection.executemany("INSERT INTO _table (name) VALUES (?) ON CONFLICT DO NOTHING", [(name,) for name in new])
    connection.execute("INSERT INTO _mark (t, rid) SELECT t, 0 FROM _table WHERE t NOT IN (SELECT t FROM _mark)")
    return known_numbers(connection) if new else known
