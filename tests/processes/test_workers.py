"""Several server processes: behind one socket, on one database, and what becomes of them when one dies, or the one that watches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests import databases
from tests.faults.checks import acknowledged, at_rest, quieten
from tests.faults.processes import Centre as Servers
from tests.faults.processes import Starter
from tests.faults.proxy import Proxy
from tests.processes.conftest import ROOT, Centre
from tests.processes.test_journey import contact

WORKERS = 2


@pytest.fixture(params=["file", "postgres"])
def centre(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Centre]:
    if request.param == "postgres":
        request.getfixturevalue("on_postgres")
    elif databases.is_postgres():
        monkeypatch.delenv(databases.VARIABLE)
    made = Centre(tmp_path / "server", tmp_path)
    made.ok("init", *(["--database", made.database] if isinstance(made.database, str) else []))
    made.start(0, "--workers", str(WORKERS))
    try:
        yield made
    finally:
        made.stop()
        databases.drop(made.database)


def workers_of(centre: Centre) -> set[int]:
    assert centre.process is not None
    pid = centre.process.pid
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until_ended(pids: set[int]) -> None:
    while any(map(is_alive, pids)):
        pass


def test_nodes_join_and_sync_through_whatever_worker_takes_them(centre: Centre) -> None:
    nodes = [centre.node(name, "branch:KYV") for name in ("one", "two", "three")]
    for number, node in enumerate(nodes):
        node.write(contact(f"c{number}", "KYV"))
    for node in nodes * 2:
        node.sync()
    assert [node.write(("SELECT id FROM contact ORDER BY id", [])) for node in nodes] == [[["c0"], ["c1"], ["c2"]]] * 3
    assert all(node.ok("verify")["equal"] for node in nodes)


def test_a_worker_that_dies_is_followed_by_another(centre: Centre) -> None:
    node = centre.node("till", "branch:KYV")
    for number in range(3):
        dying = min(workers_of(centre))
        os.kill(dying, signal.SIGKILL)
        while dying in (now := workers_of(centre)) or len(now) < WORKERS:
            pass
        node.write(contact(f"c{number}", "KYV"))
        assert node.sync()["verdicts"]["accepted"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_all_stop(centre: Centre, number: int) -> None:
    process, workers = centre.process, workers_of(centre)
    assert process is not None
    process.send_signal(number)
    assert process.wait(10) == 0
    assert not any(map(is_alive, workers))
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read() == "", "one line when ready, and nothing else"
    centre.process = None


def test_workers_end_with_whoever_watches_over_them(centre: Centre) -> None:
    """Killed outright, it cannot tell them; they notice, and let go of the home and of the port."""
    process, workers = centre.process, workers_of(centre)
    assert process is not None
    assert len(workers) == WORKERS
    process.kill()
    process.wait(10)
    until_ended(workers)
    assert process.stdout is not None
    process.stdout.close()
    centre.start(centre.port, "--workers", str(WORKERS))
    assert centre.ok("nodes") == []


def test_a_second_server_on_the_home_is_refused(centre: Centre) -> None:
    assert centre.run("run", "--port", "0").error == "home.busy"


def test_what_cannot_be_served_is_not_tried_for_ever(tmp_path: Path) -> None:
    """Of workers that die again and again the server gives up, in words."""
    script = """
import os, socket, sys
from server import workers
from sync.errors import OutpostError

def serve(listener, ready):
    ready("")
    os._exit(3)

workers.PAUSE_SECONDS_MAX = 0.01

with socket.create_server(("127.0.0.1", 0)) as listener:
    try:
        workers.run(serve, listener, 2, ready=lambda url: print("ready", flush=True))
    except OutpostError as error:
        sys.exit(f"{error.code}: {error}")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "server.workers: The server's worker processes end again and again; the server has stopped." in done.stderr
    assert done.stderr.count("ended with status 3") >= 2


@pytest.fixture
def servers(tmp_path: Path, on_postgres: None) -> Iterator[Servers]:
    """Two homes on one database."""
    with closing(Starter(tmp_path)) as starter, closing(Servers(starter, tmp_path, more=1)) as made:
        yield made


def test_two_servers_on_one_database_take_requests_in_turn(servers: Servers) -> None:
    """What one gave out, a nonce, an invitation, the place in a feed, the other takes; when one is killed the other goes on."""
    starter, said = servers.starter, list[str]()
    with Proxy(*(server.port for server in servers.servers)) as balancer:
        links = [balancer.link(name) for name in ("one", "two")]
        nodes = [servers.node(link.name, "branch:LON", port=link.port) for link in links]
        for turn, killed in enumerate((None, *servers.servers)):
            if killed is not None:
                killed.kill()
            for node in nodes:
                running = starter.start(node.home, node.name, turn * 10, 10, 1, call="foreign_write")
                assert starter.wait(running) == 0
                said.append(running.said())
            quieten(starter, nodes)
            assert at_rest(starter, servers, nodes, acknowledged(*said))["sale"]
            if killed is not None:
                killed.start()


def test_both_servers_tell_the_same_of_themselves(servers: Servers) -> None:
    one, two = (httpx.get(f"http://127.0.0.1:{server.port}/v1/health").json() for server in servers.servers)
    assert one == two


def test_a_second_home_takes_a_database_only_if_told_so(servers: Servers) -> None:
    third = servers.folder / "third"
    status, said = servers.starter.run("server", "--home", third, "init", "--database", servers.path)
    assert (status, said["error"]["code"]) == (1, "home.taken")
    assert "--existing" in said["error"]["message"]
    for _ in range(2):
        servers.starter.ok("server", "--home", third, "init", "--database", servers.path, "--existing")
    assert servers.starter.ok("server", "--home", third, "nodes") == []
