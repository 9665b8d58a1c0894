"""SQLite: files of nodes, and of the default server. Driver sqlcipher3 (one SQLite library per process).

Capture is as cheap as SPIKE §1 found it: inserts are recognised by their row number (`_rid`, AUTOINCREMENT) lying above a
mark, so they cost no trigger; updates and deletes are logged with their old values, new ones are read when sealed. The
triggers use only what SQLite 3.37 has, and no JSON, so that any program's library may write the file.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2

from schema.declare import Cell, Table
from schema.dialects.base import DISK_ERRORS, NUMBERED, ROW_ID, Connection, Displaced
from schema.files import create_private
from schema.past import Column

DELETED = -1
REPLACED = -3
REKEYED = -4
FORCED = -6
"""Marks in `_log.c`; other values are column positions. FORCED: a write that keeps the value (a decision)."""

_TYPES = {"text": "TEXT", "integer": "INTEGER", "real": "REAL", "blob": "BLOB"}
_WALL = "CAST((julianday('now')-2440587.5)*86400000 AS INTEGER)"
_CAPTURING = "(SELECT applying FROM _state WHERE id=1)=0"
CACHE_KIB, LARGE_CACHE_KIB, _SMALL_CACHE_KIB = 16 * 1024, 64 * 1024, 4 * 1024
"""What a connection keeps of its file in memory, beside the system: a node's, the centre's, and that of a look through everything."""
_BUSY_MS = 30_000
_EMPTY_MS = 1_000
_ERROR, _BUSY, _LOCKED = 1, 5, 6
_STATEMENT_ROWS = 20
_STATEMENT_VALUES = 900
_UNION_MAX = 500
"""Parts of one compound SELECT that SQLite takes unless it was built otherwise."""

# The driver asks every None and every blob it binds for an adapter, by way of two failed attribute lookups: 3 µs each,
# half of what inserting a receipt takes. Naming one that gives the same value back makes it 0.2 µs.
dbapi2.register_adapter(type(None), {}.get)
dbapi2.register_adapter(bytes, bytes)


def quote(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | int | float) -> str:
    """Return an SQL literal."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def insert_rows(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Insert rows in their order, inside a savepoint: after an IntegrityError some are there, and the caller rolls back to it.

    OR FAIL leaves it to the savepoint to undo, which spares SQLite a journal of every statement; with several rows per
    statement a receipt takes 2.8 µs instead of 4.9.
    """
    many = max(1, min(_STATEMENT_ROWS, _STATEMENT_VALUES // len(columns)))
    step, even = many * len(columns), len(rows) - len(rows) % many
    values = chain.from_iterable(rows[:even])
    one = f"({', '.join('?' * len(columns))})"
    sql = f"INSERT OR FAIL INTO {quote(table)} ({', '.join(map(quote, columns))}) VALUES {one}"
    connection.executemany(sql + f", {one}" * (many - 1), zip(*[values] * step, strict=True))
    connection.executemany(sql, rows[even:])


_RULED = (
    "SELECT DISTINCT lower(tbl_name) FROM sqlite_master"
    " WHERE (type = 'trigger' AND name NOT GLOB '_t[0-9]*_*') OR (type = 'index' AND sql LIKE 'CREATE UNIQUE%')"
)


class Marked:
    """New rows of a file: those whose number lies above the mark of their table."""

    def __init__(self, dialect: Sqlite, connection: Connection, numbers: Mapping[str, int]) -> None:
        self._connection, self._numbers = connection, numbers
        marks: dict[int, int] = dict(connection.execute("SELECT t, rid FROM _mark").fetchall())
        highest = dialect.highest(connection)
        self._marks = {name: marks.get(t, 0) for name, t in numbers.items()}
        self.ranges = {name: (mark, highest[name]) for name, mark in self._marks.items() if highest.get(name, 0) > mark}
        self.set_back = {name: mark for name, mark in self._marks.items() if highest.get(name, 0) < mark}

    def holds(self, table: str, rid: int) -> bool:
        """Tell whether a row is new."""
        return rid > self._marks[table]

    def condition(self, table: str, rid: str) -> str:
        """Return a condition that holds: all rows of a range are new."""
        return "1 = 1"

    def before(self, table: str, rid: str) -> str:
        """Return an SQL condition that a row was there before the look."""
        return f"{rid} <= {self._marks[table]}"

    def taken(self) -> None:
        """Move the marks to the ends of the ranges, as they are now: whoever takes only a part has shortened them."""
        for name, (_, high) in self.ranges.items():
            self._connection.execute("UPDATE _mark SET rid = ? WHERE t = ?", (high, self._numbers[name]))


class Sqlite:
    """The dialect of SQLite ≥ 3.37 files, opened by sqlcipher3's newer library."""

    name = "sqlite"
    is_typed = False

    def __init__(self, cache_kib: int = CACHE_KIB) -> None:
        self._cache_kib = cache_kib

    def open(self, url: Path | str, *, readonly: bool = False) -> Connection:
        """Return a connection: WAL, synchronous=FULL, freed pages overwritten, no implicit transactions."""
        url = Path(url)
        target = f"{url.resolve().as_uri()}?mode={'ro' if readonly else 'rwc'}"
        connection = dbapi2.connect(target, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        if not readonly:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{self._cache_kib}")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA temp_store=FILE")
        connection.execute("PRAGMA trusted_schema=OFF")
        return connection  # type: ignore[no-any-return]

    def open_alone(self, url: Path) -> Connection | None:
        """Open a file that nobody else has open, and keep all others out of it until the connection is closed.

        Whoever uses a file with a write-ahead log holds a lock on it, also when idle, so the log cannot be put away then. A
        program that opened the file and has not looked into it yet holds none: it finds a file without a log that has lost its
        name, and SQLite refuses to write to such a one.
        """
        target = f"{url.resolve().as_uri()}?mode=rw"
        connection = dbapi2.connect(target, uri=True, isolation_level=None, timeout=_EMPTY_MS / 1000)
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
            connection.execute("BEGIN EXCLUSIVE")
        except dbapi2.DatabaseError as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (_BUSY, _LOCKED):
                return None
            raise
        return connection  # type: ignore[no-any-return]

    def file_of(self, connection: Connection) -> Path:
        """Return the file that a connection works on."""
        return Path(connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()[0])

    def is_away(self, error: Exception) -> bool:
        """Tell whether another process held the file for longer than we wait: nothing else keeps us from one."""
        return bool(getattr(error, "sqlite_errorcode", 0) & 0xFF == dbapi2.SQLITE_BUSY)

    def is_cut(self, connection: Connection) -> bool:
        """Return False: nothing lies between us and a file."""
        return False

    def life(self, connection: Connection) -> None:
        """Return None: whoever opens a file draws one, for a copy of it can only be put back while nobody has it open."""

    def prepare(self, connection: Connection) -> None:
        """Do nothing: a file has its lock."""

    def begin_write(self, connection: Connection, ahead_of: Sequence[str] = ()) -> None:
        """Take the file's one write lock now, so that nothing read inside is stale."""
        connection.execute("BEGIN IMMEDIATE")

    def begin_alone(self, connection: Connection, tables: Sequence[str]) -> None:
        """Begin a write transaction: who holds a file's one write lock is alone with it."""
        self.begin_write(connection)

    def begin_read(self, connection: Connection) -> None:
        """Begin a deferred transaction and pin its snapshot by reading."""
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()

    def tables(self, tables: Sequence[Table]) -> list[str]:
        """Return the DDL of declared tables, and of indexes where a scope or a tie runs through a column."""
        script: list[str] = []
        for table in tables:
            script.append(self.create(table, table.name))
            script += [
                f"CREATE INDEX IF NOT EXISTS {quote(f'_{table.name}.{column}')} ON {quote(table.name)} ({quote(column)})"
                for column in indexed(table)
            ]
        return script

    def create(self, table: Table, name: str) -> str:
        """Return the DDL of a declared table under a name."""
        columns = [_column(column, column.name in table.key) for column in table.columns]
        key = ", ".join(map(quote, table.key))
        body = ", ".join([*columns, f"{ROW_ID} INTEGER PRIMARY KEY AUTOINCREMENT", f"UNIQUE ({key})"])
        return f"CREATE TABLE IF NOT EXISTS {quote(name)} ({body})"

    def column(self, column: Column) -> str:
        """Return the DDL of a column outside the key."""
        return _column(column, False)

    def type_name(self, column: Column) -> str:
        """Return the type a column is declared with."""
        return _TYPES[column.type]

    def bookkeeping(self) -> list[str]:
        """Return the DDL of state, marks and log."""
        return [
            "CREATE TABLE IF NOT EXISTS _state (id INTEGER PRIMARY KEY, applying INTEGER NOT NULL DEFAULT 0)",
            "INSERT OR IGNORE INTO _state (id, applying) VALUES (1, 0)",
            "CREATE TABLE IF NOT EXISTS _table (t INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, rules TEXT)",
            # values that a change of their column's type could not carry over, as they were
            "CREATE TABLE IF NOT EXISTS _unconverted (tbl TEXT NOT NULL, key TEXT NOT NULL, col TEXT NOT NULL, schema INTEGER NOT NULL,"
            " value BLOB NOT NULL, PRIMARY KEY (tbl, key, col, schema)) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS _mark (t INTEGER PRIMARY KEY, rid INTEGER NOT NULL)",
            "CREATE TABLE IF NOT EXISTS _log (seq INTEGER PRIMARY KEY AUTOINCREMENT, t INTEGER NOT NULL, rid INTEGER NOT NULL,"
            " c INTEGER NOT NULL, wall INTEGER, old)",
        ]

    def capture(self, table: Table, number: int) -> list[str]:
        """Return the triggers of one table."""
        name = quote(table.name)
        when = _CAPTURING
        script = [
            f"CREATE TRIGGER IF NOT EXISTS {quote(f'_t{number}_delete')} AFTER DELETE ON {name} WHEN {when}"
            f" BEGIN {_image(table, number, DELETED)} END"
        ]
        changed = " OR ".join(f"NEW.{quote(c)} IS NOT OLD.{quote(c)}" for c in table.key)
        script.append(
            f"CREATE TRIGGER IF NOT EXISTS {quote(f'_t{number}_key')} AFTER UPDATE OF {', '.join(map(quote, table.key))} ON {name}"
            f" WHEN {when} AND ({changed}) BEGIN {_image(table, number, REKEYED)} END"
        )
        script += [_update_trigger(table, number, cell) for cell in table.cells]
        same = " AND ".join(f"{quote(c)} = NEW.{quote(c)}" for c in table.key)
        existing = f"FROM {name} WHERE {same}"
        rows = [
            f"SELECT {number}, {ROW_ID}, {c}, {_WALL}, {column} {existing}"
            for c, column in [(REPLACED, "NULL"), *((table.position[n], quote(n)) for n in table.names)]
        ]
        portions = (" UNION ALL ".join(rows[at : at + _UNION_MAX]) for at in range(0, len(rows), _UNION_MAX))
        image = f"BEGIN {' '.join(f'INSERT INTO _log(t, rid, c, wall, old) {portion};' for portion in portions)} END"
        script.append(  # UPDATE OR REPLACE of a key deletes another row, and no delete trigger sees it
            f"CREATE TRIGGER IF NOT EXISTS {quote(f'_t{number}_usurp')} BEFORE UPDATE OF {', '.join(map(quote, table.key))} ON {name}"
            f" WHEN {when} AND ({changed}) AND EXISTS (SELECT 1 {existing}) {image}"
        )
        if not table.immutable:
            script.append(
                f"CREATE TRIGGER IF NOT EXISTS {quote(f'_t{number}_replace')} BEFORE INSERT ON {name}"
                f" WHEN {when} AND EXISTS (SELECT 1 {existing}) {image}"
            )
        return script

    def news(self, connection: Connection, numbers: Mapping[str, int]) -> Marked:
        """Return what lies above the marks."""
        return Marked(self, connection, numbers)

    def length(self, column: Column, sql: str) -> str:
        """Return SQL for the bytes of a value: any column may hold a text."""
        return f"octet_length({sql})"

    def part_of(self, sql: str, place: int) -> str:
        """Return SQL for a part of a JSON array."""
        return f"json_extract({sql}, '$[{place}]')"

    def month_of(self, date: str, ms: str) -> str:
        """Return SQL for the month of a date, else of a time."""
        dated = f"CASE WHEN {date} GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]*' THEN SUBSTR({date}, 1, 7) END"
        return f"COALESCE({dated}, STRFTIME('%Y-%m', {ms} / 1000.0, 'unixepoch'))"

    def value_of(self, column: Column, old: Any) -> Any:
        """Return a value as the log kept it: as it was."""
        return old

    def set_applying(self, connection: Connection, on: bool) -> None:
        """Switch the triggers off or on, for this transaction: nobody else writes meanwhile."""
        connection.execute("UPDATE _state SET applying = ? WHERE id = 1", (int(on),))

    def mark_all(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        """Set the marks to the highest numbers there are."""
        for name, high in self.highest(connection).items():
            if name in numbers:
                connection.execute("UPDATE _mark SET rid = ? WHERE t = ?", (high, numbers[name]))

    def tables_there(self, connection: Connection) -> set[str]:
        """Return the names of the tables in a file."""
        return {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}

    def views_there(self, connection: Connection) -> set[str]:
        """Return the names of the views in a file."""
        return {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall()}

    def columns_of(self, connection: Connection, table: str) -> dict[str, str]:
        """Return the columns of a table, each with its type; none where there is no such table."""
        return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({quote(table)})").fetchall()}

    def stream(self, connection: Connection, sql: str, parameters: Sequence[object] = ()) -> Iterator[Any]:
        """Yield the rows of a query, as SQLite finds them."""
        return iter(connection.execute(sql, parameters))

    def go_on_after_copy(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        """Let AUTOINCREMENT go on above every row that is there, or was; all of them are seen."""
        for name, t in numbers.items():
            used = " UNION ALL ".join(f"SELECT MAX({column}) FROM {table} WHERE t = {t}" for table, column in NUMBERED)
            (last,) = connection.execute(f"SELECT COALESCE(MAX(n), 0) FROM (SELECT 0 AS n UNION ALL {used}) u").fetchone()
            self.go_on_from(connection, name, max(last, _highest(connection, name)))
        self.mark_all(connection, numbers)

    def highest(self, connection: Connection) -> dict[str, int]:
        """Return AUTOINCREMENT's own memory of the highest row number."""
        return dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())

    def go_on_from(self, connection: Connection, table: str, number: int) -> None:
        """Let AUTOINCREMENT give new rows of a table numbers above this one."""
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, number))

    def insert(self, connection: Connection, table: str, number: int, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        """Insert rows in their order; AUTOINCREMENT numbers them one after the other, above all that were there."""
        before = _highest(connection, table)
        insert_rows(connection, table, columns, rows)
        low = _highest(connection, table) - len(rows) + 1
        (first,) = connection.execute(f"SELECT MIN({ROW_ID}) FROM {quote(table)} WHERE {ROW_ID} > ?", (before,)).fetchone()
        if first != low:
            raise Displaced
        return low

    def ruled(self, connection: Connection) -> set[str]:
        """Return the tables on which other programs have laid triggers or unique indexes."""
        return {str(row[0]) for row in connection.execute(_RULED).fetchall()}

    def next_row(self, connection: Connection, number: int) -> int | None:
        """Return None: AUTOINCREMENT numbers rows."""
        return None

    def renumber(self, connection: Connection, table: str, rid: int) -> int:
        """Give a row a number that no row ever had; AUTOINCREMENT does not see updates and must be told."""
        number = self.highest(connection)[table] + 1
        connection.execute(f"UPDATE {quote(table)} SET {ROW_ID} = ? WHERE {ROW_ID} = ?", (number, rid))
        connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (number, table))
        return number

    def empty_log(self, connection: Connection) -> bool:
        """Move recent commits from the write-ahead log into the file and empty it; False while another program is reading."""
        connection.execute(f"PRAGMA busy_timeout={_EMPTY_MS}")
        try:
            return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether a rule of the database, be it another program's, refuses a row."""
        return isinstance(error, dbapi2.IntegrityError)

    def taken_key(self, error: Exception) -> str | None:
        """Return None: nobody writes beside the one who holds the lock."""
        return None

    def is_complete(self, connection: Connection, schema_tables: Sequence[Table], views: Collection[str]) -> bool:
        """Return False: what is missing is made at each opening, which costs little and disturbs nobody."""
        return False

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Return what the driver raises for a file that is no database, or not ours."""
        return (dbapi2.DatabaseError,)

    def backup(self, source: Path, target: Path, pages: int, progress: Callable[[int, int], None]) -> None:
        """Copy an open database as it is at this moment into a new file that only its owner may read, some pages at a
        time; progress gets (done, of how many).

        The copy reads one snapshot, so writers neither wait for it nor make it begin again. Raises OSError, as on a full disk.
        """
        create_private(target)  # it holds all that is in the database, the centre's private key too
        reader, writer = self.open(source), dbapi2.connect(str(target), isolation_level=None)
        try:
            self.begin_read(reader)
            reader.backup(writer, pages=pages, progress=lambda _, left, total: progress(total - left, total))  # type: ignore[attr-defined]
        except dbapi2.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) is not None:
                raise
            raise OSError(errno.EIO, f"{source} could not be copied to {target}: {error}") from error  # the driver gives a copy's no code
        finally:
            writer.close()
            reader.rollback()
            reader.close()

    def is_whole(self, connection: Connection) -> bool:
        """Tell whether a database's own check finds nothing wrong."""
        return bool(connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)])

    def words_of(self, error: Exception) -> str:
        """Return what an error says."""
        return str(error)

    def is_passing(self, error: Exception) -> bool:
        """Return False: nobody writes beside the one who holds the lock."""
        return False

    def is_in_words(self, error: Exception) -> bool:
        """Tell whether a statement itself was wrong: what it says, or what the schema says that it works on."""
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == _ERROR

    def flaw(self, connection: Connection, sql: str) -> str | None:
        """Return why a statement does not compile, with the triggers it sets off; None if it does. Nothing is run."""
        try:
            connection.execute(f"EXPLAIN {sql}").fetchall()
        except dbapi2.DatabaseError as error:
            if not self.is_in_words(error):
                raise
            return str(error)
        return None

    def is_of_the_disk(self, error: Exception) -> bool:
        """Tell whether the disk could not be read, written or opened, or is full."""
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in DISK_ERRORS

    def is_undecodable(self, error: Exception) -> bool:
        """Tell whether the driver met TEXT that is not UTF-8."""
        return isinstance(error, dbapi2.OperationalError) and "decode" in str(error).lower()

    def read_through(self, connection: Connection, on: bool) -> None:
        """Make the cache small, or as large as it was."""
        connection.execute(f"PRAGMA cache_size=-{_SMALL_CACHE_KIB if on else self._cache_kib}")

    def read_bytes(self, connection: Connection, on: bool) -> None:
        """Switch how TEXT is decoded."""
        connection.text_factory = _escaped if on else str  # type: ignore[attr-defined]


