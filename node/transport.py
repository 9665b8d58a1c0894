"""Transport: the node's requests to the server and its replies, over HTTP.

    PushRequest ─► pack ─► sign with a server's nonce ══HTTP══► PushReply, and the nonce for the next request
                                                        ══════► or a problem document ─► the error it stands for

Nothing the network does is trusted: replies are bounded in bytes and in silence, a page of a hotel's login or a proxy's
502 is a BadReply, no redirect is followed. Time is measured by httpx alone. Spec: PROTOCOL.md §9 and §10.
Driven by node/cycle.py; counterpart of server/app.py. The simulator has an Exchange of its own.
"""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
import sys
from collections.abc import Iterator
from typing import Any, Final, Protocol, Self, TypeVar

if "httpx" not in sys.modules:  # its own command, with rich and pygments, is a third of it, and it can do without
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sync import errors, signature, wire
from sync.errors import BadNonce, BadReply, BadValue, Internal, Malformed, Offline, OutpostError, PeerError, TooLarge
from sync.limits import BODY_BYTES_MAX, MESSAGE_BYTES_MAX, REPLY_BYTES_MAX
from sync.messages import (
    HealReply,
    HealRequest,
    JoinReply,
    JoinRequest,
    Message,
    OfferReply,
    OfferRequest,
    Page,
    PullRequest,
    PushReply,
    PushRequest,
    SnapshotReply,
    SnapshotRequest,
    VerifyReply,
    VerifyRequest,
)

T = TypeVar("T")

MEDIA: Final = "application/vnd.outpost.v1+msgpack+zstd"
PROBLEM: Final = "application/problem+json"
CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 120.0
KEEP_ALIVE_SECONDS: Final = 5.0
"""How long an idle connection is used again; less than a server keeps one, so it is rarely found closed."""

PROBLEM_BYTES_MAX: Final = 64 * 1024
TEXT_CHARS_MAX: Final = 2000
OWN: Final = frozenset({"type", "title", "status", "detail", "code", "retry", "kept", "todo", "message", "self"})
"""Members of a problem document that our own error class knows better."""


class Exchange(Protocol):
    """A conversation with the server, one request at a time. Raises errors of the tree."""

    def push(self, request: PushRequest) -> PushReply:
        """Send segments; when this returns they are durable on the server."""

    def pull(self, request: PullRequest) -> Page:
        """Ask for the next page."""

    def verify(self, request: VerifyRequest) -> VerifyReply:
        """Ask for the digests of the node's scope."""

    def snapshot(self, request: SnapshotRequest) -> SnapshotReply:
        """Ask for a part of a file with all rows of the node's scope."""

    def heal(self, request: HealRequest) -> HealReply:
        """Ask a restored server what it still has."""

    def offer(self, request: OfferRequest) -> OfferReply:
        """Offer a restored server pages of its lost history."""


class HttpExchange:
    """An Exchange over HTTP for one node. Not for use by several threads at once. Close it, or use `with`."""

    def __init__(self, url: str, node: str, private_key: Ed25519PrivateKey) -> None:
        self._node, self._private_key = node, private_key
        self._client = _client(url)
        self._nonce: str | None = None

    def push(self, request: PushRequest) -> PushReply:
        """Send segments; when this returns they are durable on the server."""
        return self._request("/v1/push", request, PushReply)

    def pull(self, request: PullRequest) -> Page:
        """Ask for the next page."""
        return self._request("/v1/pull", request, Page)

    def verify(self, request: VerifyRequest) -> VerifyReply:
        """Ask for the digests of the node's scope."""
        return self._request("/v1/verify", request, VerifyReply)

    def snapshot(self, request: SnapshotRequest) -> SnapshotReply:
        """Ask for a part of a file with all rows of the node's scope."""
        return self._request("/v1/snapshot", request, SnapshotReply)

    def heal(self, request: HealRequest) -> HealReply:
        """Ask a restored server what it still has."""
        return self._request("/v1/heal", request, HealReply)

    def offer(self, request: OfferRequest) -> OfferReply:
        """Offer a restored server pages of its lost history; when this returns they are durable there."""
        return self._request("/v1/offer", request, OfferReply)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _request(self, path: str, message: Message, type_: type[T]) -> T:
        """Return the reply; asks once more when the server did not accept the nonce, which it may have forgotten."""
        body = wire.pack(message)
        if len(body) > BODY_BYTES_MAX:  # a server may hang up before it has said so
            raise TooLarge(f"The body would be larger than {BODY_BYTES_MAX} bytes.")
        try:
            return self._send(path, body, type_)
        except BadNonce:
            return self._send(path, body, type_)

    def _send(self, path: str, body: bytes, type_: type[T]) -> T:
        nonce, self._nonce = self._nonce or self._ask_nonce(), None
        headers = signature.sign(self._private_key, "POST", path, body, MEDIA, self._node, nonce)
        reply = _post(self._client, path, body, headers)
        fresh = reply.headers.get("outpost-nonce", "")
        self._nonce = fresh if signature.NONCE.fullmatch(fresh) else None
        return reply.message(type_)

    def _ask_nonce(self) -> str:
        nonces = _post(self._client, "/v1/nonce", b"", {}).json().get("nonces")
        nonce = nonces[0] if isinstance(nonces, list) and nonces else None
        if not isinstance(nonce, str) or not signature.NONCE.fullmatch(nonce):
            raise BadReply("The server gave no nonce.")
        return nonce


def join(url: str, request: JoinRequest) -> JoinReply:
    """Return who the server says we are, for an invitation. Raises BadInvitation and what every request may raise."""
    with contextlib.closing(_client(url)) as client:
        return _post(client, "/v1/join", wire.pack(request), {"Content-Type": MEDIA}).message(JoinReply)


