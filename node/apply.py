"""Apply: a complete pull, page by page, in one commit: rows, our own pending work over them, cursor, verdicts.

    (verdicts were noted as the pages came in: all of them before any row)
    seal what was written meanwhile ─► for each page: settle what it covers ─► its rows ─► its removals
    ─► redraw rows with pending work ─► conflicts ─► cursor

A reader of the tables sees all of it or nothing. Spec: PROTOCOL.md §8.4; RULES H1, H3, H4b, H5, H11, H12.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlcipher3 import dbapi2

from node import changed, healing, outbox, pending, proof, recalling, retained, rolling, series, skew
from node.database import RELOAD, State, hear, read_state
from node.settling import Settled, settle_segments
from node.verdicts import find_own
from schema.capture import Store, mark_all, set_applying
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import insert_rows, quote
from schema.keys import key_text
from schema.lens import Lens
from schema.others import others_indexes
from sync.change import Insert
from sync.columns import Mixed
from sync.digest import BEGINNING
from sync.errors import Altered, BadReply, Forked, Malformed, MalformedBlock, Stale, TooLarge, UnknownTable
from sync.limits import PAGE_ROWS_MAX
from sync.messages import ConflictNotice, Page, Point, Removals, Rows, SealedRows
from sync.rows import entries_of, rows_of, tuple_of
from sync.segment import read_segment
from sync.values import RawText
from sync.wire import pack

_UNUSABLE = (dbapi2.IntegrityError, dbapi2.InterfaceError, dbapi2.ProgrammingError)
"""What SQLite says to rows that no server sends: a required value is missing, a value is none it can store."""


@dataclass(slots=True)
class Applied:
    """What an apply changed in the tables people see."""

    rows: int = 0
    removed: int = 0
    rolled: int = 0  # rows that left with the window
    conflicts: int = 0
    settled: Settled = field(default_factory=Settled)
    is_proven: bool = False  # to be what the centre holds
    dirty: set[tuple[str, str]] = field(default_factory=set)  # rows to redraw


def apply(store: Store, pages: Iterable[tuple[Page, bytes | None]], now_ms: int) -> Applied:
    """Apply a complete pull (each page also as bytes, if it was staged) inside the caller's write transaction.

    Raises Stale, Forked, TooLate, UnknownTable, BadReply.
    """
    outbox.seal(store, now_ms)
    state = read_state(store.connection)
    set_applying(store, True)
    changed.begin(store)
    done, last, pull = Applied(), None, retained.begin_pull(store)
    for page, body in pages:
        check_page(store, state, page)
        if last is None and state.healing == RELOAD:
            done.dirty |= _anew(store, page.head, done, now_ms)
        try:
            _page(store, page, done, now_ms)
        except (Malformed, MalformedBlock, TooLarge, *_UNUSABLE) as error:
            if isinstance(error, dbapi2.IntegrityError) and (indexes := others_indexes(store)):
                raise Altered(f"Another program's UNIQUE index ({', '.join(indexes)}) keeps out what others recorded: {error}.") from error
            raise BadReply(f"The server's answer could not be applied: {error}") from error
        if page.rows or page.sealed or page.removals or page.deaths or page.conflicts:
            retained.keep_page(store, state, page, pull, body)
        retained.pass_points(store, page.points, backup=True)
        last = page
    if last is None or last.position is not None:
        raise Stale("the pull is not complete")
    _redraw(store, done)
    if state.healing == RELOAD:
        recalling.require_recalled(store, state)
        healing.forget_untold(store)
    done.rolled = rolling.roll(store, state, last.edge, changed=not changed.is_nothing(store))
    mark_all(store)
    set_applying(store, False)
    afresh = rolling.wanted_afresh(store, state, last.edge)
    store.connection.execute(
        "UPDATE _node SET cursor = ?, cursor_digest = ?, as_of_ms = ?, afresh = ? WHERE id = 1",
        (last.to.number, last.to.digest, now_ms, json.dumps(afresh) if afresh else None),
    )
    hear(store, last.to)
    retained.pass_points(store, [last.to])
    if last.schema == store.schema.version:
        healing.try_again(store, last.to.number)
    if last.covered > state.covered:
        retained.forget(store, last.covered)
    done.is_proven = proof.check(store, last.proof, skew.lens_of(store, last), state.begin.number, last.to.number, now_ms)
    return done


def _anew(store: Store, head: int, done: Applied, now_ms: int) -> set[tuple[str, str]]:
    """Begin to take everything anew: settle what the first page covers, then take away the rows of the lost history."""
    settle_segments(store, head, now_ms, done.settled)
    recalling.note_named(store, read_state(store.connection))
    series.catch_up(store)  # what the lost history numbered stays given
    return healing.clear(store)


def page_rows(page: Page) -> int:
    """Return how many rows a page says it has."""
    return sum(block.count for block in page.rows) + sum(sealed.count for sealed in page.sealed)


def check_page(store: Store, state: State, page: Page) -> None:
    """Check that a page is bounded and continues this very life of this node (RULES H5). Raises BadReply, Stale, Forked."""
    if entries_of(page) > PAGE_ROWS_MAX:
        raise BadReply(f"The server's answer holds more than {PAGE_ROWS_MAX} rows.")
    asked = (state.incarnation, state.epoch, state.begin.number, tuple(state.afresh))
    if (page.incarnation, page.epoch, page.since, page.afresh) != asked:
        raise Stale("the page answers another question")
    if page.to.number < state.cursor.number:
        raise Stale("the page lies behind the cursor")
    # nothing is pushed while all is taken anew: what was is a copy's, and as our own echo it would not come
    if (state.healing == RELOAD and page.chain != BEGINNING) or not _is_ours(store, state, page.chain):
        raise Forked("The centre holds another history of this node: it was restored from a backup, or copied.")


def _is_ours(store: Store, state: State, chain: Point) -> bool:
    if chain.number <= state.acked.number:
        return chain.number < state.acked.number or chain == state.acked
    sql = "SELECT digest FROM _segment WHERE chain_seq = ? AND version IS NULL"
    row = store.connection.execute(sql, (chain.number,)).fetchone()
    return row is not None and row[0] == chain.digest


def _redraw(store: Store, done: Applied) -> None:
    """Make the rows people see what the centre's rows and our pending changes make of them."""
    for table, key in done.dirty:
        pending.redraw(store, store.schema.by_name[table], key)
    done.dirty.clear()


