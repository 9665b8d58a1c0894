"""App: the HTTP surface of the server. It knows who calls and that the request is whole, fresh and bounded; no more.

    headers ─► claim ─► of a large body: node's key ─► body, bounded ─► waits with others of its kind (server/jobs.py)
    reply with the next nonce, or a problem document ◄─ answered together in a worker thread (server/exchanges.py) ◄──┘

The order is the point: what costs little refuses first, and nobody unknown makes the server read more than a small body. Spec:
PROTOCOL.md §9 and §10 (error codes).
Run by server/serve.py; calls server/service_protocol.py; counterpart of node/transport.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Any, Final, TypeVar

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from server.exchanges import Exchanges, Serve, Signed, check_protocols, one_by_one
from server.jobs import Jobs
from server.nonces import ISSUE_MAX, Nonces
from server.replies import JSON, MEDIA, PROBLEM, make_safe, problem_response
from server.service_protocol import Service
from sync import signature, wire
from sync.errors import (
    HeadersTooLarge,
    Malformed,
    MethodNotAllowed,
    NotFound,
    TooBusy,
    TooLarge,
    TooSlow,
    UnsupportedMedia,
)
from sync.limits import (
    BODY_BYTES_MAX,
    BODY_IDLE_SECONDS_MAX,
    BODY_SECONDS_MAX,
    HEADER_BYTES_MAX,
    JOIN_BYTES_MAX,
    PROTOCOL_VERSIONS,
)
from sync.messages import HealRequest, JoinRequest, OfferRequest, PullRequest, PushRequest, SnapshotRequest, VerifyRequest

T = TypeVar("T")

BODIES_BYTES_MAX: Final = 128 * 1024 * 1024
"""Bytes of all bodies held at once: being read, waiting for a worker, being worked on."""

SMALL_BYTES: Final = HEADER_BYTES_MAX
"""A body that says it is no longer than this is read before the node's key is looked up, so that both are one piece of work."""

WRITERS, READERS, LOOKUPS = 2, 4, 2
"""Worker threads: pushes (one batch is worked on, one is decoded meanwhile), pulls, and what is looked up before a body is read. The other
kinds have one each. What a thread works on may hold a message of MESSAGE_BYTES_MAX, and the replies to a batch, packed.
"""

PUSHES_MAX, PULLS_MAX = 64, 4
"""Requests worked on together: pushes, committed at once; pulls, whose replies wait for each other."""

TOGETHER_BYTES_MAX: Final = 1024 * 1024
"""Bytes of the requests that are worked on together, with what they hold expanded; one alone may hold MESSAGE_BYTES_MAX."""

STOP_LOOK_SECONDS: Final = 0.5
"""How often a request whose body pauses looks whether the server is stopping."""

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
            Route("/v1/push", surface.signed(PushRequest, service.push_all, WRITERS, PUSHES_MAX), methods=["POST"]),
            Route("/v1/pull", surface.signed(PullRequest, service.pull_all, READERS, PULLS_MAX), methods=["POST"]),
            Route("/v1/snapshot", surface.signed(SnapshotRequest, one_by_one(service.snapshot)), methods=["POST"]),
            Route("/v1/heal", surface.signed(HealRequest, one_by_one(service.heal)), methods=["POST"]),
            Route("/v1/offer", surface.signed(OfferRequest, one_by_one(service.offer)), methods=["POST"]),
            Route("/v1/verify", surface.signed(VerifyRequest, one_by_one(service.verify)), methods=["POST"]),
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
        self.nonces_asked = Jobs[None, str](self._issue, threads=1, together_max=ISSUE_MAX)
        self.joins: Jobs[Callable[[], Response], Response] = Jobs(_done, threads=1, together_max=1)
        self.lookups: Jobs[Callable[[], Any], Any] = Jobs(_done, threads=LOOKUPS, together_max=1)

    async def health(self, request: Request) -> Response:
        """Tell that the server is up and what it speaks."""
        more = await self.lookups.run(self.service.health)
        return _json({"status": "ok", "protocols": list(PROTOCOL_VERSIONS), **more})

    async def nonce(self, request: Request) -> Response:
        """Give out a nonce to whoever asks; the body, if any, is not looked at."""
        return _json({"nonces": [await self.nonces_asked.run(None)]})

    async def join(self, request: Request) -> Response:
        """Answer an unsigned request to join, as a message or as JSON; the reply comes in the same form."""
        media = _check_headers(request, (MEDIA, JSON), JOIN_BYTES_MAX)
        body = _Body(self, request, JOIN_BYTES_MAX)
        async with body:
            data = await body.read()
            return await self.joins.run(lambda: self._join(media, data))

    def signed(self, type_: type[T], serve: Serve[T], threads: int = 1, together_max: int = 1) -> Endpoint:
        """Return the endpoint of a signed request of this type."""
        answer = Exchanges(self.service, self.nonces, self.clock_ms, type_, serve).answer
        jobs = Jobs(answer, threads=threads, together_max=together_max, weight=attrgetter("weight"), weight_max=TOGETHER_BYTES_MAX)

        async def endpoint(request: Request) -> Response:
            _check_headers(request, (MEDIA,), BODY_BYTES_MAX)
            claim = signature.read(request.headers.items())
            if not _is_small(request):
                await self.lookups.run(lambda: self.service.key_of(claim.node))
            body = _Body(self, request, BODY_BYTES_MAX)
            async with body:
                data = await body.read()
                return await jobs.run(Signed(claim, request.method, request.scope["path"], data, self.clock_ms()))

        return endpoint

    def _join(self, media: str, data: bytes) -> Response:
        json_form = media == JSON
        request = wire.unpack_json(JoinRequest, data) if json_form else wire.unpack(JoinRequest, data, JOIN_BYTES_MAX)
        check_protocols(request.protocols)
        reply = self.service.join(request, self.clock_ms())
        return Response(wire.pack_json(reply) if media == JSON else wire.pack(reply), media_type=media)

    def _issue(self, asked: Sequence[None]) -> list[str]:
        return self.nonces.issue(self.clock_ms(), len(asked))


def _done(works: Sequence[Callable[[], T]]) -> list[T]:
    return [work() for work in works]


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
                make_safe(MutableHeaders(scope=event))
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


def _is_small(request: Request) -> bool:
    """Tell whether a request says that its body is small. It may not be, but the server reads no more than was said."""
    declared = request.headers.get("content-length")
    return declared is not None and int(declared) <= SMALL_BYTES


def _json(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), media_type=JSON)


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
