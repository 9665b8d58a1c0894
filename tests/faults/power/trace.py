"""Trace: reads what shim.c recorded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct("<cBHIq")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on a file. kind: c created, w written, t cut to `offset` bytes, s synced, u unlinked, r renamed to `data`."""

    kind: str
    path: str
    offset: int
    data: bytes


def read(path: Path) -> Iterator[Step]:
    """Yield the steps of a recording in their order."""
    with path.open("rb") as file:
        while header := file.read(HEADER.size):
            kind, _, path_bytes, data_bytes, offset = HEADER.unpack(header)
            name = file.read(path_bytes).decode()
            yield Step(kind.decode(), name, offset, file.read(data_bytes))
