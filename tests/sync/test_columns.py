"""Columns: exact round trip, the form chosen, every rule of the decoder, and fuzzing of what a peer may send."""

import random
import struct
import uuid
from typing import Any, cast

import msgspec
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sync.columns import Blobs, Column, Deltas, Dictionary, Floats, Integers, MalformedColumn, Mixed, Nullable, Nulls, Texts, Uuids
from sync.decoding import decode_column
from sync.encoding import encode_column
from sync.errors import Malformed
from sync.limits import COLUMN_LIST_MAX
from sync.messages import Values
from sync.values import RawText, Value, text_value
from sync.wire import decode

READER: msgspec.msgpack.Decoder[Column] = msgspec.msgpack.Decoder(Column)
NAN_PLANES = struct.pack("<d", float("nan"))
ID = "0193a7c2-9d4e-7b11-8c3f-5a6b7c8d9e0f"

CHANCE = random.Random(20_261_121)


def id7(ms: int) -> str:
    head = (ms << 80) | (7 << 76) | (CHANCE.getrandbits(12) << 64) | (2 << 62) | CHANCE.getrandbits(62)
    return str(uuid.UUID(int=head))


IDS = [id7(1_760_000_000_000 + 977 * row) for row in range(300)]


def exact(values: list[Value]) -> list[tuple[type, object]]:
    """What makes two values the same value: the type, and every bit."""
    return [(type(value), struct.pack("<d", value) if isinstance(value, float) else value) for value in values]


def through_the_wire(values: list[Value]) -> tuple[Column, list[Value]]:
    column = READER.decode(msgspec.msgpack.encode(encode_column(values)))
    return column, decode_column(column, len(values))


# ---- round trip

CLEAN = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False)
RAW = st.binary(max_size=12).map(text_value).filter(lambda value: isinstance(value, RawText))
UUID = st.uuids().map(str)
KINDS: list[st.SearchStrategy[Value]] = [
    st.none(),
    INT64,
    st.integers(0, 300),
    FLOAT,
    st.sampled_from([0.0, -0.0]),
    CLEAN,
    st.sampled_from(["sale", "return", ID]),
    UUID,
    UUID | st.text("0123456789abcdefABCDEF-\n", min_size=35, max_size=37),
    st.binary(max_size=12),
    st.sampled_from([b"", b"\0", b"x"]),
    RAW,
]
COLUMNS = st.lists(st.sampled_from(KINDS), min_size=1, max_size=4).flatmap(lambda kinds: st.lists(st.one_of(kinds)))


@settings(deadline=None)
@given(COLUMNS)
@example([1, 1.0, 0.0, -0.0, 0])
@example(["a" * 35 + "\n" + "b" * 36, ID])
def test_what_goes_in_comes_out_exactly(values: list[Value]) -> None:
    assert exact(through_the_wire(values)[1]) == exact(values)


