"""The centre's own writes: what central programs did to the tables by plain SQL, journaled as versions of the centre.

Runs at the beginning of every exchange, inside its write transaction. The rows are changed already; what is missing is
what makes the change travel: a version, clocks of cells, lines in the change index, graves of deleted rows. A central
write builds on what it saw, which is everything, so it never conflicts (PROTOCOL.md §6.6).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from schema import window
from schema.capture import CHUNK_BYTES, Change, Look, Row, Store, mark_all, read_rows, set_applying
from schema.declare import EVERYONE, By, Everyone, Table, Through
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.keys import where_value
from server import journal, rows, scopes
from server.merging.deletes import bury_row
from server.scope_sql import keys_sql
from sync.builder import SegmentBuilder
from sync.change import NEVER, Delete, Edit, Insert, Op, Update
from sync.limits import SEGMENT_ROWS
from sync.merge import CENTRE
from sync.rows import length_of, weight_of

Extent = tuple[int, int]


@contextmanager
def engine_writes(store: Store, now_ms: int) -> Iterator[int]:
    """Let the engine write rows: central writes are journaled first, what the block writes is not taken for one of them.

    The only way in: without the first step the last one would take central rows as seen and they would never travel.
    Yields how many central changes were journaled.
    """
    absorbed = absorb(store, now_ms)
    set_applying(store, True)
    yield absorbed
    mark_all(store)
    set_applying(store, False)


def absorb(store: Store, now_ms: int) -> int:
    """Journal everything central programs wrote since the last time; return how many changes.

    A version holds some 10,000 rows; those of one look come into being together, so no node sees some without the others.
    """
    look = Look(store)
    if not look:
        return 0
    look.go_on_numbering()
    set_applying(store, True)
    writing = _Absorbing(store, look, journal.head(store).number + 1, now_ms)
    gone = []
    for change in look.logged():
        if change.kind == "delete":
            gone.append(change)
        else:
            writing.take(change)
    for change in gone:  # last: it buries children, whose own changes must have been read by then
        writing.take(change)
    for table in store.schema.tables:
        low, high = look.ranges.get(table.name, (0, 0))
        for chunk in look.inserted(table, low, high):
            writing.take_new(table, chunk)
    writing.journal(rows_min=1)
    look.close()
    mark_all(store)
    set_applying(store, False)
    return writing.count


class _Before:
    """Which scope keys rows had before the central programs' commits: their parents may be gone or elsewhere by now."""

    def __init__(self, store: Store, look: Look) -> None:
        self.store = store
        self._rows: dict[tuple[str, Row], dict[str, Any] | None] = {}  # parents that changed, None: were not there
        parents = {table.name for table in store.schema.tables if store.schema.children[table.name]}
        for change in look.logged(parents):
            place = (change.table.name, change.key)
            if change.kind == "delete":
                self._rows[place] = change.old
            elif change.kind == "insert":
                self._rows.setdefault(place, None)
            elif change.row is not None and not scopes.scope_columns(change.table).isdisjoint(change.old):
                self._rows[place] = {**dict(zip(change.table.names, change.row, strict=True)), **change.old}

    def keys(self, table: Table, values: dict[str, Any]) -> set[str]:
        """Return the scope keys that a row with these values had."""
        keys: set[str] = set()
        for rule in table.scope:
            match rule:
                case Everyone():
                    keys.add(EVERYONE)
                case By():
                    if scopes.is_key(values.get(rule.column)):
                        keys.add(f"{rule.prefix}:{values[rule.column]}")
                case Through():
                    parent = self.store.schema.by_name[rule.table]
                    above = self._row(parent, (values.get(rule.column),))
                    keys |= self.keys(parent, above) if above is not None else set()
        return keys

    def _row(self, table: Table, key: Row) -> dict[str, Any] | None:
        if (table.name, key) in self._rows:
            return self._rows[table.name, key]
        found = rows.load(self.store, table, key)
        return dict(zip(table.names, found[1], strict=True)) if found else None


