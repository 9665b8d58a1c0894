"""UUIDv7: the form, the order, and clocks that are far off."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.ids import uuid7

RANDOM = st.binary(min_size=10, max_size=10)


@given(st.integers(0, 2**48 - 1), RANDOM)
def test_it_is_a_uuid7_and_keeps_all_it_was_given(ms: int, random: bytes) -> None:
    text = uuid7(ms, random)
    parsed = uuid.UUID(text)
    assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
    assert parsed.int >> 80 == ms
    assert parsed.bytes[7] == random[1]
    assert parsed.bytes[9:] == random[3:]


@given(st.integers(0, 2**48 - 2), RANDOM, RANDOM)
def test_ids_of_later_milliseconds_sort_behind(ms: int, one: bytes, other: bytes) -> None:
    assert uuid7(ms, one) < uuid7(ms + 1, other)


@given(st.integers(), RANDOM)
def test_a_clock_that_is_far_off_still_gives_an_id(ms: int, random: bytes) -> None:
    assert uuid.UUID(uuid7(ms, random)).int >> 80 == min(max(ms, 0), 2**48 - 1)


@pytest.mark.parametrize("length", [0, 9, 11])
def test_it_takes_exactly_ten_random_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="10 random bytes"):
        uuid7(0, bytes(length))
