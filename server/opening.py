"""Opening the server's database for one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from schema.console import Terminal
from schema.registry import load
from server import home as home_of
from server.database import Database


@contextmanager
def opened(terminal: Terminal) -> Iterator[Database]:
    """Open the server's database while the block runs. Raises NotJoined."""
    with closing(home_of.open_database(terminal.home, load())) as database:
        yield database
