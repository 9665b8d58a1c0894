"""A step of the sales pipeline; probability in percent."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Everyone, Kind, Sync, Synced


class Stage(Synced, table=True):
    """A step of the sales pipeline; probability in percent."""

    __tablename__ = "stage"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.REFERENCE,
        scope=(Everyone(),),
    )

    id: str = Field(primary_key=True)
    name: str | None = None
    position: int | None = None
    probability: int | None = None
