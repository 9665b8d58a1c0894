"""Narrowing: from tables that differ, by ranges of keys, to the rows that differ, all at one version.

    tables ─► ranges, cut 64-fold at keys of ours while they differ and are large ─► keys and digests, row by row ─► differences

Requests are bounded; what is found lies in a temporary table, so memory follows the size of a request. What people write
meanwhile is ours until it is sent, and never looks like a difference. Spec: PROTOCOL.md §9.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from node import centre, skew
from node.database import Database
from schema.capture import Store, clean_row
from schema.declare import Table
from schema.digests import Part, chunks, digest_of
from schema.images import pack_values, unpack_tuple
from schema.keys import key_parts, key_text
from sync.digest import RowsDigest, row_digests
from sync.errors import BadReply
from sync.limits import PROTOCOL_VERSIONS, VERIFY_RANGES_MAX, VERIFY_ROWS_MAX
from sync.messages import FOUND, Compared, KeyRange, RangeDigest, TableDigest, VerifyReply, VerifyRequest, Wanted
from sync.rows import columns_of, rows_of, values_of
from sync.values import value_order

LIST_ROWS = 1_000
"""Rows of a range from which it is cut rather than listed."""

DIGEST_BYTES = 32
_READ_ROWS = 500

MISSING, EXTRA, DIFFERS = "missing here", "not at the centre", "differs"

Key = tuple[Any, ...]


class Asks(Protocol):
    """The part of an exchange that narrowing needs."""

    def verify(self, request: VerifyRequest) -> VerifyReply:
        """Ask the centre what it holds."""


@dataclass(frozen=True, slots=True)
class Range:
    """Rows of a table with low < key <= high that differ, and how many each side has."""

    table: Table
    low: Key | None
    high: Key | None
    ours: int
    theirs: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that differs; what the centre said of it (FOUND …, None: not asked), and its row."""

    table: Table
    key: Key
    what: str
    state: int | None
    image: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class TableCount:
    """How a table compares."""

    ours: int
    theirs: int
    digest: bytes
    same: bool


