"""SIGKILL at the N-th system call: strace's fault injection, where strace is there and may trace.

It knows nothing of the program and catches every call, those of threads and of foreign libraries too; but each call of
the process then waits for strace, so most kills at a call are made by the shim instead (shim.py).

The signal comes on entering the call, so the call is not made: the process dies between the call before and this one.
strace counts the calls of each thread and name by themselves; the first thread to reach the number takes the process along.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import time
from functools import cache
from pathlib import Path

from tests.faults.processes import Running, state

CALLS = (
    ("pwrite64", 60),
    ("fsync", 8),
    ("fdatasync", 4),
    ("ftruncate", 4),
    ("openat", 40),
    ("unlink", 4),
    ("write", 12),
    ("sendto", 4),
    ("recvfrom", 8),
    ("fcntl", 120),
    ("close", 40),
    ("pread64", 60),
    ("mmap", 40),
    ("flock", 1),
)
"""Calls to die at, and up to which number; a process that makes fewer lives on, which is not counted as a kill."""

_LINE = re.compile(r"^\d+\s+(?P<call>\w+)\((?P<rest>.*)")
_FILE = re.compile(r"<[^>]*?(?P<file>[\w.-]+)>|\"[^\"]*?(?P<named>[\w.-]+)\"")
_OURS = ("node.", "server.", "nonces.", "joining.")


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
    """A running process under strace, to be killed at a call that chance draws."""

    def __init__(self, running: Running, out: Path, chance: random.Random) -> None:
        self.out = out
        call, highest = chance.choice(CALLS)
        when = chance.randint(1, highest)
        options = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
        command = ["strace", "-qq", "-f", "-y", "-s", "0", "-p", str(running.pid), "-o", str(out), *options]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while "TracerPid:\t0\n" in Path(f"/proc/{running.pid}/status").read_text(encoding="utf-8") and state(running) != "Z":
            assert self.process.poll() is None, "strace could not attach"
            time.sleep(0.001)  # another process attaches; there is nothing else to wait for

    def detach(self) -> None:
        """Let the process go on alone, or forget one that has ended."""
        self.process.terminate()
        self.process.wait()

    @property
    def label(self) -> str:
        """Return the call it died at and the file that was about: `pwrite64 node.db-wal`."""
        lines = self.out.read_text(encoding="utf-8", errors="replace").splitlines() if self.out.exists() else []
        said = [found for line in lines if (found := _LINE.match(line))]
        if not said:
            return ""
        about = _FILE.search(said[-1]["rest"])
        name = (about["file"] or about["named"]) if about else ""
        return f"{said[-1]['call']} {name if name.startswith(_OURS) else ''}".strip()
