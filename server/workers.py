"""Workers: several processes on one listening socket, and one that watches over them.

    parent (the socket, no database) ─┬─► worker ─► serves until it is told to stop
                                      ├─► worker     one that dies is started again, for as long as that helps
                                      └─► worker     all of them stop when the parent does, however it ends

SIGTERM or SIGINT to the parent is passed on; each worker stops as a server of one process does (server/serve.py), requests that
it works on first. Used by `outpost server run --workers N`.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, Protocol

from server.serve import STOP_SECONDS, url_of
from sync.errors import OutpostError, UsError

WORKERS_MAX: Final = 64

START_SECONDS: Final = 60.0
"""How long a worker may take until it serves: it opens the database first."""

DEATHS_MAX: Final = 8
DEATHS_SECONDS: Final = 90.0
"""So many deaths within so long, and all stop: what kills workers is not going to pass."""

PAUSE_SECONDS_MAX: Final = 15.0
"""Between the second death of a row and its follower a second passes, then two, four …, and at most so many: a database may be away
for a minute, and the workers that live tell the nodes so.
"""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_KILL_SECONDS: Final = STOP_SECONDS + 1.5

log = logging.getLogger("outpost.server")


class Serve(Protocol):
    """What a worker does: serve on a socket, and tell when it does. It must survive pickling."""

    def __call__(self, listener: socket.socket, ready: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT."""


class WorkersDied(UsError):
    """The server's worker processes end again and again; the server has stopped. What ended them stands above, in its log."""

    code = "server.workers"


def run(serve: Serve, listener: socket.socket, count: int, *, ready: Callable[[str], None]) -> None:
    """Serve with `count` processes (2 … WORKERS_MAX) until SIGTERM or SIGINT; main thread only. Raises WorkersDied."""
    with _told_to_stop() as told:
        crew = _Crew(serve, listener)
        try:
            for _ in range(count):
                crew.start()
            if crew.are_ready(told):
                ready(url_of(listener))
                crew.watch(told)
        finally:
            crew.stop()


class _Crew:
    """The workers that run, and when the last ones died."""

    def __init__(self, serve: Serve, listener: socket.socket) -> None:
        self._serve, self._listener = serve, listener
        self._workers: dict[int, tuple[BaseProcess, Connection]] = {}  # by sentinel
        self._deaths: deque[float] = deque(maxlen=DEATHS_MAX)

    def start(self) -> None:
        """Start a worker."""
        receiver, sender = multiprocessing.Pipe(duplex=False)
        worker = multiprocessing.Process(target=_work, args=(self._serve, self._listener, sender), name="outpost-worker")
        with _signals_kept_back():
            worker.start()
        sender.close()
        self._workers[worker.sentinel] = worker, receiver

    def are_ready(self, told: socket.socket) -> bool:
        """Wait until all serve; False if we are told to stop before. Raises WorkersDied."""
        deadline = time.monotonic() + START_SECONDS
        waiting = {receiver for _, receiver in self._workers.values()}
        while waiting:
            found = wait([*waiting, told], max(0.0, deadline - time.monotonic()))
            if told in found:
                return False
            if not found:
                raise WorkersDied(
                    f"The server's worker processes were not ready after {START_SECONDS:.0f} seconds; the server has stopped."
                )
            for receiver in found:
                assert isinstance(receiver, Connection)
                _require_ready(receiver)
                waiting.discard(receiver)
        return True

    def watch(self, told: socket.socket) -> None:
        """Start workers again that die, until we are told to stop. Raises WorkersDied."""
        while True:
            found = wait([*self._workers, told])
            if told in found:
                return
            for sentinel in found:
                assert isinstance(sentinel, int)
                worker, receiver = self._workers.pop(sentinel)
                worker.join()
                receiver.close()
                pause = self._count_death()
                log.error("worker %s ended with status %s; another takes its place in %d s", worker.pid, worker.exitcode, pause)
                if wait([told], pause):
                    return
                self.start()

    def _count_death(self) -> float:
        """Return how long to wait before another takes the place. Raises WorkersDied."""
        now = time.monotonic()
        self._deaths.append(now)
        recent = sum(now - death < DEATHS_SECONDS for death in self._deaths)
        if recent == DEATHS_MAX:
            raise WorkersDied
        return min(2.0 ** (recent - 2), PAUSE_SECONDS_MAX) if recent > 1 else 0.0

    def stop(self) -> None:
        """Tell all to stop, wait for them, and kill those that do not."""
        for worker, _ in self._workers.values():
            worker.terminate()
        deadline = time.monotonic() + _KILL_SECONDS
        for worker, receiver in self._workers.values():
            worker.join(max(0.0, deadline - time.monotonic()))
            if worker.is_alive():
                log.error("worker %s did not stop in time; it is killed", worker.pid)
                worker.kill()
                worker.join()
            receiver.close()


def _require_ready(receiver: Connection) -> None:
    """Check that a worker has said that it serves. Raises WorkersDied where it ended before."""
    try:
        receiver.recv_bytes(1)
    except EOFError:
        raise WorkersDied("A worker process of the server ended before it served; the server has stopped.") from None


def _work(serve: Serve, listener: socket.socket, sender: Connection) -> None:
    """Be a worker."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)  # until we serve: the parent's handlers are no business of ours
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        serve(listener, lambda _url: sender.send_bytes(b"."))
    except OutpostError as error:  # the database is away, most likely: a line for the log, and no frames
        log.error("worker %s cannot serve: %s", os.getpid(), error)
        sys.exit(1)


def _stop_with_parent() -> None:
    """Stop as told to when the parent has ended: nobody would stop us any more, and it holds the lock."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _signals_kept_back() -> Iterator[None]:
    """Let signals wait while a worker is started: until it is one, the parent's handlers are its own, and would swallow them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


@contextlib.contextmanager
def _told_to_stop() -> Iterator[socket.socket]:
    """Give a socket that becomes readable at SIGTERM or SIGINT."""
    told, teller = socket.socketpair()
    before = {number: signal.signal(number, lambda *_: teller.send(b".")) for number in _SIGNALS}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        told.close()
        teller.close()
