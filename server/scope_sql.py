"""Scope keys in SQL: one way up from a row along a path of the declaration, used by every query that asks for keys.

    row ── column ──► parent ── column ──► … ──► the path's last row, and there a key: `prefix:<column>`, or `*` for everyone

A row has a path's key only if every parent on the way is there, the key of everyone too (PROTOCOL.md §2.2): a way up that
ends early gives none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

from schema import window
from schema.declare import EVERYONE, Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import literal, quote
from schema.registry import Schema, ScopePath


@dataclass(frozen=True, slots=True)
class _Way:
    """The way up from a row: the parents to join, in this order, and the scope key there, NULL where there is none."""

    joins: tuple[str, ...]
    key: str


def _way(schema: Schema, path: ScopePath, row: str, name: str) -> _Way:
    """Return the way up from a row that a query calls `row`; the parents are called `name`0, `name`1 and so on."""
    top, joins = row, list[str]()
    for depth, (column, parent) in enumerate(path.steps):
        above, identity = f"{name}{depth}", quote(schema.by_name[parent].key[0])
        joins.append(f"{quote(parent)} {above} ON {above}.{identity} = {top}.{quote(column)}")
        top = above
    if path.prefix:
        return _Way(tuple(joins), f"{literal(path.prefix + ':')} || {top}.{quote(path.column)}")
    if not path.steps:
        return _Way((), literal(EVERYONE))
    last = schema.by_name[path.steps[-1][1]]
    return _Way(tuple(joins), f"CASE WHEN {top}.{quote(last.key[0])} IS NOT NULL THEN {literal(EVERYONE)} END")


def prefix_of(key: str) -> str:
    """Return the prefix that paths to a scope key have; of the key of everyone it is empty."""
    return "" if key == EVERYONE else key.partition(":")[0]


def keys_sql(schema: Schema, table: Table, source: str) -> str:
    """Return SQL yielding (rid, scope key) for the row numbers in `source`, a table or subquery with a column `rid`."""
    return _keys_sql(schema, table.name, source)  # by name: hashing a whole declaration costs more than the query


@cache
def _keys_sql(schema: Schema, table: str, source: str) -> str:
    return " UNION ".join(_keys_of_path(schema, table, path, source) for path in schema.paths[table])


def _keys_of_path(schema: Schema, table: str, path: ScopePath, source: str) -> str:
    way = _way(schema, path, "r0", "p")
    joins = " CROSS JOIN ".join([f"{source} s", f"{quote(table)} r0 ON r0.{ROW_ID} = s.rid", *way.joins])
    return f"SELECT s.rid AS rid, {way.key} AS sc FROM {joins} WHERE {way.key} IS NOT NULL"


def row_keys(schema: Schema, table: str) -> tuple[list[str], str]:
    """Return an expression for each path, over a row of a table called r0, and the joins they need: its scope key, or NULL."""
    ways = [_way(schema, path, "r0", f"p{number}_") for number, path in enumerate(schema.paths[table])]
    return [way.key for way in ways], "".join(f" LEFT JOIN {join}" for way in ways for join in way.joins)


@cache
def row_keys_sql(schema: Schema, table: str) -> str:
    """Return SQL yielding one row, a column for each path: a third of the time a UNION of them takes."""
    keys, joins = row_keys(schema, table)
    return f"SELECT {', '.join(keys)} FROM {quote(table)} r0{joins} WHERE r0.{ROW_ID} = ?"


def key_condition(schema: Schema, table: Table, scope: str) -> tuple[str, list[str]]:
    """Return a condition on rows of a table, there called r0, that holds for those with a scope key, and its parameters."""
    paths = [path for path in schema.paths[table.name] if path.prefix == prefix_of(scope)]
    return " OR ".join(_has_key(schema, path, "r0", "= ?") for path in paths) or "1 = 0", [scope] * len(paths)


def shown_condition(schema: Schema, table: Table, edge: int) -> str:
    """Return a condition on rows r of a table: they have a scope key that is in `_visible`, as that of everyone always is, and are not from
    before the edge of a window.
    """
    return _shown(schema, table, edge, ["IN (SELECT sc FROM _visible)"] * len(schema.paths[table.name]))


def shown_under(schema: Schema, table: Table, edge: int, scope: Collection[str]) -> tuple[str, list[str]]:
    """Return the same condition for a few scope keys, that of everyone among them, and its parameters."""
    paths = schema.paths[table.name]
    keys = [] if _is_everyones(paths) else [sorted(key for key in scope if prefix_of(key) == path.prefix) for path in paths]
    tests = [f"IN ({', '.join('?' * len(each))})" if each else "" for each in keys]
    return _shown(schema, table, edge, tests), list(chain.from_iterable(keys))


def _is_everyones(paths: Sequence[ScopePath]) -> bool:
    return any(not path.prefix and not path.steps for path in paths)


def _shown(schema: Schema, table: Table, edge: int, tests: Sequence[str]) -> str:
    """`tests`: of the key of each path, none where it cannot hold."""
    inside, paths = window.condition(schema, table.name, "r", edge), schema.paths[table.name]
    if _is_everyones(paths):
        return inside
    ways = [_has_key(schema, path, "r", test) for path, test in zip(paths, tests, strict=True) if test]
    return f"({' OR '.join(ways) or '1 = 0'}) AND {inside}"


def _has_key(schema: Schema, path: ScopePath, row: str, test: str) -> str:
    way = _way(schema, path, row, "p")
    own = f"{way.key} {test}"
    return f"EXISTS (SELECT 1 FROM (SELECT 1) CROSS JOIN {' CROSS JOIN '.join(way.joins)} WHERE {own})" if way.joins else own
