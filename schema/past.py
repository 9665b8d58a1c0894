"""How a column was declared in earlier versions of the schema: said beside the column, one line for one change.

    mobile: str | None = past(Added(2), Renamed(3, "phone"))      new in 2, called `phone` until 3
    weight: float = past(Retyped(4, int, GRAMS), default=0.0)     an integer until 4
    fax: str | None = past(Dropped(5))                            nodes of 5 and later do not have it

The version of the whole schema is the greatest that any declaration names, so that a change and its version are the
same line. `as_of` gives a column as an earlier version had it; schema/lens.py reads one version's rows as another's.
Spec: PROTOCOL.md §11; docs/decisions/0010-versions-of-the-declaration.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

ColumnType = Literal["text", "integer", "real", "blob"]
TYPES: dict[object, ColumnType] = {str: "text", int: "integer", float: "real", bytes: "blob"}

PAST = "outpost_past"
"""Where SQLAlchemy's column keeps what `past` was given."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How the values of a column that changed its type are carried over. Both ways must be pure.

    Where a way raises ValueError, TypeError or ArithmeticError, or gives another type than the column's, the value does
    not convert: it is kept as it is. Where nothing is lost, `to_old(to_new(value)) == value`; a test asks so of each.
    """

    name: str
    to_new: Callable[[Any], Any] = field(repr=False, compare=False)
    to_old: Callable[[Any], Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Added:
    """The column is there from this version on."""

    version: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """The column has its present name from this version on; before it was called `name`."""

    version: int
    name: str


@dataclass(frozen=True, slots=True)
class Retyped:
    """The column has its present type from this version on; before it was of Python's `type`."""

    version: int
    type: type
    conversion: Conversion


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nodes of this version and later do not have the column. The centre keeps it for those that do."""

    version: int


Change = Added | Renamed | Retyped | Dropped


def past(*changes: Change, default: Any = None) -> Any:
    """Return the declaration of a column with a past, oldest change first. `default` as anywhere; None: none."""
    from sqlmodel import Field  # not at the top: schema/synced.py

    return Field(default=default, sa_column_kwargs={"info": {PAST: changes}})


@dataclass(frozen=True, slots=True)
class Column:
    """One column: NULL allowed or not, and its default when a writer leaves it out."""

    name: str
    type: ColumnType
    nullable: bool
    default: str | int | float | None = None
    past: tuple[Change, ...] = field(default=(), repr=False, compare=False)  # not what it is, but how it came to be

    @property
    def is_dropped(self) -> bool:
        """Tell whether it is declared only for those that still have it."""
        return bool(self.past) and isinstance(self.past[-1], Dropped)


def as_of(column: Column, version: int, *, centre: bool = False) -> Column | None:
    """Return a column as a version declared it, or None if it had none; the `centre` keeps dropped ones, NULL allowed."""
    name, kind, default, nullable = column.name, column.type, column.default, column.nullable
    for change in reversed(column.past):
        if change.version <= version:
            if isinstance(change, Dropped):
                if not centre:
                    return None
                nullable = True
            continue
        match change:
            case Added():
                return None
            case Renamed():
                name = change.name
            case Retyped():
                kind, default = TYPES[change.type], _default_before(change, default)
    return Column(name, kind, nullable, default)


def _default_before(change: Retyped, default: Any) -> Any:
    return None if default is None else change.conversion.to_old(default)


def conversions(column: Column, older: int, newer: int) -> tuple[Retyped, ...]:
    """Return the changes of type between two versions, oldest first."""
    return tuple(change for change in column.past if isinstance(change, Retyped) and older < change.version <= newer)


def wrong_past(column: Column) -> str | None:
    """Return what contradicts itself in a column's past, or None."""
    versions = [change.version for change in column.past]
    kinds: list[ColumnType] = [TYPES.get(change.type, column.type) for change in column.past if isinstance(change, Retyped)]
    if any(version < 2 for version in versions):
        return "a change has a version of 2 or later"
    if versions != sorted(versions):
        return "changes stand oldest first"
    if any(isinstance(change, Added) for change in column.past[1:]) or any(isinstance(change, Dropped) for change in column.past[:-1]):
        return "a column is added first and dropped last, and once"
    if any(isinstance(change, Retyped) and change.type not in TYPES for change in column.past):
        return "a type before is str, int, float or bytes"
    if any(one == other for one, other in pairwise([*kinds, column.type])):
        return "a change of type changes it: for other values of the same type declare another column"
    if any(isinstance(change, Added) for change in column.past) and not (column.nullable or column.default is not None):
        return "a column that older nodes do not know allows NULL or has a default"
    return None
