"""Joining: a newcomer shows its invitation and its key, and gets its database.

    key ─► joining.json (which incarnation we show) ══join══► node.db ─► joining.json goes

What is shown is on disk before it is sent, so a join whose reply was lost, or that was killed at any point, is simply
repeated: the centre knows the key and the incarnation and answers the same. Spec: PROTOCOL.md §9.2.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from node import healing, identity, transport
from node.database import Database, create
from schema.files import write_whole
from schema.registry import Schema
from sync.errors import AlreadyThere, BadValue, NotJoined, Offline
from sync.limits import PROTOCOL_VERSIONS
from sync.messages import JoinRequest

DATABASE: Final = "node.db"
LOCK: Final = "node.lock"
JOINING: Final = "joining.json"


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One invitation shown to one server, and the incarnation shown with it."""

    asked: str
    incarnation: bytes


class CannotJoin(Offline):
    """The server cannot be reached, and there is nothing here yet."""

    kept = "Nothing has been recorded here yet; the code is still good."
    todo = "Check the address and the network, then join again."


def join(home: Path, url: str, code: str, schema: Schema, clock_ms: Callable[[], int]) -> Database:
    """Join the server at this address and return the new node's database. Raises AlreadyThere, BadInvitation, Offline…"""
    asked, earlier = sha256(f"{url}\0{code.strip().upper()}".encode()).hexdigest(), _read(home)
    path = home / DATABASE
    if path.exists():
        if earlier is None or earlier.asked != asked:
            raise AlreadyThere(
                f"There is a node here already ({path}). If you have just joined it, that is done: outpost node sync."
                " To join another, name another folder by --home."
            )
        found = _finished(path, schema, clock_ms)
        if found is not None:
            (home / JOINING).unlink()
            return found
    key = identity.create(home, instead_of_damaged=True)  # nothing is signed with it yet
    attempt = earlier if earlier is not None and earlier.asked == asked else _Attempt(asked, secrets.token_bytes(16))
    _write(home, attempt)
    try:
        reply = transport.join(url, JoinRequest(PROTOCOL_VERSIONS, code.strip(), identity.public_bytes(key), attempt.incarnation))
    except Offline as error:
        raise CannotJoin(error.message) from error
    database = create(
        path,
        schema,
        clock_ms,
        node=reply.node,
        name=reply.name,
        url=url,
        epoch=reply.epoch,
        incarnation=attempt.incarnation,
        box_key=reply.box_key,
    )
    (home / JOINING).unlink()
    return database


def rejoin(home: Path, database: Database, code: str) -> None:
    """Join the same server again with all that is here: it was restored to a time before this node had joined, or the key was lost.

    A new key is made where there is none. Raises BadInvitation, Offline…, BadValue for another centre, DamagedKey; nothing has
    changed here then, but that a key is there.
    """
    state, key = database.state(), identity.create(home)
    asked = sha256(f"again\0{code.strip().upper()}".encode()).hexdigest()
    earlier = _read(home)
    attempt = earlier if earlier is not None and earlier.asked == asked else _Attempt(asked, secrets.token_bytes(16))
    _write(home, attempt)
    request = JoinRequest(PROTOCOL_VERSIONS, code.strip(), identity.public_bytes(key), attempt.incarnation)
    reply = transport.join(state.url, request)
    if reply.box_key != state.box_key:
        raise BadValue(
            f"Another centre answers at {state.url}, not the one this node belongs to: it could not read what is kept here for it."
            " Nothing was changed here. Put a backup of the old centre back, or join the new one in another folder: --home."
        )
    with database.writing() as store:
        healing.rejoined(store, reply, attempt.incarnation)
    (home / JOINING).unlink()


def _finished(path: Path, schema: Schema, clock_ms: Callable[[], int]) -> Database | None:
    """Return the database of a join that was cut after its end, or remove the beginnings of one cut before it."""
    try:
        database = Database(path, schema, clock_ms)
    except NotJoined:
        _remove(path)
        return None
    try:
        database.state()
    except NotJoined:
        database.close()
        _remove(path)
        return None
    return database


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _read(home: Path) -> _Attempt | None:
    """Return the attempt under way. One that cannot be read was never completely written, so nothing was sent with it."""
    try:
        found = json.loads((home / JOINING).read_text(encoding="utf-8"))
        return _Attempt(found["asked"], bytes.fromhex(found["incarnation"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write(home: Path, attempt: _Attempt) -> None:
    """Keep the attempt, and the name of the key beside it, durably before anything is sent."""
    write_whole(home / JOINING, json.dumps({"asked": attempt.asked, "incarnation": attempt.incarnation.hex()}))
