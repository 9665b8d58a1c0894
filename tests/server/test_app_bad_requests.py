"""Bad requests, sent to a real server process over loopback: each gets a 4xx problem document with a stable code, the
service is not called, the server stays up and its memory bounded. The good ones stand beside them.
"""

import base64
import contextlib
import json
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.replies import JSON, MEDIA, PROBLEM
from sync import signature, wire
from sync.limits import BODY_BYTES_MAX, JOIN_BYTES_MAX
from sync.messages import JoinReply, JoinRequest, Page, PullRequest, PushReply, VerifyReply, VerifyRequest
from tests.server.fake_server import (
    FAILS,
    FORKS,
    NODE,
    PRIVATE_KEY,
    REVOKED,
    TOLD,
    ZERO,
    Reply,
    Running,
    a_push,
    head,
    read_reply,
    running,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc for the server's memory")

MIB = 1024 * 1024
MEMORY_GROWTH_MIB_MAX = 256
GOOD = wire.pack(a_push())
PULL = PullRequest(1, 3, bytes(16), ZERO, ZERO, None, 100, TOLD)
VERIFY = VerifyRequest(1, 3, bytes(16), ZERO, (), None)
JOIN = JoinRequest((1,), "good", bytes(32), bytes(16))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all of them: it is to survive them all."""
    with running(tmp_path_factory.mktemp("server")) as server:
        server.push(a_push())
        before = server.memory_mib()
        yield server
        assert server.memory_mib() - before < MEMORY_GROWTH_MIB_MAX
        assert server.process.poll() is None


@contextlib.contextmanager
def nothing_happens(server: Running) -> Iterator[None]:
    """Check that the service was not called and that the server still serves."""
    before = server.calls()
    yield
    assert server.calls() == before
    assert server.push(a_push()).status == 200


def check_problem(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.headers["content-type"]) == (status, PROBLEM), reply
    document = reply.document
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"urn:outpost:problem:{code}"
    assert document["title"]
    assert document["kept"]
    check_safe(reply)


def check_safe(reply: Reply) -> None:
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "server" not in reply.headers


# ---- what is good


@pytest.mark.covers("P-9.2", "P-9.5")
def test_a_signed_request_is_answered_and_brings_the_next_nonce(server: Running) -> None:
    reply = server.push(a_push(epoch=5))
    assert set(reply.headers) == {"content-length", "content-type", "date", "outpost-nonce"}  # a sync with nothing to do costs little
    assert reply.headers["content-type"] == MEDIA
    assert wire.unpack(PushReply, reply.body) == PushReply(5, ZERO, ())
    again = server.ask("POST", "/v1/push", GOOD, server.headers(GOOD, nonce=reply.headers["outpost-nonce"]))
    assert again.status == 200


@pytest.mark.parametrize(("path", "message", "type_"), [("/v1/pull", PULL, Page), ("/v1/verify", VERIFY, VerifyReply)])
def test_the_other_signed_requests_are_answered(server: Running, path: str, message: PullRequest | VerifyRequest, type_: type) -> None:
    reply = server.signed(wire.pack(message), path)
    assert reply.status == 200
    assert wire.unpack(type_, reply.body)


@pytest.mark.covers("P-9.1")
def test_a_newcomer_joins_with_a_message_or_with_json(server: Running) -> None:
    packed = server.ask("POST", "/v1/join", wire.pack(JOIN), {"Content-Type": MEDIA})
    assert wire.unpack(JoinReply, packed.body) == JoinReply(1, NODE, "Лондон", 0, 1, bytes(32))
    text = server.ask("POST", "/v1/join", wire.pack_json(JOIN), {"Content-Type": JSON})
    assert json.loads(text.body) == [1, NODE, "Лондон", 0, 1, base64.b64encode(bytes(32)).decode()]


def test_health_tells_the_protocols(server: Running) -> None:
    reply = server.ask("GET", "/v1/health")
    check_safe(reply)
    assert (reply.document["status"], reply.document["protocols"]) == ("ok", [1])


def test_a_body_in_chunks_is_as_good(server: Running) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n"
    raw = head({**server.headers(GOOD), "Transfer-Encoding": "chunked"}, None) + chunks
    assert server.talk(raw).status == 200


# ---- who is calling


def unsigned(server: Running) -> Reply:
    return server.ask("POST", "/v1/push", GOOD, {"Content-Type": MEDIA})


def signed_by_another(server: Running) -> Reply:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return server.ask("POST", "/v1/push", GOOD, signature.sign(key, "POST", "/v1/push", GOOD, MEDIA, NODE, server.nonce()))


def altered_body(server: Running) -> Reply:
    return server.ask("POST", "/v1/push", GOOD[:-1] + b"\1", server.headers(GOOD))


def altered_body_and_digest(server: Running) -> Reply:
    other = wire.pack(a_push(epoch=9))
    digest = server.headers(other)["Content-Digest"]
    return server.ask("POST", "/v1/push", other, {**server.headers(GOOD), "Content-Digest": digest})


def for_another_path(server: Running) -> Reply:
    body = wire.pack(PULL)
    return server.ask("POST", "/v1/push", body, server.headers(body, "/v1/pull"))


def made_up_nonce(server: Running) -> Reply:
    return server.ask("POST", "/v1/push", GOOD, server.headers(GOOD, nonce="A" * 32))


def by_an_unknown_node(server: Running) -> Reply:
    headers = signature.sign(PRIVATE_KEY, "POST", "/v1/push", GOOD, MEDIA, "nobody", server.nonce())
    return server.ask("POST", "/v1/push", GOOD, headers)


def by_a_revoked_node(server: Running) -> Reply:
    headers = signature.sign(PRIVATE_KEY, "POST", "/v1/push", GOOD, MEDIA, REVOKED, server.nonce())
    return server.ask("POST", "/v1/push", GOOD, headers)


def signature_headers_twice(server: Running) -> Reply:
    headers = server.headers(GOOD)
    raw = head({**headers, "signature": headers["Signature"]}, len(GOOD))
    return server.talk(raw + GOOD)


@pytest.mark.parametrize(
    ("send", "status", "code"),
    [
        (unsigned, 401, "auth.unsigned"),
        (signature_headers_twice, 401, "auth.unsigned"),
        (signed_by_another, 401, "auth.signature"),
        (altered_body, 401, "auth.signature"),
        (altered_body_and_digest, 401, "auth.signature"),
        (for_another_path, 401, "auth.signature"),
        (made_up_nonce, 401, "auth.nonce"),
        (by_an_unknown_node, 401, "auth.unknown_node"),
        (by_a_revoked_node, 403, "auth.revoked"),
    ],
)
@pytest.mark.covers("P-9.3")
def test_who_is_not_the_node_is_refused(server: Running, send: Callable[[Running], Reply], status: int, code: str) -> None:
    with nothing_happens(server):
        check_problem(send(server), status, code)


@pytest.mark.covers("P-9.5")
def test_a_replayed_request_is_refused_and_told_a_fresh_nonce(server: Running) -> None:
    headers = server.headers(GOOD)
    assert server.ask("POST", "/v1/push", GOOD, headers).status == 200
    with nothing_happens(server):
        reply = server.ask("POST", "/v1/push", GOOD, headers)
        check_problem(reply, 401, "auth.nonce")
        assert reply.document["retry"] is True
    fresh = server.headers(GOOD, nonce=reply.headers["outpost-nonce"])
    assert server.ask("POST", "/v1/push", GOOD, fresh).status == 200


def test_a_refused_request_does_not_spend_the_nonce_of_another(server: Running) -> None:
    """Who overhears a nonce cannot use it up: the signature is checked first."""
    nonce = server.nonce()
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    forged = signature.sign(key, "POST", "/v1/push", GOOD, MEDIA, NODE, nonce)
    check_problem(server.ask("POST", "/v1/push", GOOD, forged), 401, "auth.signature")
    assert server.ask("POST", "/v1/push", GOOD, server.headers(GOOD, nonce=nonce)).status == 200


@pytest.mark.covers("P-9.6")
def test_nobody_unknown_makes_the_server_read_a_body(server: Running) -> None:
    headers = signature.sign(PRIVATE_KEY, "POST", "/v1/push", GOOD, MEDIA, "nobody", server.nonce())
    with nothing_happens(server):
        check_problem(server.talk(head(headers, BODY_BYTES_MAX)), 401, "auth.unknown_node")


# ---- what the body holds; signed well, so that it is looked at


def declaring(size: int) -> bytes:
    return b"\x28\xb5\x2f\xfd" + bytes([0b1100_0000, 0b0101_0000]) + struct.pack("<Q", size) + b"\x2b\0\0\0"


def packed(*elements: object) -> bytes:
    return wire.compress(msgspec.msgpack.encode(elements))


PUSH_FIELDS: tuple[object, ...] = msgspec.to_builtins(a_push(), builtin_types=(bytes,))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(b"", 400, "wire.malformed", id="empty"),
        pytest.param(b"garbage" * 100, 400, "wire.malformed", id="garbage"),
        pytest.param(msgspec.msgpack.encode(a_push()), 400, "wire.malformed", id="not-compressed"),
        pytest.param(GOOD + b"\0", 400, "wire.malformed", id="trailing-byte"),
        pytest.param(GOOD + GOOD, 400, "wire.malformed", id="two-frames"),
        pytest.param(GOOD[:-1], 400, "wire.malformed", id="cut"),
        pytest.param(wire.compress(bytes(200 * MIB)), 413, "wire.too_large", id="expands-to-200-MB"),
        pytest.param(
            zstandard.ZstdCompressor(write_content_size=False).compress(bytes(200 * MIB)),
            400,
            "wire.malformed",
            id="expands-to-200-MB-without-saying",
        ),
        pytest.param(wire.compress(bytes(64 * MIB)), 400, "wire.malformed", id="expands-to-the-bound"),
        pytest.param(declaring(2**63), 413, "wire.too_large", id="states-8-exabytes"),
        pytest.param(declaring(64 * MIB), 400, "wire.malformed", id="states-64-MB-holds-5"),
        pytest.param(wire.compress(b"\x93\x01" + b"\x91" * 1_000_000), 400, "wire.malformed", id="deep"),
        pytest.param(wire.compress(b"\xdd\xff\xff\xff\xff\x01"), 400, "wire.malformed", id="states-4-billion-elements"),
        pytest.param(packed(*PUSH_FIELDS[:-2]), 400, "wire.malformed", id="a-field-missing"),
        pytest.param(packed(1, "0", *PUSH_FIELDS[2:]), 400, "wire.malformed", id="text-for-an-integer"),
        pytest.param(packed(1, float("nan"), *PUSH_FIELDS[2:]), 400, "wire.malformed", id="NaN"),
        pytest.param(packed(1, True, *PUSH_FIELDS[2:]), 400, "wire.malformed", id="true-for-an-integer"),
        pytest.param(packed(1, -1, *PUSH_FIELDS[2:]), 400, "wire.malformed", id="negative-epoch"),
        pytest.param(packed(1, 0, b"short", *PUSH_FIELDS[3:]), 400, "wire.malformed", id="short-id"),
        pytest.param(packed(1, 0, "\u00e9" * 8, *PUSH_FIELDS[3:]), 400, "wire.malformed", id="text-for-bytes"),
        pytest.param(wire.compress(b"\x81\x01\x02"), 400, "wire.malformed", id="a-map"),
        pytest.param(wire.compress(b"\x91\xa3\xed\xa0\x80"), 400, "wire.malformed", id="lone-surrogate"),
        pytest.param(wire.pack(a_push(protocol=2)), 400, "protocol.unknown", id="version-2"),
        pytest.param(wire.pack(a_push(protocol=0)), 400, "protocol.unknown", id="version-0"),
        pytest.param(packed(99, {"other": "shape"}), 400, "protocol.unknown", id="version-99-of-another-shape"),
    ],
)
@pytest.mark.covers("P-4.2", "P-10.2")
def test_a_bad_body_is_refused(server: Running, body: bytes, status: int, code: str) -> None:
    with nothing_happens(server):
        reply = server.signed(body)
        check_problem(reply, status, code)
        assert reply.headers["outpost-nonce"]


@pytest.mark.covers("P-4.3", "P-11.1")
def test_an_unknown_version_is_told_the_known_ones(server: Running) -> None:
    assert server.push(a_push(protocol=2)).document["supported"] == [1]


@pytest.mark.covers("P-4.2")
def test_bombs_cost_no_more_than_the_bound(server: Running) -> None:
    before = server.memory_mib()
    for body in (wire.compress(bytes(200 * MIB)), declaring(2**63), declaring(64 * MIB)):
        for _ in range(5):
            assert server.signed(body).status in (400, 413)
    assert server.memory_mib() - before < 128


# ---- how large it is and how it is said


def test_a_body_declared_too_large_is_refused_unread(server: Running) -> None:
    with nothing_happens(server):
        check_problem(server.talk(head(server.headers(b""), BODY_BYTES_MAX + 1)), 413, "wire.too_large")
        check_problem(server.talk(head(server.headers(b""), 10**19)), 413, "wire.too_large")


def test_a_body_that_does_not_declare_its_size_is_counted(server: Running) -> None:
    chunk = b"100000\r\n" + bytes(MIB) + b"\r\n"
    raw = head({**server.headers(b""), "Transfer-Encoding": "chunked"}, None) + chunk * 20
    with nothing_happens(server):
        check_problem(server.talk(raw), 413, "wire.too_large")


def test_the_largest_body_is_read(server: Running) -> None:
    with nothing_happens(server):
        check_problem(server.signed(bytes(BODY_BYTES_MAX)), 400, "wire.malformed")


def test_more_than_declared_is_another_request(server: Running) -> None:
    """The bytes behind the declared length are no part of the body; they are garbage where a request should begin."""
    raw = head(server.headers(GOOD), len(GOOD)) + GOOD + b"more\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(raw)
        first, second = b"".join(iter(lambda: connection.recv(65_536), b"")).split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 ")
    assert second.startswith(b"400 ")
    assert b"wire.malformed" in second


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"Content-Type": "application/json"}, id="json"),
        pytest.param({"Content-Type": ""}, id="empty-type"),
        pytest.param({"Content-Type": MEDIA.replace("v1", "v2")}, id="version-2"),
        pytest.param({"Content-Type": f"{MEDIA}; charset=utf-8"}, id="parameter"),
        pytest.param({"Content-Encoding": "gzip"}, id="gzip"),
        pytest.param({"Content-Encoding": "zstd"}, id="zstd"),
    ],
)
@pytest.mark.covers("P-9.1")
def test_another_form_of_body_is_refused(server: Running, change: dict[str, str]) -> None:
    with nothing_happens(server):
        reply = server.ask("POST", "/v1/push", GOOD, {**server.headers(GOOD), **change})
        check_problem(reply, 415, "wire.media")
        assert reply.document["supported"] == [MEDIA]


@pytest.mark.covers("P-9.1")
def test_a_query_is_refused(server: Running) -> None:
    with nothing_happens(server):
        check_problem(server.ask("POST", "/v1/push?x=1", GOOD, server.headers(GOOD)), 400, "wire.malformed")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_another_method_is_refused(server: Running, method: str) -> None:
    with nothing_happens(server):
        reply = server.ask(method, "/v1/push")
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
        if method != "HEAD":
            check_problem(reply, 405, "http.method")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/push/", "/v2/push", "/v1/push/../pull", "/v1/%70ush%00", "//v1/push"])
def test_another_address_is_refused(server: Running, path: str) -> None:
    with nothing_happens(server):
        check_problem(server.ask("POST", path, GOOD, server.headers(GOOD)), 404, "http.not_found")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
        pytest.param(b"garbage\r\n\r\n", id="garbage"),
        pytest.param(b"POST /v1/push HTTP/2\r\nHost: x\r\n\r\n", id="HTTP-2"),
        pytest.param(b"POST /v1/push HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"POST /v1/push HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", id="negative-length"),
        pytest.param(b"POST /v1/push HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n", id="two-lengths"),
        pytest.param(b"POST /v1/push HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", id="long-length"),
        pytest.param(b"POST /v1/p\xd0\xb9 HTTP/1.1\r\nHost: x\r\n\r\n", id="path-beyond-ASCII"),
    ],
)
def test_what_is_not_http_is_refused(server: Running, raw: bytes) -> None:
    with nothing_happens(server):
        check_problem(server.talk(raw), 400, "wire.malformed")


def test_a_broken_chunk_ends_the_connection(server: Running) -> None:
    raw = head({**server.headers(GOOD), "Transfer-Encoding": "chunked"}, None) + b"5\r\nhello\r\nnot a size\r\n"
    with nothing_happens(server):
        check_problem(server.talk(raw), 400, "wire.malformed")


@pytest.mark.parametrize("size", [17_000, 60_000, 1_000_000])
def test_huge_headers_are_refused(server: Running, size: int) -> None:
    """In one piece or in many, known or not, complete or not."""
    with nothing_happens(server):
        reply = server.talk(b"POST /v1/push HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * size + b"\r\n\r\n")
        check_problem(reply, 431, "http.headers")


def test_a_head_without_end_is_refused_before_it_has_come(server: Running) -> None:
    with nothing_happens(server):
        check_problem(server.talk(b"POST /v1/push HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 60_000), 431, "http.headers")


def test_many_headers_are_refused(server: Running) -> None:
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(4000))
    with nothing_happens(server):
        check_problem(server.talk(b"POST /v1/push HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n"), 431, "http.headers")


# ---- joining


@pytest.mark.parametrize(
    ("body", "media", "status", "code"),
    [
        pytest.param(b"{}", JSON, 400, "wire.malformed", id="another-shape"),
        pytest.param(b"[" * 10_000, JSON, 400, "wire.malformed", id="deep"),
        pytest.param(b'[[1],"\\ud800","",""]', JSON, 400, "wire.malformed", id="lone-surrogate"),
        pytest.param(b"garbage", MEDIA, 400, "wire.malformed", id="garbage"),
        pytest.param(wire.compress(bytes(MIB)), MEDIA, 413, "wire.too_large", id="bomb"),
        pytest.param(b" " * (JOIN_BYTES_MAX + 1), JSON, 413, "wire.too_large", id="too-large"),
        pytest.param(wire.pack(JoinRequest((7, 8), "good", bytes(32), bytes(16))), MEDIA, 400, "protocol.unknown", id="v7"),
        pytest.param(wire.pack(JOIN), "text/plain", 415, "wire.media", id="media"),
    ],
)
def test_a_bad_request_to_join_is_refused(server: Running, body: bytes, media: str, status: int, code: str) -> None:
    with nothing_happens(server):
        check_problem(server.ask("POST", "/v1/join", body, {"Content-Type": media}), status, code)


def test_a_bad_invitation_is_the_services_word(server: Running) -> None:
    body = wire.pack(JoinRequest((1,), "bad", bytes(32), bytes(16)))
    check_problem(server.ask("POST", "/v1/join", body, {"Content-Type": MEDIA}), 403, "join.code")


# ---- what the service says


def test_an_error_of_the_service_travels_with_a_fresh_nonce(server: Running) -> None:
    reply = server.push(a_push(epoch=FORKS))
    check_problem(reply, 409, "history.forked")
    fresh = server.headers(GOOD, nonce=reply.headers["outpost-nonce"])
    assert server.ask("POST", "/v1/push", GOOD, fresh).status == 200


def test_an_unexpected_error_tells_nothing_but_where_to_look(server: Running) -> None:
    reply = server.push(a_push(epoch=FAILS))
    check_problem(reply, 500, "server.internal")
    assert b"secret" not in reply.body
    assert b"Traceback" not in reply.body
    assert reply.headers["outpost-nonce"]


def test_an_unexpected_error_is_logged_under_its_incident(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        incident = server.push(a_push(epoch=FAILS)).document["incident"]
    logged = (tmp_path / "stderr").read_text()
    assert f"incident {incident}" in logged
    assert "the secret of the house" in logged


# ---- slow and many


def test_a_half_sent_body_is_given_up(tmp_path: Path) -> None:
    with running(tmp_path, 60, 0.6) as server, nothing_happens(server):
        check_problem(server.talk(head(server.headers(GOOD), len(GOOD)) + GOOD[:10]), 408, "http.timeout")


def test_a_body_that_trickles_is_given_up_too(tmp_path: Path) -> None:
    """A slow loris: never silent for long, never done. The whole body has a deadline."""
    with running(tmp_path, 1.5, 60) as server, nothing_happens(server), server.connect() as connection:
        connection.sendall(head(server.headers(GOOD), len(GOOD)))
        connection.settimeout(0.2)
        for byte in GOOD[:-1]:
            connection.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                connection.recv(1, 2)  # MSG_PEEK: is there an answer yet?
                break
        connection.settimeout(10)
        check_problem(read_reply(connection), 408, "http.timeout")


def test_a_sender_who_goes_away_half_way_leaves_nothing(server: Running) -> None:
    with nothing_happens(server):
        for _ in range(20):
            with server.connect() as connection:
                connection.sendall(head(server.headers(GOOD), len(GOOD)) + GOOD[:10])


def test_many_large_bodies_at_once_are_bounded_together(tmp_path: Path) -> None:
    """24 bodies of 15 MiB, each but for its last byte: beyond the common bound they are told to come back."""
    body = bytes(15 * MIB)
    with running(tmp_path) as server, contextlib.ExitStack() as open_:
        server.push(a_push())
        before = server.memory_mib()
        connections = []
        for _ in range(24):
            connection = open_.enter_context(server.connect(timeout=20))
            connection.sendall(head(server.headers(body), len(body)) + body[:-1])
            connections.append(connection)
        assert server.push(a_push()).status in (200, 503)
        growth = server.memory_mib() - before
        for connection in connections:
            connection.sendall(b"\0")
        replies = [read_reply(connection) for connection in connections]
        statuses = [reply.status for reply in replies]
        assert set(statuses) == {400, 503}
        assert statuses.count(400) >= 8
        assert all(reply.document["code"] in ("wire.malformed", "http.busy") for reply in replies)
        assert growth < MEMORY_GROWTH_MIB_MAX
        assert server.push(a_push()).status == 200


def test_the_nonce_of_a_reply_is_120_bits_of_chance(server: Running) -> None:
    nonces = {server.nonce() for _ in range(20)}
    assert len(nonces) == 20
    assert all(len(base64.urlsafe_b64decode(nonce)) == 15 for nonce in nonces)
