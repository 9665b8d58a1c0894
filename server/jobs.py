"""Jobs: requests of one kind that wait for a worker thread are handed to it together.

    run(job) ─► waiting ─► a thread that is free takes as many as go together ─► work([job, …]) ─► each gets its own result

Handing one piece of work to a thread and back costs half a millisecond of both processors; with a thousand nodes at the door that is
more than the work. Who comes alone does not wait. Used by server/app.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import anyio
from anyio.to_thread import run_sync

from sync.errors import TooBusy

J = TypeVar("J")
R = TypeVar("R")

WAITING_MAX: Final = 2_000
"""Jobs of one kind that wait; more are told to come back."""


class Jobs(Generic[J, R]):
    """What works on jobs of one kind, in `threads` of its own. Used from one event loop."""

    def __init__(
        self,
        work: Callable[[Sequence[J]], Sequence[R]],
        *,
        threads: int,
        together_max: int,
        weight: Callable[[J], int] = lambda _: 0,
        weight_max: int = 0,
    ) -> None:
        """`work` returns the result of each job; what it raises is raised to all of them. At most `together_max` jobs go together, and
        no more than weigh `weight_max`, but always one.
        """
        self._work, self._threads = work, threads
        self._together_max, self._weight, self._weight_max = together_max, weight, weight_max
        self._waiting: deque[tuple[J, asyncio.Future[R]]] = deque()
        self._limiter = anyio.CapacityLimiter(threads)
        self._at_work = 0
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds no task

    async def run(self, job: J) -> R:
        """Return the result of a job. Raises TooBusy where too many wait already."""
        if len(self._waiting) >= WAITING_MAX:
            raise TooBusy
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._at_work < self._threads:
            self._at_work += 1
            task = asyncio.create_task(self._empty())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _empty(self) -> None:
        """Work until nothing waits. A request that was given up is worked on all the same: it may be half done elsewhere."""
        try:
            while self._waiting:
                await self._work_on(self._next())
        except BaseException:  # the server stops
            while self._waiting:
                _fail(self._waiting.popleft()[1], TooBusy("The server is stopping."))
            raise
        finally:  # nothing may come between the last look and this: who comes then finds a thread at work, and waits for it
            self._at_work -= 1

    async def _work_on(self, found: list[tuple[J, asyncio.Future[R]]]) -> None:
        try:
            results = await run_sync(self._work, [job for job, _ in found], limiter=self._limiter)
        except BaseException as error:
            for _, future in found:
                _fail(future, error if isinstance(error, Exception) else TooBusy("The server is stopping."))
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), result in zip(found, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _next(self) -> list[tuple[J, asyncio.Future[R]]]:
        found, weight = [self._waiting.popleft()], 0
        weight += self._weight(found[0][0])
        while self._waiting and len(found) < self._together_max:
            weight += self._weight(self._waiting[0][0])
            if weight > self._weight_max:
                break
            found.append(self._waiting.popleft())
        return found


def _fail(future: asyncio.Future[R], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
