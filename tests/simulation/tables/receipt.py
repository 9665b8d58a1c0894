"""Document: written once, whole, by one node; its scope never changes."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced


class Receipt(Synced, table=True):
    """A sale. Its total is the instant it rolls by: of small numbers those that a window leaves out are easily told."""

    __tablename__ = "receipt"

    sync: ClassVar[Sync] = Sync(kind=Kind.DOCUMENT, scope=(By("branch", "branch"), By("owner", "owner")), window="total")

    id: str = Field(primary_key=True)
    branch: str | None = None
    owner: str | None = None
    day: str | None = None
    total: int | None = None