@settings(deadline=None)
@given(st.lists(INT64, min_size=2), st.integers(0, 2**63 - 1), st.integers(0, 2**40))
def test_running_numbers_come_out_exactly(jitter: list[int], first: int, step: int) -> None:
    values: list[Value] = [min(first + step * row + abs(j) % 50, 2**63 - 1) for row, j in enumerate(jitter)]
    assert exact(through_the_wire(values)[1]) == exact(values)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([], id="no-row"),
        pytest.param([None], id="one-null"),
        pytest.param([2**63 - 1, -(2**63)], id="whole-int64-range"),
        pytest.param([-(2**63), 2**63 - 1], id="whole-int64-range-rising"),
        pytest.param([2**63 - 1], id="greatest"),
        pytest.param([-(2**63)] * 3, id="least"),
        pytest.param([1e-308, 5e-324, 0.1 + 0.2, -0.0, float("inf"), float("-inf"), 1.7976931348623157e308], id="floats"),
        pytest.param([0.0, -0.0], id="two-zeros-are-not-constant"),
        pytest.param(["", "", "a"], id="empty-text"),
        pytest.param(["🏪", "👩‍👩‍👧", "й", "й", "Straße"], id="emoji-and-two-ways-to-write-й"),
        pytest.param([ID.upper()] * 2, id="upper-case-id-as-typed"),
        pytest.param([ID, ID.upper()], id="one-id-upper-case"),
        pytest.param(["0193a7c29-d4e-7b11-8c3f-5a6b7c8d9e0f"], id="dashes-elsewhere"),
        pytest.param(["0193a7c2-9d4e-7b11-8c3f-5a6b7c8d9e0 "], id="blank-in-id"),
        pytest.param(["0193a7c2-9d4e-7b11-8c3f-5a6b7c8d9e0٣"], id="arabic-digit-in-id"),
        pytest.param(["0193a7c2-9d4e-7b11-8c3f-5a6b7c8d9-0f"], id="a-fifth-dash"),
        pytest.param([ID[:35], ID + "0"], id="ids-too-short-and-too-long"),
        pytest.param([RawText(b"\xff"), "ok", None], id="raw-text"),
        pytest.param([b"a", "a"], id="blob-and-text"),
        pytest.param(["a", -(2**63), 2**63 - 1], id="int64-range-among-others"),
    ],
)
def test_edges_come_out_exactly(values: list[Value]) -> None:
    assert exact(through_the_wire(values)[1]) == exact(values)


# ---- the form chosen

FORMS: list[Any] = [
    pytest.param([], Nulls(), id="no-row"),
    pytest.param([None] * 3, Nulls(), id="nulls"),
    pytest.param([7, 7, 7], Integers(7, b""), id="constant-integer"),
    pytest.param([5, 7, 300], Integers(0, b"\x05\x07\x2c\0\0\1"), id="integers-in-planes"),
    pytest.param([-1, 200, 3], Integers(-1, b"\0\xc9\x04"), id="integers-from-a-base"),
    pytest.param([1000, 1500, 2100], Deltas(1000, 500, b"\0\x64"), id="deltas"),
    pytest.param(
        [70_000, 70_001, 270_000],
        Integers(0, b"\x70\x71\xb0\x11\x11\x1e\1\1\4"),
        id="differences-no-narrower-are-not-taken",
    ),
    pytest.param([-(2**63), 2**63 - 1], Integers(-(2**63), b"\0\xff" * 8), id="step-beyond-64-bits"),
    pytest.param([1.5], Floats(struct.pack("<d", 1.5)), id="one-float"),
    pytest.param([1.5] * 9, Dictionary(1, Floats(struct.pack("<d", 1.5)), b""), id="constant-float"),
    pytest.param(["EUR"] * 9, Dictionary(1, Texts(["EUR"]), b""), id="constant-text"),
    pytest.param(["EUR"], Texts(["EUR"]), id="one-text"),
    pytest.param(["b", "a", "b", "b"], Dictionary(2, Texts(["b", "a"]), b"\0\1\0\0"), id="dictionary"),
    pytest.param(["a", "b", "c", "d", "d"], Texts(["a", "b", "c", "d", "d"]), id="too-few-repeat"),
    pytest.param([b"b", b"b", b"a"], Dictionary(2, Blobs([b"b", b"a"]), b"\0\0\1"), id="dictionary-of-blobs"),
    pytest.param([b"b", b"a"], Blobs([b"b", b"a"]), id="blobs"),
    pytest.param([ID], Uuids(bytes.fromhex(ID.replace("-", ""))), id="uuid"),
    pytest.param([None, 7], Nullable(b"\x02", Integers(7, b"")), id="nullable"),
    pytest.param([None] * 8 + ["a"], Nullable(b"\0\1", Texts(["a"])), id="nullable-ninth-row"),
    pytest.param([1, 1.0, RawText(b"\xff")], Mixed(b"\1\2\5", [1], [1.0], [], [], [b"\xff"]), id="mixed-keeps-1-and-1.0-apart"),
    pytest.param([None, b"x", "y"], Mixed(b"\0\4\3", [], [], ["y"], [b"x"], []), id="mixed-null-blob-text"),
    pytest.param([None, RawText(b"\0")], Mixed(b"\0\5", [], [], [], [], [b"\0"]), id="raw-text-and-null"),
]


