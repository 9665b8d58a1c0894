"""Chains and digests of rows: what they bind, and what makes no difference."""

from __future__ import annotations

import hashlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.digest import BEGINNING, RowsDigest, row_digests, rows_digest, segment_point, version_point
from sync.messages import Point
from sync.values import RawText

BODIES = st.lists(st.binary(max_size=8), max_size=5)


@pytest.mark.covers("P-5.13", "P-6.7")
@given(BODIES, BODIES)
def test_a_chain_binds_everything_before_it(one: list[bytes], other: list[bytes]) -> None:
    ends = []
    for bodies in (one, other):
        point = BEGINNING
        for body in bodies:
            point = segment_point(point, body)
        assert point.number == len(bodies)
        ends.append(point)
    assert (ends[0] == ends[1]) is (one == other)


def test_the_points_by_hand() -> None:
    before = Point(4, bytes(range(32)))
    number, body = (5).to_bytes(8, "big"), hashlib.sha256(b"body").digest()
    assert segment_point(before, b"body") == Point(5, hashlib.sha256(b"outpost/segment/1" + before.digest + number + body).digest())
    entry = hashlib.sha256(b"segment\0body").digest()
    for at_ms, at in ((258, bytes(6) + b"\1\2"), (-1, b"\xff" * 8)):
        hashed = hashlib.sha256(b"outpost/version/1" + before.digest + number + at + entry).digest()
        assert version_point(before, "segment", b"body", at_ms) == Point(5, hashed)


def test_the_two_chains_cannot_be_mistaken_for_each_other() -> None:
    assert segment_point(BEGINNING, b"x") != version_point(BEGINNING, "segment", b"x", 0)
    assert version_point(BEGINNING, "a", b"b", 0) != version_point(BEGINNING, "b", b"a", 0)


def test_the_same_at_another_time_is_another_history() -> None:
    """A restored centre that is given the same requests again may decide otherwise: its clock is another. Seed 5001671."""
    assert version_point(BEGINNING, "segment", b"x", 1) != version_point(BEGINNING, "segment", b"x", 2)


ROWS = st.lists(st.tuples(st.text(max_size=3), st.integers(-5, 5) | st.none() | st.floats(allow_nan=False)), max_size=6)


@pytest.mark.covers("P-9.12")
@given(ROWS, st.integers(0, 6))
def test_it_does_not_matter_how_rows_are_divided(rows: list[tuple[str, object]], cut: int) -> None:
    whole, parts = RowsDigest("t"), RowsDigest("t")
    whole.add(rows)
    for part in (rows[:cut], [], rows[cut:]):
        parts.add(part)
    assert (whole.count, whole.digest()) == (parts.count, parts.digest()) == rows_digest("t", rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_only_the_rows_are_hashed(count: int) -> None:
    """msgpack begins an array in three ways; the digest is of the rows alone."""
    found = RowsDigest("t")
    found.add([("x",)] * count)
    assert found.digest() == sha256(b"t\0" + b"\x91\xa1x" * count).digest()


def test_a_row_by_itself_is_a_set_of_one() -> None:
    rows = [("a", 1), ("\udcff", None)]
    assert row_digests("t", rows) == [rows_digest("t", [("a", 1)])[1], rows_digest("t", [(RawText(b"\xff"), None)])[1]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param([1], [1.0], id="types"),
        pytest.param([None], [""], id="null-and-empty"),
        pytest.param(["a"], [b"a"], id="text-and-blob"),
        pytest.param([0.0], [-0.0], id="bits"),
        pytest.param(["\ufffd"], [RawText(b"\xff")], id="raw-text"),
        pytest.param(["a", "b"], ["ab", ""], id="borders"),
        pytest.param([RawText(b"a\0")], [RawText(b"a\0b")], id="a-nul-inside"),
    ],
)
def test_different_rows_have_different_digests(one: list[object], other: list[object]) -> None:
    assert rows_digest("t", [one]) != rows_digest("t", [other])  # type: ignore[list-item]
    assert rows_digest("t", [one]) != rows_digest("u", [one])  # type: ignore[list-item]