def _highest(connection: Connection, table: str) -> int:
    return int(connection.execute(f"SELECT COALESCE(MAX({ROW_ID}), 0) FROM {quote(table)}").fetchone()[0])


def _escaped(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _column(column: Column, is_key: bool) -> str:
    null = "" if column.nullable and not is_key else " NOT NULL"
    default = "" if column.default is None else f" DEFAULT {literal(column.default)}"
    return f"{quote(column.name)} {_TYPES[column.type]}{null}{default}"


def indexed(table: Table) -> list[str]:
    """Return the columns of a table that a scope or a tie runs through, and those that are declared to have an index."""
    columns = [rule.column for rule in table.parents] + [tie.column for tie in table.ties] + list(table.indexes)
    return [column for column in dict.fromkeys(columns) if column != table.key[0]]


def _image(table: Table, number: int, mark: int) -> str:
    rows = [f"({number}, OLD.{ROW_ID}, {mark}, {_WALL}, NULL)"]
    rows += [f"({number}, OLD.{ROW_ID}, {table.position[n]}, {_WALL}, OLD.{quote(n)})" for n in table.names]
    return f"INSERT INTO _log(t, rid, c, wall, old) VALUES {', '.join(rows)};"


def _update_trigger(table: Table, number: int, cell: Cell) -> str:
    changed = " OR ".join(_differs(table.columns[table.position[c]]) for c in cell.columns)
    columns = table.names if table.immutable else cell.columns  # INSERT OR REPLACE of a document tells nothing of the old row
    rows = ", ".join(f"({number}, OLD.{ROW_ID}, {table.position[c]}, {_WALL}, OLD.{quote(c)})" for c in columns)
    return (
        f"CREATE TRIGGER IF NOT EXISTS {quote(f'_t{number}_c{table.cells.index(cell)}')}"
        f" AFTER UPDATE OF {', '.join(map(quote, cell.columns))} ON {quote(table.name)}"
        f" WHEN {_CAPTURING} AND ({changed}) BEGIN INSERT INTO _log(t, rid, c, wall, old) VALUES {rows}; END"
    )


def _differs(column: Column) -> str:
    name = quote(column.name)
    if column.type != "blob":
        return f"NEW.{name} IS NOT OLD.{name}"
    return f"(NEW.{name} IS NOT OLD.{name} OR typeof(NEW.{name}) <> typeof(OLD.{name}))"  # holds any type; 1 equals 1.0
