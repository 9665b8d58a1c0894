"""A folder of peers with a stand-in for Node.js: a program that is not ours, and that says what a peer's script says."""

from __future__ import annotations

import json
import os
from pathlib import Path

STEP = {"s": 0.5, "bytes_up_per_row": 400.0, "bytes_down_per_row": 40.0}
STEPS = ("push", "pull to a fresh replica", "push 1k changes", "pull 1k changes")

NODE = """#!/bin/sh
case "$1" in
  --version) echo v20.0.0 ;;
  *pouchdb*) head -n "$3" "$BENCH_DATA/sale.ndjson" | wc -l | sed 's/^/{"n": /; s/$/, DOCUMENT/' ;;
  *) echo "stack" >&2; echo "Error: no such adapter" >&2; exit 1 ;;
esac
"""


def make(folder: Path) -> None:
    """Make the folder of the peers: the script of PouchDB prints figures, that of RxDB fails."""
    for script in ("pouchdb/run.mjs", "rxdb/run.mjs"):
        path = folder / "peers" / script
        path.parent.mkdir(parents=True)
        path.touch()
    install(folder / "node_modules")


def install(modules: Path) -> None:
    """Make what the packages of all peers look like."""
    for name in ("pouchdb", "express", "express-pouchdb", "rxdb", "rxjs"):
        (modules / name).mkdir(parents=True)
        (modules / name / "package.json").write_text(json.dumps({"version": "1.2.3"}), encoding="utf-8")


def path_with_node(folder: Path) -> str:
    """Return a PATH on which `node` is the stand-in."""
    folder.mkdir()
    document = {"figures": dict.fromkeys(STEPS, STEP), "client_peak_rss_mb": 10, "server_peak_rss_mb": 20}
    program = folder / "node"
    program.write_text(NODE.replace("DOCUMENT", json.dumps(document)[1:]), encoding="utf-8")
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
