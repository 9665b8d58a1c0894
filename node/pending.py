"""Pending work on rows: changes the cursor does not cover yet, replayed over what the centre sends (rebase).

    view of a row = replay(shadow: the centre's row, ops: our pending changes in our own order)

Rows without pending changes need nothing here: what the centre sends is what people see. Spec: PROTOCOL.md §8.4;
RULES H1, H8, H10, H17, H19.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from schema.capture import Store, clean_row, read_among, read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.images import pack_tuple, pack_values, unpack_tuple, unpack_values
from schema.kept import DELETE, INSERT
from schema.kept import pack as pack  # what others keep, they keep in the form read here
from schema.keys import bound, key_parts, key_text, where_key
from sync.change import NEVER, Delete, Edit, Insert, Op, Update
from sync.merge import replay
from sync.policy import policies


@dataclass(frozen=True, slots=True)
class Pending:
    """One pending change of one row, as kept in `_op`."""

    id: int
    number: int  # the transaction's own sequence number
    segment: bytes
    txn: int
    op: Op


def keep(store: Store, number: int, segment: bytes, txn: int, op: Op) -> None:
    """Keep a change that may have to be replayed."""
    keep_many(store, segment, [(number, txn, op)])


def keep_many(store: Store, segment: bytes, changes: Iterable[tuple[int, int, Op]]) -> None:
    """Keep changes of a segment that may have to be replayed, each with its own number and the index of its transaction."""
    store.connection.executemany(
        "INSERT INTO _op (n, segment, txn, tbl, key, kind, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(number, segment, txn, op.table, key_text(op.key), *pack(op)) for number, txn, op in changes],
    )


def is_kept(store: Store, segment: bytes, txn: int, op: Op) -> bool:
    """Tell whether a transaction's change of a row is kept already."""
    sql = "SELECT 1 FROM _op WHERE segment = ? AND txn = ? AND tbl = ? AND key = ?"
    return store.connection.execute(sql, (segment, txn, op.table, key_text(op.key))).fetchone() is not None


def unpack(table: str, kind: str, body: bytes) -> Op:
    """Return a kept change."""
    parts = unpack_values(body)
    key = tuple(parts[-1])
    if kind == INSERT:
        return Insert(table, key, parts[0], parts[1], parts[2])
    if kind == DELETE:
        return Delete(table, key, parts[0], parts[1])
    return Update(table, key, [Edit(e[0], tuple(e[1]), tuple(e[2]), tuple(e[3]), e[4], e[5], e[6]) for e in parts[0]])


def of_row(store: Store, table: Table, key: Sequence[Any]) -> list[Pending]:
    """Return the pending changes of a row, in our own order."""
    sql = "SELECT id, n, segment, txn, kind, body FROM _op WHERE tbl = ? AND key = ? ORDER BY n, id"
    rows = store.connection.execute(sql, (table.name, key_text(tuple(key)))).fetchall()
    return [Pending(row[0], row[1], row[2], row[3], unpack(table.name, row[4], row[5])) for row in rows]


def worked_on(store: Store, table: str, keys: Collection[str]) -> set[str]:
    """Return those of some rows of a table, by the text of their keys, that have pending changes."""
    return {key for (key,) in read_among(store, "SELECT DISTINCT key FROM _op WHERE tbl = ? AND key", (table,), keys)}


# --- what a change knows (RULES H8, H10) --------------------------------------------------------------------------------


def knowledge(pending: Sequence[Pending], cell: str | None, cursor: int, number: int) -> tuple[int, int]:
    """Return (base, since) of a change to a cell, or of a deletion of the row (cell None).

    base is the oldest cursor any own uncovered change of it rests on, since the oldest such change; what lies before the
    row's last own insert is another life.
    """
    base, since = cursor, number
    life = max((index for index, entry in enumerate(pending) if isinstance(entry.op, Insert)), default=0)
    for entry in pending[life:]:
        for low, first in _bases(entry, cell):
            base, since = min(base, low), min(since, first)
    return base, since


def _bases(entry: Pending, cell: str | None) -> list[tuple[int, int]]:
    match entry.op:
        case Update():
            return [(edit.base, edit.since) for edit in entry.op.edits if cell is None or edit.cell == cell]
        case Insert():
            return [(entry.op.base, entry.number if entry.op.since == NEVER else entry.op.since)]
        case Delete():
            return [(entry.op.base, entry.op.since)]


def knowledge_of_insert(pending: Sequence[Pending]) -> tuple[int, int]:
    """Return (base, since) of an insert: it builds on nothing, or on an own pending deletion."""
    if pending and isinstance(pending[-1].op, Delete):
        return pending[-1].op.base, pending[-1].op.since
    return NEVER, NEVER


def lower(op: Op, floor: int) -> bool:
    """Let a change have seen no more than `floor` (RULES H14); tell whether it had claimed more."""
    parts: Sequence[Insert | Delete | Edit] = [op] if isinstance(op, Insert | Delete) else op.edits
    high = [part for part in parts if part.base > floor]
    for part in high:
        part.base = floor
    return bool(high)


# --- the centre's row -----------------------------------------------------------------------------------------------------


def shadow(store: Store, table: Table, key: Sequence[Any], image: Sequence[Any] | None) -> None:
    """Keep the centre's row under pending changes, unless it is kept already."""
    shadow_many(store, [(table.name, tuple(key), image)])


def shadow_many(store: Store, rows: Iterable[tuple[str, tuple[Any, ...], Sequence[Any] | None]]) -> None:
    """Keep the centre's rows under pending changes, unless they are kept already: the table, key and image of each."""
    store.connection.executemany(
        "INSERT OR IGNORE INTO _shadow (tbl, key, image) VALUES (?, ?, ?)",
        [(table, key_text(key), pack_tuple(image)) for table, key, image in rows],
    )