@pytest.mark.parametrize(("values", "column"), FORMS)
def test_the_form_fits_the_values(values: list[Value], column: Column) -> None:
    assert through_the_wire(values) == (column, values)


def test_ids_that_repeat_become_a_dictionary_of_ids() -> None:
    values: list[Value] = [IDS[row % 300] for row in range(900)]
    column, back = through_the_wire(values)
    assert isinstance(column, Dictionary)
    assert (column.size, type(column.values), len(column.indexes)) == (300, Uuids, 2 * 900)
    assert back == values


def test_all_different_is_found_without_building_a_dictionary() -> None:
    assert isinstance(encode_column(IDS), Uuids)


def test_runs_are_found_where_samples_from_all_over_the_block_differ() -> None:
    values: list[Value] = [f"receipt {row // 3}" for row in range(3000)]
    assert isinstance(encode_column(values), Dictionary)


@pytest.mark.parametrize(("size", "width"), [(2, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4)])
def test_indexes_are_as_wide_as_the_dictionary_needs(size: int, width: int) -> None:
    values: list[Value] = ["0", "0", *map(str, range(size)), *map(str, range(size))]
    column, back = through_the_wire(values)
    assert isinstance(column, Dictionary)
    assert (column.size, len(column.indexes)) == (size, width * len(values))
    assert back == values


def test_one_other_value_where_no_sample_looks_is_kept() -> None:
    values: list[Value] = ["a"] * 3000
    values[1001] = "b"
    assert through_the_wire(values)[1] == values


def test_a_mix_of_small_and_great_steps_stays_plain() -> None:
    """The first rows run, a later one jumps: the differences are as wide as the values."""
    values: list[Value] = [*range(1_000_000, 1_000_200), 0, 16_000_000]
    assert isinstance(encode_column(values), Integers)


@pytest.mark.parametrize(
    ("values", "packed"),
    [
        ([None, None], "91 00"),
        ([5, 7, 300], "93 01 00 c4 06 05 07 2c 00 00 01"),
        ([1000, 1500, 2100], "94 02 cd 03 e8 cd 01 f4 c4 02 00 64"),
        (["EUR", "EUR"], "94 08 01 92 04 91 a3 45 55 52 c4 00"),
        ([None, 7], "93 09 c4 01 02 93 01 07 c4 00"),
        ([1, 1.0, RawText(b"\xff")], "97 07 c4 03 01 02 05 91 01 91 cb 3f f0 00 00 00 00 00 00 90 90 91 c4 01 ff"),
    ],
)
def test_examples_of_the_specification(values: list[Value], packed: str) -> None:
    assert msgspec.msgpack.encode(encode_column(values)).hex(" ") == packed
    assert decode_column(READER.decode(bytes.fromhex(packed)), len(values)) == values


