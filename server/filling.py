"""Filling: what a node had pulled of a lost history brings back rows that this restored centre never had.

    page, in a box ─► rows that were never here: inserted, differences of `add` left out (their writers bring them)
                   ─► rows that are here and differ, deletions, values that were on record: put on record beside what stands;
                      nothing is overwritten

A row that came back this way is foreign to everybody; a newer page of the same lost history may still replace it. Spec:
PROTOCOL.md §7.7; RULES H15.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from schema.capture import Store, same
from schema.declare import Table
from schema.images import pack_tuple
from schema.keys import key_text
from schema.lens import TableLens
from server import below, conflicts, healing, histories, journal, recalling, rows, scopes, skew
from server.conflicts import Conflict
from server.holding import is_let, is_sound
from server.merging.deletes import bury_row
from sync import box
from sync.change import NEVER
from sync.errors import Malformed, TooLarge
from sync.limits import MESSAGE_BYTES_MAX, PAGE_ROWS_MAX
from sync.merge import CENTRE, FILLED
from sync.messages import ConflictNotice, OfferReply, OfferRequest, Page
from sync.rows import entries_of, rows_of, tuple_of
from sync.wire import unpack

LONG_AGO = -(2**53)
"""The stamp of what a fill brings: earlier than any clock's, so that it loses every tie."""

Row = tuple[Any, ...]


def offer(store: Store, node: int, request: OfferRequest, now_ms: int) -> OfferReply:
    """Take pages of a lost history, or of rows that a late node's work is about (server/recalling.py), inside a write transaction with
    capture off. Raises Malformed; nothing is kept then.
    """
    journal.require(store, request.cursor, request.highest)  # the centre may have been restored again, with this epoch's number
    store.connection.execute("UPDATE _node SET last_push_ms = ? WHERE node = ?", (now_ms, node))  # the horizon waits for it
    inc, _ = histories.known(store, node, request.incarnation) or (0, None)
    filling, recalled = _Filling(store, node, journal.head(store).number + 1, now_ms), 0
    digest, unread = sha256(), list[int]()
    for place, page, body in _pages(store, request):
        digest.update(body)
        if page.schema > store.schema.version:  # this centre was put back to before its upgrade, with the program of then
            unread.append(place)
            continue
        if page.epoch == journal.epoch(store):
            count, is_whole = recalling.recall(store, node, page, request.cursor.number, filling.version)
            recalled += count
        else:
            healing.require_restored(store)
            is_whole = filling.take(page, page.head)
        if not is_whole:
            unread.append(place)
    if filling.filled or filling.recorded or recalled:
        journal.append(store, journal.Entry("fill", inc, digest.digest()), now_ms)
    return OfferReply(journal.head(store), filling.filled, filling.recorded, tuple(unread))


def _pages(store: Store, request: OfferRequest) -> Iterator[tuple[int, Page, bytes]]:
    """Yield the pages that can be opened, each with its place in the request, and as bytes too. One that cannot, from a damaged disk,
    stops none of the others. Raises Malformed for one of a history that never was, or if there are more rows than a page may have.
    """
    key, epoch, entries = healing.box_key(store), journal.epoch(store), 0
    for place, offered in enumerate(request.pages):
        try:
            body = box.open_box(key, offered.box)
            page = unpack(Page, body, MESSAGE_BYTES_MAX)
        except (Malformed, TooLarge):
            continue
        entries += entries_of(page)
        if page.epoch > epoch or page.head != offered.version or entries > PAGE_ROWS_MAX:
            raise Malformed("an offered page is of no history that was, or there are too many rows in one request")
        yield place, page, body


