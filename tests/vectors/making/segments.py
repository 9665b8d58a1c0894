"""The vectors of segments (PROTOCOL.md §4.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sync import columns
from sync.builder import SegmentBuilder
from sync.change import Delete, Edit, Insert, Op, Transaction, Update, Withdrawn
from sync.columns import Column
from sync.encoding import encode_column
from sync.limits import SEGMENT_ROWS_MAX, VALUE_BYTES_MAX
from sync.values import RawText, Value
from sync.wire import compress
from tests.vectors.making.shown import NOW, SEGMENT_ID, encode, value_json

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


def encoded(*values: Value) -> Column:
    return encode_column(values)


def _segment(**fields: Any) -> bytes:
    """Return a segment of one transaction, some fields of it replaced; no check stands in the way."""
    whole = {
        "id": SEGMENT_ID,
        "schema": 1,
        "first": 1,
        "transactions": 1,
        "part": 0,
        "wall": encoded(NOW),
        "base": encoded(0),
        "decisions": (),
        "deletes": (),
        "inserts": (),
        "updates": (),
        "withdrawals": (),
    }
    return compress(encode([*(whole | fields).values()]))


def _inserts(**fields: Any) -> list[Any]:
    one = {"table": "sale", "columns": ["id"], "count": 1, "transaction": encoded(0), "base": encoded(-1), "since": encoded(-1)}
    return [*({**one, "values": [encoded("s1")]} | fields).values()]


def _updates(**fields: Any) -> list[Any]:
    one = {"table": "contact", "cell": "name", "columns": ["name"], "count": 1, "transaction": encoded(0), "base": encoded(0)}
    more = {"since": encoded(1), "wall": encoded(NOW), "key": [encoded("c1")], "old": [encoded("a")], "new": [encoded("b")]}
    return [*(one | more | fields).values()]


def _deletes(**fields: Any) -> list[Any]:
    one = {"table": "contact", "count": 1, "transaction": encoded(0), "base": encoded(0), "since": encoded(1)}
    return [*({**one, "key": [encoded("c1")]} | fields).values()]


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
            _segment(part=1, transactions=2, wall=encoded(1, 1), base=encoded(0, 0)),
            "wire.malformed",
        ),
        ("P-4.10", "part 3", _segment(part=3), "wire.malformed"),
        ("P-4.10", "a decision of no transaction", _segment(decisions=[[1, bytes(16)]]), "wire.malformed"),
        ("P-4.10", "a withdrawal by no transaction", _segment(withdrawals=[[1, bytes(16), 0, True]]), "wire.malformed"),
        ("P-4.5", "a number for a bool", _segment(withdrawals=[[0, bytes(16), 0, 1]]), "wire.malformed"),
        ("P-4.7", "times that are not integers", _segment(wall=encoded(1.5)), "wire.column"),
        ("P-4.7", "times that are NULL", _segment(wall=columns.Nulls()), "wire.column"),
        ("P-4.7", "a time beyond all time", _segment(wall=encoded(2**62)), "wire.column"),
        ("P-4.7", "a time of an edit beyond all time", _segment(updates=[_updates(wall=encoded(-(2**62)))]), "wire.column"),
        ("P-4.7", "more times than transactions", _segment(wall=encoded("a", "b")), "wire.column"),
        ("P-4.7", "a row of transaction 1", _segment(inserts=[_inserts(transaction=encoded(1))]), "wire.column"),
        ("P-4.7", "a row of transaction -1", _segment(deletes=[_deletes(transaction=encoded(-1))]), "wire.column"),
        ("P-4.7", "a base that is a text", _segment(deletes=[_deletes(base=encoded("0"))]), "wire.column"),
        ("P-4.8", "a block without columns", _segment(inserts=[_inserts(columns=[], values=[])]), "wire.column"),
        ("P-4.8", "more values than columns", _segment(inserts=[_inserts(values=[encoded("a"), encoded("b")])]), "wire.column"),
        ("P-4.8", "fewer values than columns", _segment(updates=[_updates(new=[])]), "wire.column"),
        ("P-4.8", "a column twice", _segment(inserts=[_inserts(columns=["id", "id"], values=[encoded("a"), encoded("b")])]), "wire.column"),
        (
            "P-4.8",
            "a column twice in an update",
            _segment(updates=[_updates(columns=["a", "a"], old=[encoded(1)] * 2, new=[encoded(2)] * 2)]),
            "wire.column",
        ),
        ("P-4.8", "a delete without a key", _segment(deletes=[_deletes(key=[])]), "wire.column"),
        ("P-4.8", "an update without a key", _segment(updates=[_updates(key=[])]), "wire.column"),
        ("P-4.9", "a delete that has seen more than its transaction", _segment(deletes=[_deletes(base=encoded(1))]), "wire.column"),
        ("P-4.9", "an edit that has seen more than its transaction", _segment(updates=[_updates(base=encoded(7))]), "wire.column"),
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
