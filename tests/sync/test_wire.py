"""The wire: messages go through unchanged; whatever else comes ends in Malformed or TooLarge, cheaply."""

import contextlib
import math
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sync import wire
from sync.errors import Malformed, OutpostError, TooLarge
from sync.messages import JoinReply, JoinRequest, Message, Point, PullRequest, PushRequest, Told

MIB = 1024 * 1024
DIGEST = bytes(range(32))
ZERO = Point(0, bytes(32))
PULL = PullRequest(1, 3, bytes(16), Point(7, DIGEST), ZERO, None, 10_000, Told(1, 2, 3, 0))
JOIN = JoinRequest((1, 2), "код-1", DIGEST, bytes(16))
MAGIC = b"\x28\xb5\x2f\xfd"
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


class Values(Message, frozen=True):
    """A message with plain values, as conflict notices have them, and a flag."""

    values: tuple[Any, ...] | None
    flag: bool
    stamp: Any = None


def frame(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(level=3, **options).compress(data)


def undeclared(data: bytes) -> bytes:
    """Return a frame as a streaming compressor writes it: without its size."""
    return frame(data, write_content_size=False)


def declaring(size: int, blocks: bytes) -> bytes:
    """Return a frame with an 8-byte content size, a 1 MiB window and these blocks."""
    return MAGIC + bytes([0b1100_0000, 0b0101_0000]) + struct.pack("<Q", size) + blocks


def rle(byte: int, times: int, *, last: bool) -> bytes:
    return (times << 3 | 1 << 1 | last).to_bytes(3, "little") + bytes([byte])


@pytest.mark.parametrize("message", [PULL, ZERO, JOIN], ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_went(message: Message) -> None:
    assert wire.unpack(type(message), wire.pack(message)) == message


def test_the_bytes_of_a_message_are_these() -> None:
    """A vector: the point (7, 00 01 … 1f) is the array of an integer and 32 bytes."""
    assert wire.expand(wire.pack(Point(7, DIGEST)), 100) == bytes.fromhex("92 07 c4 20") + DIGEST


def test_json_holds_bytes_in_base64() -> None:
    text = wire.pack_json(JoinReply(1, "n1", "Лондон", 0, 1, bytes(32)))
    assert text == '[1,"n1","Лондон",0,1,"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]'.encode()
    asked = '[[1,2],"код-1","AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","AAAAAAAAAAAAAAAAAAAAAA=="]'
    assert wire.unpack_json(JoinRequest, asked.encode()) == JOIN


@given(st.binary(min_size=1, max_size=2000))
def test_whatever_is_compressed_expands_to_itself(data: bytes) -> None:
    assert wire.expand(wire.compress(data), len(data)) == data


@pytest.mark.parametrize("size", [1, 255, 256, 65_535, 65_536, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 20 * MIB])
def test_every_size_up_to_the_bound_expands(size: int) -> None:
    data = bytes(size)
    assert wire.expand(wire.compress(data), size) == data
    with pytest.raises(TooLarge):
        wire.expand(wire.compress(data), size - 1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0", id="zero-byte"),
        pytest.param(b"garbage, not a frame", id="garbage"),
        pytest.param(MAGIC, id="magic-only"),
        pytest.param(frame(b"hello")[:-1], id="cut"),
        pytest.param(frame(b"hello") + b"x", id="trailing-byte"),
        pytest.param(frame(b"hello") * 2, id="two-frames"),
        pytest.param(SKIPPABLE, id="skippable-frame"),
        pytest.param(SKIPPABLE + frame(b"hello"), id="skippable-frame-first"),
        pytest.param(b"\x50\x2a\x4d\x18\x05\0\0\0abcde" + frame(b"hello"), id="skippable-frame-of-the-same-size-first"),
        pytest.param(frame(b"hello") + SKIPPABLE, id="skippable-frame-last"),
        pytest.param(undeclared(b"hello"), id="size-not-stated"),
        pytest.param(undeclared(bytes(200 * MIB)), id="bomb-of-unstated-size"),
        pytest.param(frame(b""), id="nothing-in-it"),
        pytest.param(declaring(0, rle(0, 5, last=True)), id="states-nothing-holds-something"),
        pytest.param(declaring(4, rle(0, 5, last=True)), id="states-less"),
        pytest.param(declaring(6, rle(0, 5, last=True)), id="states-more"),
        pytest.param(declaring(5, rle(0, 5, last=False)), id="no-last-block"),
        pytest.param(declaring(1000, rle(0, 2**17, last=False) * 2000), id="bomb-that-states-little"),
        pytest.param(frame(b"hello", write_checksum=True)[:-1] + b"\0", id="checksum-wrong"),
        pytest.param(MAGIC + bytes([0b0010_0001, 7, 5]) + rle(0, 5, last=True), id="dictionary"),
        pytest.param(MAGIC + bytes([0b0010_1000, 5]) + rle(0, 5, last=True), id="reserved-bit"),
    ],
)
def test_what_is_not_one_whole_frame_that_states_its_size_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        wire.expand(data, MIB)


@pytest.mark.parametrize("data", [b"", b"garbage", SKIPPABLE, SKIPPABLE + frame(b"hello")])
def test_only_a_zstd_frame_is_looked_into(data: bytes) -> None:
    with pytest.raises(Malformed, match="is not a zstd frame"):
        wire.expand(data, MIB)


def test_the_frames_of_these_tests_are_frames_but_for_what_is_said_of_them() -> None:
    assert wire.expand(declaring(5, rle(0, 5, last=True)), 5) == bytes(5)
    assert wire.expand(frame(b"hello", write_checksum=True), 5) == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(bytes(200 * MIB)), id="200-MB"),
        pytest.param(declaring(2**63, rle(0, 5, last=True)), id="states-8-exabytes"),
        pytest.param(declaring(2**64 - 2, rle(0, 5, last=True)), id="states-16-exabytes"),
        pytest.param(MAGIC + bytes([0b0000_0000 | 0b1000_0000, 0b1010_0000, 5, 0, 0, 0]) + rle(0, 5, last=True), id="window"),
    ],
)
def test_what_would_expand_too_far_is_too_large(data: bytes) -> None:
    with pytest.raises(TooLarge):
        wire.expand(data, MIB)


