"""Rolling windows: what is from before the edge that the centre tells leaves this node, never the centre.

Work of our own that is on its way stays until the cursor covers it; its segment holds all of it in any case (RULES H11). Numbers of
receipts that leave stay given. Spec: PROTOCOL.md §8.7.
"""

from __future__ import annotations

from node import centre, pending, series
from node.database import RELOAD, State
from schema import window
from schema.capture import Store
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.keys import key_parts


def roll(store: Store, state: State, edge: int, changed: bool) -> int:
    """Move the window's edge to where a pull says, inside its commit, capture being off; return how many rows left. `changed`: whether
    it brought anything, or settled something.
    """
    store.connection.execute("UPDATE _node SET edge = ? WHERE id = 1", (edge,))
    if edge != state.edge:  # what was known to differ may be compared no more
        store.connection.execute("UPDATE _proof SET differing = NULL WHERE differing > 0")
    if edge == window.NONE or (edge == state.edge and not changed):
        return 0
    return sum(_leave(store, store.schema.by_name[name], edge) for name in window.rolling(store.schema))


def wanted_afresh(store: Store, state: State, edge: int) -> dict[str, int]:
    """Return the tables to ask for anew with the next pull, and the version they are in: those that roll, where the edge went back, for the
    window was widened, or the centre's clock put right.
    """
    had = window.NONE if state.healing == RELOAD else state.edge  # then all was told by this edge
    is_wider = had != window.NONE and (edge == window.NONE or edge < had)
    return dict.fromkeys(window.rolling(store.schema), store.schema.version) if is_wider else {}


def _leave(store: Store, table: Table, edge: int) -> int:
    """Let rows of a table go that are from before the edge, but for own new ones that are on their way, or are held."""
    connection, outside = store.connection, f"NOT ({window.condition(store.schema, table.name, 'r', edge)})"
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS _staying (rid INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM temp._staying")
    for part in centre.parts(store, table)[1:]:  # the centre's rows under pending work: without them a change of one shows nothing
        for (key,) in connection.execute(f"SELECT {centre.KEY} FROM {part.source} r WHERE {outside}").fetchall():
            pending.set_shadow(store, table.name, key, None)
            pending.redraw(store, table, key)
    numbers = [pending.number_of_row(store, table, key_parts(key, len(table.key))) for key in pending.shadowed(store, table.name)]
    connection.executemany("INSERT OR IGNORE INTO temp._staying (rid) VALUES (?)", [(rid,) for rid in numbers if rid is not None])
    sql = (
        f"FROM {quote(table.name)} AS r WHERE {outside}"
        f" AND NOT EXISTS (SELECT 1 FROM _own o WHERE o.tbl = ? AND r.{ROW_ID} BETWEEN o.lo AND o.hi)"
        f" AND r.{ROW_ID} NOT IN (SELECT rid FROM temp._staying)"
    )
    if connection.execute(f"SELECT 1 {sql} LIMIT 1", (table.name,)).fetchone() is None:
        return 0
    series.before_removal(store, table.name)
    return connection.execute(f"DELETE {sql}", (table.name,)).rowcount
