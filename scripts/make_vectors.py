"""Write the test vectors of PROTOCOL.md §12 into tests/vectors/, and what test_wire_is_frozen.py compares.

    python scripts/make_vectors.py             the vectors (but signature.json, whose signature bases are written by hand)
    python scripts/make_vectors.py --freeze    the hashes of messages and tables as well, after a deliberate change

Inputs and what must come of them stand here side by side; tests/contract/test_vectors.py runs the files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from schema.registry import Schema, load  # noqa: E402
from sync import columns, messages  # noqa: E402
from sync.builder import SegmentBuilder  # noqa: E402
from sync.change import NEVER, Delete, Edit, Insert, Op, Transaction, Update, Withdrawn  # noqa: E402
from sync.columns import Column, encode_column  # noqa: E402
from sync.digest import BEGINNING, rows_digest, segment_point, version_point  # noqa: E402
from sync.ids import uuid7  # noqa: E402
from sync.limits import PROTOCOL_VERSIONS, SEGMENT_ROWS_MAX, VALUE_BYTES_MAX  # noqa: E402
from sync.messages import Message, Point  # noqa: E402
from sync.rows import columns_of, values_of  # noqa: E402
from sync.values import RawText, Value  # noqa: E402
from sync.wire import compress, pack  # noqa: E402

FOLDER = ROOT / "tests" / "vectors"
FROZEN = ROOT / "tests" / "contract" / "frozen.json"
encode = msgspec.msgpack.encode

ID = "0193a7c2-9d4e-7b11-8c3f-5a6b7c8d9e0f"
SEGMENT_ID = bytes(range(16))
DIGEST = bytes(range(32))
NOW = 1_760_000_000_000


# --- values and messages as JSON -----------------------------------------------------------------------------------------


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


# --- columns ---------------------------------------------------------------------------------------------------------------

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


# --- segments ----------------------------------------------------------------------------------------------------------------

SALE: dict[str, Value] = {"id": "s1", "number": "LON-1-000001", "total_minor": 1250, "note": None}
ADDRESS = ("street", "postcode", "city", "country")
KEYS = {"sale": ("id",), "sale_line": ("id",), "contact": ("id",), "contact_tag": ("contact_id", "tag"), "note": ("id",)}


def sealed(works: Sequence[Transaction], first: int = 1, part: int = 0, segment_id: bytes = SEGMENT_ID) -> bytes:
    """Return a segment of these transactions."""
    builder = SegmentBuilder()
    for work in works:
        index = builder.begin(work.wall, work.base)
        for op in work.ops:
            builder.add(index, op)
        for conflict in work.decisions:
            builder.decide(index, conflict)
        for withdrawn in work.withdrawals:
            builder.withdraw(index, withdrawn)
    return builder.build(segment_id, 1, first, part)


def _edit(cell: str, names: tuple[str, ...], old: tuple[Value, ...], new: tuple[Value, ...], base: int, since: int) -> Edit:
    return Edit(cell, names, old, new, base, since, NOW)


def _line(number: int) -> Insert:
    return Insert("sale_line", (f"l{number}",), {"id": f"l{number}", "sale_id": "s1", "amount_minor": number})


VALID_SEGMENTS: list[tuple[str, int, int, list[Transaction]]] = [
    ("a sale with its lines", 1, 0, [Transaction(0, 1, NOW, 0, [Insert("sale", ("s1",), SALE), _line(1), _line(2)])]),
    (
        "two transactions, one of them a decision that writes nothing",
        41,
        0,
        [
            Transaction(0, 41, NOW, 9, [Insert("contact", ("c1",), {"id": "c1", "name": "Анна"})]),
            Transaction(1, 42, NOW + 5, 9, [], [bytes(range(16, 32))]),
        ],
    ),
    (
        "a group is one cell, a row's cells are one update",
        7,
        0,
        [
            Transaction(
                0,
                7,
                NOW,
                12,
                [
                    Update(
                        "contact",
                        ("c1",),
                        [
                            _edit("phone", ("phone",), (None,), ("1",), 12, 7),
                            _edit("address", ADDRESS, (None, None, "Köln", None), ("Domplatz 1", "50667", "Köln", "DE"), 10, 3),
                        ],
                    ),
                    Update("contact", ("c2",), [_edit("phone", ("phone",), ("",), (None,), 12, 7)]),
                ],
            )
        ],
    ),
    (
        "deletes, then inserts, then updates; an insert on an own pending delete",
        5,
        0,
        [
            Transaction(
                0,
                5,
                NOW,
                8,
                [
                    Delete("contact_tag", ("c1", "vip"), 8, 5),
                    Delete("contact", ("c9",), 3, 2),
                    Insert("contact", ("c9",), {"id": "c9", "name": "again"}, 3, 2),
                    Update("contact", ("c1",), [_edit("name", ("name",), ("a",), ("b",), 8, 5)]),
                ],
            )
        ],
    ),
    (
        "every kind of value, raw text among them",
        1,
        0,
        [
            Transaction(
                0,
                1,
                -1,
                0,
                [
                    Insert("note", (f"n{i}",), {"id": f"n{i}", "value": value})
                    for i, value in enumerate(
                        [None, 2**63 - 1, 1e-308, 0.1 + 0.2, "", "🏪", b"\0\xff", RawText(b"\xcf\xf0\xe8"), RawText(b"a\0b")]
                    )
                ],
            )
        ],
    ),
    (
        "a correction and a withdrawal",
        7,
        0,
        [
            Transaction(0, 7, NOW, 3, [Delete("contact", ("c9",), -1, 5)], [], withdrawals=[Withdrawn(bytes(range(16)), 2, True)]),
            Transaction(1, 8, NOW, 3, [], [], withdrawals=[Withdrawn(bytes(range(16)), 0, False)]),
        ],
    ),
]


def work_json(work: Transaction) -> dict[str, Any]:
    """Return a transaction with its changes in the order they apply."""
    return {
        "index": work.index,
        "number": work.number,
        "wall": work.wall,
        "base": work.base,
        "changes": list(map(op_json, work.ops)),
        "decisions": [conflict.hex() for conflict in work.decisions],
        "withdrawals": [[each.segment.hex(), each.index, each.replaced] for each in work.withdrawals],
    }


def op_json(op: Op) -> dict[str, Any]:
    """Return a change."""

    def shown(values: Iterable[Value]) -> list[Any]:
        return list(map(value_json, values))

    head = {"table": op.table, "key": shown(op.key)}
    match op:
        case Insert():
            values = {name: value_json(value) for name, value in op.values.items()}
            return {"insert": head, "values": values, "base": op.base, "since": op.since}
        case Delete():
            return {"delete": head, "base": op.base, "since": op.since}
        case Update():
            cells = [
                {
                    "cell": e.cell,
                    "columns": list(e.columns),
                    "old": shown(e.old),
                    "new": shown(e.new),
                    "base": e.base,
                    "since": e.since,
                    "wall": e.wall,
                }
                for e in op.edits
            ]
            return {"update": head, "cells": cells}


def _column(*values: Value) -> Column:
    return encode_column(values)


def _segment(**fields: Any) -> bytes:
    """Return a segment of one transaction, some fields of it replaced; no check stands in the way."""
    whole = {
        "id": SEGMENT_ID,
        "schema": 1,
        "first": 1,
        "transactions": 1,
        "part": 0,
        "wall": _column(NOW),
        "base": _column(0),
        "decisions": (),
        "deletes": (),
        "inserts": (),
        "updates": (),
        "withdrawals": (),
    }
    return compress(encode([*(whole | fields).values()]))


def _inserts(**fields: Any) -> list[Any]:
    one = {"table": "sale", "columns": ["id"], "count": 1, "transaction": _column(0), "base": _column(-1), "since": _column(-1)}
    return [*({**one, "values": [_column("s1")]} | fields).values()]


def _updates(**fields: Any) -> list[Any]:
    one = {"table": "contact", "cell": "name", "columns": ["name"], "count": 1, "transaction": _column(0), "base": _column(0)}
    more = {"since": _column(1), "wall": _column(NOW), "key": [_column("c1")], "old": [_column("a")], "new": [_column("b")]}
    return [*(one | more | fields).values()]


def _deletes(**fields: Any) -> list[Any]:
    one = {"table": "contact", "count": 1, "transaction": _column(0), "base": _column(0), "since": _column(1)}
    return [*({**one, "key": [_column("c1")]} | fields).values()]


def invalid_segments() -> list[tuple[str, str, bytes, str]]:
    """Return (rule, name, body, code) of segments no receiver takes."""
    rows = SEGMENT_ROWS_MAX + 1
    long = encode_column(["x" * (VALUE_BYTES_MAX + 1)])
    many = columns.Dictionary(1, columns.Texts(["x" * VALUE_BYTES_MAX]), b"")
    zeros, nevers = columns.Integers(0, b""), columns.Integers(-1, b"")
    return [
        ("P-4.2", "not a frame", b"\x93\x01\x02\x03", "wire.malformed"),
        ("P-4.4", "a field too few", compress(encode([SEGMENT_ID, 1, 1])), "wire.malformed"),
        ("P-4.5", "an id of 15 bytes", _segment(id=bytes(15)), "wire.malformed"),
        ("P-4.5", "a float for a count", _segment(first=1.0), "wire.malformed"),
        ("P-4.5", "true for a count", _segment(transactions=True), "wire.malformed"),
        ("P-4.5", "a negative count", _segment(inserts=[_inserts(count=-1)]), "wire.malformed"),
        ("P-4.10", "no transaction", _segment(transactions=0, wall=columns.Nulls(), base=columns.Nulls()), "wire.malformed"),
        (
            "P-4.10",
            "a part of two transactions",
            _segment(part=1, transactions=2, wall=_column(1, 1), base=_column(0, 0)),
            "wire.malformed",
        ),
        ("P-4.10", "part 3", _segment(part=3), "wire.malformed"),
        ("P-4.10", "a decision of no transaction", _segment(decisions=[[1, bytes(16)]]), "wire.malformed"),
        ("P-4.10", "a withdrawal by no transaction", _segment(withdrawals=[[1, bytes(16), 0, True]]), "wire.malformed"),
        ("P-4.5", "a number for a bool", _segment(withdrawals=[[0, bytes(16), 0, 1]]), "wire.malformed"),
        ("P-4.7", "times that are not integers", _segment(wall=_column(1.5)), "wire.column"),
        ("P-4.7", "times that are NULL", _segment(wall=columns.Nulls()), "wire.column"),
        ("P-4.7", "a time beyond all time", _segment(wall=_column(2**62)), "wire.column"),
        ("P-4.7", "a time of an edit beyond all time", _segment(updates=[_updates(wall=_column(-(2**62)))]), "wire.column"),
        ("P-4.7", "more times than transactions", _segment(wall=_column("a", "b")), "wire.column"),
        ("P-4.7", "a row of transaction 1", _segment(inserts=[_inserts(transaction=_column(1))]), "wire.column"),
        ("P-4.7", "a row of transaction -1", _segment(deletes=[_deletes(transaction=_column(-1))]), "wire.column"),
        ("P-4.7", "a base that is a text", _segment(deletes=[_deletes(base=_column("0"))]), "wire.column"),
        ("P-4.8", "a block without columns", _segment(inserts=[_inserts(columns=[], values=[])]), "wire.column"),
        ("P-4.8", "more values than columns", _segment(inserts=[_inserts(values=[_column("a"), _column("b")])]), "wire.column"),
        ("P-4.8", "fewer values than columns", _segment(updates=[_updates(new=[])]), "wire.column"),
        ("P-4.8", "a column twice", _segment(inserts=[_inserts(columns=["id", "id"], values=[_column("a"), _column("b")])]), "wire.column"),
        (
            "P-4.8",
            "a column twice in an update",
            _segment(updates=[_updates(columns=["a", "a"], old=[_column(1)] * 2, new=[_column(2)] * 2)]),
            "wire.column",
        ),
        ("P-4.8", "a delete without a key", _segment(deletes=[_deletes(key=[])]), "wire.column"),
        ("P-4.8", "an update without a key", _segment(updates=[_updates(key=[])]), "wire.column"),
        ("P-4.9", "a delete that has seen more than its transaction", _segment(deletes=[_deletes(base=_column(1))]), "wire.column"),
        ("P-4.9", "an edit that has seen more than its transaction", _segment(updates=[_updates(base=_column(7))]), "wire.column"),
        ("C-7", "a column that is not well formed", _segment(inserts=[_inserts(values=[columns.Texts(["a", "b"])])]), "wire.column"),
        ("P-3.2", "too many rows", _segment(inserts=[_inserts(count=rows)]), "wire.too_large"),
        ("P-3.2", "too many rows in two blocks", _segment(inserts=[_inserts(count=rows - 1), _inserts()]), "wire.too_large"),
        ("P-3.2", "too many transactions", _segment(transactions=rows), "wire.too_large"),
        ("P-3.2", "a value that is too long", _segment(inserts=[_inserts(values=[long])]), "wire.too_large"),
        (
            "P-3.2",
            "one value in very many rows",
            _segment(inserts=[_inserts(count=rows - 1, transaction=zeros, base=nevers, since=nevers, values=[many])]),
            "wire.too_large",
        ),
        ("P-3.2", "more blocks than any segment has", _segment(deletes=[0] * 10_001), "wire.malformed"),
        ("P-3.2", "more columns than any table has", _segment(inserts=[_inserts(values=[0] * 501)]), "wire.malformed"),
    ]


def segment_vectors() -> dict[str, Any]:
    """Return the vectors of PROTOCOL.md §4.4 and §5."""
    parts = [
        sealed([Transaction(0, 3, NOW, 4, [Insert("sale", ("s1",), SALE), _line(1)])], 3, 1, bytes([1] * 16)),
        sealed([Transaction(0, 3, NOW, 4, [_line(2)])], 3, 1, bytes([2] * 16)),
        sealed([Transaction(0, 3, NOW, 4, [_line(3)])], 3, 2, bytes([3] * 16)),
    ]
    whole = Transaction(0, 3, NOW, 4, [Insert("sale", ("s1",), SALE), _line(1), _line(2), _line(3)])
    return {
        "about": "PROTOCOL.md 4.4 and 5. Bodies of segments and the transactions in them, changes in the order they apply.",
        "keys": KEYS,
        "valid": [
            {
                "name": name,
                "body": sealed(works, first, part).hex(),
                "id": SEGMENT_ID.hex(),
                "schema": 1,
                "first": first,
                "part": part,
                "transactions": list(map(work_json, works)),
            }
            for name, first, part, works in VALID_SEGMENTS
        ],
        "parts": {"bodies": [part.hex() for part in parts], "transaction": work_json(whole)},
        "invalid": [{"rule": rule, "name": name, "body": body.hex(), "error": error} for rule, name, body, error in invalid_segments()],
    }


# --- messages ------------------------------------------------------------------------------------------------------------------

_TOLD = messages.Told(3, 1, 0, 2)
_CURSOR, _HIGHEST = Point(7, DIGEST), Point(9, DIGEST[::-1])


def valid_messages() -> list[tuple[str, Message]]:
    """Return messages of every kind that travels."""
    body = sealed(VALID_SEGMENTS[0][3])
    point = segment_point(BEGINNING, body)
    notice = messages.ConflictNotice(
        id=SEGMENT_ID,
        version=9,
        table="contact",
        key=messages.Values(1, _column("c1")),
        columns=ADDRESS,
        base=values_of((None, None, "Köln", None)),
        mine=values_of(("Domplatz 1", "50667", "Köln", "DE")),
        theirs=None,
        rule="latest",
        winner="theirs",
        open=False,
        mine_by="k2",
        theirs_by="centre",
        at_ms=NOW,
        why="because",
    )
    exceptional = messages.Exceptional(1, "held", 9, "parent", "its contact c1 is not at the centre yet")
    push = messages.PushRequest(
        1, 1, SEGMENT_ID, None, _CURSOR, _HIGHEST, BEGINNING, (messages.Sealed(body, point.digest, None),), (), NOW, _TOLD
    )
    first_push = messages.PushRequest(
        1, 1, DIGEST[16:], messages.Parent(SEGMENT_ID, point), _CURSOR, _HIGHEST, BEGINNING, (), (SEGMENT_ID,), -NOW, _TOLD
    )
    rows = [("c1", "Анна", None), ("c2", "Ben", 5)]
    moves = SegmentBuilder()
    moves.begin_many(2, NOW, 7)
    moves.insert_rows("stock_move", ("id", "qty_milli"), [("m1", 1000), ("m2", -500)], [0, 1])
    sealed_rows = moves.build(SEGMENT_ID, 1, 1)
    page = messages.Page(
        epoch=1,
        incarnation=SEGMENT_ID,
        since=7,
        head=9,
        to=_HIGHEST,
        chain=point,
        position=None,
        rows=(messages.Rows("contact", ("id", "name", "credit_limit_minor"), 2, columns_of(rows, 3)),),
        sealed=(messages.SealedRows(2, sealed_rows),),
        removals=(messages.Removals("contact_tag", 1, columns_of([("c1", "vip")], 2)),),
        deaths=(messages.Removals("contact", 1, columns_of([("c9",)], 1)),),
        conflicts=(notice,),
        segments=(messages.Accepted(SEGMENT_ID, 8, 1, 1),),
        verdicts=(messages.LateVerdict(SEGMENT_ID, 0, "refused", 9, "refused", "the central office refused it"),),
        points=(_CURSOR,),
        covered=7,
        proof=messages.Proof((messages.TableDigest("contact", 2, DIGEST),), (SEGMENT_ID,)),
    )
    position = messages.Position(7, 9, 2, 8, 55)
    key = columns_of([("c1",), ("c2",), ("c3",)], 1)
    ranges = (messages.KeyRange("contact", None, values_of(["c5"]), 0), messages.KeyRange("contact", values_of(["c5"]), None, 100))
    digests = (messages.RangeDigest(1200, DIGEST, (), b""), messages.RangeDigest(1, DIGEST, columns_of([("c7",)], 1), DIGEST))
    some = messages.Rows("contact", ("id", "name", "credit_limit_minor"), 1, columns_of(rows[:1], 3))
    more = messages.Page(1, SEGMENT_ID, 7, 9, _HIGHEST, BEGINNING, position, (), (), (), (), (), (), (), (), -1, None)
    again = messages.Again(8, 7, True, (exceptional,))
    opened = messages.PushReply(2, _HIGHEST, (messages.SegmentVerdict(SEGMENT_ID, 9, 2, (exceptional,), body),))
    second_push = messages.PushRequest(
        1, 2, DIGEST[16:], None, _CURSOR, _HIGHEST, BEGINNING, (messages.Sealed(DIGEST, DIGEST, again),), (), NOW, _TOLD
    )
    return [
        ("a request to join", messages.JoinRequest((1,), "ABCD-EFGH-JKMN-PQRS", DIGEST, SEGMENT_ID)),
        ("a reply to a newcomer", messages.JoinReply(1, ID, "Москва", 1, 1, DIGEST)),
        ("a push of one segment", push),
        ("the first push of a new incarnation", first_push),
        ("a reply to a push", messages.PushReply(1, _HIGHEST, (messages.SegmentVerdict(SEGMENT_ID, 9, 2, (exceptional,), None),))),
        ("a push of what comes again", second_push),
        ("a reply with what was in the box", opened),
        ("points that a node remembers", messages.HealRequest(1, 1, SEGMENT_ID, (BEGINNING, _CURSOR, _HIGHEST))),
        ("what a restored server still has", messages.HealReply(2, _CURSOR, _HIGHEST, point)),
        ("pages of a lost history", messages.OfferRequest(1, 2, SEGMENT_ID, _CURSOR, _HIGHEST, (messages.Offered(9, DIGEST),))),
        ("what became of them", messages.OfferReply(_HIGHEST, 3, 1)),
        ("a pull", messages.PullRequest(1, 1, SEGMENT_ID, _CURSOR, _HIGHEST, None, 10_000, _TOLD)),
        ("a pull that goes on", messages.PullRequest(1, 1, SEGMENT_ID, _CURSOR, _HIGHEST, position, 0, _TOLD)),
        ("the last page", page),
        ("a page with more to come", more),
        ("a request to verify", messages.VerifyRequest(1, 1, SEGMENT_ID, _CURSOR, (), None)),
        ("digests of tables", messages.VerifyReply(9, (messages.TableDigest("contact", 2, DIGEST),), (), None)),
        ("a request for ranges", messages.VerifyRequest(1, 1, SEGMENT_ID, _CURSOR, ranges, None)),
        ("digests of ranges", messages.VerifyReply(9, (), digests, None)),
        (
            "a request to verify some columns",
            messages.VerifyRequest(1, 1, SEGMENT_ID, _CURSOR, (), None, 2, (messages.Compared("contact", ("id", "name")),)),
        ),
        ("a request for rows", messages.VerifyRequest(1, 1, SEGMENT_ID, _CURSOR, (), messages.Wanted("contact", 3, key))),
        ("rows that were asked for", messages.VerifyReply(9, (), (), messages.Found(bytes([0, 2, 1]), some))),
    ]


def invalid_messages() -> list[tuple[str, str, str, bytes, str]]:
    """Return (rule, name, type, frame, code) of messages no receiver takes."""
    pull = [1, 1, SEGMENT_ID, [7, DIGEST], [9, DIGEST], None, 10, [0, 0, 0, 0]]

    def frame(place: int, value: Any) -> bytes:
        return compress(encode([*pull[:place], value, *pull[place + 1 :]]))

    good = compress(encode(pull))
    return [
        ("P-4.2", "nothing", "PullRequest", b"", "wire.malformed"),
        ("P-4.2", "plain msgpack", "PullRequest", encode(pull), "wire.malformed"),
        ("P-4.2", "half a frame", "PullRequest", good[: len(good) // 2], "wire.malformed"),
        ("P-4.2", "something behind the frame", "PullRequest", good + b"\0", "wire.malformed"),
        ("P-4.2", "two frames", "PullRequest", good + good, "wire.malformed"),
        ("P-4.4", "an element too few", "PullRequest", compress(encode(pull[:-1])), "wire.malformed"),
        ("P-4.5", "not an array", "PullRequest", compress(encode({"protocol": 1})), "wire.malformed"),
        ("P-4.5", "a text for bytes", "PullRequest", frame(2, "0123456789abcdef"), "wire.malformed"),
        ("P-4.5", "a digest of 31 bytes", "PullRequest", frame(3, [7, DIGEST[1:]]), "wire.malformed"),
        ("P-4.5", "a version below -1", "PullRequest", frame(3, [-2, DIGEST]), "wire.malformed"),
        ("P-4.5", "a version beyond 2^62", "PullRequest", frame(3, [2**62 + 1, DIGEST]), "wire.malformed"),
        ("P-4.5", "a float for a count", "PullRequest", frame(6, 10.0), "wire.malformed"),
        ("P-4.5", "true for a count", "PullRequest", frame(6, True), "wire.malformed"),
        ("P-4.5", "a count beyond 2^53", "PullRequest", frame(6, 2**53 + 1), "wire.malformed"),
        ("P-4.5", "nesting without end", "PullRequest", compress(b"\x91" * 100_000 + b"\xc0"), "wire.malformed"),
        ("P-4.5", "a code that is empty", "JoinRequest", compress(encode([[1], "", DIGEST, SEGMENT_ID])), "wire.malformed"),
        ("P-4.5", "an unknown verdict", "LateVerdict", compress(encode([SEGMENT_ID, 0, "perhaps", 1, "", ""])), "wire.malformed"),
        (
            "P-3.2",
            "more segments than a push has",
            "PushRequest",
            compress(encode([1, 1, SEGMENT_ID, None, *[[0, bytes(32)]] * 3, [0] * 65])),
            "wire.malformed",
        ),
        (
            "P-3.2",
            "more versions than anybody speaks",
            "JoinRequest",
            compress(encode([[1] * 101, "A", DIGEST, SEGMENT_ID])),
            "wire.malformed",
        ),
    ]


def message_vectors() -> dict[str, Any]:
    """Return the vectors of PROTOCOL.md §4."""
    return {
        "about": "PROTOCOL.md 4. Messages as msgpack and as frames; fields with bytes and columns (their msgpack) in hexadecimal.",
        "valid": [
            {
                "name": name,
                "type": type(message).__name__,
                "msgpack": encode(message).hex(),
                "frame": pack(message).hex(),
                "fields": message_json(message),
            }
            for name, message in valid_messages()
        ],
        "invalid": [
            {"rule": rule, "name": name, "type": type_, "frame": frame.hex(), "error": error}
            for rule, name, type_, frame, error in invalid_messages()
        ],
    }


# --- chains, rows, ids ------------------------------------------------------------------------------------------------------------


def chain_vectors() -> dict[str, Any]:
    """Return the vectors of [P-5.13] and [P-6.7]."""
    bodies = [b"one", b"", b"\0\xff"]
    entries = [("segment", b"one"), ("central", b""), ("release", SEGMENT_ID + (3).to_bytes(4, "big")), ("rescope", b"1\0branch:LON")]
    own, versions, point = [], [], BEGINNING
    for body in bodies:
        point = segment_point(point, body)
        own.append({"body": body.hex(), "number": point.number, "digest": point.digest.hex()})
    point = BEGINNING
    for at_ms, (kind, content) in zip((1_760_000_000_000, 0, -1, 2**63 - 1), entries, strict=True):
        point = version_point(point, kind, content, at_ms)
        versions.append({"kind": kind, "content": content.hex(), "at_ms": at_ms, "number": point.number, "digest": point.digest.hex()})
    return {"about": "Chains: each point follows from the one before, the first from 32 zero bytes.", "segments": own, "versions": versions}


ROWS: list[tuple[str, list[Value]]] = [
    ("contact_tag", ["c1", "vip"]),
    ("contact", ["c1", "person", "Анна", None, -1, 2**63 - 1]),
    ("note", ["n1", 0.1 + 0.2, -0.0, b"\0", "", 127, 128, -33]),
    ("note", ["n2", RawText(b"\xff"), "x" * 40, float("inf"), 0.0, 0, -(2**63), 65_536]),
]


def row_vectors() -> dict[str, Any]:
    """Return the vectors of [P-9.12]."""
    single = [(table, row, rows_digest(table, [row])[1].hex()) for table, row in ROWS]
    count, notes = rows_digest("note", [row for table, row in ROWS if table == "note"])
    return {
        "about": "PROTOCOL.md 9.3: digests of sets of one row, values in declared order, and of a set of two in the order of their keys.",
        "rows": [{"table": t, "values": list(map(value_json, row)), "digest": digest} for t, row, digest in single],
        "tables": [{"table": "note", "rows": [2, 3], "count": count, "digest": notes.hex()}],
    }


def uuid_vectors() -> dict[str, Any]:
    """Return UUIDv7 of times and random bytes; the first is RFC 9562's example (A.6)."""
    cases = [
        (0x017F22E279B0, "0cc318c4dc0c0c07398f"),
        (0, "00" * 10),
        (2**48 - 1, "ff" * 10),
        (-5, "0123456789abcdef0123"),
        (2**60, "f0" * 10),
    ]
    return {
        "about": "UUIDv7 (RFC 9562) from ms since 1970 and ten random bytes; times outside 0 ... 2^48-1 are clamped.",
        "valid": [{"ms": ms, "random": random, "id": uuid7(ms, bytes.fromhex(random))} for ms, random in cases],
    }


