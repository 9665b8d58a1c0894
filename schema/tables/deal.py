"""A possible sale on its way through the stages."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced, Through


class Deal(Synced, table=True):
    """A possible sale on its way through the stages."""

    __tablename__ = "deal"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.RECORD,
        scope=(By("owner", "owner_id"), Through("contact", "contact_id", owned=False)),
    )

    id: str = Field(primary_key=True)
    contact_id: str | None = None
    owner_id: str | None = None
    title: str | None = None
    stage_id: str | None = None
    currency: str | None = None
    amount_minor: int | None = None
    expected_on: str | None = None
    refusal_reason_id: str | None = None
