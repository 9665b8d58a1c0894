"""Rolling windows: which documents and events a node keeps that holds only those of the last days.

A table declares by which column it rolls; what dies with a row of it goes with it. The edge of the window is an instant that the centre
tells; rows from before it leave the node, never the centre. Used by both sides. Spec: PROTOCOL.md §8.7; RULES H11.
"""

from __future__ import annotations

from functools import cache

from schema.dialects.sqlite import quote
from schema.registry import Schema

NONE = 0
"""The edge of a node that keeps everything."""


def condition(schema: Schema, table: str, row: str, edge: int) -> str:
    """Return a condition on rows of a table, in a query called `row`: they are not from before the edge. `1 = 1` where it does not roll."""
    if edge == NONE:
        return "1 = 1"
    return " AND ".join(_conditions(schema, table, row, edge)) or "1 = 1"


def _conditions(schema: Schema, name: str, row: str, edge: int) -> list[str]:
    table, found = schema.by_name[name], list[str]()
    if table.window:
        column = f"{row}.{quote(table.window)}"
        found.append(f"({column} IS NULL OR {column} >= {int(edge)})")
    for rule in table.parents:
        if rule.owned and rule.table in rolling(schema):
            column, above = f"{row}.{quote(rule.column)}", f"{row}_w"
            inner = " AND ".join(_conditions(schema, rule.table, above, edge))
            parent = f"{quote(rule.table)} {above} WHERE {above}.{quote(schema.by_name[rule.table].key[0])} = {column}"
            found.append(f"({column} IS NULL OR EXISTS (SELECT 1 FROM {parent} AND {inner}))")
    return found


@cache
def rolling(schema: Schema) -> tuple[str, ...]:
    """Return the tables that roll, by themselves or with the rows they die with; children first."""
    found: set[str] = set()
    for table in sorted(schema.tables, key=lambda table: schema.rank[table.name]):
        if table.window or any(rule.owned and rule.table in found for rule in table.parents):
            found.add(table.name)
    return tuple(sorted(found, key=lambda name: -schema.rank[name]))
