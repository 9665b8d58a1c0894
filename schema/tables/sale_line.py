"""One line of a receipt."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Kind, Sync, Synced, Through, Tie


class SaleLine(Synced, table=True):
    """One line of a receipt."""

    __tablename__ = "sale_line"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.DOCUMENT,
        scope=(Through("sale", "sale_id"),),
        ties=(Tie("sale", "sale_id"),),
    )

    id: str = Field(primary_key=True)
    sale_id: str
    product_id: str | None = None
    name: str | None = None
    qty_milli: int
    unit_price_e4: int
    discount_e4: int | None = None
    amount_minor: int
