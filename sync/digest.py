"""Hash chains and row digests. Pure functions of bytes.

Three uses: a node's own chain of sealed segments, the server's chain of versions, and digests of rows that let two
sides compare what they hold. Spec: PROTOCOL.md §7 (chains), §9.3 (rows); vectors in tests/vectors/digest.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from sync.messages import Point
from sync.values import RawText, Value

BEGINNING = Point(0, bytes(32))
_row = msgspec.msgpack.Encoder()


def segment_point(before: Point, body: bytes) -> Point:
    """Return the point of a node's chain after one more segment; `body` is its compressed bytes."""
    return segment_point_of(before, sha256(body).digest())


def segment_point_of(before: Point, hashed: bytes) -> Point:
    """Return the same, from the SHA-256 of the segment's bytes."""
    number = before.number + 1
    return Point(number, sha256(b"outpost/segment/1" + before.digest + number.to_bytes(8, "big") + hashed).digest())


def version_point(before: Point, kind: str, content: bytes, at_ms: int) -> Point:
    """Return the point of the server's chain after one more version; `content` is what the journal keeps of it.

    `at_ms`, -2^63 … 2^63 - 1, is the server's clock: what wins may hang on it, so two lives of a restored server that were
    given the same are two all the same.
    """
    return version_point_of(before, content_digest(kind, content), at_ms)


def content_digest(kind: str, content: bytes) -> bytes:
    """Return the SHA-256 that stands for what the journal keeps of a version: all the chain needs of it."""
    return sha256(kind.encode() + b"\0" + content).digest()


def version_point_of(before: Point, body: bytes, at_ms: int) -> Point:
    """Return the same point, from the digest of the content."""
    number = before.number + 1
    at = at_ms.to_bytes(8, "big", signed=True)
    return Point(number, sha256(b"outpost/version/1" + before.digest + number.to_bytes(8, "big") + at + body).digest())


class RowsDigest:
    """The digest of rows of one table, taken in the order of their keys, some at a time.

    SHA-256 over the table's name, a zero byte and each row's values, in declared order, as a msgpack array. One array after the
    other, so how the rows are divided makes no difference. A text is given as SQLite's reader gives it: bytes that are not UTF-8
    as surrogate escapes (`readable`).
    """

    def __init__(self, table: str) -> None:
        self.count = 0
        self._hash = sha256(table.encode() + b"\0")

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take some more rows: no NaN, no RawText."""
        if rows:
            self.count += len(rows)
            self._hash.update(memoryview(_arrays(rows))[_head(len(rows)) :])

    def digest(self) -> bytes:
        """Return the digest of the rows so far, 32 bytes."""
        return self._hash.digest()


def rows_digest(table: str, rows: Iterable[Sequence[Value]]) -> tuple[int, bytes]:
    """Return how many rows, and their digest; the rows come in the order of their keys."""
    found = RowsDigest(table)
    found.add([readable(row) for row in rows])
    return found.count, found.digest()


def row_digests(table: str, rows: Iterable[Sequence[Any]]) -> list[bytes]:
    """Return each row's own digest: that of a set of one."""
    prefix, found = sha256(table.encode() + b"\0"), list[bytes]()
    for row in rows:
        one = prefix.copy()
        one.update(memoryview(_arrays([row]))[1:])
        found.append(one.digest())
    return found


def readable(row: Sequence[Value]) -> list[Any]:
    """Return values as a reader of the database gives them: a raw text as a text with surrogate escapes."""
    return [value.raw.decode("utf-8", "surrogateescape") if isinstance(value, RawText) else value for value in row]


def _arrays(rows: Sequence[Sequence[Any]]) -> bytes:
    try:
        return _row.encode(rows)
    except UnicodeEncodeError:
        return _row.encode([[_spelt(value) for value in row] for row in rows])


def _spelt(value: Any) -> Any:
    """Return a text that is not UTF-8 as a map of one entry, which no other value is."""
    if type(value) is not str:
        return value
    raw = value.encode("utf-8", "surrogateescape")
    return value if raw.decode("utf-8", "replace") == value else {"raw": raw}


def _head(count: int) -> int:
    """Return the bytes msgpack takes to begin an array of so many elements."""
    return 1 if count < 16 else 3 if count < 1 << 16 else 5
