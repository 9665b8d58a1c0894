"""Importing: reference tables from files, written at the centre as any central program writes them.

Plain SQL on a connection of its own; capture notices, and the engine journals it as a version of the centre. The same
files give the nodes everything else (node/cli.py). Used by `outpost server import`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from schema.bookkeeping import require_mine
from schema.declare import Kind
from schema.importer.mapping import load_mapping
from schema.importer.run import run_import
from server.database import Database
from server.service import Service
from sync.errors import NewerFile


class CentralTarget:
    """Where `outpost server import` writes (schema/importer/target.py)."""

    def __init__(self, database: Database) -> None:
        self._dialect, self._schema = database.dialect, database.schema
        self.is_typed = database.dialect.is_typed
        self.connection = database.dialect.open(database.path)

    def begin(self) -> None:
        """Open a write transaction. Raises NewerFile where another program has brought the database up to date meanwhile."""
        self._dialect.begin_write(self.connection)
        try:
            require_mine(self.connection, self._schema)
        except BaseException:
            self.connection.rollback()
            raise

    def announce(self) -> None:
        """End nothing: central writes are journaled together."""

    def commit(self) -> None:
        """Make it durable."""
        self.connection.commit()

    def rollback(self) -> None:
        """Forget it."""
        self.connection.rollback()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def import_reference(
    database: Database,
    mapping: str,
    paths: list[Path],
    *,
    branch: str | None,
    dry_run: bool,
    bring_back: bool,
    clock_ms: Callable[[], int],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Import the reference rows of the files and journal them; return the report. Raises ImportFailed."""
    known = database.schema.by_name
    target = CentralTarget(database)
    try:
        report = run_import(
            target,
            load_mapping(mapping),
            paths,
            writes=lambda name: name in known and known[name].kind is Kind.REFERENCE,
            branch=branch,
            dry_run=dry_run,
            bring_back=bring_back,
            progress=progress,
        )
    finally:
        target.close()
    if not dry_run:
        with suppress(NewerFile):  # upgraded after the last commit: who did that journaled what it found
            Service(database).absorb(clock_ms())
    return report.as_json()
