"""Proof: what the centre holds of everything that a pull, or the pulling node itself, changed in the node's scope.

Found by a way of its own, not by what the pages told: every line of the change index after the cursor, under every key the node
has, its own work included. Segments that lie there as they were pushed are named instead of read. Spec: PROTOCOL.md P-8.17.
"""

from __future__ import annotations

from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.digests import Part, digest_of_rows
from server import scopes, touched, verify, whole
from server.scope_sql import shown_condition
from server.scopes import ENTER
from server.skew import View
from sync.messages import Proof, TableDigest


def make(view: View, node: int, scope: frozenset[str], cursor: int, head: int) -> Proof | None:
    """Return the proof of a pull from `cursor` to `head`; None where the node's entitlement changed: that takes a full verify.

    Of a table of which the node has some column otherwise, the others are compared, as in a full verify (PROTOCOL.md P-11.9).
    """
    store = view.store
    if cursor == head:
        return Proof((), ())
    moved = "SELECT 1 FROM _entitled WHERE node = ? AND (since > ? OR until > ?) LIMIT 1"
    if cursor and store.connection.execute(moved, (node, cursor, cursor)).fetchone():
        return None
    verify.show(store, scope)
    proof = _Proof(view, scopes.node_scope(node), cursor, head)
    tables = [found for table, names in view.compared(()) if (found := proof.table(table, names)) is not None]
    return Proof(tuple(tables), tuple(proof.whole.values()))


class _Proof:
    """Looks under all scope keys of a node at once: one that sees a whole company has thousands of them."""

    def __init__(self, view: View, private: str, cursor: int, head: int) -> None:
        self.view, self.store, self.private, self.span = view, view.store, private, (cursor, head)
        store, connection = view.store, view.store.connection
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS _proof_rid (rid INTEGER PRIMARY KEY)")
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS _proof_run (lo INTEGER NOT NULL, hi INTEGER NOT NULL, ver INTEGER NOT NULL)")
        visible = "SELECT sc FROM _visible UNION ALL SELECT CAST(? AS TEXT)"
        self._touched = touched.tables(store, visible, (private,), store.numbers.values(), cursor, head)
        self.whole = self._find_whole()

    def _find_whole(self) -> dict[int, bytes]:
        """Return the versions that are told whole, or were pushed by the node itself, with their segments."""
        found: dict[int, bytes] = {}
        keys = self._keys_of_whole()
        for version, scopes_of in sorted(keys.items()):
            tellable = (whole.find(self.view, key, version, scopes_of - {key}) for key in sorted(scopes_of))
            if any(each is not None for each in tellable):
                body = "SELECT segment FROM _journal WHERE ver = ?"
                found[version] = self.store.connection.execute(body, (version,)).fetchone()[0]
        return found

    def _keys_of_whole(self) -> dict[int, set[str]]:
        """Return the versions of which anything may be told whole, each with all scope keys of the node that it touched."""
        found: dict[int, set[str]] = {}
        lines = "FROM _visible v CROSS JOIN _change c WHERE c.t = ? AND c.sc = v.sc AND c.ver > ? AND c.ver <= ?"
        fixed = [t for name in self.store.schema.fixed if (t := self.store.numbers[name]) in self._touched]
        for t in fixed:
            sql = f"SELECT DISTINCT c.ver {lines} AND c.whole > 0"
            found |= {row[0]: set() for row in self.store.connection.execute(sql, (t, *self.span))}
        for t in fixed if found else ():
            for version, key in self.store.connection.execute(f"SELECT DISTINCT c.ver, c.sc {lines}", (t, *self.span)):
                if version in found:
                    found[version].add(key)
        return found

    def table(self, table: Table, names: tuple[str, ...]) -> TableDigest | None:
        """Return the digest of a table's rows in scope that were written, or came into the scope, since the cursor."""
        if self.store.numbers[table.name] not in self._touched:
            return None
        self._collect(table)
        connection = self.store.connection
        if connection.execute("SELECT 1 FROM _proof_rid LIMIT 1").fetchone() is None:
            return None
        parts = [Part(quote(table.name), shown_condition(self.store.schema, table, self.view.edge))]
        return TableDigest(table.name, *digest_of_rows(self.store, table, parts, "_proof_rid"), names)

    def _collect(self, table: Table) -> None:
        """Put the numbers of these rows into `_proof_rid`, but for those of whole segments."""
        connection = self.store.connection
        connection.execute("DELETE FROM _proof_rid")
        connection.execute("DELETE FROM _proof_run")
        connection.execute(
            "INSERT INTO _proof_run SELECT c.lo, c.hi, CASE WHEN c.lo < c.hi OR c.whole > 0 THEN c.ver ELSE 0 END"
            " FROM (SELECT sc FROM _visible UNION ALL SELECT ?) v CROSS JOIN _change c"
            f" WHERE c.t = ? AND c.sc = v.sc AND c.ver > ? AND c.ver <= ? AND c.op <= {ENTER}",
            (self.private, self.store.numbers[table.name], *self.span),
        )
        connection.execute("INSERT INTO _proof_rid SELECT lo FROM _proof_run WHERE ver = 0 ON CONFLICT DO NOTHING")
        fill = f"INSERT INTO _proof_rid SELECT {ROW_ID} FROM {quote(table.name)} WHERE {ROW_ID} BETWEEN ? AND ? ON CONFLICT DO NOTHING"
        for low, high, version in connection.execute("SELECT lo, hi, ver FROM _proof_run WHERE ver > 0").fetchall():
            if version not in self.whole:
                connection.execute(fill, (low, high))
