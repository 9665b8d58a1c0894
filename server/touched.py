"""Touched: where anything changed between two versions, asked for many places at once: on most days that is a few of hundreds.

Used by server/feed.py and server/proof.py, which then look at those places alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from schema.capture import Store

Place = tuple[int, str]
"""A table's number and a scope key."""

PLACES_MAX = 200
"""Places that one statement asks for."""

_LINE = "c.ver > ? AND c.ver <= ?"


def places(store: Store, wanted: Sequence[Place], low: int, high: int) -> set[Place]:
    """Return those of up to PLACES_MAX places of which the change index has a line behind `low`, up to `high`."""
    if not wanted:
        return set()
    values = ", ".join(["(CAST(? AS INTEGER), ?)"] * len(wanted))
    sql = (
        f"WITH w (t, sc) AS (VALUES {values}) SELECT w.t, w.sc FROM w"
        f" WHERE EXISTS (SELECT 1 FROM _change c WHERE c.t = w.t AND c.sc = w.sc AND {_LINE})"
    )
    return set(store.connection.execute(sql, (*chain.from_iterable(wanted), low, high)).fetchall())


def tables(store: Store, scopes: str, parameters: Sequence[object], numbers: Iterable[int], low: int, high: int) -> set[int]:
    """Return the numbers of tables of which the index has such a line under any of the scope keys that a query (`sc`) gives."""
    values = ", ".join(f"({t})" for t in sorted(numbers))
    if not values:
        return set()
    sql = (
        f"WITH w (t) AS (VALUES {values}) SELECT w.t FROM w"
        f" WHERE EXISTS (SELECT 1 FROM ({scopes}) v CROSS JOIN _change c WHERE c.t = w.t AND c.sc = v.sc AND {_LINE})"
    )
    return {row[0] for row in store.connection.execute(sql, (*parameters, low, high)).fetchall()}
