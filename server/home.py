"""Home: what lies in a server's folder, and which database it works on.

S/server.db        the database, unless `init --database` named another (then S/database.json says which)
S/nonces.db        single-use nonces; disposable
S/server.lock      held while `run` serves
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from schema.files import write_whole
from schema.registry import Schema
from server.database import Database, create
from sync.errors import BadValue, NotJoined, UsError

DATABASE: Final = "server.db"
ELSEWHERE: Final = "database.json"
NONCES: Final = "nonces.db"
LOCK: Final = "server.lock"
_LATER: Final = ("postgresql:", "postgres:", "postgresql+")
_SQLITE: Final = "sqlite:///"


class NotYet(UsError):
    """This database cannot be used yet."""

    code = "database.later"
    status = 501


def initialise(home: Path, url: str | None, schema: Schema) -> Path:
    """Create the server's database and return its path. Raises AlreadyThere, BadValue, NotYet."""
    path = home / DATABASE if url is None else path_of(url)
    home.mkdir(parents=True, exist_ok=True)
    if url is None:
        create(path, schema).close()
        return path
    note = home / ELSEWHERE
    earlier = note.read_text(encoding="utf-8") if note.exists() else None
    # noted first, so that an init that is cut is finished by the next: a database that no home names would be taken for another's
    write_whole(note, json.dumps({"path": str(path.resolve())}))
    try:
        create(path, schema).close()
    except BaseException:
        if earlier is None:
            note.unlink()
        else:
            write_whole(note, earlier)
        raise
    return path


def path_of(url: str) -> Path:
    """Return the file that a path or `sqlite:///path` names. Raises BadValue, NotYet."""
    if url.startswith(_LATER):
        raise NotYet("A PostgreSQL database comes later. Until then leave --database out, or name a file for SQLite.")
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return Path(url[len(_SQLITE) :])
    if not url or "://" in url:
        raise BadValue(f"'{url}' is no database: name a file, or sqlite:///path.")
    return Path(url)


def path(home: Path) -> Path:
    """Return where the server's database is."""
    try:
        found = json.loads((home / ELSEWHERE).read_text(encoding="utf-8"))
        return Path(found["path"])
    except FileNotFoundError:
        return home / DATABASE
    except (ValueError, KeyError, TypeError) as error:
        raise NotJoined(f"{home / ELSEWHERE} does not say where the database is.") from error


def open_database(home: Path, schema: Schema) -> Database:
    """Open the server's database. Raises NotJoined."""
    return Database(path(home), schema)
