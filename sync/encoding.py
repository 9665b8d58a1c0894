"""Encoding: values to the form of a column that zstd then compresses best. Pure.

Spec: PROTOCOL.md §4.3; forms in sync/columns.py; counterpart of sync/decoding.py.
"""

import math
import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count as counter
from operator import sub
from typing import Any, TypeVar

from sync.columns import (
    CODES,
    SIZES,
    UUID_BYTES,
    UUID_CHARS,
    Blobs,
    Column,
    Deltas,
    Dictionary,
    Filled,
    Floats,
    Integers,
    Leaf,
    Mixed,
    Nullable,
    Nulls,
    Texts,
    Uuids,
    index_width,
)
from sync.values import INT_MAX, INT_MIN, RawText, Value, is_clean, text_value

NoneType = type(None)
T = TypeVar("T")

SAMPLE_ROWS = 128  # rows looked at before a more costly form is tried; 2 × 128 tell 5,000 distinct of 10,000 from all
DASHES = (8, 13, 18, 23)


def encode_column(values: Sequence[Value]) -> Column:
    """Return the column that stands for these values, in a form that compresses well.

    Takes 20–300 ns a value, and memory in proportion to the values. Raises ValueError for what no cell holds (NaN, an
    integer beyond 64 bits, a `str` that is not clean) and TypeError for what is not a Value (bool among them): mistakes
    of the caller, not of a peer.
    """
    kinds = set(map(type, values))
    filled = kinds - {NoneType}
    if not filled:
        return Nulls()
    encode = _FILLED.get(filled.pop()) if len(filled) == 1 else None
    if encode is None:
        return _mixed(values)
    if NoneType not in kinds:
        return encode(values)
    return Nullable(_pack_bits(values), encode([value for value in values if value is not None]))


def _integers(values: Sequence[int]) -> Integers | Deltas:
    """Return the offsets or the differences, whichever is narrower; on a tie the offsets, which decode faster."""
    low, high = min(values), max(values)
    _refuse(low < INT_MIN or high > INT_MAX, "an integer beyond 64 bits")
    base, width = _offset(low, high)
    return _deltas(values, width) or Integers(base, _planes(values, base, width))


def _deltas(values: Sequence[int], width: int) -> Deltas | None:
    """Return the values as differences if that takes fewer than `width` bytes a row, else None."""
    sample = values[:SAMPLE_ROWS]
    if width == 0 or len(values) == 1 or _spread(list(map(sub, sample[1:], sample))) >= width:
        return None  # the range of some differences bounds that of all from below, so nothing is missed
    steps = list(map(sub, values[1:], values))
    step, step_width = _offset(min(steps), max(steps))
    if step_width >= width or not INT_MIN <= step <= INT_MAX:
        return None
    return Deltas(values[0], step, _planes(steps, step, step_width))


def _spread(numbers: list[int]) -> int:
    return _width(max(numbers) - min(numbers))


def _width(number: int) -> int:
    return (number.bit_length() + 7) // 8


def _offset(low: int, high: int) -> tuple[int, int]:
    """Return what to subtract from numbers of this range and the bytes they then take; 0 where that is as narrow."""
    width = _width(high - low)
    return (0, width) if low >= 0 and _width(high) == width else (low, width)


def _planes(numbers: Sequence[int], base: int, width: int) -> bytes:
    """Return numbers - base, each of 0 … `width` bytes, in planes."""
    if width == 0:
        return b""
    offsets = [number - base for number in numbers] if base else numbers
    if width == 1:
        return bytes(offsets)
    packed = struct.pack(f"<{len(offsets)}{CODES[width]}", *offsets)
    return b"".join([packed[k :: SIZES[width]] for k in range(width)])


def _floats(values: Sequence[float]) -> Floats | Dictionary:
    _refuse(any(map(math.isnan, values)), "NaN")
    packed = struct.pack(f"<{len(values)}d", *values)
    if len(values) > 1 and packed == packed[:8] * len(values):
        return Dictionary(1, Floats(packed[:8]), b"")
    return Floats(b"".join([packed[k::8] for k in range(8)]))


def _texts(values: Sequence[str]) -> Texts | Uuids | Dictionary:
    return _indexed(values, _plain_texts) or _plain_texts(values)


