"""Home: what lies in a server's folder, and which database it works on.

S/server.db        the database, unless `init --database` named another (then S/database.json says which; its password, if the URL has
                   one, is in there, for its owner's eyes only)
S/server.db.revoked, beside the database wherever that is: which nodes were revoked (server/revoked.py)
S/nonces.db        single-use nonces; disposable. On PostgreSQL they are in the database: several machines may serve it
S/server.lock      held while `run` serves
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schema.files import write_whole
from schema.registry import Schema
from server import database
from server.database import Database, Place, create, named
from sync.errors import AlreadyThere, BadValue, NotJoined

DATABASE: Final = "server.db"
ELSEWHERE: Final = "database.json"
NONCES: Final = "nonces.db"
LOCK: Final = "server.lock"
_POSTGRES: Final = ("postgresql://", "postgres://")
_SQLITE: Final = "sqlite:///"
_ALMOST: Final = ("postgresql:", "postgres:", "sqlite:")


@dataclass(frozen=True, slots=True)
class _Note:
    """Where a home's database is that lies elsewhere, and whether its `init` came to its end."""

    place: Place
    is_finished: bool

    def keep(self, home: Path) -> None:
        """Write it down, durably."""
        kind = "path" if isinstance(self.place, Path) else "url"
        write_whole(home / ELSEWHERE, json.dumps({kind: str(self.place), "finished": self.is_finished}))


def initialise(home: Path, url: str | None, schema: Schema, *, existing: bool = False) -> Place:
    """Create the server's database, or finish one whose `init` was cut, and return where it is; with `existing` take one that is there.

    Raises AlreadyThere, BadValue, DatabaseAway; NotJoined where this home's database lies elsewhere and is gone.
    """
    wanted = home / DATABASE if url is None else place_of(url)
    _require_free(home, wanted)
    if existing and isinstance(wanted, Path) and wanted.exists() and _resolved(wanted) != _resolved(place(home)):
        raise AlreadyThere(f"{wanted} is served from another folder. A file has one home; name that by --home.")
    home.mkdir(parents=True, exist_ok=True)
    if url is None:
        create(wanted, schema, existing=existing).close()
        return wanted
    # noted first, so that an init that is cut is finished by the next: a database that no home names would be taken for another's
    earlier = _noted(home)
    wanted = _resolved(wanted)
    _Note(wanted, is_finished=False).keep(home)
    try:
        create(wanted, schema, existing=existing).close()
    except BaseException:
        if earlier is None:
            (home / ELSEWHERE).unlink()
        else:
            earlier.keep(home)
        raise
    _Note(wanted, is_finished=True).keep(home)
    return wanted


def _resolved(place: Place) -> Place:
    return place.resolve() if isinstance(place, Path) else place


def _require_free(home: Path, wanted: Place) -> None:
    """Refuse to give a home that has a database another one, or a new one in the place of one that is gone."""
    found, note = existing(home), _noted(home)
    is_there = (note is not None and note.is_finished) or (isinstance(found, Path) and found.exists())
    if _resolved(wanted) != _resolved(found) and is_there:
        raise AlreadyThere(
            f"There is a server in this folder already; its database is {named(found)}. Nothing was changed. Name another folder by --home,"
            " or go on with: outpost server run"
        )


def place_of(url: str) -> Place:
    """Return the file that a path or `sqlite:///path` names, or the URL of a PostgreSQL database. Raises BadValue."""
    if url.startswith(_POSTGRES):
        return url
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return Path(url[len(_SQLITE) :])
    if not url or "://" in url or url.startswith(_ALMOST):
        shown = f"{url.partition(':')[0]}:…" if url.startswith(_ALMOST) and "://" not in url else named(url)  # it may hold a password
        raise BadValue(f"'{shown}' is no database: name a file, sqlite:///path, or postgresql://user@host/name.")
    return Path(url)


def place(home: Path) -> Place:
    """Return where the server's database is, or would be."""
    note = _noted(home)
    return home / DATABASE if note is None else note.place


def existing(home: Path) -> Place:
    """Return where the server's database is, or would be. Raises NotJoined where it lies elsewhere and is not there any more."""
    note = _noted(home)
    if note is None or not note.is_finished or not isinstance(note.place, Path) or note.place.exists():
        return place(home)
    raise NotJoined(
        f"This server's database is not where it was: {note.place}. If that disk is not connected, connect it; if the file was moved, put"
        f" it back there; if it is lost, restore a backup: outpost server restore FILE. To begin anew, move {home / ELSEWHERE} away."
    )


def _noted(home: Path) -> _Note | None:
    try:
        found = json.loads((home / ELSEWHERE).read_text(encoding="utf-8"))
        return _Note(str(found["url"]) if "url" in found else Path(found["path"]), found.get("finished", True))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotJoined(f"{home / ELSEWHERE} does not say where the database is. Put a copy of it back.") from error


def require_there(home: Path) -> None:
    """Check that there is a server in this home. Raises NotJoined."""
    database.require_there(existing(home))


def open_database(home: Path, schema: Schema, *, life: bytes | None = None) -> Database:
    """Open the server's database, as one of the processes of a `life`, if given. Raises NotJoined."""
    return Database(existing(home), schema, life=life)
