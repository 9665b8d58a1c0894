"""What the HTTP surface (server/app.py) asks of the engine behind it (ingest, feed, auth).

Every method may block (it is called in a worker thread, several at a time) and raises errors of the tree (sync.errors),
which travel as they are; anything else becomes `server.internal`. `push` serialises itself. `node` is the id that the
request's signature proved. `now_ms` is the server's clock, milliseconds UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from sync.messages import (
    HealReply,
    HealRequest,
    JoinReply,
    JoinRequest,
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


class Service(Protocol):
    """The engine as the HTTP surface sees it. The protocol version of a request is one the server speaks."""

    def key_of(self, node: str) -> bytes:
        """Return the node's Ed25519 public key, 32 bytes. Raises UnknownNode, Revoked."""

    def keys_of(self, identities: Sequence[str]) -> list[bytes | Exception]:
        """Return the keys of nodes; of one that may not speak why not."""

    def join(self, request: JoinRequest, now_ms: int) -> JoinReply:
        """Register a newcomer who shows an invitation. Raises BadInvitation."""

    def push_all(self, requests: Sequence[tuple[str, PushRequest]], now_ms: int) -> Iterable[PushReply | Exception]:
        """Take the segments of nodes, each as if it came alone; when this returns they are durable. Returns replies and errors."""

    def pull_all(self, requests: Sequence[tuple[str, PullRequest]], now_ms: int) -> Iterable[Page | Exception]:
        """Return the next pages of the feeds of nodes, or errors."""

    def verify(self, node: str, request: VerifyRequest, now_ms: int) -> VerifyReply:
        """Return the digests of the node's scope."""

    def snapshot(self, node: str, request: SnapshotRequest, now_ms: int) -> SnapshotReply:
        """Return a part of a file with all rows of the node's scope, or how far one is, or neither."""

    def heal(self, node: str, request: HealRequest, now_ms: int) -> HealReply:
        """Tell what this server still has of the history the node remembers."""

    def offer(self, node: str, request: OfferRequest, now_ms: int) -> OfferReply:
        """Take pages of a lost history; when this returns they are durable."""

    def health(self) -> dict[str, object]:
        """Return what /v1/health says besides `status` and `protocols`: JSON-able, nothing secret, quick."""
