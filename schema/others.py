"""Others: views, triggers and columns that other programs have laid on our tables, carried through an upgrade.

    set_aside      what does not compile already goes out of the way, as it is: it would stop every ALTER
    ─► tables change (schema/upgrade.py): SQLite writes renamed columns into views and triggers, own columns are carried over
    ─► require_sound   what compiled before compiles still, or the upgrade is refused by name
    ─► put_back        what was set aside, word for word

SQLite looks into a view or a trigger only when it is used, so a broken one would show at the till, at every write. Runs inside
the caller's one transaction. Used by schema/install.py and schema/upgrade.py. Spec: PROTOCOL.md §11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from schema.capture import Store
from schema.declare import Table
from schema.dialects.base import ROW_ID, Connection
from schema.dialects.sqlite import quote
from sync.errors import CannotUpgrade

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|[(),]|[^'"`\[(),/-]+|.""", re.DOTALL)
_NAME = re.compile(r"""\s*("(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|'(?:[^']|'')*'|[^\s(),]+)""")
_IS_VIEW = "because it is a view"
"""In what SQLite says of a write that no trigger of a view takes: nothing is wrong with the triggers there are."""


def run(store: Store, what: str, table: str, sql: str) -> None:
    """Run a statement that something of another program's on a table may stand in the way of. `what`: it. Raises CannotUpgrade."""
    try:
        store.connection.execute(sql)
    except store.dialect.errors as error:
        if not store.dialect.is_in_words(error) and not store.dialect.is_refusal(error):
            raise
        raise CannotUpgrade(f"Another program's {what} on {table} does not fit its new columns: {error}. Drop it first.") from error


# --- columns --------------------------------------------------------------------------------------------------------


def own_columns(store: Store, table: Table) -> dict[str, bool]:
    """Return the columns of a table that are not declared, each with whether it holds values: generated ones do not."""
    declared = {ROW_ID, *(column.name.lower() for column in table.columns)}
    found = store.connection.execute(f"PRAGMA table_xinfo({quote(table.name)})").fetchall()
    return {str(row[1]): row[6] == 0 for row in found if row[1].lower() not in declared}


def add_columns(store: Store, table: Table, target: str) -> list[str]:
    """Give the table that is to take a table's place the columns that are not declared, as they were made. Returns those with values.

    Raises CannotUpgrade for one that cannot be added to a table.
    """
    own = own_columns(store, table)
    if own:
        sql = store.connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table.name,)).fetchone()[0]
        made = _definitions(sql)
        for name in own:
            if name not in made:
                raise CannotUpgrade(f"Another program's column {table.name}.{name} cannot be carried over into the new table.")
            run(store, f"column {name}", table.name, f"ALTER TABLE {quote(target)} ADD COLUMN {made[name]}")
    return [name for name, holds in own.items() if holds]


def _definitions(sql: str) -> dict[str, str]:
    """Return what a CREATE TABLE statement says between its commas, by the name it begins with; comments are left out."""
    parts, depth = [""], 0
    for token in _TOKEN.findall(sql):
        depth -= token == ")"
        if depth == 1 and token == ",":
            parts.append("")
        elif depth and not token.startswith(("--", "/*")):
            parts[-1] += token
        depth += token == "("
    return {_unquoted(found[1]): part for part in parts if (found := _NAME.match(part))}


def _unquoted(name: str) -> str:
    return name[1:-1].replace(name[-1] * 2, name[-1]) if name[0] in "\"'`[" else name


# --- views and triggers ---------------------------------------------------------------------------------------------


def set_aside(store: Store) -> list[str]:
    """Drop the views and triggers that do not compile as it is; return how to make them again, views first."""
    broken = {(kind, name) for kind, name, _ in list(_broken(store))}
    blind = {name.lower() for kind, name in broken if kind == "view"}
    sql = "SELECT type, name, lower(tbl_name), sql FROM sqlite_master WHERE type IN ('view', 'trigger') ORDER BY type DESC"
    found = [row for row in store.connection.execute(sql).fetchall() if (row[0], row[1]) in broken or row[2] in blind]
    for kind, name, *_ in reversed(found):
        store.connection.execute(f"DROP {kind} IF EXISTS {quote(name)}")
    return [row[3] for row in found]


def put_back(connection: Connection, statements: list[str]) -> None:
    """Make again what was set aside."""
    for sql in statements:
        connection.execute(sql)


def require_sound(store: Store) -> None:
    """Check that every view, and every trigger there is, compiles. Raises CannotUpgrade with the name of the first that does not."""
    for kind, name, error in _broken(store):
        raise CannotUpgrade(
            f"Another program's {kind} {name} does not fit the new columns: {error}. Drop it first, and make it anew afterwards."
        )


def _broken(store: Store) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, name, why) of the views, and of the triggers of tables and other views, that do not compile."""
    connection, blind = store.connection, set[str]()
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name").fetchall():
        why = store.dialect.flaw(connection, f"SELECT * FROM {quote(name)}")
        if why is not None:
            blind.add(name.lower())
            yield "view", name, why
    # a trigger's table is named there as its program wrote it
    rows = connection.execute("SELECT lower(tbl_name), name FROM sqlite_master WHERE type = 'trigger' ORDER BY 1, 2").fetchall()
    for table, group in groupby(rows, key=itemgetter(0)):
        names = [name for _, name in group]
        if table not in blind and _flaw(store, table) is not None:
            yield from (("trigger", name, why) for name in names if (why := _flaw_alone(store, table, name, names)) is not None)


def _flaw_alone(store: Store, table: str, name: str, names: list[str]) -> str | None:
    """Return why writes of a table do not compile with this one of its triggers."""
    store.connection.execute("SAVEPOINT alone")
    try:
        for other in names:
            if other != name:
                store.connection.execute(f"DROP TRIGGER {quote(other)}")
        return _flaw(store, table)
    finally:
        store.connection.execute("ROLLBACK TO alone")
        store.connection.execute("RELEASE alone")


def _flaw(store: Store, table: str) -> str | None:
    """Return why writes of a table or view do not compile with all triggers they set off: an update of all columns sets off every one."""
    name = quote(table)
    columns = [quote(row[1]) for row in store.connection.execute(f"PRAGMA table_info({name})").fetchall()]
    change = ", ".join(f"{column} = {column}" for column in columns)
    for sql in (f"INSERT INTO {name} DEFAULT VALUES", f"UPDATE {name} SET {change}", f"DELETE FROM {name}"):
        why = store.dialect.flaw(store.connection, sql)
        if why is not None and not why.endswith(_IS_VIEW):
            return why
    return None


def others_indexes(store: Store) -> list[str]:
    """Return the UNIQUE indexes of other programs on declared tables."""
    sql = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql LIKE 'CREATE UNIQUE%'"
    return [name for name, table in store.connection.execute(sql).fetchall() if table in store.schema.by_name]