def test_a_block_of_sales_takes_at_most_36_bytes_a_row() -> None:
    rows = 10_000
    contacts = [id7(1_750_000_000_000 + CHANCE.randrange(10**10)) for _ in range(2000)]
    staff = contacts[:20]
    totals = [CHANCE.randrange(100, 500_000) for _ in range(rows)]
    days = [f"2026-10-{1 + row * 7 // rows:02}" for row in range(rows)]
    times = [1_760_000_000_000 + 30_000 * row + CHANCE.randrange(30_000) for row in range(rows)]
    block: list[list[Value]] = [
        [id7(ms) for ms in times],
        [f"LON-T{CHANCE.randrange(3)}-{row:06}" for row in range(rows)],
        [CHANCE.choice(["sale", "sale", "sale", "return"]) for _ in range(rows)],
        [IDS[0]] * rows,
        [CHANCE.choice(["T1", "T2", "T3"]) for _ in range(rows)],
        [CHANCE.choice(staff) for _ in range(rows)],
        [CHANCE.choice(contacts) for _ in range(rows)],
        list(times),
        list(days),
        ["GBP"] * rows,
        list(totals),
        [total // 6 for total in totals],
        [None] * rows,
    ]
    packed = msgspec.msgpack.encode([encode_column(values) for values in block])
    assert len(zstandard.ZstdCompressor(3).compress(packed)) <= 36 * rows
    columns = msgspec.msgpack.decode(packed, type=list[Column])
    assert [decode_column(column, rows) for column in columns] == block


# ---- our own mistakes


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([float("nan")], id="nan"),
        pytest.param([float("nan"), "a"], id="nan-among-others"),
        pytest.param([2**63], id="beyond-64-bits"),
        pytest.param([-(2**63) - 1, 0], id="below-64-bits"),
        pytest.param([2**63, "a"], id="beyond-64-bits-among-others"),
        pytest.param(["a\0"], id="nul-in-str"),
        pytest.param(["\ud800", 1], id="surrogate-among-others"),
        pytest.param([RawText(b"fine")], id="raw-text-that-is-clean"),
    ],
)
def test_what_no_cell_holds_is_not_sent(values: list[Value]) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        encode_column(values)


@pytest.mark.parametrize("values", [[True], [1, True], [None, False], [bytearray(b"x")], ["a", (1,)]])
def test_what_is_not_a_value_is_a_mistake(values: list[Any]) -> None:
    with pytest.raises(TypeError, match="not a value"):
        encode_column(values)


# ---- malformed columns

MALFORMED: list[Any] = [
    pytest.param(Integers(0, b"\0\0\0"), 2, id="integers-over"),
    pytest.param(Integers(0, b"\0" * 18), 2, id="integers-nine-planes"),
    pytest.param(Integers(0, b"\0"), 0, id="integers-no-row-but-bytes"),
    pytest.param(Integers(2**63 - 1, b"\0\1"), 2, id="integer-beyond-64-bits"),
    pytest.param(Integers(2**63, b""), 2, id="constant-beyond-64-bits"),
    pytest.param(Integers(-(2**63) - 1, b"\1"), 1, id="base-beyond-64-bits"),
    pytest.param(Integers(0, b"\xff" * 8), 1, id="offset-beyond-64-bits"),
    pytest.param(Deltas(0, 0, b""), 0, id="deltas-no-row"),
    pytest.param(Deltas(0, 0, b"\0\0\0"), 3, id="deltas-over"),
    pytest.param(Deltas(0, 0, b"\0"), 1, id="deltas-one-row-but-bytes"),
    pytest.param(Deltas(2**63 - 1, 1, b""), 2, id="deltas-run-beyond-64-bits"),
    pytest.param(Deltas(-(2**63), -1, b""), 2, id="deltas-run-below-64-bits"),
    pytest.param(Deltas(0, 2**63, b""), 1, id="step-beyond-64-bits"),
    pytest.param(Deltas(0, -(2**63) - 1, b""), 1, id="step-below-64-bits"),
    pytest.param(Floats(b"\0" * 9), 1, id="floats-over"),
    pytest.param(Floats(b"\0" * 4), 1, id="floats-of-four-bytes"),
    pytest.param(Floats(NAN_PLANES), 1, id="nan"),
    pytest.param(Texts(["a"]), 2, id="texts-short"),
    pytest.param(Texts(["a", "b"]), 1, id="texts-long"),
    pytest.param(Texts(["a\0"]), 1, id="text-with-nul"),
    pytest.param(Texts(["\ud800"]), 1, id="text-with-surrogate"),
    pytest.param(Uuids(b"\0" * 15), 1, id="uuids-short"),
    pytest.param(Uuids(b"\0" * 32), 1, id="uuids-long"),
    pytest.param(Blobs([]), 1, id="blobs-short"),
    pytest.param(Mixed(b"\0", [], [], [], [], []), 2, id="mixed-kinds-short"),
    pytest.param(Mixed(b"\6", [], [], [], [], []), 1, id="mixed-kind-unknown"),
    pytest.param(Mixed(b"\1", [], [], [], [], []), 1, id="mixed-list-short"),
    pytest.param(Mixed(b"\0", [1], [], [], [], []), 1, id="mixed-list-long"),
    pytest.param(Mixed(b"\1", [2**63], [], [], [], []), 1, id="mixed-beyond-64-bits"),
    pytest.param(Mixed(b"\1", [-(2**63) - 1], [], [], [], []), 1, id="mixed-below-64-bits"),
    pytest.param(Mixed(b"\2", [], [float("nan")], [], [], []), 1, id="mixed-nan"),
    pytest.param(Mixed(b"\3", [], [], ["\0"], [], []), 1, id="mixed-text-not-clean"),
    pytest.param(Mixed(b"\5", [], [], [], [], [b"clean"]), 1, id="mixed-raw-text-clean"),
    pytest.param(Dictionary(0, Texts([]), b""), 1, id="dictionary-empty"),
    pytest.param(Dictionary(1, Texts(["a"]), b""), 0, id="dictionary-no-row"),
    pytest.param(Dictionary(2, Texts(["a", "b"]), b"\0"), 1, id="dictionary-greater-than-rows"),
    pytest.param(Dictionary(2, Texts(["a"]), b"\0\0"), 2, id="dictionary-values-short"),
    pytest.param(Dictionary(1, Texts(["a"]), b"\0\0"), 2, id="dictionary-constant-with-indexes"),
    pytest.param(Dictionary(2, Texts(["a", "b"]), b"\0\2"), 2, id="dictionary-index"),
    pytest.param(Dictionary(2, Texts(["a", "b"]), b"\0\0\0\0"), 2, id="dictionary-indexes-too-wide"),
    pytest.param(Nullable(b"", Texts([])), 1, id="nullable-bits-short"),
    pytest.param(Nullable(b"\0\0", Texts([])), 8, id="nullable-bits-long"),
    pytest.param(Nullable(b"\2", Texts(["a"])), 1, id="nullable-bit-beyond-rows"),
    pytest.param(Nullable(b"\1", Texts(["a", "b"])), 2, id="nullable-rest-long"),
    pytest.param(Nullable(b"\3", Texts(["a"])), 2, id="nullable-rest-short"),
]


