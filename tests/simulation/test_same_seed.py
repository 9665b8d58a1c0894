"""Same seed, same trace: in one process twice, and in another process whose sets have another order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.history import run

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("seed", [3, 52])
def test_same_seed_same_trace(seed: int) -> None:
    trace = run(seed, trace=True).trace
    assert len(trace) > 20
    assert run(seed, trace=True).trace == trace
    command = [sys.executable, str(ROOT / "scripts" / "sim.py"), "--seeds", str(seed), "--trace"]
    done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines()[: len(trace)] == trace


def test_another_seed_is_another_history() -> None:
    assert run(3, trace=True).trace != run(4, trace=True).trace
