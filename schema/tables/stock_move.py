"""Goods in or out of a branch; the balance is the sum."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced, Tie


class StockMove(Synced, table=True):
    """Goods in or out of a branch; the balance is the sum."""

    __tablename__ = "stock_move"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.EVENT,
        scope=(By("branch", "branch_id"),),
        ties=(Tie("sale", "sale_id"),),
    )

    id: str = Field(primary_key=True)
    product_id: str
    branch_id: str
    qty_milli: int
    reason: str
    sale_id: str | None = None
    moved_ms: int
