"""Work that waits on the node itself: a value in it, or a row, is longer than any message, so the centre has never seen it.

It is held like work the centre holds: visible, marked, kept, and it stops nothing. When something else is sealed it is looked at
again, as the rows are by then; once the value is short enough, the transaction is sent as if it had just been written.
Spec: PROTOCOL.md P-5.19. Driven by node/sealing.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from node import pending
from node.aside import REPLACED
from node.verdicts import WAITING
from schema.capture import Change, Row, Store, clean_row, read_rows, same
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.images import unpack_tuple
from schema.keys import key_parts, key_text, where_key
from sync.change import Insert, Op, Update

LONG, LARGE = "long", "large"
"""Why work waits here: a value, or a row, is longer than any segment takes, or there are more rows than one transaction may have."""


def keep(store: Store, name: bytes, number: int, op: Op, image: Sequence[Any] | None) -> None:
    """Keep one change of a transaction that cannot travel, over what the centre has of the row."""
    pending.shadow(store, store.schema.by_name[op.table], op.key, image)
    pending.keep(store, number, name, 0, op)


def mark(store: Store, name: bytes, code: str, reason: str, now_ms: int) -> None:
    """Note why a transaction waits here. Only what is too long (`LONG`) is looked at again."""
    store.connection.execute(
        "INSERT INTO _txn (segment, txn, verdict, version, code, reason, at_ms) VALUES (?, 0, 'held', ?, ?, ?, ?)",
        (name, WAITING, code, reason, now_ms),
    )


def name_of_work_on(store: Store, changes: Sequence[Change]) -> bytes | None:
    """Return the name of work that waits here for something to be shortened, and wrote one of these rows already; the oldest."""
    sql = (
        "SELECT o.segment FROM _op o JOIN _txn x ON x.segment = o.segment AND x.txn = o.txn"
        " WHERE o.tbl = ? AND o.key = ? AND x.code = ? AND x.version = ? AND x.verdict = 'held' ORDER BY o.n, o.id LIMIT 1"
    )
    for change in changes:
        row = store.connection.execute(sql, (change.table.name, key_text(change.key), LONG, WAITING)).fetchone()
        if row is not None:
            return bytes(row[0])
    return None


def counted(store: Store) -> int:
    """Return how many transactions wait here, and nowhere else."""
    sql = "SELECT COUNT(*) FROM _txn WHERE version = ? AND verdict = 'held'"
    return int(store.connection.execute(sql, (WAITING,)).fetchone()[0])


def waiting(store: Store) -> Iterator[tuple[bytes, list[Change]]]:
    """Yield what waits here, as the rows are now: its name and its changes against what else is known of each row."""
    sql = "SELECT segment FROM _txn WHERE code = ? AND version = ? AND verdict = 'held' ORDER BY at_ms, segment"
    for (name,) in store.connection.execute(sql, (LONG, WAITING)).fetchall():
        rows = rows_of(store, name)
        here = [(table, key) for table, key in rows if not _is_out_of_sight(store, name, table, key)]
        if here:
            changes = [_change(store, name, table, key) for table, key in here]
            yield name, [change for change in changes if change is not None]


def rows_of(store: Store, name: bytes) -> list[tuple[Table, Row]]:
    """Return the rows of a transaction that waits here."""
    sql = "SELECT tbl, key FROM _op WHERE segment = ? GROUP BY tbl, key ORDER BY MIN(id)"
    found = [(store.schema.by_name[tbl], key) for tbl, key in store.connection.execute(sql, (name,)).fetchall()]
    return [(table, key_parts(key, len(table.key))) for table, key in found]


def forget(store: Store, name: bytes) -> None:
    """Take a transaction off the list: what its rows are now is sealed next, and what it was is kept as any work that a correction
    has replaced: a row may have gone meanwhile, or come anew.
    """
    rows = rows_of(store, name)
    store.connection.execute(
        "INSERT INTO _quarantine (n, segment, txn, tbl, key, kind, body, code, reason, at_ms)"
        " SELECT o.n, o.segment, o.txn, o.tbl, o.key, o.kind, o.body, ?, x.reason, x.at_ms FROM _op o JOIN _txn x ON x.segment = o.segment"
        " WHERE o.segment = ? ORDER BY o.n, o.id",
        (REPLACED, name),
    )
    store.connection.execute("DELETE FROM _op WHERE segment = ?", (name,))
    store.connection.execute("DELETE FROM _txn WHERE segment = ?", (name,))
    for table, key in rows:
        if not pending.of_row(store, table, key):
            store.connection.execute("DELETE FROM _shadow WHERE tbl = ? AND key = ?", (table.name, key_text(key)))


def _is_out_of_sight(store: Store, name: bytes, table: Table, key: Row) -> bool:
    """Tell whether a row that was changed is gone, by another's hand: the change stays here, where it can be seen."""
    kinds = {type(entry.op) for entry in pending.of_row(store, table, key) if entry.segment == name}
    return Update in kinds and Insert not in kinds and _row(store, table, key) is None and _before(store, name, table, key) is None


def _change(store: Store, name: bytes, table: Table, key: Row) -> Change | None:
    row = _row(store, table, key)
    before = _before(store, name, table, key)
    inserted = any(entry.segment == name and isinstance(entry.op, Insert) for entry in pending.of_row(store, table, key))
    if row is None:
        if before is not None:
            return Change(table, "delete", key, 0, None, dict(zip(table.names, before, strict=True)))
        return Change(table, "delete", key, 0, None) if inserted else None  # what hangs under it at the centre need not wait for it
    if before is None or inserted:  # also if somebody else took the key meanwhile: the centre decides, with what we knew
        return Change(table, "insert", key, row[-1], row[:-1])
    changed = {n for n, one, other in zip(table.names, before, row[:-1], strict=True) if not same(one, other)}
    cells = tuple(cell.name for cell in table.cells if not changed.isdisjoint(cell.columns))
    old = {n: before[table.position[n]] for cell in cells for n in table.cell_named[cell].columns}
    return Change(table, "update", key, row[-1], row[:-1], old, cells) if cells else None


def _row(store: Store, table: Table, key: Row) -> Row | None:
    where, parameters = where_key(table, key)
    sql = f"SELECT {', '.join(map(quote, table.names))}, {ROW_ID} FROM {quote(table.name)} WHERE {where}"
    rows = read_rows(store, sql, parameters)
    return clean_row(rows[0]) if rows else None


def _before(store: Store, name: bytes, table: Table, key: Row) -> Row | None:
    """Return the row as the centre has it, under our own changes but for those that wait here."""
    found = store.connection.execute("SELECT image FROM _shadow WHERE tbl = ? AND key = ?", (table.name, key_text(key))).fetchone()
    image = unpack_tuple(found[0]) if found else None
    for entry in pending.standing(pending.of_row(store, table, key)):
        if entry.segment != name:
            image = pending.fold(table, image, entry.op)
    return image
