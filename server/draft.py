"""A page of the feed while it is being filled: what is in it, and how much still goes in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schema.declare import Table
from sync.limits import PAGE_ROWS, PAGE_SEGMENTS_MAX
from sync.messages import Accepted, ConflictNotice, LateVerdict, SealedRows

PAGE_BYTES = 8 * 1024 * 1024
"""Bytes of texts, blobs and sealed segments at which a page is closed."""

_FIRST_ROWS = 256


@dataclass(slots=True)
class Draft:
    """A page being filled. `budget`: how many rows and removals still go in."""

    budget: int
    rows: dict[str, list[Any]] = field(default_factory=dict)
    sealed: list[SealedRows] = field(default_factory=list)
    removals: dict[str, dict[tuple[Any, ...], None]] = field(default_factory=dict)
    deaths: dict[str, dict[tuple[Any, ...], None]] = field(default_factory=dict)
    conflicts: list[ConflictNotice] = field(default_factory=list)
    segments: list[Accepted] = field(default_factory=list)
    verdicts: list[LateVerdict] = field(default_factory=list)
    bytes: int = 0

    @property
    def room(self) -> int:
        """Return how many bytes still go in."""
        return max(0, PAGE_BYTES - self.bytes)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is in it that takes room: then whatever comes next goes in, however large."""
        return not (self.rows or self.removals or self.deaths or self.sealed or self.conflicts or self.verdicts)

    def add_rows(self, table: Table, rows: list[Any], size: int) -> None:
        """Add the newest state of rows, each with its number last; their texts and blobs take `size` bytes at most."""
        self.rows.setdefault(table.name, []).extend(rows)
        self._take(len(rows), size)

    def add_conflicts(self, notices: list[ConflictNotice], size: int) -> None:
        """Add conflicts whose values take `size` bytes."""
        self.conflicts += notices
        self._take(len(notices), size)

    def add_verdicts(self, verdicts: list[LateVerdict]) -> None:
        """Add what became of transactions; reasons take room too."""
        self.verdicts += verdicts
        self.bytes += sum(len(verdict.reason.encode()) for verdict in verdicts)

    def has_room_for(self, rows: int, size: int) -> bool:
        """Tell whether a whole segment of so many rows and bytes still goes in; into an empty page always."""
        return (rows <= self.budget and size <= self.room) or self.is_empty

    def add_sealed(self, sealed: SealedRows) -> None:
        """Add a whole segment."""
        self.sealed.append(sealed)
        self._take(sealed.count, len(sealed.body))
        if len(self.sealed) == PAGE_SEGMENTS_MAX:
            self.budget = 0

    def chunk(self) -> int:
        """Return how many rows to read next: few at first, more while they prove small, never beyond the budget."""
        read = sum(map(len, self.rows.values()))
        small = self.bytes < 1024 * max(read, 1)
        return max(1, min(self.budget, PAGE_ROWS if small and read >= _FIRST_ROWS else _FIRST_ROWS))

    def add_removals(self, table: Table, keys: Iterable[tuple[Any, ...]]) -> None:
        """Add the keys of rows that left the scope; one that is there already counts once."""
        self._add_keys(self.removals, table, keys)

    def add_deaths(self, table: Table, keys: Iterable[tuple[Any, ...]]) -> None:
        """Add the keys of rows that were deleted."""
        self._add_keys(self.deaths, table, keys)

    def _add_keys(self, places: dict[str, dict[tuple[Any, ...], None]], table: Table, keys: Iterable[tuple[Any, ...]]) -> None:
        found = places.setdefault(table.name, {})
        before = len(found)
        found.update(dict.fromkeys(keys))
        self.budget -= len(found) - before

    def _take(self, rows: int, size: int) -> None:
        self.budget -= rows
        self.bytes += size
        if self.bytes > PAGE_BYTES:
            self.budget = 0
