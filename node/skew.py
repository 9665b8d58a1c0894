"""Skew: what a centre with an older or a newer declaration sends, and what a node sealed before its own upgrade.

The side that is ahead translates: an older node is sent its own columns, a newer one reads an older centre's. Spec:
PROTOCOL.md §11.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from schema.capture import Store
from schema.declare import Table
from schema.lens import Lens, TableLens, lens_between
from schema.notices import up_notice
from schema.registry import Schema
from sync.change import Op
from sync.errors import BadReply, UnknownTable
from sync.messages import Compared, ConflictNotice, Page, TableDigest, VerifyReply
from sync.segment import OpenSegment


def lens_of(store: Store, page: Page) -> Lens | None:
    """Return how to read a page of an older centre; None for one in this node's own version. Raises UnknownTable."""
    if page.schema > store.schema.version:
        raise UnknownTable(f"The centre sent version {page.schema} of the tables, this node has {store.schema.version}; please update it.")
    return None if page.schema == store.schema.version else lens_between(store.schema, page.schema)


def notices(lens: Lens | None, found: Iterable[ConflictNotice]) -> Iterator[ConflictNotice]:
    """Yield conflicts in this node's columns."""
    for notice in found:
        mine = notice if lens is None else up_notice(lens, notice)
        if mine is not None:
            yield mine


def translated(store: Store, segment: OpenSegment, ops: Iterable[Op]) -> Iterator[Op]:
    """Yield the changes of a segment that was sealed before an upgrade in today's columns."""
    lens = lens_between(store.schema, segment.schema) if segment.schema < store.schema.version else None
    for op in ops:
        table = lens.tables.get(op.table) if lens is not None else None
        mine = op if table is None else table.up_op(op)
        if mine is not None:
            yield mine


def untold(schema: Schema, afresh: Mapping[str, int]) -> dict[str, frozenset[str]]:
    """Return, by table, the cells that nobody here has seen as the centre has them: columns that are new since their rows were told."""
    found = {}
    for name, version in afresh.items():
        table = lens_between(schema, version).tables.get(name)
        new = {column.newer.name for column in table.columns if column.older is None and column.newer is not None} if table else set()
        found[name] = frozenset(cell.name for cell in schema.by_name[name].cells if not new.isdisjoint(cell.columns))
    return found


def incomparable(schema: Schema, reply: VerifyReply) -> tuple[Compared, ...]:
    """Return which columns to compare alone, by the centre's names, of tables that an older centre has otherwise."""
    if reply.schema >= schema.version:
        return ()
    found = []
    for name, table in lens_between(schema, reply.schema).tables.items():
        names = tuple(column.older.name for column in table.comparable if column.older is not None)
        if names != table.older.names:
            found.append(Compared(name, names))
    return tuple(found)


def table_lens(schema: Schema, version: int, name: str) -> TableLens:
    """Return how the centre has a table in the version it answers in. Raises BadReply."""
    lens = lens_between(schema, version).tables.get(name) if version <= schema.version else None
    if lens is None:
        raise BadReply(f"The centre answers for {name} in a version that it cannot have it in.")
    return lens


def as_compared(table: Table, lens: Lens | None, names: Sequence[str]) -> Table | None:
    """Return a table with the columns that a digest of the centre's covers: those it names, or all it has; None where that is no
    comparison. `lens`: how to read an older centre.
    """
    if names:
        columns = tuple(column for column in table.columns if column.name in names)
        return replace(table, columns=columns) if lens is None and tuple(column.name for column in columns) == tuple(names) else None
    if lens is None:
        return table
    known = lens.tables.get(table.name)
    if known is None:
        return table  # the centre does not have it, and has sent nothing of it
    columns = tuple(column.newer for column in known.comparable if column.newer is not None)
    return replace(table, columns=columns) if len(columns) == len(known.older.columns) else None


def compared(schema: Schema, reply: VerifyReply, entry: TableDigest) -> Table:
    """Return a table with the columns that were compared. Raises BadReply."""
    table = schema.by_name.get(entry.table)
    if table is None or reply.schema > schema.version:
        raise BadReply(f"The centre compares {entry.table}, which this node does not have.")
    lens = lens_between(schema, reply.schema).tables.get(table.name)
    if lens is None:
        raise BadReply(f"The centre compares {entry.table}, which it cannot have.")
    names = entry.columns or lens.older.names
    known = [lens.by_older.get(name) for name in names]
    columns = tuple(column.newer for column in known if column is not None and column.newer is not None)
    if len(columns) != len(names):
        raise BadReply(f"The centre compares columns of {entry.table} that this node does not have.")
    return replace(table, columns=columns)
