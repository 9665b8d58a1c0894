"""Columns: how the values of one column of a block of rows are written on the wire.

Rows travel as columns: a block of N rows holds, per column name, one *column* as defined here. The encoder picks the
form that zstd then compresses best; the decoder accepts every form a peer may pick. Both are pure functions.

    values ─► encode_column() ─► Column ─► msgpack, zstd ══► msgpack (typed) ─► decode_column(column, N) ─► values

Spec: PROTOCOL.md §4.3, rules C-1 … C-8. In short: a column is a msgpack array, its tag first. Numbers lie in *planes* (the
lowest byte of every row, then the next higher one, …), ids in 16 planes, texts and blobs in lists, repeated values in a
dictionary with indexes, NULLs in a bitmap in front of the others; values of several kinds carry a byte of kind each. The
number of rows is not in the column: the block states it once. Every length is checked against it.

**Examples.** (msgpack in hexadecimal)
NULL, NULL = `91 00`; 5, 7, 300 = `93 01 00 c4 06 05 07 2c 00 00 01`; 1000, 1500, 2100 =
`94 02 cd 03 e8 cd 01 f4 c4 02 00 64`; 'EUR', 'EUR' = `94 08 01 92 04 91 a3 45 55 52 c4 00`; NULL, 7 =
`93 09 c4 01 02 93 01 07 c4 00`; 1, 1.0, the text of byte FF =
`97 07 c4 03 01 02 05 91 01 91 cb 3f f0 00 00 00 00 00 00 90 90 91 c4 01 ff`.
"""

import math
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from itertools import count as counter
from operator import sub
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar, cast

import msgspec

from sync.limits import COLUMN_LIST_MAX
from sync.values import INT_MAX, INT_MIN, RawText, Value, is_clean, text_value

NoneType = type(None)
T = TypeVar("T")

SAMPLE_ROWS = 128  # rows looked at before a more costly form is tried; 2 × 128 tell 5,000 distinct of 10,000 from all
UUID_CHARS = 36
UUID_BYTES = 16
DASHES = (8, 13, 18, 23)
# Where the high half of each of the 16 bytes stands in the text; the low half follows it.
DIGITS = (0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34)
KINDS = bytes(range(6))
CODES = " BHIIQQQQ"  # struct's code for the narrowest whole type of 1 … 8 bytes
SIZES = (0, 1, 2, 4, 4, 8, 8, 8, 8)  # and its size


_List = Annotated[list[T], msgspec.Meta(max_length=COLUMN_LIST_MAX)]
"""More than any block has rows: its length is read and compared before memory is taken for the elements."""


class MalformedColumn(ValueError):
    """A peer sent a column that breaks a rule of PROTOCOL.md §4.3. Nothing of it is used; it will not heal."""

    code: ClassVar[str] = "wire.column"
    retry: ClassVar[bool] = False


class _Form(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all forms share: a msgpack array, tag first, exactly its fields."""


class Nulls(_Form, frozen=True, tag=0):
    """Every row is NULL."""


class Integers(_Form, frozen=True, tag=1):
    """Integers as offsets from `base` in planes of 0 … 8 bytes."""

    base: int
    planes: bytes


class Deltas(_Form, frozen=True, tag=2):
    """Integers that run: each is the one before + `step` + an offset in planes of 0 … 8 bytes."""

    first: int
    step: int
    planes: bytes


class Floats(_Form, frozen=True, tag=3):
    """Doubles, bit for bit, in 8 planes."""

    planes: bytes


class Texts(_Form, frozen=True, tag=4):
    """Clean texts."""

    texts: _List[str]


class Uuids(_Form, frozen=True, tag=5):
    """Texts that are canonical lower-case UUIDs, in 16 planes: the time bytes of UUIDv7 then compress."""

    planes: bytes


class Blobs(_Form, frozen=True, tag=6):
    """Blobs."""

    blobs: _List[bytes]


class Mixed(_Form, frozen=True, tag=7):
    """Values of several kinds, raw texts among them: one byte of kind per row, the values by kind."""

    kinds: bytes
    integers: _List[int]
    floats: _List[float]
    texts: _List[str]
    blobs: _List[bytes]
    raws: _List[bytes]


class Dictionary(_Form, frozen=True, tag=8):
    """`size` distinct values, and an index in planes of 0, 1, 2 or 4 bytes per row; size 1 is a constant column."""

    size: int
    values: Floats | Texts | Uuids | Blobs
    indexes: bytes


class Nullable(_Form, frozen=True, tag=9):
    """A bit per row that has a value, and the column of those values."""

    present: bytes
    rest: Integers | Deltas | Floats | Texts | Uuids | Blobs | Dictionary


Leaf: TypeAlias = Floats | Texts | Uuids | Blobs
Filled: TypeAlias = Integers | Deltas | Leaf | Dictionary
Column: TypeAlias = Nulls | Filled | Mixed | Nullable


# ---- encode


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
    return Dictionary(size, leaf(list(numbers)), _planes(indexes, 0, _index_width(size)))


def _index_width(size: int) -> int:
    if size == 1:
        return 0
    return 1 if size <= 256 else 2 if size <= 65_536 else 4


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


# ---- decode


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
    indexes = _read_planes(column.indexes, count, (_index_width(size),))
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
