"""Spoiling bytes, msgpack trees, zstd frames and texts: seeded, quick, and knowing where it hurts.

    valid bytes ─► tree() ─► spoiled tree ─► msgpack ─► flip() ─► frame(), whose head may lie

Every draw comes from one `Random`, so a case is its seed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import zstandard

NUMBERS = (0, 1, -1, 2, 7, 8, 15, 16, 31, 127, 128, 255, 256, 500, 501, 65_535, 65_536, 2**31, 2**32 - 1, 2**53, 2**53 + 1)
NUMBERS += (2**62, 2**62 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**53), -(2**53) - 1, -(2**63), 50_000, 50_001, 60_000, 60_001)
TEXTS = (
    "",
    "a",
    "\0",
    "é",
    "日本",
    "x" * 199,
    "x" * 201,
    "0" * 2001,
    "contact",
    "sale",
    "no_such",
    "_node",
    "id",
    '"; DROP',
    "[",
    "{}",
    "[[[[",
    "NaN",
)
BLOBS = (b"", b"\0", b"\xff", bytes(16), bytes(32), b"\xff" * 16, bytes(15), bytes(17), b"\xed\xa0\x80", b"\xc3\x28", bytes(4096))
FLOATS = (0.0, -0.0, 1.5, float("nan"), float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308)
LENGTHS = (
    b"\xdc\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\x7f\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xfe",
    b"\xde\xff\xff",
)
LENGTHS += (b"\x90", b"\x9f", b"\x80", b"\xc0", b"\xc1", b"\xc3", b"\xcb" + b"\x7f\xf8" + bytes(6), b"\xc7\x05\x01hello", b"\xd9\xff")
DEEP = (20, 200, 5_000, 100_000)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_compressor = zstandard.ZstdCompressor(level=1)


class Mutator:
    """Spoils what it is given. `pool`: other valid bytes to splice from; `trees`: parts of other messages."""

    def __init__(self, random: Random, pool: Sequence[bytes] = (), trees: Sequence[Any] = ()) -> None:
        self.random, self.pool, self.trees = random, pool, trees

    def flip(self, data: bytes) -> bytes:
        """Return bytes with one to four accidents: bits, bytes, cuts, repeats, lengths that lie, parts of other messages."""
        random, made = self.random, bytearray(data)
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            at = random.randrange(len(made) + 1)
            match random.randrange(9):
                case 0 | 1 if at < len(made):
                    made[at] ^= 1 << random.randrange(8)
                case 2 if at < len(made):
                    made[at] = random.choice((0, 0x7F, 0x80, 0xFF, random.randrange(256)))
                case 3:
                    del made[at : at + random.choice((1, 1, 2, 8, 64))]
                case 4:
                    made[at:at] = random.randbytes(random.choice((1, 1, 2, 8)))
                case 5:
                    del made[at:]
                case 6:
                    length = random.choice(LENGTHS)
                    made[at : at + len(length)] = length
                case 7:
                    made[at:at] = made[at : at + random.choice((1, 8, 64))] * random.choice((1, 2, 16))
                case _ if self.pool:
                    other = random.choice(self.pool)
                    start = random.randrange(len(other) + 1)
                    made[at : at + random.choice((0, 8, 64))] = other[start : start + random.choice((1, 8, 64, 1024))]
        return bytes(made)

    def packed(self, data: bytes) -> bytes:
        """Return msgpack bytes spoiled as a tree, as bytes, or both."""
        chance = self.random.random()
        if chance < 0.02:
            return self.deep()
        if chance < 0.68:
            try:
                data = _encode(self.tree(_decode(data)))
            except ValueError:  # not msgpack to begin with
                return self.flip(data)
        return data if 0.1 < chance < 0.68 else self.flip(data)

    def deep(self) -> bytes:
        """Return arrays or maps in arrays, deeper than anything reads."""
        depth, kind = self.random.choice(DEEP), self.random.choice((b"\x91", b"\x81\xa1a", b"\x92\x00", b"\xdd\0\0\0\x01"))
        return kind * depth + b"\xc0"

    def tree(self, value: Any) -> Any:
        """Return a copy of a decoded message with one to three of its parts spoiled."""
        for _ in range(self.random.choice((1, 1, 2, 3))):
            value = self._part(value)
        return value

    def _part(self, value: Any) -> Any:
        """Return a copy in which one part, found by walking down at random, is another one."""
        if isinstance(value, list) and value and self.random.random() < 0.85:
            at = self.random.randrange(len(value))
            if self.random.random() < 0.15:
                return self._list(value, at)
            return [*value[:at], self._part(value[at]), *value[at + 1 :]]
        return self.leaf(value)

    def _list(self, value: list[Any], at: int) -> list[Any]:
        match self.random.randrange(5):
            case 0:
                return [*value[:at], *value[at + 1 :]]
            case 1:
                return [*value[: at + 1], *value[at:]]
            case 2:
                return value[:at] + [value[at]] * self.random.choice((3, 65, 501, 2_000))
            case 3:
                return value[::-1]
        return [*value, self._other()]

    def leaf(self, value: Any) -> Any:
        """Return something in the place of a value: near it, of its kind, or of another."""
        random = self.random
        if random.random() < 0.12:
            return self._other()
        if isinstance(value, bool) or value is None:
            return random.choice((True, False, None, 0))
        if isinstance(value, int):
            return random.choice((value + 1, value - 1, random.choice(NUMBERS), -value, value * 256)) if abs(value) < 2**54 else 0
        if isinstance(value, float):
            return random.choice(FLOATS)
        if isinstance(value, str):
            cut = random.randrange(len(value) + 1)
            return random.choice((random.choice(TEXTS), value[:cut], value + value, value[:cut] + "\0é" + value[cut:], value.upper()))
        if isinstance(value, bytes):
            return random.choice((random.choice(BLOBS), self.flip(value), value + value[:1], value[:-1]))
        return [] if random.random() < 0.5 else self._other()

    def _other(self) -> Any:
        if self.trees and self.random.random() < 0.5:
            return self.random.choice(self.trees)
        return self.random.choice((None, True, {}, {"a": 1}, [], [0], *self.random.choice((NUMBERS, TEXTS, BLOBS, FLOATS))))

    def frame(self, plain: bytes) -> bytes:
        """Return a zstd frame of the bytes; one in seven is damaged or lies about its size."""
        whole = _compressor.compress(plain) if plain else b""
        if self.random.random() < 0.86:
            return whole
        match self.random.randrange(6):
            case 0:
                return _lying(whole, self.random.choice((0, 1, len(plain) + 1, max(len(plain) - 1, 0), 2**26, 2**26 + 1, 2**40, 2**64 - 1)))
            case 1:
                return whole + self.random.choice((b"\0", whole, b"\x50\x2a\x4d\x18\0\0\0\0"))
            case 2:
                return b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + whole
            case 3:
                return whole[: self.random.randrange(len(whole) + 1)]
        return self.flip(whole)

    def text(self, text: str) -> str:
        """Return a text (a header, a key) with some accidents of characters."""
        spoiled = self.flip(text.encode("utf-8", "surrogatepass")) if self.random.random() < 0.8 else self.random.choice(TEXTS).encode()
        return spoiled.decode("latin-1" if self.random.random() < 0.3 else "utf-8", "replace")


def bomb(byte: bytes, size: int, head: bytes = b"", tail: bytes = b"") -> bytes:
    """Return a small frame that expands to `size` equal bytes between a head and a tail."""
    return _compressor.compress(head + byte * size + tail)


def array(count: int) -> bytes:
    """Return the head of a msgpack array."""
    return b"\xdd" + struct.pack(">I", count)


def _lying(whole: bytes, size: int) -> bytes:
    """Return a frame that states another content size: its head written anew with eight bytes for it."""
    if len(whole) < 6:
        return whole
    flags = whole[4]
    width = (1 if flags & 0x20 else 0, 2, 4, 8)[flags >> 6]
    window = 0 if flags & 0x20 else 1
    return whole[:4] + bytes([0xC0 | (flags & 0x3F)]) + whole[5 : 5 + window] + struct.pack("<Q", size) + whole[5 + window + width :]
