"""Turns: what several threads want to write at the same moment is written by one of them, in one transaction, and committed once.

    push, note of a pull ─► waiting ─► whoever finds nobody at work leads ─► one transaction: a savepoint each ─► one commit
                                       the others wait, and find it done, or lead the next

A commit waits for the disk; a thousand branches at two in the morning would wait for two thousand of them one after the other.
Nobody waits for company: who comes alone writes at once. An error of one (a forged segment) undoes its own part alone; one of the
database undoes all, and then each is done by itself, so that nobody fails of another's rows. Used by server/service.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from schema.capture import Store
from server import centre
from server.database import Database
from sync.errors import WorldError

T = TypeVar("T")

TOGETHER_MAX: Final = 64
"""Writes in one transaction: so many that the disk is a small part of what each costs, so few that the first need not wait long."""


@dataclass(eq=False)
class _Work(Generic[T]):
    """What one thread wants written, and what became of it."""

    work: Callable[[Store], T]
    now_ms: int | None  # of an exchange
    woken: threading.Event = field(default_factory=threading.Event)
    is_done: bool = False
    results: list[T] = field(default_factory=list)
    error: BaseException | None = None

    def carry_out(self, store: Store) -> None:
        """Write it."""
        self.results = [self.work(store)]

    def outcome(self) -> T:
        """Return what it returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.results[0]


class Turns:
    """The turns at writing one database. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mutex = threading.Lock()
        self._waiting: deque[_Work[Any]] = deque()
        self._is_led = False

    def write(self, work: Callable[[Store], T]) -> T:
        """Run work that writes no rows of declared tables, together with what else waits; return when it is committed."""
        return self._taken(_Work(work, None))

    def exchange(self, work: Callable[[Store], T], now_ms: int) -> T:
        """Run work that writes rows for a node, likewise; what central programs wrote is journaled before."""
        return self._taken(_Work(work, now_ms))

    def _taken(self, mine: _Work[T]) -> T:
        with self._mutex:
            self._waiting.append(mine)
            leads, self._is_led = not self._is_led, True
        if not leads:
            mine.woken.wait()  # the one who leads wakes us whatever happens to it
        if not mine.is_done:
            self._lead()
        return mine.outcome()

    def _lead(self) -> None:
        with self._mutex:
            works = [self._waiting.popleft() for _ in range(min(len(self._waiting), TOGETHER_MAX))]
        try:
            self._carry_out(works)
        except BaseException as error:
            for each in works:
                each.error = each.error or error
            raise
        finally:
            self._hand_over(works)

    def _hand_over(self, works: Sequence[_Work[Any]]) -> None:
        with self._mutex:
            follower = self._waiting[0] if self._waiting else None
            self._is_led = follower is not None
        for work in works:
            work.is_done = True
            work.woken.set()
        if follower is not None:
            follower.woken.set()

    def _carry_out(self, works: Sequence[_Work[Any]]) -> None:
        """Carry works out and commit; every error is noted with the works that it is of."""
        try:
            self._together(works)
        except Exception as error:
            is_of_all = len(works) == 1 or isinstance(error, WorldError) or self._database.dialect.is_away(error)
            for work in works:
                work.error = error if is_of_all else None
            if not is_of_all:
                for work in works:
                    self._carry_out([work])

    def _together(self, works: Sequence[_Work[Any]]) -> None:
        """Carry works out in one transaction. Raises what the database does, and of one alone what that raises."""
        is_alone = len(works) == 1
        with self._database.writing() as store:
            _each(store, [work for work in works if work.now_ms is None], is_alone)
            exchanges = [work for work in works if work.now_ms is not None]
            if exchanges:
                with centre.engine_writes(store, exchanges[0].now_ms or 0):
                    _each(store, exchanges, is_alone)


def _each(store: Store, works: Sequence[_Work[Any]], is_alone: bool) -> None:
    """Carry works out, each in a savepoint of its own, which an error undoes. One of the database leaves nothing to go on with."""
    for work in works:
        if is_alone:
            work.carry_out(store)
            continue
        store.connection.execute("SAVEPOINT turn")
        try:
            work.carry_out(store)
        except store.dialect.errors:
            raise
        except Exception as error:
            work.error = error
            store.connection.execute("ROLLBACK TO turn")
        store.connection.execute("RELEASE turn")
