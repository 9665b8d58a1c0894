"""The vectors of columns (PROTOCOL.md §4.3)."""

from __future__ import annotations

import struct
from typing import Any

from sync import columns
from sync.columns import Column
from sync.values import RawText, Value
from tests.vectors.making.shown import ID, encode, value_json

U16 = b"".join(bytes.fromhex(ID.replace("-", ""))[k : k + 1] * 2 for k in range(16))

VALID_COLUMNS: list[tuple[str, Column, list[Value]]] = [
    ("nulls", columns.Nulls(), [None, None]),
    ("no rows", columns.Nulls(), []),
    ("integers, one plane", columns.Integers(0, bytes([5, 7])), [5, 7]),
    ("integers, two planes", columns.Integers(0, bytes([5, 7, 44, 0, 0, 1])), [5, 7, 300]),
    ("integers, no plane", columns.Integers(-9, b""), [-9, -9, -9]),
    ("integers, three planes", columns.Integers(-1, bytes([0, 1, 0, 0, 0, 1])), [-1, 65536]),
    ("integers, both ends", columns.Integers(-(2**63), bytes([0, 255] * 8)), [-(2**63), 2**63 - 1]),
    ("deltas", columns.Deltas(1000, 500, bytes([0, 100])), [1000, 1500, 2100]),
    ("deltas, falling, no plane", columns.Deltas(10, -3, b""), [10, 7, 4, 1]),
    ("deltas, one row", columns.Deltas(2**63 - 1, 0, b""), [2**63 - 1]),
    ("floats", columns.Floats(b"".join(struct.pack("<2d", 0.1 + 0.2, -0.0)[k::8] for k in range(8))), [0.1 + 0.2, -0.0]),
    (
        "infinity, smallest",
        columns.Floats(b"".join(struct.pack("<2d", float("inf"), 5e-324)[k::8] for k in range(8))),
        [float("inf"), 5e-324],
    ),
    ("texts", columns.Texts(["", "й", "й", "🏪"]), ["", "й", "й", "🏪"]),
    ("uuids", columns.Uuids(U16), [ID, ID]),
    ("blobs", columns.Blobs([b"", b"\0\xff"]), [b"", b"\0\xff"]),
    ("mixed", columns.Mixed(bytes([1, 2, 5]), [1], [1.0], [], [], [b"\xff"]), [1, 1.0, RawText(b"\xff")]),
    (
        "mixed, all kinds",
        columns.Mixed(bytes([3, 0, 4, 5, 1, 3]), [-1], [], ["a", "b"], [b"c"], [b"d\0"]),
        ["a", None, b"c", RawText(b"d\0"), -1, "b"],
    ),
    ("dictionary of one", columns.Dictionary(1, columns.Texts(["EUR"]), b""), ["EUR", "EUR"]),
    ("dictionary of texts", columns.Dictionary(2, columns.Texts(["a", "b"]), bytes([1, 0, 1])), ["b", "a", "b"]),
    ("dictionary of blobs", columns.Dictionary(2, columns.Blobs([b"", b"x"]), bytes([1, 0])), [b"x", b""]),
    ("dictionary of uuids", columns.Dictionary(1, columns.Uuids(bytes.fromhex(ID.replace("-", ""))), b""), [ID] * 3),
    ("dictionary of floats", columns.Dictionary(1, columns.Floats(struct.pack("<d", 1e-308)), b""), [1e-308] * 2),
    ("nullable integers", columns.Nullable(bytes([2]), columns.Integers(7, b"")), [None, 7]),
    ("nullable, nine rows", columns.Nullable(bytes([1, 1]), columns.Texts(["a", "b"])), ["a", *[None] * 7, "b"]),
    ("nullable dictionary", columns.Nullable(bytes([5]), columns.Dictionary(1, columns.Texts(["x"]), b"")), ["x", None, "x"]),
]

