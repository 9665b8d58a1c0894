"""Chains and digests of rows: what they bind, and that sums do not depend on order."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.digest import BEGINNING, digest_bytes, rows_digest, segment_point, version_point
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
    assert version_point(before, "segment", b"body") == Point(
        5, hashlib.sha256(b"outpost/version/1" + before.digest + number + entry).digest()
    )


def test_the_two_chains_cannot_be_mistaken_for_each_other() -> None:
    assert segment_point(BEGINNING, b"x") != version_point(BEGINNING, "segment", b"x")
    assert version_point(BEGINNING, "a", b"b") != version_point(BEGINNING, "b", b"a")


ROWS = st.lists(st.tuples(st.text(max_size=3), st.integers(-5, 5) | st.none() | st.floats(allow_nan=False)), max_size=6)


@pytest.mark.covers("P-9.12")
@given(ROWS, st.randoms())
def test_a_sum_does_not_depend_on_the_order(rows: list[tuple[str, object]], chance: object) -> None:
    count, total = rows_digest("t", rows)  # type: ignore[arg-type]
    parts = [rows_digest("t", [row]) for row in reversed(rows)]  # type: ignore[list-item]
    assert (count, total) == (len(rows), sum(part for _, part in parts) % 2**256)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param([1], [1.0], id="types"),
        pytest.param([None], [""], id="null-and-empty"),
        pytest.param(["a"], [b"a"], id="text-and-blob"),
        pytest.param([0.0], [-0.0], id="bits"),
        pytest.param(["\ufffd"], [RawText(b"\xff")], id="raw-text"),
        pytest.param(["a", "b"], ["ab", ""], id="borders"),
    ],
)
def test_different_rows_have_different_digests(one: list[object], other: list[object]) -> None:
    assert rows_digest("t", [one]) != rows_digest("t", [other])  # type: ignore[list-item]
    assert rows_digest("t", [one]) != rows_digest("u", [one])  # type: ignore[list-item]


def test_a_sum_as_bytes() -> None:
    assert digest_bytes(1) == bytes(31) + b"\1"
    assert digest_bytes(2**256 + 1) == digest_bytes(1)
    assert digest_bytes(rows_digest("t", [])[1]) == bytes(32)
