"""Opening the node's database for one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from node.database import Database
from node.joining import DATABASE
from schema.console import Terminal, now_ms
from schema.registry import load


@contextmanager
def opened(terminal: Terminal) -> Iterator[Database]:
    """Open the node's database while the block runs. Raises NotJoined."""
    with closing(Database(terminal.home / DATABASE, load(), now_ms)) as database:
        yield database