class Narrowing:
    """One comparison with the centre at our cursor. Raises Moved wherever the centre has moved on; then it begins anew."""

    def __init__(self, database: Database, exchange: Asks, progress: Callable[[str, int, int], None] | None = None) -> None:
        self.database, self.exchange = database, exchange
        self.state = database.state()
        self.tables: dict[str, TableCount] = {}
        self._only: tuple[Compared, ...] = ()
        self._compared: dict[str, Table] = {}  # with the columns that both sides have
        self._ranges: list[Range] = []
        connection = database.connection
        connection.execute(
            "CREATE TEMP TABLE IF NOT EXISTS _difference (tbl TEXT NOT NULL, key TEXT NOT NULL, what TEXT NOT NULL, state INTEGER,"
            " image BLOB, PRIMARY KEY (tbl, key)) WITHOUT ROWID"
        )
        connection.execute("DELETE FROM temp._difference")

    def run(self) -> int:
        """Find every row that differs; return how many do."""
        self.compare()
        while self._ranges:
            narrow = [each for each in self._ranges if each.ours <= LIST_ROWS]
            if narrow:
                self._list(narrow)
            else:
                self._cut(self._ranges.pop())
        return self.count()

    def compare(self) -> bool:
        """Compare whole tables; tell whether all are equal."""
        schema, reply = self.database.schema, self._ask((), None)
        if only := skew.incomparable(schema, reply):
            reply = self._ask_again(only)
        self._compared = {entry.table: skew.compared(schema, reply, entry) for entry in reply.tables}
        theirs: dict[str, TableDigest] = {entry.table: entry for entry in reply.tables}
        with centre.at_rest(self.database) as store:
            for table in store.schema.tables:
                entry = theirs.get(table.name)
                if entry is None and reply.schema < schema.version:
                    continue  # an older centre does not have it
                count, digest = digest_of(store, self._compared.get(table.name, table), centre.parts(store, table))
                same = entry is not None and (count, digest) == (entry.rows, entry.digest)
                self.tables[table.name] = TableCount(count, entry.rows if entry else 0, digest, same)
        by_name = {**schema.by_name, **self._compared}
        self._ranges = [
            Range(by_name[name], None, None, each.ours, each.theirs) for name, each in reversed(self.tables.items()) if not each.same
        ]
        return not self._ranges

    def _ask_again(self, only: tuple[Compared, ...]) -> VerifyReply:
        """Ask an older centre for the digests of what can be compared with it."""
        self._only = only
        return self._ask((), None)

    def _ask(self, ranges: Sequence[KeyRange], wanted: Wanted | None) -> VerifyReply:
        state = self.state
        version, schema = PROTOCOL_VERSIONS[-1], self.database.schema.version
        request = VerifyRequest(
            version, state.epoch, state.incarnation, state.cursor, tuple(ranges), wanted, schema, self._only, state.edge
        )
        reply = self.exchange.verify(request)
        if reply.version != state.cursor.number or len(reply.ranges) != len(ranges):
            raise BadReply("The server's answer to verify is not what was asked for.")
        return reply

    # --- ranges -----------------------------------------------------------------------------------------------------------

    def _cut(self, wide: Range) -> None:
        """Cut a range at keys of ours and keep the pieces that differ."""
        table = wide.table
        with centre.at_rest(self.database) as store:
            where = centre.parts(store, store.schema.by_name[table.name])
            pieces = _pieces(store, wide, where)
        asked = [KeyRange(table.name, values_of(low), values_of(high), 0) for low, high, *_ in pieces]
        for (low, high, ours, digest), theirs in zip(pieces, self._ask(asked, None).ranges, strict=True):
            if (ours, digest) != (theirs.rows, theirs.digest):
                self._ranges.append(Range(table, low, high, ours, theirs.rows))

    def _list(self, narrow: list[Range]) -> None:
        """Compare ranges row by row, as many as go into one request; the rest, and what a long one has left, stays."""
        table = narrow[0].table
        batch: list[Range] = []
        for each in sorted((each for each in narrow if each.table is table), key=_by_low):
            if batch and (len(batch) == VERIFY_RANGES_MAX or (len(batch) + 1) * (LIST_ROWS + 1) > VERIFY_ROWS_MAX):
                break
            batch.append(each)
        self._ranges = [each for each in self._ranges if each not in batch]
        rows = max(LIST_ROWS + 1, VERIFY_ROWS_MAX // len(batch))
        asked = [KeyRange(table.name, values_of(each.low), values_of(each.high), rows) for each in batch]
        replies = self._ask(asked, None).ranges
        with centre.at_rest(self.database) as store:
            where = centre.parts(store, store.schema.by_name[table.name])
            found: list[tuple[str, str]] = []
            for each, reply in zip(batch, replies, strict=True):
                theirs = _listed(table, reply, rows)
                last = each.high if len(theirs) < rows else theirs[-1][0]
                ours = _own_rows(store, table, where, each.low, last)
                found += _compared(ours, theirs)
                if len(theirs) == rows:
                    self._ranges.append(Range(table, last, each.high, each.ours, max(0, each.theirs - rows)))
        self._keep(table, found)

    def _keep(self, table: Table, found: Sequence[tuple[str, str]]) -> None:
        sql = "INSERT OR REPLACE INTO temp._difference (tbl, key, what) VALUES (?, ?, ?)"
        with self.database.reading() as store:
            store.connection.executemany(sql, [(table.name, key, what) for key, what in found])

    # --- what was found -----------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """Return how many rows differ."""
        return int(self.database.connection.execute("SELECT COUNT(*) FROM temp._difference").fetchone()[0])

    def fetch(self, limit: int | None = None) -> None:
        """Ask for the centre's side of the rows found, of so many at most: each row, or why there is none."""
        left = self.count() if limit is None else limit
        while left > 0 and (wanted := self._unfetched(min(left, VERIFY_ROWS_MAX))):
            table, keys = wanted
            answer = self._ask((), Wanted(table.name, len(keys), columns_of(keys, len(table.key))))
            reply, lens = answer.found, skew.table_lens(self.database.schema, answer.schema, table.name)
            if reply is None or not 0 < len(reply.states) <= len(keys) or reply.rows.columns != lens.older.names:
                raise BadReply("The server's answer to verify is not what was asked for.")
            rows = map(lens.up_row, zip(*rows_of(reply.rows.values, reply.rows.count, len(lens.older.names)), strict=True))
            if reply.states.count(FOUND) != reply.rows.count:
                raise BadReply("The server's answer to verify holds more or fewer rows than it says.")
            found = [
                (state, pack_values(next(rows)) if state == FOUND else None, table.name, key_text(key))
                for key, state in zip(keys, reply.states, strict=False)
            ]
            with self.database.reading() as store:
                store.connection.executemany("UPDATE temp._difference SET state = ?, image = ? WHERE tbl = ? AND key = ?", found)
            left -= len(found)

    def _unfetched(self, limit: int) -> tuple[Table, list[Key]] | None:
        connection = self.database.connection
        name = connection.execute("SELECT tbl FROM temp._difference WHERE state IS NULL LIMIT 1").fetchone()
        if name is None:
            return None
        table = self.database.schema.by_name[name[0]]
        sql = "SELECT key FROM temp._difference WHERE state IS NULL AND tbl = ? ORDER BY key LIMIT ?"
        return table, [key_parts(key, len(table.key)) for (key,) in connection.execute(sql, (*name, limit)).fetchall()]

    def differences(self) -> Iterator[Difference]:
        """Yield the rows found, by table and key, some in memory at a time."""
        last = ("", "")
        sql = "SELECT tbl, key, what, state, image FROM temp._difference WHERE (tbl, key) > (?, ?) ORDER BY tbl, key LIMIT ?"
        while rows := self.database.connection.execute(sql, (*last, _READ_ROWS)).fetchall():
            last = rows[-1][:2]
            for name, key, what, state, image in rows:
                table = self.database.schema.by_name[name]
                yield Difference(table, key_parts(key, len(table.key)), what, state, unpack_tuple(image))


def _by_low(each: Range) -> Any:
    return () if each.low is None else tuple(map(value_order, each.low))


def _pieces(store: Store, wide: Range, where: Sequence[Part]) -> list[tuple[Key | None, Key | None, int, bytes]]:
    """Return a range in pieces of about as many rows of ours each: low, high, rows, digest."""
    size = max(LIST_ROWS // 4, -(-wide.ours // VERIFY_RANGES_MAX))
    pieces: list[tuple[Key | None, Key | None, int, bytes]] = []
    found, low = RowsDigest(wide.table.name), wide.low
    for rows in chunks(store, wide.table, where, wide.low, wide.high):
        while rows:
            is_last = len(pieces) == VERIFY_RANGES_MAX - 1
            room = len(rows) if is_last else size - found.count
            part, rows = rows[:room], rows[room:]
            found.add(part)
            if not is_last and found.count == size:
                high = _key(wide.table, part[-1])
                pieces.append((low, high, found.count, found.digest()))
                found, low = RowsDigest(wide.table.name), high
    return [*pieces, (low, wide.high, found.count, found.digest())]


def _key(table: Table, row: Sequence[Any]) -> Key:
    return clean_row(tuple(row[: len(table.key)]))


def _listed(table: Table, reply: RangeDigest, rows_max: int) -> list[tuple[Key, bytes]]:
    """Return the keys and digests of a range's rows."""
    if reply.rows > rows_max or len(reply.digests) != DIGEST_BYTES * reply.rows:
        raise BadReply("The server's answer to verify is not what was asked for.")
    keys = zip(*rows_of(reply.key, reply.rows, len(table.key)), strict=True)
    digests = [reply.digests[at : at + DIGEST_BYTES] for at in range(0, len(reply.digests), DIGEST_BYTES)]
    return list(zip(keys, digests, strict=True))


def _own_rows(store: Store, table: Table, where: Sequence[Part], low: Key | None, high: Key | None) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for rows in chunks(store, table, where, low, high):
        found.update(zip([key_text(_key(table, row)) for row in rows], row_digests(table.name, rows), strict=True))
    return found


def _compared(ours: dict[str, bytes], theirs: Sequence[tuple[Key, bytes]]) -> Iterator[tuple[str, str]]:
    """Yield (key, what) of the rows that differ."""
    for key, digest in theirs:
        text = key_text(key)
        own = ours.pop(text, None)
        if own != digest:
            yield text, MISSING if own is None else DIFFERS
    for text in ours:
        yield text, EXTRA
