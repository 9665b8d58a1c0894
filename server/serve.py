"""Serve: runs the app on uvicorn, bounded in connections, headers, patience and the time it takes to stop.

uvicorn waits for ever for the rest of a head or of a refused body, and tells of unreadable requests in plain text;
`_Connection` ends the first and writes problem documents for the second. Bodies are bounded by server/app.py.

Stopping (SIGTERM, SIGINT): no new connections; requests still waiting for their body are told so; those being worked on
have GRACE_SECONDS; STOP_SECONDS after the signal the process ends whatever happens, as if it had been killed, which
the store is built for. Used by `outpost server run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import h11
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.replies import PROBLEM, SAFE_HEADERS, problem_response
from sync.errors import HeadersTooLarge, Malformed, TooBusy
from sync.limits import HEADER_BYTES_MAX

CONNECTIONS_MAX: Final = 2_000
"""Connections that are served; the next are told that the server is busy, from twice as many on they are cut. Fewer where the system
lets a process have fewer files open (`_find_room`).
"""

FILES: Final = 256
"""Files that a server has open besides its connections: databases, with some to spare."""

PATIENCE_SECONDS: Final = 15.0
"""How long a connection may take over the head of a request, or over the rest of a body that was refused."""

KEEP_ALIVE_SECONDS: Final = 15
"""How long a connection may stay idle between requests; more than a node keeps one (node/transport.py)."""

UNREAD_SECONDS: Final = 600.0
"""How long a reply may take to be read once the connection is done with."""

GRACE_SECONDS: Final = 3
STOP_SECONDS: Final = 4.5

log = logging.getLogger("outpost.server")


def say_ready(url: str) -> None:
    """Print the one line that says where the server listens."""
    print(f"Outpost server ready on {url}", flush=True)


def run(app: Starlette, listener: socket.socket, *, ready: Callable[[str], None] = say_ready) -> None:
    """Serve until SIGTERM or SIGINT, on a socket from `listen`; main thread only. Calls `ready` with its address when it is served."""
    _find_room()
    server = _Server(app, lambda: ready(url_of(listener)))
    end = threading.Timer(STOP_SECONDS, _end_process)
    end.daemon = True
    server.on_stop = end.start
    threads_before = set(threading.enumerate())
    with _signals_ignored_once_handled():
        server.run(sockets=[listener])
    for thread in set(threading.enumerate()) - threads_before - {end}:
        thread.join()  # a worker still busy; if it does not end, `end` ends the process
    end.cancel()


_room = 1 << 30
"""Connections for which this process may open files."""


def connections_max() -> int:
    """Return how many connections are served at once."""
    return min(CONNECTIONS_MAX, _room)


def _find_room() -> None:
    """Ask the system for as many files as connections take, and be content with what it gives."""
    if sys.platform == "win32":
        return
    import resource

    global _room
    wanted = 2 * CONNECTIONS_MAX + FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft != resource.RLIM_INFINITY and soft < wanted:
        _room = max(1, (soft - FILES) // 2)
        log.warning("only %d connections at once: this process may have no more than %d files open", _room, soft)


@contextlib.contextmanager
def in_background(app: Starlette, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in a thread of this process while the block runs; gives the server's address. For tests and the demo."""
    ready = threading.Event()
    with contextlib.closing(listen(host, port)) as listener:
        server = _Server(app, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="outpost-server")
        thread.start()
        try:
            while thread.is_alive() and not ready.wait(0.05):
                pass
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()


class _Server(uvicorn.Server):
    """uvicorn's server, which tells when it listens and tells the app when it stops."""

    def __init__(self, app: Starlette, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                _Busy(app, self),
                http=_Connection,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
                h11_max_incomplete_event_size=HEADER_BYTES_MAX,
            )
        )
        self._app, self._on_ready = app, on_ready
        self.on_stop: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell, then stop."""
        self._app.state.stopping = True
        self.on_stop()
        await super().shutdown(sockets)


class _Busy:
    """The app, or a refusal while there are more connections than CONNECTIONS_MAX."""

    def __init__(self, app: Starlette, server: uvicorn.Server) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if len(self._server.server_state.connections) <= connections_max():
            await self._app(scope, receive, send)
            return
        response = problem_response(TooBusy())
        response.headers.update({**SAFE_HEADERS, "Connection": "close"})
        await response(scope, receive, send)


class _Connection(H11Protocol):
    """A connection whose patience has an end, and which refuses unreadable requests with a problem document."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does this only where the listening socket names its protocol; without it a reply waits 40 ms (Nagle)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > 2 * connections_max():
            transport.abort()
        self._keep_watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._keep_watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_watch()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; what of a reply is not read by then has UNREAD_SECONDS more."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, or has too large a head, in the place where uvicorn writes plain text."""
        error = sys.exc_info()[1]
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # a reply is under way already
            return
        too_large = isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431
        problem = HeadersTooLarge() if too_large else Malformed("The request is not HTTP/1.1.")
        body = msgspec.json.encode(problem.document())
        headers = {**SAFE_HEADERS, "Content-Type": PROBLEM, "Content-Length": str(len(body)), "Connection": "close"}
        for event in (
            h11.Response(status_code=problem.status, headers=list(headers.items())),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _keep_watch(self) -> None:
        """Let the clock run while the peer owes the rest of a head or of a refused body; it does not start anew."""
        if self.conn.our_state not in (h11.IDLE, h11.DONE):
            self._end_watch()
        elif self._patience is None:
            self._patience = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)

    def _end_watch(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket, so that the port is known and an address in use is an error before anything runs. Port 0 takes a free
    one. Raises OSError.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    return socket.create_server((host, port), family=family, backlog=256)


def url_of(listener: socket.socket) -> str:
    """Return the address that a socket listens on."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _signals_ignored_once_handled() -> Iterator[None]:
    """Make `run` return after a signal: uvicorn raises it again when it has stopped, which would kill the process."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_process() -> None:
    """End the process around a worker thread that is still busy: a thread cannot be interrupted."""
    log.error("a request did not end in time; stopping without it")
    logging.shutdown()
    os._exit(0)