def set_shadow(store: Store, table: str, key: str, image: Sequence[Any] | None) -> None:
    """Replace the centre's row under pending changes."""
    packed = None if image is None else pack_values(image)
    store.connection.execute("UPDATE _shadow SET image = ? WHERE tbl = ? AND key = ?", (packed, table, key))


def shadowed(store: Store, table: str) -> set[str]:
    """Return the keys of a table's rows that have pending changes."""
    return {row[0] for row in store.connection.execute("SELECT key FROM _shadow WHERE tbl = ?", (table,))}


def fold(table: Table, image: tuple[Any, ...] | None, op: Op) -> tuple[Any, ...] | None:
    """Return a row after one more change; None stands for no row. An update of no row does nothing."""
    match op:
        case Delete():
            return None
        case Insert():
            base = image or tuple(_default(table, name) for name in table.names)
            return tuple(op.values.get(name, value) for name, value in zip(table.names, base, strict=True))
        case Update():
            if image is None:
                return None
            values = dict(zip(table.names, image, strict=True))
            for edit in op.edits:
                standing = tuple(values[name] for name in edit.columns)
                policy = policies()[table.cell_named[edit.cell].policy]
                values.update(zip(edit.columns, replay(policy, edit.old, edit.new, standing), strict=True))
            return tuple(values[name] for name in table.names)


def _default(table: Table, name: str) -> Any:
    return table.columns[table.position[name]].default


def redraw(store: Store, table: Table, key_as_text: str) -> None:
    """Make the row people see what the centre's row and our pending changes make of it; forget what is settled."""
    row = store.connection.execute("SELECT image FROM _shadow WHERE tbl = ? AND key = ?", (table.name, key_as_text)).fetchone()
    if row is None:
        return
    key = key_parts(key_as_text, len(table.key))
    image = unpack_tuple(row[0])
    changes = of_row(store, table, key)
    for entry in standing(changes):
        image = fold(table, image, entry.op)
    if image is None:
        delete_row(store, table, key)
    else:
        put_row(store, table, image)
    if not changes:
        store.connection.execute("DELETE FROM _shadow WHERE tbl = ? AND key = ?", (table.name, key_as_text))


def standing(changes: Sequence[Pending]) -> list[Pending]:
    """Return the changes of a row that count. What held work brought and its correction took back is nothing between the two: a row
    that lies there is somebody else's, and what comes after is a change of that.
    """
    nothing: set[int] = set()
    for name in {(entry.segment, entry.txn) for entry in changes}:
        run: list[int] = []
        for entry in (each for each in changes if (each.segment, each.txn) == name):
            if isinstance(entry.op, Insert) and entry.op.base == NEVER:
                run = [entry.id]
            elif run:
                run.append(entry.id)
            if run and isinstance(entry.op, Delete):
                nothing.update(run)
                run = []
    return [entry for entry in changes if entry.id not in nothing]


# --- rows people see ------------------------------------------------------------------------------------------------------


def delete_row(store: Store, table: Table, key: Sequence[Any]) -> None:
    """Delete a row by key."""
    where, parameters = where_key(table, key)
    store.connection.execute(f"DELETE FROM {quote(table.name)} WHERE {where}", parameters)


def upsert_sql(table: Table, marks: Sequence[str] | None = None) -> str:
    """Return SQL that inserts a row or, where its key is there, sets all its other columns."""
    names = ", ".join(map(quote, table.names))
    values = ", ".join(marks or ["?"] * len(table.names))
    action = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in table.values)
    conflict = f"DO UPDATE SET {action}" if action else "DO NOTHING"
    return f"INSERT INTO {quote(table.name)} ({names}) VALUES ({values}) ON CONFLICT ({', '.join(map(quote, table.key))}) {conflict}"


def put_row(store: Store, table: Table, row: Sequence[Any]) -> None:
    """Write one row as it is; a raw text keeps its bytes."""
    marks, given = bound(row)
    store.connection.execute(upsert_sql(table, marks), given)


def put_rows(store: Store, table: Table, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows, none of which has pending changes."""
    store.connection.executemany(upsert_sql(table), rows)


def seen(store: Store, table: Table, key: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return the row people see, or None."""
    where, parameters = where_key(table, key)
    rows = read_rows(store, f"SELECT {', '.join(map(quote, table.names))} FROM {quote(table.name)} WHERE {where}", parameters)
    return clean_row(rows[0]) if rows else None


def number_of_row(store: Store, table: Table, key: Sequence[Any]) -> int | None:
    """Return the number of the row people see, or None."""
    where, parameters = where_key(table, key)
    row = store.connection.execute(f"SELECT {ROW_ID} FROM {quote(table.name)} WHERE {where}", parameters).fetchone()
    return int(row[0]) if row else None


def has_own(store: Store, table: str) -> bool:
    """Tell whether any document or event of a table is ours and not covered by the cursor yet."""
    return store.connection.execute("SELECT 1 FROM _own WHERE tbl = ? LIMIT 1", (table,)).fetchone() is not None


def is_own(store: Store, table: str, rid: int) -> bool:
    """Tell whether a document or event is ours and not covered by the cursor yet."""
    sql = "SELECT hi FROM _own WHERE tbl = ? AND lo <= ? ORDER BY lo DESC LIMIT 1"
    row = store.connection.execute(sql, (table, rid)).fetchone()
    return row is not None and row[0] >= rid
