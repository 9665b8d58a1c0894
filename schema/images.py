"""Images: the values of a row, or of some columns, kept as one blob in bookkeeping tables.

msgpack, with a raw text (sync/values.py) as an extension, so that every value comes back exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any

import msgspec

from sync.values import RawText

_RAW_TEXT = 1
_PLAIN = frozenset([str, int, float, bytes, NoneType])


def _encode_hook(value: Any) -> Any:
    raise TypeError(f"not a value: {type(value).__name__}")


def _decode_ext(code: int, data: memoryview) -> Any:
    if code != _RAW_TEXT:
        raise ValueError(f"unknown extension {code}")
    return RawText(bytes(data))


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_hook)
_decoder = msgspec.msgpack.Decoder(ext_hook=_decode_ext)


def pack_values(values: Any) -> bytes:
    """Return values (tuples, lists, dicts of them) as bytes."""
    return _encoder.encode(mark(values))


def pack_marked(values: Any) -> bytes:
    """Return the same of values that went through `mark`, where they need it: for whoever knows most of them to be plain."""
    return _encoder.encode(values)


def unpack_values(data: bytes) -> Any:
    """Return what `pack_values` packed; sequences come back as lists."""
    return _decoder.decode(data)


def mark(values: Any) -> Any:
    """Return values in the form in which they are packed: as they are, but for raw texts."""
    kind = type(values)
    if kind in _PLAIN:
        return values
    if kind is tuple or kind is list:
        return values if _PLAIN.issuperset(map(type, values)) else [mark(value) for value in values]
    if kind is dict:
        return {key: mark(value) for key, value in values.items()}
    return msgspec.msgpack.Ext(_RAW_TEXT, values.raw) if kind is RawText else values


def unpack_tuple(data: bytes | None) -> tuple[Any, ...] | None:
    """Return a packed tuple, or None for NULL."""
    return None if data is None else tuple(unpack_values(data))


def pack_tuple(values: Sequence[Any] | None) -> bytes | None:
    """Return a tuple as bytes, or None for None."""
    return None if values is None else pack_values(values)
