"""What docs/deploy tells people to run, run: the container's command, from several at once, and the units' own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests import databases
from tests.processes.conftest import PROGRAM, ROOT

DEPLOY = ROOT / "docs" / "deploy"


@pytest.fixture
def url(on_postgres: None) -> Iterator[str]:
    made = databases.new()
    yield made
    databases.drop(made)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def container(home: Path, port: int) -> str:
    """Return the container's command, with this program, a folder of the test and a port of this machine in their places."""
    found = re.search(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    shell, option, command = json.loads(found[1])
    assert (shell, option) == ("sh", "-c")
    assert command.count("/data") == 2
    return f"{command.replace('outpost server', f'{shlex.join(PROGRAM)} server').replace('/data', str(home))} --port {port}"


def test_containers_that_start_at_the_same_moment_serve_one_new_database(url: str, tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    environment = os.environ | {"DATABASE": url, "WORKERS": "1", "PYTHONUNBUFFERED": "1"}
    started = [
        subprocess.Popen(["sh", "-c", container(tmp_path / str(port), port)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for port in ports
    ]
    try:
        for each in started:
            assert is_ready(each)
        told = [httpx.get(f"http://127.0.0.1:{port}/v1/health").json() for port in ports]
        assert told[0]["status"] == "ok"
        assert told == told[:1] * 3
    finally:
        for each in started:
            each.terminate()
        statuses = [each.wait(20) for each in started]
        for each in started:
            assert each.stdout is not None
            each.stdout.close()
    assert statuses == [0, 0, 0], "SIGTERM reaches the server itself, and it stops cleanly"


def is_ready(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return any("ready on" in line for line in process.stdout)


@pytest.mark.parametrize("unit", sorted(path.name for path in DEPLOY.glob("outpost-*")))
def test_units_are_what_systemd_takes(unit: str, tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd is not here")
    for path in DEPLOY.glob("outpost-*"):
        text = path.read_text(encoding="utf-8").replace("/opt/outpost/bin/outpost", "/bin/true")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    done = subprocess.run([tool, "verify", tmp_path / unit], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_units_commands_are_ours() -> None:
    said = [
        shlex.split(line.partition("=")[2])
        for path in DEPLOY.glob("*.service")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("ExecStart=")
    ]
    assert len(said) == 2
    for words in said:
        typed = shlex.split(words[-1].removeprefix("exec ")) if words[0] == "/bin/sh" else words
        assert typed[0].endswith("/outpost")
        part = typed.index("run") if "run" in typed else typed.index("backup")
        done = subprocess.run([*PROGRAM, *typed[1 : part + 1], "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert all(option in done.stdout for option in typed[part + 1 :] if option.startswith("--"))
