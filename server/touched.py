"""Touched: where anything changed between two versions, asked for many places at once: on most days that is a few of hundreds.

Used by server/feed.py and server/proof.py, which then look at those places alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schema.capture import Store

Place = tuple[int, str]
"""A table's number and a scope key."""

PLACES_MAX = 200
"""Places that one statement asks for."""

_LINE = "c.ver > ? AND c.ver <= ?"
_LATER = "c.ver > w.later * ? AND c.ver <= ?"
"""Asked for as a value, (SELECT 1 … LIMIT 1) IS NOT NULL: of EXISTS PostgreSQL makes a join, for which it may read the whole index."""


def places(store: Store, wanted: Sequence[tuple[Place, bool]], low: int, high: int) -> set[Place]:
    """Return those of up to PLACES_MAX places of which the change index has a line up to `high`; of those with True, one behind `low`."""
    if not wanted:
        return set()
    values = ", ".join(f"({t}, ?, {int(is_later)})" for (t, _), is_later in wanted)
    sql = (
        f"WITH w (t, sc, later) AS (VALUES {values}) SELECT w.t, w.sc FROM w"
        f" WHERE (SELECT 1 FROM _change c WHERE c.t = w.t AND c.sc = w.sc AND {_LATER} LIMIT 1) IS NOT NULL"
    )
    return set(store.connection.execute(sql, (*(scope for (_, scope), _ in wanted), low, high)).fetchall())


def under(store: Store, scopes: Sequence[str], low: int, high: int) -> list[Place]:
    """Return the places under any of a few scope keys of which the index has a line behind `low`, up to `high`."""
    numbers, keys = ", ".join(f"({t})" for t in sorted(store.numbers.values())), ", ".join(["(?)"] * len(scopes))
    sql = (
        f"WITH w (t) AS (VALUES {numbers}), k (sc) AS (VALUES {keys}) SELECT w.t, k.sc FROM w CROSS JOIN k"
        f" WHERE (SELECT 1 FROM _change c WHERE c.t = w.t AND c.sc = k.sc AND {_LINE} LIMIT 1) IS NOT NULL"
    )
    return store.connection.execute(sql, (*scopes, low, high)).fetchall()


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
