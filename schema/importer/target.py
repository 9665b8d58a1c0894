"""ImportTarget: what an import needs of the database it writes to. The node and the server each have one."""

from collections.abc import Sequence
from typing import Any, Protocol


class Connection(Protocol):
    """The part of a DB-API connection that is used, with `?` for values (sqlcipher3, sqlite3)."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Any:
        """Run one statement and return its cursor."""

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> Any:
        """Run one statement for many rows."""


class ImportTarget(Protocol):
    """Where rows go. All calls come from the thread that called run_import.

    The order of calls is (begin (insert… announce)… commit)…: several sync transactions share one database
    transaction. A dry run only reads through `connection` and calls none of the methods. After an exception `rollback`
    is called if a transaction is open; what was committed before stays, and the same import again brings the rest.
    """

    @property
    def is_typed(self) -> bool:
        """Tell whether a column keeps values of its own type alone."""

    @property
    def connection(self) -> Connection:
        """The connection on which rows are read and, between begin and commit, inserted."""

    def begin(self) -> None:
        """Open a write transaction."""

    def announce(self) -> None:
        """End one sync transaction: everything inserted since the last announce (or begin) is one."""

    def commit(self) -> None:
        """Make the open transaction durable. Everything in it was announced."""

    def rollback(self) -> None:
        """Forget the open transaction."""
