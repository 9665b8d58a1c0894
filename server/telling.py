"""Telling: what one step of a sweep puts into a page, a table under one scope.

    rows one by one, runs of rows, segments whole (server/whole.py), removals ─► a page (server/draft.py)
    with rows their older conflicts (server/disputes.py)

Driven by server/feed.py. Spec: PROTOCOL.md §8.2, §8.3, §8.7; RULES H2, H3, H18.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from schema import window
from schema.capture import Store, read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID, Dialect
from schema.dialects.sqlite import quote
from schema.keys import key_parts
from server import conflicts, scopes
from server import whole as whole_segments
from server.disputes import CHUNK_ROWS, Disputes
from server.draft import Draft
from server.elsewhere import Elsewhere
from server.scope_sql import key_condition, keys_sql
from server.scopes import DEAD, ENTER, LEAVE, STATE
from server.skew import View
from server.sweep import Step, Sweep
from sync.limits import PAGE_ROWS, ROW_BYTES_MAX

Stop = tuple[int, int, int]
"""Where a page was full in a step: version, row, and what is owed of the row (server/disputes.py)."""

NEVER = -1
BEGIN: Stop = (NEVER, -1, 0)

Entry = tuple[int, int, int, int, int, int]
"""A line of the change index: version, first row, last row, op, part, whole (server/scopes.py `note`)."""


class Teller:
    """Tells the steps of one sweep to one node. `scope`: what it is entitled to now; `inc`: whose own work it is not told; `cursor`: where
    its pull begins; `head`: the version that is read.
    """

    def __init__(self, view: View, plan: Sweep, node: int, scope: frozenset[str], inc: int, cursor: int, head: int) -> None:
        self.store: Store = view.store
        self.view, self.node, self.scope, self.inc, self.cursor, self._plan = view, node, scope, inc, cursor, plan
        self._wholes: dict[tuple[str, int], whole_segments.Whole | None] = {}
        self._disputes = Disputes(view.store, node, scope, plan.low)
        self._elsewhere = Elsewhere(view.store, plan, scope, inc, cursor, head)
        self._huge: frozenset[int] = frozenset()  # rows of the lines looked at that no page can hold

    def tell(self, draft: Draft, step: Step, low: int, high: int, start: Stop) -> Stop | None:
        """Tell what one table holds under one scope; return where the page was full."""
        version, row, owed = start
        if owed and ((owed := self._disputes.go_on(draft, step.table, row, owed)) or draft.budget <= 0):
            return version, row, owed
        at_once = CHUNK_ROWS if conflicts.disputed(self.store, step.table) else PAGE_ROWS
        while True:
            entries = self._entries(step, low, high, version, row, min(draft.chunk(), at_once))
            if not entries:
                return None
            if step.table.name in self.store.schema.fixed and step.scope != scopes.node_scope(self.node):
                stopped = self._extents(draft, step, entries, version, row)
            else:
                entries, stopped = self._newest(draft, step, entries, (version, row))
            if stopped is not None:
                return stopped
            version, row = entries[-1][0], entries[-1][2]
            if draft.budget <= 0:
                return version, row, 0

    def _newest(self, draft: Draft, step: Step, entries: list[Entry], place: tuple[int, int]) -> tuple[list[Entry], Stop | None]:
        """Tell rows one by one with their conflicts; return the lines that went into the page, and where it was full before the end."""
        entries, size = self._fitting(draft, step.table, entries)
        if not entries:
            return entries, (*place, 0)
        last = {rid: version for version, low, high, *_ in entries for rid in range(low, high + 1)}
        sent = self._singles(draft, step, entries, size)
        full = self._disputes.tell(draft, step.table, sorted(sent, key=lambda row: (last[row[-1]], row[-1])))
        return entries, (last[full[0]], *full) if full is not None else None

    def _entries(self, step: Step, low: int, high: int, version: int, row: int, limit: int) -> list[Entry]:
        """Return up to `limit` lines of the change index after a place in the step."""
        t = self.store.numbers[step.table.name]
        where, begin = {
            "kept": (f"op <> {DEAD} AND (wr <> :me OR op <> {STATE}) OR op = {DEAD} AND wr <> :me", low),
            "gained": (
                f"op = {ENTER} OR op = {STATE} AND (wr <> :me OR ver <= :since)"
                f" OR ver > :since AND (op = {LEAVE} OR op = {DEAD} AND wr <> :me)",  # rows the node itself wrote since
                -1,
            ),
            "regained": (f"op = {ENTER} OR op = {STATE} AND (wr <> :me OR ver <= :since) OR op > {ENTER} AND ver > :low", -1),
            "lost": (f"op <= {ENTER} OR ver > :low", -1),  # up to `until`, below
        }[step.mode]
        sql = (  # LIMIT: a bare variable would be planned anew on every call
            f"SELECT ver, lo, hi, op, part, whole FROM _change WHERE t = :t AND sc = :sc AND ver > :begin AND ver <= :high AND ({where})"
            " AND (ver > :version OR ver = :version AND hi > :row) ORDER BY ver, lo, op LIMIT 0 + :limit"
        )
        values = {
            "t": t,
            "sc": step.scope,
            "begin": max(begin, version - 1),
            "high": min(high, step.until),
            "me": self.inc,
            "low": step.low,
            "since": step.since,
        }
        values |= {"version": version, "row": row, "limit": (limit := max(2 * DEAD + 2, min(limit, PAGE_ROWS)))}
        found = self.store.connection.execute(sql, values).fetchall()  # type: ignore[arg-type]
        if len(found) == limit:  # the lines of one row in one version stay together
            last = found[-1][:2]
            found = [entry for entry in found if entry[:2] != last]
        return found

    def _extents(self, draft: Draft, step: Step, entries: Sequence[Entry], version: int, row: int) -> Stop | None:
        """Tell runs of rows that never change or move: all that have the step's key."""
        for entry in entries:
            at, low, high, op, part, whole = entry
            if op != STATE:
                if (full := self._newest(draft, step, [entry], (at, low - 1))[1]) is not None:
                    return full
                continue
            if whole and (segment := self._whole(step, at)) is not None:
                if segment.teller == step.table.name:
                    if not draft.has_room_for(segment.rows, segment.bytes):
                        return at, low - 1, 0
                    draft.add_sealed(whole_segments.read(self.store, at, segment))
                    if draft.budget <= 0:
                        return at, high, 0
                continue
            if step.mode == "lost":
                died = self._dead(step.table, self._graves(step, low, high), step.low)
                self._gone(draft, step.table, died)
            if low == high and step.mode != "lost":
                self._leaves_window(draft, step, low)
            stopped = self._run(draft, step, max(low, row + 1) if at == version else low, high, part)
            if stopped is not None:
                return at, *stopped
        return None

    def _leaves_window(self, draft: Draft, step: Step, rid: int) -> None:
        """Tell the removal of a row that the centre has changed since it was new, and that is from before the edge of the node's window
        now. Of a run of new rows the node has none.
        """
        if not self.cursor or self.view.edge == window.NONE:
            return
        keys = self._keys(step.table, [rid]).get(rid, set())
        if not self.scope.isdisjoint(keys) and rid in self._past(step.table):
            draft.add_removals(step.table, [row[:-1] for row in self._wanted(step.table, step.table.key)])

    def _run(self, draft: Draft, step: Step, begin: int, high: int, part: int) -> tuple[int, int] | None:
        """Tell the rows begin … high; return the last that was told where the page was full, and what is owed of it."""
        source, parameters = self._source(step, part)
        at_once = CHUNK_ROWS if conflicts.disputed(self.store, step.table) else PAGE_ROWS
        while begin <= high:  # one row at least: removals alone do not move the pull on
            limit, size = min(draft.chunk(), at_once), 0
            if step.mode != "lost":
                limit, begin, size = self._room(draft, step.table, source, [begin, high, *parameters], limit)
                if limit == 0:
                    break
            chunk = self._range(step, source, [begin, high, *parameters], limit)
            kept = [values for values, told in chunk if not told]
            if step.mode == "lost":
                draft.add_removals(step.table, [values[:-1] for values in kept])
            elif kept:
                draft.add_rows(step.table, kept, size)
                if (full := self._disputes.tell(draft, step.table, kept)) is not None:
                    return full
            begin = chunk[-1][0][-1] + 1 if len(chunk) == limit else high + 1
            if draft.budget <= 0:
                break
        return (begin - 1, 0) if draft.budget <= 0 or begin <= high else None

    def _whole(self, step: Step, version: int) -> whole_segments.Whole | None:
        """Return the segment of a version if it is told whole under the step's scope. The same for all tables (server/whole.py)."""
        if step.mode in ("regained", "lost") or step.held or self._plan.afresh:
            return None  # row by row: the node may have some of them, and of tables it asks for afresh it has
        place = (step.scope, version)
        if place not in self._wholes:
            self._wholes[place] = whole_segments.find(self.view, *place, self._plan.earlier(step))
        return self._wholes[place]

    def _graves(self, step: Step, low: int, high: int) -> list[int]:
        """Return the rows of a range that died after the sweep began."""
        sql = "SELECT rid FROM _tombstone WHERE t = ? AND rid BETWEEN ? AND ? AND ver > ?"
        return [row[0] for row in self.store.connection.execute(sql, (self.store.numbers[step.table.name], low, high, step.low))]

    def _source(self, step: Step, part: int) -> tuple[str, list[Any]]:
        """Return the rows of a range (two parameters) that have the step's key, as SQL, and its further parameters."""
        condition, parameters = "1 = 1", list[Any]()
        if part or self._moved(step.table):
            condition, keys = key_condition(self.store.schema, step.table, step.scope)
            parameters += keys
        if step.mode != "lost":  # of which all that the node may have is told
            condition = f"({condition}) AND {window.condition(self.store.schema, step.table.name, 'r0', self.view.edge)}"
        if step.mode == "lost" and parameters:  # those too that had it when the step begins: the node may have them
            condition += f" OR r0.{ROW_ID} IN (SELECT lo FROM _change WHERE t = ? AND sc = ? AND ver > ? AND op >= {LEAVE})"
            parameters = [*parameters, self.store.numbers[step.table.name], step.scope, step.low]
        return f"{quote(step.table.name)} r0 WHERE r0.{ROW_ID} BETWEEN ? AND ? AND ({condition}) ORDER BY r0.{ROW_ID} LIMIT ?", parameters

    def _room(self, draft: Draft, table: Table, source: str, parameters: Sequence[Any], limit: int) -> tuple[int, int, int]:
        """Return how many of the next `limit` rows go into the page, where they begin, and their bytes.

        0 if the page must be closed first. Rows that no page can hold are passed over.
        """
        begin, high, *others = parameters
        sizes = f"SELECT r0.{ROW_ID} AS rid, {_size(self.store.dialect, table)} AS size FROM {source}"
        total = self._total(sizes, (*parameters, limit))
        if total <= draft.room:
            return limit, begin, total
        fitting, taken = 0, 0
        for rid, size in self.store.connection.execute(sizes, (*parameters, limit)).fetchall():
            if size > ROW_BYTES_MAX:
                if fitting == 0:
                    begin = rid + 1
                    continue
                break
            if taken + size > draft.room and (fitting or not draft.is_empty):
                break
            fitting, taken = fitting + 1, taken + size
        if fitting == 0 and begin != parameters[0] and begin <= high:
            return self._room(draft, table, source, [begin, high, *others], limit)
        return fitting, begin, taken

    def _total(self, sizes: str, parameters: Sequence[Any]) -> int:
        return int(self.store.connection.execute(f"SELECT COALESCE(SUM(size), 0) FROM ({sizes}) AS each", parameters).fetchone()[0])

    def _fitting(self, draft: Draft, table: Table, entries: list[Entry]) -> tuple[list[Entry], int]:
        """Return as many lines as name rows that go into the page, at least one if it is empty, and the bytes of those rows."""
        self._want(rid for _, low, high, *_ in entries for rid in range(low, high + 1))
        rows = f"_wanted w CROSS JOIN {quote(table.name)} r0 ON r0.{ROW_ID} = w.rid"
        sizes = f"SELECT w.rid, {_size(self.store.dialect, table)} AS size FROM {rows}"
        total = self._total(sizes, ())
        if total <= draft.room:
            self._huge = frozenset()
            return entries, total
        found: dict[int, int] = dict(self.store.connection.execute(sizes).fetchall())
        self._huge = frozenset(rid for rid, size in found.items() if size > ROW_BYTES_MAX)
        kept: list[Entry] = []
        taken = 0
        for _, group in groupby(entries, key=itemgetter(0, 1)):  # the lines of one row in one version stay together
            lines = list(group)
            size = sum(found.pop(rid, 0) for rid in {rid for line in lines for rid in range(line[1], line[2] + 1)} - self._huge)
            if taken + size > draft.room and (kept or not draft.is_empty):
                break
            kept, taken = kept + lines, taken + size
        return kept, taken

    def _range(self, step: Step, source: str, parameters: Sequence[Any], limit: int) -> list[tuple[Any, bool]]:
        """Return rows (number last) of a range, each with whether it is told elsewhere: under an earlier scope, or not at all.

        Of a scope that was lost only the keys.
        """
        columns = ", ".join(f"r0.{quote(name)}" for name in (step.table.key if step.mode == "lost" else step.table.names))
        rows = read_rows(self.store, f"SELECT {columns}, r0.{ROW_ID} FROM {source}", (*parameters, limit))
        if not rows or not self._elsewhere.may_be(step):
            return [(row, False) for row in rows]
        keys = self._keys(step.table, [row[-1] for row in rows])
        return [(row, self._elsewhere.told(step, row[-1], keys.get(row[-1], set()))) for row in rows]

    def _moved(self, table: Table) -> bool:
        """Tell whether any row of a table of documents or events was ever moved out of a scope: the centre may do that. Or brought
        back, as its clock tells: it may have died in another.
        """
        t = self.store.numbers[table.name]
        sql = f"SELECT 1 FROM _change WHERE t = ? AND op = {LEAVE} LIMIT 1"
        looks = (sql, "SELECT 1 FROM _clock WHERE t = ? LIMIT 1")
        return any(self.store.connection.execute(look, (t,)).fetchone() is not None for look in looks)

    def _want(self, rids: Iterable[int]) -> None:
        """Put row numbers where the next query finds them."""
        connection = self.store.connection
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS _wanted (rid INTEGER PRIMARY KEY)")
        connection.execute("DELETE FROM _wanted")
        connection.executemany("INSERT INTO _wanted (rid) VALUES (?) ON CONFLICT DO NOTHING", [(rid,) for rid in rids])

    def _keys(self, table: Table, rids: Sequence[int]) -> dict[int, set[str]]:
        """Return the scope keys of living rows."""
        self._want(rids)
        keys: dict[int, set[str]] = {}
        for rid, key in read_rows(self.store, keys_sql(self.store.schema, table, "_wanted"), ()):
            if scopes.is_key(key):
                keys.setdefault(rid, set()).add(key)
        return keys

    def _singles(self, draft: Draft, step: Step, entries: Sequence[Entry], size: int) -> list[Any]:
        """Tell rows one by one: in scope now, the newest state; gone or out of scope, the removal. Returns the states."""
        table, ops = step.table, dict[int, set[int]]()
        for _, low, high, op, *_ in entries:
            for rid in range(low, high + 1):
                ops.setdefault(rid, set()).add(op)
        keys = self._keys(table, list(ops))
        alive = {row[-1]: row[:-1] for row in self._wanted(table, table.key)}
        told, remove, past = [], [], self._past(table)
        for rid, key in alive.items():
            mine = keys.get(rid, set())
            if self.scope.isdisjoint(mine):
                if not ops[rid].isdisjoint((LEAVE, DEAD)) or (step.mode == "lost" and self._was_there(step, rid, mine)):
                    remove.append(key)
            elif rid in past:  # it may have been in the window when it was told
                remove += [key] if self.cursor else []
            elif step.mode != "lost" and self._is_told_here(step, mine) and not self._elsewhere.told(step, rid, mine):
                told.append(rid)
        gone = [rid for rid, kinds in ops.items() if not kinds.isdisjoint((LEAVE, DEAD)) or (step.mode == "lost" and rid not in alive)]
        died = self._dead(table, gone, step.low)  # those that died, and those that left and died elsewhere
        self._want(set(told) - self._huge)
        send = self._wanted(table, table.names)
        if send:
            draft.add_rows(table, send, size)
        if remove:
            draft.add_removals(table, remove)
        self._gone(draft, table, died)
        return send

    def _past(self, table: Table) -> set[int]:
        """Return which of the living rows that were put there are from before the edge of the node's window."""
        if self.view.edge == window.NONE or table.name not in window.rolling(self.store.schema):
            return set()
        inside = window.condition(self.store.schema, table.name, "r", self.view.edge)
        sql = f"SELECT w.rid FROM _wanted w CROSS JOIN {quote(table.name)} r ON r.{ROW_ID} = w.rid WHERE NOT ({inside})"
        return {row[0] for row in self.store.connection.execute(sql).fetchall()}

    def _gone(self, draft: Draft, table: Table, died: Sequence[tuple[Any, ...]]) -> None:
        """Tell that rows died; of a key that lives on out of the node's scope, that it left."""
        lives_on = {key for key in died if scopes.rid_of(self.store, table, key) is not None}
        if lives_on:
            draft.add_removals(table, [key for key in died if key in lives_on])
        if len(lives_on) < len(died):
            draft.add_deaths(table, [key for key in died if key not in lives_on])

    def _wanted(self, table: Table, names: Sequence[str]) -> list[Any]:
        """Return columns and number of the living rows that were put there."""
        columns = ", ".join(f"r.{quote(name)}" for name in names)
        sql = f"SELECT {columns}, r.{ROW_ID} FROM _wanted w CROSS JOIN {quote(table.name)} r ON r.{ROW_ID} = w.rid ORDER BY r.{ROW_ID}"
        return read_rows(self.store, sql, ())

    def _is_told_here(self, step: Step, keys: set[str]) -> bool:
        """Tell whether a row in scope is told under this step: it has the step's key, or the step is the node's own."""
        return step.scope in keys or step.scope == scopes.node_scope(self.node)

    def _was_there(self, step: Step, rid: int, keys: set[str]) -> bool:
        """Tell whether a living row had the step's key when the sweep began, though it may have moved since (after its end, too)."""
        return step.scope in keys or scopes.left_since(self.store, step.table, rid, frozenset([step.scope]), step.low)

    def _dead(self, table: Table, rids: Iterable[int], since: int) -> list[tuple[Any, ...]]:
        """Return the keys of rows buried after a version, unless a living row in the node's scope has the key now."""
        found: list[tuple[Any, ...]] = []
        t = self.store.numbers[table.name]
        for rid in rids:
            sql = "SELECT key FROM _tombstone WHERE t = ? AND rid = ? AND ver > ?"
            row = self.store.connection.execute(sql, (t, rid, since)).fetchone()
            if row is None:
                continue
            key = key_parts(row[0], len(table.key))
            living = scopes.rid_of(self.store, table, key)
            if living is None or self.scope.isdisjoint(scopes.keys_of(self.store, table, living)):
                found.append(key)
        return found


def _size(dialect: Dialect, table: Table) -> str:
    """Return SQL for the bytes of a row's texts and blobs (a few for numbers), read off its header."""
    return " + ".join(f"COALESCE({dialect.length(column, f'r0.{quote(column.name)}')}, 0)" for column in table.columns)
