"""Changes, as both sides reason about them: transactions of inserts, updates and deletes of rows.

The wire carries them in columns (sync/segment.py); here they stand one by one. Keys and values are tuples in declared
order. Spec: PROTOCOL.md §5.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sync.values import Value

NEVER = -1
"""The base of a write that builds on nothing (RULES H10)."""

Key = tuple[Value, ...]


@dataclass(slots=True)
class Insert:
    """A new row: the columns its writer knows, and what it knew (RULES H10)."""

    table: str
    key: Key
    values: dict[str, Value]
    base: int = NEVER
    since: int = NEVER  # NEVER: the transaction's own number
    number: int | None = None
    """The own number under which it was typed, where it is not that of its transaction (sync/compose.py)."""
    later: dict[str, int] = field(default_factory=dict)
    """Cells that were typed on top of it in the same transaction, each with the own number of the newest edit (sync/compose.py)."""


@dataclass(slots=True)
class Edit:
    """One changed cell: `old` and `new` hold one value per column of the cell."""

    cell: str
    columns: tuple[str, ...]
    old: Key
    new: Key
    base: int
    since: int
    wall: int
    number: int | None = None
    """The own number under which it was typed, where it is not that of its transaction (sync/compose.py)."""


@dataclass(slots=True)
class Update:
    """Changed cells of one row."""

    table: str
    key: Key
    edits: list[Edit]


@dataclass(slots=True)
class Delete:
    """A deleted row, and the least its writer knew of any of its cells."""

    table: str
    key: Key
    base: int
    since: int
    number: int | None = None
    """The own number under which it was typed, where it is not that of its transaction (sync/compose.py)."""


Op = Insert | Update | Delete


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Held work that a transaction takes back: its name, and whether the transaction takes its place (§6.7)."""

    segment: bytes
    index: int
    replaced: bool


@dataclass(slots=True)
class Transaction:
    """What one person changed in one go. `number` is the node's own sequence (§5.3)."""

    index: int
    number: int
    wall: int
    base: int
    ops: list[Op] = field(default_factory=list)
    decisions: list[bytes] = field(default_factory=list)
    before: int = NEVER  # the version at which a history that was lost had journaled it (RULES H14, H15)
    withdrawals: list[Withdrawn] = field(default_factory=list)
    schema: int = field(default=0, compare=False, repr=False)  # version of the declaration it was made under
