"""Tending: while a server runs, its database is compacted once an hour, whatever the number of its processes.

    each process, every ten minutes: was it looked at within the hour? ─► no: server/compacting.py

What goes wrong is told in the log, and tried again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from server.compacting import Compacted, Compactor, Stopped
from server.database import Database
from sync.errors import DatabaseAway, DatabaseFull

PAUSE_MS: Final = 3600 * 1000
"""How long servers that run let the horizon be, after it was looked at."""

LOOK_SECONDS: Final = 600.0
"""How often each process of a server looks whether that time is over."""

STOP_SECONDS: Final = 3.0
"""How long a server that ends waits for the portion that is worked on."""

log = logging.getLogger("outpost.server")


class Tending:
    """Compacts the database of a server that runs, once an hour whatever the number of its processes, while the block runs."""

    def __init__(self, database: Database, clock_ms: Callable[[], int]) -> None:
        self._compactor, self._clock_ms = Compactor(database), clock_ms
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outpost-compacting", daemon=True)

    def __enter__(self) -> Tending:
        """Begin, in a thread that does not keep the process alive."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End after the portion that is worked on; wait for that a moment."""
        self._compactor.stop()
        self._over.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> Compacted | None:
        """Compact the database, unless somebody has looked within the hour. What goes wrong is told in the log, and tried again."""
        database, now_ms = self._compactor.database, self._clock_ms()
        try:
            with database.reading() as store:
                (tended_ms,) = store.connection.execute("SELECT tended_ms FROM _server WHERE id = 1").fetchone()
            if now_ms - PAUSE_MS < tended_ms <= now_ms:
                return None
            done = self._compactor.run(now_ms)
        except Stopped:
            return None
        except Exception as error:
            expected = (*database.dialect.errors, DatabaseAway, DatabaseFull)
            log.warning("the database could not be compacted: %s", error, exc_info=not isinstance(error, expected))
            return None
        if done.images or done.lines or done.bodies:
            log.info("let go of %d deleted rows, %d lines, %d bodies, up to version %d", done.images, done.lines, done.bodies, done.version)
        return done
