"""Nonces: the server gives each out once and takes each back once; that is what makes a signed request fresh.

    issue() ─► Outpost-Nonce ══► node signs ══► renew() ─► is it good? and the next one

They live in a small SQLite file of their own in the server's home (of several server processes on one PostgreSQL database in that:
server/shared_nonces.py). They are disposable: a node without a good
nonce asks for another, so nothing here is worth a wait for the disk (synchronous=OFF), and a server that starts forgets
the earlier ones (after a power cut the file could hold nonces that were spent already).

**Bound.** Anybody may ask for nonces. At most NONCES_MAX are outstanding; beyond it the oldest give way. So an attacker
can make a node's nonce void by asking for NONCES_MAX others between its issue and its use; what it gains is that the
node asks once more. Spec: PROTOCOL.md §9.1, RULES §4. Used by server/app.py.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

from sqlcipher3 import dbapi2 as sqlite

from sync.limits import NONCE_LIFE_MS

T = TypeVar("T")

NONCE_BYTES: Final = 15
"""120 bits, written as 20 characters: nobody guesses one within its life, and each request and each reply carries one."""

NONCES_MAX: Final = 200_000
"""Nonces outstanding at most: about 15 MB on disk."""

ISSUE_MAX: Final = 64
WAIT_MS: Final = 60_000
"""How long a request may wait between reading the clock and coming here."""

PRUNED_MAX: Final = 128
"""Rows looked at for pruning at each issue: more than one issue adds, so expired ones cannot pile up."""

SCHEMA: Final = "CREATE TABLE IF NOT EXISTS nonce (id INTEGER PRIMARY KEY, nonce TEXT NOT NULL UNIQUE, expires_ms INTEGER NOT NULL)"
CORRUPT: Final = frozenset({sqlite.SQLITE_CORRUPT, sqlite.SQLITE_NOTADB})


class Nonces(Protocol):
    """Where single-use nonces are kept. `now_ms` is the server's clock, milliseconds UTC. Safe for many threads."""

    def issue(self, now_ms: int, count: int = 1) -> list[str]:
        """Return this many new nonces (1 … ISSUE_MAX), good for NONCE_LIFE_MS."""

    def renew(self, nonces: Sequence[str], now_ms: int) -> list[tuple[bool, str]]:
        """Use up to ISSUE_MAX nonces up, one after the other; return of each whether it was good, and a new one."""


class SqliteNonces:
    """Nonces in a SQLite file. One connection behind a lock: an operation takes some 50 microseconds."""

    def __init__(self, path: Path, *, nonces_max: int = NONCES_MAX, forget: bool = True) -> None:
        """Open the file; `forget` what was given out before, unless another process of the same server has done so."""
        self._path = path
        self._nonces_max = nonces_max
        self._lock = threading.Lock()
        try:
            self._db = _open(path, forget=forget)
        except sqlite.DatabaseError as error:
            _refuse_unless_corrupt(error)
            self._recreate()

    def issue(self, now_ms: int, count: int = 1) -> list[str]:
        """Return this many new nonces. Prunes some of the expired, and the oldest beyond the bound."""
        nonces = drawn(count)

        def issued(db: sqlite.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            self._insert(db, nonces, now_ms)

        self._run(issued)
        return nonces

    def renew(self, nonces: Sequence[str], now_ms: int) -> list[tuple[bool, str]]:
        """Use nonces up, in their order, and return of each whether it was good, and a new one."""
        fresh = drawn(len(nonces))

        def renewed(db: sqlite.Connection) -> list[bool]:
            db.execute("BEGIN IMMEDIATE")
            taken = [_take(db, nonce) for nonce in nonces]
            self._insert(db, fresh, now_ms)
            return [expires_ms is not None and is_alive(expires_ms, now_ms) for expires_ms in taken]

        return list(zip(self._run(renewed), fresh, strict=True))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _insert(self, db: sqlite.Connection, nonces: list[str], now_ms: int) -> None:
        """Insert in the order of ids, which is the order of age; ids stay within `nonces_max` below the newest. Commits."""
        db.execute(
            "DELETE FROM nonce WHERE id IN (SELECT id FROM (SELECT id, expires_ms FROM nonce ORDER BY id LIMIT ?)"
            " WHERE expires_ms <= ? OR expires_ms > ?)",
            (PRUNED_MAX, now_ms, last_ms(now_ms)),
        )
        rows = [(nonce, now_ms + NONCE_LIFE_MS) for nonce in nonces]
        db.executemany("INSERT INTO nonce (nonce, expires_ms) VALUES (?, ?)", rows)
        db.execute("DELETE FROM nonce WHERE id <= (SELECT max(id) FROM nonce) - ?", (self._nonces_max,))
        db.execute("COMMIT")

    def _run(self, work: Callable[[sqlite.Connection], T]) -> T:
        """Return what the work returns; a file found corrupt is put aside and the work done on a new one."""
        with self._lock:
            try:
                return work(self._db)
            except sqlite.DatabaseError as error:
                _refuse_unless_corrupt(error)
                self._recreate()
                return work(self._db)
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _recreate(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._db = _open(self._path, forget=True)


def drawn(count: int) -> list[str]:
    """Return so many new nonces. Raises ValueError beyond ISSUE_MAX."""
    if not 1 <= count <= ISSUE_MAX:
        raise ValueError("count of nonces")
    return [secrets.token_urlsafe(NONCE_BYTES) for _ in range(count)]


def _open(path: Path, *, forget: bool) -> sqlite.Connection:
    db = sqlite.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA journal_size_limit=4194304")
        db.execute(SCHEMA)
        if forget:
            db.execute("DELETE FROM nonce")
    except sqlite.DatabaseError:
        db.close()
        raise
    return db


def _take(db: sqlite.Connection, nonce: str) -> int | None:
    rows = db.execute("DELETE FROM nonce WHERE nonce = ? RETURNING expires_ms", (nonce,)).fetchall()
    return rows[0][0] if rows else None


def is_alive(expires_ms: int, now_ms: int) -> bool:
    """Tell whether a nonce may be used; one that expires too late was given out under a clock since put back."""
    return now_ms < expires_ms <= last_ms(now_ms)


def last_ms(now_ms: int) -> int:
    """Return when a nonce may expire at the latest. Of requests side by side the one that waited longer reads an older clock: it must
    not take what another was given meanwhile for a nonce of a clock put back.
    """
    return now_ms + NONCE_LIFE_MS + WAIT_MS


def _refuse_unless_corrupt(error: sqlite.DatabaseError) -> None:
    """Raise the error again unless it says that the file is not a sound database (low byte of the extended code)."""
    if (getattr(error, "sqlite_errorcode", 0) & 0xFF) not in CORRUPT:
        raise error
