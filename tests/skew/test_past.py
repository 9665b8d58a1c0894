"""What a declaration says of its past: earlier versions read from it, contradictions refused, conversions lossless."""

from __future__ import annotations

from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Field

from schema.declare import BadDeclaration, Everyone, Kind, Sync, Synced
from schema.derive import table_of
from schema.lens import Lens, lossless
from schema.past import Added, Conversion, Dropped, Renamed, Retyped, as_of, past
from schema.registry import Schema, build, load
from tests.skew.declarations import GRAMS, VERSIONS, declared

VALUES: dict[type, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    bytes: st.binary(),
}


def test_a_version_is_named_where_the_change_is() -> None:
    """One line, in one file: no other place has to be told."""

    class Plain(Synced, table=True):
        __tablename__ = "past_plain"
        sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(Everyone(),))
        id: str = Field(primary_key=True)
        one: str | None = None

    class Grown(Synced, table=True):
        __tablename__ = "past_grown"
        sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(Everyone(),))
        id: str = Field(primary_key=True)
        one: str | None = None
        two: str | None = past(Added(7))

    assert (build([Plain]).version, build([Grown]).version) == (1, 7)
    assert build([Grown]).at(6).by_name["past_grown"].names == ("id", "one")


def test_every_version_of_the_test_declaration_is_as_its_text_says() -> None:
    names = {version: declared(version).by_name["person"].names for version in VERSIONS}
    assert names[1] == ("id", "name", "phone", "fax", "weight", "street", "city", "note", "branch_id")
    assert names[2] == ("id", "loyalty", "name", "phone", "fax", "weight", "street", "country", "city", "note", "branch_id")
    assert names[3] == ("id", "loyalty", "name", "mobile", "fax", "weight", "street", "country", "city", "note", "branch_id")
    assert names[4] == ("id", "loyalty", "name", "mobile", "weight", "street", "country", "city", "note", "branch_id")
    assert names[5] == ("id", "loyalty", "name", "cell", "weight", "street", "country", "city", "note", "branch_id")
    groups = [declared(version).by_name["person"].cell_named["address"].columns for version in (1, 2)]
    assert groups == [("street", "city"), ("street", "country", "city")]
    assert [c.type for v in (2, 3) for c in declared(v).by_name["person"].columns if c.name == "weight"] == ["text", "integer"]
    assert ["phone_call" in declared(version).by_name for version in VERSIONS] == [False, True, True, True, True]
    assert "fax" in declared(5).centre.by_name["person"].names  # the centre keeps it for those that have it
    assert declared(5).centre.at(5).by_name["person"] == declared(5).by_name["person"]


NUMBERS = count()


def bad(**columns: Any) -> type[Synced]:
    """A class with these columns, each (annotation, declaration)."""
    body: dict[str, Any] = {
        "__tablename__": f"bad_{next(NUMBERS)}",
        "__module__": __name__,
        "__annotations__": {"sync": ClassVar[Sync], "id": str, **{name: annotation for name, (annotation, _) in columns.items()}},
        "sync": Sync(kind=Kind.RECORD, scope=(Everyone(),)),
        "id": Field(primary_key=True),
        **{name: declaration for name, (_, declaration) in columns.items()},
    }
    made: Any = type(Synced)
    return made(body["__tablename__"].title(), (Synced,), body, table=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"a": (str | None, past(Added(1)))}, "2 or later"),
        ({"a": (str | None, past(Renamed(3, "b"), Renamed(2, "c")))}, "oldest first"),
        ({"a": (str | None, past(Dropped(2), Renamed(3, "b")))}, "added first and dropped last"),
        ({"a": (str, past(Added(2)))}, "allows NULL or has a default"),
        ({"a": (int | None, past(Retyped(2, int, GRAMS)))}, "changes it"),
        ({"a": (int | None, past(Retyped(2, list, GRAMS)))}, "str, int, float or bytes"),
        ({"a": (str | None, past(Renamed(2, "b"))), "b": (str | None, None)}, "another column's"),
        ({"a": (str | None, past(Renamed(2, "c"))), "b": (str | None, past(Added(3), Renamed(4, "c")))}, "another column's"),
    ],
)
def test_a_past_that_contradicts_itself_is_refused(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(BadDeclaration, match=says):
        table_of(bad(**columns))


@pytest.mark.parametrize("schema", [load(()), declared(VERSIONS[-1])], ids=["ours", "tests"])
def test_defaults_exist_in_every_version(schema: Schema) -> None:
    for version in range(1, schema.version + 1):
        for table in schema.at(version).tables:
            assert [column for column in table.columns if column.default is not None and column.type == "text"] == [
                column for column in table.columns if isinstance(column.default, str)
            ]


@given(st.data())
def test_a_conversion_is_lossless_both_ways_or_the_value_stays_as_it_is(data: st.DataObject) -> None:
    """Of every change of type of ours that the values of the type before are carried over without loss, or kept."""
    ours = [(column, change) for table in load(()).every for column in table.columns for change in column.past]
    for column, change in ours:
        if isinstance(change, Retyped):
            kind = as_of(column, change.version, centre=True)
            assert kind is not None
            assert lossless(change, data.draw(VALUES[change.type]), kind.type)


@given(st.integers(0, 10**9))
def test_the_conversion_of_the_tests_is_lossless_in_its_form(grams: int) -> None:
    kilograms = GRAMS.to_old(grams)
    assert GRAMS.to_new(kilograms) == grams
    assert lossless(Retyped(3, str, GRAMS), kilograms, "integer")


@given(st.one_of(st.none(), *VALUES.values()))
def test_no_value_makes_a_lens_fail(value: Any) -> None:
    lens = Lens(declared(1), declared(VERSIONS[-1])).tables["person"]
    column = lens.by_newer["weight"]
    there = column.up(value)
    assert there is not None or value is None
    assert column.down(there) is not None or value is None
    assert type(there) in (int, type(value))


@pytest.mark.parametrize("result", [None, "text", 1 << 63, float("nan"), b"x"])
def test_a_conversion_that_gives_what_no_column_holds_does_not_count(result: Any) -> None:
    from schema.lens import up

    change = Retyped(2, str, Conversion("odd", lambda _: result, str))
    assert up((change,), ("integer",), "as it was") == "as it was"


@pytest.mark.parametrize("older", VERSIONS)
@pytest.mark.parametrize("newer", VERSIONS)
def test_a_row_comes_back_as_it_was_from_any_newer_version(older: int, newer: int) -> None:
    if older > newer:
        return
    lens = Lens(declared(older), declared(newer)).tables["person"]
    values = {"id": "a", "phone": "1", "mobile": "1", "cell": "1", "weight": "1.500" if older < 3 else 1500, "country": "DE", "fax": ""}
    row = tuple(values.get(name, name) for name in lens.older.names)
    assert lens.down_row(lens.up_row(row)) == row
