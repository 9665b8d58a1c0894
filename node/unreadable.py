"""Segments that the centre cannot read: a damaged disk, a box for another centre. They stay here, in sight, and stop nothing.

Driven by node/cycle.py. Spec: PROTOCOL.md P-6.43.
"""

from __future__ import annotations

from contextlib import suppress

from node import verdicts
from node.database import read_state
from schema.capture import Store
from sync.errors import Malformed, MalformedBlock, OutpostError, TooLarge

CODE = "unreadable"
ASIDE = verdicts.WAITING + 1
"""The version of such a segment: no cursor ever covers it. After a restore of the centre it is sent once more."""


def is_any_of(error: OutpostError, segments: int) -> bool:
    """Tell whether one of several segments makes a push larger than a body may be: nobody looked into it, so nobody knows which."""
    return isinstance(error, TooLarge) and "segment" not in error.extra and segments > 1


def culprit(error: OutpostError, segments: int) -> int | None:
    """Return the index of the segment that an error of a push lies in; None if it lies in none."""
    index = error.extra.get("segment", 0 if isinstance(error, TooLarge) else None)
    return index if type(index) is int and 0 <= index < segments else None


def set_aside(store: Store, digest: bytes, reason: str, now_ms: int) -> None:
    """Take a segment out of the chain, with the other parts of its transaction; what follows it moves up."""
    sql = "SELECT id, first, part, transactions FROM _segment WHERE digest = ? AND version IS NULL"
    row = store.connection.execute(sql, (digest,)).fetchone()
    if row is None:
        return
    segment, first, part, count = row
    where, parameters = ("first = ? AND part > 0", (first,)) if part else ("id = ?", (segment,))
    last = store.connection.execute(f"SELECT id FROM _segment WHERE {where} ORDER BY seq DESC LIMIT 1", parameters).fetchone()[0]
    store.connection.execute(f"UPDATE _segment SET version = ? WHERE {where}", (ASIDE, *parameters))
    words = f"the centre cannot read it ({reason}); ask for help"
    store.connection.executemany(
        "INSERT OR REPLACE INTO _txn (segment, txn, verdict, version, code, reason, at_ms) VALUES (?, ?, 'held', ?, ?, ?, ?)",
        [(last, txn, ASIDE, CODE, words, now_ms) for txn in range(count)],
    )
    with suppress(Malformed, MalformedBlock, TooLarge):  # where not even we can read it, its rows are where people see them
        verdicts.spell_out(store, last, list(range(count)))
    verdicts.chain_again(store, read_state(store.connection).acked)
