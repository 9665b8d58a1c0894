"""A call, meeting or letter, planned or held."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Kind, Sync, Synced, Through


class Activity(Synced, table=True):
    """A call, meeting or letter, planned or held."""

    __tablename__ = "activity"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.RECORD,
        scope=(Through("contact", "contact_id"),),
    )

    id: str = Field(primary_key=True)
    contact_id: str | None = None
    employee_id: str | None = None
    type: str | None = None
    direction: str | None = None
    topic: str | None = None
    result: str | None = None
    planned_ms: int | None = None
    held_ms: int | None = None
    minutes: int | None = None
