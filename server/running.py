"""Running: serves a home from one process, or from several on one socket.

    outpost server run ─► the home's lock, the socket ─┬─► serve_home
                                                       └─► workers ─► serve_home in each

Used by `outpost server run`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

from schema.console import now_ms
from schema.registry import load
from server import home as home_of
from server import serve
from server.app import create_app
from server.console.pages import routes
from server.database import Database
from server.nonces import Nonces, SqliteNonces
from server.service import Service
from server.snapshot.making import Maker
from server.tending import Tending


def forget_nonces(home: Path) -> None:
    """Forget what nonces a server of this home gave out before; its workers then share the file."""
    SqliteNonces(home / home_of.NONCES).close()


def serve_home(listener: socket.socket, ready: Callable[[str], None], *, home: Path, life: bytes) -> None:
    """Serve the database of a home until SIGTERM or SIGINT; main thread only. Raises NotJoined, DatabaseAway."""
    with closing(home_of.open_database(home, load(), life=life)) as database, _nonces(home, database) as nonces:
        maker = Maker(database, now_ms)
        app = create_app(Service(database, maker), nonces, clock_ms=now_ms, extra_routes=routes(database, now_ms))
        try:
            with Tending(database, now_ms):
                serve.run(app, listener, ready=ready)
        finally:
            maker.stop()


def _nonces(home: Path, database: Database) -> AbstractContextManager[Nonces]:
    """Return the nonces of whoever serves this database."""
    if isinstance(database.path, Path):
        return closing(SqliteNonces(home / home_of.NONCES, forget=False))
    from server.shared_nonces import PostgresNonces  # its driver is an extra

    return closing(PostgresNonces(database.path))
