"""Runs of power losses: record, then open many images of both machines. A recording that lost something is kept."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.faults.power.images import Found, examine
from tests.faults.power.record import recorded

MEMORY = Path("/dev/shm")


def run(seed: int, images: int, *, transactions: int = 150, synchronous: str = "FULL", keep: Path | None = None) -> tuple[Found, str]:
    """Record one life of a till and its centre and open images of both; return what they showed and how to see it again."""
    folder = Path(tempfile.mkdtemp(prefix="outpost-power-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        trace = recorded(folder, seed, transactions, synchronous)
        found = replay(trace, seed, images, folder)
        if found.lost and keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            trace = shutil.copy(trace, keep / f"power-{seed}-{synchronous}.trace")
        return found, f"power --trace {trace} --seeds {seed} --images {images}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replay(trace: Path, seed: int, images: int, folder: Path) -> Found:
    """Open images of a recording: two thirds of the node, one third of the centre."""
    found = examine(trace, "node", images - images // 3, seed, folder / "node")
    found.add(examine(trace, "centre", images // 3, seed, folder / "centre"))
    return found
