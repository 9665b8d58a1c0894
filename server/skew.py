"""Skew: nodes whose declaration is older or newer than the centre's.

    an older node's work ─ up ─► today's columns ─► judged, merged        (a column it does not know stays as it stands)
    a newer node's work  ─────► what names unknown columns is held (`schema`), until the centre is upgraded
    today's rows ─ down ─► an older node's columns; tables it does not know are left out

Spec: PROTOCOL.md §11.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schema import window
from schema.capture import Store
from schema.declare import Table
from schema.lens import Lens, TableLens, lens_between
from schema.notices import down_notice, up_notice
from server.holding import Hold
from sync.messages import Compared, ConflictNotice, Page, Removals, Rows
from sync.rows import columns_of, rows_of
from sync.segment import OpenSegment, read_segment


def open_segment(store: Store, body: bytes) -> OpenSegment:
    """Return a segment in the centre's columns; one from a newer node as it is. Raises what read_segment raises."""
    segment = read_segment(body)
    return lens_between(store.schema, min(segment.schema, store.schema.version)).up_segment(segment)


def rows_of_page(store: Store, page: Page) -> tuple[list[tuple[TableLens, tuple[Any, ...]]], bool]:
    """Return the rows of a page that was once told, in whatever version, as they were told: (how its version had the table, values);
    and whether these are all of them. Of tables and columns that the centre does not know there are none.
    """
    blocks = [(page.schema, block.table, block.columns, rows_of(block.values, block.count, len(block.columns))) for block in page.rows]
    for sealed in page.sealed:
        segment = read_segment(sealed.body)
        blocks += [(segment.schema, inserts.table, inserts.columns, inserts.values) for inserts in segment.inserts]
    found, is_whole = list[tuple[TableLens, tuple[Any, ...]]](), True
    for version, name, columns, values in blocks:
        table = lens_between(store.schema, min(version, store.schema.version)).tables.get(name)
        if table is None or tuple(columns) != table.older.names:
            is_whole = False
        else:
            found += [(table, row) for row in zip(*values, strict=True)]
    return found, is_whole


def notices_of_page(store: Store, page: Page) -> Iterator[ConflictNotice]:
    """Yield what a page that was once told says of conflicts, in the centre's columns."""
    lens = lens_between(store.schema, min(page.schema, store.schema.version))
    return (mine for notice in page.conflicts if (mine := up_notice(lens, notice)) is not None)


def waits_for_upgrade(store: Store, hold: Hold, version: int) -> None:
    """Say of what an older centre cannot read, from a newer node, that it waits for the centre's upgrade (server/waits.py)."""
    if version > store.schema.version and hold.code in ("type", "null"):
        hold.code = "schema"


@dataclass(frozen=True)
class View:
    """The centre's rows as a node's version of the declaration has them."""

    store: Store
    version: int
    is_ahead: bool = False  # the node knows more than is shown here
    edge: int = window.NONE  # what rolls is shown from then on

    @staticmethod
    def of(store: Store, version: int, edge: int = window.NONE) -> View:
        """Return the view of a node: of one that is ahead, the centre's own version."""
        return View(store, min(version, store.schema.version), version > store.schema.version, edge)

    def table(self, name: str) -> TableLens | None:
        """Return how the node has a table, or None if it does not know it."""
        return lens_between(self.store.schema, self.version).tables.get(name)

    @property
    def tables(self) -> dict[str, Table]:
        """Return the tables that the node knows, in the centre's columns."""
        return {table.name: table for table in self.store.schema.tables if self.table(table.name) is not None}

    def rows(self, table: Table, rows: Sequence[Any]) -> Rows | None:
        """Return rows (values in declared order, more may follow) as a block of a page; None for a table it does not know."""
        lens = self.table(table.name)
        if lens is None:
            return None
        if lens.is_plain:
            return Rows(table.name, table.names, len(rows), columns_of(rows, len(table.names)))
        names = lens.older.names
        return Rows(table.name, names, len(rows), columns_of(self.values(table, rows), len(names)))

    def values(self, table: Table, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return rows (values in declared order, more may follow) of a table it knows in its columns."""
        lens = self.table(table.name)
        assert lens is not None
        width = len(table.names)
        if lens.is_plain or not rows:
            return [row[:width] for row in rows]
        columns = zip(*(row[:width] for row in rows), strict=True)
        return list(zip(*lens.down_rows(list(columns), len(rows)), strict=True))

    def removals(self, table: Table, keys: Sequence[tuple[Any, ...]]) -> Removals | None:
        """Return removed rows as a block of a page; None for a table it does not know."""
        if self.table(table.name) is None:
            return None
        return Removals(table.name, len(keys), columns_of(keys, len(table.key)))

    def conflicts(self, notices: Iterable[ConflictNotice]) -> tuple[ConflictNotice, ...]:
        """Return what the node can read of conflicts: those of columns it knows."""
        lens = lens_between(self.store.schema, self.version)
        found = (down_notice(lens, notice) for notice in notices)
        return tuple(notice for notice in found if notice is not None)

    def unchanged(self, table: str) -> frozenset[int]:
        """Return the versions whose segments hold rows of a table in the very columns that the node has, as far as is known."""
        lens, memo = self.table(table), self.store.schema.memo
        if lens is None or self.is_ahead:
            return frozenset()
        known: frozenset[int] | None = memo.get((table, self.version))
        if known is None:
            versions = range(1, self.store.schema.version + 1)
            known = memo[table, self.version] = frozenset(version for version in versions if self._is_same(table, version))
        return known

    def _is_same(self, name: str, version: int) -> bool:
        """Tell whether a version had a table's rows just as the node has them: a type that came back does not bring back values."""
        older, newer = sorted((version, self.version))
        table = Lens(self.store.schema.at(older), self.store.schema.at(newer)).tables.get(name)
        return table is not None and table.is_plain

    def compared(self, only: Sequence[Compared]) -> list[tuple[Table, tuple[str, ...]]]:
        """Return the tables that node and centre can compare, each with the columns that both have, and how the node calls
        these: no names where they are all it has.
        """
        asked = {entry.table: entry.columns for entry in only}
        found = []
        for table in self.store.schema.tables:
            lens = self.table(table.name)
            if lens is None:
                continue
            wanted = asked.get(table.name, lens.older.names)
            shared = [column for column in lens.comparable if column.older is not None and column.older.name in wanted]
            names = tuple(column.older.name for column in shared if column.older is not None)
            columns = tuple(column.newer for column in shared if column.newer is not None)
            found.append((replace(table, columns=columns), () if names == lens.older.names else names))
        return found