class _Absorbing:
    """Central changes on their way into the journal, a version's worth at a time."""

    def __init__(self, store: Store, look: Look, version: int, now_ms: int) -> None:
        self.store, self.before, self.news, self.version, self.now_ms = store, _Before(store, look), look.news, version, now_ms
        self.count = 0
        self._begin()

    def _begin(self) -> None:
        self.builder = SegmentBuilder()
        self.builder.begin(self.now_ms, self.version - 1)
        self.weight = 0  # bytes of texts and blobs in it

    def journal(self, rows_min: int) -> None:
        """Append what was taken as a version of its own, if it is enough, and begin the next."""
        if self.builder.rows >= rows_min or self.weight > CHUNK_BYTES:
            body = self.builder.build(bytes(16), self.store.schema.version, 0)
            journal.append(self.store, journal.Entry("central", CENTRE, body, 1), self.now_ms)
            self.version += 1
            self._begin()

    def take(self, change: Change) -> None:
        """Take an update, a deletion or a change of key."""
        self.journal(SEGMENT_ROWS)
        self.count += 1
        self.weight += sum(map(length_of, [*change.old.values(), *(change.row or ())]))
        self.builder.add(0, _op(change))
        match change.kind:
            case "update":
                self._update(change)
            case "delete":
                self._delete(change)
            case "insert":  # its key was changed: the old number is the grave's
                rid = self.store.dialect.renumber(self.store.connection, change.table.name, change.rid)
                self._born(change.table, rid, None)

    def take_new(self, table: Table, chunk: list[Row]) -> None:
        """Take new rows: extents of neighbours with the same scope keys."""
        self.journal(SEGMENT_ROWS)
        self.count += len(chunk)
        self.weight += weight_of(chunk)
        self.builder.insert_rows(table.name, table.names, [row[:-1] for row in chunk], [0] * len(chunk))
        if table.name not in self.store.schema.fixed:
            self._born_together(table, [row[-1] for row in chunk])
            return
        extents: dict[str, Extent] = {}
        runs: list[scopes.Run] = []
        for rid, key in self._keys_of(table, [row[-1] for row in chunk]):
            low, high = extents.get(key, (rid, rid - 1))
            if high != rid - 1:
                runs.append(scopes.Run(key, low, high))
                low = rid
            extents[key] = (low, rid)
        runs += [scopes.Run(key, low, high) for key, (low, high) in extents.items()]
        scopes.note_runs(self.store, table, runs, self.version, CENTRE)
        for rid in scopes.parents_of_known(self.store, table, chunk[0][-1], chunk[-1][-1], self.news):
            scopes.enter_below(self.store, table, rid, self.version)

    def _born_together(self, table: Table, rids: list[int]) -> None:
        """Note new rows, all at once unless a row was hung under one of them before it was there: 20 µs a row instead of 80."""
        if scopes.has_descendants(self.store, table, rids[0], rids[-1]):
            for rid in rids:
                self._born(table, rid, None)
            return
        rows.stamp_births(self.store, table, rids, self.version, CENTRE, self.now_ms)
        scopes.note_states(self.store, table, self._keys_of(table, rids), self.version, CENTRE)

    def _keys_of(self, table: Table, rids: list[int]) -> list[tuple[int, str]]:
        """Return the scope keys of rows, given by number in order. Rows that others committed earlier may lie between them."""
        new = set(rids)
        source = f"(SELECT {ROW_ID} AS rid FROM {quote(table.name)} WHERE {ROW_ID} BETWEEN ? AND ?)"
        parameters = [rids[0], rids[-1]] * len(self.store.schema.paths[table.name])
        found = read_rows(self.store, keys_sql(self.store.schema, table, source), parameters)
        return sorted((rid, key) for rid, key in found if rid in new and scopes.is_key(key))

    def _born(self, table: Table, rid: int, key: Row | None) -> None:
        if table.name not in self.store.schema.fixed:
            rows.stamp(self.store, table, rid, rows.BIRTH, self.version, CENTRE, 0, self.now_ms)
        scopes.touch(self.store, table, rid, self.version, CENTRE, None)

    def _update(self, change: Change) -> None:
        table, rid = change.table, change.rid
        assert change.row is not None
        if change.was != rid:  # INSERT OR REPLACE gave it a new number: its history is under the old one
            sql = f"UPDATE {quote(table.name)} SET {ROW_ID} = ? WHERE {ROW_ID} = ?"
            self.store.connection.execute(sql, (change.was, rid))
            rid = change.was
        metas = rows.metas(self.store, table, rid)
        for name in change.cells:
            cell = rows.cell_number(table, table.cell_named[name])
            old = metas.get(cell) or metas.get(rows.BIRTH)
            at = max(self.now_ms, old.stamp + 1 if old else 0)
            rows.stamp(self.store, table, rid, cell, self.version, CENTRE, 0, at)
        values = dict(zip(table.names, change.row, strict=True))
        before = None
        if not scopes.scope_columns(table).isdisjoint(change.old):
            before = self.before.keys(table, {**values, **change.old})
        scopes.touch(self.store, table, rid, self.version, CENTRE, scopes.keys_of(self.store, table, rid) if before is None else before)
        rolls_by = {table.window, *(rule.column for rule in table.parents if rule.owned)}
        if table.name in window.rolling(self.store.schema) and not rolls_by.isdisjoint(change.old):
            scopes.enter_below(self.store, table, rid, self.version)  # what dies with the row comes into a window with it, or leaves it

    def _delete(self, change: Change) -> None:
        table, values = change.table, change.old
        before = self.before.keys(table, values)
        image = tuple(values[name] for name in table.names)
        reborn = scopes.rid_of(self.store, table, change.key) is not None  # deleted and inserted again: children keep their parent
        for edge in self.store.schema.children[table.name]:
            if edge.owned and not reborn:
                self._bury_children(edge.table, edge.column, change.key[0], before)
        rows.dig(self.store, table, change.rid, image, self.version, CENTRE)
        scopes.bury(self.store, table, change.rid, change.key, self.version, CENTRE, before)

    def _bury_children(self, table: Table, column: str, parent: Any, before: set[str]) -> None:
        """The parent is gone already; its children had every key it had."""
        for row in rows.select(self.store, table, *where_value(column, parent)):
            keys = before | scopes.keys_of(self.store, table, row[-1])
            bury_row(self.store, table, row[-1], row[:-1], self.version, CENTRE, keys)


def _op(change: Change) -> Op:
    table = change.table
    if change.kind == "delete":
        return Delete(table.name, change.key, NEVER, NEVER)
    assert change.row is not None
    values = dict(zip(table.names, change.row, strict=True))
    if change.kind == "insert":
        return Insert(table.name, change.key, values)
    edits = []
    for name in change.cells:
        columns = table.cell_named[name].columns
        old, new = tuple(change.old[c] for c in columns), tuple(values[c] for c in columns)
        edits.append(Edit(name, columns, old, new, NEVER, NEVER, change.wall))
    return Update(table.name, change.key, edits)
