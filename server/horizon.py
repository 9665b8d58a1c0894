"""The horizon: the version up to which the centre no longer knows what was deleted or left a scope, and what may move it on.

It waits for what is younger than the policy keeps, for a backup, and for every node that was heard of within the lease and does not
stand behind it with nothing of its own under way. A node that comes back with a cursor before it shows what it works on, and takes
everything anew. Moved on by server/compacting.py. Spec: PROTOCOL.md §8.6; docs/decisions/0020-what-is-kept-no-more.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from schema.capture import Store
from server import journal, scopes
from sync.errors import BadValue, TooLate
from sync.messages import Position, PullRequest, PushRequest

DAY_MS: Final = 24 * 3600 * 1000
DAYS_MAX: Final = 36_500
"""Days that a policy may name."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How long what is over is kept, in days of the centre's clock.

    `forget`: what was deleted or overwritten, and what nodes sealed, is kept for that long at least. `lease`: a node that is silent for
    longer is not waited for.
    `unbacked`: what is older counts as covered though no backup holds it; None: only a backup covers.
    """

    forget: int = 90
    lease: int = 180
    unbacked: int | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why the horizon cannot move on beyond a version. `reason`: age, backup, node, nothing; `node`: the name of the one it waits for."""

    version: int
    reason: str
    node: str = ""


def policy(store: Store) -> Policy:
    """Return the policy in force."""
    row = store.connection.execute("SELECT forget_days, lease_days, unbacked_days FROM _policy WHERE id = 1").fetchone()
    return Policy(*row) if row else Policy()


def checked(wanted: Policy) -> Policy:
    """Return a policy. Raises BadValue for days below 0 or above DAYS_MAX, and for a lease that is shorter than a day."""
    days = (wanted.forget, wanted.lease, wanted.unbacked or 0)
    if not all(0 <= each <= DAYS_MAX for each in days) or wanted.lease < 1:
        raise BadValue(f"Days are whole numbers up to {DAYS_MAX:,}; the lease is one day at least.")
    return wanted


def set_policy(store: Store, wanted: Policy) -> None:
    """Set the policy. Raises what `checked` raises."""
    checked(wanted)
    store.connection.execute(
        "INSERT INTO _policy (id, forget_days, lease_days, unbacked_days) VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " forget_days = excluded.forget_days, lease_days = excluded.lease_days, unbacked_days = excluded.unbacked_days",
        (wanted.forget, wanted.lease, wanted.unbacked),
    )


def wait(store: Store, now_ms: int, policy: Policy) -> Waiting:
    """Return how far the horizon may move by a policy, and what it waits for there; for nothing where it may move to the newest version."""
    waiting = min(_waits(store, policy, now_ms), key=lambda each: each.version)
    return Waiting(waiting.version, "nothing") if waiting.version == journal.head(store).number else waiting


def _waits(store: Store, policy: Policy, now_ms: int) -> Iterator[Waiting]:
    begin = journal.horizon(store)
    yield Waiting(_older(store, begin, now_ms - policy.forget * DAY_MS), "age")
    yield Waiting(max(begin, journal.covered(store), aged(store, now_ms, policy)), "backup")
    since = now_ms - policy.lease * DAY_MS
    rows = store.connection.execute(
        "SELECT node, name, settled, last_pull_ms FROM _node WHERE joined_ms IS NOT NULL AND revoked_ms IS NULL"
        " AND (joined_ms >= ?1 OR last_push_ms >= ?1 OR last_pull_ms >= ?1) ORDER BY settled, node",
        (since,),
    ).fetchall()
    for node, name, settled, last_pull_ms in rows:
        # one that has neither sent nor pulled anything begins anew in any case
        if last_pull_ms is not None or scopes.has_sent(store, node):
            yield Waiting(max(begin, settled), "node", name)
            return


def aged(store: Store, now_ms: int, policy: Policy) -> int:
    """Return the version up to which everything counts as covered by age."""
    days = policy.unbacked
    (before,) = store.connection.execute("SELECT aged FROM _server WHERE id = 1").fetchone()
    return int(before) if days is None else max(int(before), _older(store, int(before), now_ms - days * DAY_MS))


def _older(store: Store, begin: int, before_ms: int) -> int:
    """Return the last version from `begin` on before the first that is not older than a time."""
    sql = "SELECT ver FROM _journal WHERE ver > ? AND at_ms >= ? ORDER BY ver LIMIT 1"
    row = store.connection.execute(sql, (begin, before_ms)).fetchone()
    return int(row[0]) - 1 if row else journal.head(store).number


# --- who comes too late -------------------------------------------------------------------------------------------------


def require_known(store: Store, request: PushRequest) -> None:
    """Check that what a push is about is still known here, or was shown. Raises TooLate."""
    least = journal.horizon(store)
    if request.segments and 0 < request.cursor.number < least and request.recalled < least:
        raise _too_late(request.cursor.number)


def require_kept(store: Store, node: int, request: PullRequest) -> None:
    """Check that all that a pull has to tell is still known here. Raises TooLate."""
    least, cursor = journal.horizon(store), request.cursor.number
    if cursor >= least and request.position is None:
        return
    is_whole = cursor == 0 and (request.anew or not scopes.has_sent_by(store, node, least))
    if (cursor < least and not is_whole) or (request.position is not None and _is_behind(request.position, least)):
        raise _too_late(cursor)


def _is_behind(position: Position, least: int) -> bool:
    """Tell whether the sweep that a pull is in, or the one after it, would tell of what is no longer known."""
    return position.high < least or 0 < position.low < least


def _too_late(cursor: int) -> TooLate:
    return TooLate(f"This node knows the centre's version {cursor}, and was away for longer than the centre keeps what was deleted since.")
