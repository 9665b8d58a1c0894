"""A person or an organisation we sell to."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced


class Contact(Synced, table=True):
    """A person or an organisation we sell to."""

    __tablename__ = "contact"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.RECORD,
        scope=(By("branch", "branch_id"), By("owner", "owner_id")),
        policies={"note": "ask", "credit_limit_minor": "server"},
        groups={"address": ("street", "postcode", "city", "country")},
    )

    id: str = Field(primary_key=True)
    kind: str
    name: str
    organisation_id: str | None = None
    phone: str | None = None
    email: str | None = None
    street: str | None = None
    postcode: str | None = None
    city: str | None = None
    country: str | None = None
    note: str | None = None
    owner_id: str | None = None
    branch_id: str | None = None
    credit_limit_minor: int | None = None
    created_ms: int | None = None
