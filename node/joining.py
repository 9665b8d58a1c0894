"""Joining: a newcomer shows its invitation and its key, and gets its database.

    key ─► joining.json (which incarnation we show) ══join══► node.db ─► joining.json goes

What is shown is on disk before it is sent, so a join whose reply was lost, or that was killed at any point, is simply
repeated: the centre knows the key and the incarnation and answers the same. It goes by the code alone: whoever tries again may
spell the address otherwise, try another code in between, and come back to the first. Spec: PROTOCOL.md §9.2.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node import fetching, first, healing, identity, transport
from node.database import Database, create
from schema.files import write_whole
from schema.registry import Schema
from sync.digest import BEGINNING
from sync.errors import AlreadyThere, BadValue, NotJoined, Offline, PeerError, WorldError
from sync.limits import PROTOCOL_VERSIONS
from sync.messages import JoinReply, JoinRequest

DATABASE: Final = "node.db"
LOCK: Final = "node.lock"
JOINING: Final = "joining.json"
ATTEMPTS_MAX: Final = 16
"""Invitations of which is remembered what was shown with them."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One invitation, and the incarnation shown with it."""

    asked: str
    incarnation: bytes


class CannotJoin(Offline):
    """The server cannot be reached, and there is nothing here yet."""

    kept = "Nothing has been recorded here yet; the code is still good."
    todo = "Check the address and the network, then join again."


def join(
    home: Path,
    url: str,
    code: str,
    schema: Schema,
    clock_ms: Callable[[], int],
    progress: fetching.Progress = lambda _step, _done, _of: None,
    *,
    by_file: bool = True,
) -> Database:
    """Join the server at this address and return the new node's database, with the rows in it if the server has them as a file, unless
    that is not wanted.

    Raises AlreadyThere, BadInvitation, Offline…
    """
    asked, earlier = _asked(code), _read(home)
    path = home / DATABASE
    if path.exists():
        if not earlier or earlier[-1].asked != asked:
            raise AlreadyThere(
                f"There is a node here already ({path}). If you have just joined it, that is done: outpost node sync."
                " To join another, name another folder by --home."
            )
        found = _finished(path, schema, clock_ms)
        if found is not None:
            (home / JOINING).unlink()
            return found
    key = identity.create(home, instead_of_damaged=True)  # nothing is signed with it yet
    attempt = _attempt(home, asked)
    try:
        reply = transport.join(url, JoinRequest(PROTOCOL_VERSIONS, code.strip(), identity.public_bytes(key), attempt.incarnation))
    except Offline as error:
        raise CannotJoin(error.message) from error
    told = _first(path, url, reply, key, attempt, schema, progress) if by_file else None
    database = create(
        path,
        schema,
        clock_ms,
        rows=told.rows if told is not None else None,
        begin=lambda store: first.begin_at(store, told) if told is not None else None,
        node=reply.node,
        name=reply.name,
        url=url,
        epoch=reply.epoch,
        incarnation=attempt.incarnation,
        box_key=reply.box_key,
    )
    (home / JOINING).unlink()
    return database


def _first(
    path: Path, url: str, reply: JoinReply, key: Ed25519PrivateKey, attempt: _Attempt, schema: Schema, progress: fetching.Progress
) -> fetching.Fetched | None:
    """Return all there is for this node as a file. Where it does not come, or not to its end, the first exchange goes on with it."""
    try:
        with transport.HttpExchange(url, reply.node, key) as exchange:
            ask = fetching.asking(exchange, reply.epoch, attempt.incarnation, BEGINNING, schema.version)
            return fetching.fetch(path, schema, ask, progress)
    except (WorldError, PeerError):
        return None


def rejoin(home: Path, database: Database, code: str) -> None:
    """Join the same server again with all that is here: it was restored to a time before this node had joined, or the key was lost.

    A new key is made where there is none. Raises BadInvitation, Offline…, BadValue for another centre, DamagedKey; nothing has
    changed here then, but that a key is there.
    """
    state, key = database.state(), identity.create(home)
    attempt = _attempt(home, _asked(code, again=True))
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


def _asked(code: str, *, again: bool = False) -> str:
    """Return what an invitation is remembered by: a hash, for the code itself is a secret until it was used."""
    return sha256(f"{'again' if again else 'join'}\0{code.strip().upper()}".encode()).hexdigest()


def _attempt(home: Path, asked: str) -> _Attempt:
    """Return what is to be shown with an invitation: what was shown with it before, if it was; else a new incarnation.

    It is the newest that is remembered then, durably, and the name of the key beside it, before anything is sent.
    """
    earlier = _read(home)
    known = next((each for each in earlier if each.asked == asked), None)
    attempt = known or _Attempt(asked, secrets.token_bytes(16))
    kept = [*(each for each in earlier if each != attempt), attempt][-ATTEMPTS_MAX:]
    write_whole(home / JOINING, json.dumps({"attempts": [{"asked": each.asked, "incarnation": each.incarnation.hex()} for each in kept]}))
    return attempt


def _read(home: Path) -> list[_Attempt]:
    """Return the attempts remembered, the newest last. A file that cannot be read was never completely written, so nothing was sent
    with what it holds.
    """
    try:
        found = json.loads((home / JOINING).read_text(encoding="utf-8"))["attempts"]
        return [_Attempt(each["asked"], bytes.fromhex(each["incarnation"])) for each in found]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
