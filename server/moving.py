"""Moving: a centre's whole database, as it is in one snapshot, copied into a new one of either kind.

    PostgreSQL ─► a SQLite file: its backup, which any other database of ours can be restored from
    SQLite     ─► PostgreSQL: the centre outgrows one file

Both have the same tables, so rows go over as they are, some at a time, and every number with them: versions, rows, nodes. What is not
copied is what each database counts for itself (marks, sequences), which is set from the rows, and the log of capture, which must be
empty: central writes are journaled first. A value that PostgreSQL cannot hold (SQLite lets other programs write anything
anywhere) is named, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

from schema.capture import Look, Store
from schema.conversion import PYTHON
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.install import install
from schema.keys import cell_json
from schema.registry import Schema
from server.database import BOOKKEEPING, Place, dialect_of
from sync.errors import BadValue
from sync.values import is_clean

CHUNK_ROWS = 2_000
NAMED_MAX = 20
"""Values that cannot be moved, of which so many are named."""

_OWN = ("_bookkeeping", "_log", "_mark", "_state", "_table")
"""Tables that each database has for itself."""

Progress = Callable[[int, int], None]
Row = tuple[Any, ...]


def copy_into(source: Store, target: Place, schema: Schema, progress: Progress | None = None) -> int:
    """Copy what a snapshot of a centre's database holds into a new database, and return the rows. Raises BadValue; then the
    target is as empty as it was.

    `target`: a file that is not there, or a PostgreSQL database without tables. progress gets (done, of how many).
    """
    _require_absorbed(source)
    dialect = dialect_of(target)
    with closing(dialect.open(target)) as connection:
        dialect.prepare(connection)
        dialect.begin_write(connection)
        try:
            there = next(sql for sql in dialect.bookkeeping() if "IF NOT EXISTS _table " in sql)
            connection.execute(there)
            numbers = source.connection.execute("SELECT t, name, rules FROM _table ORDER BY t").fetchall()
            connection.executemany("INSERT INTO _table (t, name, rules) VALUES (?, ?, ?)", numbers)
            install(connection, dialect, schema, BOOKKEEPING, begun=True)
            into = Store(connection, dialect, schema, {name: t for t, name, _ in numbers})
            done = _copy(source, into, progress or (lambda _done, _total: None))
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
    return done


def _require_absorbed(source: Store) -> None:
    if Look(source):
        raise BadValue("A program has just written to the central tables. Nothing was copied; try again.")


def _copy(source: Store, into: Store, progress: Progress) -> int:
    into.dialect.set_applying(into.connection, True)
    names = [*_bookkeeping_tables(source), *(table.name for table in source.schema.tables)]
    total = sum(source.connection.execute(f"SELECT COUNT(*) FROM {quote(name)}").fetchone()[0] for name in names)
    done = 0
    for name in names:
        for count in _copy_table(source, into, name):
            done += count
            progress(done, total)
    into.dialect.go_on_after_copy(into.connection, into.numbers)
    into.dialect.set_applying(into.connection, False)
    return done


def _bookkeeping_tables(store: Store) -> list[str]:
    declared = {table.name for table in store.schema.tables}
    own = {statement.removeprefix("CREATE TABLE IF NOT EXISTS ").partition(" ")[0] for statement in BOOKKEEPING.tables}
    wanted = (own | {"_unconverted"}) - set(_OWN) - declared
    return sorted(wanted & store.dialect.tables_there(store.connection))


def _copy_table(source: Store, into: Store, name: str) -> Iterator[int]:
    there = into.dialect.columns_of(into.connection, name)
    columns = [column for column in source.dialect.columns_of(source.connection, name) if column in there]
    table = source.schema.by_name.get(name)
    sql = f"SELECT {', '.join(map(quote, columns))} FROM {quote(name)} ORDER BY {ROW_ID if table else ', '.join(_order(columns))}"
    marks = ", ".join("?" * len(columns))
    insert = f"INSERT INTO {quote(name)} ({', '.join(map(quote, columns))}) VALUES ({marks})"
    rows = iter(source.dialect.stream(source.connection, sql))
    while chunk := list(islice(rows, CHUNK_ROWS)):
        if table is not None and into.dialect.is_typed and not source.dialect.is_typed:
            _require_typed(table, columns, chunk)
        into.connection.executemany(insert, chunk)
        yield len(chunk)


def _order(columns: Sequence[str]) -> list[str]:
    """Return the order in which rows of bookkeeping go: that of their numbers, where they have some."""
    return [quote(columns[0])]


def _require_typed(table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Refuse what PostgreSQL cannot hold. Raises BadValue."""
    bad = list[str]()
    for row in rows:
        values = dict(zip(columns, row, strict=True))
        key = cell_json([values[name] for name in table.key])
        for column in table.columns:
            value = values.get(column.name)
            kind = PYTHON[column.type]
            if value is not None and (type(value) is not kind or (isinstance(value, str) and not is_clean(value))):
                bad.append(f"{table.name} {key}: {column.name} holds {value!r}"[:200])
    if bad:
        more = f" (and {len(bad) - NAMED_MAX} more near it)" if len(bad) > NAMED_MAX else ""
        raise BadValue(
            "Some values are of another type than their column, which PostgreSQL cannot hold. Nothing was moved. Correct them in the"
            f" central tables, then try again: {'; '.join(bad[:NAMED_MAX])}{more}"
        )
