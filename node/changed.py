"""What one apply changed of the centre's rows: those a pull told, and our own that the cursor covers now.

Kept in temporary tables while the apply lasts, for the proof at its end (node/proof.py): keys of rows one by one, runs of row
numbers for new documents and events. Written by node/apply.py and node/settling.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from schema.capture import Store
from schema.declare import Table
from schema.keys import key_text

NO_SEGMENT = b""
"""Stands for rows that did not come as a whole segment."""


def begin(store: Store) -> None:
    """Nothing is changed yet."""
    connection = store.connection
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS _told_key (tbl TEXT NOT NULL, key TEXT NOT NULL, segment BLOB NOT NULL,"
        " PRIMARY KEY (tbl, key, segment)) WITHOUT ROWID"
    )
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS _told_run (tbl TEXT NOT NULL, lo INTEGER, hi INTEGER, segment BLOB NOT NULL)")
    connection.execute("DELETE FROM temp._told_key")
    connection.execute("DELETE FROM temp._told_run")


def is_nothing(store: Store) -> bool:
    """Tell whether nothing is changed."""
    sql = "SELECT EXISTS (SELECT 1 FROM temp._told_key) OR EXISTS (SELECT 1 FROM temp._told_run)"
    return not store.connection.execute(sql).fetchone()[0]


def told_keys(store: Store, table: Table, rows: Iterable[Sequence[Any]], segment: bytes = NO_SEGMENT) -> None:
    """Note rows (key first) that were told."""
    name, width = table.name, len(table.key)
    sql = "INSERT OR IGNORE INTO temp._told_key (tbl, key, segment) VALUES (?, ?, ?)"
    store.connection.executemany(sql, [(name, key_text(tuple(row[:width])), segment) for row in rows])


def told_run(store: Store, table: Table, before: int, count: int, segment: bytes) -> None:
    """Note so many new rows of a table, which follow the highest number that was given out before."""
    if count:
        sql = "INSERT INTO temp._told_run (tbl, lo, hi, segment) VALUES (?, ?, ?, ?)"
        store.connection.execute(sql, (table.name, before + 1, before + count, segment))


def settled_segment(store: Store, segment: bytes) -> None:
    """Note the documents and events of a segment of ours that the cursor covers now."""
    sql = "INSERT INTO temp._told_run (tbl, lo, hi, segment) SELECT tbl, lo, hi, segment FROM _own WHERE segment = ?"
    store.connection.execute(sql, (segment,))


def settled_rows(store: Store) -> None:
    """Note the rows whose changes were just folded into the centre's (node/settling.py)."""
    sql = "INSERT OR IGNORE INTO temp._told_key (tbl, key, segment) SELECT tbl, key, ? FROM temp._folded"
    store.connection.execute(sql, (NO_SEGMENT,))
