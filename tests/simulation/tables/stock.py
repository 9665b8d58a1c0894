"""Event: in scope by a column of its own, tied to a document when there is one."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced, Tie


class Stock(Synced, table=True):
    """Goods in or out."""

    __tablename__ = "stock"

    sync: ClassVar[Sync] = Sync(kind=Kind.EVENT, scope=(By("branch", "branch"),), ties=(Tie("receipt", "receipt_id"),))

    id: str = Field(primary_key=True)
    branch: str | None = None
    quantity: int | None = None
    receipt_id: str | None = None
