"""What is spoiled: the test vectors, and messages built here with everything in them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from sync import messages
from sync.builder import SegmentBuilder
from sync.change import Delete, Edit, Insert, Update
from sync.columns import encode_column
from sync.digest import segment_point
from sync.messages import (
    Accepted,
    ConflictNotice,
    Exceptional,
    JoinReply,
    LateVerdict,
    Message,
    Page,
    Parent,
    Point,
    Position,
    PullRequest,
    PushReply,
    PushRequest,
    Removals,
    Rows,
    Sealed,
    SealedRows,
    Segment,
    SegmentVerdict,
    TableDigest,
    Told,
    Values,
    VerifyReply,
    VerifyRequest,
)
from sync.rows import columns_of, values_of
from sync.values import RawText
from sync.wire import expand, pack

VECTORS = Path(__file__).parents[1] / "vectors"
ZERO = Point(0, bytes(32))
AT = Point(7, bytes(range(32)))
ID = bytes(range(16))
TOLD = Told(3, 1, 2)
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
def built() -> tuple[Message, ...]:
    """Return messages with something in every field."""
    body = segment()
    sealed = Sealed(body, segment_point(ZERO, body).digest)
    names = ("id", "name", "n")
    rows = Rows("contact", names, 3, columns_of([("a", "Ann", 1), ("b", None, 2), ("c", RawText(b"\xfe"), None)], 3))
    notice = ConflictNotice(
        *(ID, 5, "contact", Values(1, encode_column(["c1"])), ("note",), None, values_of(["x"]), values_of([None]), "ask", "theirs", True),
        *("London", "centre", WALL, "nobody knew"),
    )
    page = Page(
        *(1, ID, 0, 7, AT, ZERO, Position(0, 7, 2, 5, 9), (rows,), (SealedRows(3, wide_segment()),)),
        *((Removals("contact", 2, columns_of([("x",), ("y",)], 1)),), (notice,), (Accepted(ID, 4, 2, 1),)),
        (LateVerdict(ID, 0, "held", 6, "parent", "its sale is not here"),),
    )
    exceptions = (Exceptional(1, "held", 7, "right", "not yours"),)
    return (
        PushRequest(1, 1, ID, Parent(bytes(16), AT), AT, AT, ZERO, (sealed,), (ID, bytes(16)), WALL, TOLD),
        PushReply(1, AT, (SegmentVerdict(ID, 7, 2, exceptions),)),
        PullRequest(1, 1, ID, AT, AT, Position(0, 7, 2, 5, 9), 100, TOLD),
        page,
        JoinReply(1, "018f7a2e", "Лондон", 1, 3),
        VerifyRequest(1, 1, ID, AT),
        VerifyReply(7, (TableDigest("contact", 2, bytes(32)),)),
    )


@cache
def plains() -> dict[type[Message], list[bytes]]:
    """Return messages by type, as msgpack: those of the vectors, valid and not, those built here, and segments."""
    found: dict[type[Message], list[bytes]] = {type(message): [msgspec.msgpack.encode(message)] for message in built()}
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


def frames() -> list[bytes]:
    """Return every built message as it travels."""
    return [pack(message) for message in built()]


@cache
def load_once(name: str) -> dict[str, Any]:
    """Return a file of vectors, read once."""
    return load(name)
