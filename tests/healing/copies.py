"""Copies of databases and what people do with them: put an old one back, run two at once. Nobody says anything to anybody."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import closing
from pathlib import Path

import node.database
import server.database
from schema.dialects.sqlite import Sqlite
from server import moving
from server.database import Place
from server.service import Service
from tests import databases
from tests.world import Link, Node, World

_numbers = itertools.count()


def copy_of(path: Place) -> Path:
    """Return a copy of a database as it is now."""
    if isinstance(path, str):
        return _moved(path)
    target = path.with_name(f"{path.name}.copy-{next(_numbers)}")
    Sqlite().backup(path, target, 10_000, lambda _done, _total: None)
    return target


def _moved(url: str) -> Path:
    """Return a file with what a PostgreSQL database holds."""
    target = Path(tempfile.mkdtemp()) / "copy.db"
    with closing(server.database.Database(url, databases.schema_of(url))) as database:
        Service(database).absorb(0)
        with database.reading() as store:
            moving.copy_into(store, target, database.schema)
    return target


def replace_file(path: Path, copy: Path) -> None:
    """Put a copy in a database's place."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(copy.read_bytes())


def put_back_centre(world: World, copy: Path) -> None:
    """Replace the centre's database by a copy."""
    world.database.close()
    world.database = server.database.Database(replace_centre(world, copy), world.schema)
    world.service = Service(world.database)


def replace_centre(world: World, copy: Path) -> Place:
    """Put a copy, as a program with the world's tables opens it, in the place of the centre's database that is closed."""
    if isinstance(world.database.path, Path):
        replace_file(world.database.path, copy)
        return world.database.path
    databases.drop(world.database.path)
    url = databases.empty(world.schema)
    with closing(server.database.Database(copy, world.schema)) as database, database.reading() as store:
        moving.copy_into(store, url, database.schema)
    return url


def put_back_node(world: World, entry: Node, copy: Path) -> None:
    """Replace a node's database by a copy."""
    path, clock = entry.database.path, entry.database.clock_ms
    entry.database.close()
    replace_file(path, copy)
    entry.database = node.database.Database(path, world.schema, clock)


def clone(world: World, entry: Node, name: str) -> Node:
    """Return a second replica of a node, made by copying its disk."""
    path = world.folder / f"{name}.db"
    path.write_bytes(copy_of(entry.database.path).read_bytes())
    database = node.database.Database(path, world.schema, entry.database.clock_ms)
    made = Node(name, database, Link(world, entry.link.identity), entry.skew)
    world.nodes[name] = made
    return made
