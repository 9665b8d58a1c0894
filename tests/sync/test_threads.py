"""Messages are decoded by many threads at once, from the first one on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, sys, threading
from pathlib import Path
from sync import messages, wire

sys.setswitchinterval(1e-6)
valid = json.loads(Path("tests/vectors/messages.json").read_text(encoding="utf-8"))["valid"]
frames = [(getattr(messages, each["type"]), bytes.fromhex(each["frame"])) for each in valid]
together = threading.Barrier(8)

def read():
    together.wait()
    for type_, frame in frames:
        wire.unpack(type_, frame, 1 << 20)

threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("attempt", range(3))
def test_the_first_messages_may_come_at_once(attempt: int) -> None:
    """Found by a swarm: a server that had just been started died of a segmentation fault when its first two requests met."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), attempt
