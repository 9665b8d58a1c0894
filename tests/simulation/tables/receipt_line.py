"""Document: a line of a receipt."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Kind, Sync, Synced, Through, Tie


class ReceiptLine(Synced, table=True):
    """One line of a sale."""

    __tablename__ = "receipt_line"

    sync: ClassVar[Sync] = Sync(kind=Kind.DOCUMENT, scope=(Through("receipt", "receipt_id"),), ties=(Tie("receipt", "receipt_id"),))

    id: str = Field(primary_key=True)
    receipt_id: str | None = None
    amount: int | None = None