@dataclass(slots=True)
class _Filling:
    """Pages of one node on their way in."""

    store: Store
    node: int
    version: int  # of what is written here
    now_ms: int
    epoch: int = 0  # of the page that is being taken, as its life: versions compare within one history alone
    life: bytes = b""
    schema: int = 0  # of its columns: another declaration knows other ones, and leaves those to others' pages
    filled: int = 0
    recorded: int = 0

    def take(self, page: Page, version: int) -> bool:
        """Take a page that was read at a version of the lost history; tell whether the centre knows all the tables and columns in it.
        What it does not know must not count as taken: the node keeps the page until it does.
        """
        self.epoch, self.life, self.schema = page.epoch, page.life, page.schema
        scope = scopes.entitled(self.store, self.node, 0)
        rows, is_whole = _rows(self.store, page)
        for lens, told in rows:
            table, row = lens.newer, lens.up_row(told)
            key = row[: len(table.key)]
            if not self._is_newer(table, key, version):
                continue
            if not is_sound(self.store, table, row) or not is_let(self.store, partial(self._take, lens, told, row, version, scope)):
                self._record(table, key, (), row, None)
        for block in page.deaths:
            of = self.store.schema.by_name.get(block.table)
            is_whole = is_whole and of is not None
            if of is not None and len(block.key) == len(of.key):
                for key in zip(*rows_of(block.key, block.count, len(block.key)), strict=True):
                    is_news = self._is_newer(of, key, version) and not self._is_behind(of, key, version)
                    if is_news and is_let(self.store, partial(self._died, of, key, version)):
                        self._note(of, key, version)
        for notice in skew.notices_of_page(self.store, page):
            self._come_again(notice)
        return is_whole

    def _is_newer(self, table: Table, key: Row, version: int) -> bool:
        """Tell whether nothing of this row was taken yet from as late a page of this life that had the same columns."""
        sql = "SELECT 1 FROM _brought WHERE t = ? AND key = ? AND epoch = ? AND life = ? AND version >= ? AND schema = ?"
        return self.store.connection.execute(sql, (*self._place(table, key), self.life, version, self.schema)).fetchone() is None

    def _is_behind(self, table: Table, key: Row, version: int) -> bool:
        """Tell whether something of the row was taken from as late a page of this life, which had other columns."""
        sql = "SELECT 1 FROM _brought WHERE t = ? AND key = ? AND epoch = ? AND life = ? AND version >= ? AND schema <> ?"
        return self.store.connection.execute(sql, (*self._place(table, key), self.life, version, self.schema)).fetchone() is not None

    def _other(self, table: Table, key: Row, since: int = 0) -> int | None:
        """Return the node that brought something of this row with a page, as late as that, of another life. Whether two lives are
        one history nobody knows: a centre that was put back in silence goes on under the number of its epoch.
        """
        sql = "SELECT node FROM _brought WHERE t = ? AND key = ? AND epoch = ? AND life <> ? AND version >= ? ORDER BY version DESC"
        row = self.store.connection.execute(sql, (*self._place(table, key), self.life, since)).fetchone()
        return row[0] if row else None

    def _note(self, table: Table, key: Row, version: int, *, filled: bool = False) -> None:
        """Note as how late a page the row, or its deletion, was taken from, and whether that brought it back."""
        self.store.connection.execute(
            "INSERT INTO _brought (t, key, epoch, life, version, schema, filled, node) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (t, key, epoch, life, schema) DO UPDATE SET version = excluded.version,"
            " filled = CASE WHEN _brought.filled > excluded.filled THEN _brought.filled ELSE excluded.filled END, node = excluded.node",
            (*self._place(table, key), self.life, version, self.schema, filled, self.node),
        )

    def _take(self, lens: TableLens, told: Row, row: Row, version: int, scope: frozenset[str]) -> None:
        """Take a row. What could not be brought back is not noted: as late a page of a node that may have it still can bring it.

        `told`: as its page has it. Of columns that its version did not know it says nothing.
        """
        table, known = lens.newer, frozenset(lens.complete)
        key = row[: len(table.key)]
        found = rows.load(self.store, table, key)
        if found is not None:
            row = lens.over(told, found[1])
        if self._is_behind(table, key, version):
            if found is not None:
                self._compare(table, row, found[1])
            return
        has_later = self._other(table, key, version) is not None
        if found is not None:
            if has_later or not self._is_filled(table, found[0], key):
                self._compare(table, row, found[1])
            elif not self._replace(table, found[0], found[1], row, known, version):
                return
            self._note(table, key, version)
            return
        old = rows.grave(self.store, table, key)
        is_gone = has_later or (old is not None and not self._is_dug(table, key, old))
        if not is_gone and self._fill(table, row, known, version, scope):
            return
        self._record(table, key, (), row, None)
        if is_gone:
            self._note(table, key, version)

    def _is_dug(self, table: Table, key: Row, old: rows.Grave) -> bool:
        """Tell whether a row that had come back from this history died by a page of it, and nobody has written it since."""
        if not self._came_back(table, key):
            return False
        kind = self.store.connection.execute("SELECT kind FROM _journal WHERE ver = ?", (old.version,)).fetchone()
        return old.version == self.version or kind == ("fill",)

    # --- rows that were never here -----------------------------------------------------------------------------------

    def _fill(self, table: Table, row: Row, known: frozenset[str], version: int, scope: frozenset[str]) -> bool:
        """Insert a row; False if its parent is not here, it was never in the node's scope, or rows of others hang under its key."""
        values = dict(zip(table.names, row, strict=True))
        if any(values[rule.column] is not None and not self._has(rule.table, values[rule.column]) for rule in table.parents):
            return False
        if below.of_others(self.store, table, row[0], scope, NEVER, dead=False) is not None:
            return False
        added = [name for name in _added(table) if values[name]]
        self.store.connection.execute("SAVEPOINT fill")
        rid = rows.insert(self.store, table, {**values, **dict.fromkeys(added, 0)})
        if scopes.keys_of(self.store, table, rid).isdisjoint(scope):
            self.store.connection.execute("ROLLBACK TO fill")
            self.store.connection.execute("RELEASE fill")
            return False
        self.store.connection.execute("RELEASE fill")
        self._stamp(table, rid, known, version)
        scopes.touch(self.store, table, rid, self.version, CENTRE, None)
        self._note(table, row[: len(table.key)], version, filled=True)
        conflicts.came_back(self.store, _seed(row), (table.name, row[: len(table.key)], ()), self.version)
        self.filled += 1
        for name in added:
            self._record(table, row[: len(table.key)], (name,), (values[name],), (0,))
        return True

    def _has(self, table: str, key: Any) -> bool:
        return scopes.rid_of(self.store, self.store.schema.by_name[table], (key,)) is not None

    def _replace(self, table: Table, rid: int, standing: Row, row: Row, known: frozenset[str], version: int) -> bool:
        """Bring a row that came back, and that nobody has touched since, to a later state of the lost history; False if a parent
        that it names is not here.
        """
        before = scopes.keys_of(self.store, table, rid)
        keep = {*table.key, *_added(table)}
        changed = {
            name: value for name, value, old in zip(table.names, row, standing, strict=True) if name not in keep and not same(value, old)
        }
        parents = [rule for rule in table.parents if rule.column in changed and changed[rule.column] is not None]
        if any(not self._has(rule.table, changed[rule.column]) for rule in parents):
            self._compare(table, row, standing)
            return False
        other = self._other(table, row[: len(table.key)])
        if other is not None:
            later = tuple(changed.get(name, old) for name, old in zip(table.names, standing, strict=True))
            self._compare(table, standing, later, other)
        rows.write(self.store, table, rid, changed)
        self._stamp(table, rid, known, version)
        scopes.touch(self.store, table, rid, self.version, CENTRE, before)
        self.filled += 1
        for name in _added(table):
            if row[table.position[name]]:
                self._record(table, row[: len(table.key)], (name,), (row[table.position[name]],), (standing[table.position[name]],))
        return True

    def _stamp(self, table: Table, rid: int, known: frozenset[str], version: int) -> None:
        """Note that a row came back. A cell that its page knew nothing of is nobody's word: nothing is in it already."""
        if table.name in self.store.schema.fixed:
            return
        stamped = rows.metas(self.store, table, rid)
        rows.stamp(self.store, table, rid, rows.BIRTH, self.version, FILLED, version, LONG_AGO)
        for number, cell in enumerate(table.cells, 1):
            if known.isdisjoint(cell.columns):
                if number not in stamped and rows.BIRTH not in stamped:
                    rows.stamp(self.store, table, rid, number, NEVER, FILLED, NEVER, LONG_AGO)
            elif number in stamped:
                rows.stamp(self.store, table, rid, number, self.version, FILLED, version, LONG_AGO)

    def _place(self, table: Table, key: Row) -> tuple[int, str, int]:
        return self.store.numbers[table.name], key_text(key), self.epoch

    def _is_filled(self, table: Table, rid: int, key: Row) -> bool:
        """Tell whether a row came back this way, from the same history, and nobody has written it since."""
        return self._came_back(table, key) and all(meta.writer == FILLED for meta in rows.metas(self.store, table, rid).values())

    def _came_back(self, table: Table, key: Row) -> bool:
        """Tell whether pages of this history brought the row back at some time."""
        sql = "SELECT 1 FROM _brought WHERE t = ? AND key = ? AND epoch = ? AND filled = 1"
        return self.store.connection.execute(sql, self._place(table, key)).fetchone() is not None

    # --- rows that are here ------------------------------------------------------------------------------------------

    def _come_again(self, notice: ConflictNotice) -> None:
        """Put on record again what the other side of a conflict was, which the lost history had on record, unless it stands: the node's own
        side comes with its work. Of some cells of an update that brought a row back it is not told which, and they come with theirs.
        """
        table, key, side = self.store.schema.by_name.get(notice.table), tuple_of(notice.key), tuple_of(notice.theirs)
        if table is None or key is None or side is None or len(key) != len(table.key) or not table.position.keys() >= set(notice.columns):
            return
        if len(side) != len(notice.columns or table.names):
            return
        found = rows.load(self.store, table, key)
        if found is None:
            self._record(table, key, notice.columns, side, None)
        elif not notice.columns:
            self._compare(table, side, found[1])
        else:
            stands = tuple(found[1][table.position[name]] for name in notice.columns)
            if not all(map(same, side, stands)):
                self._record(table, key, notice.columns, side, stands)

    def _compare(self, table: Table, row: Row, standing: Row, by: int | None = None) -> None:
        """Put on record what differs from what stands, or will, cell by cell; `by`: the node that brought it, if not this one."""
        for cell in table.cells:
            positions = [table.position[name] for name in cell.columns]
            kept, stands = tuple(row[p] for p in positions), tuple(standing[p] for p in positions)
            if not all(same(one, other) for one, other in zip(kept, stands, strict=True)):
                self._record(table, row[: len(table.key)], cell.columns, kept, stands, by)

    def _died(self, table: Table, key: Row, version: int) -> None:
        """Take a deletion: of a row that came back only this way it holds, of any other it is put on record."""
        found = rows.load(self.store, table, key)
        if found is None:
            return
        rid, values = found
        if self._is_filled(table, rid, key) and self._other(table, key, version) is None and not self._has_children(table, key):
            other = self._other(table, key)
            if other is not None:
                self._record(table, key, (), values, None, other)
            bury_row(self.store, table, rid, values, self.version, CENTRE, scopes.keys_of(self.store, table, rid))
            self.filled += 1
        else:
            self._record(table, key, (), None, values)

    def _has_children(self, table: Table, key: Row) -> bool:
        return any(
            rows.select(self.store, edge.table, f'"{edge.column}" = ?', (key[0],)) for edge in self.store.schema.children[table.name]
        )

    def _record(
        self,
        table: Table,
        key: Row,
        columns: tuple[str, ...],
        kept: Sequence[Any] | None,
        stands: Sequence[Any] | None,
        by: int | None = None,
    ) -> None:
        """Put a value on record, once, however many nodes bring it; `by`: the node that brought it, if not this one."""
        sides, node = (None, kept, stands), self.node if by is None else by
        entry = Conflict(table.name, key, columns, *sides, conflicts.RESTORED, "theirs", False, node, conflicts.CENTRE_NODE)
        self.recorded += conflicts.record(self.store, entry, self.version, self.now_ms, _seed(kept))


def _seed(kept: Sequence[Any] | None) -> bytes:
    """Return what the id of a record follows from: the value, whoever brings it."""
    return sha256(b"outpost/restored" + (pack_tuple(kept) or b"")).digest()


def _added(table: Table) -> list[str]:
    """Return the columns whose differences their writers bring again: taken from an image they would count twice."""
    return [cell.columns[0] for cell in table.cells if cell.policy == "add"]


def _rows(store: Store, page: Page) -> tuple[list[tuple[TableLens, Row]], bool]:
    """Return a page's rows, parents first, and whether they are all that is in it."""
    found, is_whole = skew.rows_of_page(store, page)
    return sorted(found, key=lambda entry: store.schema.rank[entry[0].newer.name]), is_whole
