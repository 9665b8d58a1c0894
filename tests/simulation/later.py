"""The simulator's tables one version later, for the fault `schema`: every kind of change, and a table of its own.

2  client.email is new, and so is the table `call`; client.high counts halves (it was whole numbers); client.memo is called
   remarks; client.claim is dropped
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar

from sqlalchemy import MetaData
from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced, Through
from schema.past import Added, Conversion, Dropped, Renamed, Retyped, past
from schema.registry import Schema, build
from tests.simulation.schema import models

HALVES = Conversion("whole numbers to halves of them", lambda whole: whole / 2, lambda half: int(half * 2))
"""Exact both ways for whole numbers below 2^53; the values differ, so that one that was not converted shows."""


class Later(Synced):
    """Beside the first version, not instead of it."""

    metadata = MetaData()


class LaterClient(Later, table=True):
    """Somebody known to a branch, to an owner, or to both."""

    __tablename__ = "client"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.RECORD,
        scope=(By("branch", "branch"), By("owner", "owner")),
        policies={"claim": "first", "credit": "server", "high": "max", "low": "min", "points": "add", "labels": "union", "remarks": "ask"},
        groups={"address": ("street", "city")},
    )

    id: str = Field(primary_key=True)
    branch: str | None = None
    owner: str | None = None
    email: str | None = past(Added(2))
    name: str | None = None
    claim: str | None = past(Dropped(2))
    credit: str | None = None
    high: float | None = past(Retyped(2, int, HALVES))
    low: int | None = None
    points: int | None = None
    labels: str | None = None
    remarks: str | None = past(Renamed(2, "memo"))
    street: str | None = None
    city: str | None = None


class Call(Later, table=True):
    """A call of a client; new in 2."""

    __tablename__ = "call"

    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(Through("client", "client_id"),), since=2)

    id: str = Field(primary_key=True)
    client_id: str | None = None
    text: str | None = None


@cache
def later_schema() -> Schema:
    """Return the newest version of the simulator's declaration."""
    same = [model for model in models() if model.__tablename__ != LaterClient.__tablename__]
    return build([*same, LaterClient, Call])
