"""Exporting: one JSON document into a new file, which only its owner may read. Used by the `held export` commands of node and server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from schema.console import CommandFailed, as_text
from schema.files import create_private, to_disk


def write_new(path: Path, document: Mapping[str, object]) -> dict[str, int]:
    """Write a document to a file that is not there yet; return how many entries each list had that came as an iterator.

    It is durable when this returns: a copy is kept because what it copies may go. Entries are written as they come, a line
    each; what was begun and failed leaves no file. Raises CommandFailed.
    """
    try:
        create_private(path)
    except FileExistsError as error:
        raise CommandFailed("usage.value", f"There is a file {path} already. Nothing was written; name another.") from error
    try:
        with path.open("w", encoding="utf-8") as file:
            counts = _write(file, document)
        to_disk(path)
        to_disk(path.parent)
    except BaseException:
        path.unlink()
        raise
    return counts


def _write(file: TextIO, document: Mapping[str, object]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for place, (name, value) in enumerate(document.items()):
        file.write(f"{', ' if place else '{'}{as_text(name)}: ")
        if isinstance(value, Iterator):
            counts[name] = _write_list(file, value)
        else:
            file.write(as_text(value))
    file.write("}\n")
    return counts


def _write_list(file: TextIO, entries: Iterator[object]) -> int:
    number = 0
    file.write("[")
    for number, entry in enumerate(entries, 1):
        file.write(f"{',' if number > 1 else ''}\n{as_text(entry)}")
    file.write("]")
    return number
