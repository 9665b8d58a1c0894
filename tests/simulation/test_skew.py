"""The two versions that the fault `schema` knows: the first is what all other histories run on; plain words are the same for both."""

from __future__ import annotations

import pytest

from schema.lens import lossless
from schema.past import Retyped
from tests.simulation import skew
from tests.simulation.later import HALVES, later_schema
from tests.simulation.schema import simulated_schema

ROW = dict(zip(skew.CELLS, ("C1", "A", "o1", "w1", "w2", "w3", 700_001, 5, 3, "[]", "w4", "w5", "w6", "w7"), strict=True))


def test_the_first_version_is_the_one_without_the_fault() -> None:
    assert later_schema().at(1).tables == simulated_schema().tables
    assert later_schema().version == skew.NEWEST


def test_every_kind_of_change_is_in_the_second() -> None:
    kinds = {type(change).__name__ for table in later_schema().every for column in table.columns for change in column.past}
    assert kinds == {"Added", "Renamed", "Retyped", "Dropped"}
    assert {table.name for table in later_schema().tables if table.since == 2} == set(skew.NEW_TABLES)


def test_what_is_typed_into_the_second_is_read_back_in_plain_words() -> None:
    actual = skew.actual_values("client", 2, ROW)
    assert actual["high"] == ROW["high"] / 2
    assert actual["remarks"] == ROW["memo"]
    assert "claim" not in actual
    assert skew.plain_values("client", 2, actual) == {name: value for name, value in ROW.items() if name != "claim"}
    assert set(actual) == set(later_schema().by_name["client"].names)


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_shows_the_cells_it_declares(version: int) -> None:
    empty = {table: {} for table in (*simulated_schema().by_name, *skew.NEW_TABLES)}
    shown = skew.shown({**empty, "client": {("C1",): ROW}, "call": {("T1",): {"id": "T1"}}}, version)
    names = {skew.plain_name("client", name) for name in skew.declared(version).by_name["client"].names}
    assert set(shown["client"]["C1",]) == names
    assert bool(shown["call"]) == (version == 2)
    assert all(skew.knows(version, "client", name) == (name in names) for name in skew.CELLS)


@pytest.mark.parametrize("value", [0, 1, 2, 10_300_011, 99_900_999])
def test_the_conversion_loses_nothing_and_shows(value: int) -> None:
    assert type(HALVES.to_new(value)) is float
    assert HALVES.to_old(HALVES.to_new(value)) == value
    assert value == 0 or HALVES.to_new(value) != value
    [retyped] = [
        change for table in later_schema().every for column in table.columns for change in column.past if isinstance(change, Retyped)
    ]
    assert lossless(retyped, value, "real")
