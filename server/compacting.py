"""Compacting: what no node needs any more leaves the centre's database, a little at a time, while everybody works.

    the horizon moves on (server/horizon.py), in one commit ─► last images of deleted rows ─► lines of the change index that a
    later one makes superfluous ─► bodies of the journal, but their digests

Work that waits, or was refused or taken back, keeps its body: it is shown, and can be exported. The chain of digests stays whole, and
what a node sends again is known by it. Every portion is a commit of its own and may be repeated: a process that is killed leaves the
rest to the next one. Used by `outpost server compact` and by a server that runs (server/tending.py). Spec: PROTOCOL.md §8.6.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from schema.capture import Store
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from server import horizon, journal
from server.database import Database
from server.horizon import Waiting
from server.scopes import DEAD, ENTER, LEAVE, PRIVATE
from sync.digest import content_digest

PORTION: Final = 1_000
"""Lines, images or bodies of one commit: pushes wait for it, some tens of milliseconds."""

PORTION_BYTES: Final = 4 * 1024 * 1024
"""Bytes of bodies of one commit; a larger one goes alone."""

AT_ONCE: Final = 20_000
"""Lines, images or bodies that are looked for at once."""

Row = tuple[Any, ...]

Tell = Callable[[str, int], None]
"""What is told of the work: its step (images, lines, bodies), and how many of that are done."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What left the database, and what the horizon waits for now."""

    version: int  # the horizon
    images: int
    lines: int
    bodies: int
    waiting: Waiting


class Compactor:
    """Compacts one database."""

    def __init__(self, database: Database, tell: Tell = lambda _step, _done: None, portion: int = PORTION) -> None:
        self.database, self._tell, self._portion = database, tell, portion
        self._stopping = threading.Event()

    def run(self, now_ms: int) -> Compacted:
        """Move the horizon on as far as it may, and remove what lies behind it."""
        with self.database.writing() as store:
            waiting = _move(store, now_ms)
        return self.sweep(waiting)

    def sweep(self, waiting: Waiting) -> Compacted:
        """Remove what lies behind the horizon, if that was not done before."""
        with self.database.reading() as store:
            end = journal.horizon(store)
            swept, emptied = store.connection.execute("SELECT swept, emptied FROM _server WHERE id = 1").fetchone()
        images = lines = bodies = 0
        if swept < end:
            images = self._images(end)
            lines = self._lines(swept, end)
            self._note("swept", end)
        if emptied < end:
            bodies = self._bodies(emptied, end)
            self._note("emptied", self._read(partial(_passing, begin=emptied, end=end))[0][0])
        return Compacted(end, images, lines, bodies, waiting)

    def stop(self) -> None:
        """Let the work end after the portion it is at."""
        self._stopping.set()

    # --- portions ------------------------------------------------------------------------------------------------------

    def _images(self, end: int) -> int:
        """Let the last images of rows go that were deleted up to `end`, with who wrote what in them."""
        done = 0
        while found := self._read(partial(_deleted, end=end)):
            for some in self._portions(found):
                with self._writing() as store:
                    done += sum(_forget(store, t, rid, end) for t, rid in some)
                self._tell("images", done)
        return done

    def _lines(self, begin: int, end: int) -> int:
        """Let lines of the change index go that tell nothing to a node whose cursor is `end` or later."""
        done = 0
        for table, scope in self._places():
            while found := self._read(partial(_superfluous, table=table, scope=scope, begin=begin, end=end)):
                for some in self._portions(found):
                    with self._writing() as store:
                        sql = "DELETE FROM _change WHERE t = ? AND sc = ? AND ver = ? AND lo = ? AND op = ?"
                        store.connection.executemany(sql, [(store.numbers[table], scope, *line) for line in some])
                    done += len(some)
                    self._tell("lines", done)
        return done

    def _places(self) -> Iterator[tuple[str, str]]:
        """Yield every table with every scope key that the change index has lines of."""
        for table, t in self.database.numbers.items():
            last = ""
            while found := self._read(partial(_next_scope, t=t, last=last)):
                ((last,),) = found
                yield table, last

    def _bodies(self, begin: int, end: int) -> int:
        """Keep of bodies their digests alone."""
        done = 0
        while found := self._read(partial(_lengthy, begin=begin, end=end)):
            for some in _by_weight(found, self._portion):
                digests = self._read(partial(_digests, versions=some))  # a body never changes
                with self._writing() as store:
                    store.connection.executemany("UPDATE _journal SET body = ? WHERE ver = ?", digests)
                done += len(some)
                self._tell("bodies", done)
        return done

    def _read(self, rows: Callable[[Store], list[Row]]) -> list[Row]:
        with self.database.reading() as store:
            return rows(store)

    def _portions(self, found: Sequence[Row]) -> Iterator[Sequence[Row]]:
        return (found[at : at + self._portion] for at in range(0, len(found), self._portion))

    def _note(self, column: str, end: int) -> None:
        with self._writing() as store:
            store.connection.execute(f"UPDATE _server SET {column} = ? WHERE id = 1 AND {column} < ?", (end, end))

    def _writing(self) -> AbstractContextManager[Store]:
        if self._stopping.is_set():
            raise Stopped
        return self.database.writing()