# --- merges ---------------------------------------------------------------------------------------------------------------------

EARLY, LATE = 100, 200
MINE, THEIRS, NEITHER = "mine", "theirs", ""
"""What becomes of a cell: `mine` and `theirs` are conflicts with that winner, `""` is none."""

Case = tuple[str, str, list[Value], list[Value], list[Value], int, int, bool, list[Value], int, str, bool]

MERGES: list[Case] = [
    # name, policy, old, new, standing, own stamp, old stamp, seen → value, stamp, conflict won by, asks
    ("seen: the later write stands", "latest", ["a"], ["b"], ["a"], LATE, EARLY, True, ["b"], LATE, NEITHER, False),
    ("seen: a clock that is behind", "latest", ["a"], ["b"], ["a"], EARLY, LATE, True, ["b"], LATE + 1, NEITHER, False),
    ("seen under server", "server", ["a"], ["b"], ["a"], LATE, EARLY, True, ["b"], LATE, NEITHER, False),
    ("seen under ask", "ask", ["a"], ["b"], ["a"], LATE, EARLY, True, ["b"], LATE, NEITHER, False),
    ("seen under first", "first", ["a"], ["b"], ["a"], LATE, EARLY, True, ["b"], LATE, NEITHER, False),
    ("seen under max", "max", [9], [3], [9], LATE, EARLY, True, [3], LATE, NEITHER, False),
    ("seen under min", "min", [3], [9], [3], LATE, EARLY, True, [9], LATE, NEITHER, False),
    ("seen under add", "add", [5], [7], [5], LATE, EARLY, True, [7], LATE, NEITHER, False),
    ("seen under union", "union", ['["a"]'], ['["b"]'], ['["a"]'], LATE, EARLY, True, ['["b"]'], LATE, NEITHER, False),
    ("equal, unseen", "latest", ["a"], ["b"], ["b"], EARLY, LATE, False, ["b"], LATE, NEITHER, False),
    ("equal, unseen, under ask", "ask", ["a"], ["b"], ["b"], LATE, EARLY, False, ["b"], LATE, NEITHER, False),
    ("1 is not 1.0, but nobody is asked", "ask", [0], [1], [1.0], LATE, EARLY, False, [1.0], EARLY, THEIRS, False),
    ("NULL is not ''", "server", ["a"], [None], [""], LATE, EARLY, False, [""], EARLY, THEIRS, False),
    ("latest: mine is later", "latest", ["a"], ["b"], ["c"], LATE, EARLY, False, ["b"], LATE, MINE, False),
    ("latest: theirs is later", "latest", ["a"], ["b"], ["c"], EARLY, LATE, False, ["c"], LATE, THEIRS, False),
    ("latest: a tie, the greater node", "latest", ["a"], ["b"], ["c"], EARLY, EARLY, False, ["b"], EARLY, MINE, False),
    ("latest: clearing is an edit", "latest", ["a"], [None], ["c"], LATE, EARLY, False, [None], LATE, MINE, False),
    ("latest: a group is one", "latest", ["a", 1], ["b", 1], ["a", 2], LATE, EARLY, False, ["b", 1], LATE, MINE, False),
    ("latest: a group in part equal", "latest", ["a", 1], ["b", 2], ["b", 3], EARLY, LATE, False, ["b", 3], LATE, THEIRS, False),
    ("first: mine is earlier", "first", ["a"], ["b"], ["c"], EARLY, LATE, False, ["b"], EARLY, MINE, False),
    ("first: theirs is earlier", "first", ["a"], ["b"], ["c"], LATE, EARLY, False, ["c"], EARLY, THEIRS, False),
    ("first: a tie, the smaller node", "first", ["a"], ["b"], ["c"], EARLY, EARLY, False, ["c"], EARLY, THEIRS, False),
    ("server: what stands", "server", ["a"], ["b"], ["c"], LATE, EARLY, False, ["c"], EARLY, THEIRS, False),
    ("ask: what stands, and a person", "ask", ["a"], ["b"], ["c"], LATE, EARLY, False, ["c"], EARLY, THEIRS, True),
    ("max: mine", "max", [1], [9], [5], EARLY, LATE, False, [9], EARLY, MINE, False),
    ("max: theirs", "max", [1], [5], [9], LATE, EARLY, False, [9], EARLY, THEIRS, False),
    ("max: NULL is the least", "max", [1], [None], [-5], LATE, EARLY, False, [-5], EARLY, THEIRS, False),
    ("max: text above numbers", "max", [1], ["0"], [9], EARLY, LATE, False, ["0"], EARLY, MINE, False),
    ("max: 2 and 2.0, the later", "max", [1], [2], [2.0], LATE, EARLY, False, [2], LATE, MINE, False),
    ("min: mine", "min", [9], [1], [5], EARLY, LATE, False, [1], EARLY, MINE, False),
    ("min: theirs", "min", [9], [5], [1], LATE, EARLY, False, [1], EARLY, THEIRS, False),
    ("min: NULL never wins", "min", [9], [None], [5], LATE, EARLY, False, [5], EARLY, THEIRS, False),
    ("add: both count", "add", [10], [9], [8], EARLY, LATE, False, [7], LATE + 1, NEITHER, False),
    ("add: equal values are two sales", "add", [10], [9], [9], LATE, EARLY, False, [8], LATE, NEITHER, False),
    ("add: NULL is 0", "add", [None], [3], [4], LATE, EARLY, False, [7], LATE, NEITHER, False),
    ("add: nothing added", "add", [5], [5], [8], LATE, EARLY, False, [8], LATE, NEITHER, False),
    ("add: beyond 64 bits", "add", [0], [2**62], [2**63 - 1], LATE, EARLY, False, [2**63 - 1], EARLY, THEIRS, True),
    ("add: not a number", "add", [1], [2], ["x"], LATE, EARLY, False, ["x"], EARLY, THEIRS, True),
    (
        "union: both additions",
        "union",
        ['["a"]'],
        ['["a","b"]'],
        ['["a","c"]'],
        LATE,
        EARLY,
        False,
        ['["a","b","c"]'],
        LATE,
        NEITHER,
        False,
    ),
    ("union: a removal", "union", ['["a","b"]'], ['["b"]'], ['["a","b","c"]'], LATE, EARLY, False, ['["b","c"]'], LATE, NEITHER, False),
    ("union: adding wins", "union", ["[]"], ['["a"]'], [None], LATE, EARLY, False, ['["a"]'], LATE, NEITHER, False),
    ("union: not a text", "union", ['["a"]'], ['["b"]'], [b"x"], LATE, EARLY, False, [b"x"], EARLY, THEIRS, True),
]

