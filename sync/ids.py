"""Identifiers we mint: UUIDv7 (RFC 9562), time-ordered, as lower-case text. Time and chance come in as arguments."""

from __future__ import annotations


def uuid7(now_ms: int, random: bytes) -> str:
    """Return a UUIDv7 of a time in ms since 1970 and 10 random bytes. Clocks before 1970 or absurdly late are clamped."""
    if len(random) != 10:
        raise ValueError("uuid7 takes exactly 10 random bytes")
    stamp = min(max(now_ms, 0), 2**48 - 1).to_bytes(6, "big")
    head = bytes([0x70 | random[0] & 0x0F, random[1], 0x80 | random[2] & 0x3F])
    text = (stamp + head + random[3:]).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
