"""Record: a child that outlives its parent, in scope through it or by its own owner."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced, Through


class Errand(Synced, table=True):
    """Something to do, for a client or not."""

    __tablename__ = "errand"

    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(By("owner", "owner"), Through("client", "client_id", owned=False)))

    id: str = Field(primary_key=True)
    client_id: str | None = None
    owner: str | None = None
    title: str | None = None
