"""A product's price from an instant on; for one branch, or for all when branch_id is NULL."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Everyone, Kind, Sync, Synced


class Price(Synced, table=True):
    """A product's price from an instant on; for one branch, or for all when branch_id is NULL."""

    __tablename__ = "price"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.REFERENCE,
        scope=(Everyone(),),
    )

    id: str = Field(primary_key=True)
    product_id: str | None = None
    branch_id: str | None = None
    valid_from_ms: int | None = None
    currency: str | None = None
    amount_e4: int | None = None
