"""Starts commands as real processes that can be killed at any moment; imports the program once, a command is a fork of it.

{"start": {"arguments": […], "out": path, "err": path, …}}   answers {"pid": …} at once
{"wait": pid}                                                answers {"status": …}, negative: killed

`clock_offset_ms` makes the program's clock wrong; `call` names a function of tests/faults to run instead of the program;
`stopped` lets the process stop itself (SIGSTOP) before it does anything, so that a tracer can be attached; `watch` names
a page that its calls are counted in (tests/faults/shim.py); `fresh`: the fork becomes the ordinary command by exec, with an
interpreter of its own, which imports everything anew.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults import shim, warmed, workload
from tests.faults.power import record

OURS = ("node", "server", "schema")
ORDINARY = [sys.executable, "-m", "schema.cli"]
CALLS = {"write": workload.write, "foreign_write": workload.foreign_write, "exchange": workload.exchange, "record": record.record}


def shift_clock(offset_ms: int) -> None:
    """Make the program's clock wrong."""

    def now_ms() -> int:
        return time.time_ns() // 1_000_000 + offset_ms

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in OURS and hasattr(module, "now_ms"):
            vars(module)["now_ms"] = now_ms


def carry_out(arguments: list[Any], call: str | None) -> int:
    """Run the program, or one of our own functions, whose first argument is a folder."""
    if call is None:
        return warmed.outpost(arguments)
    CALLS[call](Path(arguments[0]), *arguments[1:])
    return 0


def start(
    arguments: list[Any],
    out: str,
    err: str,
    clock_offset_ms: int = 0,
    call: str | None = None,
    stopped: bool = False,
    watch: str | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
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
        if watch is not None and not fresh:
            shim.watch(watch)
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        if fresh:
            os.execve(sys.executable, [*ORDINARY, *arguments], os.environ | shim.watched(watch))
        status = carry_out(arguments, call)
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def wait(pid: int) -> dict[str, Any]:
    """Wait for a command."""
    return {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}


if __name__ == "__main__":
    warmed.warm()
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(start(**order["start"]) if "start" in order else wait(order["wait"])), flush=True)
