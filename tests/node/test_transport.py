"""The node's transport against a real server over loopback, and against everything a network may put in its place."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node import transport
from node.transport import ERRORS, HttpExchange, error_of, join
from server.app import create_app
from server.nonces import SqliteNonces
from server.replies import MEDIA, PROBLEM
from server.serve import in_background
from sync import signature, wire
from sync.errors import (
    BadInvitation,
    BadNonce,
    BadReply,
    BadSignature,
    BadValue,
    Forked,
    Internal,
    Offline,
    OutpostError,
    PeerError,
    Revoked,
    UnknownNode,
    UnknownProtocol,
)
from sync.limits import NONCE_LIFE_MS
from sync.messages import JoinReply, JoinRequest, PullRequest, PushReply, VerifyRequest
from tests.server.fake_server import (
    FAILS,
    FORKS,
    NODE,
    PRIVATE_KEY,
    PUBLIC_KEY,
    REVOKED,
    TOLD,
    ZERO,
    FakeService,
    a_push,
)

JOIN = JoinRequest((1,), "good", bytes(32), bytes(16))
NONCE = "A" * 32


class Server:
    """A server in this process whose clock can be moved and whose nonces can be lost."""

    def __init__(self, folder: Path) -> None:
        self.service = FakeService()
        self.nonces = SqliteNonces(folder / "nonces.db")
        self.now_ms = 1_760_000_000_000
        self.url = ""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    with in_background(create_app(server.service, server.nonces, clock_ms=lambda: server.now_ms)) as server.url:
        yield server
    server.nonces.close()


@pytest.fixture
def exchange(server: Server) -> Iterator[HttpExchange]:
    with HttpExchange(server.url, NODE, PRIVATE_KEY) as exchange:
        yield exchange


@contextlib.contextmanager
def answering(*answers: bytes | Callable[[socket.socket], None], heads: list[bytes] | None = None) -> Iterator[str]:
    """Give the address of what gives these answers, one to a connection, in this order."""

    served = 0

    def serve() -> None:
        nonlocal served
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                return  # fewer requests than answers: the test will say so
            with connection, contextlib.suppress(OSError):
                served += 1
                head = read_request(connection)
                if heads is not None:
                    heads.append(head)
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()
    assert served == len(answers)


def read_request(connection: socket.socket) -> bytes:
    """Read a whole request and return its head."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65_536)
    return head


