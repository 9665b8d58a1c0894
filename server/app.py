"""App: the HTTP surface of the server. It knows who calls and that the request is whole, fresh and bounded; no more.

    headers ─► claim ─► node's key ─► body, bounded ─► digest, signature ─► nonce spent ─► expand ─► version ─► message
                                                                              Service (worker thread) ◄───┘
    reply with the next nonce ◄─ packed message, or a problem document (RFC 9457) ◄─┘

The order is the point: what costs little refuses first, nobody unknown makes the server read a body, and nothing that
is not signed by the node reaches the decompressor or the decoder. Spec: PROTOCOL.md §9 and §10 (error codes).
Run by server/serve.py; calls server/service_protocol.py; counterpart of node/transport.py.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import anyio
import msgspec
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from server.nonces import Nonces
from server.service_protocol import Service
from sync import signature, wire
from sync.errors import (
    DatabaseAway,
    HeadersTooLarge,
    Internal,
    Malformed,
    MethodNotAllowed,
    NewerFile,
    NotFound,
    OutpostError,
    TooBusy,
    TooLarge,
    TooSlow,
    UnknownProtocol,
    UnsupportedMedia,
    WorldError,
)
from sync.limits import (
    BODY_BYTES_MAX,
    BODY_IDLE_SECONDS_MAX,
    BODY_SECONDS_MAX,
    HEADER_BYTES_MAX,
    JOIN_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    PROTOCOL_VERSIONS,
)
from sync.messages import HealRequest, JoinRequest, Message, OfferRequest, PullRequest, PushRequest, VerifyRequest

T = TypeVar("T")

MEDIA: Final = "application/vnd.outpost.v1+msgpack+zstd"
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
NONCE_HEADER: Final = "Outpost-Nonce"

BODIES_BYTES_MAX: Final = 128 * 1024 * 1024
"""Bytes of all bodies held at once: being read, waiting for a worker, being worked on."""

WAITING_MAX: Final = 2_000
"""Requests waiting for a worker thread of one kind; more are told to come back. What they hold meanwhile is in BODIES_BYTES_MAX."""

WRITERS, READERS, LOOKUPS = 2, 4, 4
"""Worker threads: pushes and joins, which are committed together (server/turns.py); pulls and verifies; key lookups."""

HEAVY, HEAVY_BYTES = 2, 256 * 1024
"""Requests with a body beyond so many bytes, expanded, that are worked on at a time for each kind: one, while the next is decoded. Each
may hold a message of MESSAGE_BYTES_MAX."""

STOP_LOOK_SECONDS: Final = 0.5
"""How often a request whose body pauses looks whether the server is stopping."""

SAFE_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

log = logging.getLogger("outpost.server")

Clock = Callable[[], int]
Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(
    service: Service,
    nonces: Nonces,
    *,
    clock_ms: Clock,
    extra_routes: Sequence[BaseRoute] = (),
    body_seconds_max: float = BODY_SECONDS_MAX,
    body_idle_seconds_max: float = BODY_IDLE_SECONDS_MAX,
) -> Starlette:
    """Return the ASGI application. `app.state.stopping = True` makes requests still waiting for their body give up."""
    surface = _Surface(service, nonces, clock_ms, body_seconds_max, body_idle_seconds_max)
    app = Starlette(
        routes=[
            Route("/v1/health", surface.health, methods=["GET"]),
            Route("/v1/nonce", surface.nonce, methods=["POST"]),
            Route("/v1/join", surface.join, methods=["POST"]),
            Route("/v1/push", surface.signed(PushRequest, service.push, surface.writers), methods=["POST"]),
            Route("/v1/pull", surface.signed(PullRequest, service.pull, surface.readers), methods=["POST"]),
            Route("/v1/heal", surface.signed(HealRequest, service.heal, surface.writers), methods=["POST"]),
            Route("/v1/offer", surface.signed(OfferRequest, service.offer, surface.writers), methods=["POST"]),
            Route("/v1/verify", surface.signed(VerifyRequest, service.verify, surface.readers), methods=["POST"]),
            *extra_routes,
        ],
        middleware=[Middleware(_Guard)],
        exception_handlers={HTTPException: _on_http_exception},
    )
    app.router.redirect_slashes = False
    app.state.stopping = False
    return app


class _Surface:
    """The endpoints and what they share: the bytes of bodies held, the worker threads."""

    def __init__(self, service: Service, nonces: Nonces, clock_ms: Clock, seconds: float, idle_seconds: float) -> None:
        self.service, self.nonces, self.clock_ms = service, nonces, clock_ms
        self.seconds, self.idle_seconds = seconds, idle_seconds
        self.bodies_bytes = 0
        self.writers, self.readers, self.lookups = _Workers(WRITERS), _Workers(READERS), _Workers(LOOKUPS)

    async def health(self, request: Request) -> Response:
        """Tell that the server is up and what it speaks."""
        more = await self._work(self.lookups, self.service.health)
        return _json({"status": "ok", "protocols": list(PROTOCOL_VERSIONS), **more})

    async def nonce(self, request: Request) -> Response:
        """Give out a nonce to whoever asks; the body, if any, is not looked at."""
        return _json({"nonces": await self._work(self.lookups, self._next_nonce)})

    async def join(self, request: Request) -> Response:
        """Answer an unsigned request to join, as a message or as JSON; the reply comes in the same form."""
        media = _check_headers(request, (MEDIA, JSON), JOIN_BYTES_MAX)
        body = _Body(self, request, JOIN_BYTES_MAX)
        async with body:
            data = await body.read()
            return await self._work(self.writers, lambda: self._join(media, data))

    def signed(self, type_: type[T], serve: Callable[[str, T, int], Message], workers: _Workers) -> Endpoint:
        """Return the endpoint of a signed request of this type."""

        async def endpoint(request: Request) -> Response:
            _check_headers(request, (MEDIA,), BODY_BYTES_MAX)
            claim = signature.read(request.headers.items())
            key = await self._work(self.lookups, lambda: self.service.key_of(claim.node))
            body = _Body(self, request, BODY_BYTES_MAX)
            async with body:
                data = await body.read()
                method, path = request.method, request.scope["path"]
                return await self._work(workers, lambda: self._answer(claim, key, method, path, data, type_, serve, workers))

        return endpoint

    def _answer(
        self,
        claim: signature.Claim,
        key: bytes,
        method: str,
        path: str,
        data: bytes,
        type_: type[T],
        serve: Callable[[str, T, int], Message],
        workers: _Workers,
    ) -> Response:
        """Return the reply to a request that is here in full. From the signature on, every reply brings a nonce."""
        signature.check(claim, key, method, path, data)
        try:
            self.nonces.spend(claim.nonce, self.clock_ms())
            with workers.room_for(data):
                message = _message(type_, data)
                response = Response(wire.pack(serve(claim.node, message, self.clock_ms())), media_type=MEDIA)
        except Exception as error:
            response = problem_response(error)
        try:
            response.headers[NONCE_HEADER] = self._next_nonce()[0]
        except WorldError:
            log.warning("no nonce for the next request: the database is away")  # the node asks for one; its reply it has to have
        return response

    def _join(self, media: str, data: bytes) -> Response:
        json_form = media == JSON
        request = wire.unpack_json(JoinRequest, data) if json_form else wire.unpack(JoinRequest, data, JOIN_BYTES_MAX)
        _check_protocols(request.protocols)
        reply = self.service.join(request, self.clock_ms())
        return Response(wire.pack_json(reply) if media == JSON else wire.pack(reply), media_type=media)

    def _next_nonce(self) -> list[str]:
        return self.nonces.issue(self.clock_ms())

    async def _work(self, workers: _Workers, work: Callable[[], T]) -> T:
        """Return what `work` returns in a worker thread. Raises TooBusy where too many wait already."""
        if workers.limiter.statistics().tasks_waiting >= WAITING_MAX:
            raise TooBusy
        return await run_sync(work, limiter=workers.limiter)


class _Workers:
    """The worker threads of one kind of request, few of which may have much in memory at a time."""

    def __init__(self, threads: int) -> None:
        self.limiter = anyio.CapacityLimiter(threads)
        self._heavy = threading.Semaphore(HEAVY)

    @contextmanager
    def room_for(self, data: bytes) -> Iterator[None]:
        """Run a block that expands a body, when there is room for it. Raises Malformed."""
        if wire.stated_size(data) <= HEAVY_BYTES:
            yield
            return
        with self._heavy:
            yield


class _Body:
    """A request's body, counted against its own bound and against the bytes of all bodies while it is held."""

    def __init__(self, surface: _Surface, request: Request, bytes_max: int) -> None:
        self._surface, self._request, self._bytes_max = surface, request, bytes_max
        self._bytes = 0

    async def __aenter__(self) -> None:
        """Nothing is held yet."""

    async def __aexit__(self, *error: object) -> None:
        self._surface.bodies_bytes -= self._bytes

    async def read(self) -> bytes:
        """Return the body. Raises TooLarge, TooSlow, TooBusy; Malformed when the sender went away."""
        deadline = anyio.current_time() + self._surface.seconds
        parts: list[bytes] = []
        while True:
            event = await self._next_event(deadline)
            if event["type"] == "http.disconnect":
                raise Malformed("The connection ended before the whole body had come.")
            part = event.get("body", b"")
            self._hold(len(part))
            parts.append(part)
            if not event.get("more_body", False):
                return b"".join(parts)

    def _hold(self, bytes_: int) -> None:
        self._bytes += bytes_
        self._surface.bodies_bytes += bytes_
        if self._bytes > self._bytes_max:
            raise TooLarge(f"The body is larger than {self._bytes_max} bytes.")
        if self._surface.bodies_bytes > BODIES_BYTES_MAX:
            raise TooBusy

    async def _next_event(self, deadline: float) -> Event:
        """Return the next piece. Given up at the deadline, after too long a pause, or when the server stops."""
        idle_deadline = min(deadline, anyio.current_time() + self._surface.idle_seconds)
        while not self._request.app.state.stopping:
            left = idle_deadline - anyio.current_time()
            if left <= 0:
                raise TooSlow
            with anyio.move_on_after(min(left, STOP_LOOK_SECONDS)):
                return await self._request.receive()
        raise TooBusy("The server is stopping.")


