"""A record with a column of every type and every policy: what the shipped tables lack. For tests only."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, Sync, Synced, Through


class Specimen(Synced, table=True):
    """A record with a column of every type and every policy."""

    __tablename__ = "specimen"

    sync: ClassVar[Sync] = Sync(
        kind=Kind.RECORD,
        scope=(By("branch", "branch_id"), Through("contact", "contact_id", owned=False)),
        policies={
            "stock": "add",
            "weight": "add",
            "labels": "union",
            "finder": "first",
            "reading": "max",
            "promised": "min",
            "grade": "server",
            "photo": "ask",
        },
        groups={"place": ("latitude", "longitude")},
    )

    id: str = Field(primary_key=True)
    branch_id: str | None = None
    contact_id: str | None = None
    whole: int | None = None
    ratio: float | None = None
    words: str | None = None
    raw: bytes | None = None
    latitude: float | None = None
    longitude: float | None = None
    stock: int | None = None
    weight: float | None = None
    labels: str | None = None
    finder: str | None = None
    reading: float | None = None
    promised: str | None = None
    grade: int | None = None
    photo: bytes | None = None
    state: str = "new"
    turns: int = 0
