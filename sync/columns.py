"""Columns: how the values of one column of a block of rows are written on the wire.

Rows travel as columns: a block of N rows holds, per column name, one *column* in one of the forms below. The encoder
(sync/encoding.py) picks the form that zstd then compresses best; the decoder (sync/decoding.py) accepts every form a peer may pick.

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

from typing import Annotated, ClassVar, TypeAlias, TypeVar

import msgspec

from sync.limits import COLUMN_LIST_MAX

T = TypeVar("T")

UUID_CHARS = 36
UUID_BYTES = 16
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


def index_width(size: int) -> int:
    """Return the bytes of an index into a dictionary of `size` ≥ 1 values."""
    if size == 1:
        return 0
    return 1 if size <= 256 else 2 if size <= 65_536 else 4
