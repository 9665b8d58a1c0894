"""Decoding: the values that a column of a peer's stands for; every length in it is checked against the number of rows. Pure.

Spec: PROTOCOL.md §4.3; forms in sync/columns.py; counterpart of sync/encoding.py.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import cast

from sync.columns import (
    CODES,
    SIZES,
    UUID_BYTES,
    UUID_CHARS,
    Column,
    Deltas,
    Dictionary,
    Filled,
    Floats,
    Integers,
    Leaf,
    MalformedColumn,
    Mixed,
    Nullable,
    Nulls,
    Texts,
    Uuids,
    index_width,
)
from sync.values import INT_MAX, INT_MIN, RawText, Value, is_clean, text_value

# Where the high half of each of the 16 bytes stands in the text; the low half follows it.
DIGITS = (0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34)
KINDS = bytes(range(6))


def decode_column(column: Column, count: int) -> list[Value]:
    """Return the `count` values the column stands for; `count` ≥ 0 is the block's, bounded by the caller.

    Takes memory in proportion to `count` and to the column's own size: equal values are shared, not copied. Raises
    MalformedColumn, and nothing else, for a column that breaks a rule. That its fields have their declared types, and
    how deep columns nest, is checked before, when msgpack is decoded as `Column`.
    """
    if isinstance(column, Nulls):
        return [None] * count
    if isinstance(column, Mixed):
        return _open_mixed(column, count)
    if isinstance(column, Nullable):
        return _open_nullable(column, count)
    return _open_filled(column, count)


def _open_filled(column: Filled, count: int) -> list[Value]:
    if isinstance(column, Integers):
        return cast(list[Value], _open_integers(column, count))
    if isinstance(column, Deltas):
        return cast(list[Value], _open_deltas(column, count))
    if isinstance(column, Dictionary):
        return _open_dictionary(column, count)
    return _open_leaf(column, count)


def _open_leaf(column: Leaf, count: int) -> list[Value]:
    if isinstance(column, Floats):
        return cast(list[Value], _open_floats(column, count))
    if isinstance(column, Uuids):
        return cast(list[Value], _open_uuids(column, count))
    if isinstance(column, Texts):
        _check(len(column.texts) == count, "texts: not one per row")
        _check(is_clean("".join(column.texts)), "texts: not clean")
        return cast(list[Value], list(column.texts))
    _check(len(column.blobs) == count, "blobs: not one per row")
    return cast(list[Value], list(column.blobs))


def _open_integers(column: Integers, count: int) -> list[int]:
    base = column.base
    if not column.planes:
        _check_int64((base,))
        return [base] * count
    offsets = _read_planes(column.planes, count, range(9))
    _check_int64((base, base + max(offsets)))
    return [base + offset for offset in offsets] if base else list(offsets)


def _open_deltas(column: Deltas, count: int) -> list[int]:
    _check(count > 0, "deltas: no row")
    offsets = _read_planes(column.planes, count - 1, range(9))
    step = column.step
    _check_int64((step,))
    steps = [step + offset for offset in offsets] if step else offsets
    values = list(accumulate(steps, initial=column.first))
    _check_int64(values)
    return values


def _open_floats(column: Floats, count: int) -> list[float]:
    _check(len(column.planes) == 8 * count, "floats: not 8 bytes a row")
    packed = _interleave(column.planes, count, 8, 8)
    values = list(struct.unpack(f"<{count}d", packed))
    _check(not any(map(math.isnan, values)), "floats: NaN")
    return values


def _open_uuids(column: Uuids, count: int) -> list[str]:
    """Write all ids as lines into one buffer, digit by digit for all rows at once, and cut it: 0.2 µs an id."""
    _check(len(column.planes) == UUID_BYTES * count, "uuids: not 16 bytes a row")
    digits = column.planes.hex().encode()
    high, low = digits[::2], digits[1::2]
    line = UUID_CHARS + 1
    lines = bytearray(b"-" * UUID_CHARS + b"\n") * count
    for k, at in enumerate(DIGITS):
        lines[at::line] = high[k * count : (k + 1) * count]
        lines[at + 1 :: line] = low[k * count : (k + 1) * count]
    return lines.decode().split()


def _open_dictionary(column: Dictionary, count: int) -> list[Value]:
    size = column.size
    _check(1 <= size <= count, "dictionary: size")
    values = _open_leaf(column.values, size)
    indexes = _read_planes(column.indexes, count, (index_width(size),))
    if size == 1:
        return values * count
    try:
        return list(map(values.__getitem__, indexes))
    except IndexError:
        raise MalformedColumn("dictionary: index beyond size") from None


def _open_nullable(column: Nullable, count: int) -> list[Value]:
    _check(len(column.present) == (count + 7) // 8, "nullable: not a bit per row")
    bits = int.from_bytes(column.present, "little")
    _check(bits.bit_length() <= count, "nullable: a bit beyond the last row")
    rest = iter(_open_filled(column.rest, bits.bit_count()))
    return [next(rest) if bit == "1" else None for bit in f"{bits:0{count}b}"[::-1][:count]]


def _open_mixed(column: Mixed, count: int) -> list[Value]:
    kinds = column.kinds
    raws = list(map(RawText, column.raws))
    nulls = [None] * kinds.count(0)
    lists: list[Sequence[Value]] = [nulls, column.integers, column.floats, column.texts, column.blobs, raws]
    _check(len(kinds) == count, "mixed: not one kind per row")
    _check(not kinds.translate(None, KINDS), "mixed: unknown kind")
    _check(all(kinds.count(kind) == len(values) for kind, values in enumerate(lists)), "mixed: lists do not fit")
    _check_int64(column.integers)
    _check(not any(map(math.isnan, column.floats)), "mixed: NaN")
    _check(is_clean("".join(column.texts)), "mixed: text not clean")
    _check(not any(isinstance(text_value(raw), str) for raw in column.raws), "mixed: raw text is clean")
    queues: list[Iterator[Value]] = list(map(iter, lists))
    return [next(queues[kind]) for kind in kinds]


def _read_planes(planes: bytes, count: int, widths: Sequence[int]) -> Sequence[int]:
    """Return `count` unsigned integers from planes whose width, read off their length, must be one of `widths`."""
    width, over = divmod(len(planes), max(count, 1))
    _check(over == 0 and (width in widths or count == 0), "planes: length")
    _check(count > 0 or not planes, "planes: no row")
    if width == 0:
        return (0,) * count
    if width == 1:
        return planes
    size = SIZES[width]
    return struct.unpack(f"<{count}{CODES[width]}", _interleave(planes, count, width, size))


def _interleave(planes: bytes, count: int, width: int, size: int) -> bytearray:
    """Return `count` little-endian integers of `size` bytes from `width` planes; the upper bytes are 0."""
    packed = bytearray(size * count)
    for k in range(width):
        packed[k::size] = planes[k * count : (k + 1) * count]
    return packed


def _check_int64(values: Sequence[int]) -> None:
    _check(min(values, default=0) >= INT_MIN and max(values, default=0) <= INT_MAX, "an integer beyond 64 bits")


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise MalformedColumn(what)