@pytest.mark.parametrize(
    "data",
    [frame(bytes(200 * MIB)), undeclared(bytes(200 * MIB)), declaring(MIB, rle(0, 2**17, last=False) * 2000)],
    ids=["states-200-MB", "states-nothing", "states-1-MiB"],
)
def test_a_bomb_costs_no_more_than_the_bound(data: bytes) -> None:
    """Python's own allocations are counted; the decompressor's are its window, bounded at 8 MiB."""
    tracemalloc.start()
    try:
        with pytest.raises(OutpostError):
            wire.expand(data, MIB)
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


def test_threads_do_not_disturb_each_other() -> None:
    datas = [bytes([number]) * 300_000 for number in range(32)]
    with ThreadPoolExecutor(8) as threads:
        back = list(threads.map(lambda data: wire.expand(wire.compress(data), 300_000), datas * 4))
    assert back == datas * 4


def nested(depth: int) -> bytes:
    return b"\x91" * depth


UNREADABLE = [
    pytest.param(b"\xc1", id="no-such-byte"),
    pytest.param(b"\x00", id="not-an-array"),
    pytest.param(b"\x80", id="a-map"),
    pytest.param(b"\x92\x07", id="cut"),
    pytest.param(b"\x91\x07", id="a-field-missing"),
    pytest.param(b"\x92\x07\xc4\x20" + DIGEST + b"\0", id="trailing-byte"),
    pytest.param(b"\x92\x07\xc4\x1f" + DIGEST[1:], id="31-bytes"),
    pytest.param(b"\x92\xa1\x37\xc4\x20" + DIGEST, id="text-for-an-integer"),
    pytest.param(b"\x92\xcb" + struct.pack(">d", 1.5) + b"\xc4\x20" + DIGEST, id="float-for-an-integer"),
    pytest.param(b"\x92\xcf" + b"\xff" * 8 + b"\xc4\x20" + DIGEST, id="integer-beyond-its-bound"),
    pytest.param(b"\x92\xfe\xc4\x20" + DIGEST, id="below-its-bound"),
    pytest.param(b"\xdd\xff\xff\xff\xff", id="states-4-billion-elements"),
    pytest.param(b"\x92\x07\xc6\xff\xff\xff\xff", id="states-4-GB"),
    pytest.param(b"\x93\x07\xc4\x20" + DIGEST + nested(100_000), id="nested-in-a-field-too-many"),
    pytest.param(nested(100_000), id="nested"),
    pytest.param(b"\x93\x07\xc4\x20" + DIGEST + b"\x81\x00" * 100_000, id="nested-maps"),
]