def _blobs(values: Sequence[bytes]) -> Blobs | Dictionary:
    return _indexed(values, _plain_blobs) or _plain_blobs(values)


def _plain_blobs(values: Sequence[bytes]) -> Blobs:
    return Blobs(list(values))


def _plain_texts(values: Sequence[str]) -> Texts | Uuids:
    joined = "\n".join(values)
    if (planes := _pack_uuids(joined, len(values))) is not None:
        return Uuids(planes)
    _refuse(not is_clean(joined), "a text that is not clean; carry it as RawText")
    return Texts(list(values))


def _indexed(values: Sequence[T], leaf: Callable[[Sequence[T]], Leaf]) -> Dictionary | None:
    """Return the values as a dictionary if a quarter of them repeat (an index costs up to 2 bytes), else None.

    Looks first at some rows, the first ones (runs) and others from all over the block: all different, no dictionary.
    """
    count = len(values)
    sample = [*values[:SAMPLE_ROWS], *values[SAMPLE_ROWS :: count // SAMPLE_ROWS + 1]]
    seen = len(set(sample))
    if seen == len(sample):
        return None
    if seen == 1 and values.count(values[0]) == count:
        return Dictionary(1, leaf(values[:1]), b"")
    numbers: defaultdict[T, int] = defaultdict(counter().__next__)  # a value's number is the order it was met in
    indexes = list(map(numbers.__getitem__, values))
    size = len(numbers)
    if size > count * 3 // 4:
        return None
    return Dictionary(size, leaf(list(numbers)), _planes(indexes, 0, index_width(size)))


def _pack_uuids(joined: str, count: int) -> bytes | None:
    """Return `count` ids, given as lines, in 16 planes; None unless each line is a canonical lower-case UUID.

    The lines are checked all at once by stride: newlines and dashes in their places, and nothing but hexadecimal digits
    left when they are taken out. Four times as fast as looking at each id.
    """
    if len(joined) != (UUID_CHARS + 1) * count - 1 or not joined.isascii():
        return None
    chars = joined.encode()
    digits = chars.translate(None, b"-\n")
    if len(digits) != 2 * UUID_BYTES * count or digits.translate(None, b"0123456789abcdef"):
        return None
    line = UUID_CHARS + 1
    if chars[UUID_CHARS::line] != b"\n" * (count - 1) or any(chars[at::line] != b"-" * count for at in DASHES):
        return None
    packed = bytes.fromhex(digits.decode())
    return b"".join([packed[k::UUID_BYTES] for k in range(UUID_BYTES)])


def _pack_bits(values: Sequence[Value]) -> bytes:
    """Return a bit per row, lowest first: 1 where the row has a value."""
    bits = "".join(["0" if value is None else "1" for value in reversed(values)])
    return int(bits, 2).to_bytes((len(values) + 7) // 8, "little")


def _mixed(values: Sequence[Value]) -> Mixed:
    lists: dict[type, list[Any]] = {kind: [] for kind in _MIXED}
    try:
        kinds = bytes([_MIXED[type(value)] for value in values])
    except KeyError as error:
        raise TypeError(f"not a value: {error.args[0].__name__}") from None
    for value in values:
        lists[type(value)].append(value)
    integers, floats, texts = lists[int], lists[float], lists[str]
    raws = [value.raw for value in lists[RawText]]
    _refuse(any(not INT_MIN <= number <= INT_MAX for number in integers), "an integer beyond 64 bits")
    _refuse(any(map(math.isnan, floats)), "NaN")
    _refuse(not is_clean("".join(texts)), "a text that is not clean; carry it as RawText")
    _refuse(any(isinstance(text_value(raw), str) for raw in raws), "a RawText that is clean; carry it as str")
    return Mixed(kinds, integers, floats, texts, lists[bytes], raws)


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise ValueError(f"cannot be sent: {what}")


_FILLED: dict[type, Callable[[Sequence[Any]], Filled]] = {int: _integers, float: _floats, str: _texts, bytes: _blobs}
_MIXED: dict[type, int] = {NoneType: 0, int: 1, float: 2, str: 3, bytes: 4, RawText: 5}
