"""Wire: a message as bytes and back, whatever a peer may send instead.

    message ─► pack() ─► msgpack ─► one zstd frame ══► expand() ─► protocol_of() ─► decode() ─► check() ─► message

Pure. Everything that comes from a peer is bounded before memory is spent on it, and every way in which bytes can be
wrong ends in `Malformed` or `TooLarge`. Spec: PROTOCOL.md §4. Used by server/app.py, node/transport.py and by whoever
opens a sealed segment.
"""

from __future__ import annotations

import math
from types import NoneType
from typing import Any, Final, TypeVar

import msgspec
import zstandard

from sync.errors import Malformed, TooLarge
from sync.limits import MESSAGE_BYTES_MAX
from sync.messages import Message
from sync.values import INT_MAX, INT_MIN

T = TypeVar("T")

LEVEL: Final = 3
WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
"""Memory a frame may ask its reader to keep for looking back; level 3 asks for 2 MiB at most."""

MAGIC: Final = b"\x28\xb5\x2f\xfd"
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)
"""What msgspec raises for bytes it cannot decode; ValueError covers invalid UTF-8, RecursionError deep nesting."""


class _Head(msgspec.Struct, array_like=True):
    protocol: int


# Made while only one thread is here. msgspec describes a type at its first use, and a second thread that decodes meanwhile
# finds half a description: a server whose first two requests came at once died of it (segmentation fault).
_TYPES: Final[tuple[type, ...]] = (_Head, *Message.__subclasses__())
_DECODERS: Final[dict[type, msgspec.msgpack.Decoder[Any]]] = {type_: msgspec.msgpack.Decoder(type_) for type_ in _TYPES}


def compress(data: bytes) -> bytes:
    """Return one zstd frame that states its size. `data` has at least one byte."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(data)


def expand(data: bytes, bytes_max: int) -> bytes:
    """Return what one zstd frame holds: 1 … `bytes_max` bytes.

    The frame must state its size and be all there is: no second or skippable frame, nothing behind it. The size is
    compared with the bound before a byte is decoded, then exactly that much is reserved and decoded into, so neither a
    bomb nor a false statement costs more than `bytes_max`. (zstandard's own `max_output_size` is no bound: a frame
    that states its size overrides it.) Raises TooLarge, Malformed.
    """
    frame = _head_of(data)
    if frame.content_size > bytes_max or frame.window_size > WINDOW_BYTES_MAX:
        raise TooLarge(f"The message would expand beyond {bytes_max} bytes.")
    if frame.content_size == 0:  # zstandard would look no further: whatever follows would be accepted
        raise Malformed("The zstd frame is empty.")
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
        return reader.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError:
        raise Malformed("The body is not one whole zstd frame.") from None


def stated_size(data: bytes) -> int:
    """Return the bytes that a frame says it holds; what it holds is never more (`expand`). Raises Malformed."""
    return _head_of(data).content_size


def _head_of(data: bytes) -> zstandard.FrameParameters:
    if not data.startswith(MAGIC):
        raise Malformed("The body is not a zstd frame.")
    try:
        frame = zstandard.get_frame_parameters(data)
    except zstandard.ZstdError:
        raise Malformed("The body is not one whole zstd frame.") from None
    if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN:
        raise Malformed("The zstd frame does not state its size.")
    return frame


def pack(message: Message) -> bytes:
    """Return the message as it travels: msgpack in one zstd frame."""
    return compress(msgspec.msgpack.encode(message))


def unpack(type_: type[T], data: bytes, bytes_max: int = MESSAGE_BYTES_MAX) -> T:
    """Return the message of this type that `data` holds. Raises Malformed, TooLarge."""
    return decode(type_, expand(data, bytes_max))


def protocol_of(plain: bytes) -> int:
    """Return the protocol version an expanded request names: its first element, whatever its other elements are.

    Read before the rest, because a request of an unknown version need not have a shape we know. Raises Malformed.
    """
    try:
        return int(_DECODERS[_Head].decode(plain).protocol)
    except UNREADABLE as error:
        raise _malformed(error) from None


def decode(type_: type[T], plain: bytes) -> T:
    """Return the message of this type that expanded bytes hold, checked. Raises Malformed."""
    decoder = _DECODERS.get(type_) or msgspec.msgpack.Decoder(type_)
    try:
        message: T = decoder.decode(plain)
    except UNREADABLE as error:
        raise _malformed(error) from None
    check(message)
    return message


def pack_json(message: Message) -> bytes:
    """Return the message as JSON: an array, byte strings in base64."""
    return msgspec.json.encode(message)


def unpack_json(type_: type[T], data: bytes) -> T:
    """Return the message of this type that JSON holds, checked. Raises Malformed."""
    try:
        message = msgspec.json.decode(data, type=type_)
    except UNREADABLE as error:
        raise _malformed(error) from None
    check(message)
    return message


def check(value: object) -> None:
    """Refuse what the types let through: NaN, integers beyond 64 bits, anything but plain values in a list of values.

    Looks through messages and their tuples; columns have rules of their own (decoding.decode_column). Raises Malformed.
    """
    if isinstance(value, Message):
        for name in value.__struct_fields__:
            check(getattr(value, name))
    elif isinstance(value, tuple):
        kinds = set(map(type, value))
        if bool in kinds:
            raise Malformed("The message holds true or false where a value is expected.")
        if not all(map(_is_sound, kinds)):  # names and columns need no look at each of them
            for item in value:
                check(item)
    elif isinstance(value, float):
        if math.isnan(value):
            raise Malformed("The message holds a number that is not a number (NaN).")
    elif isinstance(value, int):
        if not INT_MIN <= value <= INT_MAX:
            raise Malformed("The message holds an integer beyond 64 bits.")
    elif not isinstance(value, str | bytes | None | msgspec.Struct):
        raise Malformed("The message holds a list or map where a value is expected.")


def _is_sound(kind: type) -> bool:
    """Tell whether every value of a type is one: texts, bytes, None, and columns."""
    return issubclass(kind, str | bytes | NoneType) or (issubclass(kind, msgspec.Struct) and not issubclass(kind, Message))


def _malformed(error: Exception) -> Malformed:
    """Return the error as ours; msgspec's text names the place and the type, not the peer's bytes."""
    if isinstance(error, UnicodeError):
        return Malformed("A text in the message is not valid UTF-8.")
    if isinstance(error, RecursionError):
        return Malformed("The message is nested too deeply.")
    return Malformed(f"The message cannot be read: {str(error)[:200]}")
