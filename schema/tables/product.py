"""Something that is sold."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Everyone, Kind, Sync, Synced


class Product(Synced, table=True):
    """Something that is sold."""

    __tablename__ = "product"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.REFERENCE,
        scope=(Everyone(),),
    )

    id: str = Field(primary_key=True)
    sku: str | None = None
    name: str | None = None
    category: str | None = None
