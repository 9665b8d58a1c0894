"""The demo's server: the real `outpost server`, as processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

READY_SECONDS = 30
STOP_SECONDS = 10


class ServerProcess:
    """A server in a home of its own, on a port the system chose."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._command("init")
        self._process = subprocess.Popen(
            [*_program(), "server", "--home", str(home), "run", "--port", "0"], stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.url = next((word for word in line.split() if word.startswith("http")), "")
        if not self.url:
            raise RuntimeError(f"the server did not start: {line!r}")

    def _command(self, *arguments: str) -> Any:
        command = [*_program(), "server", "--home", str(self._home), *arguments, "--json"]
        result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=READY_SECONDS, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"outpost {' '.join(arguments)}: {result.stdout}{result.stderr}")
        return json.loads(result.stdout)

    def invite(self, name: str, scope: list[str]) -> str:
        """Return a one-time invitation code."""
        return str(self._command("invite", "--name", name, *(part for key in scope for part in ("--scope", key)))["code"])

    def sales(self) -> list[dict[str, Any]]:
        """Return the consolidated view by branch."""
        return list(self._command("report", "sales", "--by", "branch")["sales"])

    def receipts(self) -> int:
        """Return how many receipts the centre has."""
        return sum(row["receipts"] + row["returns"] for row in self.sales())

    def wait(self) -> None:
        """Wait until the server ends."""
        self._process.wait()

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


def _program() -> list[str]:
    """Return how to start `outpost` as it is installed beside this Python."""
    name = "outpost.exe" if sys.platform == "win32" else "outpost"
    return [str(Path(sys.executable).with_name(name))]
