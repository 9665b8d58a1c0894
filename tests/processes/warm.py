"""Runs commands as real processes without paying for Python's imports each time; not a test itself.

    python -m tests.processes.warm      reads {"arguments": […], "out": path, "err": path} a line, answers {"status": …} a line

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


def carry_out(arguments: list[str], out: str, err: str) -> int:
    """Run one command in a process of its own and return its exit status."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
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
        print(json.dumps({"status": carry_out(**json.loads(line))}), flush=True)
