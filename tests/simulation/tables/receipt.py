"""Document: written once, whole, by one node; its scope never changes."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced


class Receipt(Synced, table=True):
    """A sale."""

    __tablename__ = "receipt"

    sync: ClassVar[Sync] = Sync(kind=Kind.DOCUMENT, scope=(By("branch", "branch"), By("owner", "owner")))

    id: str = Field(primary_key=True)
    branch: str | None = None
    owner: str | None = None
    day: str | None = None
    total: int | None = None
