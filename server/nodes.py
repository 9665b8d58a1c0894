"""Nodes: inviting, joining, what each is entitled to, revoking, and the board that shows how each is doing.

An entitlement counts from a version on, so a node whose scope changes gets exactly the difference (PROTOCOL.md §8.1).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import sha256

from schema.capture import Store, read_among
from schema.registry import Schema
from server import centre, conflicts, histories, ingest, journal, revoked, windows
from sync.errors import AlreadyThere, BadInvitation, BadValue, NoSuch, PeerError, Revoked, UnknownIncarnation, UnknownNode
from sync.ids import uuid7
from sync.limits import INVITATION_LIFE_MS, NAME_BYTES_MAX, SCOPES_MAX
from sync.messages import PullRequest, Told

_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


def invite(store: Store, name: str, scope: Sequence[str], now_ms: int, *, again: bool = False) -> str:
    """Register a node and return its one-time invitation code. Raises AlreadyThere, BadValue.

    `again`: also under the name of a node that has joined and was never heard of since. Whoever joined under it then is not known
    any more; what it recorded stays with it, and comes with an invitation of its own.
    """
    if not name or len(name.encode()) > NAME_BYTES_MAX:
        raise BadValue(f"A node's name has 1 to {NAME_BYTES_MAX} bytes.")
    row = store.connection.execute("SELECT node, joined_ms, revoked_ms FROM _node WHERE name = ?", (name,)).fetchone()
    if row is not None and row[2] is not None:
        raise AlreadyThere(f"The node named {name} was revoked, and its name stays taken. Invite under another name.")
    if row is not None and row[1] is not None:
        _forget_join(store, int(row[0]), name, now_ms, again=again)
    if row is None:
        identity = uuid7(now_ms, secrets.token_bytes(10))
        cursor = store.connection.execute(
            "INSERT INTO _node (id, name, invited_ms) VALUES (?, ?, ?) RETURNING node", (identity, name, now_ms)
        )
        node = int(cursor.fetchone()[0])
    else:
        node = int(row[0])
        store.connection.execute("DELETE FROM _invitation WHERE node = ?", (node,))
    _entitle(store, node, checked_scope(store.schema, scope), now_ms)
    code = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))
    store.connection.execute(
        "INSERT INTO _invitation (code_hash, node, expires_ms) VALUES (?, ?, ?)", (_hash(code), node, now_ms + INVITATION_LIFE_MS)
    )
    return code


def _forget_join(store: Store, node: int, name: str, now_ms: int, *, again: bool) -> None:
    """Let nobody have joined under a name: whoever has was never heard of. Raises AlreadyThere."""
    sql = "SELECT last_push_ms IS NOT NULL OR last_pull_ms IS NOT NULL OR unsynced IS NOT NULL FROM _node WHERE node = ?"
    if store.connection.execute(sql, (node,)).fetchone()[0]:
        raise AlreadyThere(
            f"There is a node named {name} already, and it was heard of. Nothing was changed. Take another name; what it is entitled to is"
            " changed by rescope, and a machine that is lost is shut out by revoke"
        )
    if not again:
        raise AlreadyThere(
            f"There is a node named {name} already. It joined and was never heard of since: if nobody works there, add --again, and"
            " the new code takes its place"
        )
    sql = "UPDATE _node SET id = ?, public_key = NULL, joined_ms = NULL WHERE node = ?"
    store.connection.execute(sql, (uuid7(now_ms, secrets.token_bytes(10)), node))


def is_invited(store: Store, name: str) -> bool:
    """Tell whether a node of this name has an invitation that was not used yet; a new one takes its place."""
    sql = "SELECT 1 FROM _invitation i JOIN _node n USING (node) WHERE n.name = ? AND i.used_ms IS NULL"
    return store.connection.execute(sql, (name,)).fetchone() is not None


def _hash(code: str) -> bytes:
    return sha256(b"outpost/invitation/1" + code.strip().upper().encode()).digest()


def checked_scope(schema: Schema, scope: Sequence[str]) -> frozenset[str]:
    """Return scope keys as a set. Raises BadValue for what is not `prefix:value`, or no table is in such a scope."""
    known = {path.prefix for paths in schema.paths.values() for path in paths if path.prefix}
    for key in scope:
        prefix, colon, value = key.partition(":")
        if not (prefix and colon and value) or len(key.encode()) > NAME_BYTES_MAX:
            raise BadValue(f"'{key}' is not a scope key; write it as branch:LON or owner:e17")
        if prefix not in known:
            raise BadValue(f"'{key}': no table is in a scope of the kind '{prefix}'; there are {', '.join(sorted(known))}")
    if len(scope) > SCOPES_MAX:
        raise BadValue(f"A node has at most {SCOPES_MAX} scope keys.")
    return frozenset(scope)


def join(store: Store, code: str, public_key: bytes, incarnation: bytes, now_ms: int) -> tuple[str, str]:
    """Use an invitation once; return the node's id and name. Raises BadInvitation, UnknownIncarnation.

    The same code with the same key and incarnation again is the same join: its first reply was lost.
    """
    row = store.connection.execute(
        "SELECT i.node, i.expires_ms, i.used_ms, n.id, n.name, n.public_key FROM _invitation i JOIN _node n USING (node)"
        " WHERE i.code_hash = ? AND n.revoked_ms IS NULL",
        (_hash(code),),
    ).fetchone()
    if row is None:
        raise BadInvitation("This invitation code is not known.")
    node, expires, used, identity, name, known_key = row
    if used is not None:
        if known_key == public_key and histories.is_of(store, node, incarnation):
            return identity, name
        raise BadInvitation("This invitation code was used already.")
    if now_ms > expires:
        raise BadInvitation("This invitation code has expired.")
    if histories.is_known(store, incarnation):  # whoever shows it has it of another: two machines must not be one history
        raise UnknownIncarnation("This history began with another invitation. Join with one that begins anew.")
    store.connection.execute("UPDATE _invitation SET used_ms = ? WHERE code_hash = ?", (now_ms, _hash(code)))
    store.connection.execute("UPDATE _node SET public_key = ?, joined_ms = ? WHERE node = ?", (public_key, now_ms, node))
    histories.create(store, node, incarnation)
    return identity, name


def public_keys(store: Store, identities: Sequence[str]) -> list[bytes | Exception]:
    """Return the public keys of nodes; of one that may not speak why: UnknownNode, Revoked."""
    rows = {identity: row for identity, *row in read_among(store, "SELECT id, public_key, revoked_ms FROM _node WHERE id", (), identities)}
    return [_key_of(*rows.get(identity, (None, None))) for identity in identities]


def _key_of(key: bytes | None, revoked_ms: int | None) -> bytes | PeerError:
    if key is None:
        return UnknownNode("No node with this id has joined this centre.")
    return Revoked("This node has been revoked by the central office.") if revoked_ms is not None else bytes(key)


def number_of(store: Store, identity: str) -> int:
    """Return a node's number. Raises UnknownNode."""
    row = store.connection.execute("SELECT node FROM _node WHERE id = ?", (identity,)).fetchone()
    if row is None:
        raise UnknownNode("No node with this id has joined this centre.")
    return int(row[0])