SEEN: list[tuple[str, int, int, bool, int, int, bool]] = [
    # name, version, own number of what stands, in the lineage; base, since → seen
    ("older than the base", 5, 1, False, 5, 9, True),
    ("newer than the base", 6, 1, False, 5, 9, False),
    ("newer, but own and not before since", 6, 9, True, 5, 9, True),
    ("newer, own, before since", 6, 8, True, 5, 9, False),
    ("newer, as high a number of another history", 6, 9, False, 5, 9, False),
    ("an insert has seen nothing", 1, 1, False, NEVER, 9, False),
    ("a row nobody wrote through sync", 0, 0, False, 0, 1, True),
]


def merge_vectors() -> dict[str, Any]:
    """Return the vectors of PROTOCOL.md §2.3 and §6.4."""
    cells = []
    for name, rule, old, new, standing, stamp, before, seen, value, after, side, ask in MERGES:
        values = {"old": old, "new": new, "standing": standing}
        cells.append(
            {
                "name": name,
                "policy": rule,
                **{key: list(map(value_json, found)) for key, found in values.items()},
                "stamp": stamp,
                "node": "node-b",
                "standing_stamp": before,
                "standing_node": "node-a",
                "seen": seen,
                "outcome": {
                    "value": list(map(value_json, value)),
                    "stamp": after,
                    "conflict": side != NEITHER,
                    "winner": side or None,
                    "ask": ask,
                },
            }
        )
    return {
        "about": "PROTOCOL.md 2.3 and 6.4. A cell: old -> new is pushed by node-b onto standing, written by node-a.",
        "seen": [
            {"name": name, "version": version, "number": number, "own": own, "base": base, "since": since, "seen": seen}
            for name, version, number, own, base, since, seen in SEEN
        ],
        "cells": cells,
    }


