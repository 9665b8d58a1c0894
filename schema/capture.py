"""Capture: reading what programs have written to the tables since the last look.

A look happens inside one write transaction, so nothing moves while it lasts: rows whose number lies above the mark are
new, the log tells what happened to older ones. `Look.close()` moves the marks in the same transaction in which the
caller keeps what it read. Used by the node's outbox and by the server for what central programs wrote.
Spec: PROTOCOL.md §5.1; layout: SPIKE §1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Literal

from schema.declare import Table
from schema.dialects.base import ROW_ID, Connection, Dialect
from schema.dialects.sqlite import DELETED, FORCED, REKEYED, REPLACED, quote
from schema.keys import where_key
from schema.registry import Schema
from sync.rows import mark_raw, weight_of
from sync.values import is_clean, text_value

CHUNK_ROWS = 5_000
CHUNK_BYTES = 8 * 1024 * 1024
"""Rows, and bytes of texts and blobs, that are read at a time."""

_READ_ROWS = 500  # and measured before more is read
_SAMPLE = 16
_AMONG = (1, 10, 200)

Row = tuple[Any, ...]


@dataclass(slots=True)
class Change:
    """What became of one row since the last look, net."""

    table: Table
    kind: Literal["insert", "update", "delete"]
    key: Row
    rid: int
    row: Row | None  # values now, in the order of table.names; None if the row is gone
    old: dict[str, Any] = field(default_factory=dict)  # before: changed columns of an update, all of a delete
    cells: tuple[str, ...] = ()  # changed cells of an update; none: only the row's number changed
    wall: int = 0  # writer's clock in ms, 0 where capture does not know it (inserts)
    order: int = 0  # rises with time among changes of one look that were logged
    last: int = 0  # of its last entry in the log
    was: int = 0  # the row's number before, where INSERT OR REPLACE gave it a new one


@dataclass(frozen=True)
class Store:
    """A database with declared tables, and the numbers they have in it. `known`: on a snapshot, what was asked of it already."""

    connection: Connection
    dialect: Dialect
    schema: Schema
    numbers: dict[str, int]
    known: dict[object, list[Row]] | None = None

    def once(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of a query that yields few. Of a snapshot, in which nothing changes, it is asked once."""
        if self.known is None:
            return self.connection.execute(sql, parameters).fetchall()
        question = (sql, tuple(parameters))
        if question not in self.known:
            self.known[question] = self.connection.execute(sql, parameters).fetchall()
        return self.known[question]


