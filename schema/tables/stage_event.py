"""A deal entered a stage."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Kind, Sync, Synced, Through, Tie


class StageEvent(Synced, table=True):
    """A deal entered a stage."""

    __tablename__ = "stage_event"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.EVENT,
        scope=(Through("deal", "deal_id"),),
        ties=(Tie("deal", "deal_id"),),
    )

    id: str = Field(primary_key=True)
    deal_id: str
    stage_id: str
    employee_id: str | None = None
    entered_ms: int
