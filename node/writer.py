"""Writing from our own code: transactions whose borders we announce, receipt numbers, import.

    with transaction(database) as tx:
        tx.insert("sale", {...}); tx.insert("sale_line", {...})

What other programs wrote before is sealed first, what is written here is sealed before the commit, as exactly one
transaction (or as many as `announce` ends). So a commit leaves nothing half captured. Spec: PROTOCOL.md §5.1.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from node import outbox
from node.database import Database
from node.outbox import Boundary, boundary
from node.series import next_number
from schema.capture import Store
from schema.dialects.base import ROW_ID, Connection
from schema.dialects.sqlite import FORCED, quote
from schema.keys import where_key
from sync.change import Withdrawn
from sync.ids import uuid7


class Transaction:
    """An open write transaction of ours."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database, self._store = database, store
        self._boundaries: list[Boundary] = []
        self._decisions: list[bytes] = []
        self._withdrawals: list[Withdrawn] = []

    @property
    def connection(self) -> Connection:
        """Return the connection, for plain SQL within the transaction."""
        return self._store.connection

    def new_id(self) -> str:
        """Return a new UUIDv7."""
        return uuid7(self._database.clock_ms(), secrets.token_bytes(10))

    def insert(self, table: str, values: Mapping[str, Any]) -> None:
        """Insert a row."""
        names = ", ".join(map(quote, values))
        self.connection.execute(f"INSERT INTO {quote(table)} ({names}) VALUES ({', '.join('?' * len(values))})", list(values.values()))

    def update(self, table: str, key: Sequence[Any], values: Mapping[str, Any], *, force: bool = False) -> bool:
        """Set columns of a row; `force` records the write even where the value stays (a decision). False: no such row."""
        declared = self._store.schema.by_name[table]
        where, parameters = where_key(declared, key)
        row = self.connection.execute(f"SELECT {ROW_ID} FROM {quote(table)} WHERE {where}", parameters).fetchone()
        if row is None:
            return False
        if values:  # a table may have nothing but its key: then the row is as it is decided to be
            sets = ", ".join(f"{quote(name)} = ?" for name in values)
            self.connection.execute(f"UPDATE {quote(table)} SET {sets} WHERE {ROW_ID} = ?", [*values.values(), row[0]])
        if force:
            wall, number = self._database.clock_ms(), self._store.numbers[table]
            self.connection.executemany(
                "INSERT INTO _log (t, rid, c, wall, old) VALUES (?, ?, ?, ?, ?)",
                [(number, row[0], FORCED, wall, declared.position[name]) for name in values],
            )
        return True

    def decide(self, conflict: bytes) -> None:
        """Note that this transaction settles a conflict."""
        self._decisions.append(conflict)

    def withdraw(self, segment: bytes, index: int) -> None:
        """Note that this transaction takes back held work: it counts only as long as that is held."""
        self._withdrawals.append(Withdrawn(segment, index, replaced=False))

    def receipt_number(self, branch: str, till: str) -> str:
        """Return the next number of a till, `<branch>-<till>-<seq>`: in the sale's own transaction, never given twice (node/series.py)."""
        return next_number(self._store, branch, till)

    def announce(self) -> None:
        """End one transaction as the centre will see it; the next begins."""
        self._boundaries.append(boundary(self._store, tuple(self._decisions), tuple(self._withdrawals)))
        self._decisions, self._withdrawals = [], []

    def seal(self) -> None:
        """Seal what was written, before the commit."""
        self.announce()
        outbox.seal(self._store, self._database.clock_ms(), self._boundaries)


@contextmanager
def transaction(database: Database) -> Iterator[Transaction]:
    """Open a write transaction of ours; it commits at the end of the block, durably, or leaves nothing."""
    with database.writing() as store:
        outbox.seal(store, database.clock_ms())
        writing = Transaction(database, store)
        yield writing
        writing.seal()


class ImportTarget:
    """Where `outpost node import` writes (schema/importer/target.py)."""

    is_typed = False

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: Any = None
        self._writing: Transaction | None = None

    @property
    def connection(self) -> Connection:
        """Return the connection rows are read and inserted on."""
        return self._database.connection

    def begin(self) -> None:
        """Open a write transaction."""
        self._open = transaction(self._database)
        self._writing = self._open.__enter__()

    def announce(self) -> None:
        """End one transaction as the centre will see it."""
        assert self._writing is not None
        self._writing.announce()

    def commit(self) -> None:
        """Seal and commit."""
        self._open.__exit__(None, None, None)

    def rollback(self) -> None:
        """Forget the open transaction."""
        error = RuntimeError("rolled back")
        try:
            self._open.__exit__(RuntimeError, error, None)
        except RuntimeError as raised:
            if raised is not error:
                raise
