"""Verify: proving that this node holds exactly the centre's rows in its scope, but for its own pending work.

    tables (node/narrow.py) ─► rows that differ, and in which columns ─► a document for people and programs
    --repair: the rows that differ are mended (node/repair.py), and all is compared once more

Spec: PROTOCOL.md §9.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, TypeVar

from node import centre, proof
from node.cycle import Cycle
from node.database import OFFERING, Database
from node.narrow import DIFFERS, Difference, Narrowing
from node.repair import Repaired, repair
from node.report import Report as SyncReport
from node.transport import Exchange
from node.verdicts import counts
from schema.capture import Store, clean_row, same
from schema.digests import Part
from schema.keys import key_json
from sync.errors import Moved
from sync.limits import EXCHANGE_RETRIES_MAX

SHOWN_ROWS = 1_000
"""Rows that a document names; it counts all of them."""

T = TypeVar("T")


def verify(database: Database, exchange: Exchange) -> dict[str, Any]:
    """Compare with the centre at our cursor, pulling first as often as it has moved on. Raises Moved if it never rests."""
    return _at_cursor(database, exchange, lambda: _compare(database, exchange))


def verify_and_repair(database: Database, exchange: Exchange) -> dict[str, Any]:
    """Compare, mend what differs, compare again. The document is the second one, with what was `repaired`."""

    def mend() -> Repaired:
        if database.state().healing == OFFERING:  # what waits to be sent again would look as if no sync had ever seen it
            Cycle(database, exchange).sync()
        found = Narrowing(database, exchange)
        return repair(found) if found.run() else Repaired()

    repaired = _at_cursor(database, exchange, mend)
    return {**verify(database, exchange), "repaired": repaired.document()}


def _at_cursor(database: Database, exchange: Exchange, step: Callable[[], T]) -> T:
    for attempt in range(EXCHANGE_RETRIES_MAX):
        try:
            return step()
        except Moved:
            if attempt == EXCHANGE_RETRIES_MAX - 1:
                raise
            Cycle(database, exchange).pull(SyncReport())
    raise AssertionError("unreachable")


def _compare(database: Database, exchange: Exchange) -> dict[str, Any]:
    found = Narrowing(database, exchange)
    differing = found.run()
    found.fetch(SHOWN_ROWS)
    proof.note_found(found, database.clock_ms())
    return {
        "equal": differing == 0,
        "version": found.state.cursor.number,
        "tables": {
            name: {"equal": each.same, "rows": each.ours, "centre_rows": each.theirs, "digest": each.digest.hex()}
            for name, each in found.tables.items()
        },
        "differing": differing,
        "rows": list(_rows(database, found)),
        "held": counts(database.store)[2],
    }


def _rows(database: Database, found: Narrowing) -> Iterator[dict[str, Any]]:
    with centre.at_rest(database) as store:
        for table, rows in groupby(islice(found.differences(), SHOWN_ROWS), key=attrgetter("table")):
            where = centre.parts(store, table)
            for each in rows:
                document: dict[str, Any] = {"table": table.name, "key": key_json(each.key), "what": each.what}
                yield {**document, "columns": _columns(store, each, where)} if each.what == DIFFERS else document


def _columns(store: Store, each: Difference, where: Sequence[Part]) -> list[str]:
    """Return the columns in which a row differs."""
    ours = centre.row_of(store, each.table, each.key, where)
    if ours is None or each.image is None:
        return []
    pairs = zip(each.table.names, clean_row(ours), each.image, strict=True)
    return [name for name, one, other in pairs if not same(one, other) or repr(one) != repr(other)]
