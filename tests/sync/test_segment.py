"""Segments: what goes in comes out, in order; whatever else comes raises errors of the tree and costs little."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync import columns
from sync.builder import SegmentBuilder
from sync.change import NEVER, Delete, Edit, Insert, Op, Transaction, Update
from sync.encoding import encode_column
from sync.errors import Malformed, MalformedBlock, OutpostError, TooLarge
from sync.limits import SEGMENT_ROWS_MAX, TABLES_MAX, VALUE_BYTES_MAX
from sync.messages import Inserts, Segment, Values
from sync.rows import columns_of, mark_raw, rows_of, tuple_of, values_of
from sync.segment import read_segment, transactions
from sync.values import RawText, Value
from sync.wire import pack
from tests.vectors.making.segments import VALID_SEGMENTS, invalid_segments, sealed

KEYS = {"a": ("id",), "b": ("k1", "k2"), "c": ("id",)}
CELLS = {"name": ("name",), "place": ("street", "city")}

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
VALUES: st.SearchStrategy[Value] = (
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT | st.binary(max_size=4) | st.just(RawText(b"\xff\0"))
)
TIMES = st.integers(-(2**40), 2**45)
PARTS = st.lists(TEXT, min_size=1, max_size=1).map(tuple)


@st.composite
def changes(draw: st.DrawFn, base: int) -> list[Op]:
    """Changes of one transaction: each row once, in any order."""
    ops: list[Op] = []
    for table, key_columns in KEYS.items():
        for key in draw(st.lists(st.tuples(*[TEXT] * len(key_columns)), max_size=3, unique=True)):
            below, since = draw(st.integers(NEVER, base)), draw(st.integers(NEVER, 9))
            match draw(st.sampled_from(["insert", "update", "delete"])):
                case "insert":
                    others = draw(st.dictionaries(st.sampled_from(["name", "street", "city"]), VALUES))
                    ops.append(Insert(table, key, {**dict(zip(key_columns, key, strict=True)), **others}, below, since))
                case "update":
                    names = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, unique=True))
                    edits = [draw(edits_of(name, below, since)) for name in names]
                    ops.append(Update(table, key, edits))
                case _:
                    ops.append(Delete(table, key, below, since))
    return draw(st.permutations(ops))


@st.composite
def edits_of(draw: st.DrawFn, cell: str, base: int, since: int) -> Edit:
    values = st.tuples(*[VALUES] * len(CELLS[cell]))
    return Edit(cell, CELLS[cell], draw(values), draw(values), base, since, draw(TIMES))


@st.composite
def works(draw: st.DrawFn) -> list[Transaction]:
    found = []
    for index in range(draw(st.integers(1, 4))):
        base = draw(st.integers(0, 20))
        found.append(
            Transaction(
                index, 5 + index, draw(TIMES), base, draw(changes(base)), draw(st.lists(st.binary(min_size=16, max_size=16), max_size=2))
            )
        )
    return found


def in_order(found: list[Transaction]) -> list[Transaction]:
    """The same transactions with their changes in the order they apply: by block, blocks in the order they first came."""
    blocks: dict[Any, int] = {}
    for work in found:
        for op in work.ops:
            match op:
                case Insert():
                    blocks.setdefault((op.table, tuple(op.values)), len(blocks))
                case Update():
                    for edit in op.edits:
                        blocks.setdefault((op.table, edit.cell), len(blocks))
                case Delete():
                    blocks.setdefault(op.table, len(blocks))

    def place(op: Op) -> tuple[int, int]:
        match op:
            case Delete():
                return 0, blocks[op.table]
            case Insert():
                return 1, blocks[op.table, tuple(op.values)]
            case Update():
                op.edits.sort(key=lambda edit: blocks[op.table, edit.cell])
                return 2, blocks[op.table, op.edits[0].cell]

    for work in found:
        work.ops.sort(key=place)
    return found


def exact(found: list[Transaction]) -> str:
    """What makes transactions the same: types and every bit."""
    return repr(found)


@pytest.mark.covers("P-5.8", "P-5.10", "P-5.14")
@settings(deadline=None, max_examples=150)
@given(works())
def test_transactions_come_back_as_they_went(given_works: list[Transaction]) -> None:
    opened = read_segment(sealed(given_works, first=5))
    assert exact(transactions(opened, KEYS)) == exact(in_order(given_works))


@settings(deadline=None, max_examples=50)
@given(works(), st.data())
def test_some_transactions_are_those_among_all(given_works: list[Transaction], data: st.DataObject) -> None:
    opened = read_segment(sealed(given_works, first=5))
    wanted = data.draw(st.sets(st.integers(0, 6)))
    assert exact(transactions(opened, KEYS, wanted)) == exact([work for work in transactions(opened, KEYS) if work.index in wanted])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_segments_raise_errors_of_the_tree(data: st.DataObject) -> None:
    """Any element of a good segment replaced by anything: it is read or refused, never crashes."""
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(msgspec.msgpack.decode(_plain(VALID_SEGMENTS[3][3]))))
    target, steps = plain, data.draw(st.integers(1, 5))
    for _ in range(steps):
        at = data.draw(st.integers(0, len(target) - 1))
        if not isinstance(target[at], list) or not target[at]:
            break
        target = target[at]
    target[data.draw(st.integers(0, len(target) - 1))] = data.draw(ANYTHING)
    body = columns_frame(msgspec.msgpack.encode(plain))
    with contextlib.suppress(OutpostError):
        segment = read_segment(body)
        keys = {block.table: KEYS.get(block.table, block.columns[:1]) for block in segment.inserts}  # a damaged name is a name
        transactions(segment, keys)


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=4) | st.binary(max_size=20)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2), max_leaves=8
)


def _plain(found: list[Transaction]) -> bytes:
    from sync.wire import expand

    return expand(sealed(found), 1 << 20)


def columns_frame(plain: bytes) -> bytes:
    from sync.wire import compress

    return compress(plain)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_garbage_raises_errors_of_the_tree(data: bytes) -> None:
    for body in (data, columns_frame(data or b"\0")):
        with pytest.raises(OutpostError):
            read_segment(body)


# --- what a peer can do to memory ------------------------------------------------------------------------------------------


@pytest.mark.covers("P-3.2", "C-8")
@pytest.mark.parametrize("vector", [v for v in invalid_segments() if v[0] == "P-3.2"], ids=lambda vector: vector[1])
def test_what_is_too_large_is_refused_in_little_memory(vector: tuple[str, str, bytes, str]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(OutpostError):
            read_segment(vector[2])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * VALUE_BYTES_MAX


def _one_column(values: columns.Column, count: int) -> bytes:
    same, nevers = columns.Integers(0, b""), columns.Integers(NEVER, b"")
    block = Inserts("a", ("id",), count, same, nevers, nevers, (values,))
    return pack(Segment(bytes(16), 1, 1, 1, 0, encode_column([0]), encode_column([0]), (), (), (block,), (), ()))


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        pytest.param("x" * VALUE_BYTES_MAX, True, id="ascii-at-the-bound"),
        pytest.param("x" * (VALUE_BYTES_MAX + 1), False, id="ascii-beyond"),
        pytest.param("й" * (VALUE_BYTES_MAX // 2), True, id="two-bytes-each-at-the-bound"),
        pytest.param("й" * (VALUE_BYTES_MAX // 2 + 1), False, id="two-bytes-each-beyond"),
        pytest.param(b"\0" * VALUE_BYTES_MAX, True, id="blob-at-the-bound"),
        pytest.param(b"\0" * (VALUE_BYTES_MAX + 1), False, id="blob-beyond"),
        pytest.param(RawText(b"\xff" * (VALUE_BYTES_MAX + 1)), False, id="raw-text-beyond"),
        pytest.param(RawText(b"\xff" * VALUE_BYTES_MAX), True, id="raw-text-at-the-bound"),
    ],
)
@pytest.mark.covers("P-3.2")
def test_a_value_is_measured_in_bytes(value: Value, fits: bool) -> None:
    body = _one_column(encode_column([value, None]), 2)
    if fits:
        assert read_segment(body).inserts[0].values == [[value, None]]
    else:
        with pytest.raises(TooLarge):
            read_segment(body)


@pytest.mark.covers("C-8", "P-3.2")
@pytest.mark.parametrize("text", ["x" * 2000, "й" * 1000], ids=["ascii", "cyrillic"])
def test_a_constant_column_is_measured_as_often_as_it_stands(text: str) -> None:
    column = columns.Dictionary(1, columns.Texts([text]), b"")
    assert len(read_segment(_one_column(column, 30_000)).inserts[0].values[0]) == 30_000
    with pytest.raises(TooLarge):
        read_segment(_one_column(column, SEGMENT_ROWS_MAX))


def test_a_constant_column_is_shared_not_copied() -> None:
    values = read_segment(_one_column(columns.Dictionary(1, columns.Texts(["x" * 1000]), b""), 5_000)).inserts[0].values[0]
    assert len({id(value) for value in values}) == 1


@pytest.mark.covers("P-3.2")
@pytest.mark.parametrize(
    ("blocks", "columns_", "rows", "fits"),
    [
        pytest.param(1, 500, 24_000, True, id="values-at-the-bound"),
        pytest.param(1, 500, 24_001, False, id="values-beyond"),
        pytest.param(200, 500, 0, True, id="columns-at-the-bound"),
        pytest.param(200, 501, 0, False, id="a-column-too-many"),
        pytest.param(201, 500, 0, False, id="columns-beyond"),
        pytest.param(4_001, 1, 0, False, id="a-block-too-many"),
    ],
)
def test_what_a_few_bytes_stand_for_is_bounded(blocks: int, columns_: int, rows: int, fits: bool) -> None:
    """Found by fuzzing: 497 bytes stood for 25 million NULLs and took the centre a minute and 1.8 GB."""
    names = tuple(f"c{number}" for number in range(columns_))
    none = encode_column([0] * rows)
    block = Inserts("a", names, rows, none, none, none, (columns.Nulls(),) * columns_)
    body = pack(Segment(bytes(16), 1, 1, 1, 0, encode_column([1]), encode_column([0]), (), (), (block,) * blocks, (), ()))
    if fits:
        assert read_segment(body).inserts[0].count == rows
    else:
        with pytest.raises((TooLarge, Malformed)):
            read_segment(body)


@pytest.mark.covers("P-4.9")
def test_a_change_may_know_as_much_as_its_own_transaction_only() -> None:
    """The bases of other transactions of the segment do not help."""
    known = [Transaction(0, 1, 0, 3, [Delete("a", ("x",), 3, 1)]), Transaction(1, 2, 0, 9, [Delete("a", ("y",), 9, 2)])]
    assert len(transactions(read_segment(sealed(known)), KEYS)) == 2
    known[0].ops = [Delete("a", ("x",), 4, 1)]
    with pytest.raises(MalformedBlock):
        read_segment(sealed(known))


def test_a_long_key_of_a_change_is_no_reason_to_refuse_a_segment() -> None:
    """It would be refused for ever; the centre holds the transaction instead."""
    work = Transaction(
        0, 1, 0, 0, [Delete("a", ("k" * 600,), 0, 1), Update("a", ("k" * 601,), [Edit("name", ("name",), (1,), (2,), 0, 1, 0)])]
    )
    assert len(transactions(read_segment(sealed([work])), KEYS)[0].ops) == 2


# --- the builder's fast way, raw text, a few values ----------------------------------------------------------------------------


def test_rows_added_at_once_are_those_added_one_by_one() -> None:
    rows = [("1", "x", "beyond"), ("2", "a\0b", "beyond")]
    at_once, one_by_one = SegmentBuilder(), SegmentBuilder()
    at_once.begin_many(2, 7, 3)
    at_once.insert_rows("a", ("id", "name"), rows, [0, 1])
    for key, name, _ in rows:
        one_by_one.add(one_by_one.begin(7, 3), Insert("a", (key,), {"id": key, "name": name}))
    assert at_once.build(bytes(16), 1, 1) == one_by_one.build(bytes(16), 1, 1)
    assert (at_once.rows, at_once.transactions) == (one_by_one.rows, one_by_one.transactions) == (2, 2)


def test_a_segment_without_rows_is_one_of_decisions() -> None:
    builder = SegmentBuilder()
    builder.decide(builder.begin(0, 0), bytes(16))
    opened = read_segment(builder.build(bytes(16), 1, 1))
    assert transactions(opened, {})[0].decisions == [bytes(16)]
    assert builder.rows == 0


@pytest.mark.covers("P-5.5", "P-5.14")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("й", "й", id="clean"),
        pytest.param("a\0b", RawText(b"a\0b"), id="nul"),
        pytest.param("\udccf\udcf0", RawText(b"\xcf\xf0"), id="not-utf8"),
        pytest.param("\udcd0\udcb9", "й", id="escapes-that-are-clean-together"),
        pytest.param(None, None, id="null"),
        pytest.param(b"a\0b", b"a\0b", id="blob"),
    ],
)
def test_raw_text_keeps_its_bytes(text: Any, value: Value) -> None:
    for neighbours in ([], ["clean"], [None], [1, b"x"], ["я"]):
        marked = list(mark_raw([*neighbours, text]))
        assert marked == [*neighbours, value]
    assert tuple_of(values_of([text])) == (value,)


def test_raw_text_that_is_marked_already_stays() -> None:
    assert list(mark_raw([RawText(b"\xff"), "a"])) == [RawText(b"\xff"), "a"]


def test_no_values_and_none() -> None:
    assert (values_of(None), tuple_of(None), tuple_of(values_of([]))) == (None, None, ())
    assert list(mark_raw([])) == []
    assert columns_of([], 2) == (columns.Nulls(), columns.Nulls())


@pytest.mark.covers("P-4.6")
@pytest.mark.parametrize(
    ("values", "error"),
    [
        pytest.param(Values(TABLES_MAX + 1, columns.Nulls()), MalformedBlock, id="too-many"),
        pytest.param(Values(2**53, columns.Nulls()), MalformedBlock, id="far-too-many"),
        pytest.param(Values(2, columns.Texts(["a"])), MalformedBlock, id="count-is-not-that-of-the-column"),
        pytest.param(Values(1, columns.Mixed(b"\6", [], [], [], [], [])), MalformedBlock, id="malformed-column"),
        pytest.param(Values(100, columns.Dictionary(1, columns.Texts(["x" * VALUE_BYTES_MAX]), b"")), TooLarge, id="too-long"),
    ],
)
def test_a_few_malformed_values(values: Values, error: type[OutpostError]) -> None:
    with pytest.raises(error):
        tuple_of(values)


@pytest.mark.parametrize(
    ("block", "count", "width", "error"),
    [
        pytest.param((columns.Nulls(),), 2, 2, MalformedBlock, id="a-column-missing"),
        pytest.param((columns.Texts(["a"]),), 2, 1, MalformedBlock, id="a-row-missing"),
        pytest.param((columns.Dictionary(1, columns.Texts(["x" * VALUE_BYTES_MAX]), b""),), 100, 1, TooLarge, id="too-long"),
    ],
)
def test_a_malformed_block_of_a_page(block: Any, count: int, width: int, error: type[OutpostError]) -> None:
    with pytest.raises(error):
        rows_of(block, count, width)


def test_a_block_of_a_page_column_by_column() -> None:
    assert rows_of(columns_of([("a", 1), ("b", None)], 2), 2, 2) == [["a", "b"], [1, None]]


def test_not_a_segment_at_all() -> None:
    with pytest.raises(Malformed):
        read_segment(pack(Values(0, columns.Nulls())))


@pytest.mark.covers("P-5.9")
def test_blocks_suit_every_transaction_of_the_segment() -> None:
    """The first transaction brings a child only: the second one's parent must come before its child all the same."""
    builder = SegmentBuilder({"contact": 1, "activity": 2})
    works = [
        [Insert("activity", ("a0",), {"id": "a0"}), Delete("contact", ("c8",), 0, 1)],
        [
            Insert("contact", ("c2",), {"id": "c2"}),
            Insert("activity", ("a2",), {"id": "a2"}),
            Delete("activity", ("a9",), 0, 2),
            Delete("contact", ("c9",), 0, 2),
        ],
    ]
    for ops in works:
        index = builder.begin(0, 0)
        for op in ops:
            builder.add(index, op)
    found = transactions(read_segment(builder.build(bytes(16), 1, 1)), {"contact": ("id",), "activity": ("id",)}, [1])[0]
    assert [(type(op).__name__, op.table) for op in found.ops] == [
        ("Delete", "activity"),
        ("Delete", "contact"),
        ("Insert", "contact"),
        ("Insert", "activity"),
    ]
