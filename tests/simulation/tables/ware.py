"""Reference: only the centre writes it."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Everyone, Kind, Sync, Synced


class Ware(Synced, table=True):
    """Something that is sold."""

    __tablename__ = "ware"

    sync: ClassVar[Sync] = Sync(kind=Kind.REFERENCE, scope=(Everyone(),))

    id: str = Field(primary_key=True)
    name: str | None = None
