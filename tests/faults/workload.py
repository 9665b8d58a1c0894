"""What is written while faults happen, and what the writer acknowledges: sales with all that belongs to them, and edits.

    writer process ─► one commit ─► one line on its standard output, flushed: from now on it must never be lost

Every key says who wrote it and every amount follows from the key, so a checker needs no memory of what was written.
`write` is our own code's way (node/writer.py); `foreign_write` is a program that knows SQLite and nothing of ours.
"""

from __future__ import annotations

import random
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from node.database import Database
from node.writer import transaction
from schema.registry import load
from tests.faults.warmed import outpost

BRANCH = "LON"
SHARED = "contact-shared"
Statement = tuple[str, tuple[Any, ...]]


def amount_of(key: str) -> int:
    """Return the amount in minor units of the line, payment or stock move of this key."""
    return 100 + zlib.crc32(key.encode()) % 9_900


def total_of(sale: str) -> int:
    """Return a sale's total: its two lines."""
    return amount_of(f"{sale}/1") + amount_of(f"{sale}/2")


def sale(key: str) -> list[Statement]:
    """Return the statements of one sale: two lines, a payment, goods out of stock."""
    lines = [f"{key}/1", f"{key}/2"]
    return [
        (
            "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, ?, 'sale', ?, 1, 'GBP', ?)",
            (key, key, BRANCH, total_of(key)),
        ),
        *(
            (
                "INSERT INTO sale_line (id, sale_id, qty_milli, unit_price_e4, amount_minor) VALUES (?, ?, 1000, 0, ?)",
                (line, key, amount_of(line)),
            )
            for line in lines
        ),
        ("INSERT INTO payment (id, sale_id, method, amount_minor) VALUES (?, ?, 'cash', ?)", (f"{key}/p", key, total_of(key))),
        (
            "INSERT INTO stock_move (id, product_id, branch_id, qty_milli, reason, sale_id, moved_ms)"
            " VALUES (?, 'tea', ?, ?, 'sale', ?, 1)",
            (f"{key}/m", BRANCH, -amount_of(key), key),
        ),
    ]


def contact(key: str) -> list[Statement]:
    """Return the statement that makes a contact, if it is not there."""
    return [("INSERT OR IGNORE INTO contact (id, kind, name, branch_id) VALUES (?, 'person', ?, ?)", (key, key, BRANCH))]


def own_contact(name: str) -> str:
    """Return the key of the contact that only this node edits."""
    return f"contact-{name}"


def steps(name: str, first: int, count: int, seed: int) -> Iterator[tuple[str, list[Statement]]]:
    """Yield (what to acknowledge, statements) of each transaction: sales, edits of an own contact, edits of everyone's."""
    chance = random.Random(f"{seed} {name} {first}")
    for number in range(first, first + count):
        kind = chance.random()
        if kind < 0.7:
            key = f"{name}-{number:07}"
            yield f"sale {key}", sale(key)
        elif kind < 0.85:
            key = own_contact(name)
            yield f"{name} own {number}", [*contact(key), ("UPDATE contact SET phone = ? WHERE id = ?", (f"{number:07}", key))]
        else:
            yield f"{name} shared {number}", [*contact(SHARED), ("UPDATE contact SET phone = ? WHERE id = ?", (f"{name} {number}", SHARED))]


def write(home: Path, name: str, first: int, count: int, seed: int, rate: float = 0.0) -> None:
    """Write transactions through our own writer; `rate` a second, 0: as fast as it goes."""
    with closing(Database(home / "node.db", load(), _now_ms)) as database:

        def commit(statements: list[Statement]) -> None:
            with transaction(database) as tx:
                for sql, values in statements:
                    tx.connection.execute(sql, values)

        _paced(commit, steps(name, first, count, seed), rate)


def foreign_write(home: Path, name: str, first: int, count: int, seed: int, rate: float = 0.0) -> None:
    """Write transactions as a foreign program does; in a process that never opens a database otherwise."""
    with closing(sqlite3.connect(home / "node.db", isolation_level=None, timeout=30)) as connection:

        def commit(statements: list[Statement]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            for sql, values in statements:
                connection.execute(sql, values)
            connection.execute("COMMIT")

        _paced(commit, steps(name, first, count, seed), rate)


def exchange(home: Path, pause_seconds: float, seed: int) -> None:
    """Sync again and again, until killed, with pauses drawn around `pause_seconds`: what a node's agent does."""
    chance = random.Random(f"{seed} {home.name}")
    while True:
        outpost(["node", "--home", str(home), "sync", "--json"])
        time.sleep(chance.uniform(0.5, 1.5) * pause_seconds)


def _paced(commit: Callable[[list[Statement]], None], work: Iterator[tuple[str, list[Statement]]], rate: float) -> None:
    due = time.monotonic()
    for acknowledgement, statements in work:
        commit(statements)
        print(acknowledgement, flush=True)
        if rate:
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
