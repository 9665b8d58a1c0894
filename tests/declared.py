"""Tables that tests declare for themselves."""

from __future__ import annotations

from itertools import count
from typing import Any, ClassVar

from sqlmodel import Field

from schema.declare import By, Kind, ScopeRule, Sync, Synced

HERE: tuple[ScopeRule, ...] = (By("branch", "branch_id"),)
NUMBERS = count()


def declare(table: str = "outing", *, key: tuple[str, ...] = ("id",), columns: dict[str, Any] | None = None, **sync: Any) -> type[Synced]:
    """Declare a table: text keys, `branch_id`, and further columns by name and type."""
    fields: dict[str, Any] = {name: (str, Field(primary_key=True)) for name in key}
    fields |= {"branch_id": (str | None, None)} if "branch_id" not in key else {}
    fields |= {name: given if isinstance(given, tuple) else (given | None, None) for name, given in (columns or {}).items()}
    namespace: dict[str, Any] = {
        "__module__": __name__,
        "__qualname__": f"Declared{next(NUMBERS)}",
        "__tablename__": table,
        "__doc__": "Declared by a test.",
        "__annotations__": {"sync": ClassVar[Sync], **{name: type_ for name, (type_, _) in fields.items()}},
        "sync": Sync(**{"kind": Kind.RECORD, "scope": HERE, **sync}),
        **{name: default for name, (_, default) in fields.items() if default is not ...},
    }
    model = type(Synced)(namespace["__qualname__"], (Synced,), namespace, table=True)
    Synced.metadata.remove(Synced.metadata.tables[table])  # SQLAlchemy keeps every table by name; the next test wants it again
    return model
