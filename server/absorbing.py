"""Absorbing: a snapshot of the centre's database in which what central programs had written is journaled.

Programs write to the same tables at any time. What they wrote since the last look belongs to no version yet, and may be undone before
the next one: whoever tells rows as those of a version must not have seen any of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from schema.capture import Look, Store
from server import centre, ingest
from server.database import Database
from sync.errors import DatabaseAway

TRIES = 5
"""How often what was written meanwhile is journaled before a snapshot is taken as it is, or given up."""


@contextmanager
def up_to_date(database: Database, now_ms: int, *, strictly: bool = False) -> Iterator[Store]:
    """Give such a snapshot. Where programs write all the time, one that has something in it of the very moment it was opened in;
    `strictly`: none, DatabaseAway is raised.
    """
    for _ in range(TRIES):
        with database.reading() as store:
            if not has_to_absorb(store):
                yield store
                return
        absorb(database, now_ms)
    with database.reading() as store:
        if strictly and has_to_absorb(store):
            raise DatabaseAway("Programs write to the centre's tables without a pause.")
        yield store


def absorb(database: Database, now_ms: int) -> None:
    """Journal what central programs wrote, and release what waited for it, or is due."""
    with database.writing() as store, centre.engine_writes(store, now_ms) as absorbed:
        if absorbed or ingest.due(store):
            ingest.release(store, now_ms)


def has_to_absorb(store: Store) -> bool:
    """Tell whether central programs wrote something that is not journaled, or held work is to be looked at."""
    return bool(Look(store)) or ingest.due(store)
