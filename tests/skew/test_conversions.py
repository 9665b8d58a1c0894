"""What versions with another type of a column may do to its values: nothing that nobody meant."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced
from schema.past import Conversion, Retyped, past
from schema.registry import Schema, build
from tests.skew.world import SkewedWorld

REAL = Conversion("whole to real", float, int)
GRAMS = Conversion("kilograms to grams", lambda kilograms: int(kilograms * 1000), lambda grams: grams / 1000)
KILOGRAMS = Conversion("grams to kilograms", lambda grams: grams / 1000, lambda kilograms: int(kilograms * 1000))
MILLIGRAMS = Conversion("kilograms to milligrams", lambda kilograms: int(kilograms * 1_000_000), lambda milligrams: milligrams / 1_000_000)


class Job(Synced, table=True):
    """Work; its minutes were whole numbers."""

    __tablename__ = "job"
    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(By("branch", "branch_id"),), groups={"work": ("minutes", "text")})

    id: str = Field(primary_key=True)
    branch_id: str | None = None
    minutes: float | None = past(Retyped(2, int, REAL))
    text: str | None = None


class Parcel(Synced, table=True):
    """A parcel; its weight was in kilograms."""

    __tablename__ = "parcel"
    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(By("branch", "branch_id"),))

    id: str = Field(primary_key=True)
    branch_id: str | None = None
    weight: int | None = past(Retyped(2, float, GRAMS))


class Ticket(Synced, table=True):
    """A ticket; its weight was whole grams, then kilograms, then milligrams."""

    __tablename__ = "ticket"
    sync: ClassVar[Sync] = Sync(kind=Kind.DOCUMENT, scope=(By("branch", "branch_id"),))

    id: str = Field(primary_key=True)
    branch_id: str
    weight: int = past(Retyped(2, int, KILOGRAMS), Retyped(3, float, MILLIGRAMS))


FAMILY: Schema = build([Job, Parcel, Ticket])


@pytest.mark.covers("P-11.4", "P-5.3")
def test_a_rounded_value_that_an_older_node_was_shown_and_left_does_not_come_back(tmp_path: Path) -> None:
    world = SkewedWorld(tmp_path, 2, FAMILY)
    old, new = world.node_of(1, "old"), world.node_of(2, "new")
    new.sql("INSERT INTO job (id, branch_id, minutes, text) VALUES ('j', 'LON', 30.5, 'said')")
    world.settle()
    assert old.sql("SELECT minutes FROM job") == [(30,)]
    old.sql("UPDATE job SET text = 'corrected' WHERE id = 'j'")
    world.settle()
    assert world.sql("SELECT minutes, text FROM job") == [(30.5, "corrected")]
    old.sql("UPDATE job SET minutes = 31 WHERE id = 'j'")
    world.settle()
    assert world.sql("SELECT minutes, text FROM job") == [(31.0, "corrected")], "what was typed is taken"
    assert world.agree()


@pytest.mark.covers("P-11.6")
def test_whole_numbers_of_a_newer_node_are_not_taken_for_an_older_centres_reals(tmp_path: Path) -> None:
    """1,500 grams are not 1,500 kilograms."""
    world = SkewedWorld(tmp_path, 1, FAMILY)
    old, new = world.node_of(1, "old"), world.node_of(2, "new")
    new.sql("INSERT INTO parcel (id, branch_id, weight) VALUES ('p', 'LON', 1500)")
    assert new.sync().verdicts["held"] == 1
    assert world.held() == ["schema"]
    world.upgrade_centre(2)
    world.settle()
    assert world.sql("SELECT weight FROM parcel") == new.sql("SELECT weight FROM parcel") == [(1500,)]
    assert old.sql("SELECT weight FROM parcel") == [(1.5,)]
    new.sql("UPDATE parcel SET weight = 2500 WHERE id = 'p'")
    world.settle()
    assert old.sql("SELECT weight FROM parcel") == [(2.5,)]
    assert world.agree()


@pytest.mark.covers("P-8.30", "P-11.6")
def test_the_centres_row_comes_into_view_when_a_held_one_over_it_is_deleted(tmp_path: Path) -> None:
    """What was typed over it and deleted again is nothing; with that the row was gone from view. Found by seed 67011574."""
    world = SkewedWorld(tmp_path, 1, FAMILY)
    new = world.node_of(2, "new")
    world.sql("INSERT INTO parcel (id, branch_id, weight) VALUES ('p', 'LON', 9.0)")
    new.sql("INSERT INTO parcel (id, branch_id, weight) VALUES ('p', 'LON', 1500)")
    new.sync()
    assert world.held() == ["schema"]
    new.sql("DELETE FROM parcel")
    new.sync()
    assert world.held() == []
    assert world.sql("SELECT weight FROM parcel") == [(9.0,)]
    assert new.sql("SELECT weight FROM parcel") == [(9000,)]
    assert world.agree()


@pytest.mark.covers("P-8.16", "P-11.4")
@pytest.mark.sqlite_centre("values of any type in any column")
def test_a_type_that_comes_back_does_not_bring_back_values(tmp_path: Path) -> None:
    """Segments of version 1 have the columns of version 3, and other values: they are not told whole."""
    world = SkewedWorld(tmp_path, 3, FAMILY)
    old, new = world.node_of(1, "old"), world.node_of(3, "new")
    old.write([("ticket", {"id": f"t{number:04}", "branch_id": "LON", "weight": 5}) for number in range(1200)])
    old.sync()
    new.sync()
    assert world.sql("SELECT DISTINCT weight FROM ticket") == new.sql("SELECT DISTINCT weight FROM ticket") == [(5000,)]
    assert world.agree()
