"""Exporting: one JSON document into a new file, which only its owner may read. Used by the `held export` commands of node and server."""

from __future__ import annotations

from pathlib import Path

from schema.console import CommandFailed, as_text
from schema.files import create_private


def write_new(path: Path, document: object) -> None:
    """Write a document to a file that is not there yet. Raises CommandFailed."""
    try:
        create_private(path)
    except FileExistsError as error:
        raise CommandFailed("usage.value", f"There is a file {path} already. Nothing was written; name another.") from error
    path.write_text(as_text(document) + "\n", encoding="utf-8")
