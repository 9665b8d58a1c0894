"""A proxy between a server of ours and PostgreSQL, that strikes around the COMMIT of a turn: what a network does, and who dies then.

    server ──► proxy ──strike──► PostgreSQL        before   the COMMIT has not reached PostgreSQL, and never will
           ◄── proxy ◄──strike──                   at       it has; whether it is carried out depends on what the blow is
                                                   after    it is carried out, and the server never hears of it
                                                   silence  before, and nobody hears that the line is dead

It reads messages of PostgreSQL's protocol 3 as far as that takes: a turn is a transaction in which `_lock` was locked. The
database may move to another port meanwhile (`upstream`), as behind an address that follows a fail-over.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.faults.background import Background

POINTS: Final = ("before", "at", "after")
SILENCE: Final = "silence"
Blow = Callable[[int], None]
"""What happens beside the cut of the connection, given the process at PostgreSQL that serves it. Quick: it is run on the proxy's thread."""

LINGER_SECONDS: Final = 10.0
"""How long PostgreSQL may take over what it was asked after our server's side has gone."""

_TURN: Final = b"LOCK TABLE _lock"
_COMMIT: Final = b"COMMIT\0"
_NO_ENCRYPTION: Final = (80877103, 80877104)  # SSLRequest, GSSENCRequest
_START: Final = 196608  # protocol 3.0; later minors differ in the low half


class Struck(Exception):
    """The connection has met its end."""


@dataclass
class Strike:
    """A blow that is to come at the N-th commit of a turn from now on; `struck` is set when it has."""

    point: str
    left: int
    blow: Blow
    struck: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class Way:
    """One connection: what is known of its statements and of what it is doing."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    backend: int = 0
    commits: set[bytes] = field(default_factory=set)  # names of prepared statements that are a COMMIT
    is_turn: bool = False
    strike: Strike | None = None  # the one that this connection's COMMIT under way meets
    is_deaf: bool = False  # our server has gone; PostgreSQL goes on with what it was asked

    def abort(self) -> None:
        """Break both sides."""
        for writer in (self.client, self.server):
            if writer is not None:
                writer.transport.abort()


class PgProxy(Background):
    """The way to a PostgreSQL server on a port of this machine."""

    def __init__(self, upstream: int) -> None:
        super().__init__("pg-proxy")
        self.upstream, self.port = upstream, 0
        self.turns = 0
        self._ways: set[Way] = set()
        self._strike: Strike | None = None

    def __enter__(self) -> PgProxy:
        super().__enter__()
        self.call(self._listen())
        return self

    def arm(self, point: str, number: int, blow: Blow = lambda _pid: None) -> Strike:
        """Let the `number`-th commit of a turn from now on be struck (from 1), in the place of any strike that is still to come."""
        assert point in (*POINTS, SILENCE)
        assert number > 0
        self._strike = strike = Strike(point, number, blow)
        return strike

    def disarm(self) -> None:
        """Strike no more."""
        self._strike = None

    def cut(self) -> None:
        """Break every connection that is open."""

        async def cut() -> None:
            self.break_all()

        self.call(cut())

    def backends(self) -> list[int]:
        """Return the processes at PostgreSQL that serve the open connections."""
        return [way.backend for way in list(self._ways) if way.backend]

    def break_all(self) -> None:
        """Break every connection; on the loop's thread."""
        for way in list(self._ways):
            way.abort()

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._servers.append(server)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        way = Way(writer)
        self._tasks.add(task)
        self._ways.add(way)
        try:
            with contextlib.suppress(Struck, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(way, reader)
        finally:
            way.abort()
            self._ways.discard(way)
            self._tasks.discard(task)

    async def _serve(self, way: Way, reader: asyncio.StreamReader) -> None:
        """Pass messages on in both directions until either side ends."""
        hello = await _hello(reader, way.client)
        upstream, way.server = await asyncio.open_connection("127.0.0.1", self.upstream)
        way.server.write(hello)
        if int.from_bytes(hello[4:8], "big") >> 16 != _START >> 16:  # to cancel something: no message follows
            await way.server.drain()
            return
        pumps = [asyncio.create_task(self._ask(way, reader)), asyncio.create_task(self._answer(way, upstream))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if way.strike is not None and way.strike.point == SILENCE:
                await asyncio.Event().wait()  # until the proxy closes: PostgreSQL may have ended its side, and nobody tells ours
            if way.is_deaf:
                await asyncio.wait(pumps[1:], timeout=LINGER_SECONDS)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    # --- from the server of ours to PostgreSQL ---------------------------------------------------------------------------------

    async def _ask(self, way: Way, reader: asyncio.StreamReader) -> None:
        assert way.server is not None
        while True:
            kind, body = await _message(reader)
            if self._is_commit(way, kind, body) and way.is_turn:
                way.is_turn = False
                way.strike = self._due()
                if way.strike is not None and way.strike.point == SILENCE:
                    await _forget(way)
                if way.strike is not None and way.strike.point == "before":
                    _hit(way)
            way.server.write(kind + _framed(body))
            await way.server.drain()
            if way.strike is not None and way.strike.point == "at" and kind in (b"Q", b"S"):
                way.is_deaf = True
                way.client.transport.abort()
                way.server.write_eof()  # nothing more comes; what has come is still read
                _hit(way)

    def _is_commit(self, way: Way, kind: bytes, body: bytes) -> bool:
        """Tell whether a message asks for a COMMIT; note what prepared statements are one, and whether a turn begins."""
        if kind == b"Q":
            way.is_turn = way.is_turn or _TURN in body
            return body == _COMMIT
        if kind == b"P":
            name, _, query = body.partition(b"\0")
            (way.commits.add if query.startswith(_COMMIT) else way.commits.discard)(name)
        return kind == b"B" and body.split(b"\0", 2)[1] in way.commits

    def _due(self) -> Strike | None:
        """Count a turn's commit; return the strike that it meets."""
        self.turns += 1
        strike = self._strike
        if strike is None:
            return None
        strike.left -= 1
        if strike.left:
            return None
        self._strike = None
        return strike

    # --- and back ----------------------------------------------------------------------------------------------------------------

    async def _answer(self, way: Way, reader: asyncio.StreamReader) -> None:
        while True:
            kind, body = await _message(reader)
            if kind == b"K":
                way.backend = int.from_bytes(body[:4], "big")
            if kind == b"C" and body == _COMMIT and way.strike is not None and way.strike.point == "after":
                _hit(way)
            if kind == b"Z" and body == b"I":
                way.is_turn = False
            if not way.is_deaf:
                way.client.write(kind + _framed(body))
                await way.client.drain()


def _hit(way: Way) -> None:
    """Let the blow fall and break the connection. Raises Struck."""
    strike = way.strike
    assert strike is not None
    strike.blow(way.backend)
    if not way.is_deaf:
        way.abort()
    strike.struck.set()
    raise Struck


async def _forget(way: Way) -> None:
    """Pass nothing on any more, in either direction, and close nothing, until somebody else breaks the connection."""
    assert way.strike is not None
    way.is_deaf = True
    way.strike.blow(way.backend)
    way.strike.struck.set()
    await asyncio.Event().wait()


async def _hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Return a connection's first message, after saying that nothing is encrypted here."""
    while True:
        length = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(length, "big") - 4)
        if int.from_bytes(body[:4], "big") not in _NO_ENCRYPTION:
            return length + body
        writer.write(b"N")


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the next message: its kind, one byte, and its body."""
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


def _framed(body: bytes) -> bytes:
    return (len(body) + 4).to_bytes(4, "big") + body
