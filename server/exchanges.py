"""Exchanges: signed requests that are here in full, from signature to reply, some at a time.

    key ─► digest, signature ─► nonce spent ─► expand ─► version ─► message ─► Service ─► packed reply with the next nonce
                                                                                  └─► or a problem document

The order is the point: nothing that is not signed by the node reaches the decompressor or the decoder, and what is refused costs
the others nothing. From the signature on, every reply brings a nonce. Spec: PROTOCOL.md §9. Runs in a worker thread (server/jobs.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from starlette.responses import Response

from server.nonces import Nonces
from server.replies import MEDIA, NONCE_HEADER, problem_response
from server.service_protocol import Service
from sync import signature, wire
from sync.errors import BadNonce, Malformed, UnknownProtocol, WorldError, without_frames
from sync.limits import MESSAGE_BYTES_MAX, PROTOCOL_VERSIONS
from sync.messages import Message, PushRequest

T = TypeVar("T")

Serve = Callable[[Sequence[tuple[str, T]], int], Iterable[Message | Exception]]
"""What answers the requests of nodes, at a time of the server's clock, each with a reply or with an error, in their order."""

log = logging.getLogger("outpost.server")


@dataclass(eq=False)
class Signed:
    """A request, and what has become of it so far."""

    claim: signature.Claim
    method: str
    path: str
    data: bytes
    at_ms: int  # of the server's clock, when all of it was here
    error: Exception | None = None
    nonce: str | None = None
    reply: bytes = b""

    @property
    def weight(self) -> int:
        """Return the bytes that it takes in memory, by what its frame states; it is not expanded for that."""
        try:
            return len(self.data) + wire.stated_size(self.data)
        except Malformed:
            return len(self.data)

    def settle(self, outcome: Message | Exception) -> None:
        """Keep what is answered, as it travels: a page takes many times that in memory."""
        try:
            if isinstance(outcome, Exception):
                raise outcome
            self.reply = wire.pack(outcome)
        except Exception as error:
            self.error = without_frames(error)

    def response(self) -> Response:
        """Return what is answered."""
        response = Response(self.reply, media_type=MEDIA) if self.error is None else problem_response(self.error)
        self.error = None  # its frames may hold this request
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
            for (request, _), outcome in zip(messages, found, strict=True):  # strict: what is done behind the last is done too
                request.settle(outcome)
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
                request.error = without_frames(error)
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
            return self._aged(wire.decode(self._type, plain), request)
        except Exception as error:
            request.error = without_frames(error)
            return None

    def _aged(self, message: T, request: Signed) -> T:
        """Return a message with the node's clock as it is by now: how long it waited here is no skew of that (PROTOCOL.md P-6.18)."""
        if not isinstance(message, PushRequest):
            return message
        aged: T = msgspec.structs.replace(message, clock_ms=message.clock_ms + max(0, self._clock_ms() - request.at_ms))
        return aged


def one_by_one(serve: Callable[[str, T, int], Message]) -> Serve[T]:
    """Return what answers requests one after the other."""

    def each(requests: Sequence[tuple[str, T]], now_ms: int) -> Iterator[Message | Exception]:
        for node, request in requests:
            try:
                yield serve(node, request, now_ms)
            except Exception as error:
                yield without_frames(error)

    return each


def check_protocols(protocols: Sequence[int]) -> None:
    """Return if one of these versions is spoken here. Raises UnknownProtocol."""
    if not set(protocols) & set(PROTOCOL_VERSIONS):
        raise UnknownProtocol(supported=list(PROTOCOL_VERSIONS))


def _sound(requests: Sequence[Signed]) -> list[Signed]:
    return [request for request in requests if request.error is None]