def http_reply(status: int, media: str, body: bytes, *more: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {media}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def nonce_reply(nonces: object) -> bytes:
    return http_reply(200, "application/json", json.dumps({"nonces": nonces}).encode())


GIVEN = nonce_reply([NONCE])


# ---- with our own server


def test_requests_are_signed_and_answered(exchange: HttpExchange, server: Server) -> None:
    assert exchange.push(a_push(epoch=5)) == PushReply(5, ZERO, ())
    assert exchange.verify(VerifyRequest(1, 0, bytes(16), ZERO, (), None)).tables[0].table == "contact"
    assert server.service.calls == 2


def test_what_was_sent_is_let_go_of_without_the_collector(exchange: HttpExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks rarely, and a request of httpx is part of a cycle: a push of a million rows kept all it had sent."""
    bodies: list[transport._Body] = []
    make = transport._Body.__init__

    def noted(body: transport._Body, content: bytes) -> None:
        make(body, content)
        bodies.append(body)

    monkeypatch.setattr(transport._Body, "__init__", noted)
    exchange.push(a_push())
    assert len(bodies) == 2  # for the nonce, and the push
    assert not any(body._content for body in bodies)


def test_a_page_is_read(exchange: HttpExchange) -> None:
    assert exchange.pull(PullRequest(1, 7, bytes(16), ZERO, ZERO, None, 100, TOLD)).epoch == 7


def test_one_nonce_is_asked_for_and_the_next_comes_with_the_reply(
    exchange: HttpExchange, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        exchange.push(a_push())
    monkeypatch.setattr(server.nonces, "issue", None)  # the server could not give another to whoever asks
    with HttpExchange(server.url, NODE, PRIVATE_KEY) as another, pytest.raises(Internal):
        another.push(a_push())


def test_a_nonce_that_expired_is_replaced_unseen(exchange: HttpExchange, server: Server) -> None:
    exchange.push(a_push())
    server.now_ms += NONCE_LIFE_MS + 1
    exchange.push(a_push())
    assert server.service.calls == 2


@pytest.mark.covers("P-9.5")
def test_a_nonce_is_replaced_once_only(exchange: HttpExchange, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def renew(nonces: Sequence[str], now_ms: int) -> list[tuple[bool, str]]:
        tries.extend(nonces)
        return [(False, fresh) for fresh in server.nonces.issue(now_ms, len(nonces))]

    monkeypatch.setattr(server.nonces, "renew", renew)
    with pytest.raises(BadNonce):
        exchange.push(a_push())
    assert len(set(tries)) == 2
    assert server.service.calls == 0


@pytest.mark.parametrize(
    ("epoch", "protocol", "error"),
    [
        pytest.param(FORKS, 1, Forked, id="of-the-service"),
        pytest.param(FAILS, 1, Internal, id="unexpected"),
        pytest.param(0, 2, UnknownProtocol, id="version"),
    ],
)
def test_a_problem_comes_back_as_the_error_it_was(exchange: HttpExchange, epoch: int, protocol: int, error: type[OutpostError]) -> None:
    with pytest.raises(error) as raised:
        exchange.push(a_push(epoch=epoch, protocol=protocol))
    assert type(raised.value) is error
    assert exchange.push(a_push()).epoch == 0, "the next request uses the nonce that came with the problem"


def test_an_errors_own_members_come_along(exchange: HttpExchange) -> None:
    with pytest.raises(UnknownProtocol) as raised:
        exchange.push(a_push(protocol=2))
    assert raised.value.extra == {"supported": [1]}


@pytest.mark.parametrize(("node", "error"), [("nobody", UnknownNode), (REVOKED, Revoked)])
def test_who_is_not_welcome_is_told_so(server: Server, node: str, error: type[OutpostError]) -> None:
    with HttpExchange(server.url, node, PRIVATE_KEY) as exchange, pytest.raises(error):
        exchange.push(a_push())


def test_another_key_is_told_so(server: Server) -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    with HttpExchange(server.url, NODE, other) as exchange, pytest.raises(BadSignature):
        exchange.push(a_push())


def test_joining(server: Server) -> None:
    assert join(server.url, JOIN) == JoinReply(1, NODE, "Лондон", 0, 1, bytes(32))
    with pytest.raises(BadInvitation):
        join(server.url, msgspec.structs.replace(JOIN, code="bad"))


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert join(server.url, JOIN).node == NODE


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("outpost.localhost", True),
        ("sync.example.com", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
    ],
)
def test_what_counts_as_this_machine(host: str, is_loopback: bool) -> None:
    assert transport._is_loopback(host) is is_loopback


def test_a_server_behind_a_path_gets_the_requests_there() -> None:
    """What a proxy cuts off in front of /v1 is not part of what is signed."""
    asked: list[bytes] = []

    with (
        answering(GIVEN, http_reply(200, MEDIA, wire.pack(PushReply(1, ZERO, ()))), heads=asked) as url,
        HttpExchange(f"{url}/outpost/", NODE, PRIVATE_KEY) as exchange,
    ):
        exchange.push(a_push())
    assert [head.split(b" ")[1] for head in asked] == [b"/outpost/v1/nonce", b"/outpost/v1/push"]
    lines = [line.partition(": ") for line in asked[1].decode().split("\r\n")[1:]]
    claim = signature.read((name, value) for name, _, value in lines)
    signature.check(claim, PUBLIC_KEY, "POST", "/v1/push", wire.pack(a_push()))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sync.example.com",
        "ftp://x",
        "http://",
        "http://x?a=b",
        "http://x#a",
        "http://me:pw@x",
        "http://x:port",
        "\n",
    ],
)
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(BadValue):
        HttpExchange(url, NODE, PRIVATE_KEY)


# ---- the network instead of our server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://127.0.0.1"], ids=["no-name", "nobody-listens"])
def test_offline_is_said_in_plain_words(url: str) -> None:
    url = f"{url}:{free_port()}"
    with pytest.raises(Offline) as raised:
        join(url, JOIN)
    assert raised.value.message.startswith(f"The server at {url[7:]} cannot be reached")
    assert raised.value.retry
    assert "Errno" not in raised.value.message


def test_silence_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SILENCE_SECONDS", 0.2)
    done = threading.Event()

    def keep_silent(connection: socket.socket) -> None:
        done.wait(10)

    with answering(keep_silent) as url:
        with pytest.raises(Offline, match="went silent"):
            join(url, JOIN)
        done.set()


CUT = http_reply(200, MEDIA, wire.pack(PushReply(1, ZERO, ())))[:-5]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-", CUT], ids=["nothing", "in-the-head", "in-the-body"])
def test_a_cut_reply_is_offline_and_the_next_request_starts_afresh(answer: bytes) -> None:
    whole = http_reply(200, MEDIA, wire.pack(PushReply(1, ZERO, ())))
    with answering(GIVEN, answer, GIVEN, whole) as url, HttpExchange(url, NODE, PRIVATE_KEY) as exchange:
        with pytest.raises(Offline, match="broke"):
            exchange.push(a_push())
        assert exchange.push(a_push()).epoch == 1


def test_a_nonce_is_not_used_twice_though_no_reply_came() -> None:
    whole = wire.pack(PushReply(1, ZERO, ()))
    first = http_reply(200, MEDIA, whole, f"Outpost-Nonce: {NONCE}")
    with (
        answering(GIVEN, first, CUT, GIVEN, http_reply(200, MEDIA, whole)) as url,
        HttpExchange(url, NODE, PRIVATE_KEY) as exchange,
    ):
        exchange.push(a_push())
        with pytest.raises(Offline):
            exchange.push(a_push())
        exchange.push(a_push())


def test_a_certificate_that_is_not_trusted_is_said() -> None:
    error = httpx.ConnectError("x")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    assert transport._is_about_certificate(error)
    assert not transport._is_about_certificate(httpx.ConnectError("refused"))


def problem(status: int, **members: object) -> bytes:
    return http_reply(status, PROBLEM, json.dumps(members).encode())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http_reply(502, "text/html", b"<html>Bad Gateway</html>"), id="a-proxys-502"),
        pytest.param(http_reply(200, "text/html", b"<html>Please log in</html>"), id="a-hotels-page"),
        pytest.param(http_reply(302, "text/html", b"", "Location: http://127.0.0.1:9/login"), id="a-redirect"),
        pytest.param(http_reply(204, MEDIA, b""), id="no-content"),
        pytest.param(http_reply(502, "application/json", b'{"code":"auth.revoked"}'), id="json-that-is-no-problem"),
        pytest.param(http_reply(502, PROBLEM, b"not json"), id="a-problem-that-is-not-json"),
        pytest.param(http_reply(502, PROBLEM, b"[]"), id="a-problem-that-is-no-object"),
        pytest.param(http_reply(502, PROBLEM, b"[" * 50_000), id="a-deep-problem"),
        pytest.param(http_reply(502, PROBLEM, b'{"code":"' + b"x" * 100_000 + b'"}'), id="a-huge-problem"),
        pytest.param(http_reply(200, PROBLEM, b'{"code":"auth.revoked"}'), id="a-problem-with-200"),
        pytest.param(http_reply(200, MEDIA, b"garbage"), id="garbage"),
        pytest.param(http_reply(200, MEDIA, wire.compress(bytes(200 * 2**20))), id="a-bomb"),
        pytest.param(http_reply(200, MEDIA, wire.compress(b"\x93\1\2\3")), id="another-message"),
        pytest.param(http_reply(200, MEDIA, wire.pack(PushReply(1, ZERO, ())), "Content-Encoding: gzip"), id="gzip"),
        pytest.param(problem(503, code="x.unknown", detail="Back at noon."), id="an-unknown-5xx"),
    ],
)
@pytest.mark.covers("P-9.2")
def test_what_is_not_our_servers_answer_is_a_bad_reply_to_retry(answer: bytes) -> None:
    with answering(GIVEN, answer) as url, HttpExchange(url, NODE, PRIVATE_KEY) as exchange:
        with pytest.raises(BadReply) as raised:
            exchange.push(a_push())
        assert raised.value.retry
        assert len(raised.value.message) < 400


@pytest.mark.parametrize(
    "answer",
    [
        http_reply(200, "text/html", b"<html>"),
        nonce_reply([]),
        nonce_reply("x"),
        nonce_reply([5]),
        nonce_reply(["short"]),
        nonce_reply(["A" * 32 + "\r\nX: y"]),
    ],
    ids=["html", "none", "text", "number", "short", "line-break"],
)
def test_what_is_no_nonce_is_a_bad_reply(answer: bytes) -> None:
    with answering(answer) as url, HttpExchange(url, NODE, PRIVATE_KEY) as exchange, pytest.raises(BadReply):
        exchange.push(a_push())


def test_a_nonce_header_that_is_no_nonce_is_not_used() -> None:
    whole = http_reply(200, MEDIA, wire.pack(PushReply(1, ZERO, ())), 'Outpost-Nonce: "; x')
    with answering(GIVEN, whole, GIVEN, whole) as url, HttpExchange(url, NODE, PRIVATE_KEY) as exchange:
        exchange.push(a_push())
        exchange.push(a_push())


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
def test_a_reply_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch, declared: bool) -> None:
    monkeypatch.setattr(transport, "REPLY_BYTES_MAX", 1_000_000)
    sent = []

    def pour(connection: socket.socket) -> None:
        length = "Content-Length: 1000000000\r\n" if declared else ""
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {MEDIA}\r\n{length}Connection: close\r\n\r\n".encode())
        for _ in range(1000):
            connection.sendall(bytes(1_000_000))
            sent.append(1)

    with answering(pour) as url, pytest.raises(BadReply, match="larger"):
        join(url, JOIN)
    assert len(sent) < 100


# ---- problem documents


def test_every_error_a_server_may_report_comes_back_as_its_class() -> None:
    for code, error in ERRORS.items():
        back = error_of(error("what happened").document(), 400)
        assert type(back) is error
        assert (back.code, back.message) == (code, "what happened")


def test_a_server_cannot_report_what_is_ours_to_know() -> None:
    assert "home.empty" not in ERRORS
    assert "net.offline" not in ERRORS
    assert type(error_of({"code": "home.empty", "detail": "x"}, 404)) is PeerError


@pytest.mark.covers("P-10.3")
def test_an_unknown_code_keeps_its_text() -> None:
    error = error_of({"code": "later.version", "detail": "Something new.", "hint": 5}, 422)
    assert type(error) is PeerError
    assert error.message == "Something new. (later.version)"
    assert error.extra == {"hint": 5, "peer_code": "later.version"}
    assert type(error_of({"title": "Down"}, 503)) is BadReply


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"code": None, "detail": 5, "title": []},
        {"code": "auth.nonce", "message": "m", "self": "s", "extra": {}},
        {"code": ["auth.nonce"], "detail": {"a": 1}},
    ],
)
def test_no_document_breaks_us(document: dict[str, object]) -> None:
    assert isinstance(error_of(document, 400), OutpostError)


def test_text_of_a_peer_cannot_steer_a_terminal() -> None:
    error = error_of({"code": "auth.revoked", "detail": "\x1b[2J" + "й" * 5000}, 403)
    assert "\x1b" not in error.message
    assert len(error.message) == 2000
