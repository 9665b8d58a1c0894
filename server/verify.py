"""Verify: digests of everything in a node's scope, for the node to compare with its own (PROTOCOL.md §9.3)."""

from __future__ import annotations

from schema.capture import Store
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.digests import digest_where
from server import histories, journal, scopes
from sync.digest import digest_bytes
from sync.errors import Moved
from sync.messages import TableDigest, VerifyReply, VerifyRequest


def verify(store: Store, node: int, request: VerifyRequest) -> VerifyReply:
    """Return the digests at the node's cursor. Raises Moved if the centre is past it; the node pulls and asks again."""
    journal.require(store, request.cursor)
    histories.find(store, node, request.incarnation)
    head = journal.head(store)
    if head.number != request.cursor.number:
        raise Moved(f"The centre is at version {head.number} now.")
    connection = store.connection
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS _visible (sc TEXT PRIMARY KEY)")
    connection.execute("DELETE FROM temp._visible")
    connection.executemany("INSERT INTO temp._visible (sc) VALUES (?)", [(scope,) for scope in scopes.entitled(store, node)])
    return VerifyReply(head.number, tuple(_digest(store, table) for table in store.schema.tables))


def _digest(store: Store, table: Table) -> TableDigest:
    everyone = any(not path.prefix for path in store.schema.paths[table.name])
    where = "1" if everyone else f"EXISTS (SELECT 1 FROM ({_keys_of_row(store, table)}) k WHERE k.sc IN (SELECT sc FROM temp._visible))"
    count, total = digest_where(store, table, where)
    return TableDigest(table.name, count, digest_bytes(total))


def _keys_of_row(store: Store, table: Table) -> str:
    """Return SQL for the scope keys of the row `r` of an outer query."""
    return scopes.keys_sql(store.schema, table, f"(SELECT r.{ROW_ID} AS rid)")
