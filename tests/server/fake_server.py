"""A real server process around a Service of a few lines, for tests of the HTTP surface; not a test itself.

    python -m tests.server.fake_server FOLDER [BODY_SECONDS_MAX BODY_IDLE_SECONDS_MAX]

What a push does is chosen by its `epoch`; how often the service was called stands in /v1/health. `Running` starts one,
`signed` and `talk` speak to it as a node would, or as one should not.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.app import create_app
from server.exchanges import one_by_one
from server.nonces import SqliteNonces
from server.replies import MEDIA
from server.serve import listen, run
from sync import signature, wire
from sync.errors import BadInvitation, Forked, Revoked, UnknownNode
from sync.limits import BODY_IDLE_SECONDS_MAX, BODY_SECONDS_MAX
from sync.messages import (
    HealReply,
    HealRequest,
    JoinReply,
    JoinRequest,
    OfferReply,
    OfferRequest,
    Page,
    Point,
    PullRequest,
    PushReply,
    PushRequest,
    SnapshotReply,
    SnapshotRequest,
    TableDigest,
    Told,
    VerifyReply,
    VerifyRequest,
)

ROOT: Final = Path(__file__).parents[2]
NODE: Final = "018f7a2e-9c1b-7d3a-8e4f-5a6b7c8d9e0f"
REVOKED: Final = "revoked"
PRIVATE_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY: Final = PRIVATE_KEY.public_key().public_bytes_raw()
ZERO: Final = Point(0, bytes(32))
TOLD: Final = Told(0, 0, 0, 0)

FAILS, FORKS, TAKES_A_SECOND, NEVER_ENDS = 500, 409, 1, 666
"""Epochs of a push, and what the service then does."""


class FakeService:
    """Says yes to one node and counts what it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def key_of(self, node: str) -> bytes:
        if node == REVOKED:
            raise Revoked
        if node != NODE:
            raise UnknownNode
        return PUBLIC_KEY

    def keys_of(self, identities: Sequence[str]) -> Sequence[Any]:
        return one_by_one(lambda node, _, __: self.key_of(node))([(node, None) for node in identities], 0)

    def join(self, request: JoinRequest, now_ms: int) -> JoinReply:
        self.calls += 1
        if request.code != "good":
            raise BadInvitation
        return JoinReply(1, NODE, "Лондон", 0, 1, bytes(32))

    def push(self, node: str, request: PushRequest, now_ms: int) -> PushReply:
        self.calls += 1
        if request.epoch == FAILS:
            raise RuntimeError("the secret of the house")
        if request.epoch == FORKS:
            raise Forked
        if request.epoch in (TAKES_A_SECOND, NEVER_ENDS):
            threading.Event().wait(1 if request.epoch == TAKES_A_SECOND else 3600)
        return PushReply(request.epoch, ZERO, ())

    def pull(self, node: str, request: PullRequest, now_ms: int) -> Page:
        self.calls += 1
        return Page(
            epoch=request.epoch,
            incarnation=request.incarnation,
            since=0,
            head=0,
            to=ZERO,
            chain=ZERO,
            position=None,
            rows=(),
            sealed=(),
            removals=(),
            deaths=(),
            conflicts=(),
            segments=(),
            verdicts=(),
            points=(),
            covered=0,
            proof=None,
        )

    def push_all(self, requests: Sequence[tuple[str, PushRequest]], now_ms: int) -> Sequence[Any]:
        return one_by_one(self.push)(requests, now_ms)

    def pull_all(self, requests: Sequence[tuple[str, PullRequest]], now_ms: int) -> Sequence[Any]:
        return one_by_one(self.pull)(requests, now_ms)

    def heal(self, node: str, request: HealRequest, now_ms: int) -> HealReply:
        self.calls += 1
        return HealReply(request.epoch, ZERO, ZERO, ZERO)

    def offer(self, node: str, request: OfferRequest, now_ms: int) -> OfferReply:
        self.calls += 1
        return OfferReply(ZERO, 0, 0)

    def snapshot(self, node: str, request: SnapshotRequest, now_ms: int) -> SnapshotReply:
        self.calls += 1
        return SnapshotReply(None, 0, b"", 0, 0)

    def verify(self, node: str, request: VerifyRequest, now_ms: int) -> VerifyReply:
        self.calls += 1
        return VerifyReply(0, (TableDigest("contact", 0, bytes(32)),), (), None)

    def health(self) -> dict[str, object]:
        return {"calls": self.calls}


def a_push(*, protocol: int = 1, epoch: int = 0) -> PushRequest:
    return PushRequest(protocol, epoch, bytes(16), None, ZERO, ZERO, ZERO, (), (), 0, TOLD)


@dataclass(frozen=True)
class Reply:
    """A reply as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


class Running:
    """A server process that listens."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port or 0

    def connect(self, timeout: float = 30) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout)

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            return _reply(connection.getresponse())

    def talk(self, raw: bytes, timeout: float = 30) -> Reply:
        """Send exactly these bytes and return the reply to them; the connection stays half-sent until it has come."""
        with self.connect(timeout) as connection:
            with contextlib.suppress(ConnectionError):  # the server may have refused, and closed, before the end
                connection.sendall(raw)
            return read_reply(connection)

    def nonce(self) -> str:
        return str(self.ask("POST", "/v1/nonce").document["nonces"][0])

    def headers(self, body: bytes, path: str = "/v1/push", nonce: str | None = None) -> dict[str, str]:
        return signature.sign(PRIVATE_KEY, "POST", path, body, MEDIA, NODE, nonce or self.nonce())

    def signed(self, body: bytes, path: str = "/v1/push") -> Reply:
        return self.ask("POST", path, body, self.headers(body, path))

    def push(self, request: PushRequest) -> Reply:
        return self.signed(wire.pack(request))

    def calls(self) -> int:
        return int(self.ask("GET", "/v1/health").document["calls"])

    def memory_mib(self) -> float:
        """Return the most memory the process ever held (VmHWM)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmHWM")


def head(headers: dict[str, str], length: int | None, path: str = "/v1/push") -> bytes:
    """Return the head of a POST as bytes."""
    more = {} if length is None else {"Content-Length": str(length)}
    lines = [f"POST {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in {**headers, **more}.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def read_reply(connection: socket.socket) -> Reply:
    with contextlib.closing(http.client.HTTPResponse(connection)) as response:
        response.begin()
        return _reply(response)


def _reply(response: http.client.HTTPResponse) -> Reply:
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextlib.contextmanager
def running(folder: Path, *seconds: float) -> Iterator[Running]:
    """Start a server process, wait for its line, and kill it in the end."""
    command = [sys.executable, "-m", "tests.server.fake_server", str(folder), *map(str, seconds)]
    with (
        (folder / "stderr").open("w") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Outpost server ready on http://127.0.0.1:"), (folder / "stderr").read_text()
            yield Running(process, line.split()[-1])
        finally:
            process.kill()


def main() -> None:
    """Serve on a free port."""
    logging.basicConfig(level=logging.INFO)
    seconds = list(map(float, sys.argv[2:]))
    nonces = SqliteNonces(Path(sys.argv[1]) / "nonces.db")
    app = create_app(
        FakeService(),
        nonces,
        clock_ms=lambda: time.time_ns() // 1_000_000,
        body_seconds_max=seconds[0] if seconds else BODY_SECONDS_MAX,
        body_idle_seconds_max=seconds[1] if seconds else BODY_IDLE_SECONDS_MAX,
    )
    with contextlib.closing(listen("127.0.0.1", 0)) as listener:
        run(app, listener)
    print("stopped", file=sys.stderr)


if __name__ == "__main__":
    main()
