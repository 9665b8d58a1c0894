"""Making: builds one snapshot at a time in the background, in a thread of the process that was asked for it.

What is being made, and how far it is, stands in the database, so that every process of the server tells the same and none makes
what another one is making. A process that dies leaves a line that nobody renews: after HEARD_MS another begins anew.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from schema.capture import Store
from server import absorbing, journal, windows
from server.database import Database
from server.skew import View
from server.snapshot import shelf
from server.snapshot.build import Tell, squeeze, write_rows
from server.snapshot.shelf import Bytes, InFiles, InTable, Wish
from sync.errors import DatabaseAway, DatabaseFull
from sync.messages import Snapshot

ROWS_MIN: Final = 20_000
"""Rows from which a file is worth making: fewer are told in a page or two."""

HEARD_MS: Final = 60_000
"""How long a maker may be silent before it counts as gone."""

TELL_MS: Final = 5_000
"""How often the database is told that the work goes on."""

PAUSE_MS: Final = 600_000
"""How long a snapshot that could not be made is not tried again."""

_MAKING: Final = "making-"

log = logging.getLogger("outpost.server")

Clock = Callable[[], int]


Start = Callable[[Callable[[], None]], None]
"""How work is begun: in a thread, or at once."""


def in_thread(work: Callable[[], None]) -> None:
    """Begin work in a thread that does not keep the process alive: what it has begun, another begins anew."""
    threading.Thread(target=work, name="outpost-snapshot", daemon=True).start()


class Stopped(Exception):
    """The server stops, or another process has taken over."""


class Maker:
    """Makes snapshots of one database. Thread-safe."""

    def __init__(self, database: Database, clock_ms: Clock, start: Start = in_thread, rows_min: int = ROWS_MIN) -> None:
        """Make snapshots of `rows_min` rows and more."""
        self.database, self.rows_min, self._clock_ms, self._start = database, rows_min, clock_ms, start
        self._maker = secrets.token_bytes(16)
        self._busy, self._stopping = threading.Lock(), threading.Event()
        self.bytes: Bytes = InFiles(_folder(database.path)) if isinstance(database.path, Path) else InTable()

    def want(self, wish: Wish, rows: int) -> None:
        """See that a snapshot is made, of about so many rows, unless one is already or this process is at another."""
        if not self._busy.acquire(blocking=False):
            return
        taken_over = False

        def work() -> None:
            nonlocal taken_over
            taken_over = True
            try:
                self._make(wish, rows)
            finally:
                self._busy.release()

        try:
            with self.database.writing() as store:
                is_ours = self._claim(store, wish, rows)
            if is_ours:
                self._start(work)
                taken_over = True
        finally:
            if not taken_over:
                self._busy.release()

    def progress(self, store: Store, wish: Wish, now_ms: int) -> tuple[int, int] | None:
        """Return the rows made and about how many there are of one being made; None where none is, or could be, for a while."""
        sql = "SELECT made, total, failed, heard_ms FROM _building WHERE scope = ? AND schema = ?"
        row = store.connection.execute(sql, wish.key).fetchone()
        if row is None or row[2] or _is_gone(row[3], now_ms):
            return None
        return row[0], row[1]

    def may_make(self, store: Store, wish: Wish, now_ms: int) -> bool:
        """Tell whether one may be tried: not for a while after one could not be made."""
        row = store.connection.execute("SELECT failed FROM _building WHERE scope = ? AND schema = ?", wish.key).fetchone()
        return row is None or not now_ms < row[0] <= now_ms + PAUSE_MS

    def stop(self) -> None:
        """Let what is being made end soon; wait for it a moment."""
        self._stopping.set()
        if self._busy.acquire(timeout=5.0):
            self._busy.release()

    def _claim(self, store: Store, wish: Wish, rows: int) -> bool:
        now_ms = self._clock_ms()
        row = store.connection.execute("SELECT heard_ms, failed FROM _building WHERE scope = ? AND schema = ?", wish.key).fetchone()
        if row is not None and not _is_gone(row[0], now_ms) and not row[1]:
            return False
        store.connection.execute(
            "INSERT INTO _building (scope, schema, maker, heard_ms, made, total, failed) VALUES (?, ?, ?, ?, 0, ?, 0)"
            " ON CONFLICT (scope, schema) DO UPDATE SET maker = excluded.maker, heard_ms = excluded.heard_ms, made = 0,"
            " total = excluded.total, failed = 0",
            (*wish.key, self._maker, now_ms, rows),
        )
        return True

    def _make(self, wish: Wish, rows: int) -> None:
        try:
            self._made(wish, rows)
        except Stopped:
            log.info("a snapshot was given up: the server stops, or another process makes it")
            self._let_go(wish, "DELETE FROM _building")
        except Exception as error:  # first syncs go by pages then
            expected = (OSError, DatabaseAway, DatabaseFull, *self.database.dialect.errors)
            log.warning("a snapshot could not be made: %s", error, exc_info=not isinstance(error, expected))
            self._let_go(wish, f"UPDATE _building SET failed = {self._clock_ms() + PAUSE_MS}")

    def _made(self, wish: Wish, rows: int) -> None:
        tell = self._teller(wish, rows)
        with tempfile.TemporaryDirectory(dir=self._workplace(wish), prefix=_MAKING) as folder:
            plain = Path(folder, "rows.db")
            with absorbing.up_to_date(self.database, self._clock_ms(), strictly=True) as store:
                at, dialect = journal.head(store), self.database.dialect
                dialect.read_through(store.connection, True)
                try:
                    edge = windows.edge(wish.keep_days, self._clock_ms())
                    found = write_rows(View.of(store, wish.schema, edge), wish.scope, plain, tell)
                finally:
                    dialect.read_through(store.connection, False)
            made = squeeze(plain, Path(folder, "rows.zst"), tell)
            self.bytes.put(self.database, made)
        with self.database.writing() as store:
            self._require_own(store, wish)
            snapshot = Snapshot(made.name, at, made.bytes, made.expanded, found, edge)
            self.bytes.drop(store, shelf.put(store, wish, snapshot, self._clock_ms()))
        log.info("a snapshot of %d rows was made, %d bytes, as of version %d", found, made.bytes, at.number)

    def _teller(self, wish: Wish, rows: int) -> Tell:
        """Return what tells the database from time to time that the work goes on, and how far it is."""
        last_ms, last = self._clock_ms(), 0

        def tell(done: int | None) -> None:
            nonlocal last_ms, last
            if self._stopping.is_set():
                raise Stopped
            now_ms, last = self._clock_ms(), last if done is None else done
            if abs(now_ms - last_ms) < TELL_MS:
                return
            last_ms = now_ms
            with self.database.writing() as store:
                self._require_own(store, wish)
                sql = "UPDATE _building SET made = ?, total = ?, heard_ms = ? WHERE scope = ? AND schema = ?"
                store.connection.execute(sql, (last, max(rows, last), now_ms, *wish.key))

        return tell

    def _require_own(self, store: Store, wish: Wish) -> None:
        row = store.connection.execute("SELECT maker FROM _building WHERE scope = ? AND schema = ?", wish.key).fetchone()
        if row is None or row[0] != self._maker:
            raise Stopped

    def _let_go(self, wish: Wish, sql: str) -> None:
        """End our claim."""
        try:
            with self.database.writing() as store:
                store.connection.execute(f"{sql} WHERE scope = ? AND schema = ? AND maker = ?", (*wish.key, self._maker))
        except DatabaseAway as error:
            log.warning("nor could that be noted: %s", error)
        except self.database.dialect.errors as error:
            log.warning("nor could that be noted: %s", error)

    def _workplace(self, wish: Wish) -> Path | None:
        """Return where files are made, without what was left there by processes that died."""
        with self.database.writing() as store:
            is_alone = all(_is_gone(heard_ms, self._clock_ms()) for heard_ms in self._others(store, wish))
            if is_alone:
                self.bytes.sweep(store, shelf.names(store))
        if not isinstance(self.database.path, Path):
            return None  # wherever this machine keeps what is temporary
        folder = _folder(self.database.path)
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in folder.glob(f"{_MAKING}*") if is_alone else ():
            shutil.rmtree(left, ignore_errors=True)
        return folder

    def _others(self, store: Store, wish: Wish) -> list[int]:
        """Return when those were last heard of that make another one."""
        sql = "SELECT heard_ms FROM _building WHERE failed = 0 AND NOT (scope = ? AND schema = ?)"
        return [row[0] for row in store.connection.execute(sql, wish.key).fetchall()]


def _folder(database: Path) -> Path:
    return database.with_name(f"{database.name}-snapshots")


def _is_gone(heard_ms: int, now_ms: int) -> bool:
    """Tell whether a maker has been silent for too long; one heard of in the future spoke before the clock was put back."""
    return not now_ms - HEARD_MS < heard_ms <= now_ms + HEARD_MS
