"""Below: others' values that our own pending work hides under a row. Whoever deletes the row has not seen them (P-5.17; RULES H8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from node import pending
from schema.capture import Store
from schema.declare import Table
from schema.keys import key_parts


class Below:
    """The least base of our pending work under each row that would take it along; looked up when first asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._least: dict[tuple[str, Any], int] | None = None

    def base(self, table: Table, key: Sequence[Any]) -> int:
        """Return the least base of what was pending below a row when this was made; beyond every cursor if nothing was."""
        if self._least is None:
            self._least = {}
            for child in self._store.schema.tables:
                if any(rule.owned for rule in child.parents):
                    self._look(child)
        return self._least.get((table.name, key[0]), 1 << 62)

    def _look(self, child: Table) -> None:
        sql = "SELECT DISTINCT key FROM _op WHERE tbl = ?"
        for (text,) in self._store.connection.execute(sql, (child.name,)).fetchall():
            key = key_parts(text, len(child.key))
            row = pending.seen(self._store, child, key)
            changes = pending.standing(pending.of_row(self._store, child, key))
            if row is not None and changes:
                self._climb(child, row, pending.knowledge(changes, None, 1 << 62, 0)[0])

    def _climb(self, table: Table, row: Sequence[Any], base: int) -> None:
        for rule in table.parents:
            key = row[table.position[rule.column]]
            if key is None or not rule.owned:
                continue
            assert self._least is not None
            self._least[rule.table, key] = min(base, self._least.get((rule.table, key), base))
            parent = self._store.schema.by_name[rule.table]
            above = pending.seen(self._store, parent, (key,))
            if above is not None:
                self._climb(parent, above, base)