# --- what is frozen ------------------------------------------------------------------------------------------------------------------


def message_digest() -> str:
    """Return a hash of every message's fields and types, columns included."""
    (schemas, components) = msgspec.json.schema_components(every_message())
    return hashlib.sha256(json.dumps([schemas, components, _columns()], sort_keys=True).encode()).hexdigest()


def every_message() -> list[type[Message]]:
    """Return the messages, in the order of their names."""
    found = [value for value in vars(messages).values() if isinstance(value, type) and issubclass(value, Message) and value is not Message]
    return sorted(found, key=lambda message: message.__name__)


def _columns() -> list[Any]:
    forms = [value for value in vars(columns).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]
    tagged = [form for form in forms if form.__struct_config__.tag is not None]
    return sorted([form.__struct_config__.tag, [*form.__struct_fields__]] for form in tagged)


def table_digest(schema: Schema) -> str:
    """Return a hash of everything of the declared tables that both sides must agree on."""
    shown = [(t.name, str(t.kind), t.key, t.columns, t.cells, t.scope, t.ties) for t in sorted(schema.tables, key=lambda t: t.name)]
    return hashlib.sha256(repr(shown).encode()).hexdigest()


def shape_digest(schema: Schema) -> str:
    """Return a hash of what other versions of the declaration are read from: tables, columns and cells, without their rules."""
    shown = [
        (t.name, str(t.kind), t.key, t.columns, [(cell.name, cell.columns) for cell in t.cells])
        for t in sorted(schema.tables, key=lambda t: t.name)
    ]
    return hashlib.sha256(repr(shown).encode()).hexdigest()


