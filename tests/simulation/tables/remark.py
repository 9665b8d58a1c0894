"""Event: a grandchild, written once, whose scope moves with those above it."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Kind, Sync, Synced, Through


class Remark(Synced, table=True):
    """Something said during a visit."""

    __tablename__ = "remark"

    sync: ClassVar[Sync] = Sync(kind=Kind.EVENT, scope=(Through("visit", "visit_id"),))

    id: str = Field(primary_key=True)
    visit_id: str | None = None
    text: str | None = None
