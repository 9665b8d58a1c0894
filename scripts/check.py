"""Check the project as CI does: format, lint, types, layers, tests. Each step gets one line and its time.

    python3 scripts/run.py check           everything; the last line is pytest's
    python3 scripts/run.py check --fast    without the tests

Every step runs even when an earlier one failed; the exit status is 1 when any failed. Runs inside .venv, which
scripts/run.py sets up.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PACKAGES = ("sync", "schema", "node", "server", "bench", "scripts")

Step = tuple[str, list[str]]
STEPS: tuple[Step, ...] = (
    ("format", [sys.executable, "-m", "ruff", "format", "--check", "."]),
    ("lint", [sys.executable, "-m", "ruff", "check", "."]),
    ("types", [sys.executable, "-m", "mypy", "--strict", *PACKAGES]),
    ("layers", [str(BIN / "lint-imports"), "--no-cache"]),
)
TESTS: Step = ("tests", [sys.executable, "scripts/run.py", "test"])  # README's own command
ON_POSTGRES = ("tests/server", "tests/contract", "tests/healing", "tests/protocol", "tests/skew", "tests/simulation/test_simulation.py")
"""What runs once more with the centre on PostgreSQL (tests/databases.py): everything that is about the centre and needs no process."""
YEAR = "tests/healing/test_year.py"  # 73,000 changes: three minutes there
AGAIN: Step = ("postgres", [*TESTS[1], "-n", "2", "--deselect", YEAR, *ON_POSTGRES])


def main(arguments: Sequence[str]) -> int:
    """Run the steps and return 0 when all passed, else 1."""
    parser = argparse.ArgumentParser(description="Format, lint, types, layers, tests: what CI runs.")
    parser.add_argument("--fast", action="store_true", help="leave the tests out")
    fast = parser.parse_args(arguments).fast
    start = time.monotonic()
    failed = [step[0] for step in STEPS if not passes(step)]
    closing = ""
    if not fast:
        for step, database in ((AGAIN, "postgres"), (TESTS, "")):
            passed, closing = run_tests(step, database)
            failed += [] if passed else [step[0]]
    result = f"failed: {', '.join(failed)}" if failed else "all passed"
    print(f"check: {result} ({time.monotonic() - start:.1f} s)")
    if closing:
        print(closing)
    return 1 if failed else 0


def passes(step: Step) -> bool:
    """Run one step, print its line, and its output only when it failed."""
    name, command = step
    start = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    report(name, done.returncode == 0, start)
    if done.returncode != 0:
        print(done.stdout.rstrip(), flush=True)
    return done.returncode == 0


def run_tests(step: Step, database: str) -> tuple[bool, str]:
    """Run pytest with its output as it comes, on a kind of database; return whether it passed and its closing line."""
    name, command = step
    start = time.monotonic()
    closing = ""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "OUTPOST_TEST_DATABASE": database},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            closing = line.strip() or closing
    report(name, process.returncode == 0, start)
    return process.returncode == 0, closing


def report(name: str, passed: bool, start: float) -> None:
    """Print a step's line."""
    print(f"{name:<9}{'ok' if passed else 'FAILED':<8}{time.monotonic() - start:6.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
