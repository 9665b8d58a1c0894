"""Money taken or given back for a receipt."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Kind, Sync, Synced, Through, Tie


class Payment(Synced, table=True):
    """Money taken or given back for a receipt."""

    __tablename__ = "payment"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.DOCUMENT,
        scope=(Through("sale", "sale_id"),),
        ties=(Tie("sale", "sale_id"),),
    )

    id: str = Field(primary_key=True)
    sale_id: str
    method: str
    amount_minor: int