def freeze() -> None:
    """Write the hashes of the current versions, those of earlier schema versions kept."""
    known = json.loads(FROZEN.read_text(encoding="utf-8")) if FROZEN.exists() else {"messages": {}, "tables": {}}
    known["messages"][str(PROTOCOL_VERSIONS[-1])] = message_digest()
    known["tables"][str(load(()).version)] = table_digest(load(()))
    known.setdefault("shapes", {})[str(load(()).version)] = shape_digest(load(()))
    write(FROZEN, known)


def write(path: Path, document: object) -> None:
    """Write JSON, one vector a line where they are short."""
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


VECTORS = {
    "columns.json": column_vectors,
    "segments.json": segment_vectors,
    "messages.json": message_vectors,
    "chains.json": chain_vectors,
    "rows.json": row_vectors,
    "merges.json": merge_vectors,
    "uuid7.json": uuid_vectors,
}


def main(arguments: Sequence[str]) -> int:
    """Write the files."""
    parser = argparse.ArgumentParser(description="Write the test vectors.")
    parser.add_argument("--freeze", action="store_true", help="write the hashes of messages and tables as well")
    if parser.parse_args(arguments).freeze:
        freeze()
    FOLDER.mkdir(exist_ok=True)
    for name, make in VECTORS.items():
        write(FOLDER / name, make())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
