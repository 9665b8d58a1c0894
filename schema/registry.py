"""The registry: all declared tables, found by listing a folder, with what follows from them together.

`load()` reads `schema/tables/`, and further folders an integrator names (`OUTPOST_TABLES`), and returns a `Schema`: tables
with parents before children, the paths along which scope keys are found, and who hangs off whom. Adding a table is one
new file there and nothing else.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import schema.tables
from schema import made
from schema.declare import BadDeclaration, By, Cell, Everyone, Kind, Table, Through, Tie
from schema.derive import table_of
from schema.names import alike
from schema.past import as_of
from sync.errors import BadValue
from sync.limits import TABLES_MAX
from sync.policy import Policy, policies

if TYPE_CHECKING:
    from schema.synced import Synced


@dataclass(frozen=True, slots=True)
class ScopePath:
    """One way a row gets scope keys: up through parents, then a column of the last one.

    `steps` are (column of the child, parent table); `prefix` is "" for everyone, and then `column` is too.
    """

    steps: tuple[tuple[str, str], ...]
    prefix: str
    column: str


@dataclass(frozen=True, slots=True)
class ChildEdge:
    """A table whose scope runs through a parent."""

    table: Table
    column: str
    owned: bool


@dataclass(frozen=True)
class Schema:
    """All tables, parents before children, as one version of the declaration has them.

    `version` is the greatest that any table or column names: what changes a declaration says the version that does. `every`
    holds the tables with all columns they ever had, from which other versions are read.
    """

    tables: tuple[Table, ...]
    version: int = 1
    every: tuple[Table, ...] = field(default=(), compare=False, repr=False)
    is_centre: bool = field(default=False, compare=False)

    def __hash__(self) -> int:
        """Return a hash that costs nothing: what is made from a schema is cached, and there are few schemas."""
        return hash((self.version, len(self.tables)))

    @cached_property
    def by_name(self) -> dict[str, Table]:
        """Return tables by name."""
        return {table.name: table for table in self.tables}

    @cached_property
    def rank(self) -> dict[str, int]:
        """Return each table's place: parents have smaller ones."""
        return {table.name: index for index, table in enumerate(self.tables)}

    @cached_property
    def paths(self) -> dict[str, tuple[ScopePath, ...]]:
        """Return every way a table's rows get scope keys."""
        return {table.name: self._paths(table) for table in self.tables}

    def _paths(self, table: Table) -> tuple[ScopePath, ...]:
        found: list[ScopePath] = []
        for rule in table.scope:
            match rule:
                case Everyone():
                    found.append(ScopePath((), "", ""))
                case By():
                    found.append(ScopePath((), rule.prefix, rule.column))
                case Through():
                    found += [
                        ScopePath(((rule.column, rule.table), *path.steps), path.prefix, path.column)
                        for path in self._paths(self.by_name[rule.table])
                    ]
        return tuple(found)

    @cached_property
    def children(self) -> dict[str, tuple[ChildEdge, ...]]:
        """Return, per table, the tables whose scope runs through it."""
        return {
            parent.name: tuple(
                ChildEdge(table, rule.column, rule.owned) for table in self.tables for rule in table.parents if rule.table == parent.name
            )
            for parent in self.tables
        }

    @cached_property
    def fixed(self) -> frozenset[str]:
        """Return the tables whose rows and whose scope keys never change: documents and events, all the way up."""
        return frozenset(table.name for table in self.tables if self._fixed(table))

    def _fixed(self, table: Table) -> bool:
        return table.immutable and all(self._fixed(self.by_name[rule.table]) for rule in table.parents)

    def policy_of(self, table: str, cell: str) -> Policy:
        """Return a cell's policy; of one that is not declared any more, `latest`: nothing is decided by it."""
        found = self.by_name.get(table)
        known = found.cell_named.get(cell) if found else None
        return policies()[known.policy if known else "latest"]

    def at(self, version: int) -> Schema:
        """Return the declaration as an earlier version had it; of this one and of later ones this."""
        return self if version >= self.version and not self.is_centre else self._as_of(min(version, self.version), False)

    @cached_property
    def centre(self) -> Schema:
        """Return what the centre has: dropped columns too, for as long as they are declared."""
        return self._as_of(self.version, True)

    def centre_at(self, version: int) -> Schema:
        """Return what the centre had in an earlier version."""
        return self._as_of(min(version, self.version), True)

    @cached_property
    def memo(self) -> dict[object, Any]:
        """Return where what follows from this declaration alone is kept, once it was found (schema/lens.py)."""
        return {}

    def _as_of(self, version: int, centre: bool) -> Schema:
        known: Schema | None = self.memo.get((version, centre))
        if known is None:
            found = (_table_as_of(table, version, centre) for table in self.every or self.tables)
            known = Schema(tuple(table for table in found if table is not None), version, self.every or self.tables, centre)
            self.memo[version, centre] = known
        return known

    @cached_property
    def digest(self) -> str:
        """Return a hash of everything that matters to the other side."""
        return hashlib.sha256(repr([(t.name, t.kind, t.columns, t.cells, t.scope) for t in self.tables]).encode()).hexdigest()

    @cached_property
    def digest_number(self) -> int:
        """Return 60 bits of the digest, for where a number is kept of the declaration that something was done under."""
        return int(self.digest[:15], 16)


def build(models: Iterable[type[Synced]]) -> Schema:
    """Return the schema of these classes. Raises BadDeclaration."""
    return together(map(table_of, dict.fromkeys(models)))


