"""A proxy between nodes and a server that mistreats their requests, by a seed: what a bad network and a bad proxy do.

    node ──► link (a port per node) ──fault──► server
         ◄───────────────────────────fault───

Requests and replies are read whole and passed on, mistreated, or kept back. Each link draws its faults from a chance of
its own, so the same seed gives the same faults in the same order of a node's requests. Works in a thread of its own.

    with Proxy(port_of_server, seed=7) as proxy:
        link = proxy.link("till", rate=0.3)     join the node at link.port
        link.cut()                              a partition; link.mend() ends it, proxy.heal() ends every fault
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from tests.faults.background import Background

FAULTS: Final = (
    "drop",
    "lost_reply",
    "bad_gateway",
    "delay",
    "duplicate",
    "reorder",
    "cut_request",
    "cut_reply",
    "slow",
    "half_open",
)
DELAY_SECONDS: Final = 0.05
SLOW_PIECES: Final = 24
HALF_OPEN_SECONDS: Final = 0.3
UPSTREAM_SECONDS: Final = 60.0
BODY_BYTES_MAX: Final = 256 * 1024 * 1024
HEAD_BYTES_MAX: Final = 64 * 1024

BAD_GATEWAY: Final = b"\r\n".join(
    (
        b"HTTP/1.1 502 Bad Gateway",
        b"Content-Type: text/html",
        b"Content-Length: 30",
        b"Connection: close",
        b"",
        b"<html><h1>502 Bad Gateway</h1>",
    )
)


class Gone(Exception):
    """One side of a connection has nothing more to say, or is not to hear more."""


@dataclass
class Link:
    """One node's way to the server. `late` are requests that were kept back; `plan`, faults of the next requests."""

    proxy: Proxy
    name: str
    rate: float
    kinds: tuple[str, ...]
    chance: random.Random
    port: int = 0
    is_cut: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    late: list[bytes] = field(default_factory=list)
    plan: deque[str | None] = field(default_factory=deque)
    open_: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """Begin a partition: connections break, new ones are cut at once."""
        self.proxy.call(self._cut())

    def disconnect(self) -> None:
        """Break what is open now; the next connection works again."""
        self.proxy.call(self._disconnect())

    def mend(self) -> None:
        """End a partition."""
        self.is_cut = False

    async def _cut(self) -> None:
        self.is_cut = True
        self.counts["partition"] += 1
        self.break_connections()

    async def _disconnect(self) -> None:
        self.counts["disconnect"] += 1
        self.break_connections()

    def break_connections(self) -> None:
        """Break every connection of the node, half-open ones too."""
        for writer in list(self.open_):
            writer.transport.abort()

    def draw(self) -> str | None:
        """Return the fault of the next request, None for none; what `plan` says comes before chance."""
        if self.plan:
            return self.plan.popleft()
        return self.chance.choice(self.kinds) if self.kinds and self.chance.random() < self.rate else None


