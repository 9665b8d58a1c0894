"""Something to be done by a date."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced, Through


class Task(Synced, table=True):
    """Something to be done by a date."""

    __tablename__ = "task"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.RECORD,
        scope=(By("owner", "owner_id"), Through("contact", "contact_id", owned=False)),
    )

    id: str = Field(primary_key=True)
    contact_id: str | None = None
    owner_id: str | None = None
    title: str | None = None
    due_ms: int | None = None
    done_ms: int | None = None
