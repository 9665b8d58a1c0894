"""The centre under fire: the real app on real files, nodes that have joined with keys of their own, honest ones among them.

`ask` goes through the ASGI interface, without sockets; `over_loopback` lets it go over HTTP instead.
"""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schema.registry import load
from server import nodes
from server.app import create_app
from server.console.pages import routes
from server.nonces import SqliteNonces
from server.replies import MEDIA
from server.serve import in_background
from sync import signature
from sync.messages import JoinRequest, Point
from tests.fuzz.sight import Sight
from tests.world import Node, World

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Asked:
    """A request as it goes over the wire."""

    method: str
    path: str
    headers: Headers
    body: bytes = b""
    query: str = ""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Attacker:
    """A node that has joined and says what it likes."""

    name: str
    identity: str
    number: int
    key: Ed25519PrivateKey
    incarnation: bytes


class Centre:
    """One centre with two attackers and two honest nodes. It is empty: tests/fuzz/office.py fills it."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir(exist_ok=True)
        self.random = Random(seed)
        self.world = World(folder, load(()))
        self.nonces = SqliteNonces(folder / "nonces.db")
        clock = self.world.clock.read
        self.app = create_app(self.world.service, self.nonces, clock_ms=clock, extra_routes=routes(self.world.database, clock))
        self.runner = asyncio.Runner()
        self._http: http.client.HTTPConnection | None = None
        self.observer = self.world.database.dialect.open(self.world.database.path, readonly=True)
        self.office = self.world.database.dialect.open(self.world.database.path)
        self.sight = Sight(self.world.schema, self.all)
        self.honest = [self.honest_node("h1", "branch:LON"), self.honest_node("h2", "branch:EDI", "owner:e1")]
        self.attackers = [self.join("a1", "branch:LON"), self.join("a2", "branch:EDI", "owner:e2")]

    def invite(self, name: str, *scope: str) -> str:
        """Return an invitation code."""
        with self.world.database.writing() as store:
            return nodes.invite(store, name, scope, self.world.clock.read())

    def join(self, name: str, *scope: str) -> Attacker:
        """Let an attacker join."""
        code, key = self.invite(name, *scope), Ed25519PrivateKey.from_private_bytes(self.random.randbytes(32))
        incarnation = self.random.randbytes(16)
        public = key.public_key().public_bytes_raw()
        reply = self.world.service.join(JoinRequest((1,), code, public, incarnation), self.world.clock.read())
        self.sight.entitle(reply.node, scope)
        with self.world.database.reading() as store:
            return Attacker(name, reply.node, nodes.number_of(store, reply.node), key, incarnation)

    def honest_node(self, name: str, *scope: str) -> Node:
        """Let a node join that does what nodes do."""
        node = self.world.node(name, *scope)
        self.sight.entitle(node.link.identity, scope)
        return node

    def rescope(self, who: Attacker, *scope: str) -> None:
        """Give a node other scopes. Work that had waited for just that is released behind it, in the same commit, by later versions: what
        that takes out of the scope was the node's to see between them.
        """
        head, there = self.head().number, self.sight.in_scope(scope)
        with self.world.database.writing() as store:
            nodes.rescope(store, who.name, scope, self.world.clock.read())
        self.sight.entitle(who.identity, scope)
        given = "SELECT MAX(ver) FROM _journal WHERE kind = 'rescope' AND ver > ?"
        if self.all(f"SELECT 1 FROM _journal WHERE kind = 'release' AND ver > ({given})", head):
            self.sight.shown(who.identity, there)

    def signed(self, who: Attacker, path: str, body: bytes, media: str = MEDIA, nonce: str | None = None) -> Asked:
        """Return a request with a good signature."""
        fresh = nonce or self.nonces.issue(self.world.clock.read())[0]
        return Asked("POST", path, list(signature.sign(who.key, "POST", path, body, media, who.identity, fresh).items()), body)

    def ask(self, asked: Asked) -> Answer:
        """Return the answer. Raises OSError or HTTPException where a connection was cut instead."""
        return self._over_http(asked) if self._http is not None else self.runner.run(self._in_process(asked))

    async def _in_process(self, asked: Asked) -> Answer:
        headers = [(name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in asked.headers]
        if not any(name == b"host" for name, _ in headers):
            headers.append((b"host", b"127.0.0.1:8470"))
        scope = {
            **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": asked.method, "scheme": "http"},
            **{"path": asked.path, "raw_path": asked.path.encode(), "query_string": asked.query.encode(), "root_path": ""},
            **{"headers": headers, "client": ("127.0.0.1", 5000), "server": ("127.0.0.1", 8470)},
        }
        pieces = [{"type": "http.request", "body": asked.body, "more_body": False}]
        told: list[Any] = []

        async def receive() -> Any:
            return pieces.pop() if pieces else {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            told.append(event)

        await self.app(scope, receive, send)
        found = {name.decode("latin-1"): value.decode("latin-1") for name, value in told[0]["headers"]}
        return Answer(told[0]["status"], found, b"".join(event.get("body", b"") for event in told[1:]))

    @contextmanager
    def over_loopback(self) -> Iterator[None]:
        """Let requests go over a real socket while the block runs."""
        with in_background(self.app) as url:
            parts = urlsplit(url)
            self._http = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
            try:
                yield
            finally:
                self._http.close()
                self._http = None

    def _over_http(self, asked: Asked) -> Answer:
        assert self._http is not None
        try:
            self._http.putrequest(asked.method, asked.path + (f"?{asked.query}" if asked.query else ""), skip_accept_encoding=True)
            for name, value in asked.headers:
                self._http.putheader(name, value.encode("latin-1", "replace"))
            if not any(name.lower() == "content-length" for name, _ in asked.headers):
                self._http.putheader("Content-Length", str(len(asked.body)))
            self._http.endheaders(asked.body or None)
            reply = self._http.getresponse()
            return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._http.close()
            raise

    # --- what it holds -----------------------------------------------------------------------------------------------------

    def changes(self) -> int:
        """Return a number that moves when anybody commits to the centre's database."""
        return int(self.observer.execute("PRAGMA data_version").fetchone()[0])

    def all(self, sql: str, *values: Any) -> list[Any]:
        """Return rows of the centre's database."""
        return self.observer.execute(sql, values).fetchall()

    def content(self) -> dict[str, str]:
        """Return a digest of every table."""
        names = [row[0] for row in self.all("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
        return {name: str(hash(repr(sorted(map(repr, self.all(f'SELECT * FROM "{name}"')))))) for name in names}

    def head(self) -> Point:
        """Return the newest version."""
        return Point(*self.all("SELECT head, digest FROM _server")[0])

    def end(self, incarnation: bytes) -> Point:
        """Return where an incarnation's chain ends."""
        found = self.all("SELECT seq, digest FROM _incarnation WHERE id = ?", incarnation)
        return Point(*found[0]) if found else Point(0, bytes(32))

    def close(self) -> None:
        """Close everything."""
        self.observer.close()
        self.office.close()
        self.runner.close()
        self.nonces.close()
        self.world.close()
