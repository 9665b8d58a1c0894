"""What is copied into PostgreSQL is there as it was given, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schema.dialects import pg_copy
from schema.dialects.base import Connection
from schema.dialects.pg_connection import NUL, PgConnection
from schema.dialects.postgres import Postgres
from tests import databases

SPECIAL = st.sampled_from(["", "\\", "\\N", "\\.", "\t", "\n", "\r\n", "\x08", "\uffff", "\uffff0", NUL + "key", "a\tb\\c\nd", "\x1a"])
TEXTS = st.one_of(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[NUL])), SPECIAL)
WHOLE = st.integers(-(1 << 63), (1 << 63) - 1)


def with_nulls(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(values, values, values, st.none())


@pytest.fixture
def connection(on_postgres: None) -> Iterator[Connection]:
    url = databases.new()
    opened = Postgres().open(url)
    opened.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, plain TEXT, word TEXT, whole INTEGER, part REAL, bytes BLOB)")
    yield opened
    opened.close()
    databases.drop(url)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@example(rows=[("a", "b", 1, None, None)] * (pg_copy.ROWS + 1), width=3)
@given(
    rows=st.lists(
        st.tuples(
            with_nulls(st.sampled_from(["a", "й", "", "☃"])),
            with_nulls(TEXTS),
            with_nulls(WHOLE),
            with_nulls(st.floats(allow_nan=False)),
            with_nulls(st.binary()),
        ),
        min_size=1,
        max_size=8,
    ),
    width=st.integers(1, 5),
)
def test_rows_are_there_as_they_were_given(connection: Connection, rows: list[tuple[Any, ...]], width: int) -> None:
    assert isinstance(connection, PgConnection)
    names = ["plain", "word", "whole", "part", "bytes"][:width]
    numbered: list[Sequence[Any]] = [range(len(rows)), *list(zip(*rows, strict=True))[:width]]
    connection.execute("BEGIN")
    assert connection.copy_in(f"COPY t (n, {', '.join(names)}) FROM STDIN", numbered) == len(rows)
    assert connection.execute(f"SELECT {', '.join(names)} FROM t ORDER BY n").fetchall() == [row[:width] for row in rows]
    connection.rollback()


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ([1, None, -2], b"1\n\\N\n-2\n"),
        (["a", None, ""], b"a\n\\N\n\n"),
        ([None, None], b"\\N\n\\N\n"),
        (["a", "b\\"], None),
        ([1, True], None),
        (["a", 1], None),
        ([1.5], None),
        ([b"a"], None),
    ],
)
def test_what_is_plain_is_made_a_column_at_a_time(column: list[Any], told: bytes | None) -> None:
    lines = pg_copy.lines([column])
    assert (None if lines is None else b"".join(lines)) == told
