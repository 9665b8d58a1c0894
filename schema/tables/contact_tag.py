"""A tag on a contact."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Kind, Sync, Synced, Through, Tie


class ContactTag(Synced, table=True):
    """A tag on a contact."""

    __tablename__ = "contact_tag"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.SET,
        scope=(Through("contact", "contact_id"),),
        ties=(Tie("contact", "contact_id"),),
    )

    contact_id: str = Field(primary_key=True)
    tag: str = Field(primary_key=True)
