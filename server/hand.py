"""Handing held work to somebody: recorded, and told to the node it came from with the reason it is held for.

Spec: PROTOCOL.md §6.7. It changes nothing about what the work waits for.
"""

from __future__ import annotations

from schema.capture import Store
from server import journal
from server.held import Held, name_of, say
from server.holding import REASON_CHARS_MAX
from server.withdrawals import NOTE_CHARS_MAX
from sync.errors import BadValue
from sync.limits import NAME_BYTES_MAX


def hand(store: Store, held: Held, name: str, note: str, now_ms: int) -> None:
    """Note who looks after held work now. Raises BadValue."""
    if not name or len(name.encode()) > NAME_BYTES_MAX:
        raise BadValue(f"A name has 1 to {NAME_BYTES_MAX} bytes.")
    if len(note) > NOTE_CHARS_MAX:
        raise BadValue(f"A note has at most {NOTE_CHARS_MAX} characters.")
    store.connection.execute(_HAND, (held.id, name, note, now_ms))
    tell(store, held, held.code, held.reason, now_ms)


_HAND = (
    "INSERT INTO _handed (held, name, note, at_ms) VALUES (?, ?, ?, ?) ON CONFLICT (held)"
    " DO UPDATE SET name = excluded.name, note = excluded.note, at_ms = excluded.at_ms"
)


def tell(store: Store, held: Held, code: str, why: str, now_ms: int) -> None:
    """Tell the node, under a version of its own, that the reason its work is held for has changed."""
    told = reason(store, held.id, why)
    content = name_of(held.segment, held.txn) + f"{code}\0{told}".encode()
    version = journal.append(store, journal.Entry("reason", held.inc, content), now_ms)
    say(store, held.node, held.segment, held.txn, version, "held", code, told)


def reason(store: Store, held: int, why: str) -> str:
    """Return why work is held, and who looks after it."""
    found = handed(store, held)
    if found is None:
        return why
    name, note, _ = found
    return f"{why[:REASON_CHARS_MAX]}; handed to {name}{f': {note}' if note else ''}"


def handed(store: Store, held: int) -> tuple[str, str, int] | None:
    """Return (name, note, when) of whom held work was handed to."""
    row = store.connection.execute("SELECT name, note, at_ms FROM _handed WHERE held = ?", (held,)).fetchone()
    return (row[0], row[1], row[2]) if row else None
