"""What hangs under a key before its row is there: rows of others must not come into a scope by that (PROTOCOL.md P-6.11).

A row that was deleted leaves children that have another parent or owner; a central program may write a child before its parent.
Whoever then inserts the key gives them the scopes of the new row. That is right for rows the node had, and for those that no
scope ever had, as they waited for this very row; not for rows that are others'.
"""

from __future__ import annotations

from typing import Any

from schema.capture import Store
from schema.declare import Table
from schema.keys import key_text, where_value
from server import rows, scopes


def of_others(store: Store, table: Table, identity: Any, scope: frozenset[str], since: int, *, dead: bool) -> tuple[str, str] | None:
    """Return table and key of a row under a key that is not there which was in none of these scopes at any time after a version;
    None if there is no such row. `dead`: the key was there before, so a row without any scope may have lost it with that.
    """
    for edge in store.schema.children[table.name]:
        for row in rows.select(store, edge.table, *where_value(edge.column, identity)):
            keys = scopes.keys_of(store, edge.table, row[-1])
            if (keys or dead) and keys.isdisjoint(scope) and not scopes.left_since(store, edge.table, row[-1], scope, since):
                return edge.table.name, key_text(row[: len(edge.table.key)])
    return None
