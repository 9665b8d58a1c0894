"""A receipt: a sale or a return, written once at the till."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced


class Sale(Synced, table=True):
    """A receipt: a sale or a return, written once at the till."""

    __tablename__ = "sale"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.DOCUMENT,
        scope=(By("branch", "branch_id"), By("owner", "employee_id")),
        window="sold_ms",
    )

    id: str = Field(primary_key=True)
    number: str
    kind: str
    branch_id: str
    till: str | None = None
    employee_id: str | None = None
    contact_id: str | None = None
    original_sale_id: str | None = None
    sold_ms: int
    business_date: str | None = None
    currency: str
    total_minor: int
    tax_minor: int | None = None
    discount_minor: int | None = None
