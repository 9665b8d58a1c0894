"""The vectors of chains, rows and ids (PROTOCOL.md §5.3, §6.1, §9.3)."""

from __future__ import annotations

from typing import Any

from sync.digest import BEGINNING, rows_digest, segment_point, version_point
from sync.ids import uuid7
from sync.values import RawText, Value
from tests.vectors.making.shown import SEGMENT_ID, value_json


def chain_vectors() -> dict[str, Any]:
    """Return the vectors of [P-5.13] and [P-6.7]."""
    bodies = [b"one", b"", b"\0\xff"]
    entries = [("segment", b"one"), ("central", b""), ("release", SEGMENT_ID + (3).to_bytes(4, "big")), ("rescope", b"1\0branch:LON")]
    own, versions, point = [], [], BEGINNING
    for body in bodies:
        point = segment_point(point, body)
        own.append({"body": body.hex(), "number": point.number, "digest": point.digest.hex()})
    point = BEGINNING
    for at_ms, (kind, content) in zip((1_760_000_000_000, 0, -1, 2**63 - 1), entries, strict=True):
        point = version_point(point, kind, content, at_ms)
        versions.append({"kind": kind, "content": content.hex(), "at_ms": at_ms, "number": point.number, "digest": point.digest.hex()})
    return {"about": "Chains: each point follows from the one before, the first from 32 zero bytes.", "segments": own, "versions": versions}


ROWS: list[tuple[str, list[Value]]] = [
    ("contact_tag", ["c1", "vip"]),
    ("contact", ["c1", "person", "Анна", None, -1, 2**63 - 1]),
    ("note", ["n1", 0.1 + 0.2, -0.0, b"\0", "", 127, 128, -33]),
    ("note", ["n2", RawText(b"\xff"), "x" * 40, float("inf"), 0.0, 0, -(2**63), 65_536]),
]


def row_vectors() -> dict[str, Any]:
    """Return the vectors of [P-9.12]."""
    single = [(table, row, rows_digest(table, [row])[1].hex()) for table, row in ROWS]
    count, notes = rows_digest("note", [row for table, row in ROWS if table == "note"])
    return {
        "about": "PROTOCOL.md 9.3: digests of sets of one row, values in declared order, and of a set of two in the order of their keys.",
        "rows": [{"table": t, "values": list(map(value_json, row)), "digest": digest} for t, row, digest in single],
        "tables": [{"table": "note", "rows": [2, 3], "count": count, "digest": notes.hex()}],
    }


def uuid_vectors() -> dict[str, Any]:
    """Return UUIDv7 of times and random bytes; the first is RFC 9562's example (A.6)."""
    cases = [
        (0x017F22E279B0, "0cc318c4dc0c0c07398f"),
        (0, "00" * 10),
        (2**48 - 1, "ff" * 10),
        (-5, "0123456789abcdef0123"),
        (2**60, "f0" * 10),
    ]
    return {
        "about": "UUIDv7 (RFC 9562) from ms since 1970 and ten random bytes; times outside 0 ... 2^48-1 are clamped.",
        "valid": [{"ms": ms, "random": random, "id": uuid7(ms, bytes.fromhex(random))} for ms, random in cases],
    }
