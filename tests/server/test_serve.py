"""Serving, in a real process: the line when it is ready, and that it stops in time whatever is open."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from server import serve
from server.app import create_app
from server.nonces import SqliteNonces
from server.serve import in_background
from sync import wire
from tests.server.fake_server import (
    NEVER_ENDS,
    ROOT,
    TAKES_A_SECOND,
    FakeService,
    Running,
    a_push,
    head,
    read_reply,
    running,
)

GOOD = wire.pack(a_push())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as server:
        yield server


def stop(server: Running, number: int = signal.SIGTERM) -> float:
    """Send the signal and return the seconds until the process has ended."""
    begin = time.monotonic()
    server.process.send_signal(number)
    server.process.wait(10)
    return time.monotonic() - begin


def idle_keep_alive(server: Running) -> socket.socket:
    connection = server.connect()
    connection.sendall(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
    return connection


def half_sent_body(server: Running) -> socket.socket:
    connection = server.connect()
    connection.sendall(head(server.headers(GOOD), len(GOOD)) + GOOD[:10])
    return connection


def half_sent_head(server: Running) -> socket.socket:
    connection = server.connect()
    connection.sendall(b"POST /v1/push HT")
    return connection


def silent(server: Running) -> socket.socket:
    return server.connect()


def refused_with_its_body_to_come(server: Running) -> socket.socket:
    connection = server.connect()
    connection.sendall(b"POST /v1/push HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    assert connection.recv(65_536).startswith(b"HTTP/1.1 415")
    connection.sendall(b"x")
    return connection


def test_one_line_says_where_it_listens(server: Running) -> None:
    assert server.port > 0
    assert server.ask("GET", "/v1/health").status == 200
    stop(server)
    assert server.process.stdout is not None
    assert server.process.stdout.read() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly(server: Running, number: int, tmp_path: Path) -> None:
    assert stop(server, number) < 5
    assert server.process.returncode == 0
    errors = (tmp_path / "stderr").read_text()
    assert errors.endswith("stopped\n"), "what comes after run() is done too"
    assert "Traceback" not in errors


@pytest.mark.parametrize("open_", [idle_keep_alive, half_sent_body, half_sent_head, silent, refused_with_its_body_to_come])
def test_it_stops_in_time_whatever_is_open(server: Running, open_: Callable[[Running], socket.socket], tmp_path: Path) -> None:
    with open_(server), open_(server):
        assert stop(server) < 5
    assert server.process.returncode == 0
    assert "Traceback" not in (tmp_path / "stderr").read_text()


def test_a_half_sent_body_is_told_that_the_server_stops(server: Running) -> None:
    with half_sent_body(server) as connection:
        server.process.send_signal(signal.SIGTERM)
        reply = read_reply(connection)
    assert (reply.status, reply.document["code"], reply.document["retry"]) == (503, "http.busy", True)


def test_a_request_being_worked_on_is_finished(server: Running) -> None:
    before = server.calls()
    with ThreadPoolExecutor(1) as threads:
        reply = threads.submit(server.push, a_push(epoch=TAKES_A_SECOND))
        while server.calls() == before:
            pass
        assert stop(server) < 5
        assert reply.result().status == 200


def test_a_request_that_never_ends_does_not_hold_it(server: Running, tmp_path: Path) -> None:
    before = server.calls()
    body = wire.pack(a_push(epoch=NEVER_ENDS))
    with server.connect() as connection:
        connection.sendall(head(server.headers(body), len(body)) + body)
        while server.calls() == before:
            pass
        assert stop(server) < 5
        reply = read_reply(connection)
    assert (reply.status, reply.document["code"], reply.document["retry"]) == (503, "http.busy", True), "a node knows what that means"
    errors = (tmp_path / "stderr").read_text()
    assert "did not end" in errors
    assert "Traceback" not in errors


def test_an_address_in_use_is_said_at_once(server: Running) -> None:
    code = f"from server.serve import listen; listen('127.0.0.1', {server.port})"
    second = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert second.returncode == 1
    assert second.stdout == ""
    assert "Address already in use" in second.stderr


# ---- in this process: connections that try the server's patience


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    nonces = SqliteNonces(tmp_path / "nonces.db")
    with in_background(create_app(FakeService(), nonces, clock_ms=lambda: 0)) as url:
        yield url
    nonces.close()


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 10)


def test_it_serves_in_the_background(url: str) -> None:
    assert httpx.get(f"{url}/v1/health", trust_env=False).json()["status"] == "ok"


def test_a_reply_is_not_held_back(url: str) -> None:
    """Head and body leave at once: Nagle's algorithm and a delayed acknowledgement would cost 40 ms a request."""
    with httpx.Client(trust_env=False) as client:
        seconds = sorted(client.get(f"{url}/v1/health").elapsed.total_seconds() for _ in range(60))
    assert seconds[30] < 0.03


@pytest.mark.parametrize("begin", [b"", b"POST /v1/push HT"], ids=["silent", "half-a-head"])
def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, url: str, begin: bytes) -> None:
    monkeypatch.setattr(serve, "PATIENCE_SECONDS", 0.3)
    with connect(url) as connection:
        connection.sendall(begin)
        assert ends(connection)


def test_a_head_that_trickles_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(serve, "PATIENCE_SECONDS", 0.5)
    with connect(url) as connection:
        trickle = threading.Thread(target=drip, args=(connection, b"POST /v1/push HTTP/1.1\r\n" + b"X" * 1000))
        trickle.start()
        assert ends(connection)
        trickle.join()


def test_a_refused_body_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(serve, "PATIENCE_SECONDS", 0.5)
    with connect(url) as connection:
        connection.sendall(b"POST /v1/push HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 415")
        trickle = threading.Thread(target=drip, args=(connection, b"x" * 1000))
        trickle.start()
        assert ends(connection)
        trickle.join()


def test_patience_is_not_spent_while_the_server_works(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Several requests on one connection, together longer than the patience for one head."""
    monkeypatch.setattr(serve, "PATIENCE_SECONDS", 0.4)
    with connect(url) as connection:
        for _ in range(4):
            connection.sendall(b"GET /v1/health HTTP/1.1\r\n")
            time.sleep(0.2)
            connection.sendall(b"Host: x\r\n\r\n")
            assert read_reply(connection).status == 200


def test_beyond_its_connections_it_says_that_it_is_busy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(serve, "CONNECTIONS_MAX", 3)
    idle = [connect(url) for _ in range(3)]
    try:
        reply = httpx.get(f"{url}/v1/health", trust_env=False)
        assert (reply.status_code, reply.json()["code"]) == (503, "http.busy")
        assert reply.headers["connection"] == "close"
    finally:
        for connection in idle:
            connection.close()


def test_twice_as_many_connections_are_cut(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(serve, "CONNECTIONS_MAX", 3)
    idle = [connect(url) for _ in range(6)]
    try:
        with connect(url) as connection:
            assert ends(connection)
    finally:
        for connection in idle:
            connection.close()


def drip(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(0.05)


def ends(connection: socket.socket) -> bool:
    """Tell whether the server ends the connection before our own patience does."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65_536):
            pass
    return True  # recv raises TimeoutError else


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such limit")
@pytest.mark.parametrize(("soft", "hard", "served"), [(300, 300, 22), (1024, 1024, 384), (1024, 20_000, serve.CONNECTIONS_MAX)])
def test_no_more_connections_than_the_system_lets_files_be_open(soft: int, hard: int, served: int) -> None:
    """Beyond, not one could be told that the server is busy: nothing can be accepted any more."""
    said = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); from server import serve"
    code = f"{said}; serve._find_room(); print(serve.connections_max())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == served
