"""An event with a column of every type: the fast paths of capture, ingest and feed. For tests only."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced


class Sounding(Synced, table=True):
    """An event with a column of every type."""

    __tablename__ = "sounding"

    sync: ClassVar[Sync] = Sync(kind=Kind.EVENT, scope=(By("branch", "branch_id"),))

    id: str = Field(primary_key=True)
    branch_id: str
    whole: int | None = None
    ratio: float | None = None
    words: str | None = None
    raw: bytes | None = None