class Look:
    """One look at what is new. Valid inside the write transaction it was opened in."""

    def __init__(self, store: Store) -> None:
        self.store = store
        connection = store.connection
        self._numbers = {name: t for name, t in store.numbers.items() if name in store.schema.by_name}
        self.news = store.dialect.news(connection, self._numbers)
        newest = connection.execute(f"SELECT seq FROM _log WHERE {self._is_read} ORDER BY seq DESC LIMIT 1").fetchone()
        self.log_end = int(newest[0]) if newest else 0
        self._taken: dict[str, set[int]] = {}  # new rows already told as updates (INSERT OR REPLACE)
        self._cells: dict[tuple[str, frozenset[str]], tuple[tuple[str, ...], tuple[str, ...]]] = {}

    @property
    def _is_read(self) -> str:
        """Return the condition on a line of the log that it is of a declared table: what nobody reads is not taken as seen."""
        return f"t IN ({', '.join(map(str, self._numbers.values()))})"

    def __bool__(self) -> bool:
        return bool(self.ranges) or self.log_end > 0 or bool(self.news.set_back)

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Return by table the number below its first new row, and that of the last; whoever takes a part shortens them."""
        return self.news.ranges

    @ranges.setter
    def ranges(self, ranges: dict[str, tuple[int, int]]) -> None:
        self.news.ranges = ranges

    def go_on_numbering(self) -> bool:
        """Make up for a program that began a table's numbering anew: what it inserts from now on is above the mark, and seen. Tell
        whether one did: what it inserted before may not be.
        """
        for name, mark in self.news.set_back.items():
            self.store.dialect.go_on_from(self.store.connection, name, mark)
        return bool(self.news.set_back)

    def begins_lives(self) -> bool:
        """Tell whether rows may have begun another life, or have been taken from under a row that is gone: then changes that belong
        together may lie anywhere in the look.
        """
        marks = {row[0] for row in self.store.connection.execute("SELECT DISTINCT c FROM _log WHERE seq <= ?", (self.log_end,)).fetchall()}
        if marks.isdisjoint((DELETED, REPLACED, REKEYED)):
            return False
        new = any(low < high and name not in self.store.schema.fixed for name, (low, high) in self.ranges.items())
        return new or marks != {DELETED}

    def inserted(self, table: Table, low: int, high: int, *, size: int = CHUNK_ROWS) -> Iterator[list[Row]]:
        """Yield chunks of new rows (row number last) with low < number ≤ high, by number."""
        columns = ", ".join(map(quote, table.names))
        where = f"{ROW_ID} > ? AND {ROW_ID} <= ? AND {self.news.condition(table.name, f'r.{ROW_ID}')}"
        sql = f"SELECT {columns}, {ROW_ID} FROM {quote(table.name)} r WHERE {where} ORDER BY {ROW_ID} LIMIT ?"
        taken = self._taken.get(table.name, ())
        while low < high:
            rows, weight = list[Row](), 0
            while len(rows) < size and weight < CHUNK_BYTES:
                more = read_rows(self.store, sql, (low, high, min(_READ_ROWS, size - len(rows))))
                if not more:
                    low = high
                    break
                low = more[-1][-1]
                weight += weight_of(more[::_SAMPLE]) * _SAMPLE
                rows += more
            if rows:
                yield [row for row in rows if row[-1] not in taken] if taken else rows

    def logged(self, only: Collection[str] | None = None) -> Iterator[Change]:
        """Yield what the log says of older rows: updates and deletes, and inserts of rows whose key was changed.

        `only` names the tables wanted, all if None.

        Must be read to its end before `inserted`: a replaced row is told here as an update, not there as an insert.
        """
        sql = "SELECT t, rid, c, wall, old, seq FROM _log WHERE seq <= ? ORDER BY t, rid, seq"
        tables = {t: self.store.schema.by_name[name] for name, t in self._numbers.items()}
        for number, of_table in groupby(self.rows(sql, (self.log_end,)), key=itemgetter(0)):
            table = tables.get(number)
            if table is None or (only is not None and table.name not in only):
                continue
            by_row = ((rid, list(entries)) for rid, entries in groupby(of_table, key=itemgetter(1)) if not self.news.holds(table.name, rid))
            while some := list(islice(by_row, _AMONG[-1])):
                rows = self._rows(table, [rid for rid, _ in some])
                for rid, entries in some:
                    yield from self._net(table, rid, entries, rows.get(rid))

    def _net(self, table: Table, rid: int, entries: list[Row], row: Row | None) -> Iterator[Change]:
        olds: dict[int, Any] = {}
        for entry in entries:
            if entry[2] >= 0:
                olds.setdefault(entry[2], clean(self.store.dialect.value_of(table.columns[entry[2]], entry[4])))
        marked = [entry for entry in entries if entry[2] < 0]
        marks = {entry[2] for entry in marked}
        forced = {table.names[int(entry[4])] for entry in marked if entry[2] == FORCED}
        wall, order, last = max([entry[3] or 0 for entry in entries]), entries[0][5], entries[-1][5]
        before = {table.names[c]: value for c, value in olds.items()}
        if row is None:
            if any(name not in before for name in table.key):
                return  # it went while capture was off: nothing of it is ours to tell
            key = tuple(before[name] for name in table.key)
            replaced = DELETED not in marks
            if replaced and table.immutable and self._is_new(table, key):
                return  # the centre will say what stands under the new row
            successor = self._successor(table, key) if replaced and REPLACED in marks and not table.immutable else None
            if successor is None:
                yield Change(table, "delete", key, rid, None, before, (), wall, order, last)
            else:
                yield from self._update(table, successor, before, forced, (wall, order, last, rid))
        elif not marks.isdisjoint((REKEYED, DELETED)) and any(not same(before[name], row[table.position[name]]) for name in table.key):
            yield Change(table, "delete", tuple(before[name] for name in table.key), rid, None, before, (), wall, order, last)
            yield Change(table, "insert", row[: len(table.key)], rid, row[:-1], {}, (), wall, order, last)
        else:
            yield from self._update(table, row, before, forced, (wall, order, last, rid))

    def _update(
        self, table: Table, row: Row, before: dict[str, Any], forced: set[str], when: tuple[int, int, int, int]
    ) -> Iterator[Change]:
        changed = {n for n, value in before.items() if n not in table.key and not same(value, row[table.position[n]])} | forced
        cells, columns = self._cells_of(table, frozenset(changed))
        if not cells and when[-1] == row[-1]:
            return  # replaced by the same values, a row is told nevertheless: it has another number now
        old = {column: before.get(column, row[table.position[column]]) for column in columns}
        yield Change(table, "update", row[: len(table.key)], row[-1], row[:-1], old, cells, *when)

    def _cells_of(self, table: Table, changed: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the cells that these columns are in, and all columns of those; kept, as most rows of a look changed in the same few."""
        if (table.name, changed) not in self._cells:
            cells = [cell for cell in table.cells if not changed.isdisjoint(cell.columns)]
            columns = tuple(column for cell in cells for column in cell.columns)
            self._cells[table.name, changed] = tuple(cell.name for cell in cells), columns
        return self._cells[table.name, changed]

    def _successor(self, table: Table, key: Row) -> Row | None:
        row = self._row(table, *where_key(table, key))
        if row is None or not self.news.holds(table.name, row[-1]):
            return None
        self._taken.setdefault(table.name, set()).add(row[-1])
        return row

    def _is_new(self, table: Table, key: Row) -> bool:
        row = self._row(table, *where_key(table, key))
        return row is not None and self.news.holds(table.name, row[-1])

    def rows(self, sql: str, parameters: Sequence[Any]) -> Iterator[Row]:
        """Yield rows of a query of the caller's, streamed; TEXT that is not UTF-8 does not stop it, nor what is read in between."""
        connection, dialect = self.store.connection, self.store.dialect
        cursor = None
        found: list[Row] = []
        while cursor is None or len(found) == _READ_ROWS:
            dialect.read_bytes(connection, True)
            try:
                cursor = cursor or connection.execute(sql, parameters)
                found = cursor.fetchmany(_READ_ROWS)
            finally:
                dialect.read_bytes(connection, False)
            yield from found

    def _rows(self, table: Table, rids: Sequence[int]) -> dict[int, Row]:
        """Return rows by their numbers, those numbers last."""
        sql = f"SELECT {', '.join(map(quote, table.names))}, {ROW_ID} FROM {quote(table.name)} WHERE {ROW_ID}"
        return {row[-1]: row for row in clean_rows(list(read_among(self.store, sql, (), rids)))}

    def _row(self, table: Table, where: str, parameters: Sequence[Any]) -> Row | None:
        sql = f"SELECT {', '.join(map(quote, table.names))}, {ROW_ID} FROM {quote(table.name)} WHERE {where}"
        rows = read_rows(self.store, sql, parameters)
        return clean_row(rows[0]) if rows else None

    def count(self, table: str, high: int) -> int:
        """Return how many new rows of a table have a number of at most `high`."""
        sql = f"SELECT COUNT(*) FROM {quote(table)} WHERE {ROW_ID} > ? AND {ROW_ID} <= ?"
        return int(self.store.connection.execute(sql, (self.ranges[table][0], high)).fetchone()[0])

    def close(self) -> None:
        """Take everything in `ranges`, and what the log has of declared tables, as seen."""
        connection = self.store.connection
        self.news.taken()
        if self.log_end:
            connection.execute(f"DELETE FROM _log WHERE seq <= ? AND {self._is_read}", (self.log_end,))


