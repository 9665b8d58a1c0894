"""The base class of declared tables. Written `from schema.declare import Synced`; a module of its own, as it needs SQLModel.

With SQLAlchemy and pydantic that is half of what a command takes to begin, in time and in memory, and only declaring needs it:
what was made of the shipped tables is kept (schema/made.py).
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import MetaData
from sqlmodel import SQLModel

from schema.declare import Sync


class Synced(SQLModel):
    """Base of every table that syncs."""

    metadata = MetaData()
    sync: ClassVar[Sync]
