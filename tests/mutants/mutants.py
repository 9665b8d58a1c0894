"""Switching one deliberate bug on: in a copy of the tree, where the tests that should notice are run.

bugs.toml ─► load() ─► copied tree, edited ─► pytest, simulator ─► caught: by what, in how many seconds
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("bugs.toml")
COPIED = ("sync", "schema", "node", "server", "tests", "scripts", "pyproject.toml")
MEMORY = Path("/dev/shm")
SECONDS_MAX = 300
"""Of one bug; a run that does not end is a hang, and that counts as caught."""


@dataclass(frozen=True)
class Edit:
    """Text that stands exactly once in a file, and what to put in its place."""

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Change the file. Raises ValueError unless the text stands there exactly once, and the new one differs."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.file}: the text to replace stands there {text.count(self.old)} times, not once:\n{self.old}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True)
class Bug:
    """A deliberate bug and the selection that is to catch it."""

    name: str
    rule: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...] = ()
    seeds: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a bug. `by`: the first test or history that failed, or why nothing can be said."""

    bug: str
    caught: bool
    by: str
    seconds: float


def load() -> list[Bug]:
    """Return the list, in the order it is written in."""
    document = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return [
        Bug(
            entry["name"],
            entry["rule"],
            tuple(Edit(edit["file"], edit["old"], edit["new"]) for edit in entry["edits"]),
            tuple(entry.get("tests", ())),
            entry.get("seeds", ""),
        )
        for entry in document["bug"]
    ]


@contextmanager
def copied_tree() -> Iterator[Path]:
    """Give a copy of the tree, in memory if the machine has such a place; with what is compiled, to begin sooner."""
    with tempfile.TemporaryDirectory(prefix="outpost-mutant-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        root = Path(name)
        for part in COPIED:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("realdata"))
            else:
                shutil.copy(source, root / part)
        yield root


def try_bug(bug: Bug) -> Outcome:
    """Switch a bug on and run what should catch it. Raises ValueError if it does not apply."""
    with copied_tree() as root:
        for edit in bug.edits:
            edit.apply(root)
        return _run(root, bug)


def try_sound(bug: Bug) -> Outcome:
    """Run the same selection on an unchanged copy: nothing may be caught there."""
    with copied_tree() as root:
        return _run(root, bug)


def _run(root: Path, bug: Bug) -> Outcome:
    begin = time.monotonic()
    for command in _commands(bug):
        try:
            done = subprocess.run(command, cwd=root, env=_environment(root), capture_output=True, text=True, timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return Outcome(bug.name, True, "it did not end", time.monotonic() - begin)
        by = _by(done.stdout + done.stderr) if done.returncode == 1 else ""
        if by:
            return Outcome(bug.name, True, by, time.monotonic() - begin)
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()[-1:]
            return Outcome(bug.name, False, f"the selection cannot be run: {' '.join(said)}", time.monotonic() - begin)
    return Outcome(bug.name, False, "", time.monotonic() - begin)


def _commands(bug: Bug) -> Iterator[Sequence[str]]:
    """Yield what to run: tests stop at the first failure, then histories."""
    quiet = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    if bug.tests:
        yield [sys.executable, "-m", "pytest", *quiet, *bug.tests]
    if bug.seeds:
        yield [sys.executable, "scripts/sim.py", "--seeds", bug.seeds, "--jobs", "1"]


def _environment(root: Path) -> dict[str, str]:
    """Let the copy's packages stand before the installed ones."""
    return {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}


def _by(output: str) -> str:
    """Return what failed: a test, or a history that broke a promise. A crash while setting up proves nothing."""
    failed = re.search(r"^FAILED (\S+)", output, re.MULTILINE)
    if failed:
        return failed[1].partition("/")[2]
    broken = re.search(r"^(\d+): (.*)$", output, re.MULTILINE)
    return f"history {broken[1]}: {broken[2][:80]}" if broken else ""
