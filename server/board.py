"""Board: what the board of nodes is to show of pulls, committed by one thread for all that wait.

    thread ─► its notes wait ─► whose turn it is writes those of all, one commit ─► every thread goes on with its replies

Pulls that are answered side by side wait for the database's one writer, behind pushes. When one of them has its turn, all that waited with
it are done.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schema.capture import Store

Note = Callable[[Store], None]
"""Notes one thing about one node; may be called again where its transaction was undone."""

log = logging.getLogger("outpost.server")


@dataclass(eq=False, slots=True)
class _Batch:
    notes: Sequence[Note]
    is_done: bool = False


class Board:
    """What notes wait for. Thread-safe."""

    def __init__(self, write: Callable[[Note], Exception | None]) -> None:
        """`write` carries a note out in a transaction, perhaps several times until it is committed, and returns why it could not."""
        self._write = write
        self._turn = threading.Lock()
        self._waiting: list[_Batch] = []

    def show(self, notes: Sequence[Note]) -> None:
        """Return when these notes are committed; where they cannot be, that is only logged: what is answered is good all the same."""
        if not notes:
            return
        batch = _Batch(notes)
        self._waiting.append(batch)
        with self._turn:
            if not batch.is_done:
                self._write_all()

    def _write_all(self) -> None:
        count = 0

        def all_that_wait(store: Store) -> None:  # those as well who came while this waited for its turn at the database
            nonlocal count
            batches = self._waiting[:]
            count = len(batches)
            for batch in batches:
                for note in batch.notes:
                    note(store)

        try:
            error = self._write(all_that_wait)
        finally:
            done = self._waiting[: count or len(self._waiting)]
            del self._waiting[: len(done)]
            for batch in done:
                batch.is_done = True
        if error is not None:
            log.warning("what nodes told could not be noted: %s", error)