@pytest.mark.parametrize(("column", "count"), MALFORMED)
def test_a_column_that_breaks_a_rule_is_refused(column: Column, count: int) -> None:
    with pytest.raises(MalformedColumn) as caught:
        decode_column(column, count)
    assert isinstance(caught.value, ValueError)
    assert caught.value.code == "wire.column"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([10], id="tag"),
        pytest.param([0, 1], id="one-field-too-many"),
        pytest.param([1, 0], id="one-field-too-few"),
        pytest.param([4, [b"a"]], id="blob-among-texts"),
        pytest.param([7, b"\1", [True], [], [], [], []], id="bool"),
        pytest.param([8, 1, [8, 1, [4, ["a"]], b""], b""], id="dictionary-in-dictionary"),
        pytest.param([9, b"\1", [9, b"\1", [4, ["a"]]]], id="nullable-in-nullable"),
        pytest.param([9, b"\1", [0]], id="nulls-in-nullable"),
        pytest.param([8, 1, [1, 0, b""], b""], id="integers-in-dictionary"),
    ],
)
def test_shape_and_nesting_are_checked_by_the_types(wrong: list[object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        READER.decode(msgspec.msgpack.encode(wrong))


def test_no_row_may_be_written_in_most_forms() -> None:
    empty: list[Column] = [Nulls(), Integers(5, b""), Floats(b""), Texts([]), Uuids(b""), Blobs([])]
    empty += [Mixed(b"", [], [], [], [], []), Nullable(b"", Texts([]))]
    assert [decode_column(column, 0) for column in empty] == [[]] * 8


def test_forms_the_encoder_does_not_pick_are_understood() -> None:
    assert decode_column(Dictionary(2, Floats(b"\0" * 15 + b"\x40"), b"\1\0"), 2) == [2.0, 0.0]
    assert decode_column(Nullable(b"\0", Integers(5, b"")), 3) == [None] * 3
    assert decode_column(Deltas(9, -3, b""), 4) == [9, 6, 3, 0]
    assert decode_column(Integers(0, b"\7\0\0\0\0\0\0\0"), 1) == [7]


# ---- fuzz: whatever a peer sends, MalformedColumn or `count` legal values

BYTES = st.binary(max_size=40)
SOME_INT = st.integers(-(2**64), 2**64) | st.integers(-3, 9)
FLAT = (
    st.builds(Floats, BYTES)
    | st.builds(Texts, st.lists(st.text(max_size=3), max_size=5))
    | st.builds(Uuids, BYTES)
    | st.builds(Blobs, st.lists(BYTES, max_size=5))
)
FILLED = (
    FLAT
    | st.builds(Integers, SOME_INT, BYTES)
    | st.builds(Deltas, SOME_INT, SOME_INT, BYTES)
    | st.builds(Dictionary, SOME_INT, FLAT, st.binary(max_size=12))
)
MIXED = st.builds(
    Mixed,
    st.text("\0\1\2\3\4\5\6", max_size=6).map(str.encode),
    st.lists(SOME_INT, max_size=2),
    st.lists(st.floats(), max_size=2),
    st.lists(st.text(max_size=2), max_size=2),
    st.lists(BYTES, max_size=2),
    st.lists(BYTES, max_size=2),
)
ANY_COLUMN = FILLED | MIXED | st.just(Nulls()) | st.builds(Nullable, st.binary(max_size=3), FILLED)


def decode_or_refuse(column: Column, count: int) -> None:
    try:
        values = decode_column(column, count)
    except MalformedColumn:
        return
    assert len(values) == count
    assert exact(through_the_wire(values)[1]) == exact(values)  # so every value is a legal one


@settings(deadline=None)
@given(ANY_COLUMN, st.integers(0, 24))
def test_any_structure_is_decoded_or_refused(column: Column, count: int) -> None:
    decode_or_refuse(column, count)


@settings(deadline=None)
@given(COLUMNS, st.data())
def test_a_damaged_column_is_decoded_or_refused(values: list[Value], data: st.DataObject) -> None:
    packed = bytearray(msgspec.msgpack.encode(encode_column(values)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(packed)))
        packed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        column = READER.decode(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    decode_or_refuse(column, data.draw(st.sampled_from([len(values), max(len(values) - 1, 0), len(values) + 1])))


def test_a_great_count_costs_nothing_where_the_lengths_disagree() -> None:
    """The block's N is a peer's claim: no form but a constant reserves memory for it before the lengths are checked."""
    for column in (Integers(0, b"\0"), Floats(b""), Texts([]), Uuids(b""), Blobs([]), Nullable(b"", Texts([]))):
        with pytest.raises(MalformedColumn):
            decode_column(cast(Column, column), 2**40)
    with pytest.raises(MalformedColumn):
        decode_column(Mixed(b"", [], [], [], [], []), 2**40)


@pytest.mark.covers("C-3", "P-3.2")
@pytest.mark.parametrize(("head", "unit"), [(b"\x92\x04", b"\xa0"), (b"\x92\x06", b"\xc4\0"), (b"\x97\x07\xc4\0", b"\0")])
def test_a_list_longer_than_any_block_is_refused_by_its_length(head: bytes, unit: bytes) -> None:
    """Found by fuzzing: 2 KB of frame asked for a list of 67 million texts and 580 MB before anything looked at the rows."""
    data = b"\x92\1" + head + b"\xdd" + (COLUMN_LIST_MAX + 1).to_bytes(4, "big") + unit * (COLUMN_LIST_MAX + 1) + b"\x90" * 4
    with pytest.raises(Malformed, match="length"):
        decode(Values, data)
