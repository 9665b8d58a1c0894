"""Pages of a pull on their way in: each is kept before the next is asked for, and all are applied in one commit.

A pull that was cut goes on from the last page that was kept. Spec: PROTOCOL.md §8.3; RULES H5.
"""

from __future__ import annotations

from collections.abc import Iterator

from node.database import Database, State
from schema.capture import Store
from sync.errors import Stale
from sync.limits import MESSAGE_BYTES_MAX
from sync.messages import Page, Position
from sync.wire import pack, unpack


def resume(database: Database) -> tuple[Position | None, int]:
    """Return where an interrupted pull goes on and the number of its last page, or None and 0 to begin one; pages of another
    life are discarded.
    """
    row = database.connection.execute("SELECT body, number FROM _stage ORDER BY number DESC LIMIT 1").fetchone()
    if row is None:
        return None, 0
    page: Page = unpack(Page, row[0], MESSAGE_BYTES_MAX)
    if not _is_of(page, database.state()) or page.position is None:
        with database.writing() as store:
            discard(store)
        return None, 0
    return page.position, row[1]


def _is_of(page: Page, state: State) -> bool:
    return (page.incarnation, page.epoch, page.since) == (state.incarnation, state.epoch, state.begin.number)


def keep(store: Store, page: Page) -> int:
    """Keep a page, and return its number."""
    return int(store.connection.execute("INSERT INTO _stage (body) VALUES (?) RETURNING number", (pack(page),)).fetchone()[0])


def require_own(store: Store, number: int) -> None:
    """Check that the page of this number is the last one kept: what two exchanges stage between each other's pages is nobody's
    pull. Raises Stale.
    """
    if store.connection.execute("SELECT COALESCE(MAX(number), 0) FROM _stage").fetchone()[0] != number:
        raise Stale("another exchange of this node is under way")


def pages(store: Store) -> Iterator[tuple[Page, bytes]]:
    """Yield the pages in order, each as it was kept too, one in memory at a time."""
    last = 0
    while row := store.connection.execute("SELECT number, body FROM _stage WHERE number > ? ORDER BY number LIMIT 1", (last,)).fetchone():
        last = row[0]
        yield unpack(Page, row[1], MESSAGE_BYTES_MAX), row[1]


def discard(store: Store) -> None:
    """Let go of every page that was kept."""
    store.connection.execute("DELETE FROM _stage")
