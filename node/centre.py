"""The centre's rows as this node knows them: rows people see, less its own uncovered work, plus the centre's rows under it.

    visible rows, but for hidden ones ─┐
    shadows: the centre's rows         ├─► parts, read in the order of keys (schema/digests.py) ─► digests, rows
    under our pending changes         ─┘

Used by verify, repair and the proof at the end of a sync. Spec: PROTOCOL.md §9.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from node import outbox
from node.database import Database, State
from node.pending import number_of_row
from schema import window
from schema.capture import Look, Store, read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.digests import Part, chunks, marks_of
from schema.images import unpack_values
from schema.keys import key_parts, key_text, where_key
from sync.messages import Page, Rows
from sync.rows import columns_of

KEY = "_key"
"""The column that holds the key as one text, in rows under pending work."""

_TRIES = 8
"""Times to look for a moment at which nobody has just written; then writers wait."""


@contextmanager
def at_rest(database: Database) -> Iterator[Store]:
    """Run a block on a snapshot in which everything anybody wrote is sealed. Writers do not wait for it."""
    for _ in range(_TRIES):
        if database.has_changes():
            with database.writing() as store:
                outbox.seal(store, database.clock_ms())
        with database.reading() as store:
            if not Look(store):
                yield store
                return
    with database.writing() as store:
        outbox.seal(store, database.clock_ms())
        yield store


def parts(store: Store, table: Table) -> list[Part]:
    """Return where the centre's rows of a table are, valid until something is written."""
    connection = store.connection
    hidden, under = f"_hidden.{table.name}", f"_under.{table.name}"
    columns = ", ".join(quote(name) for name in table.names)
    connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {quote(hidden)} (rid INTEGER PRIMARY KEY)")
    connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {quote(under)} ({columns}, {KEY} TEXT, PRIMARY KEY ({_key(table)}))")
    connection.execute(f"DELETE FROM temp.{quote(hidden)}")
    connection.execute(f"DELETE FROM temp.{quote(under)}")
    found = connection.execute("SELECT key, image FROM _shadow WHERE tbl = ?", (table.name,)).fetchall()
    for key, image in found:
        rid = number_of_row(store, table, key_parts(key, len(table.key)))
        if rid is not None:
            connection.execute(f"INSERT OR IGNORE INTO temp.{quote(hidden)} (rid) VALUES (?)", (rid,))
        if image is not None:
            marks, values = marks_of(unpack_values(image))
            connection.execute(f"INSERT INTO temp.{quote(under)} ({columns}, {KEY}) VALUES ({marks}, ?)", [*values, key])
    (edge,) = connection.execute("SELECT edge FROM _node WHERE id = 1").fetchone()
    inside = window.condition(store.schema, table.name, "r", edge)
    conditions, parameters = [inside], list[Any]()
    if connection.execute("SELECT 1 FROM _own WHERE tbl = ? LIMIT 1", (table.name,)).fetchone():
        own = f"SELECT hi FROM _own WHERE tbl = ? AND lo <= r.{ROW_ID} ORDER BY lo DESC LIMIT 1"
        conditions.append(f"COALESCE(({own}), -1) < r.{ROW_ID}")
        parameters.append(table.name)
    if found:
        conditions.append(f"r.{ROW_ID} NOT IN (SELECT rid FROM temp.{quote(hidden)})")
    visible = Part(quote(table.name), " AND ".join(conditions), tuple(parameters))
    return [visible, Part(f"temp.{quote(under)}", inside)] if found else [visible]


def pages(store: Store, state: State) -> Iterator[Page]:
    """Yield the centre's rows as this node has them at its cursor, as pages of a pull would bring them; parents first."""
    for table in sorted(store.schema.tables, key=lambda table: store.schema.rank[table.name]):
        for found in chunks(store, table, parts(store, table)):
            yield page(store, state, table, found)


def page(store: Store, state: State, table: Table, found: Sequence[Sequence[Any]]) -> Page:
    """Return rows of the centre's, as this node has them at its cursor, as a page of a pull would bring them."""
    empty: tuple[()] = ()
    return Page(
        epoch=state.epoch,
        incarnation=state.incarnation,
        since=0,
        head=state.cursor.number,
        to=state.cursor,
        chain=state.acked,
        position=None,
        rows=(Rows(table.name, table.names, len(found), columns_of(found, len(table.names))),),
        sealed=empty,
        removals=empty,
        deaths=empty,
        conflicts=empty,
        segments=empty,
        verdicts=empty,
        points=empty,
        covered=0,
        proof=None,
        schema=store.schema.version,
        life=state.incarnation,  # nobody knows any more in how many lives of the centre they were read
    )


def _key(table: Table) -> str:
    return ", ".join(map(quote, table.key))


def row_of(store: Store, table: Table, key: Sequence[Any], where: Sequence[Part]) -> tuple[Any, ...] | None:
    """Return the centre's row with a key, as this node knows it; a text that is not UTF-8 with surrogate escapes."""
    condition, values = where_key(table, key)
    columns = ", ".join(f"r.{quote(name)}" for name in table.names)
    for part in where:
        sql = f"SELECT {columns} FROM {part.source} r WHERE {condition} AND ({part.where})"
        rows = read_rows(store, sql, [*values, *part.parameters])
        if rows:
            return tuple(rows[0])
    return None


def is_shadowed(store: Store, table: Table, key: Sequence[Any]) -> bool:
    """Tell whether pending work of ours stands over a row."""
    sql = "SELECT 1 FROM _shadow WHERE tbl = ? AND key = ?"
    return store.connection.execute(sql, (table.name, key_text(tuple(key)))).fetchone() is not None
