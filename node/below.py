"""Below: what is typed under a row after that was deleted here (PROTOCOL.md P-5.17).

Programs without foreign keys leave the children of a row they delete in view, and people go on typing into them. The deletion
must not take with it what was not there yet.
"""

from __future__ import annotations

from typing import Any

from node import pending
from schema.capture import Change, Look, Row
from schema.declare import Table

_UNKNOWN = 1 << 62
"""When a new row was typed is in no log: it counts as typed after everything."""


class Below:
    """What one look finds typed under rows that are not here any more."""

    def __init__(self, look: Look) -> None:
        self._store, self._last = look.store, dict[tuple[str, Any], int]()
        self._any = look.has_deletions()

    def note(self, change: Change) -> None:
        """Take a change of the look; every one, before what it may lie below is asked for."""
        if self._any and change.row is not None:
            self._climb(change.table, change.row, change.last or _UNKNOWN)

    def _climb(self, table: Table, row: Row, at: int) -> None:
        for rule in table.parents:
            key = row[table.position[rule.column]]
            if key is None or not rule.owned:
                continue
            parent = self._store.schema.by_name[rule.table]
            above = pending.seen(self._store, parent, (key,))
            if above is not None:
                self._climb(parent, above, at)
            else:
                self._last[rule.table, key] = max(at, self._last.get((rule.table, key), 0))

    def outlasts(self, change: Change) -> bool:
        """Tell whether something was typed below a row after it was deleted by this change."""
        return change.kind == "delete" and self._last.get((change.table.name, change.key[0]), 0) > change.last
