"""Exchanges: signed requests that are here in full, from signature to reply, some at a time.

    key ─► digest, signature ─► nonce spent ─► expand ─► version ─► message ─► Service ─► packed reply with the next nonce
                                                                                  └─► or a problem document

The order is the point: nothing that is not signed by the node reaches the decompressor or the decoder, and what is refused costs
the others nothing. From the signature on, every reply brings a nonce. Spec: PROTOCOL.md §9. Runs in a worker thread (server/jobs.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.responses import Response

from server.nonces import Nonces
from server.replies import MEDIA, NONCE_HEADER, problem_response
from server.service_protocol import Service
from sync import signature, wire
from sync.errors import BadNonce, Malformed, UnknownProtocol, WorldError
from sync.limits import MESSAGE_BYTES_MAX, PROTOCOL_VERSIONS
from sync.messages import Message

T = TypeVar("T")

Serve = Callable[[Sequence[tuple[str, T]], int], Sequence[Message | Exception]]
"""What answers the requests of nodes, at a time of the server's clock, each with a reply or with an error."""

log = logging.getLogger("outpost.server")


@dataclass(eq=False)
class Signed:
    """A request, and what has become of it so far."""

    claim: signature.Claim
    method: str
    path: str
    data: bytes
    error: Exception | None = None
    nonce: str | None = None
    reply: Message | None = None

    @property
    def weight(self) -> int:
        """Return the bytes that it takes in memory, by what its frame states; it is not expanded for that."""
        try:
            return len(self.data) + wire.stated_size(self.data)
        except Malformed:
            return len(self.data)

    def response(self) -> Response:
        """Return what is answered."""
        if self.error is None and self.reply is not None:
            response = Response(wire.pack(self.reply), media_type=MEDIA)
        else:
            response = problem_response(self.error or AssertionError("neither a reply nor an error"))
        if self.nonce is not None:
            response.headers[NONCE_HEADER] = self.nonce
        return response


class Exchanges(Generic[T]):
    """What answers one kind of request."""

    def __init__(self, service: Service, nonces: Nonces, clock_ms: Callable[[], int], type_: type[T], serve: Serve[T]) -> None:
        self._service, self._nonces, self._clock_ms, self._type, self._serve = service, nonces, clock_ms, type_, serve

    def answer(self, requests: Sequence[Signed]) -> list[Response]:
        """Return the responses to requests."""
        signed = self._signed(requests)
        self._spend(signed)
        messages = [(request, message) for request in _sound(signed) if (message := self._message(request)) is not None]
        if messages:
            found = self._serve([(request.claim.node, message) for request, message in messages], self._clock_ms())
            for (request, _), outcome in zip(messages, found, strict=True):
                if isinstance(outcome, Exception):
                    request.error = outcome
                else:
                    request.reply = outcome
        return [request.response() for request in requests]

    def _signed(self, requests: Sequence[Signed]) -> list[Signed]:
        """Return the requests that are signed by the node that they name."""
        keys = self._service.keys_of([request.claim.node for request in requests])
        for request, key in zip(requests, keys, strict=True):
            try:
                if isinstance(key, Exception):
                    raise key
                signature.check(request.claim, key, request.method, request.path, request.data)
            except Exception as error:
                request.error = error
        return _sound(requests)

    def _spend(self, requests: Sequence[Signed]) -> None:
        """Use up the nonces of requests, and give each the next one, whatever becomes of it."""
        if not requests:
            return
        try:
            found = self._nonces.renew([request.claim.nonce for request in requests], self._clock_ms())
        except WorldError as error:
            for request in requests:
                request.error = error
            log.warning("no nonces: the database is away")
            return
        for request, (is_good, fresh) in zip(requests, found, strict=True):
            request.nonce = fresh
            if not is_good:
                request.error = BadNonce()

    def _message(self, request: Signed) -> T | None:
        """Return the message of a request; its version is looked at before its shape."""
        try:
            plain = wire.expand(request.data, MESSAGE_BYTES_MAX)
            check_protocols((wire.protocol_of(plain),))
            return wire.decode(self._type, plain)
        except Exception as error:
            request.error = error
            return None


def one_by_one(serve: Callable[[str, T, int], Message]) -> Serve[T]:
    """Return what answers requests one after the other."""

    def each(requests: Sequence[tuple[str, T]], now_ms: int) -> list[Message | Exception]:
        found: list[Message | Exception] = []
        for node, request in requests:
            try:
                found.append(serve(node, request, now_ms))
            except Exception as error:
                found.append(error)
        return found

    return each


def check_protocols(protocols: Sequence[int]) -> None:
    """Return if one of these versions is spoken here. Raises UnknownProtocol."""
    if not set(protocols) & set(PROTOCOL_VERSIONS):
        raise UnknownProtocol(supported=list(PROTOCOL_VERSIONS))


def _sound(requests: Sequence[Signed]) -> list[Signed]:
    return [request for request in requests if request.error is None]
