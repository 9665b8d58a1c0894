"""Opening the server's database for one command, or to serve it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from schema.console import Terminal
from schema.lock import exclusive
from schema.registry import load
from server import home as home_of
from server.database import Database, raise_if_away_from

BUSY = "A server is running on this home already."


@contextmanager
def opened(terminal: Terminal) -> Iterator[Database]:
    """Open the server's database while the block runs. Raises NotJoined, DatabaseAway."""
    with closing(home_of.open_database(terminal.home, load())) as database:
        try:
            yield database
        except database.dialect.errors as error:
            raise_if_away_from(database.path, database.dialect, error)
            raise


@contextmanager
def alone(terminal: Terminal) -> Iterator[None]:
    """Have the home to ourselves to serve it, its database brought up to date. Raises NotJoined; HomeBusy where a server runs on it.

    The lock comes first: opening brings a file up to date, and under a server that runs it would be upgraded away.
    """
    home_of.require_there(terminal.home)
    with exclusive(terminal.home / home_of.LOCK, BUSY):
        with opened(terminal):
            pass
        yield
