"""Revocations, in a small file beside the database: a backup of before them, put back, must not let a stolen laptop in again.

    revoke ─► FILE.revoked, durable ─► the database ─► acknowledged
    open   ─► what either of the two lacks is written there; so after a restore, however it was made

File first: killed in between, a revocation that nobody was told of holds; the other way round one that shows in the list would be
forgotten by a restore. It only grows, for a revocation is for good: who comes back is invited under another name. Nodes are
named by their ids, which are never given twice, so entries of another centre's nodes say nothing here. Spec: PROTOCOL.md §9.2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from schema.dialects.base import Connection, Dialect
from schema.files import write_whole
from sync.errors import UsError

SUFFIX = ".revoked"

Revocations = Mapping[str, int]
"""Node id → when it was revoked, in ms."""


def file_of(database: Path) -> Path:
    """Return where a database's revocations are kept: beside the file itself, whatever link leads to it."""
    place = database.resolve()
    return place.with_name(place.name + SUFFIX)


def note(database: Path, identity: str, now_ms: int) -> None:
    """Keep a revocation, durably; an earlier one of the same node stands. Inside the write transaction, so one at a time."""
    known = read(database)
    if identity not in known:
        _write(database, {**known, identity: now_ms})


def reconcile(connection: Connection, dialect: Dialect, database: Path, *, is_in_place: bool) -> None:
    """Apply to the database what its file has and it has not, and the reverse: a file may be missing, or the database put back.

    There is a file from then on, be it an empty one: where none is, a restore does not know whom it lets in again. A copy that is yet
    to take the database's place (not `is_in_place`) leaves the file as it is: it may be refused.
    """
    if file_of(database).exists() and not _differ(connection, read(database)):
        return
    dialect.begin_write(connection)
    try:
        kept = read(database)  # again: whoever was revoking meanwhile has come to an end
        connection.executemany(
            "UPDATE _node SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL", [(at_ms, identity) for identity, at_ms in kept.items()]
        )
        both = {**_revoked(connection), **kept}
        if is_in_place and (both != kept or not file_of(database).exists()):
            _write(database, both)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def read(database: Path) -> dict[str, int]:
    """Return the revocations kept beside a database. Raises UsError where they cannot be read."""
    path = file_of(database)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["revoked"]
        return {str(identity): int(at_ms) for identity, at_ms in found.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsError(
            f"{path}, which keeps which nodes were revoked, cannot be read ({error.strerror}). Let whoever runs the server read it."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsError(
            f"{path}, which keeps which nodes were revoked, is damaged. Put a copy of it back; or move it away, look through outpost server"
            " nodes, and revoke again whom you revoked since the last restore."
        ) from error


def _write(database: Path, revocations: Revocations) -> None:
    """Write the file for whoever the database belongs to: `revoke` may be run by another user than the server."""
    write_whole(file_of(database), json.dumps({"revoked": revocations}, indent=1), like=database)


def _revoked(connection: Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT id, revoked_ms FROM _node WHERE revoked_ms IS NOT NULL").fetchall())


def _differ(connection: Connection, kept: Revocations) -> bool:
    """Tell whether one of the two lacks a revocation. Nodes that the database does not know are not let in anyway."""
    rows = connection.execute("SELECT id, revoked_ms IS NOT NULL FROM _node").fetchall()
    return any(bool(is_revoked) != (identity in kept) for identity, is_revoked in rows)