class Stopped(Exception):
    """The server ends: another one goes on."""


def _by_weight(found: Sequence[Row], count: int) -> Iterator[list[int]]:
    """Yield the versions of (version, bytes) in portions of so many, or of PORTION_BYTES: what is written over, pushes wait for."""
    some, size = list[int](), 0
    for version, length in found:
        if some and (len(some) == count or size + length > PORTION_BYTES):
            yield some
            some, size = [], 0
        some.append(version)
        size += length
    if some:
        yield some


def _digests(store: Store, versions: Sequence[int]) -> list[Row]:
    """Return what stands for the bodies of versions from now on, one body in memory at a time."""
    sql = "SELECT kind, body FROM _journal WHERE ver = ?"
    found = (store.connection.execute(sql, (version,)).fetchone() for version in versions)
    return [(content_digest(kind, body), version) for version, (kind, body) in zip(versions, found, strict=True)]


def _passing(store: Store, begin: int, end: int) -> list[Row]:
    """Return up to where bodies need not be looked at again: before the first that is kept for a while alone, held or a part."""
    sql = (
        "SELECT COALESCE(MIN(j.ver) - 1, ?) FROM _journal j WHERE j.ver > ? AND j.ver <= ? AND LENGTH(j.body) > ? AND (j.kind = 'part'"
        " OR EXISTS (SELECT 1 FROM _verdict v WHERE v.segment = j.segment AND v.verdict = 'held'))"
    )
    return store.connection.execute(sql, (end, begin, end, journal.DIGEST_BYTES)).fetchall()


def _deleted(store: Store, end: int) -> list[Row]:
    """Return (table, row) of up to AT_ONCE rows that were deleted up to a version."""
    return store.connection.execute("SELECT t, rid FROM _tombstone WHERE ver <= ? LIMIT ?", (end, AT_ONCE)).fetchall()


def _forget(store: Store, t: int, rid: int, end: int) -> bool:
    """Forget a row that was deleted up to a version, unless it has lived again since; tell whether it was."""
    gone = store.connection.execute("DELETE FROM _tombstone WHERE t = ? AND rid = ? AND ver <= ? RETURNING t", (t, rid, end)).fetchone()
    if gone is not None:
        store.connection.execute("DELETE FROM _clock WHERE t = ? AND rid = ?", (t, rid))
    return gone is not None