def _page(store: Store, page: Page, done: Applied, now_ms: int) -> None:
    _redraw(store, done)  # what the page before brought must be in view before our own work on it is settled (RULES H4b)
    settle_segments(store, page.head, now_ms, done.settled)
    lens = skew.lens_of(store, page)
    for sealed in page.sealed:
        done.rows += _sealed(store, sealed, done)
    for block in page.rows:
        done.rows += _block(store, lens, block, done)
    for removals in (*page.removals, *page.deaths):
        done.removed += _removals(store, removals, done)
    for notice in skew.notices(lens, page.conflicts):
        done.conflicts += keep_conflict(store, notice)


def _table(store: Store, name: str, columns: Sequence[str] | None = None) -> Table:
    table = store.schema.by_name.get(name)
    if table is None or (columns is not None and tuple(columns) != table.names):
        raise UnknownTable(f"The centre sent {name} in a form this node does not know; please update it.")
    return table


def _sealed(store: Store, sealed: SealedRows, done: Applied) -> int:
    """Write the rows of a segment that another node pushed."""
    segment = read_segment(sealed.body)
    rows_alone = not (segment.deletes or segment.updates or segment.decisions or segment.withdrawals or segment.part)
    if not rows_alone or sum(block.count for block in segment.inserts) != sealed.count:
        raise BadReply("The server's answer holds a segment that is not rows alone, or not as many as it says.")
    for block in segment.inserts:
        table = _table(store, block.table, block.columns)
        if table.name not in store.schema.fixed:
            raise BadReply(f"The server's answer holds a segment with {table.name}, whose rows may change.")
        _rows(store, table, list(zip(*block.values, strict=True)), done, segment=segment.id)
    return sealed.count


def _block(store: Store, lens: Lens | None, block: Rows, done: Applied) -> int:
    """Write a page's rows of one table; those of an older centre in this version's columns."""
    older = lens.tables.get(block.table) if lens is not None else None
    table = _table(store, block.table, block.columns if older is None else None)
    if older is not None and block.columns != older.older.names:
        raise UnknownTable(f"The centre sent {block.table} in a form this node does not know; please update it.")
    columns = rows_of(block.values, block.count, len(block.columns))
    raw = any(isinstance(column, Mixed) and column.raws for column in block.values)
    rows = list(zip(*columns, strict=True))
    _rows(store, table, rows if older is None or older.is_plain else list(map(older.up_row, rows)), done, raw=raw)
    return block.count


def write_rows(store: Store, table: Table, rows: list[tuple[Any, ...]]) -> None:
    """Write rows of the centre's under our own pending work, capture being off, and make people see what follows from both."""
    done = Applied()
    _rows(store, table, rows, done, raw=any(isinstance(value, RawText) for row in rows for value in row))
    _redraw(store, done)


