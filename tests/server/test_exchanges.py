"""Exchanges: signed requests answered together, each as if it had come alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.exchanges import Exchanges, Signed
from server.nonces import SqliteNonces
from server.replies import MEDIA, NONCE_HEADER
from sync import signature, wire
from sync.messages import JoinReply, Message, PushReply, PushRequest
from tests.server.fake_server import NODE, PRIVATE_KEY, ZERO, FakeService, a_push

NOW_MS = 1_760_000_000_000


@pytest.fixture
def nonces(tmp_path: Path) -> Iterator[SqliteNonces]:
    made = SqliteNonces(tmp_path / "nonces.db")
    yield made
    made.close()


def signed(nonces: SqliteNonces, message: Message, at_ms: int = NOW_MS) -> Signed:
    (nonce,) = nonces.issue(NOW_MS)
    body = wire.pack(message)
    headers = signature.sign(PRIVATE_KEY, "POST", "/v1/push", body, MEDIA, NODE, nonce)
    return Signed(signature.read(headers.items()), "POST", "/v1/push", body, at_ms)


def test_the_time_that_a_request_waited_is_no_skew_of_its_node(nonces: SqliteNonces) -> None:
    """Else the older of two edits would win, if it came in a longer queue."""
    seen: list[int] = []

    def serve(requests: Any, now_ms: int) -> list[Message]:
        seen.extend(now_ms - request.clock_ms for _, request in requests)
        return [PushReply(1, ZERO, ()) for _ in requests]

    exchanges = Exchanges(FakeService(), nonces, lambda: NOW_MS, PushRequest, serve)
    push = msgspec.structs.replace(a_push(), clock_ms=NOW_MS - 100_000)
    exchanges.answer([signed(nonces, push, NOW_MS - 12_000), signed(nonces, push)])
    assert seen == [100_000 - 12_000, 100_000]


def test_a_reply_that_cannot_be_written_is_no_matter_of_the_others(nonces: SqliteNonces) -> None:
    def serve(requests: Any, now_ms: int) -> list[Message]:
        good = PushReply(1, ZERO, ())
        return [good, JoinReply(1, "\ud800", "", 0, 1, bytes(32)), good]

    answer = Exchanges(FakeService(), nonces, lambda: NOW_MS, PushRequest, serve).answer
    found = answer([signed(nonces, a_push()) for _ in range(3)])
    assert [response.status_code for response in found] == [200, 500, 200]
    assert all(nonces.renew([response.headers[NONCE_HEADER]], NOW_MS)[0][0] for response in found)
