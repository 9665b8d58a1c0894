"""Someone who sells or serves."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Everyone, Kind, Sync, Synced


class Employee(Synced, table=True):
    """Someone who sells or serves."""

    __tablename__ = "employee"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.REFERENCE,
        scope=(Everyone(),),
    )

    id: str = Field(primary_key=True)
    name: str | None = None
    branch_id: str | None = None
    role: str | None = None
