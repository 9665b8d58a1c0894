"""Shim: compiles shim.c, and says to a process which file to count its calls in and at which to die.

page = Page(folder / "7.page")          a file that both sides map
… start(…, watch=page.path)             the process counts its calls there
page.die_after(12)                      twelve calls from now it kills itself, before it makes the call
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
PAGE = struct.Struct("<qq112s")


@cache
def why_not() -> str | None:
    """Return why the shim cannot be used here, or None if it can."""
    if os.uname().sysname != "Linux":
        return "calls are caught by a library that Linux loads first (LD_PRELOAD)"
    if shutil.which("cc") is None:
        return "there is no C compiler (on Debian and Ubuntu: apt-get install gcc libc6-dev)"
    return None


def compiled(folder: Path) -> Path:
    """Compile the shim and return the library."""
    made = folder / "shim.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(made), str(SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return made


def watch(path: str) -> None:
    """Count this process's calls in a page from now on; in a process that was started with the shim."""
    assert ctypes.CDLL(None).outpost_watch(path.encode()) == 0, f"{path} cannot be mapped"


def watched(path: str | None) -> dict[str, str]:
    """Return the environment in which a program counts its calls in a page, from the first one about a file of ours on."""
    return {} if path is None else {"OUTPOST_WATCH": path}


class Page:
    """Where a process's calls are counted, and at which it is to die."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(PAGE.size))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), PAGE.size)

    @property
    def calls(self) -> int:
        """Return how many calls it has made."""
        return int(PAGE.unpack(self._page)[0])

    @property
    def label(self) -> str:
        """Return the call it died at and the file that was about: `write node.db-wal`; '' if it did not die here."""
        return str(PAGE.unpack(self._page)[2].rstrip(b"\0").decode()).strip()

    def die_after(self, calls: int) -> None:
        """Let it die so many calls from now."""
        self._page[8:16] = struct.pack("<q", self.calls + calls)
