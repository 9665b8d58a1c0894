"""Hash chains and row digests. Pure functions of bytes.

Three uses: a node's own chain of sealed segments, the server's chain of versions, and digests of rows that let two
sides compare what they hold. Spec: PROTOCOL.md §7 (chains), §9.3 (rows); vectors in tests/vectors/digest.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from sync.messages import Point
from sync.values import Value

BEGINNING = Point(0, bytes(32))
_MODULUS = 1 << 256
_row = msgspec.msgpack.Encoder()


def segment_point(before: Point, body: bytes) -> Point:
    """Return the point of a node's chain after one more segment; `body` is its compressed bytes."""
    return segment_point_of(before, sha256(body).digest())


def segment_point_of(before: Point, hashed: bytes) -> Point:
    """Return the same, from the SHA-256 of the segment's bytes."""
    number = before.number + 1
    return Point(number, sha256(b"outpost/segment/1" + before.digest + number.to_bytes(8, "big") + hashed).digest())


def version_point(before: Point, kind: str, content: bytes) -> Point:
    """Return the point of the server's chain after one more version; `content` is what the journal keeps of it."""
    number = before.number + 1
    body = sha256(kind.encode() + b"\0" + content).digest()
    return Point(number, sha256(b"outpost/version/1" + before.digest + number.to_bytes(8, "big") + body).digest())


def rows_digest(table: str, rows: Iterable[Sequence[Value]]) -> tuple[int, int]:
    """Return how many rows and the sum of their digests modulo 2^256.

    A row's digest is SHA-256 over the table's name, a zero byte and the msgpack array of its values in declared order.
    Sums do not depend on the order of rows, and rows can be taken out of one again (`subtract`).
    """
    prefix = sha256(table.encode() + b"\0")
    encode, total, count = _row.encode, 0, 0
    for row in rows:
        digest = prefix.copy()
        digest.update(encode(row))
        total += int.from_bytes(digest.digest(), "big")
        count += 1
    return count, total % _MODULUS


def digest_bytes(total: int) -> bytes:
    """Return a sum of row digests as 32 bytes."""
    return (total % _MODULUS).to_bytes(32, "big")