def is_unheard_of(store: Store, node: int) -> bool:
    """Tell whether a node that has joined has not pulled anything yet."""
    return store.connection.execute("SELECT 1 FROM _node WHERE node = ? AND unsynced IS NULL", (node,)).fetchone() is not None


def note_first_page(store: Store, node: int, told: Told) -> None:
    """Note that a node was heard of."""
    store.connection.execute("UPDATE _node SET unsynced = ? WHERE node = ?", (told.unsynced, node))


def note_pull(store: Store, node: int, request: PullRequest, version: int, now_ms: int) -> None:
    """Note what a node told with a pull, which brought it up to a version."""
    told = request.told
    store.connection.execute(
        "UPDATE _node SET last_pull_ms = ?, unsynced = ?, conflicts = ?, held = ?, cursor = ?, schema = ?,"
        " settled = CASE WHEN ? = 1 OR ? < settled THEN ? ELSE settled END WHERE node = ?",
        (
            *(now_ms, told.unsynced, told.conflicts, told.held, version, request.schema),
            *(told.unsynced + told.held == 0, request.cursor.number, request.cursor.number, node),
        ),
    )
    store.connection.execute(
        "INSERT INTO _differing (node, rows, told_ms) VALUES (?, ?, ?) ON CONFLICT (node)"
        " DO UPDATE SET rows = excluded.rows, told_ms = excluded.told_ms",
        (node, told.differing, now_ms),
    )


