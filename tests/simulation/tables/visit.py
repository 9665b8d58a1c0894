"""Record: a child that lives and dies with its parent and can be hung under another."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Kind, Sync, Synced, Through


class Visit(Synced, table=True):
    """A visit to a client."""

    __tablename__ = "visit"

    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(Through("client", "client_id"),), policies={"minutes": "add"})

    id: str = Field(primary_key=True)
    client_id: str | None = None
    topic: str | None = None
    minutes: int | None = None
