"""Inserting and changing on one machine: plain SQLite, and a program that knows nothing of us in a captured database.

Both by the same driver with the engine's own settings, so that the ratio is the cost of capture.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from bench.workload import CONTACT, SALE, Row
from schema.dialects.sqlite import Sqlite, quote
from schema.registry import load

KINDS = {"text": "TEXT", "integer": "INTEGER", "real": "REAL", "blob": "BLOB"}


def make_plain(path: Path, table: str) -> None:
    """Make a database with an ordinary table: the columns of a declared one, and its key."""
    columns = load(()).by_name[table].columns
    lines = [f"{quote(column.name)} {KINDS[column.type]}{'' if column.nullable else ' NOT NULL'}" for column in columns]
    connection = Sqlite().open(path)
    connection.execute(f"CREATE TABLE {quote(table)} (rid INTEGER PRIMARY KEY, {', '.join(lines)}, UNIQUE (id))")
    connection.close()


def plain(path: Path, rows: Sequence[Row], commit_rows: int | None = None) -> float:
    """Return the seconds that receipts take in a new ordinary table."""
    make_plain(path, "sale")
    return insert_sales(path, rows, commit_rows)


def foreign_insert(path: Path, table: str, columns: Sequence[str], rows: Sequence[Row], commit_rows: int | None = None) -> float:
    """Insert rows by plain SQL, as any program would, in one transaction or in several of so many rows; return the seconds."""
    connection = Sqlite().open(path)
    sql = f"INSERT INTO {quote(table)} ({', '.join(map(quote, columns))}) VALUES ({', '.join('?' * len(columns))})"
    size = commit_rows or len(rows)
    portions = [rows[low : low + size] for low in range(0, len(rows), size)]
    start = time.perf_counter()
    for portion in portions:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(sql, portion)
        connection.commit()
    seconds = time.perf_counter() - start
    connection.close()
    return seconds


def insert_sales(path: Path, rows: Sequence[Row], commit_rows: int | None = None) -> float:
    """Insert receipts into a node's or a plain database; return the seconds."""
    return foreign_insert(path, "sale", SALE, rows, commit_rows)


def insert_contacts(path: Path, rows: Sequence[Row]) -> float:
    """Insert contacts into a node's, the server's or a plain database; return the seconds."""
    return foreign_insert(path, "contact", CONTACT, rows)


def change_phones(path: Path, ids: Sequence[str], phone: str) -> float:
    """Change one column of contacts, each by its id, in one transaction; return the seconds."""
    connection = Sqlite().open(path)
    values = [(f"{phone}{number}", key) for number, key in enumerate(ids)]
    start = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("UPDATE contact SET phone = ? WHERE id = ?", values)
    connection.commit()
    seconds = time.perf_counter() - start
    connection.close()
    return seconds