def _named(store: Store, name: str) -> int:
    row = store.connection.execute("SELECT node FROM _node WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NoSuch(f"There is no node named {name}.")
    return int(row[0])


def rescope(store: Store, name: str, scope: Sequence[str], now_ms: int) -> frozenset[str]:
    """Change what a node is entitled to, from the next version on. Held work that waited for a right is tried again."""
    node, wanted = _named(store, name), checked_scope(store.schema, scope)
    _entitle(store, node, wanted, now_ms)
    return wanted


def keep(store: Store, name: str, days: int) -> None:
    """Let a node keep so many days of what rolls (schema/window.py), 0 for everything, from its next pull on. Raises NoSuch, BadValue."""
    windows.keep(store, _named(store, name), days)


def require_not_revoked(store: Store, name: str) -> None:
    """Check that a node may still sync. Raises NoSuch, BadValue."""
    row = store.connection.execute("SELECT revoked_ms FROM _node WHERE node = ?", (_named(store, name),)).fetchone()
    if row[0] is not None:
        raise BadValue(f"{name} is revoked: it gets nothing any more. Nothing was changed. Invite it under another name.")


def scope_of(store: Store, name: str) -> frozenset[str]:
    """Return what a node is entitled to now. Raises NoSuch."""
    return frozenset(_scope(store, _named(store, name)))


def _entitle(store: Store, node: int, wanted: frozenset[str], now_ms: int) -> None:
    current = set(_scope(store, node))
    if current == wanted:
        return
    content = f"{node}\0" + "\0".join(sorted(wanted))
    with centre.engine_writes(store, now_ms):  # what had moved away before, or may without this, gets an earlier version (P-6.34)
        ingest.release(store, now_ms)
        version = journal.append(store, journal.Entry("rescope", 0, content.encode()), now_ms)
        for scope in sorted(current - wanted):
            store.connection.execute(
                "UPDATE _entitled SET until = ? WHERE node = ? AND scope = ? AND until IS NULL", (version, node, scope)
            )
        for scope in sorted(wanted - current):
            store.connection.execute("INSERT INTO _entitled (node, scope, since) VALUES (?, ?, ?)", (node, scope, version))
        ingest.release(store, now_ms)


def revoke(store: Store, name: str, now_ms: int) -> None:
    """Refuse a node from its next request on, for good: a restore does not forget it. What it has sent stays."""
    node = _named(store, name)
    identity = store.connection.execute("SELECT id FROM _node WHERE node = ?", (node,)).fetchone()[0]
    if (file := store.dialect.file_of(store.connection)) is not None:
        revoked.note(file, identity, now_ms)
    store.connection.execute("UPDATE _node SET revoked_ms = COALESCE(revoked_ms, ?) WHERE node = ?", (now_ms, node))


def names(store: Store, *, is_revoked: bool) -> list[str]:
    """Return the names of the nodes that were revoked, or of those that have joined and were not."""
    where = "revoked_ms IS NOT NULL" if is_revoked else "revoked_ms IS NULL AND joined_ms IS NOT NULL"
    return [row[0] for row in store.connection.execute(f"SELECT name FROM _node WHERE {where} ORDER BY name").fetchall()]


def listing(store: Store) -> list[dict[str, object]]:
    """Return how each node is doing: as it last told, with open conflicts and held work as the centre sees them.

    `uncovered`: how many versions it has received that no backup covers, so it keeps them in case of a restore.
    """
    covered = journal.covered(store)
    rows = store.connection.execute(
        "SELECT n.id, n.name, n.last_push_ms, n.last_pull_ms, n.unsynced, n.conflicts, n.held, n.revoked_ms, n.joined_ms, n.cursor, n.node,"
        " d.rows, n.keep_days FROM _node n LEFT JOIN _differing d ON d.node = n.node ORDER BY n.name"
    ).fetchall()
    return [
        {
            "id": row[0],
            "name": row[1],
            "last_push_ms": row[2],
            "last_pull_ms": row[3],
            "unsynced": row[4],
            "conflicts": conflicts.waiting(store, row[10]),
            "held": _held(store, row[10]),
            "revoked": row[7] is not None,
            "joined_ms": row[8],
            "cursor": row[9],
            "differing": row[11],
            "uncovered": max(0, (row[9] or 0) - covered),
            "scope": _scope(store, row[10]),
            "keep_days": row[12],
        }
        for row in rows
    ]


def _held(store: Store, node: int) -> int:
    return int(store.connection.execute("SELECT COUNT(*) FROM _held WHERE node = ?", (node,)).fetchone()[0])


def _scope(store: Store, node: int) -> list[str]:
    rows = store.connection.execute("SELECT scope FROM _entitled WHERE node = ? AND until IS NULL ORDER BY scope", (node,))
    return [row[0] for row in rows]
