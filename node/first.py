"""The first pull as a file: what was fetched (node/fetching.py) becomes this node's database, or its rows go into the one that is there.

    fetched ─┬─► a folder without a database: the file becomes it (node/joining.py), so a million rows take a second
             └─► a database that has sent nothing yet: its rows, under what was typed here meanwhile, in one commit

Spec: PROTOCOL.md §8.5. Counterpart: server/snapshot/.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Final

from node import changed, healing, outbox, pending, proof, retained, staging
from node.apply import Applied, write_rows
from node.database import SOUND, Database, State, hear, read_state
from node.fetching import Fetched, Progress, asking, fetch, forget
from node.settling import settle_segments
from node.transport import Exchange
from schema.capture import Store, mark_all, read_rows, set_applying
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import Sqlite, quote
from sync.digest import BEGINNING

CHUNK_ROWS: Final = 5_000


def pull(database: Database, exchange: Exchange, progress: Progress, *, waits: bool = False) -> Applied | None:
    """Fetch and take a snapshot where this node holds nothing yet; None where there is none to take: all is pulled then. `waits`: for
    one that the server is making.

    Raises what the exchange raises; what was fetched until then is kept.
    """
    state = database.state()
    if not _is_new(state):
        forget(database.path)
        return None
    if staging.resume(database)[0] is not None:
        return None  # it has begun to pull
    ask = asking(exchange, state.epoch, state.incarnation, state.highest, database.schema.version)
    found = fetch(database.path, database.schema, ask, progress, waits=waits)
    if found is None:
        return None
    try:
        with database.writing() as store:
            now = read_state(store.connection)
            if not _is_new(now) or (now.epoch, now.incarnation) != (state.epoch, state.incarnation):
                return None  # another process of this node has moved on meanwhile
            return take(store, found, database.clock_ms())
    finally:
        found.rows.unlink(missing_ok=True)


def _is_new(state: State) -> bool:
    """Tell whether a node has heard nothing yet, and sent nothing."""
    return state.registered and state.acked == state.cursor == BEGINNING and state.healing == SOUND


def rows_here(database: Database) -> int:
    """Return how many rows a database has that began with a snapshot, 0 where it did not."""
    if database.state().cursor == BEGINNING:
        return 0
    names = [table.name for table in database.schema.tables]
    return sum(database.connection.execute(f"SELECT COUNT(*) FROM {quote(name)}").fetchone()[0] for name in names)


def begin_at(store: Store, found: Fetched) -> None:
    """Begin at a snapshot's version. What it held can be told from the rows themselves, should the centre be restored to before it
    (node/healing.py): so it counts as covered. All that comes later is compared on its way.
    """
    at = found.snapshot.at
    store.connection.execute(
        "UPDATE _node SET cursor = ?, cursor_digest = ?, covered = MAX(covered, ?), afresh = NULL, edge = ? WHERE id = 1",
        (at.number, at.digest, at.number, found.snapshot.edge),
    )
    hear(store, at)
    retained.pass_points(store, [point for point in found.points if point.number <= at.number], backup=True)
    retained.pass_points(store, [at])
    proof.begin_at(store, at.number)


def take(store: Store, found: Fetched, now_ms: int) -> Applied:
    """Put a snapshot's rows under this node's own work, inside the caller's write transaction."""
    outbox.seal(store, now_ms)
    set_applying(store, True)
    changed.begin(store)
    done = Applied()
    settle_segments(store, found.snapshot.at.number, now_ms, done.settled)
    hidden = healing.clear(store)
    with closing(Sqlite().open(found.rows, readonly=True)) as source:
        file = Store(source, store.dialect, store.schema, {})
        for table in store.schema.tables:
            for some in _rows(file, table.name, table.names):
                write_rows(store, table, some)
                done.rows += len(some)
    for name, key in hidden:
        pending.redraw(store, store.schema.by_name[name], key)
    mark_all(store)
    set_applying(store, False)
    begin_at(store, found)
    return done


def _rows(file: Store, name: str, columns: tuple[str, ...]) -> Iterator[list[tuple[object, ...]]]:
    sql = f"SELECT {', '.join(map(quote, columns))}, {ROW_ID} FROM {quote(name)} WHERE {ROW_ID} > ? ORDER BY {ROW_ID} LIMIT {CHUNK_ROWS}"
    last = -1
    while rows := read_rows(file, sql, (last,)):
        last = rows[-1][-1]
        yield [row[:-1] for row in rows]
