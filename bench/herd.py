"""The herd: a thousand nodes that arrive at once, as branches do whose schedule says 02:00.

Each has sealed 50 receipts; it asks for a nonce, pushes, and pulls, over a connection of its own. What is measured is the server, with
two workers as docs/deploy runs it: the nodes are no more than a key, a chain and one loop that writes and reads sockets, on the same
processors.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench import machine
from bench import server as servers
from bench.figures import ON_POSTGRES, Measured
from bench.workers import worker
from bench.workload import BEGIN_MS, SALE, sales
from sync import signature, wire
from sync.builder import SegmentBuilder
from sync.digest import segment_point
from sync.ids import uuid7
from sync.limits import MESSAGE_BYTES_MAX
from sync.messages import (
    JoinReply,
    JoinRequest,
    Page,
    Point,
    PullRequest,
    PushReply,
    PushRequest,
    Sealed,
    Told,
)

SALES_EACH = 50
WORKERS = 2
BUSY = 503
PAUSE_SECONDS = (0.1, 0.5)
"""How long a node that is told to come back waits, at random in between."""

MEDIA = "application/vnd.outpost.v1+msgpack+zstd"
ZERO = Point(0, bytes(32))
TOLD = Told(0, 0, 0, 0)


@dataclass
class Herd:
    """What came of it: seconds from the start until each node had its page, and how often one was told to come back."""

    seconds: list[float] = field(default_factory=list)
    turned_away: int = 0

    @property
    def p50(self) -> float:
        """Return the median."""
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        """Return what 99 of 100 nodes did not exceed."""
        return sorted(self.seconds)[len(self.seconds) * 99 // 100 - 1]


def herd_round(home: Path, count: int, measured: Measured, url: str | None = None) -> None:
    """Let so many nodes arrive at once, at a server on a file or on an empty PostgreSQL database."""
    home.mkdir(parents=True)
    with servers.running(home / "server", url, WORKERS) as centre:
        found = run(centre.url, centre.invite_all(scopes(count)))
        memory = machine.family_peak_mb(centre.pid)
    name = f"{ON_POSTGRES if url else ''}{count:,} nodes at once"
    measured.add(f"{name}, s until half of them are done", found.p50)
    measured.add(f"{name}, s until 99 of 100 are", found.p99)
    measured.add(f"{name}, times one was told to come back", found.turned_away)
    measured.add(f"{name}, MB: server's processes together", memory)
    shutil.rmtree(home)


def scopes(count: int) -> dict[str, list[str]]:
    """Return the names of so many nodes and the scope of each, a branch of its own."""
    return {f"herd-{number:04d}": [f"branch:{branch(number)}"] for number in range(count)}


def branch(number: int) -> str:
    """Return the branch of a node."""
    return f"H{number:04d}"


def run(url: str, codes: list[str]) -> Herd:
    """Let nodes join one after the other, and then arrive at once; in a process of its own."""
    with worker() as pool:
        return pool.submit(_run, url, codes).result()


def _run(url: str, codes: list[str]) -> Herd:
    return asyncio.run(_arrive(url, codes))


async def _arrive(url: str, codes: list[str]) -> Herd:
    rng, herd = random.Random(len(codes)), Herd()
    members = [await _Member.joined(url, code, number, rng) for number, code in enumerate(codes)]
    begun = time.perf_counter()
    await asyncio.gather(*(member.exchange(herd, begun) for member in members))
    return herd


@dataclass
class _Member:
    """One node: who it is, and what it has sealed."""

    url: str
    node: str
    key: Ed25519PrivateKey
    incarnation: bytes
    epoch: int
    sealed: Sealed
    rng: random.Random

    @classmethod
    async def joined(cls, url: str, code: str, number: int, rng: random.Random) -> _Member:
        """Join with a code, and seal."""
        key, incarnation = Ed25519PrivateKey.generate(), rng.randbytes(16)
        request = JoinRequest((1,), code, key.public_key().public_bytes_raw(), incarnation)
        connection = _Connection(url)
        status, _, body = await connection.post("/v1/join", wire.pack(request), {"content-type": MEDIA})
        await connection.close()
        assert status == 200, body
        reply = wire.unpack(JoinReply, body, MESSAGE_BYTES_MAX)
        return cls(url, reply.node, key, incarnation, reply.epoch, _sealed(number, reply.schema, rng), rng)

    async def exchange(self, herd: Herd, begun: float) -> None:
        """Push and pull, coming back as often as it is told to."""
        while not await self._tried(herd):
            herd.turned_away += 1
            await asyncio.sleep(self.rng.uniform(*PAUSE_SECONDS))
        herd.seconds.append(time.perf_counter() - begun)

    async def _tried(self, herd: Herd) -> bool:
        connection = _Connection(self.url)
        try:
            status, _, body = await connection.post("/v1/nonce", b"", {})
            if status == BUSY:
                return False
            (nonce,) = msgspec.json.decode(body)["nonces"]
            push = PushRequest(
                1, self.epoch, self.incarnation, None, ZERO, ZERO, ZERO, (self.sealed,), (), time.time_ns() // 1_000_000, TOLD
            )
            status, nonce, body = await connection.signed("/v1/push", wire.pack(push), self, nonce)
            if status == BUSY:
                return False
            assert status == 200, body
            pushed = wire.unpack(PushReply, body, MESSAGE_BYTES_MAX)
            assert not pushed.verdicts[0].exceptions, pushed
            pull = PullRequest(1, self.epoch, self.incarnation, ZERO, pushed.head, None, 0, TOLD)
            status, _, body = await connection.signed("/v1/pull", wire.pack(pull), self, nonce)
            if status == BUSY:
                return False
            assert status == 200, body
            assert wire.unpack(Page, body, MESSAGE_BYTES_MAX).position is None
            return True
        except (ConnectionError, asyncio.IncompleteReadError):  # the server hung up on one connection too many
            return False
        finally:
            await connection.close()


class _Connection:
    """A connection that posts, and reads the reply: no more of HTTP than our own server speaks."""

    def __init__(self, url: str) -> None:
        self._host, self._port = urlsplit(url).hostname or "", urlsplit(url).port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def signed(self, path: str, body: bytes, member: _Member, nonce: str) -> tuple[int, str, bytes]:
        """Post what a node has signed."""
        return await self.post(path, body, signature.sign(member.key, "POST", path, body, MEDIA, member.node, nonce))

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """Return status, the nonce for the next request, and body."""
        reader, writer = self._streams = self._streams or await asyncio.open_connection(self._host, self._port)
        lines = [f"POST {path} HTTP/1.1", f"host: {self._host}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        return int(head[0].split()[1]), found.get("outpost-nonce", ""), await reader.readexactly(int(found["content-length"]))

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()


def _sealed(number: int, schema: int, rng: random.Random) -> Sealed:
    """Return a segment of receipts of a node's branch, as its node would seal it: each a transaction of its own."""
    builder, at = SegmentBuilder(), SALE.index("branch_id")
    rows = [
        (uuid7(BEGIN_MS + number, rng.randbytes(10)), *row[1:at], branch(number), *row[at + 1 :]) for row in sales(SALES_EACH, seed=number)
    ]
    builder.insert_rows("sale", SALE, rows, [builder.begin(BEGIN_MS, 0) for _ in rows])
    body = builder.build(rng.randbytes(16), schema, 1)
    return Sealed(body, segment_point(ZERO, body).digest, None)