class _Reply(msgspec.Struct, frozen=True):
    """A reply as it came: bounded, not yet understood."""

    status: int
    headers: httpx.Headers
    content: bytes

    def message(self, type_: type[T]) -> T:
        """Return the message it holds. Raises what its problem document says, or BadReply."""
        self._raise_unless_ok(MEDIA)
        try:
            return wire.unpack(type_, self.content, MESSAGE_BYTES_MAX)
        except (Malformed, TooLarge) as error:
            raise BadReply(f"The server's answer could not be read: {error}") from error

    def json(self) -> dict[str, Any]:
        """Return the JSON object it holds. Raises what its problem document says, or BadReply."""
        self._raise_unless_ok("application/json")
        return _object(self.content)

    def _raise_unless_ok(self, media: str) -> None:
        form = self.headers.get("content-type", "").split(";")[0].strip().lower()
        if self.status == 200 and form == media:
            return
        if self.status >= 400 and form == PROBLEM and len(self.content) <= PROBLEM_BYTES_MAX:
            raise error_of(_object(self.content), self.status)
        what = "sent us to another address" if 300 <= self.status < 400 else f"was not Outpost's ({self.status})"
        raise BadReply(f"What answered {what}: perhaps a proxy, or a network that wants you to log in first.")


def error_of(document: dict[str, Any], status: int) -> OutpostError:
    """Return the error that a problem document stands for, its text bounded and printable.

    Only errors a server can rightly report are built (PeerError and Internal). An unknown code becomes a PeerError, or
    a BadReply for a 5xx status, with the text and `peer_code`.
    """
    code, detail = _text(document.get("code")), _text(document.get("detail")) or _text(document.get("title"))
    extra = {name: value for name, value in document.items() if name not in OWN}
    known = ERRORS.get(code)
    if known is not None:
        return known(detail, **extra)
    generic: type[OutpostError] = BadReply if status >= 500 else PeerError
    return generic(f"{detail or 'The server refused.'} ({code or status})", **{**extra, "peer_code": code})


def _registry(root: type[OutpostError]) -> dict[str, type[OutpostError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            found |= _registry(child)
    return found


ERRORS: Final[dict[str, type[OutpostError]]] = {**_registry(PeerError), Internal.code: Internal}


def _client(url: str) -> httpx.Client:
    """Return a client for the server at this address: http or https, perhaps with a path in front of /v1.

    Proxies and certificates of the environment are used, as people expect of a program in a company's network, but for
    this machine itself: a proxy could not reach it. Raises BadValue for what is no such address.
    """
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadValue(f"This is not the address of a server: {_text(url)}") from error
    if base.scheme not in ("http", "https") or not base.host or base.query or base.fragment or base.userinfo:
        raise BadValue(f"The address of a server looks like https://sync.example.com, not like {_text(url)}")
    client = httpx.Client(
        base_url=base,
        timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=1, keepalive_expiry=KEEP_ALIVE_SECONDS),
        headers={"User-Agent": "outpost", "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=not _is_loopback(base.host),
        verify=_trust(base.scheme),
    )
    del client.headers["Connection"]  # HTTP/1.1 keeps it alive unasked, and headers are most of what a sync with nothing to do sends
    return client


def _trust(scheme: str) -> ssl.SSLContext | bool:
    """Return whose certificates are believed: those of the environment. Over http nobody's: none is shown, and reading takes 50 ms."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if scheme == "http" else True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _post(client: httpx.Client, path: str, body: bytes, headers: dict[str, str]) -> _Reply:
    """Return the reply, whatever its status. Raises Offline, BadReply."""
    told = {**headers, "Content-Length": str(len(body))}
    with _plain_words(client), client.stream("POST", path.lstrip("/"), content=_Body(body), headers=told) as response:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise BadReply("The server's answer is encoded in a way it was not asked for.")
        return _Reply(response.status_code, response.headers, _content(response))


class _Body(httpx.SyncByteStream):
    """The body of a request, let go of once it is sent. A request of httpx is part of a cycle, and the collector looks rarely
    (schema/cli.py): a push of a million rows kept all that it had sent.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        content, self._content = self._content, b""
        yield content


def _content(response: httpx.Response) -> bytes:
    """Return the body as it came, counted."""
    parts: list[bytes] = []
    bytes_ = 0
    for part in response.iter_raw():
        bytes_ += len(part)
        if bytes_ > REPLY_BYTES_MAX:
            raise BadReply(f"The server's answer is larger than {REPLY_BYTES_MAX} bytes.")
        parts.append(part)
    return b"".join(parts)


@contextlib.contextmanager
def _plain_words(client: httpx.Client) -> Iterator[None]:
    """Turn httpx's errors into ours, in words for a person."""
    where = f"{client.base_url.host}{f':{client.base_url.port}' if client.base_url.port else ''}"
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise Offline(f"The server at {where} did not answer within {CONNECT_SECONDS:g} seconds.") from error
    except httpx.TimeoutException as error:
        raise Offline(f"The server at {where} went silent.") from error
    except (httpx.ConnectError, httpx.ProxyError) as error:
        if _is_about_certificate(error):
            raise Offline(f"The server at {where} could not prove who it is: its certificate is not trusted.") from error
        raise Offline(f"The server at {where} cannot be reached.") from error
    except httpx.TransportError as error:
        raise Offline(f"The connection to {where} broke before the whole answer had come.") from error


def _is_about_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _object(content: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises BadReply."""
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except wire.UNREADABLE as error:
        raise BadReply("The server's answer could not be read.") from error


def _text(value: object) -> str:
    """Return a peer's text cut and without what could steer a terminal; '' for what is no text."""
    text = value[:TEXT_CHARS_MAX] if isinstance(value, str) else ""
    return "".join(char if char.isprintable() else " " for char in text)
