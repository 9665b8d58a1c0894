"""Lock: at most one process does a thing with a home at a time (a node's exchange, a server's serving).

A lock file beside the database; the operating system gives it back when its holder ends, however it ends. What the file
contains is for people only. Foreign programs that write rows need no lock: SQLite orders them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sync.errors import UsError

LOOK_SECONDS: Final = 0.05


class HomeBusy(UsError):
    """Another process is busy with this home."""

    code = "home.busy"
    status = 409
    retry = True


@contextmanager
def exclusive(path: Path, busy: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock file at `path` while the block runs. Raises HomeBusy(`busy`) when another holds it for longer than we wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + wait_seconds
        while not _try(descriptor):
            if time.monotonic() >= deadline:
                raise HomeBusy(busy)
            time.sleep(LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)  # gives the lock back; the file stays: deleting it would let two hold "the" lock


if sys.platform == "win32":
    import msvcrt

    def _try(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
