"""Jobs: what waits goes together, within bounds, and each gets what is its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from server import jobs
from server.jobs import Jobs
from sync.errors import TooBusy


class Worker:
    """Works on batches, once it is let; notes what came together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began, self.may = threading.Event(), threading.Event()

    def work(self, found: Sequence[int]) -> list[int]:
        self.batches.append(list(found))
        self.began.set()
        assert self.may.wait(30)
        if 13 in found:
            raise ValueError("thirteen")
        return [job * 10 for job in found]


async def behind_the_first(worker: Worker, made: Jobs[int, int], *given: int) -> list[Any]:
    """Begin with one job, give the others while that is at work, and return what became of all."""
    tasks = [asyncio.create_task(made.run(0))]
    await asyncio.to_thread(worker.began.wait, 30)
    tasks += [asyncio.create_task(made.run(job)) for job in given]
    await asyncio.sleep(0)
    worker.may.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def outcome(story: Callable[[Worker], Awaitable[Any]]) -> tuple[Any, list[list[int]]]:
    worker = Worker()

    async def told() -> Any:
        return await story(worker)

    return asyncio.run(told()), worker.batches


def test_who_comes_alone_does_not_wait_and_what_waits_goes_together() -> None:
    found, batches = outcome(lambda worker: behind_the_first(worker, Jobs(worker.work, threads=1, together_max=4), *range(1, 7)))
    assert found == [0, 10, 20, 30, 40, 50, 60]
    assert batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_no_more_goes_together_than_the_weight_allows_but_always_one() -> None:
    def made(worker: Worker) -> Jobs[int, int]:
        return Jobs(worker.work, threads=1, together_max=9, weight=lambda job: job, weight_max=5)

    found, batches = outcome(lambda worker: behind_the_first(worker, made(worker), 2, 3, 1, 99, 4))
    assert found == [0, 20, 30, 10, 990, 40]
    assert batches == [[0], [2, 3], [1], [99], [4]]


def test_an_error_is_of_those_that_went_together_and_the_next_go_on() -> None:
    found, batches = outcome(lambda worker: behind_the_first(worker, Jobs(worker.work, threads=1, together_max=2), 12, 13, 14))
    assert [type(each) for each in found] == [int, ValueError, ValueError, int]
    assert batches == [[0], [12, 13], [14]]


def test_beyond_the_bound_they_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "WAITING_MAX", 2)
    found, batches = outcome(lambda worker: behind_the_first(worker, Jobs(worker.work, threads=1, together_max=9), 1, 2, 3))
    assert found[:3] == [0, 10, 20]
    assert isinstance(found[3], TooBusy)
    assert batches == [[0], [1, 2]]


def test_whoever_gives_up_keeps_nobody_from_his_result() -> None:
    async def story(worker: Worker) -> list[Any]:
        made = Jobs(worker.work, threads=1, together_max=9)
        first = asyncio.create_task(made.run(0))
        await asyncio.to_thread(worker.began.wait, 30)
        tasks = [asyncio.create_task(made.run(job)) for job in (1, 2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        worker.may.set()
        return await asyncio.gather(first, *tasks, return_exceptions=True)

    found, batches = outcome(story)
    assert found[0] == 0
    assert isinstance(found[1], asyncio.CancelledError)
    assert found[2] == 20
    assert batches == [[0], [1, 2]]


def test_who_comes_as_the_last_is_done_is_not_left_waiting() -> None:
    """A thread counted as at work until the loop came round again: who came in that moment waited for it. Found by a reader."""

    async def story(worker: Worker) -> list[int]:
        worker.may.set()
        made = Jobs(worker.work, threads=1, together_max=4)
        return [await asyncio.wait_for(made.run(job), 10) for job in range(12)]

    found, batches = outcome(story)
    assert found == [job * 10 for job in range(12)]
    assert batches == [[job] for job in range(12)]