class Proxy(Background):
    """Faults between nodes and the servers at ports of this machine, which take requests in turn; one that is not up is passed over."""

    def __init__(self, *upstreams: int, seed: int = 0) -> None:
        super().__init__("fault-proxy")
        self.upstreams, self.seed = deque(upstreams), seed
        self.links: dict[str, Link] = {}

    def link(self, name: str, rate: float = 0.0, kinds: tuple[str, ...] = FAULTS) -> Link:
        """Open a way to the server for one node; `rate` of its requests meet one of the faults `kinds`."""
        link = Link(self, name, rate, kinds, random.Random(f"{self.seed} {name}"))
        self.call(self._listen(link))
        self.links[name] = link
        return link

    def heal(self) -> None:
        """End all faults: nothing is cut, nothing is mistreated; what was half-open breaks, what was late arrives."""
        self.call(self._heal())

    def counts(self) -> Counter[str]:
        """Return how often each fault has happened."""
        return sum((link.counts for link in self.links.values()), Counter())

    async def _listen(self, link: Link) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(link, reader, writer)
            finally:
                self._tasks.discard(task)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        link.port = server.sockets[0].getsockname()[1]
        self._servers.append(server)

    async def _heal(self) -> None:
        for link in self.links.values():
            link.is_cut, link.rate = False, 0.0
            link.break_connections()
        for link in self.links.values():
            await self._deliver_late(link)

    def break_all(self) -> None:
        """Break every connection; on the loop's thread."""
        for link in self.links.values():
            link.break_connections()

    async def _serve(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a node until either side has enough."""
        link.open_.add(writer)
        with contextlib.suppress(Gone, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            while not link.is_cut:
                request = await _message(reader)
                fault = link.draw()
                link.counts["request"] += 1
                if fault:
                    link.counts[fault] += 1
                await self._pass(link, fault, request, writer)
        link.open_.discard(writer)
        writer.transport.abort()

    async def _pass(self, link: Link, fault: str | None, request: bytes, writer: asyncio.StreamWriter) -> None:
        """Pass one request on, with at most one fault. Raises Gone when the connection is to end."""
        if link.is_cut or fault == "drop":
            raise Gone
        if fault == "half_open":  # nobody answers; the node would wait, so that it is cut in the end
            await asyncio.sleep(HALF_OPEN_SECONDS)
            raise Gone
        if fault == "reorder":  # it arrives after a later request of the same node
            link.late.append(request)
            raise Gone
        if fault == "cut_request":
            await self._send_part(request[: link.chance.randrange(1, len(request))])
            raise Gone
        if fault == "delay":
            await asyncio.sleep(link.chance.uniform(0, DELAY_SECONDS))
        if fault == "duplicate":
            first, reply = await asyncio.gather(self._ask(request), self._ask(request))
            reply = first if link.chance.random() < 0.5 else reply
        else:
            reply = await self._ask(request)
        await self._deliver_late(link)
        if link.is_cut or fault == "lost_reply":
            raise Gone
        await _answer(link, fault, reply, writer)

    async def _deliver_late(self, link: Link) -> None:
        late, link.late = link.late, []
        for request in late:
            with contextlib.suppress(Gone, OSError, asyncio.IncompleteReadError, TimeoutError):
                await self._ask(request)

    async def _ask(self, request: bytes) -> bytes:
        """Send a request on and return the whole reply."""
        reader, writer = await self._connect()
        try:
            writer.write(request)
            await writer.drain()
            return await asyncio.wait_for(_message(reader), UPSTREAM_SECONDS)
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        *others, last = self.upstreams
        self.upstreams.rotate(-1)
        for port in others:
            with contextlib.suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", port, limit=HEAD_BYTES_MAX)
        return await asyncio.open_connection("127.0.0.1", last, limit=HEAD_BYTES_MAX)

    async def _send_part(self, part: bytes) -> None:
        _, writer = await self._connect()
        writer.write(part)
        await writer.drain()
        writer.close()


async def _answer(link: Link, fault: str | None, reply: bytes, writer: asyncio.StreamWriter) -> None:
    """Give a reply to the node, mistreated."""
    if fault == "bad_gateway":  # the server has committed; what stands between says it failed
        writer.write(BAD_GATEWAY)
        await writer.drain()
        raise Gone
    if fault == "cut_reply":
        writer.write(reply[: link.chance.randrange(len(reply))])
        await writer.drain()
        raise Gone
    if fault == "slow":
        size = max(1, len(reply) // SLOW_PIECES)
        for low in range(0, len(reply), size):
            writer.write(reply[low : low + size])
            await writer.drain()
            await asyncio.sleep(0.002)
        return
    writer.write(reply)
    await writer.drain()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Return one whole HTTP message, head and body. Raises Gone at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise Gone from error
    fields = dict(line.lower().partition(b":")[::2] for line in head.split(b"\r\n")[1:] if line)
    if b"transfer-encoding" in fields:
        raise Gone  # neither our nodes nor our server send bodies of unknown length
    length = int(fields.get(b"content-length", b"0"))
    if length > BODY_BYTES_MAX:
        raise Gone
    return head + await reader.readexactly(length)
