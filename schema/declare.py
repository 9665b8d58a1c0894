"""Declaring a table that syncs: one SQLModel class with a `sync` attribute, in one file of `schema/tables/`.

    class Visit(Synced, table=True):
        \"\"\"A visit of a rep to a client.\"\"\"

        sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(Through("contact", "contact_id"),))

        id: str = Field(primary_key=True)
        contact_id: str | None = None
        note: str | None = None

From this schema/derive.py makes the frozen `Table` that everything else works with: SQL tables and capture triggers
(schema/dialects), the wire (sync/segment), rights and scopes (server/scopes), conflict policies (sync/policies).
Meaning of kinds, scopes and policies: PROTOCOL.md §2.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from schema.past import Column

if TYPE_CHECKING:
    from schema.synced import Synced as Synced


class Kind(enum.StrEnum):
    """Who writes a table, and what happens on concurrent change."""

    REFERENCE = "reference"  # the centre writes; a node's change is held as a proposal
    RECORD = "record"  # nodes in scope and the centre write; policies decide per cell
    EVENT = "event"  # append-only
    DOCUMENT = "document"  # written once by its node; corrections are new documents
    SET = "set"  # a row is an element; adding wins over an unseen removal


@dataclass(frozen=True, slots=True)
class By:
    """Rows belong to the scope `prefix:<value of column>`; NULL belongs to none."""

    prefix: str
    column: str


@dataclass(frozen=True, slots=True)
class Through:
    """Rows belong to the scopes of the parent that `column` names. `owned` children die with their parent."""

    table: str
    column: str
    owned: bool = True


@dataclass(frozen=True, slots=True)
class Everyone:
    """Rows belong to every node: the scope `*`."""


@dataclass(frozen=True, slots=True)
class Tie:
    """Rows written together with the row that `column` names are one transaction (RULES §4)."""

    table: str
    column: str


ScopeRule = By | Through | Everyone
EVERYONE = "*"


@dataclass(frozen=True, slots=True)
class Sync:
    """How a table syncs. `policies` names the policy per column or group; all others have `latest`.

    `window` names the column (an instant, ms UTC) by which documents and events leave nodes that keep only those of the last days.
    `since` is the version of the schema that brought the table, `changed` names those that changed its rules alone.
    """

    kind: Kind
    scope: tuple[ScopeRule, ...]
    policies: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ties: tuple[Tie, ...] = ()
    indexes: tuple[str, ...] = ()
    window: str = ""
    since: int = 1
    changed: tuple[int, ...] = ()


def __getattr__(name: str) -> Any:
    """Return `Synced` to whoever declares a table: it is loaded then, and not by those who only use what was declared."""
    if name != "Synced":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from schema.synced import Synced

    return Synced


@dataclass(frozen=True, slots=True)
class Cell:
    """What conflicts are decided on: one column, or a group of columns decided as one (RULES H17)."""

    name: str
    columns: tuple[str, ...]
    policy: str


@dataclass(frozen=True)
class Table:
    """A declared table, as the engine sees it. Key columns come first in `columns`."""

    name: str
    kind: Kind
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    cells: tuple[Cell, ...]
    scope: tuple[ScopeRule, ...]
    ties: tuple[Tie, ...]
    indexes: tuple[str, ...]
    doc: str
    since: int = 1
    version: int = field(default=1, compare=False, repr=False)  # the newest that anything in the declaration names
    window: str = field(default="", compare=False, repr=False)  # which rows a node keeps is the centre's word, not the declaration's

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return all column names, key first."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def values(self) -> tuple[str, ...]:
        """Return the names of the columns outside the key."""
        return self.names[len(self.key) :]

    @cached_property
    def position(self) -> dict[str, int]:
        """Return each column's place in `columns`."""
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def cell_of(self) -> dict[str, Cell]:
        """Return the cell each column outside the key belongs to."""
        return {name: cell for cell in self.cells for name in cell.columns}

    @cached_property
    def cell_named(self) -> dict[str, Cell]:
        """Return cells by name."""
        return {cell.name: cell for cell in self.cells}

    @property
    def immutable(self) -> bool:
        """Tell whether rows never change once written (documents and events)."""
        return self.kind in (Kind.DOCUMENT, Kind.EVENT)

    @cached_property
    def parents(self) -> tuple[Through, ...]:
        """Return the scope rules that run through a parent."""
        return tuple(rule for rule in self.scope if isinstance(rule, Through))


class BadDeclaration(ValueError):
    """A table's declaration contradicts itself; the message names table and column."""