@pytest.mark.parametrize("plain", UNREADABLE)
def test_what_is_not_the_message_is_malformed(plain: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        wire.decode(Point, plain)
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xd0"],
    ids=["ff", "lone-high-surrogate", "lone-low-surrogate", "overlong-nul", "beyond-unicode", "cut"],
)
def test_text_that_is_not_utf8_is_malformed(text: bytes) -> None:
    plain = b"\x94\x91\x01" + bytes([0xA0 + len(text)]) + text + b"\xc4\x20" + DIGEST + b"\xc4\x10" + bytes(16)
    with pytest.raises(Malformed, match="UTF-8"):
        wire.decode(JoinRequest, plain)


def test_a_lone_surrogate_is_not_sent() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        wire.pack(JoinRequest((1,), "\ud800", DIGEST, bytes(16)))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="object"),
        pytest.param(b"[" * 100_000, id="nested"),
        pytest.param(b'[[1],"c","AAAA","AAAA",' + b"[" * 100_000, id="nested-in-a-field-too-many"),
        pytest.param(b'[[1],"\\ud800","AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","AAAAAAAAAAAAAAAAAAAAAA=="]', id="lone"),
        pytest.param(b'[[1],"\xff","AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","AAAAAAAAAAAAAAAAAAAAAA=="]', id="utf8"),
        pytest.param(b'[[NaN],"c","AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","AAAAAAAAAAAAAAAAAAAAAA=="]', id="NaN"),
        pytest.param(b'[[1],"c","@@@@","AAAAAAAAAAAAAAAAAAAAAA=="]', id="not-base64"),
    ],
)
def test_json_that_is_not_the_message_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed):
        wire.unpack_json(JoinRequest, text)


@pytest.mark.parametrize(
    ("plain", "protocol"),
    [
        pytest.param(b"\x91\x01", 1, id="only-a-version"),
        pytest.param(b"\x93\x63\xc0\xa1x", 99, id="a-version-we-do-not-know-and-its-fields"),
    ],
)
def test_the_version_is_read_whatever_follows(plain: bytes, protocol: int) -> None:
    assert wire.protocol_of(plain) == protocol


def test_the_version_of_a_request_is_its_first_element() -> None:
    assert wire.protocol_of(wire.expand(wire.pack(PULL), MIB)) == 1


@pytest.mark.parametrize("plain", [b"", b"\x90", b"\x91\xa1x", b"\x92\x01" + nested(100_000), b"\x81\x01\x01", b"\x91\x01\0"])
def test_a_request_without_a_version_is_malformed(plain: bytes) -> None:
    with pytest.raises(Malformed):
        wire.protocol_of(plain)


PLAIN_VALUES = [
    None,
    0,
    -(2**63),
    2**63 - 1,
    0.5,
    math.inf,
    -0.0,
    1e-308,
    "",
    "\u0439",
    "\u0438\u0306",
    "🙂",
    b"",
    b"\0\xff",
]


def test_plain_values_pass_exactly() -> None:
    message = Values(tuple(PLAIN_VALUES), True)
    back = wire.unpack(Values, wire.pack(message))
    assert back == message
    assert list(map(type, back.values or ())) == list(map(type, PLAIN_VALUES))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(math.nan, id="NaN"),
        pytest.param(-math.nan, id="negative-NaN"),
        pytest.param(2**63, id="beyond-64-bits"),
        pytest.param(True, id="bool"),
        pytest.param([1], id="list"),
        pytest.param({"a": 1}, id="map"),
        pytest.param(msgspec.msgpack.Ext(5, b"x"), id="extension"),
    ],
)
def test_what_is_no_plain_value_is_malformed(value: object) -> None:
    plain = msgspec.msgpack.encode(Values((1, value), False))
    with pytest.raises(Malformed):
        wire.decode(Values, plain)


def test_a_timestamp_is_no_plain_value() -> None:
    with pytest.raises(Malformed):
        wire.decode(Values, b"\x92\x91\xd6\xff\0\0\0\0\xc2")


def test_nan_is_found_outside_lists_too() -> None:
    with pytest.raises(Malformed, match="NaN"):
        wire.decode(Values, msgspec.msgpack.encode(Values(None, False, math.nan)))


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_malformed(data: bytes) -> None:
    for attempt in (
        lambda: wire.decode(PushRequest, data),
        lambda: wire.decode(Values, data),
        lambda: wire.protocol_of(data),
        lambda: wire.unpack(PullRequest, MAGIC + data, MIB),
        lambda: wire.unpack_json(JoinRequest, data),
    ):
        with contextlib.suppress(Malformed, TooLarge):
            attempt()


@given(st.data())
def test_no_damage_to_a_message_does_more_than_be_malformed(data: st.DataObject) -> None:
    packed = bytearray(wire.pack(PULL))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed, TooLarge):
        wire.unpack(PullRequest, bytes(packed), MIB)
