"""Proof: what the centre holds of everything that a pull, or the pulling node itself, changed in the node's scope.

Found by a way of its own, not by what the pages told: every line of the change index after the cursor, under every key the node
has, its own work included. Segments that lie there as they were pushed are named instead of read. Spec: PROTOCOL.md P-8.17.
"""

from __future__ import annotations

from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.digests import Part, digest_sorted
from server import scopes, verify, whole
from server.scopes import ENTER
from server.skew import View
from sync.messages import Proof, TableDigest


def make(view: View, node: int, scope: frozenset[str], cursor: int, head: int) -> Proof | None:
    """Return the proof of a pull from `cursor` to `head`; None where the node's entitlement changed, or it has a column
    of another type: that takes a full verify.
    """
    store = view.store
    if cursor == head:
        return Proof((), ())
    moved = "SELECT 1 FROM _entitled WHERE node = ? AND (since > ? OR until > ?) LIMIT 1"
    if cursor and store.connection.execute(moved, (node, cursor, cursor)).fetchone():
        return None
    verify.show(store, scope)
    compared = view.compared(())
    if any(names for _, names in compared):
        return None
    proof = _Proof(view, scope, scopes.node_scope(node), cursor, head)
    tables = [found for table, _ in compared if (found := proof.table(table)) is not None]
    return Proof(tuple(tables), tuple(proof.whole.values()))


class _Proof:
    def __init__(self, view: View, scope: frozenset[str], private: str, cursor: int, head: int) -> None:
        self.view, self.store, self.scope, self.private, self.span = view, view.store, sorted(scope), private, (cursor, head)
        view.store.connection.execute("CREATE TEMP TABLE IF NOT EXISTS _proof_rid (rid INTEGER PRIMARY KEY)")
        self.whole = self._find_whole()

    def _find_whole(self) -> dict[int, bytes]:
        """Return the versions that are told whole, or were pushed by the node itself, with their segments."""
        sql = "SELECT DISTINCT ver FROM _change WHERE t = ? AND sc = ? AND ver > ? AND ver <= ? AND whole > 0"
        fixed = [self.store.numbers[name] for name in self.store.schema.fixed]
        found: dict[int, bytes] = {}
        for key in self.scope:
            others = [other for other in self.scope if other != key]
            versions = {row[0] for t in fixed for row in self.store.connection.execute(sql, (t, key, *self.span)).fetchall()}
            for version in sorted(versions):
                if whole.find(self.view, key, version, others) is not None:
                    body = "SELECT segment FROM _journal WHERE ver = ?"
                    found[version] = self.store.connection.execute(body, (version,)).fetchone()[0]
        return found

    def table(self, table: Table) -> TableDigest | None:
        """Return the digest of a table's rows in scope that were written, or came into the scope, since the cursor."""
        connection = self.store.connection
        connection.execute("DELETE FROM temp._proof_rid")
        for key in (*self.scope, self.private):
            self._collect(table, key)
        if connection.execute("SELECT 1 FROM temp._proof_rid LIMIT 1").fetchone() is None:
            return None
        where = f"r.{ROW_ID} = w.rid AND ({verify.in_scope(self.store, table)})"
        part = Part(f"temp._proof_rid w CROSS JOIN {quote(table.name)}", where)
        return TableDigest(table.name, *digest_sorted(self.store, table, [part]))

    def _collect(self, table: Table, key: str) -> None:
        connection, place = self.store.connection, (self.store.numbers[table.name], key, *self.span)
        lines = f"FROM _change WHERE t = ? AND sc = ? AND ver > ? AND ver <= ? AND op <= {ENTER}"
        connection.execute(f"INSERT OR IGNORE INTO temp._proof_rid SELECT lo {lines} AND lo = hi AND whole = 0", place)
        fill = f"INSERT OR IGNORE INTO temp._proof_rid SELECT {ROW_ID} FROM {quote(table.name)} WHERE {ROW_ID} BETWEEN ? AND ?"
        for low, high, version in connection.execute(f"SELECT lo, hi, ver {lines} AND (lo < hi OR whole > 0)", place).fetchall():
            if version not in self.whole:
                connection.execute(fill, (low, high))
