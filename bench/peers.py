"""Peers: other engines that push and pull the same receipts, each by a script of its own in a folder that is not ours.

    find(folder) ─► the peers that can run, and why the others cannot
    export(rows) ─► sale.ndjson ─► node SCRIPT … ─► one line of JSON ─► figures

The scripts take where the data, the packages and the scratch folder are from BENCH_DATA, BENCH_NODE_MODULES and BENCH_DIR.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.figures import Measured
from bench.workload import SALE, Row

MODULES: Final = "BENCH_NODE_MODULES"
SECONDS_MAX: Final = 900
"""How long one run of a peer may take; 100,000 receipts take the slowest one to two minutes."""

LEVELDB: Final = "PouchDB leveldb"
STEPS: Final = {
    "push": "push, rows/s",
    "pull to a fresh replica": "pull, rows/s",
    "push 1k changes": "push of 1,000 changes, ms",
    "pull 1k changes": "pull of 1,000 changes, ms",
}
RENAMED: Final = {"discount_minor": "qty"}
"""Their scripts change a column of this name: of the same receipt the same values go out."""


class PeerFailed(Exception):
    """A peer's script ended in an error, or not in time. The text is the last that it said."""


@dataclass(frozen=True)
class Peer:
    """An engine: its script in the folder of peers, what it is called with before the number of rows, the packages it needs."""

    name: str
    script: str
    arguments: tuple[str, ...]
    packages: tuple[str, ...]


PEERS: Final = (
    Peer(LEVELDB, "peers/pouchdb/run.mjs", ("leveldb",), ("pouchdb", "express", "express-pouchdb")),
    Peer("RxDB memory", "peers/rxdb/run.mjs", (), ("rxdb", "rxjs")),
)


@dataclass(frozen=True)
class Ready:
    """A peer that can run: with which Node.js, which script, which packages."""

    peer: Peer
    program: str
    script: Path
    modules: Path


def find(folder: Path | None) -> tuple[list[Ready], dict[str, str]]:
    """Return the peers that can run, and of the others why not."""
    ready, left_out = [], {}
    for peer in PEERS:
        found = _look(peer, folder)
        if isinstance(found, Ready):
            ready.append(found)
        else:
            left_out[peer.name] = found
    return ready, left_out


def _look(peer: Peer, folder: Path | None) -> Ready | str:
    """Return the peer, ready, or what is missing."""
    if folder is None:
        return "no folder with their scripts was named"
    script = (folder / peer.script).resolve()
    if not script.is_file():
        return f"there is no {peer.script} in {folder}"
    program = shutil.which("node")
    if program is None:
        return "Node.js is not installed"
    modules = Path(os.environ.get(MODULES) or folder / "node_modules").resolve()
    missing = [name for name in peer.packages if not (modules / name / "package.json").is_file()]
    if missing:
        return f"{', '.join(missing)} not in {modules}; npm install beside their package.json, or name the folder by {MODULES}"
    return Ready(peer, program, script, modules)


def versions(ready: Sequence[Ready]) -> dict[str, str]:
    """Return the versions of Node.js and of the peers that can run."""
    if not ready:
        return {}
    done = subprocess.run([ready[0].program, "--version"], capture_output=True, text=True, check=False)
    first = {each.peer.packages[0]: each.modules / each.peer.packages[0] / "package.json" for each in ready}
    found = {name: str(json.loads(path.read_text(encoding="utf-8"))["version"]) for name, path in first.items()}
    return {"node": done.stdout.strip(), **found}


def export(folder: Path, rows: Sequence[Row]) -> None:
    """Write receipts where the scripts look for them, one JSON object a line."""
    folder.mkdir(parents=True)
    names = [RENAMED.get(name, name) for name in SALE]
    with (folder / "sale.ndjson").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(dict(zip(names, row, strict=True)), separators=(",", ":"), ensure_ascii=False) + "\n")


def peer_round(ready: Ready, data: Path, count: int, measured: Measured) -> None:
    """Let a peer push and pull so many receipts. If it fails it is left out from here on, and said so: the fault is not ours."""
    name = ready.peer.name
    if name in measured.left_out:
        return
    try:
        found = run(ready, data, count)
        _add(name, found, measured)
    except (PeerFailed, KeyError, TypeError, ValueError) as error:
        measured.left_out[name] = f"its script failed: {error}"
        measured.say(f"  {name} left out from here on: {measured.left_out[name]}")


def run(ready: Ready, data: Path, count: int) -> dict[str, Any]:
    """Return the JSON document that a peer's script prints. Raises PeerFailed, ValueError where it is none."""
    command = [ready.program, str(ready.script), *ready.peer.arguments, str(count)]
    places = {MODULES: str(ready.modules), "BENCH_DATA": str(data), "BENCH_DIR": str(data)}
    with subprocess.Popen(
        command,
        cwd=data,
        env=os.environ | places,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # a group of its own: what it has started ends with it
    ) as process:
        try:
            out, err = process.communicate(timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise PeerFailed(f"not done in {SECONDS_MAX} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0 or not out.strip():
        raise PeerFailed(_last_line(err) or f"exit status {process.returncode}")
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found


def _last_line(text: str) -> str:
    """Return the line that says what went wrong: of a stack of Node.js the one with the error, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "Error" in line), lines[-1] if lines else "")[:300]


def _add(name: str, found: Mapping[str, Any], measured: Measured) -> None:
    figures = found["figures"]
    for step, figure in STEPS.items():
        if figure.endswith(", ms"):
            measured.add(f"{name}: {figure}", figures[step]["s"] * 1000)
            continue
        way = figure.split(",")[0]
        measured.add(f"{name}: {figure}", found["n"] / figures[step]["s"])
        measured.add(f"{name}: {way}, bytes a row", figures[step]["bytes_up_per_row"] + figures[step]["bytes_down_per_row"])
        measured.add_ratio(f"{way}, times {name}", f"{way}, rows/s", f"{name}: {way}, rows/s")
    measured.add(f"{name}: memory, MB: client", found["client_peak_rss_mb"])
    measured.add(f"{name}: memory, MB: server", found["server_peak_rss_mb"])
