"""Nonces of several server processes: in the centre's own PostgreSQL database, where each finds what another gave out.

    any process: issue() ─► Outpost-Nonce ══► node signs ══► any process: renew()

The table is UNLOGGED (not so its numbers: schema/dialects/postgres.py): no commit waits for the disk, and after a crash of the
database, on a replica that takes over and in a backup of its files it is empty. In a dump that is read back it is not; but a row is good
in the table that it was given out in alone. Whoever deletes a row has it, also of many processes at once. Bound and spec as in
server/nonces.py; the clocks of the machines that serve one database may differ by WAIT_MS.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from schema.dialects.base import Connection
from schema.dialects.postgres import Postgres
from server.database import connect, raise_if_away
from server.nonces import NONCES_MAX, PRUNED_MAX, drawn, is_alive, last_ms
from sync.limits import NONCE_LIFE_MS
from sync.signature import NONCE

T = TypeVar("T")

_PRUNED: Final = f"""
pruned AS (
    DELETE FROM _nonce WHERE id IN (
        SELECT id FROM (SELECT id, expires_ms FROM _nonce ORDER BY id LIMIT {PRUNED_MAX} FOR UPDATE SKIP LOCKED) oldest
        WHERE expires_ms <= ?1 OR expires_ms > ?2 OR id <= (SELECT MAX(id) FROM _nonce) - ?3
    )
)"""
_INSERT: Final = """
INSERT INTO _nonce (id, nonce, expires_ms, given_in) OVERRIDING SYSTEM VALUE
SELECT nextval('_nonce_number'), nonce, ?5, '_nonce'::regclass::oid FROM unnest(CAST(?4 AS text[])) AS given (nonce)
ON CONFLICT DO NOTHING"""
"""The oldest are looked at in the order of age; those that another process prunes at this moment are left to it. What is
inserted already is so by the same call, whose reply was lost with its connection."""

_GIVEN: Final = f"WITH {_PRUNED} {_INSERT}"

_RENEWED: Final = f"""
WITH asked AS (SELECT id FROM _nonce WHERE nonce = ANY(CAST(?6 AS text[])) ORDER BY id FOR UPDATE),
taken AS (DELETE FROM _nonce WHERE id IN (SELECT id FROM asked) RETURNING nonce, expires_ms, given_in = tableoid AS is_ours),
{_PRUNED}, given AS ({_INSERT})
SELECT nonce, expires_ms, is_ours FROM taken"""
"""All of them are locked in one order first: two processes that are given the same ones would wait for each other."""


class PostgresNonces:
    """Nonces in a PostgreSQL database. One connection behind a lock; an operation is one statement, and one commit."""

    def __init__(self, url: str, *, nonces_max: int = NONCES_MAX) -> None:
        self._url, self._nonces_max = url, nonces_max
        self._dialect = Postgres()
        self._lock = threading.Lock()
        self._connection = self._open()

    def issue(self, now_ms: int, count: int = 1) -> list[str]:
        """Return this many new nonces. Prunes some of the expired, and the oldest beyond the bound."""
        nonces = drawn(count)
        given = self._given(nonces, now_ms)
        self._run(lambda connection: connection.execute(_GIVEN, given))
        return nonces

    def renew(self, nonces: Sequence[str], now_ms: int) -> list[tuple[bool, str]]:
        """Use nonces up; return of each whether it was good, the first time that it stands there, and a new one. Raises DatabaseAway."""
        fresh = drawn(len(nonces))
        wanted = [nonce for nonce in nonces if NONCE.fullmatch(nonce)]  # another was never given out, and may not be a text here
        given = (*self._given(fresh, now_ms), wanted)
        rows = self._run(lambda connection: connection.execute(_RENEWED, given).fetchall())
        good = {nonce for nonce, expires_ms, is_ours in rows if is_ours and is_alive(expires_ms, now_ms)}
        found = []
        for nonce, new in zip(nonces, fresh, strict=True):
            found.append((nonce in good, new))
            good.discard(nonce)
        return found

    def _given(self, nonces: list[str], now_ms: int) -> tuple[object, ...]:
        return now_ms, last_ms(now_ms), self._nonces_max - len(nonces), nonces, now_ms + NONCE_LIFE_MS

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _open(self) -> Connection:
        connection = connect(self._dialect, self._url)
        connection.execute("SET synchronous_commit = off")
        return connection

    def _run(self, work: Callable[[Connection], T]) -> T:
        """Return what the work returns, done on a new connection where the old one was cut. Raises DatabaseAway, DatabaseFull."""
        with self._lock:
            for is_last in (False, True):
                try:
                    return work(self._connection)
                except self._dialect.errors as error:
                    if is_last or not self._dialect.is_cut(self._connection):
                        raise_if_away(self._dialect, error)
                        raise
                self._connection.close()
                self._connection = self._open()
        raise AssertionError("the second time returns or raises")
