"""What held work waits for, and how the centre tells that it may have come: never by trying again and again.

Held work names the row it waits for, and keeps what it saw of that row when it was last tried. It is tried again when it would
see something else, and at no other time: so every try has a cause, and tries end when causes do. Spec: PROTOCOL.md §6.3.
"""

from __future__ import annotations

from schema.capture import Store
from schema.keys import key_parts
from server import rows, scopes
from server.held import Held

RIGHTS = ("right", "key")
"""Codes of work that waits for the node to be entitled to a row, or for the row to move or die."""

ROWS = ("parent", "row")
"""Codes of work that waits for a row to be there."""

DECLARED = ("schema", "type", "null")
"""Codes of work that another version of the declaration may let pass."""


def may_go(store: Store, held: Held) -> bool:
    """Tell whether what held work waits for may have come."""
    if held.code == "depends":
        sql = "SELECT 1 FROM _held_row WHERE node = ? AND tbl = ? AND key = ? AND held < ?"
        return store.connection.execute(sql, (held.node, held.wait_tbl, held.wait_key, held.id)).fetchone() is None
    return seen_now(store, held.node, held.code, held.wait_tbl, held.wait_key) != held.saw


def note(store: Store, held: int, node: int, code: str, table: str | None, key: str | None) -> None:
    """Keep what held work sees now of what it waits for."""
    saw = seen_now(store, node, code, table, key)
    store.connection.execute("INSERT OR REPLACE INTO _waits (held, saw) VALUES (?, ?)", (held, saw))


def seen_now(store: Store, node: int, code: str, table: str | None, key: str | None) -> str:
    """Return what there is to see: equal texts mean that trying again would end as it did."""
    if code in DECLARED:
        return f"schema {store.schema.version}"
    if code in RIGHTS:
        sql = "SELECT COALESCE(MAX(since), 0), COALESCE(MAX(until), 0) FROM _entitled WHERE node = ?"
        return " ".join(map(str, (*store.connection.execute(sql, (node,)).fetchone(), _row(store, node, table, key))))
    return _row(store, node, table, key) if code in ROWS else ""


def _row(store: Store, node: int, name: str | None, text: str | None) -> str:
    table = store.schema.by_name.get(name or "")
    if table is None or text is None:
        return ""
    key = key_parts(text, len(table.key))
    rid = scopes.rid_of(store, table, key)
    if rid is not None:
        return f"here {rid} {sorted(scopes.keys_of(store, table, rid))}"
    grave = rows.grave(store, table, key)
    return f"dead {grave.version}" if grave is not None else lost(store, node, table.name, text)


def lost(store: Store, node: int, table: str, key: str) -> str:
    """Return whether a row that never was at the centre will not come from this node: 'refused', 'withdrawn', or ''."""
    if store.connection.execute("SELECT 1 FROM _refused_insert WHERE tbl = ? AND key = ?", (table, key)).fetchone():
        return "refused"
    sql = "SELECT 1 FROM _given_up WHERE node = ? AND tbl = ? AND key = ?"
    return "withdrawn" if store.connection.execute(sql, (node, table, key)).fetchone() else ""


def give_up(store: Store, node: int, table: str, key: str) -> None:
    """Note that a node took back a row before the centre had it: what waits for it need not wait any more."""
    store.connection.execute("INSERT OR IGNORE INTO _given_up (node, tbl, key) VALUES (?, ?, ?)", (node, table, key))