def clean(value: Any) -> Any:
    """Return a value as sync knows it: TEXT that is not clean as RawText."""
    return text_value(value.encode("utf-8", "surrogateescape")) if type(value) is str and not is_clean(value) else value


def clean_row(row: Row) -> Row:
    """Return a row with every value clean."""
    return tuple(mark_raw(row))


def clean_rows(rows: list[Row]) -> list[Row]:
    """Return rows with every value clean, as nearly all are: of a few together that is found out in a third of the time."""
    found = list[Row]()
    for low in range(0, len(rows), _SAMPLE):
        some = rows[low : low + _SAMPLE]
        texts = "".join([value for row in some for value in row if type(value) is str])
        found += some if is_clean(texts) else map(clean_row, some)
    return found


def same(one: Any, other: Any) -> bool:
    """Tell whether two SQL values are the same value of the same type."""
    return type(one) is type(other) and bool(one == other)


def read_rows(store: Store, sql: str, parameters: Sequence[Any]) -> list[Row]:
    """Return all rows; TEXT that is not UTF-8 comes with its bytes as surrogate escapes instead of stopping the read."""
    connection, dialect = store.connection, store.dialect
    try:
        return connection.execute(sql, parameters).fetchall()
    except Exception as error:
        if not dialect.is_undecodable(error):
            raise
    dialect.read_bytes(connection, True)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        dialect.read_bytes(connection, False)


def read_among(store: Store, sql: str, given: Sequence[Any], values: Collection[Any]) -> Iterator[Row]:
    """Yield the rows of a query that ends in the name of a column, where that is one of many values. The same few statements serve any
    number of them: compiling one more costs more than asking for a value twice.
    """
    every = list(values)
    for low in range(0, len(every), _AMONG[-1]):
        some = every[low : low + _AMONG[-1]]
        size = next(size for size in _AMONG if size >= len(some))
        yield from read_rows(store, f"{sql} IN ({', '.join('?' * size)})", [*given, *some, *[some[-1]] * (size - len(some))])


def mark_all(store: Store) -> None:
    """Take every row of declared tables as seen: what pulled or merged rows need, so that they are not captured as local ones."""
    store.dialect.mark_all(store.connection, {name: t for name, t in store.numbers.items() if name in store.schema.by_name})


def set_applying(store: Store, on: bool) -> None:
    """Switch capture off while the engine itself writes, or on again. Inside the same transaction."""
    store.dialect.set_applying(store.connection, on)
