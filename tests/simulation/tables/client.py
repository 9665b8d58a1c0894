"""Record: a column for every policy, a group, and two ways to be in scope."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced


class Client(Synced, table=True):
    """Somebody known to a branch, to an owner, or to both."""

    __tablename__ = "client"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.RECORD,
        scope=(By("branch", "branch"), By("owner", "owner")),
        policies={"claim": "first", "credit": "server", "high": "max", "low": "min", "points": "add", "labels": "union", "memo": "ask"},
        groups={"address": ("street", "city")},
    )

    id: str = Field(primary_key=True)
    branch: str | None = None
    owner: str | None = None
    name: str | None = None
    claim: str | None = None
    credit: str | None = None
    high: int | None = None
    low: int | None = None
    points: int | None = None
    labels: str | None = None
    memo: str | None = None
    street: str | None = None
    city: str | None = None
