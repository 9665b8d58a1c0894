"""Who knew what: every value written, and the values its writer had before their eyes.

A value names its write: nearly all values the simulator writes are used once. The few that are not (NULL, "same") are
`common`: they may stand for several writes, so the strict questions leave them out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from tests.simulation.oracle import ADDS, OWNED, UNIONS, Key, Row, Rows, cells_of

RECORDS = ("client", "visit", "errand", "call")


class Write(NamedTuple):
    """One value of one cell."""

    table: str
    key: Key
    cell: str
    value: Any


def is_common(value: Any) -> bool:
    """Tell whether a value may have been written more than once."""
    parts = value if isinstance(value, tuple) else (value,)
    return any(part is None or (isinstance(part, str) and part[:1] != "w") or (isinstance(part, int) and part < 100) for part in parts)


def writes_of(table: str, key: Key, row: Row, keys: tuple[str, ...]) -> list[Write]:
    """Return the writes that stand in a row; columns that add up and the key are no part of them."""
    return [
        Write(table, key, cell, value)
        for cell, value in cells_of(table, row).items()
        if cell not in keys and (table, cell) not in ADDS | UNIONS
    ]


class Causes:
    """What was seen by whom."""

    def __init__(self, keys: dict[str, tuple[str, ...]]) -> None:
        self.keys = keys
        self.seen: dict[Write, set[Write]] = defaultdict(set)
        self.deletes: dict[tuple[str, Key], set[Write]] = defaultdict(set)
        self.lives: set[tuple[str, Key]] = set()  # rows somebody deleted, or inserted where there was one

    def row(self, table: str, key: Key, row: Row) -> list[Write]:
        """Return the writes that stand in a row."""
        return writes_of(table, key, row, self.keys[table])

    def record(self, before: Rows, after: Rows, gone: dict[tuple[str, Key], set[Write]]) -> None:
        """Take down what one person changed in one go.

        `gone`: rows with own work still on its way, and what was known when it was done: of a deletion, the row; of a row that
        stands, what hangs below it. Whoever replaces a row and deletes it later knew its children then, even if the row was taken
        from this node's scope in between and only the pending replacement shows it (seed 963).
        """
        for table in RECORDS:
            for key in sorted(before[table].keys() | after[table].keys()):
                old, new = before[table].get(key), after[table].get(key)
                if old is new or old == new:
                    continue
                if new is None:
                    self.deleted([before, after], table, key, gone)
                elif old is None:
                    known = {write for write in gone.get((table, key), set()) if (write.table, write.key) == (table, key)}
                    for write in self.row(table, key, new):
                        self.seen[write] |= known
                else:
                    gone[table, key] = self._below(before, table, key) | gone.get((table, key), set())
                    for was, now in zip(self.row(table, key, old), self.row(table, key, new), strict=True):
                        if was != now:
                            self.seen[now].add(was)

    def deleted(self, seen: list[Rows], table: str, key: Key, gone: dict[tuple[str, Key], set[Write]]) -> None:
        """Take down a deletion, and that of everything that dies with the row, as it was `seen` before and after."""
        self.lives.add((table, key))
        if table in RECORDS:
            known = {write for rows in seen if key in rows[table] for write in self.row(table, key, rows[table][key])}
            self.deletes[table, key] |= known
            for write in gone.get((table, key), set()):
                self.deletes[write.table, write.key].add(write)
            gone[table, key] = known | gone.get((table, key), set())
        for child, column in OWNED.get(table, ()):
            for child_key in sorted({below for rows in seen for below, row in rows[child].items() if row[column] == key[0]}):
                self.deleted(seen, child, child_key, gone)

    def _below(self, rows: Rows, table: str, key: Key) -> set[Write]:
        """Return the writes that stand in what dies with a row."""
        found: set[Write] = set()
        for child, column in OWNED.get(table, ()):
            for child_key, row in rows[child].items():
                if child in RECORDS and row[column] == key[0]:
                    found.update(self.row(child, child_key, row), self._below(rows, child, child_key))
        return found

    def past(self, writes: Iterable[Write], *, strict: bool = False, twice: Collection[Write] = ()) -> set[Write]:
        """Return everything that was known, directly or not, to whoever made these writes; without the writes themselves.

        `strict`: not by way of values that may stand for several writes: common ones, and those that somebody wrote `twice`.
        """
        found: set[Write] = set()
        todo = [seen for write in writes for seen in self.seen.get(write, ())]
        while todo:
            write = todo.pop()
            if write not in found and not (strict and (is_common(write.value) or write in twice)):
                found.add(write)
                todo += self.seen.get(write, ())
        return found

    def knew(self, later: Write, earlier: Write) -> bool:
        """Tell whether `later` was, or may have been, written in the knowledge of `earlier`."""
        return earlier in self.past([later])

    def deleted_knowingly(self, write: Write) -> bool:
        """Tell whether somebody deleted the row in the knowledge of a write."""
        known = self.deletes.get((write.table, write.key), set())
        return write in known or write in self.past(known)
