"""What is spoiled: the test vectors, and segments with everything in them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from sync import messages
from sync.builder import SegmentBuilder
from sync.change import Delete, Edit, Insert, Update
from sync.messages import Message, Segment
from sync.values import RawText
from sync.wire import compress, expand

VECTORS = Path(__file__).parents[1] / "vectors"
ID = bytes(range(16))
WALL = 1_760_000_000_000


def load(name: str) -> dict[str, Any]:
    """Return a file of vectors."""
    document: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return document


def segment(first: int = 1, base: int = 0, name: bytes = ID) -> bytes:
    """Return a segment with every kind of change in it, and every kind of value."""
    builder = SegmentBuilder({"contact": 0, "contact_tag": 1, "sale": 2, "sale_line": 3})
    one = builder.begin(WALL, base)
    builder.add(one, Insert("sale", ("s1",), {"id": "s1", "number": "1", "branch_id": "LON", "total_minor": 1250}))
    for number in range(3):
        values = {"id": f"l{number}", "sale_id": "s1", "qty_milli": 1000 * number, "amount_minor": None}
        builder.add(one, Insert("sale_line", (f"l{number}",), values))
    two = builder.begin(WALL + 5, base)
    edits = [Edit("note", ("note",), (None,), ("call back",), base, 1, WALL)]
    edits.append(Edit("address", ("street", "city"), ("Old", None), ("Нов", RawText(b"\xff")), base, 2, WALL))
    builder.add(two, Update("contact", ("018f7a2e-9c1b-7d3a-8e4f-5a6b7c8d9e0f",), edits))
    builder.add(two, Insert("contact_tag", ("c1", "vip"), {"contact_id": "c1", "tag": "vip"}, base, 1))
    builder.add(two, Delete("contact_tag", ("c1", "new"), base, 1))
    builder.add(two, Insert("odd", ("k",), {"id": "k", "a": 1.5, "b": b"\0\1", "c": RawText(b"a\0b"), "d": -(2**63), "e": 2**63 - 1}))
    builder.decide(two, ID)
    return builder.build(name, 1, first)


def wide_segment() -> bytes:
    """Return a segment of many rows, in the forms that many rows take."""
    builder = SegmentBuilder()
    rows = [(f"018f7a2e-9c1b-7d3a-8e4f-{n:012x}", 1000 + n * n, ("GBP", "EUR")[n % 2], n / 4 if n % 3 else None, "LON") for n in range(300)]
    builder.begin_many(300, WALL, 0)
    builder.insert_rows("sale", ("id", "total_minor", "currency", "rate", "branch_id"), rows, list(range(300)))
    return builder.build(bytes(16), 1, 1)


@cache
def plains() -> dict[type[Message], list[bytes]]:
    """Return messages by type, as msgpack: those of the vectors, and segments."""
    found: dict[type[Message], list[bytes]] = {}
    for vector in load("messages.json")["valid"]:
        found.setdefault(getattr(messages, vector["type"]), []).append(bytes.fromhex(vector["msgpack"]))
    bodies = [segment(), wide_segment(), *(bytes.fromhex(vector["body"]) for vector in load("segments.json")["valid"])]
    bodies += [bytes.fromhex(body) for body in load("segments.json")["parts"]["bodies"]]
    found[Segment] = [expand(body, 1 << 26) for body in bodies]
    return found


@cache
def invalid_frames() -> dict[type[Message], list[bytes]]:
    """Return frames that the vectors say are to be refused, by the type they claim to be."""
    found: dict[type[Message], list[bytes]] = {}
    for vector in load("messages.json")["invalid"]:
        found.setdefault(getattr(messages, vector["type"]), []).append(bytes.fromhex(vector["frame"]))
    found[Segment] = [bytes.fromhex(vector["body"]) for vector in load("segments.json")["invalid"]]
    return found


@cache
def columns() -> list[tuple[int, bytes]]:
    """Return (rows, column as msgpack) of the vectors, valid and not."""
    vectors = load("columns.json")
    return [(entry["rows"], bytes.fromhex(entry["column"])) for kind in ("valid", "invalid") for entry in vectors[kind]]


@cache
def trees() -> list[Any]:
    """Return parts of messages, to be put where they do not belong."""
    found: list[Any] = [msgspec.msgpack.decode(bytes.fromhex(entry["column"])) for entry in load("columns.json")["valid"]]
    for entries in plains().values():
        for plain in entries:
            found += [part for part in msgspec.msgpack.decode(plain) if not isinstance(part, int)]
    return found


@cache
def frames() -> list[bytes]:
    """Return every message of the vectors as it travels."""
    return [compress(plain) for entries in plains().values() for plain in entries]


@cache
def load_once(name: str) -> dict[str, Any]:
    """Return a file of vectors, read once."""
    return load(name)
