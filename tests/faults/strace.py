"""SIGKILL at the N-th system call: strace's fault injection, where strace is there and may trace.

    steps = Traced(pid, file) … .steps()       a run that is only watched: every call of it, a step at which it may die
    Traced(pid, file, at=steps[k])             another run of the same, killed there

The signal comes on entering the call, so the call is not made: the process dies between the call before and this one.
strace counts the calls of each thread and name by themselves; the first thread to reach the number takes the process along.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_OURS = ("node.", "server.", "nonces.", "joining.")
_LAST = ("exit", "exit_group", "rt_sigreturn", "restart_syscall")
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


@dataclass(frozen=True)
class Step:
    """The N-th call of a name, and what it is about: a file's name, or nothing."""

    call: str
    number: int
    about: str

    @property
    def label(self) -> str:
        """Return what tells kinds of steps apart: `pwrite64 node.db-wal`."""
        return f"{self.call} {self.about}".strip()


class Traced:
    """A running process under strace, perhaps to be killed at a step."""

    def __init__(self, pid: int, out: Path, at: Step | None = None) -> None:
        self.out = out
        command = ["strace", "-qq", "-f", "-y", "-s", "0", "-p", str(pid), "-o", str(out)]
        if at is not None:
            command += ["-e", f"trace={at.call}", "-e", f"inject={at.call}:signal=KILL:when={at.number}"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not _is_traced(pid):
            assert self.process.poll() is None, "strace could not attach"
            time.sleep(0.001)  # another process attaches; there is nothing else to wait for
        os.kill(pid, signal.SIGCONT)

    def detach(self) -> None:
        """Let the process go on alone, or forget one that has ended."""
        self.process.terminate()
        self.process.wait()

    def steps(self) -> list[Step]:
        """Return every call that was made, in order."""
        counts, found = Counter[tuple[str, str]](), list[Step]()
        for line in self.out.read_text(encoding="utf-8", errors="replace").splitlines():
            said = _LINE.match(line)
            if said and said["call"] not in _LAST:
                counts[said["pid"], said["call"]] += 1
                found.append(Step(said["call"], counts[said["pid"], said["call"]], _about(said["rest"])))
        return found


def drawn(steps: Sequence[Step], chance: random.Random) -> Step:
    """Return a step to die at: every second time any, else one of a kind that was drawn first, so that rare kinds come too."""
    if chance.random() < 0.5:
        return chance.choice(steps)
    label = chance.choice(sorted({step.label for step in steps}))
    return chance.choice([step for step in steps if step.label == label])


def _about(rest: str) -> str:
    found = _FILE.search(rest)
    name = (found["file"] or found["named"]) if found else ""
    return name if name.startswith(_OURS) else "socket" if "TCP" in rest or "socket" in rest else ""


def _is_traced(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    return "TracerPid:\t0\n" not in status
