"""Set: a row is an element."""

from typing import ClassVar

from sqlmodel import Field

from schema.declare import Kind, Sync, Synced, Through, Tie


class ClientLabel(Synced, table=True):
    """A label on a client."""

    __tablename__ = "client_label"

    sync: ClassVar[Sync] = Sync(kind=Kind.SET, scope=(Through("client", "client_id"),), ties=(Tie("client", "client_id"),))

    client_id: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
