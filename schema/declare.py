"""Declaring a table that syncs: one SQLModel class with a `sync` attribute, in one file of `schema/tables/`.

    class Visit(Synced, table=True):
        \"\"\"A visit of a rep to a client.\"\"\"

        sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(Through("contact", "contact_id"),))

        id: str = Field(primary_key=True)
        contact_id: str | None = None
        note: str | None = None

From this the registry derives the frozen `Table` that everything else works with: SQL tables and capture triggers
(schema/dialects), the wire (sync/segment), rights and scopes (server/scopes), conflict policies (sync/policies).
Meaning of kinds, scopes and policies: PROTOCOL.md §2.
"""

from __future__ import annotations

import enum
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from sqlalchemy import MetaData
from sqlmodel import SQLModel

from schema.past import PAST, TYPES, Change, Column, Renamed, wrong_past
from sync.limits import NAME_BYTES_MAX, TABLES_MAX
from sync.policy import policies


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

    `since` is the version of the schema that brought the table, `changed` names those that changed its rules alone.
    """

    kind: Kind
    scope: tuple[ScopeRule, ...]
    policies: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ties: tuple[Tie, ...] = ()
    indexes: tuple[str, ...] = ()
    since: int = 1
    changed: tuple[int, ...] = ()


class Synced(SQLModel):
    """Base of every table that syncs."""

    metadata = MetaData()
    sync: ClassVar[Sync]


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


_PREFIX = re.compile(r"[a-z][a-z0-9_]*")


def table_of(model: type[Synced]) -> Table:
    """Return the frozen description of a declared class. Raises BadDeclaration."""
    sync = model.sync
    name = str(model.__tablename__)
    columns = [_column(model, key) for key in model.model_fields]
    key = tuple(column.name for column in model.__table__.primary_key.columns)  # type: ignore[attr-defined]
    if not key:
        raise BadDeclaration(f"{name}: no primary key")
    ordered = sorted(columns, key=lambda column: key.index(column.name) if column.name in key else len(key))
    table = Table(
        name=name,
        kind=sync.kind,
        columns=tuple(ordered),
        key=key,
        cells=_cells(name, sync, [column.name for column in ordered if column.name not in key]),
        scope=sync.scope,
        ties=sync.ties,
        indexes=sync.indexes,
        doc=(model.__doc__ or "").strip(),
        since=sync.since,
        version=max([sync.since, *sync.changed, *(change.version for column in columns for change in column.past)]),
    )
    _check(table)
    return table


def _column(model: type[Synced], name: str) -> Column:
    field_ = model.model_fields[name]
    annotation: object = field_.annotation
    nullable = False
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        arms = [arm for arm in typing.get_args(annotation) if arm is not types.NoneType]
        nullable = len(arms) != len(typing.get_args(annotation))
        annotation = arms[0] if len(arms) == 1 else annotation
    kind = TYPES.get(annotation)
    if kind is None:
        raise BadDeclaration(f"{model.__tablename__}.{name}: {field_.annotation} is not str, int, float or bytes")
    default = None if field_.is_required() else field_.default
    changes: tuple[Change, ...] = model.__table__.columns[name].info.get(PAST, ())  # type: ignore[attr-defined]
    return Column(name, kind, nullable, default, changes)


def _cells(table: str, sync: Sync, values: list[str]) -> tuple[Cell, ...]:
    grouped: dict[str, str] = {}
    for group, columns in sync.groups.items():
        if not columns or (group in values and group not in columns):
            raise BadDeclaration(f"{table}: group {group} has no columns, or the name of a column outside it")
        for column in columns:
            if column in grouped:
                raise BadDeclaration(f"{table}.{column}: named twice in groups")
            grouped[column] = group
    unknown = [name for name in grouped if name not in values]
    unknown += [name for name in sync.policies if name not in sync.groups and (name not in values or name in grouped)]
    if unknown:
        raise BadDeclaration(f"{table}: policy or group names {unknown[0]}, which is no column or group that is decided on")
    cells: dict[str, Cell] = {}
    for column in values:
        group = grouped.get(column, column)
        cells.setdefault(group, Cell(group, tuple(sync.groups.get(group, (column,))), sync.policies.get(group, "latest")))
    return tuple(cells.values())


def _check(table: Table) -> None:
    names = set(table.names)
    _check_names(table)
    _check_past(table)
    if not table.scope:
        raise BadDeclaration(f"{table.name}: no scope")
    for rule in (*table.scope, *table.ties):
        if not isinstance(rule, Everyone) and rule.column not in names:
            raise BadDeclaration(f"{table.name}: scope or tie names unknown column {rule.column}")
        if isinstance(rule, By) and not _PREFIX.fullmatch(rule.prefix):
            raise BadDeclaration(f"{table.name}: {rule.prefix!r} is not a scope prefix; take small letters, digits and _")
    for index in table.indexes:
        if index not in names:
            raise BadDeclaration(f"{table.name}: index names unknown column {index}")
    for column in table.columns[: len(table.key)]:
        if column.type != "text":
            raise BadDeclaration(f"{table.name}.{column.name}: a key is text, not {column.type}")
    if table.kind is Kind.SET and table.cells:
        raise BadDeclaration(f"{table.name}.{table.cells[0].columns[0]}: all columns of a set are its key")
    for cell in table.cells:
        _check_policy(table, cell)


def _check_names(table: Table) -> None:
    if len(table.names) > TABLES_MAX:
        raise BadDeclaration(f"{table.name}: more than {TABLES_MAX} columns")
    for name in (table.name, *table.names, *(cell.name for cell in table.cells)):
        if not name or name.startswith("_"):
            raise BadDeclaration(f"{table.name}.{name}: names with _ are the engine's own")
        if len(name.encode()) > NAME_BYTES_MAX:
            raise BadDeclaration(f"{table.name}: the name {name[:20]}… is longer than {NAME_BYTES_MAX} bytes")


def _check_past(table: Table) -> None:
    names, former = set(table.names), set[str]()
    for column in table.columns:
        wrong = wrong_past(column)
        before = {change.name for change in column.past if isinstance(change, Renamed)}
        if wrong is None and column.past and column.name in table.key:
            wrong = "a key does not change: declare another table"
        if wrong is None and (before & former or before & names - {column.name}):
            wrong = "its former name is, or was, another column's"
        former |= before
        if wrong is not None:
            raise BadDeclaration(f"{table.name}.{column.name}: {wrong}")
    for rule in (*table.scope, *table.ties):
        if not isinstance(rule, Everyone) and rule.column in names and table.columns[table.position[rule.column]].is_dropped:
            raise BadDeclaration(f"{table.name}: scope or tie names {rule.column}, which is dropped")


def _check_policy(table: Table, cell: Cell) -> None:
    policy = policies().get(cell.policy)
    if policy is None:
        raise BadDeclaration(f"{table.name}.{cell.name}: there is no policy {cell.policy}; there are {', '.join(sorted(policies()))}")
    wrong = policy.check([table.columns[table.position[name]].type for name in cell.columns])
    if wrong is not None:
        raise BadDeclaration(f"{table.name}.{cell.name}: policy {cell.policy} {wrong}")
