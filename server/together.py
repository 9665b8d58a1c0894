"""Together: what several requests want to write is written in one transaction, and committed once.

    [push, push, …] ─► one transaction ─► one commit ─► a result each
                        └ one has an error ─► all anew, a savepoint each ─► one commit ─► a result, or an error, each

A commit waits for the disk; a thousand branches at two in the morning would wait for a thousand of them one after the other. An error
of one (a forged segment) undoes its own part alone; one of the database undoes all, and server/service.py then does each by itself, so
that nobody fails of another's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

from schema.capture import Store
from server import centre
from server.database import Database
from sync.errors import WorldError, without_frames

T = TypeVar("T")
R = TypeVar("R")


def write(database: Database, works: Sequence[Callable[[Store], T]], engine_ms: int | None = None) -> list[T | Exception]:
    """Carry works out; return the result of each, or its error, when they are committed. An error of the database is that of all.

    `engine_ms`: they write rows of declared tables, at this time of the server's clock; what central programs wrote is journaled before.
    """
    try:
        return _committed(database, works, engine_ms) if works else []
    except Exception as error:
        return [without_frames(error)] * len(works)


def _committed(database: Database, works: Sequence[Callable[[Store], T]], engine_ms: int | None) -> list[T | Exception]:
    """Carry works out in one transaction, and with savepoints, each a way to the database and back, only where one raised without. Raises
    what the database does; of one alone what that raises.
    """
    try:
        return _in_one(database, engine_ms, lambda store: [work(store) for work in works])
    except (WorldError, *database.dialect.errors):  # type: ignore[misc]  # classes of the driver
        raise  # nothing is wrong with one of them: the database is away, and a second try would wait for it as long again
    except Exception:  # something is wrong with one of them, whatever it is: with savepoints it shows with which, and the others go on
        if len(works) == 1:
            raise
    return _in_one(database, engine_ms, lambda store: [_undone_alone(store, work) for work in works])


def _in_one(database: Database, engine_ms: int | None, work: Callable[[Store], R]) -> R:
    with database.writing() as store, nullcontext() if engine_ms is None else centre.engine_writes(store, engine_ms):
        return work(store)


def _undone_alone(store: Store, work: Callable[[Store], T]) -> T | Exception:
    """Carry a work out in a savepoint of its own, which an error undoes. One of the database leaves nothing to go on with."""
    store.connection.execute("SAVEPOINT together")
    try:
        result = work(store)
    except store.dialect.errors:
        raise
    except Exception as error:
        store.connection.execute("ROLLBACK TO together")
        store.connection.execute("RELEASE together")
        return without_frames(error)
    store.connection.execute("RELEASE together")
    return result