def _move(store: Store, now_ms: int) -> Waiting:
    """Move the horizon on, and let go of snapshots that lie behind it."""
    policy = horizon.policy(store)
    store.connection.execute("UPDATE _server SET aged = ?, tended_ms = ? WHERE id = 1", (horizon.aged(store, now_ms, policy), now_ms))
    waiting = horizon.wait(store, now_ms, policy)
    store.connection.execute("UPDATE _server SET horizon = ? WHERE id = 1 AND horizon < ?", (waiting.version, waiting.version))
    store.connection.execute("DELETE FROM _snapshot WHERE ver < ?", (waiting.version,))  # their bytes go with the next that is made
    return waiting


def _lengthy(store: Store, begin: int, end: int) -> list[Row]:
    """Return (version, bytes) of up to AT_ONCE bodies after `begin` and up to `end` that need not be kept, oldest first."""
    return store.connection.execute(_BODIES, (begin, end, journal.DIGEST_BYTES, end, AT_ONCE)).fetchall()


_BODIES = (
    # of a transaction in parts the bodies stay as long as its last part's
    "WITH kept AS (SELECT segment FROM _verdict WHERE verdict IN ('held', 'refused', 'withdrawn'))"
    " SELECT j.ver, LENGTH(j.body) FROM _journal j WHERE j.ver > ? AND j.ver <= ? AND LENGTH(j.body) > ?"
    " AND j.kind NOT IN ('epoch', 'backup')"
    " AND (j.segment IS NULL OR j.segment NOT IN (SELECT segment FROM kept))"
    " AND (j.kind <> 'part' OR EXISTS (SELECT 1 FROM _journal l WHERE l.inc = j.inc AND l.first = j.first AND l.kind = 'segment'"
    " AND l.ver <= ? AND l.segment NOT IN (SELECT segment FROM kept)))"
    " ORDER BY j.ver LIMIT ?"
)


def _next_scope(store: Store, t: int, last: str) -> list[Row]:
    return store.connection.execute("SELECT sc FROM _change WHERE t = ? AND sc > ? ORDER BY sc LIMIT 1", (t, last)).fetchall()


def _superfluous(store: Store, table: str, scope: str, begin: int, end: int) -> list[tuple[int, int, int]]:
    """Return (version, row, op) of up to AT_ONCE lines up to `end` that a later one up to `end` makes superfluous, or that tell of rows
    which are gone. Of rows that have no line since `begin` all was looked at before.

    Lines of several rows stay: what they tell never changes. So does the last that tells that a living row left the scope: work of a
    node that had it there is judged by that.
    """
    place: list[Any] = [store.numbers[table], scope]
    since, parameters = "", [*place, end]
    if begin:
        since = " AND c.lo IN (SELECT lo FROM _change WHERE t = ? AND sc = ? AND ver > ? AND ver <= ? AND lo = hi)"
        parameters += [*place, begin, end]
    lines = (
        "SELECT c.ver, c.lo, c.op, MAX(c.ver) OVER (PARTITION BY c.lo) AS newest FROM _change c"
        f" WHERE c.t = ? AND c.sc = ? AND c.ver <= ? AND c.lo = c.hi{since}"
    )
    if scope.startswith(PRIVATE):
        return store.connection.execute(f"SELECT ver, lo, op FROM ({lines}) l LIMIT ?", [*parameters, AT_ONCE]).fetchall()
    is_there = (
        f"EXISTS (SELECT 1 FROM {quote(table)} r WHERE r.{ROW_ID} = l.lo)"
        " OR EXISTS (SELECT 1 FROM _tombstone g WHERE g.t = ? AND g.rid = l.lo)"
    )
    came = f"SELECT 1 FROM _change s WHERE s.t = ? AND s.sc = ? AND s.ver = l.ver AND s.lo = l.lo AND s.op <= {ENTER}"
    sql = (
        f"SELECT ver, lo, op FROM ({lines}) l WHERE ver < newest"
        f" OR (op = {DEAD} OR op = {LEAVE} AND NOT ({is_there})) AND NOT EXISTS ({came}) LIMIT ?"
    )
    return store.connection.execute(sql, [*parameters, place[0], *place, AT_ONCE]).fetchall()
