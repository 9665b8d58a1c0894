"""SIGKILL at the N-th system call: strace's fault injection, where strace is there and may trace.

The signal comes on entering the call, so the N-th call is not made: the process dies between call N-1 and call N.
N counts the calls of each thread; the first thread to reach it takes the process along.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from functools import cache
from pathlib import Path

EVERY = "all"
DURABLE = "write,pwrite64,fsync,fdatasync,ftruncate,openat,unlink,rename,sendto,recvfrom,close,fcntl,flock"
"""The calls by which a step becomes durable or is told to another process."""

_LINE = re.compile(r"^(?P<pid>\d+)\s+(?P<call>\w+)\((?P<rest>.*)")
_FILE = re.compile(r"<[^>]*?(?P<file>[\w.-]+)>|\"[^\"]*?(?P<named>[\w.-]+)\"")


@cache
def why_not() -> str | None:
    """Return why strace cannot be used here, or None if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (on Debian and Ubuntu: apt-get install strace)"
    done = subprocess.run(
        ["strace", "-qq", "-f", "-e", "trace=write", "-e", "inject=write:signal=KILL:when=1", "echo", "alive"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "alive" in done.stdout or done.returncode not in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return f"strace cannot trace here: {(done.stderr or 'it did not inject the signal').strip().splitlines()[-1]}"
    return None


class Traced:
    """A running process under strace, perhaps to be killed at its N-th call."""

    def __init__(self, pid: int, out: Path, *, when: int = 0, calls: str = EVERY) -> None:
        self.out = out
        command = ["strace", "-qq", "-f", "-y", "-s", "0", "-p", str(pid), "-o", str(out), "-e", f"trace={calls}"]
        if when:
            command += ["-e", f"inject={calls}:signal=KILL:when={when}"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not _is_traced(pid):
            assert self.process.poll() is None, "strace could not attach"
            time.sleep(0.001)  # another process attaches; there is nothing else to wait for
        os.kill(pid, signal.SIGCONT)

    def detach(self) -> None:
        """Let the process go on alone, or forget one that has ended."""
        self.process.terminate()
        self.process.wait()

    def calls(self) -> int:
        """Return how many calls the busiest thread has made."""
        threads = Counter(found["pid"] for line in self._lines() if (found := _LINE.match(line)))
        return max(threads.values(), default=0)

    def killed_at(self) -> str:
        """Return the call at which the process was killed, with the file it was about: `pwrite64 node.db-wal`."""
        for line in reversed(self._lines()):
            found = _LINE.match(line)
            if found:
                about = _FILE.search(found["rest"])
                name = (about["file"] or about["named"]) if about else ""
                return f"{found['call']} {name}".strip()
        return "?"

    def _lines(self) -> list[str]:
        return self.out.read_text(encoding="utf-8", errors="replace").splitlines() if self.out.exists() else []


def _is_traced(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    return "TracerPid:\t0\n" not in status