def _rows(
    store: Store, table: Table, rows: list[tuple[Any, ...]], done: Applied, *, raw: bool = False, segment: bytes = changed.NO_SEGMENT
) -> None:
    """Write rows, all at once if none of them is `raw` text or here already; under those with pending work, its shadow."""
    hidden = pending.shadowed(store, table.name)
    if hidden:
        changed.told_keys(store, table, rows, segment)
        free = []
        for row in rows:
            key = key_text(row[: len(table.key)])
            if key in hidden:
                pending.set_shadow(store, table.name, key, row)
                done.dirty.add((table.name, key))
            else:
                free.append(row)
        rows = free
    if raw or not _write(store, table, rows, segment):
        changed.told_keys(store, table, rows, segment)
        for row in rows:
            _write_one(store, table, row, done)


def _write(store: Store, table: Table, rows: list[tuple[Any, ...]], segment: bytes) -> bool:
    """Write rows as one statement; False (and nothing written) if a document among them is here already, maybe our own."""
    if table.name not in store.schema.fixed:
        pending.put_rows(store, table, rows)
        changed.told_keys(store, table, rows, segment)
        return True
    before = store.dialect.highest(store.connection).get(table.name, 0)
    store.connection.execute("SAVEPOINT rows")
    try:
        insert_rows(store.connection, table.name, table.names, rows)
    except dbapi2.IntegrityError:
        store.connection.execute("ROLLBACK TO rows")
        store.connection.execute("RELEASE rows")
        if not pending.has_own(store, table.name):  # told afresh: they are here already, none on its way
            pending.put_rows(store, table, rows)
            changed.told_keys(store, table, rows, segment)
            return True
        return False
    store.connection.execute("RELEASE rows")
    changed.told_run(store, table, before, len(rows), segment)
    return True


def _write_one(store: Store, table: Table, row: Sequence[Any], done: Applied) -> None:
    """Write a row that may be here already; one of our own under the same key that is still on its way stays on top."""
    key = row[: len(table.key)]
    rid = pending.number_of_row(store, table, key)
    if rid is not None and pending.is_own(store, table.name, rid):
        make_explicit(store, table, rid)
        pending.set_shadow(store, table.name, key_text(tuple(key)), row)
        done.dirty.add((table.name, key_text(tuple(key))))
        return
    pending.put_row(store, table, row)


def make_explicit(store: Store, table: Table, rid: int) -> None:
    """Keep a document of ours that is on its way as a pending change of its own, to be replayed over the centre's row."""
    columns = ", ".join(map(quote, table.names))
    row = store.connection.execute(f"SELECT {columns} FROM {quote(table.name)} WHERE {ROW_ID} = ?", (rid,)).fetchone()
    number, segment, index = find_own(store, table, rid, row[: len(table.key)])
    key = row[: len(table.key)]
    pending.shadow(store, table, key, None)
    pending.keep(store, number, segment, index, Insert(table.name, key, dict(zip(table.names, row, strict=True))))


def _removals(store: Store, block: Removals, done: Applied) -> int:
    table = _table(store, block.table)
    keys: list[tuple[Any, ...]] = list(zip(*rows_of(block.key, block.count, len(table.key)), strict=True))
    hidden = pending.shadowed(store, table.name)
    removed = 0
    series.before_removal(store, table.name)
    changed.told_keys(store, table, keys)
    for key in keys:
        text = key_text(key)
        store.connection.execute("DELETE FROM _conflict WHERE tbl = ? AND key = ?", (table.name, text))
        if text in hidden:
            pending.set_shadow(store, table.name, text, None)
            done.dirty.add((table.name, text))
            removed += 1
        else:
            removed += _remove(store, table, key)
    return removed


def _remove(store: Store, table: Table, key: tuple[Any, ...]) -> int:
    rid = pending.number_of_row(store, table, key)
    if rid is None or pending.is_own(store, table.name, rid):
        return 0
    pending.delete_row(store, table, key)
    return 1


def keep_conflict(store: Store, notice: ConflictNotice) -> int:
    """Keep what the centre says of a conflict; return 1 if it is new here."""
    known = store.connection.execute("SELECT version FROM _conflict WHERE id = ?", (notice.id,)).fetchone()
    store.connection.execute(
        "INSERT INTO _conflict (id, version, tbl, key, body, open) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id)"
        " DO UPDATE SET version = excluded.version, body = excluded.body, open = excluded.open, deciding = 0",
        (notice.id, notice.version, notice.table, key_text(tuple_of(notice.key) or ()), pack(notice), int(notice.open)),
    )
    return int(known is None)
