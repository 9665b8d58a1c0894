"""Why a deal was lost."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Everyone, Kind, Sync, Synced


class RefusalReason(Synced, table=True):
    """Why a deal was lost."""

    __tablename__ = "refusal_reason"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.REFERENCE,
        scope=(Everyone(),),
    )

    id: str = Field(primary_key=True)
    name: str | None = None
