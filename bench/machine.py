"""Where it was measured: machine, versions, settings, load. All of it goes into every report."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from schema.console import CommandFailed
from schema.dialects.base import Connection

DISTRIBUTION = "outpost-sync"
LIBRARIES = ("sqlcipher3", "msgspec", "zstandard", "httpx", "starlette", "uvicorn", "cryptography")


def require() -> None:
    """Raise CommandFailed (`bench.system`) where processes cannot be looked at the way we do."""
    if not Path("/proc/self/status").is_file():
        raise CommandFailed("bench.system", "The benchmark reads memory and processor time from /proc: run it on Linux. Nothing was done.")


def facts(folder: Path) -> dict[str, object]:
    """Return what figures from this machine must be read with. `folder`: where the databases lie."""
    return {
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "outpost": " ".join(filter(None, (version(DISTRIBUTION), _revision()))),
        "cores": os.cpu_count(),
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "memory_mb": int(_field(Path("/proc/meminfo"), "MemTotal").split()[0] or 0) // 1024,
        "filesystem": _filesystem(folder),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def settings(connection: Connection) -> dict[str, object]:
    """Return what the engine's own connection is set to."""
    names = ("journal_mode", "synchronous", "cache_size", "page_size", "secure_delete", "wal_autocheckpoint", "temp_store")
    found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}
    found["sqlite"] = connection.execute("SELECT sqlite_version()").fetchone()[0]
    found["synchronous"] = ("OFF", "NORMAL", "FULL", "EXTRA")[int(found["synchronous"])]
    return found


def load() -> float:
    """Return how many processes wanted to run, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def peak_mb(pid: int | str = "self") -> float:
    """Return the most memory a process ever held. `ru_maxrss` would begin at its parent's."""
    return round(int(_field(Path(f"/proc/{pid}/status"), "VmHWM").split()[0]) / 1024, 1)


def family_peak_mb(pid: int) -> float:
    """Return the most memory that a process and those it started ever held, each by itself, together."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return round(peak_mb(pid) + sum(family_peak_mb(int(child)) for child in children), 1)


def cpu_seconds(pid: int | str = "self") -> float:
    """Return the processor time a process has used, its threads together."""
    fields: Sequence[str] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _revision() -> str:
    """Return the commit of a checkout, with a mark if files were changed since; nothing where there is none."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return ""
    return f"({done.stdout.strip()})" if done.returncode == 0 else ""


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"


def _filesystem(folder: Path) -> str:
    done = subprocess.run(["df", "--output=fstype,source", str(folder)], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.splitlines()[-1].split()) if done.returncode == 0 else "unknown"
