"""One small declaration in five versions, by every kind of change; what each program has is `at` a version of it.

2  person.loyalty is new, so is a column of the group `address`; phone_call is a new table
3  person.phone is called mobile; weight is a number of grams (integer), it was kilograms as text
4  person.fax is dropped; slip.till is new
5  person.mobile is called cell; phone_call.minutes is real
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced, Through, Tie
from schema.past import Added, Conversion, Dropped, Renamed, Retyped, past
from schema.registry import Schema, build

VERSIONS = (1, 2, 3, 4, 5)


def _grams(kilograms: str) -> int:
    whole, _, rest = kilograms.partition(".")
    return int(whole) * 1000 + int(rest.ljust(3, "0")[:3] or 0)


def _kilograms(grams: int) -> str:
    return f"{grams // 1000}.{grams % 1000:03}"


GRAMS = Conversion("kilograms as text to grams", _grams, _kilograms)
REAL = Conversion("whole minutes to minutes", float, int)


class Person(Synced, table=True):
    """A person."""

    __tablename__ = "person"
    sync: ClassVar[Sync] = Sync(
        kind=Kind.RECORD,
        scope=(By("branch", "branch_id"),),
        policies={"note": "ask"},
        groups={"address": ("street", "country", "city")},
    )

    id: str = Field(primary_key=True)
    loyalty: str | None = past(Added(2))
    name: str
    cell: str | None = past(Renamed(3, "phone"), Renamed(5, "mobile"))
    fax: str = past(Dropped(4))
    weight: int | None = past(Retyped(3, str, GRAMS))
    street: str | None = None
    country: str = past(Added(2), default="GB")
    city: str | None = None
    note: str | None = None
    branch_id: str | None = None


class PhoneCall(Synced, table=True):
    """A phone_call of a person; new in 2."""

    __tablename__ = "phone_call"
    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(Through("person", "person_id"),), since=2)

    id: str = Field(primary_key=True)
    person_id: str | None = None
    minutes: float | None = past(Retyped(5, int, REAL))
    text: str | None = None


class Slip(Synced, table=True):
    """A slip."""

    __tablename__ = "slip"
    sync: ClassVar[Sync] = Sync(kind=Kind.DOCUMENT, scope=(By("branch", "branch_id"),))

    id: str = Field(primary_key=True)
    branch_id: str
    till: str | None = past(Added(4))
    total_minor: int


class SlipLine(Synced, table=True):
    """A line of a slip; the same in all versions."""

    __tablename__ = "slip_line"
    sync: ClassVar[Sync] = Sync(kind=Kind.EVENT, scope=(Through("slip", "slip_id"),), ties=(Tie("slip", "slip_id"),))

    id: str = Field(primary_key=True)
    slip_id: str
    text: str


MODELS = (Person, PhoneCall, Slip, SlipLine)


@cache
def declared(version: int) -> Schema:
    """Return the declaration as a program of this version has it: it knows the versions before, none after."""
    newest = build(MODELS)
    assert newest.version == VERSIONS[-1]
    return newest.at(version)
