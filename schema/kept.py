"""Changes as they are kept, shown and exported: one form for node and server.

The documents are those of `outpost node held --json` and `outpost server held --json`, and of the file that `held export` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schema.images import mark, pack_marked, pack_values
from schema.keys import cell_json, key_json, key_text
from sync.change import Delete, Insert, Op, Update

FORMAT = "outpost-held-1"
"""Names the form of an export; it changes when a reader of the old form would misread the new one."""

INSERT, UPDATE, DELETE = "insert", "update", "delete"


def pack(op: Op) -> tuple[str, bytes]:
    """Return a change as it is kept: its kind and its content."""
    match op:
        case Insert():
            return INSERT, pack_values([op.values, op.base, op.since, op.key])
        case Update():
            edits = [(e.cell, e.columns, mark(e.old), mark(e.new), e.base, e.since, e.wall) for e in op.edits]
            return UPDATE, pack_marked((edits, mark(op.key)))
        case Delete():
            return DELETE, pack_values([op.base, op.since, op.key])


def sealed(segment: bytes, index: int, verdict: str, ops: list[Op]) -> dict[str, object]:
    """Return a transaction as it is kept, exactly, for a file: bodies as hexadecimal."""
    return {"segment": segment.hex(), "index": index, "verdict": verdict, "changes": [_exact(op) for op in ops]}


def _exact(op: Op) -> dict[str, object]:
    kind, body = pack(op)
    return {"table": op.table, "key": key_text(op.key), "change": kind, "body": body.hex()}


def identity(segment: bytes, index: int) -> str:
    """Return what people call a transaction by."""
    return f"{segment.hex()[:8]}.{index}"


def typed_values(op: Op) -> tuple[str, Mapping[str, Any]]:
    """Return a change's kind, and the values it writes by column."""
    match op:
        case Insert():
            return INSERT, op.values
        case Update():
            return UPDATE, {name: value for edit in op.edits for name, value in zip(edit.columns, edit.new, strict=True)}
        case Delete():
            return DELETE, {}


def row(op: Op | None) -> dict[str, Any]:
    """Return what a change writes: nothing that a person typed is out of reach. None stands for work without rows of its own."""
    if op is None:
        return {"table": None, "key": None, "change": None, "values": {}}
    change, typed = typed_values(op)
    return {"table": op.table, "key": key_json(op.key), "change": change, "values": {n: cell_json([v]) for n, v in typed.items()}}