class _Guard:
    """Around everything: bounded headers, safe response headers, and a problem document whatever goes wrong."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_safely(event: Event) -> None:
            nonlocal started
            if event["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=event)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(event)

        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES_MAX:
                raise HeadersTooLarge
            await self.app(scope, receive, send_safely)
        except asyncio.CancelledError:  # it took longer than a server that stops waits; what became of it is asked again
            if started:
                raise
            log.warning("a request did not end before the server stopped")
            await problem_response(TooBusy("The server is stopping."))(scope, receive, send_safely)
        except Exception as error:
            if started:
                raise
            await problem_response(error)(scope, receive, send_safely)


def _check_headers(request: Request, medias: Sequence[str], bytes_max: int) -> str:
    """Return the content type. Raises UnsupportedMedia, TooLarge, Malformed for what the headers alone show."""
    headers: Headers = request.headers
    media = headers.get("content-type", "")
    if media not in medias:
        raise UnsupportedMedia(f"The content type must be {' or '.join(medias)}.", supported=list(medias))
    if headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMedia("The body must not be encoded beyond its content type.", supported=list(medias))
    if request.scope["query_string"]:
        raise Malformed("This address takes no query.")
    declared = headers.get("content-length", "0")
    if len(declared) > len(str(bytes_max)) or not declared.isdecimal() or int(declared) > bytes_max:
        raise TooLarge(f"The body is larger than {bytes_max} bytes.")
    return media


def _message(type_: type[T], data: bytes) -> T:
    """Return the request that the body holds; its version is looked at before its shape."""
    plain = wire.expand(data, MESSAGE_BYTES_MAX)
    _check_protocols((wire.protocol_of(plain),))
    return wire.decode(type_, plain)


def _check_protocols(protocols: Sequence[int]) -> None:
    if not set(protocols) & set(PROTOCOL_VERSIONS):
        raise UnknownProtocol(supported=list(PROTOCOL_VERSIONS))


def _json(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), media_type=JSON)


def problem_response(error: Exception) -> Response:
    """Return the problem document of the error; one that is not of our tree is logged and said to be ours. So is a database
    that a newer program, or one with other tables, has opened: nodes try again, once somebody has started this server anew.
    """
    if isinstance(error, DatabaseAway):  # where it lies, and whose it is, is for the log alone
        log.warning("%s", error)
        error = DatabaseAway()
    if not isinstance(error, OutpostError) or isinstance(error, NewerFile):
        incident = secrets.token_hex(4)
        log.error("incident %s", incident, exc_info=error)
        error = Internal(incident=incident)
    return Response(msgspec.json.encode(error.document()), status_code=error.status, media_type=PROBLEM)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Return the problem document of what Starlette itself refuses: unknown addresses and methods."""
    assert isinstance(error, HTTPException)
    known = {404: NotFound, 405: MethodNotAllowed}.get(error.status_code)
    if known is None:
        response = _json({"type": "about:blank", "title": error.detail, "status": error.status_code, "code": "http.error"})
        response.status_code, response.headers["Content-Type"] = error.status_code, PROBLEM
    else:
        response = problem_response(known())
    response.headers.update(error.headers or {})
    return response
