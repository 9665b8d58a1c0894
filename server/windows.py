"""Windows: how many days of what rolls a node keeps, and where the edge of that is. Spec: PROTOCOL.md §8.7."""

from __future__ import annotations

from typing import Final

from schema import window
from schema.capture import Store
from server.horizon import DAY_MS, DAYS_MAX
from sync.errors import BadValue

SLACK_MS: Final = DAY_MS
"""Clocks that differ around midnight take no edge back by a day; nor does a window that is widened by one, until the next."""


def keep_days(store: Store, node: int) -> int:
    """Return how many days a node keeps; 0: everything."""
    return int(store.connection.execute("SELECT keep_days FROM _node WHERE node = ?", (node,)).fetchone()[0])


def keep(store: Store, node: int, days: int) -> None:
    """Let a node keep so many days, 0 for everything. Raises BadValue."""
    if not 0 <= days <= DAYS_MAX:
        raise BadValue(f"A node keeps 1 to {DAYS_MAX:,} days; 0: everything.")
    store.connection.execute("UPDATE _node SET keep_days = ? WHERE node = ?", (days, node))


def edge(days: int, now_ms: int) -> int:
    """Return from when on rows are in a window of so many days: the beginning of a day in UTC, so that it moves once a day."""
    return max(1, now_ms - now_ms % DAY_MS - days * DAY_MS) if days else window.NONE


def edge_of(store: Store, node: int, standing: int, now_ms: int) -> int:
    """Return the edge for a node whose own is `standing`. It goes back only where the window was widened, or a clock put right: then the
    node asks anew for what rolls.
    """
    found = edge(keep_days(store, node), now_ms)
    return standing if found != window.NONE and found < standing <= found + SLACK_MS else found
