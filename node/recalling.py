"""Recalling: this node was away for longer than the centre keeps deleted rows, and shows it those that its own work is about.

    history.late ─► begin: rows under pending changes, the parents that they name, and theirs ─► pages in boxes ══offer══► the centre keeps
    the last images of those it knows no more ─► push what waits ─► everything anew (node/healing.py `reload`)

What a person typed in the meantime waits until all is taken anew; should that then be about a row which is gone, it is shown, too.
What is kept is up to which segment all was shown, and at which version of the centre's: cut before that, it begins again. Spec:
PROTOCOL.md §8.6; RULES §2 a.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from node import centre, healing, offering, outbox, pending
from node.database import OFFERING, Database, State, read_state
from node.pieces import pieces
from node.transport import Exchange
from schema.capture import Store, read_rows
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.keys import key_parts, key_text
from sync import box
from sync.change import Insert, Update
from sync.errors import TooLate
from sync.limits import PAGE_ROWS, PROTOCOL_VERSIONS, PUSH_BYTES, PUSH_SEGMENTS_MAX
from sync.messages import Offered, OfferRequest

_ROWS_AT_ONCE: Final = 500

_BAD = "verdict IN ('held', 'refused', 'withdrawn')"


def recall(database: Database, exchange: Exchange) -> int:
    """Show the centre what this node's work is about; what is pushed then is judged with it. Return how many pages it cannot read yet: work
    on these is held. Raises what an exchange raises.
    """
    with database.writing() as store:
        outbox.seal(store, database.clock_ms())
        _collect(store, 0)
        state = read_state(store.connection)
        mark = store.connection.execute("SELECT COALESCE(MAX(seq), 0) + 1 FROM sqlite_sequence WHERE name = '_segment'").fetchone()[0]
    known, shown, unread = (state.epoch, state.incarnation, state.cursor, state.highest), [], 0
    for pages in _requests(_offered(database, state)):
        reply = exchange.offer(OfferRequest(PROTOCOL_VERSIONS[-1], *known, tuple(page for page, _ in pages)))
        shown.append(reply.head.number)
        unread += len(reply.unread)
    with database.writing() as store:
        offering.require_same_life(read_state(store.connection), state)
        store.connection.execute("UPDATE _node SET recalled = ?, shown = ?, healing = ? WHERE id = 1", (mark, min(shown), OFFERING))
    return unread


def note_named(store: Store, state: State) -> None:
    """Note, before all is taken anew, which rows that are here work is about which came too late to be shown."""
    if not state.recalled:
        return
    _collect(store, state.recalled)
    rows = store.connection.execute("SELECT tbl, key FROM temp._recalled").fetchall()
    gone = [(name, key) for name, key in rows if not _is_here(store, name, key)]
    store.connection.executemany("DELETE FROM temp._recalled WHERE tbl = ? AND key = ?", gone)


def require_recalled(store: Store, state: State) -> None:
    """Check, when all was taken anew, that none of these rows is gone. Raises TooLate."""
    rows = store.connection.execute("SELECT tbl, key FROM temp._recalled").fetchall() if state.recalled else []
    if not all(_is_here(store, name, key) for name, key in rows):
        raise TooLate


def _is_here(store: Store, name: str, key: str) -> bool:
    table = store.schema.by_name[name]
    return pending.number_of_row(store, table, key_parts(key, len(table.key))) is not None


# --- which rows ----------------------------------------------------------------------------------------------------------


def _collect(store: Store, since: int) -> None:
    """Note in `temp._recalled` the rows that pending work in segments from a number on is about, with the parents that they, or new rows,
    name.
    """
    connection = store.connection
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS _recalled (tbl TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (tbl, key))")
    connection.execute("DELETE FROM temp._recalled")
    late = "segment IN (SELECT id FROM _segment WHERE seq >= ?)" if since else "? = 0"
    connection.execute(f"INSERT INTO temp._recalled SELECT DISTINCT tbl, key FROM _op WHERE kind = 'update' AND {late}", (since,))
    ops = connection.execute(f"SELECT tbl, kind, body FROM _op WHERE kind <> 'delete' AND {late} ORDER BY id", (since,))
    for name, kind, body in ops:
        table = store.schema.by_name[name]
        if table.parents:
            op = pending.unpack(name, kind, body)
            _note_parents(store, table, _values(op) if isinstance(op, Insert | Update) else {})
    for table in store.schema.tables:
        for rule in table.parents:
            source = f"_own o JOIN {quote(table.name)} r ON r.{ROW_ID} BETWEEN o.lo AND o.hi"
            sql = f"SELECT DISTINCT r.{quote(rule.column)} FROM {source} WHERE o.tbl = ? AND {late}"
            for (parent,) in read_rows(store, sql, (table.name, since)):
                _note_parents(store, table, {rule.column: parent})
    for table in sorted(store.schema.tables, key=lambda table: -store.schema.rank[table.name]):  # children first: their parents follow
        if table.parents:
            for row in _images(store, table):
                _note_parents(store, table, dict(zip(table.names, row, strict=True)))


def _values(op: Insert | Update) -> dict[str, Any]:
    """Return the columns that a change sets."""
    if isinstance(op, Insert):
        return dict(op.values)
    return {name: value for edit in op.edits for name, value in zip(edit.columns, edit.new, strict=True)}


def _note_parents(store: Store, table: Table, values: dict[str, Any]) -> None:
    found = [(rule.table, key_text((values[rule.column],))) for rule in table.parents if type(values.get(rule.column)) is str]
    store.connection.executemany("INSERT OR IGNORE INTO temp._recalled (tbl, key) VALUES (?, ?)", found)


def _images(store: Store, table: Table) -> Iterator[tuple[Any, ...]]:
    """Yield the noted rows of a table as the centre had them, with what it has accepted of this node since."""
    keys = store.connection.execute("SELECT key FROM temp._recalled WHERE tbl = ? ORDER BY key", (table.name,)).fetchall()
    parts = centre.parts(store, table) if keys else []
    for (text,) in keys:
        key = key_parts(text, len(table.key))
        image = centre.row_of(store, table, key, parts)
        for body, kind in store.connection.execute(_ACCEPTED, (table.name, text)).fetchall():
            image = pending.fold(table, image, pending.unpack(table.name, kind, body))
        if image is not None:
            yield image


_ACCEPTED = (
    "SELECT o.body, o.kind FROM _op o JOIN _segment s ON s.id = o.segment AND s.version IS NOT NULL"
    f" WHERE o.tbl = ? AND o.key = ? AND NOT EXISTS (SELECT 1 FROM _txn t WHERE t.segment = o.segment AND t.txn = o.txn AND t.{_BAD})"
    " ORDER BY o.n, o.id"
)


# --- how they are shown ----------------------------------------------------------------------------------------------------


def _offered(database: Database, state: State) -> Iterator[tuple[Offered, int]]:
    """Yield pages of these rows in boxes, parents first, each with the number of its rows. What no request can carry is left out: work
    on it is held.
    """
    schema = database.schema
    for table in sorted(schema.tables, key=lambda table: schema.rank[table.name]):
        for rows in _some(_images(database.store, table)):
            for piece, count in pieces(centre.page(database.store, state, table, rows), schema.rank):
                offered = Offered(state.cursor.number, box.close(state.box_key, piece))
                if healing.fits([(0, offered)]):
                    yield offered, count


def _some(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    for _, group in groupby(enumerate(rows), key=lambda entry: entry[0] // _ROWS_AT_ONCE):
        yield [row for _, row in group]


def _requests(pages: Iterator[tuple[Offered, int]]) -> Iterator[Sequence[tuple[Offered, int]]]:
    """Yield pages as requests take them; at least one request, for its reply says at which version all was shown."""
    request, size, rows = list[tuple[Offered, int]](), 0, 0
    for page, count in pages:
        size, rows = size + len(page.box), rows + count
        if request and (size > PUSH_BYTES or rows > PAGE_ROWS or len(request) == PUSH_SEGMENTS_MAX):
            yield request
            request, size, rows = [], len(page.box), count
        request.append((page, count))
    yield request