INVALID_COLUMNS: list[tuple[str, str, int, Any, str]] = [
    ("C-1", "unknown tag", 1, [10, b""], "wire.malformed"),
    ("C-2", "no tag", 1, [], "wire.malformed"),
    ("C-2", "one element too many", 2, [0, 0], "wire.malformed"),
    ("C-2", "one element too few", 2, [1, 0], "wire.malformed"),
    ("C-2", "a map", 1, {"tag": 0}, "wire.malformed"),
    ("C-2", "a dictionary of dictionaries", 1, [8, 1, [8, 1, [4, ["a"]], b""], b""], "wire.malformed"),
    ("C-2", "a dictionary of integers", 2, [8, 1, [1, 0, b""], b""], "wire.malformed"),
    ("C-2", "nullable in nullable", 1, [9, b"\1", [9, b"\1", [1, 0, b""]]], "wire.malformed"),
    ("C-2", "nullable nulls", 1, [9, b"\1", [0]], "wire.malformed"),
    ("C-2", "nullable mixed", 1, [9, b"\1", [7, b"\1", [1], [], [], [], []]], "wire.malformed"),
    ("C-2", "a boolean for an integer", 1, [1, True, b""], "wire.malformed"),
    ("C-2", "a float for an integer", 1, [1, 0.0, b""], "wire.malformed"),
    ("C-2", "text for planes", 1, [1, 0, "a"], "wire.malformed"),
    ("C-2", "NULL among texts", 1, [4, [None]], "wire.malformed"),
    ("C-3", "planes that do not divide", 2, [1, 0, b"\1\2\3"], "wire.column"),
    ("C-3", "nine planes", 1, [1, 0, bytes(9)], "wire.column"),
    ("C-3", "planes without rows", 0, [1, 0, b"\1"], "wire.column"),
    ("C-3", "deltas without rows", 0, [2, 0, 0, b""], "wire.column"),
    ("C-3", "deltas with a plane for the first row", 3, [2, 0, 0, b"\1\2\3"], "wire.column"),
    ("C-3", "deltas of one row with a plane", 1, [2, 0, 0, b"\1"], "wire.column"),
    ("C-3", "seven bytes of floats", 1, [3, bytes(7)], "wire.column"),
    ("C-3", "too few texts", 2, [4, ["a"]], "wire.column"),
    ("C-3", "too many texts", 1, [4, ["a", "b"]], "wire.column"),
    ("C-3", "fifteen bytes of uuid", 1, [5, bytes(15)], "wire.column"),
    ("C-3", "too many blobs", 0, [6, [b""]], "wire.column"),
    ("C-3", "mixed: too few kinds", 2, [7, b"\1", [1], [], [], [], []], "wire.column"),
    ("C-3", "mixed: a value left over", 1, [7, b"\0", [1], [], [], [], []], "wire.column"),
    ("C-3", "mixed: a value missing", 1, [7, b"\3", [1], [], [], [], []], "wire.column"),
    ("C-3", "dictionary: size 0", 1, [8, 0, [4, []], b""], "wire.column"),
    ("C-3", "dictionary: larger than the rows", 1, [8, 2, [4, ["a", "b"]], b"\0"], "wire.column"),
    ("C-3", "dictionary: size is not that of the values", 2, [8, 2, [4, ["a"]], b"\0\0"], "wire.column"),
    ("C-3", "dictionary: size beyond 64 bits", 2, [8, 2**64 - 1, [4, ["a"]], b"\0\0"], "wire.column"),
    ("C-3", "dictionary of one with indexes", 2, [8, 1, [4, ["a"]], b"\0\0"], "wire.column"),
    ("C-3", "dictionary of two with two-byte indexes", 2, [8, 2, [4, ["a", "b"]], bytes(4)], "wire.column"),
    ("C-3", "nullable: a byte too few", 9, [9, b"\1", [1, 0, b""]], "wire.column"),
    ("C-3", "nullable: more bits than values", 2, [9, b"\3", [4, ["a"]]], "wire.column"),
    ("C-4", "dictionary: index at size", 2, [8, 2, [4, ["a", "b"]], bytes([0, 2])], "wire.column"),
    ("C-4", "mixed: kind 6", 1, [7, b"\6", [], [], [], [], []], "wire.column"),
    ("C-4", "nullable: a bit beyond the last row", 2, [9, b"\5", [1, 0, b""]], "wire.column"),
    ("C-5", "integers: sum beyond 64 bits", 1, [1, 2**63 - 1, b"\1"], "wire.column"),
    ("C-5", "integers: base beyond 64 bits", 1, [1, 2**63, b""], "wire.column"),
    ("C-5", "deltas: sum beyond 64 bits", 2, [2, -(2**63), -1, b""], "wire.column"),
    ("C-5", "deltas: beyond and back", 3, [2, 2**63 - 1, 0, bytes([1, 0])], "wire.column"),
    ("C-5", "mixed: beyond 64 bits", 1, [7, b"\1", [2**63], [], [], [], []], "wire.column"),
    ("C-5", "floats: NaN", 1, [3, struct.pack("<d", float("nan"))], "wire.column"),
    ("C-5", "mixed: NaN", 1, [7, b"\2", [], [float("nan")], [], [], []], "wire.column"),
    ("C-6", "texts: a NUL inside", 1, [4, ["a\0b"]], "wire.column"),
    ("C-6", "mixed: a NUL inside", 1, [7, b"\3", [], [], ["\0"], [], []], "wire.column"),
    ("C-6", "mixed: a raw text that is clean", 1, [7, b"\5", [], [], [], [], [b"clean"]], "wire.column"),
]


def column_vectors() -> dict[str, Any]:
    """Return the vectors of PROTOCOL.md §4.3."""
    not_utf8 = encode([4, [b"\xff"]]).replace(b"\xc4\x01\xff", b"\xa1\xff")
    surrogate = encode([4, [b"\xed\xa0\x80"]]).replace(b"\xc4\x03\xed", b"\xa3\xed")
    return {
        "about": "PROTOCOL.md 4.3. A column of so many rows. The encoder may pick another form for the same values (C-1).",
        "valid": [
            {"name": name, "rows": len(values), "column": encode(column).hex(), "values": list(map(value_json, values))}
            for name, column, values in VALID_COLUMNS
        ],
        "invalid": [
            *(
                {"rule": rule, "name": name, "rows": rows, "column": encode(column).hex(), "error": error}
                for rule, name, rows, column, error in INVALID_COLUMNS
            ),
            {"rule": "C-6", "name": "a text that is not UTF-8", "rows": 1, "column": not_utf8.hex(), "error": "wire.malformed"},
            {"rule": "C-6", "name": "a text with a surrogate", "rows": 1, "column": surrogate.hex(), "error": "wire.malformed"},
        ],
    }
