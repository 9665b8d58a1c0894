"""Proof: what the centre holds of everything that a pull, or the pulling node itself, changed in the node's scope.

    few scope keys, few lines ─► read (`_Few`)              many ─► kept in tables of the session, and joined there (`_Many`)

Found by a way of its own, not by what the pages told: every line of the change index after the cursor, under every key the node
has, its own work included. Segments that lie there as they were pushed are named instead of read. Spec: PROTOCOL.md P-8.17.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.digests import Part, digest_of_rows, digest_sorted
from server import scopes, touched, verify, whole
from server.scope_sql import shown_condition, shown_under
from server.scopes import ENTER
from server.skew import View
from sync.messages import Proof, TableDigest

KEYS_MAX: Final = 20
LINES_MAX: Final = 1_000
"""Scope keys, and lines of the change index, up to which these are read."""

RUNS: Final = (1, 10, 100)
"""Runs of rows that one statement asks for: few texts, for each has to be planned. Of more the session's tables are used."""

RUN_ROWS_MAX: Final = 5_000
"""Rows that may lie in them: they are sorted."""


class Line(NamedTuple):
    """A line of the change index under a scope key."""

    key: str
    version: int
    low: int
    high: int
    op: int
    whole: int


def make(view: View, node: int, scope: frozenset[str], cursor: int, head: int) -> Proof | None:
    """Return the proof of a pull from `cursor` to `head`; None where the node's entitlement changed: that takes a full verify.

    Of a table of which the node has some column otherwise, the others are compared, as in a full verify (PROTOCOL.md P-11.9).
    """
    store = view.store
    if cursor == head:
        return Proof((), ())
    if cursor and any(since > cursor or (until or 0) > cursor for _, since, until in scopes.entitlements(store, node)):
        return None
    proof = _found(view, scope, scopes.node_scope(node), cursor, head)
    tables = [digest for table, names in view.compared(()) if (digest := proof.table(table, names)) is not None]
    return Proof(tuple(tables), tuple(proof.whole.values()))


def _found(view: View, scope: frozenset[str], private: str, cursor: int, head: int) -> _Few | _Many:
    if len(scope) <= KEYS_MAX and (lines := _lines(view, [*sorted(scope), private], cursor, head)) is not None:
        few = _Few(view, scope, private, lines)
        if few.is_few:
            return few
    return _Many(view, scope, private, cursor, head)


def _lines(view: View, keys: list[str], cursor: int, head: int) -> dict[int, list[Line]] | None:
    """Return the lines under a few scope keys by their tables' numbers; None where they are many."""
    found, left = defaultdict[int, list[Line]](list), LINES_MAX
    sql = "SELECT sc, ver, lo, hi, op, whole FROM _change WHERE t = ? AND sc = ? AND ver > ? AND ver <= ? LIMIT 0 + ?"
    for t, key in touched.under(view.store, keys, cursor, head):
        rows = view.store.connection.execute(sql, (t, key, cursor, head, left + 1)).fetchall()
        left -= len(rows)
        if left < 0:
            return None
        found[t] += [Line(*row) for row in rows]
    return found


def _wholes(view: View, keys: Mapping[int, set[str]]) -> dict[int, bytes]:
    """Return those versions that are told whole, or were pushed by the node itself, with their segments. `keys`: the versions of which
    anything may be, each with all scope keys of the node that it touched.
    """
    found: dict[int, bytes] = {}
    for version, scopes_of in sorted(keys.items()):
        tellable = (whole.find(view, key, version, scopes_of - {key}) for key in sorted(scopes_of))
        if any(each is not None for each in tellable):
            body = "SELECT segment FROM _journal WHERE ver = ?"
            found[version] = view.store.connection.execute(body, (version,)).fetchone()[0]
    return found


class _Few:
    """Looks at lines that were read."""

    def __init__(self, view: View, scope: frozenset[str], private: str, lines: Mapping[int, list[Line]]) -> None:
        self.view, self.scope, self._lines = view, scope, lines
        self.whole = _wholes(view, self._keys_of_whole(private))
        self._runs = {t: list(_joined(self._extents(each))) for t, each in lines.items()}

    @property
    def is_few(self) -> bool:
        """Tell whether no table has more runs, or rows in them, than one statement asks for."""
        return all(len(runs) <= RUNS[-1] and sum(high - low + 1 for low, high in runs) <= RUN_ROWS_MAX for runs in self._runs.values())

    def _keys_of_whole(self, private: str) -> dict[int, set[str]]:
        store = self.view.store
        fixed = [line for name in store.schema.fixed for line in self._lines.get(store.numbers[name], ()) if line.key != private]
        found: dict[int, set[str]] = {line.version: set() for line in fixed if line.whole}
        for line in fixed:
            if line.version in found:
                found[line.version].add(line.key)
        return found

    def _extents(self, lines: Iterable[Line]) -> Iterator[tuple[int, int]]:
        """Yield the rows that were written or came into the scope, but for those of whole segments."""
        for line in lines:
            is_told = line.version in self.whole and (line.low < line.high or line.whole)
            if line.op <= ENTER and not is_told:
                yield line.low, line.high

    def table(self, table: Table, names: tuple[str, ...]) -> TableDigest | None:
        """Return the digest of a table's rows in scope that were written, or came into the scope, since the cursor."""
        runs = self._runs.get(self.view.store.numbers[table.name])
        if not runs:
            return None
        size = next(size for size in RUNS if size >= len(runs))
        among = " OR ".join([f"r.{ROW_ID} BETWEEN ? AND ?"] * size)
        bounds = [bound for run in [*runs, *[runs[-1]] * (size - len(runs))] for bound in run]
        shown, keys = shown_under(self.view.store.schema, table, self.view.edge, self.scope)
        part = Part(quote(table.name), f"({among}) AND ({shown})", (*bounds, *keys))
        return TableDigest(table.name, *digest_sorted(self.view.store, table, [part]), names)


def _joined(extents: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield extents in order, those that touch each other as one."""
    last: tuple[int, int] | None = None
    for low, high in sorted(extents):
        if last is not None and low <= last[1] + 1:
            last = last[0], max(last[1], high)
            continue
        if last is not None:
            yield last
        last = low, high
    if last is not None:
        yield last


class _Many:
    """Looks under all scope keys of a node at once: one that sees a whole company has thousands of them."""

    def __init__(self, view: View, scope: frozenset[str], private: str, cursor: int, head: int) -> None:
        verify.show(view.store, scope)
        self.view, self.store, self.private, self.span = view, view.store, private, (cursor, head)
        store, connection = view.store, view.store.connection
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS _proof_rid (rid INTEGER PRIMARY KEY)")
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS _proof_run (lo INTEGER NOT NULL, hi INTEGER NOT NULL, ver INTEGER NOT NULL)")
        visible = "SELECT sc FROM _visible UNION ALL SELECT CAST(? AS TEXT)"
        self._touched = touched.tables(store, visible, (private,), store.numbers.values(), cursor, head)
        self.whole = _wholes(view, self._keys_of_whole())

    def _keys_of_whole(self) -> dict[int, set[str]]:
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