def together(declared: Iterable[Table]) -> Schema:
    """Return the schema of these tables. Raises BadDeclaration."""
    tables = _by_name(declared)
    done: dict[str, Table] = {}

    def is_rolling(table: Table) -> bool:
        return bool(table.window) or any(rule.owned and is_rolling(done[rule.table]) for rule in table.parents)

    def place(table: Table, below: tuple[str, ...]) -> None:
        if table.name in below:
            raise BadDeclaration(f"{table.name}: its scope runs in a circle")
        above: list[Through | Tie] = [*table.parents, *table.ties]
        for rule in above:
            if rule.table not in tables:
                raise BadDeclaration(f"{table.name}: names unknown table {rule.table}")
            if len(tables[rule.table].key) != 1:
                raise BadDeclaration(f"{table.name}: {rule.table} has a composite key and cannot be a parent")
            if rule.table not in done:
                place(tables[rule.table], (*below, table.name))
        if not table.immutable and any(rule.owned and is_rolling(tables[rule.table]) for rule in table.parents):
            raise BadDeclaration(f"{table.name}: what is owned by a table that rolls is documents or events, or not owned")
        if table.immutable and len(table.ties) > 1:
            raise BadDeclaration(f"{table.name}: a document or event is tied to one table at most")
        done.setdefault(table.name, table)

    for table in sorted(tables.values(), key=lambda table: (_ORDER[table.kind], table.name)):
        place(table, ())
    every = tuple(done.values())
    version = max((table.version for table in every), default=1)
    plain = not any(column.is_dropped for table in every for column in table.columns)
    return Schema(every if plain else _current(every, version), version, every)


def _by_name(declared: Iterable[Table]) -> dict[str, Table]:
    tables = list(declared)
    twins = alike(table.name for table in tables)
    if twins is not None:
        raise BadDeclaration(f"{twins[0]} and {twins[1]}: two tables, and to SQLite one name (it takes A for a); give one another")
    if len(tables) > TABLES_MAX:
        raise BadDeclaration(f"{len(tables)} tables are declared, and a message names {TABLES_MAX} at most; declare fewer")
    return {table.name: table for table in tables}


def _current(every: tuple[Table, ...], version: int) -> tuple[Table, ...]:
    return tuple(table for table in (_table_as_of(each, version, False) for each in every) if table is not None)


def _table_as_of(table: Table, version: int, centre: bool) -> Table | None:
    """Return a table as a version declared it; rules that name columns it had not yet are not among its rules."""
    if table.since > version:
        return None
    pairs = [(column, as_of(column, version, centre=centre)) for column in table.columns]
    now = {column.name: then.name for column, then in pairs if then is not None}
    cells = [_cell_as_of(cell, now) for cell in table.cells]
    return replace(
        table,
        columns=tuple(then for _, then in pairs if then is not None),
        cells=tuple(cell for cell in cells if cell.columns),
        scope=tuple(_renamed(rule, now) for rule in table.scope if isinstance(rule, Everyone) or rule.column in now),
        ties=tuple(_renamed(tie, now) for tie in table.ties if tie.column in now),
        indexes=tuple(now[name] for name in table.indexes if name in now),
        window=now.get(table.window, ""),
    )


def _cell_as_of(cell: Cell, now: dict[str, str]) -> Cell:
    name = now.get(cell.name, cell.name) if cell.columns == (cell.name,) else cell.name
    return replace(cell, name=name, columns=tuple(now[column] for column in cell.columns if column in now))


def _renamed(rule: Any, now: dict[str, str]) -> Any:
    return rule if isinstance(rule, Everyone) else replace(rule, column=now[rule.column])


_ORDER = {Kind.REFERENCE: 0, Kind.RECORD: 1, Kind.SET: 2, Kind.DOCUMENT: 3, Kind.EVENT: 4}


@cache
def load(extra: tuple[str, ...] | None = None) -> Schema:
    """Return the schema of `schema/tables/` and of further folders (`OUTPOST_TABLES`, separated like PATH).

    Raises BadValue for a folder that is not there, and for files of it that cannot be used: tables would be missing in what is opened.
    """
    folders = tuple(filter(None, os.environ.get("OUTPOST_TABLES", "").split(os.pathsep))) if extra is None else extra
    if not folders:
        return together(shipped())
    modules = _shipped_modules()
    for folder in folders:
        if not Path(folder).is_dir():
            raise BadValue(f"OUTPOST_TABLES names {folder}, and there is no such folder. Nothing was opened. Set it right, or unset it.")
        modules += [_import_file(path) for path in sorted(Path(folder).glob("*.py"))]
    try:
        return build(model for module in modules for model in _models(module))
    except BadDeclaration as error:
        raise BadValue(_unusable(f"The tables in {os.pathsep.join(folders)} cannot be used", error)) from error


def shipped() -> tuple[Table, ...]:
    """Return the tables of `schema/tables/`, as they were made before if nothing has changed since."""
    sources, place = made.sources(), made.place()
    tables = made.read(place, sources)
    if tables is None:
        tables = tuple(table_of(model) for module in _shipped_modules() for model in _models(module))
        made.keep(place, sources, tables)
    return tables


def _shipped_modules() -> list[ModuleType]:
    return [importlib.import_module(f"schema.tables.{info.name}") for info in pkgutil.iter_modules(schema.tables.__path__)]


def _unusable(what: str, error: Exception) -> str:
    return f"{what}: {error}. Nothing was opened. Mend the file, or take its folder out of OUTPOST_TABLES."


def _import_file(path: Path) -> ModuleType:
    name = f"outpost_tables_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the program of somebody else does
        del sys.modules[name]
        raise BadValue(_unusable(f"The table file {path} cannot be used", error)) from error
    return module


def _models(module: ModuleType) -> list[type[Synced]]:
    from schema.synced import Synced  # not at the top: there

    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Synced) and value.__module__ == module.__name__ and hasattr(value, "sync")
    ]
