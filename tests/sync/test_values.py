"""Values: clean and raw texts, and SQLite's order."""

import sqlite3
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.values import RawText, Value, is_clean, text_value, value_order

PLAIN = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    | st.binary()
)


@pytest.mark.parametrize(
    ("text", "clean"),
    [("", True), ("Ann", True), ("й й 🏪", True), ("a\0b", False), ("\ud800", False), ("ж\0", False)],
)
def test_clean_text_has_utf8_bytes_and_no_nul(text: str, clean: bool) -> None:
    assert is_clean(text) is clean


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        pytest.param(b"", "", id="empty"),
        pytest.param("Ёж".encode(), "Ёж", id="utf-8"),
        pytest.param("Ёж".encode("cp1251"), RawText(b"\xa8\xe6"), id="windows-1251"),
        pytest.param(b"a\0b", RawText(b"a\0b"), id="nul"),
        pytest.param(b"\xed\xa0\x80", RawText(b"\xed\xa0\x80"), id="surrogate"),
    ],
)
def test_text_is_raw_only_where_it_must_be(raw: bytes, value: Value) -> None:
    assert text_value(raw) == value


@settings(deadline=None)
@given(st.lists(PLAIN, max_size=20))
def test_order_is_that_of_sqlite(values: list[Value]) -> None:
    with_sqlite = sqlite3.connect(":memory:")
    try:
        with_sqlite.execute("CREATE TABLE v(at INTEGER, value)")
        with_sqlite.executemany("INSERT INTO v VALUES(?,?)", enumerate(values))
        theirs = [at for (at,) in with_sqlite.execute("SELECT at FROM v ORDER BY value, at")]
    finally:
        with_sqlite.close()
    assert sorted(range(len(values)), key=lambda at: value_order(values[at])) == theirs


def test_order_of_every_kind() -> None:
    rising: list[Value] = [None, -(2**63), -1.5, 0, 2**53, 2.0**53 + 2, 2**63 - 1, float("inf"), "", "Z", "a", "й"]
    rising += [RawText(b"\xff"), b"", b"\0"]
    falling = rising[::-1]
    assert sorted(falling, key=value_order) == rising
    assert value_order(1) == value_order(1.0)
    assert value_order(0.0) == value_order(-0.0)
    assert value_order("\ud800") > value_order("a")


@pytest.mark.parametrize("wrong", [True, (1,), 1j])
def test_what_no_cell_holds_has_no_order(wrong: object) -> None:
    with pytest.raises(TypeError, match="not a value"):
        value_order(cast(Any, wrong))
