"""Starts commands as real processes that can be killed at any moment; imports the program once, every command is a fork of it.

{"start": {"arguments": […], "out": path, "err": path, "clock_offset_ms": 0}}   answers {"pid": …} at once
{"wait": pid}                                                                   answers {"status": …}, negative: killed
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import node.cli
import schema.console
import server.cli
from schema.cli import main
from schema.registry import load

PARTS = (node.cli, server.cli, schema.console)


def shift_clock(offset_ms: int) -> None:
    """Make the program's clock wrong."""

    def now_ms() -> int:
        return time.time_ns() // 1_000_000 + offset_ms

    for module in PARTS:
        if hasattr(module, "now_ms"):
            module.now_ms = now_ms


def start(arguments: list[str], out: str, err: str, clock_offset_ms: int = 0) -> dict[str, Any]:
    """Fork a command."""
    pid = os.fork()
    if pid:
        return {"pid": pid}
    status = 70
    try:
        for descriptor, path, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
            os.dup2(os.open(path, mode | os.O_CREAT | (os.O_TRUNC if descriptor else 0), 0o600), descriptor)
        if clock_offset_ms:
            shift_clock(clock_offset_ms)
        status = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def wait(pid: int) -> dict[str, Any]:
    """Wait for a command."""
    return {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}


if __name__ == "__main__":
    load()  # the declarations, too, are read once
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(start(**order["start"]) if "start" in order else wait(order["wait"])), flush=True)
