"""Exporting: one JSON document into a new file. Used by the `held export` commands of node and server."""

from __future__ import annotations

from pathlib import Path

from schema.console import CommandFailed, as_text


def write_new(path: Path, document: object) -> None:
    """Write a document to a file that is not there yet. Raises CommandFailed."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(as_text(document) + "\n")
    except FileExistsError as error:
        raise CommandFailed("usage.value", f"There is a file {path} already. Nothing was written; name another.") from error
