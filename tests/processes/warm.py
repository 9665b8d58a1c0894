"""Runs commands as real processes without paying for Python's imports each time; not a test itself.

    python -m tests.processes.warm      reads {"arguments": […], "out": path, "err": path} a line, answers {"status": …, "peak_kib": …}

This process imports the program once and opens nothing; every command is a fork of it with standard streams of its own,
so it starts, works, and can be killed as any other, some fifty times sooner.
"""

from __future__ import annotations

import json
import os
import sys

import node.cli
import server.cli
from schema.cli import main

WARM = (node.cli, server.cli)


def carry_out(arguments: list[str], out: str, err: str) -> tuple[int, int]:
    """Run one command in a process of its own and return its exit status and its peak memory in KiB."""
    pid = os.fork()
    if pid:
        _, status, usage = os.wait4(pid, 0)
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss if sys.platform == "linux" else usage.ru_maxrss // 1024
    status = 70
    try:
        for descriptor, path, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
            os.dup2(os.open(path, mode | os.O_CREAT, 0o600), descriptor)
        status = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    for line in sys.stdin:
        ended, peak = carry_out(**json.loads(line))
        print(json.dumps({"status": ended, "peak_kib": peak}), flush=True)
