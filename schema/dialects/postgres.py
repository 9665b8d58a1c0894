"""PostgreSQL ≥ 15: the centre's database where one machine, or one server process, is not enough. Driver psycopg 3.

Writers of the engine take turns: each holds the lock of the table `_lock` from its first statement to its commit, so versions are
gap-free in commit order (ENGINE §3). The lock comes before the snapshot (LOCK TABLE takes none), so nothing read inside is stale.
Plain SQL of central programs takes no turn: where it meets the engine on a row, one waits for the other, and an engine that has
read what changed meanwhile is told so by the database (`is_passing`) and does its work again.

**Capture.** Row numbers of central programs cannot be compared with a mark, for commits come out of their order. So statement
triggers log inserts too, and rows are new that the log names. The engine's own rows have numbers from 1 on, one after the other, given
inside its turn (`_mark`); those of all others are above `CENTRAL`, from a sequence.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict

from schema.declare import Cell, Table
from schema.dialects.base import NUMBERED, ROW_ID, Connection, Displaced
from schema.dialects.pg_connection import Native, PgConnection, connect
from schema.dialects.sqlite import DELETED, REKEYED, indexed, literal, quote
from schema.past import Column, ColumnType

INSERTED: Final = -7
"""A mark in `_log.c` beside those of SQLite's log: a row of another program that is new."""

_FIRST_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999

CENTRAL: Final = 1 << 40
"""Row numbers of central programs begin here; the engine's own lie below."""

