"""Verify: proving that this node holds exactly the centre's rows in its scope, but for its own pending work.

Spec: PROTOCOL.md §9.3. The node's side of the sum: rows people see, without those that are ours and not covered yet,
plus the centre's rows under pending changes.
"""

from __future__ import annotations

from node import outbox
from node.cycle import Cycle
from node.cycle import Report as SyncReport
from node.database import Database, read_state
from node.pending import number_of_row
from node.transport import Exchange
from node.verdicts import counts
from schema.capture import Store
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.digests import digest_rows, digest_where
from schema.images import unpack_values
from schema.keys import key_parts
from sync.digest import digest_bytes
from sync.errors import Moved
from sync.limits import EXCHANGE_RETRIES_MAX, PROTOCOL_VERSIONS
from sync.messages import VerifyReply, VerifyRequest


def verify(database: Database, exchange: Exchange) -> dict[str, object]:
    """Compare with the centre at our cursor, pulling first as often as it has moved on. Raises Moved if it never rests."""
    for attempt in range(EXCHANGE_RETRIES_MAX):
        state = database.state()
        request = VerifyRequest(PROTOCOL_VERSIONS[-1], state.epoch, state.incarnation, state.cursor)
        try:
            return compare(database, exchange.verify(request))
        except Moved:
            if attempt == EXCHANGE_RETRIES_MAX - 1:
                raise
            Cycle(database, exchange).pull(SyncReport())
    raise AssertionError("unreachable")


def compare(database: Database, theirs: VerifyReply) -> dict[str, object]:
    """Return what `outpost node verify --json` prints."""
    with database.writing() as store:  # nothing moves meanwhile
        outbox.seal(store, database.clock_ms())
        ours = {table.name: centre_rows(store, table) for table in store.schema.tables}
        cursor = read_state(store.connection).cursor.number
    tables: dict[str, object] = {}
    equal = theirs.version == cursor
    for entry in theirs.tables:
        count, digest = ours.get(entry.table, (0, digest_bytes(0)))
        same = (count, digest) == (entry.rows, entry.digest)
        equal = equal and same
        tables[entry.table] = {"equal": same, "rows": count, "centre_rows": entry.rows, "digest": digest.hex()}
    return {"equal": equal, "version": theirs.version, "tables": tables, "held": counts(database.store)[2]}


def centre_rows(store: Store, table: Table) -> tuple[int, bytes]:
    """Return (rows, digest) of what the centre holds as this node knows it."""
    own = f"EXISTS (SELECT 1 FROM _own o WHERE o.tbl = ? AND o.lo <= r.{ROW_ID} AND o.hi >= r.{ROW_ID})"
    connection = store.connection
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS _hidden (rid INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM temp._hidden")
    shadows = connection.execute("SELECT key, image FROM _shadow WHERE tbl = ?", (table.name,)).fetchall()
    for key, _ in shadows:
        rid = number_of_row(store, table, key_parts(key, len(table.key)))
        if rid is not None:
            connection.execute("INSERT OR IGNORE INTO temp._hidden (rid) VALUES (?)", (rid,))
    pending = connection.execute("SELECT 1 FROM _own WHERE tbl = ? LIMIT 1", (table.name,)).fetchone()
    visible = f"NOT {own}" if pending else "? IS NOT NULL"
    hidden = f"r.{ROW_ID} NOT IN (SELECT rid FROM temp._hidden)" if shadows else "1"
    count, total = digest_where(store, table, f"{visible} AND {hidden}", (table.name,))
    images = [unpack_values(image) for _, image in shadows if image is not None]
    under, shadow_total = digest_rows(table, images)
    return count + under, digest_bytes(total + shadow_total)
