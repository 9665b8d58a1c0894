"""Inserting on one machine: plain SQLite, and a program that knows nothing of us into a captured node database.

Both in one transaction, by the same driver with the engine's own settings, so that the ratio is the cost of capture.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from bench.workload import CONTACT, SALE, Row
from schema.dialects.sqlite import Sqlite, quote
from schema.registry import load


def plain(path: Path, rows: Sequence[Row]) -> float:
    """Return the seconds that the rows take in an ordinary table with the same columns."""
    sale = load(()).by_name["sale"]
    kinds = {"text": "TEXT", "integer": "INTEGER", "real": "REAL", "blob": "BLOB"}
    columns = [f"{quote(column.name)} {kinds[column.type]}{'' if column.nullable else ' NOT NULL'}" for column in sale.columns]
    connection = Sqlite().open(path)
    connection.execute(f"CREATE TABLE sale (rid INTEGER PRIMARY KEY, {', '.join(columns)}, UNIQUE (id))")
    connection.close()
    return foreign_insert(path, "sale", SALE, rows)


def foreign_insert(path: Path, table: str, columns: Sequence[str], rows: Sequence[Row]) -> float:
    """Insert rows by plain SQL in one transaction, as any program would; return the seconds."""
    connection = Sqlite().open(path)
    sql = f"INSERT INTO {quote(table)} ({', '.join(map(quote, columns))}) VALUES ({', '.join('?' * len(columns))})"
    start = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(sql, rows)
    connection.commit()
    seconds = time.perf_counter() - start
    connection.close()
    return seconds


def insert_sales(path: Path, rows: Sequence[Row]) -> float:
    """Insert receipts into a node's database; return the seconds."""
    return foreign_insert(path, "sale", SALE, rows)


def insert_contacts(path: Path, rows: Sequence[Row]) -> float:
    """Insert contacts into a node's or the server's database; return the seconds."""
    return foreign_insert(path, "contact", CONTACT, rows)


def change_phones(path: Path, ids: Sequence[str], phone: str) -> None:
    """Change one column of contacts, each by its id, in one transaction."""
    connection = Sqlite().open(path)
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("UPDATE contact SET phone = ? WHERE id = ?", [(f"{phone}{number}", key) for number, key in enumerate(ids)])
    connection.commit()
    connection.close()
