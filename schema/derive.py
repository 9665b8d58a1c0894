"""From a declared class to the `Table` that everything else works with, and what no declaration may say.

    class Visit(Synced, table=True) ─► table_of ─► columns, cells, checks ─► Table (schema/declare.py)

Whatever would only show later, as an error of SQLite's or as rows that are held for ever, is refused here with what to do instead.
Used by schema/registry.py. Spec: PROTOCOL.md §2.
"""

from __future__ import annotations

import re
import types
import typing

from schema.declare import BadDeclaration, By, Cell, Everyone, Kind, Sync, Table, Through, Tie
from schema.defaults import MADE_BY_A_PROGRAM, wrong_default
from schema.names import alike, folded, wrong_name, wrong_table_name
from schema.past import PAST, TYPES, Change, Column, Renamed, Retyped, wrong_past
from sync.limits import KEY_COLUMNS_MAX, TABLES_MAX
from sync.policy import policies

if typing.TYPE_CHECKING:
    from schema.synced import Synced

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
        window=sync.window,
        version=max([sync.since, *sync.changed, *(change.version for column in columns for change in column.past)]),
    )
    _check(table)
    _check_window(table)
    return table


def _check_window(table: Table) -> None:
    if not table.window:
        return
    found = [column for column in table.columns if column.name == table.window and column.type == "integer"]
    if not found or not table.immutable or table.window in table.key:
        raise BadDeclaration(f"{table.name}: a window rolls by an int column outside the key, of documents or events; not {table.window}")


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
    if field_.default_factory is not None:
        raise BadDeclaration(f"{model.__tablename__}.{name}: {MADE_BY_A_PROGRAM}")
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
    _check_names(table)
    _check_past(table)
    _check_defaults(table)
    if not table.scope:
        raise BadDeclaration(f"{table.name}: no scope")
    for rule in (*table.scope, *table.ties):
        if not isinstance(rule, Everyone):
            _check_rule(table, rule)
    for index in table.indexes:
        if index not in table.position:
            raise BadDeclaration(f"{table.name}: index names unknown column {index}")
    for column in table.columns[: len(table.key)]:
        if column.type != "text":
            raise BadDeclaration(f"{table.name}.{column.name}: a key is text, not {column.type}: declare it as str")
    if table.kind is Kind.SET and table.cells:
        raise BadDeclaration(f"{table.name}.{table.cells[0].columns[0]}: all columns of a set are its key")
    for cell in table.cells:
        _check_policy(table, cell)


def _check_rule(table: Table, rule: By | Through | Tie) -> None:
    """Check the column that a scope or a tie runs through: keys are texts everywhere, and the number 5 is not the text '5'."""
    if rule.column not in table.position:
        raise BadDeclaration(f"{table.name}: scope or tie names unknown column {rule.column}")
    column = table.columns[table.position[rule.column]]
    if column.is_dropped:
        raise BadDeclaration(f"{table.name}: scope or tie names {rule.column}, which is dropped")
    if column.type != "text" or any(isinstance(change, Retyped) for change in column.past):
        wrong = f"not {column.type}" if column.type != "text" else "and was another type before"
        raise BadDeclaration(
            f"{table.name}.{column.name}: a scope or tie runs through a column of text, {wrong}:"
            " keys are text. Declare a column of str for it, and write numbers into it as text"
        )
    if isinstance(rule, By) and not _PREFIX.fullmatch(rule.prefix):
        raise BadDeclaration(f"{table.name}: {rule.prefix!r} is not a scope prefix; take small letters, digits and _")


def _check_names(table: Table) -> None:
    if len(table.names) > TABLES_MAX:
        raise BadDeclaration(f"{table.name}: more than {TABLES_MAX} columns")
    if len(table.key) > KEY_COLUMNS_MAX:
        raise BadDeclaration(f"{table.name}: a key of more than {KEY_COLUMNS_MAX} columns")
    wrong = wrong_table_name(table.name)
    if wrong is not None:
        raise BadDeclaration(f"{table.name[:20]!r}: {wrong}")
    former = [change.name for column in table.columns for change in column.past if isinstance(change, Renamed)]
    for name in (*table.names, *former, *(cell.name for cell in table.cells)):
        wrong = wrong_name(name)
        if wrong is not None:
            raise BadDeclaration(f"{table.name}.{name[:20]!r}: {wrong}")
    twins = alike(table.names)
    if twins is not None:
        raise BadDeclaration(f"{table.name}: {twins[0]} and {twins[1]} are one name to SQLite (it takes A for a); give one of them another")


def _check_defaults(table: Table) -> None:
    for column in table.columns:
        wrong = wrong_default(column)
        if wrong is not None:
            raise BadDeclaration(f"{table.name}.{column.name}: {wrong}")


def _check_past(table: Table) -> None:
    names, former = set(map(folded, table.names)), set[str]()
    for column in table.columns:
        wrong = wrong_past(column)
        before = {folded(change.name) for change in column.past if isinstance(change, Renamed)}
        if wrong is None and column.past and column.name in table.key:
            wrong = "a key does not change: declare another table"
        if wrong is None and (before & former or before & names - {folded(column.name)}):
            wrong = "its former name is, or was, another column's"
        former |= before
        if wrong is not None:
            raise BadDeclaration(f"{table.name}.{column.name}: {wrong}")


def _check_policy(table: Table, cell: Cell) -> None:
    policy = policies().get(cell.policy)
    if policy is None:
        raise BadDeclaration(f"{table.name}.{cell.name}: there is no policy {cell.policy}; there are {', '.join(sorted(policies()))}")
    wrong = policy.check([table.columns[table.position[name]].type for name in cell.columns])
    if wrong is not None:
        raise BadDeclaration(f"{table.name}.{cell.name}: policy {cell.policy} {wrong}")
