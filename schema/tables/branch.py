"""A branch office or shop."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Everyone, Kind, Sync, Synced


class Branch(Synced, table=True):
    """A branch office or shop."""

    __tablename__ = "branch"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.REFERENCE,
        scope=(Everyone(),),
    )

    id: str = Field(primary_key=True)
    name: str | None = None
    region: str | None = None
