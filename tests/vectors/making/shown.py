"""Values and messages as the vectors show them, in JSON."""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from sync.messages import Message
from sync.values import RawText, Value

encode = msgspec.msgpack.encode

ID = "0193a7c2-9d4e-7b11-8c3f-5a6b7c8d9e0f"
SEGMENT_ID = bytes(range(16))
DIGEST = bytes(range(32))
NOW = 1_760_000_000_000


def value_json(value: Value) -> Any:
    """Return a value with its type: null, or an object of one member."""
    match value:
        case None:
            return None
        case int():
            return {"int": str(value)}
        case float():
            return {"float": struct.pack(">d", value).hex()}
        case str():
            return {"text": value}
        case RawText():
            return {"raw": value.raw.hex()}
        case _:
            return {"blob": value.hex()}


def value_of(shown: Any) -> Value:
    """Return the value `value_json` shows."""
    if shown is None:
        return None
    ((kind, text),) = shown.items()
    match kind:
        case "int":
            return int(text)
        case "float":
            return float(struct.unpack(">d", bytes.fromhex(text))[0])
        case "text":
            return str(text)
        case "raw":
            return RawText(bytes.fromhex(text))
        case _:
            return bytes.fromhex(text)


def message_json(value: Any) -> Any:
    """Return a message's fields; bytes in hexadecimal, columns as the hexadecimal of their msgpack."""
    if isinstance(value, Message):
        return {name: message_json(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, msgspec.Struct):
        return encode(value).hex()
    if isinstance(value, bytes):
        return value.hex()
    return [message_json(item) for item in value] if isinstance(value, tuple) else value