APPLYING: Final = "outpost.applying"
_LOCK_MS: Final = 30_000
_AHEAD_MS: Final = 3_000
_PATIENCE: Final = {
    **{"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3},
    **{"tcp_user_timeout": 60_000},
}
"""Seconds, and ms, until a server that says nothing is taken for gone."""

_IDLE_MS: Final = 300_000
_SESSION: Final = (
    "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3 -c tcp_user_timeout=60000"
    f" -c idle_in_transaction_session_timeout={_IDLE_MS}"
)
"""The same from PostgreSQL's side. Else a machine that vanishes in the middle of a turn, or a process that is stopped there, keeps `_lock`
for hours, and every other server waits for it. What a URL or PGOPTIONS says counts for more.
"""
_DURABLE: Final = Native("SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off'")
"""What is answered is durable, whatever the database is set to. `local` waits for no replica: nor does `off`."""
_INSTALLING: Final = 0x4F7574706F7374  # of an advisory lock: "Outpost"
_TYPES: Final[dict[ColumnType, str]] = {"text": 'text COLLATE "C"', "integer": "bigint", "real": "double precision", "blob": "bytea"}
_NAMES: Final[dict[ColumnType, str]] = {"text": "text", "integer": "bigint", "real": "double precision", "blob": "bytea"}
_WALL: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_READ: Final[dict[ColumnType, Callable[[str], Any]]] = {
    "text": str,
    "integer": int,
    "real": lambda text: None if text == "NaN" else float(text),
    "blob": lambda text: bytes.fromhex(text.removeprefix("\\x")),
}


class Logged:
    """New rows of central programs: those that the log says were inserted."""

    def __init__(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        names = {t: name for name, t in numbers.items()}
        sql = f"SELECT t, MIN(rid) - 1, MAX(rid) FROM _log WHERE c = {INSERTED} GROUP BY t"
        found = {t: (low, high) for t, low, high in connection.execute(sql).fetchall()}
        self.ranges = {names[t]: found[t] for t in sorted(found) if t in names}
        self.set_back: dict[str, int] = {}
        self._connection, self._numbers = connection, numbers

    def holds(self, table: str, rid: int) -> bool:
        """Tell whether a row is new."""
        low, high = self.ranges.get(table, (0, 0))
        return low < rid <= high and self._connection.execute(f"SELECT 1 WHERE {self.condition(table, '?')}", (rid,)).fetchone() is not None

    def condition(self, table: str, rid: str) -> str:
        """Return an SQL condition that a row is new."""
        return f"EXISTS (SELECT 1 FROM _log n WHERE n.t = {self._numbers[table]} AND n.rid = {rid} AND n.c = {INSERTED})"

    def before(self, table: str, rid: str) -> str:
        """Return an SQL condition that a row was there before the look."""
        return f"NOT {self.condition(table, rid)}"

    def taken(self) -> None:
        """Do nothing: the lines of the log go with the look."""


class Postgres:
    """The dialect of PostgreSQL databases."""

    name = "postgresql"
    is_typed = True

    def open(self, url: Path | str, *, readonly: bool = False) -> Connection:
        """Return a connection on which nothing waits longer than half a minute for another's lock, and commits are durable. Raises
        psycopg.OperationalError; also for a replica, unless `readonly`: who writes there would be told so in the middle of everything.
        """
        wanted = conninfo_to_dict(str(url)).get("options") or os.environ.get("PGOPTIONS", "")
        options = f"{_SESSION} {wanted} -c lock_timeout={_LOCK_MS} -c client_min_messages=warning"
        connection = connect(str(url), options=options, **_PATIENCE)
        if readonly:
            connection.execute(Native("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
            return connection
        if connection.raw.info.parameter_status("in_hot_standby") == "on":
            connection.close()
            raise psycopg.OperationalError("this is a replica, which takes no writes. Promote it, or name the primary.")
        connection.execute(_DURABLE)
        return connection

    def file_of(self, connection: Connection) -> Path | None:
        """Return None: it is no file."""
        return None

    def is_away(self, error: Exception) -> bool:
        """Tell whether the server could not be reached, ended the connection, or takes no writes for now."""
        return isinstance(error, pg.LockNotAvailable | pg.IdleInTransactionSessionTimeout | pg.ReadOnlySqlTransaction) or (
            isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate[:2] in _AWAY)
        )

    def is_cut(self, connection: Connection) -> bool:
        """Tell whether the server, or the network, has ended a connection; known once it was used."""
        assert isinstance(connection, PgConnection)
        return bool(connection.raw.closed)

    def life(self, connection: Connection) -> bytes:
        """Return what names this run of this database. A copy can only be put back while the server stands still, as a replica that
        takes over has a start of its own, or by making the tables anew.
        """
        return hashlib.sha256(str(connection.execute(_LIFE).fetchone()).encode()).digest()[:16]

    def prepare(self, connection: Connection) -> None:
        """Make sure that there are the table whose lock gives writers their turns, and the numbers of nonces. Several may do so at once."""
        connection.execute(Native(f"SELECT pg_advisory_lock({_INSTALLING})"))
        try:
            connection.execute(_PREPARED)
        finally:
            connection.execute(Native(f"SELECT pg_advisory_unlock({_INSTALLING})"))

    def begin_write(self, connection: Connection, ahead_of: Sequence[str] = ()) -> None:
        """Wait for our turn, then for programs that write to some tables, if any are named, and only then take the snapshot. While it waits
        for them nobody else has a turn: so not for long.
        """
        connection.execute(_BEGIN_TURN)
        if ahead_of:
            connection.execute(Native(f"SET LOCAL lock_timeout = {_AHEAD_MS}"))
            connection.execute(Native(f"LOCK TABLE {', '.join(map(quote, ahead_of))} IN SHARE ROW EXCLUSIVE MODE"))
            connection.execute(Native(f"SET LOCAL lock_timeout = {_LOCK_MS}"))

    def begin_alone(self, connection: Connection, tables: Sequence[str]) -> None:
        """Wait for our turn, then for programs that are at work on the tables, and only then take the snapshot."""
        self.begin_write(connection)
        connection.execute(Native(f"LOCK TABLE {', '.join(map(quote, tables))} IN ACCESS EXCLUSIVE MODE"))

    def begin_read(self, connection: Connection) -> None:
        """Begin a transaction on one snapshot."""
        connection.execute(_BEGIN_SNAPSHOT)

    # --- tables ----------------------------------------------------------------------------------------------------------

    def tables(self, tables: Sequence[Table]) -> list[str]:
        """Return the DDL of declared tables, and of indexes where a scope or a tie runs through a column."""
        script: list[str] = []
        for table in tables:
            script.append(self.create(table, table.name))
            script += [
                Native(f"CREATE INDEX IF NOT EXISTS {quote(f'_{table.name}.{column}')} ON {quote(table.name)} ({quote(column)})")
                for column in indexed(table)
            ]
        return script

    def create(self, table: Table, name: str) -> str:
        """Return the DDL of a declared table under a name."""
        columns = [_column(column, column.name in table.key) for column in table.columns]
        number = f"{ROW_ID} bigint NOT NULL UNIQUE DEFAULT nextval('_rid')"
        key = f"PRIMARY KEY ({', '.join(map(quote, table.key))})"
        return Native(f"CREATE TABLE IF NOT EXISTS {quote(name)} ({', '.join([*columns, number, key])})")

    def column(self, column: Column) -> str:
        """Return the DDL of a column outside the key."""
        return _column(column, False)

    def type_name(self, column: Column) -> str:
        """Return the type a column is declared with, as `columns_of` tells it."""
        return _NAMES[column.type]

    def tables_there(self, connection: Connection) -> set[str]:
        """Return the names of the tables in the schema that names without one are looked up in, but for that of the lock: who found only
        this was cut before anything was made.
        """
        sql = (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
            " AND table_name NOT IN ('_lock', '_nonce', '_snapshot_piece')"
        )
        return {str(row[0]) for row in connection.execute(sql).fetchall()}

    def views_there(self, connection: Connection) -> set[str]:
        """Return the names of the views in the schema that names without one are looked up in."""
        sql = "SELECT viewname FROM pg_views WHERE schemaname = current_schema()"
        return {str(row[0]) for row in connection.execute(sql).fetchall()}

    def columns_of(self, connection: Connection, table: str) -> dict[str, str]:
        """Return the columns of a table, each with its type; none where there is no such table."""
        sql = (
            "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a WHERE a.attrelid = to_regclass(CAST(? AS text))"
            " AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        )
        return {str(name): str(kind) for name, kind in connection.execute(sql, (quote(table),)).fetchall()}

    def bookkeeping(self) -> list[str]:
        """Return the DDL of numbers, marks and log."""
        return [
            Native(f"CREATE SEQUENCE IF NOT EXISTS _rid MINVALUE {CENTRAL}"),
            "CREATE TABLE IF NOT EXISTS _table (t INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, rules TEXT)",
            "CREATE TABLE IF NOT EXISTS _unconverted (tbl TEXT NOT NULL, key TEXT NOT NULL, col TEXT NOT NULL, schema INTEGER NOT NULL,"
            " value BLOB NOT NULL, PRIMARY KEY (tbl, key, col, schema))",
            # the highest row number that the engine has given out
            "CREATE TABLE IF NOT EXISTS _mark (t INTEGER PRIMARY KEY, rid INTEGER NOT NULL)",
            "CREATE TABLE IF NOT EXISTS _log (seq INTEGER PRIMARY KEY, t INTEGER NOT NULL, rid INTEGER NOT NULL, c INTEGER NOT NULL,"
            " wall INTEGER, old TEXT)",
            "CREATE INDEX IF NOT EXISTS _log_row ON _log (t, rid, c)",
            # nonces of all server processes; `given_in` is this table: a dump that is read back makes another (server/shared_nonces.py)
            Native(
                "CREATE UNLOGGED TABLE IF NOT EXISTS _nonce (id bigint PRIMARY KEY,"
                " nonce text NOT NULL UNIQUE, expires_ms bigint NOT NULL, given_in oid NOT NULL)"
            ),
            # the bytes of snapshots, which can be made anew (server/snapshot/shelf.py)
            Native(
                "CREATE UNLOGGED TABLE IF NOT EXISTS _snapshot_piece (name bytea NOT NULL, number integer NOT NULL, body bytea NOT NULL,"
                " PRIMARY KEY (name, number))"
            ),
        ]

    # --- capture ---------------------------------------------------------------------------------------------------------

    def capture(self, table: Table, number: int) -> list[str]:
        """Return the triggers of one table: a statement each, however many rows it writes."""
        told = {
            "insert": ("REFERENCING NEW TABLE AS new_rows", _inserted(number)),
            "delete": ("REFERENCING OLD TABLE AS old_rows", _image(table, number, DELETED, "old_rows o")),
            "update": ("REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows", _updated(table, number)),
        }
        script = []
        for what, (referencing, body) in told.items():
            script += _trigger(table, number, what, f"AFTER {what.upper()}", referencing, body)
        emptied = _image(table, number, DELETED, f"{quote(table.name)} o")
        return script + _trigger(table, number, "truncate", "BEFORE TRUNCATE", "", emptied)

    def is_complete(self, connection: Connection, schema_tables: Sequence[Table], views: Collection[str]) -> bool:
        """Tell whether all tables, triggers and views are there: making them again takes locks that programs at work would wait for."""
        names = {table.name for table in schema_tables}
        (count,) = connection.execute(_TRIGGERS).fetchone()
        is_there = names <= self.tables_there(connection) and self.views_there(connection) >= set(views)
        return is_there and count >= _TRIGGERS_EACH * len(names)

    def news(self, connection: Connection, numbers: Mapping[str, int]) -> Logged:
        """Return what the log names as inserted."""
        return Logged(connection, numbers)

    def length(self, column: Column, sql: str) -> str:
        """Return SQL for the bytes of a value."""
        return f"octet_length({sql})" if column.type in ("text", "blob") else f"CASE WHEN {sql} IS NOT NULL THEN 8 END"

    def part_of(self, sql: str, place: int) -> str:
        """Return SQL for a part of a JSON array; NULL where one is no clean text, which no row here can have."""
        return f"(CASE WHEN position('\\u0000' IN {sql}) = 0 THEN {sql} END)::json ->> {place}"

    def month_of(self, date: str, ms: str) -> str:
        """Return SQL for the month of a date, else of a time from the year 1 to 9999."""
        dated = f"CASE WHEN {date} ~ '^[0-9]{{4}}-[01][0-9]-[0-3][0-9]' THEN SUBSTR({date}, 1, 7) END"
        timed = f"to_char(to_timestamp({ms} / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM')"
        return f"COALESCE({dated}, CASE WHEN {ms} BETWEEN {_FIRST_MS} AND {_LAST_MS} THEN {timed} END)"

    def value_of(self, column: Column, old: Any) -> Any:
        """Return a value of a column; the log keeps all of them as texts."""
        return None if old is None else _READ[column.type](old)

    def set_applying(self, connection: Connection, on: bool) -> None:
        """Switch the triggers off or on, for this session and transaction alone."""
        connection.execute(_APPLYING_ON if on else _APPLYING_OFF)

    def mark_all(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        """Do nothing: what the engine writes is not logged."""

    def insert(self, connection: Connection, table: str, number: int, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        """Copy rows in, numbered one after the other."""
        low = self._numbers_for(connection, number, len(rows))
        names = ", ".join(map(quote, [*columns, ROW_ID]))
        assert isinstance(connection, PgConnection)
        values = [*zip(*rows, strict=True), range(low, low + len(rows))]
        copied = connection.copy_in(f"COPY {quote(table)} ({names}) FROM STDIN", values)
        if copied != len(rows):
            raise Displaced
        return low

    def ruled(self, connection: Connection) -> set[str]:
        """Return the tables on which other programs have laid triggers, rules, unique or exclusive indexes: of those, two are ours."""
        return {str(row[0]) for row in connection.execute(_RULED).fetchall()}

    def next_row(self, connection: Connection, number: int) -> int:
        """Return the next of the engine's own numbers."""
        return self._numbers_for(connection, number, 1)

    def _numbers_for(self, connection: Connection, number: int, count: int) -> int:
        sql = "UPDATE _mark SET rid = rid + ? WHERE t = ? RETURNING rid"
        return int(connection.execute(sql, (count, number)).fetchone()[0]) - count + 1

    def stream(self, connection: Connection, sql: str, parameters: Sequence[object] = ()) -> Iterator[Any]:
        """Yield the rows of a query, which stay with the server until they are asked for."""
        assert isinstance(connection, PgConnection)
        return connection.stream(sql, parameters)

    def go_on_after_copy(self, connection: Connection, numbers: Mapping[str, int]) -> None:
        """Let our own numbers, those of other programs, and all identities go on above what is there, or was."""
        highest = CENTRAL
        for name, t in numbers.items():
            used = [
                f"SELECT {ROW_ID} AS n FROM {quote(name)}",
                *(f"SELECT {column} FROM {table} WHERE t = {t}" for table, column in NUMBERED),
            ]
            sql = f"SELECT COALESCE(MAX(n) FILTER (WHERE n < {CENTRAL}), 0), COALESCE(MAX(n), 0) FROM ({' UNION ALL '.join(used)}) u"
            own, last = connection.execute(sql).fetchone()
            connection.execute("UPDATE _mark SET rid = ? WHERE t = ?", (own, t))
            highest = max(highest, last)
        connection.execute("SELECT setval('_rid', ?)", (highest,))
        for table, column in connection.execute(_IDENTITIES).fetchall():
            last = connection.execute(f"SELECT COALESCE(MAX({quote(column)}), 0) FROM {quote(table)}").fetchone()[0]
            if last:
                connection.execute(
                    "SELECT setval(pg_get_serial_sequence(CAST(? AS text), CAST(? AS text)), ?)", (quote(table), column, last)
                )

    def highest(self, connection: Connection) -> dict[str, int]:
        """Return the highest row number in each table that has rows."""
        names = [str(name) for (name,) in connection.execute("SELECT name FROM _table").fetchall()]
        found = {name: connection.execute(f"SELECT MAX({ROW_ID}) FROM {quote(name)}").fetchone()[0] for name in names}
        return {name: number for name, number in found.items() if number is not None}

    def go_on_from(self, connection: Connection, table: str, number: int) -> None:
        """Do nothing: a sequence never goes back."""

    def renumber(self, connection: Connection, table: str, rid: int) -> int:
        """Give a row a number that no row ever had."""
        sql = f"UPDATE {quote(table)} SET {ROW_ID} = nextval('_rid') WHERE {ROW_ID} = ? RETURNING {ROW_ID}"
        return int(connection.execute(sql, (rid,)).fetchone()[0])

    # --- errors ----------------------------------------------------------------------------------------------------------

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Return what the driver raises for a database that is not there, or not ours."""
        return (psycopg.Error,)

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether a rule of the database, be it another program's trigger with a code of its own, refuses a row."""
        return isinstance(error, psycopg.Error) and error.sqlstate is not None and error.sqlstate[:2] not in _NOT_OF_ROWS

    def taken_key(self, error: Exception) -> str | None:
        """Return the table in which a row has come under a key at which the snapshot shows none."""
        is_key = isinstance(error, pg.UniqueViolation) and (error.diag.constraint_name or "").endswith(_KEY)
        return error.diag.table_name if is_key and isinstance(error, psycopg.Error) else None

    def words_of(self, error: Exception) -> str:
        """Return what an error says, without where in the server that was."""
        return (isinstance(error, psycopg.Error) and error.diag.message_primary) or str(error)

    def is_in_words(self, error: Exception) -> bool:
        """Tell whether a statement itself was wrong: what it says, or what the schema says that it works on."""
        return isinstance(error, pg.SyntaxErrorOrAccessRuleViolation | pg.DependentObjectsStillExist | pg.FeatureNotSupported)

    def flaw(self, connection: Connection, sql: str) -> str | None:
        """Return why a statement cannot be planned; None if it can. Nothing is run."""
        connection.execute("SAVEPOINT flaw")
        try:
            connection.execute(f"EXPLAIN {sql}").fetchall()
        except psycopg.Error as error:
            connection.execute("ROLLBACK TO flaw")
            if not self.is_in_words(error):
                raise
            return self.words_of(error)
        finally:
            connection.execute("RELEASE flaw")
        return None

    def is_passing(self, error: Exception) -> bool:
        """Tell whether the same work, done again, may pass: another program wrote what it had read, each waited for the other, or a row
        has come under a key where the snapshot shows none.
        """
        return isinstance(error, pg.SerializationFailure | pg.DeadlockDetected) or self.taken_key(error) is not None

    def is_of_the_disk(self, error: Exception) -> bool:
        """Tell whether the disk could not be read or written, or is full."""
        return isinstance(error, pg.DiskFull | pg.IoError | pg.InsufficientResources)

    def is_undecodable(self, error: Exception) -> bool:
        """Return False: PostgreSQL keeps no text that is not UTF-8."""
        return False

    def read_through(self, connection: Connection, on: bool) -> None:
        """Do nothing: the database's server has the cache."""

    def read_bytes(self, connection: Connection, on: bool) -> None:
        """Do nothing: see `is_undecodable`."""


_TRIGGERS_EACH: Final = 4
_TRIGGERS: Final = (
    "SELECT COUNT(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
    " WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal AND t.tgname LIKE '\\_t%'"
)
_RULED: Final = (
    "SELECT lower(c.relname) FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND"
    " (c.relhasrules OR EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname !~ '^_t[0-9]+_')"
    " OR (SELECT COUNT(*) FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)) > 2)"
)
_IDENTITIES: Final = (
    "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema() AND is_identity = 'YES'"
)
_KEY: Final = "_pkey"
"""How PostgreSQL ends the name of a table's key."""

_SET_IDENTITY: Final = "SELECT setval(pg_get_serial_sequence(CAST(? AS text), CAST(? AS text)), ?)"
_NOT_OF_ROWS: Final = frozenset({"08", "25", "26", "40", "42", "53", "54", "55", "57", "58", "XX"})
"""Classes of errors that are no refusal of a row: connections, transactions, statements, resources, locks, the server itself."""

_AWAY: Final = frozenset({"08", "53", "57"})
"""Classes of errors: connections, resources (connections among them), an administrator's or a crash's shutdown."""

_LIFE: Final = Native(
    "SELECT extract(epoch FROM pg_postmaster_start_time())::text, oid::text, pg_relation_filenode(oid)::text FROM pg_class"
    " WHERE oid = '_server'::regclass"
)
_PREPARED: Final = Native(f"CREATE TABLE IF NOT EXISTS _lock (); CREATE SEQUENCE IF NOT EXISTS _nonce_number MINVALUE {CENTRAL}")
"""The sequence is none of the table's own, which would be unlogged as that is: such a one can be unreadable on a replica that takes over
("bad magic number in sequence"). It begins above all that databases made with one have given out.
"""
_BEGIN_TURN: Final = Native("BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE _lock IN EXCLUSIVE MODE")
_BEGIN_SNAPSHOT: Final = Native("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
"""Each one message to the server and back. Neither BEGIN nor LOCK takes a snapshot; the first SELECT does."""
_APPLYING_ON: Final = Native(f"SET LOCAL {APPLYING} = 'on'")
_APPLYING_OFF: Final = Native(f"SET LOCAL {APPLYING} = 'off'")


def _column(column: Column, is_key: bool) -> str:
    null = "" if column.nullable and not is_key else " NOT NULL"
    default = "" if column.default is None else f" DEFAULT {literal(column.default)}"
    return f"{quote(column.name)} {_TYPES[column.type]}{null}{default}"


def _trigger(table: Table, number: int, what: str, when: str, referencing: str, body: str) -> list[str]:
    """Return a function and its trigger. It runs with the rights of whoever made it: a central program need not know the log."""
    name = quote(f"_t{number}_{what}")
    return [
        Native(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path FROM CURRENT SET bytea_output = hex SET extra_float_digits = 1 AS $$"
            f" BEGIN IF current_setting('{APPLYING}', true) IS DISTINCT FROM 'on' THEN {body} END IF; RETURN NULL; END $$"
        ),
        Native(
            f"CREATE OR REPLACE TRIGGER {name} {when} ON {quote(table.name)} {referencing} FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        ),
    ]


def _inserted(number: int) -> str:
    return f"INSERT INTO _log (t, rid, c) SELECT {number}, n.{ROW_ID}, {INSERTED} FROM new_rows n ORDER BY n.{ROW_ID};"


def _image(table: Table, number: int, mark: int, source: str) -> str:
    """Return what logs rows whole: a line that says why, and one for each column."""
    lines = [f"({mark}, NULL::text)", *(f"({table.position[name]}, o.{quote(name)}::text)" for name in table.names)]
    return (
        f"INSERT INTO _log (t, rid, c, wall, old) SELECT {number}, o.{ROW_ID}, v.c, {_WALL}, v.old FROM {source}"
        f" CROSS JOIN LATERAL (VALUES {', '.join(lines)}) v (c, old);"
    )


def _updated(table: Table, number: int) -> str:
    """Return what logs updates: of a new key the row whole, else the cells that changed (of documents every column)."""
    same = f"n.{ROW_ID} = o.{ROW_ID}"
    rekeyed = _differ(table.key)
    whole = _image(table, number, REKEYED, f"old_rows o JOIN new_rows n ON {same} AND ({rekeyed})")
    others = f"old_rows o JOIN new_rows n ON {same} AND NOT ({rekeyed})"
    return " ".join([whole, *(_changed(table, number, cell, others) for cell in table.cells)])


def _changed(table: Table, number: int, cell: Cell, source: str) -> str:
    columns = table.names if table.immutable else cell.columns
    lines = ", ".join(f"({table.position[name]}, o.{quote(name)}::text)" for name in columns)
    return (
        f"INSERT INTO _log (t, rid, c, wall, old) SELECT {number}, o.{ROW_ID}, v.c, {_WALL}, v.old FROM {source}"
        f" CROSS JOIN LATERAL (VALUES {lines}) v (c, old) WHERE {_differ(cell.columns)};"
    )


def _differ(columns: Sequence[str]) -> str:
    return " OR ".join(f"n.{quote(name)} IS DISTINCT FROM o.{quote(name)}" for name in columns)
