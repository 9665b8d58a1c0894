"""Older conflicts, told again with their rows: the node may not have had a row for a while, and then it forgot them with it.

A row may have more of them than a page holds. The page is then closed in the middle of them, and the next one goes on there: the row
is told already, and the position says what is `owed` of it: 0 nothing, else 1 + the number of the conflict told last.
Spec: PROTOCOL.md P-8.6. Driven by server/feed.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schema.capture import Store, clean_row, read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from server import conflicts, scopes
from server.draft import Draft
from sync.limits import PAGE_NOTICES_MAX

CHUNK_ROWS = 256
"""Rows of a table with conflicts that are read at a time: those behind a place where a page was full are told again."""


@dataclass(frozen=True, slots=True)
class Disputes:
    """One node's older conflicts, up to the version at which a sweep begins: later ones are told by themselves."""

    store: Store
    node: int
    scope: frozenset[str]
    low: int

    def tell(self, draft: Draft, table: Table, rows: Sequence[Any]) -> tuple[int, int] | None:
        """Tell those of rows (number last) that the page holds; return the row in which it was full, and what is owed of that."""
        if rows and conflicts.disputed(self.store, table):
            for row in rows:
                owed = self._tell(draft, table, row[: len(table.key)], 0)
                if owed:
                    return row[-1], owed
        return None

    def go_on(self, draft: Draft, table: Table, rid: int, owed: int) -> int:
        """Tell what is owed of a row; return what is owed still. Of a row that went meanwhile the next sweep tells that it went."""
        key = read_rows(self.store, f"SELECT {', '.join(map(quote, table.key))} FROM {quote(table.name)} WHERE {ROW_ID} = ?", (rid,))
        if not key or self.scope.isdisjoint(scopes.keys_of(self.store, table, rid)):
            return 0
        return self._tell(draft, table, key[0], owed - 1)

    def _tell(self, draft: Draft, table: Table, key: Sequence[Any], after: int) -> int:
        limit = max(0, PAGE_NOTICES_MAX - len(draft.conflicts))
        room = None if draft.is_empty else draft.room
        found = conflicts.notices_of_row(self.store, self.node, table, clean_row(tuple(key)), (after, self.low), limit, room)
        notices, last, size, more = found
        draft.add_conflicts(notices, size)
        return last + 1 if more else 0
