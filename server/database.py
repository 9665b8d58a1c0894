"""The server's database: its bookkeeping tables, one writer, many readers.

Every effect happens in `writing()`: one transaction at a time, which is also what orders versions (PROTOCOL.md §6.1).
`reading()` gives a snapshot that no writer waits for. Declared tables lie beside the bookkeeping as ordinary tables.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

from schema.backup import cut_short
from schema.bookkeeping import Bookkeeping, require_mine
from schema.capture import Store
from schema.dialects.base import Connection, Dialect
from schema.dialects.sqlite import LARGE_CACHE_KIB, Sqlite
from schema.importer import brought
from schema.install import install, number_tables
from schema.registry import Schema
from server import revoked
from sync import box
from sync.errors import AlreadyThere, BadValue, DatabaseAway, DatabaseFull, NotJoined, UsError

_TABLES = (
    # the end of the journal, and which life of the server this is
    "CREATE TABLE IF NOT EXISTS _server (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, head INTEGER NOT NULL,"
    " digest BLOB NOT NULL, schema INTEGER NOT NULL, box_key BLOB NOT NULL, covered INTEGER NOT NULL DEFAULT 0,"
    # server/compacting.py: what is kept no more; how far that is done; what counts as covered without a backup; when it was last looked at
    " horizon INTEGER NOT NULL DEFAULT 0, swept INTEGER NOT NULL DEFAULT 0, emptied INTEGER NOT NULL DEFAULT 0,"
    " aged INTEGER NOT NULL DEFAULT 0, tended_ms INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE IF NOT EXISTS _policy (id INTEGER PRIMARY KEY, forget_days INTEGER NOT NULL, lease_days INTEGER NOT NULL,"
    " unbacked_days INTEGER)",
    "CREATE TABLE IF NOT EXISTS _node (node INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE,"
    " public_key BLOB, revoked_ms INTEGER, invited_ms INTEGER, joined_ms INTEGER, last_push_ms INTEGER, last_pull_ms INTEGER,"
    " unsynced INTEGER, conflicts INTEGER, held INTEGER, cursor INTEGER NOT NULL DEFAULT 0,"
    " schema INTEGER,"  # version of the declaration, as it last told
    " settled INTEGER NOT NULL DEFAULT 0,"  # its cursor when it last had nothing under way
    " keep_days INTEGER NOT NULL DEFAULT 0)",  # of what rolls (schema/window.py); 0: everything
    # what each node tells of rows that differ from ours
    "CREATE TABLE IF NOT EXISTS _differing (node INTEGER PRIMARY KEY, rows INTEGER NOT NULL, told_ms INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS _invitation (code_hash BLOB PRIMARY KEY, node INTEGER NOT NULL, expires_ms INTEGER NOT NULL,"
    " used_ms INTEGER)",
    # which scope keys a node is entitled to, in which versions
    "CREATE TABLE IF NOT EXISTS _entitled (node INTEGER NOT NULL, scope TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER,"
    " PRIMARY KEY (node, scope, since)) WITHOUT ROWID",
    # each life of a node's history: where its chain ends
    "CREATE TABLE IF NOT EXISTS _incarnation (inc INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, node INTEGER NOT NULL,"
    " seq INTEGER NOT NULL, digest BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS _incarnation_node ON _incarnation (node)",
    "CREATE TABLE IF NOT EXISTS _lineage (inc INTEGER NOT NULL, ancestor INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,"
    " PRIMARY KEY (inc, ancestor, low)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS _journal (ver INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, inc INTEGER NOT NULL,"
    " seq INTEGER, segment BLOB, first INTEGER, transactions INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL)",
    "CREATE UNIQUE INDEX IF NOT EXISTS _journal_segment ON _journal (segment) WHERE segment IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS _journal_inc ON _journal (inc, ver)",
    "CREATE INDEX IF NOT EXISTS _journal_backup ON _journal (ver) WHERE kind = 'backup'",
    "CREATE INDEX IF NOT EXISTS _journal_epoch ON _journal (ver) WHERE kind = 'epoch'",
    # what each incarnation's chain holds: a segment sent again after a fork is in two chains, in the journal once
    "CREATE TABLE IF NOT EXISTS _chain (inc INTEGER NOT NULL, seq INTEGER NOT NULL, digest BLOB NOT NULL, segment BLOB NOT NULL,"
    " PRIMARY KEY (inc, seq)) WITHOUT ROWID",
    # transactions that were not plainly accepted
    "CREATE TABLE IF NOT EXISTS _verdict (segment BLOB NOT NULL, txn INTEGER NOT NULL, node INTEGER NOT NULL, ver INTEGER NOT NULL,"
    " verdict TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (segment, txn)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS _verdict_node ON _verdict (node, ver)",
    "CREATE INDEX IF NOT EXISTS _verdict_refused ON _verdict (ver) WHERE verdict = 'refused'",
    "CREATE TABLE IF NOT EXISTS _held (id INTEGER PRIMARY KEY AUTOINCREMENT, segment BLOB NOT NULL, txn INTEGER NOT NULL,"
    " inc INTEGER NOT NULL, node INTEGER NOT NULL, skew_ms INTEGER NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,"
    " since_ms INTEGER NOT NULL, approved INTEGER NOT NULL DEFAULT 0, wait_tbl TEXT, wait_key TEXT, UNIQUE (segment, txn))",
    "CREATE INDEX IF NOT EXISTS _held_waits ON _held (wait_tbl, wait_key)",
    "CREATE TABLE IF NOT EXISTS _held_row (held INTEGER NOT NULL, node INTEGER NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL,"
    " PRIMARY KEY (node, tbl, key, held)) WITHOUT ROWID",
    # rows a node had made new in work that was refused, until it makes them anew
    "CREATE TABLE IF NOT EXISTS _refused_key (node INTEGER NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL,"
    " PRIMARY KEY (node, tbl, key)) WITHOUT ROWID",
    # after a restore: segments that came again, and what had become of whose transactions before; rows that nodes had pulled
    "CREATE TABLE IF NOT EXISTS _again (segment BLOB PRIMARY KEY, version INTEGER NOT NULL, floor INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS _before (inc INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, verdict TEXT NOT NULL,"
    " PRIMARY KEY (inc, low)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS _brought (t INTEGER NOT NULL, key TEXT NOT NULL, epoch INTEGER NOT NULL, life BLOB NOT NULL,"
    " version INTEGER NOT NULL, schema INTEGER NOT NULL, filled INTEGER NOT NULL, node INTEGER NOT NULL,"
    " PRIMARY KEY (t, key, epoch, life, schema)) WITHOUT ROWID",
    # what held work saw of what it waits for, when it was last tried (server/waits.py)
    "CREATE TABLE IF NOT EXISTS _waits (held INTEGER PRIMARY KEY, saw TEXT NOT NULL)",
    # how far held work has been looked through (server/ingest.py `release`): from which on, since which version, under which declaration
    "CREATE TABLE IF NOT EXISTS _release (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, since INTEGER NOT NULL, schema INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS _handed (held INTEGER PRIMARY KEY, name TEXT NOT NULL, note TEXT NOT NULL, at_ms INTEGER NOT NULL)",
    # held work that was taken back, and the transaction that took its place, if one did
    "CREATE TABLE IF NOT EXISTS _withdrawn (seq INTEGER PRIMARY KEY AUTOINCREMENT, held INTEGER NOT NULL, segment BLOB NOT NULL,"
    " txn INTEGER NOT NULL, node INTEGER NOT NULL, ver INTEGER NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,"
    " since_ms INTEGER NOT NULL, at_ms INTEGER NOT NULL, by TEXT NOT NULL, into_segment BLOB, into_txn INTEGER)",
    "CREATE INDEX IF NOT EXISTS _withdrawn_held ON _withdrawn (held)",
    "CREATE INDEX IF NOT EXISTS _withdrawn_into ON _withdrawn (into_segment, into_txn)",
    # rows a node took back before the centre had them
    "CREATE TABLE IF NOT EXISTS _given_up (node INTEGER NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL,"
    " PRIMARY KEY (node, tbl, key)) WITHOUT ROWID",
    # rows whose move to another parent was refused or taken back, and when: their node does not know yet that they stayed
    "CREATE TABLE IF NOT EXISTS _not_moved (node INTEGER NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL, ver INTEGER NOT NULL,"
    " PRIMARY KEY (node, tbl, key)) WITHOUT ROWID",
    # the feed's index: what changed in a scope at a version; op: see server/scopes.py
    "CREATE TABLE IF NOT EXISTS _change (t INTEGER NOT NULL, sc TEXT NOT NULL, ver INTEGER NOT NULL, lo INTEGER NOT NULL,"
    " op INTEGER NOT NULL, hi INTEGER NOT NULL, wr INTEGER NOT NULL, part INTEGER NOT NULL, whole INTEGER NOT NULL,"
    " PRIMARY KEY (t, sc, ver, lo, op)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS _change_left ON _change (t) WHERE op = 2",
    # who wrote a cell: c 0 is the row's birth, others are cells by place
    "CREATE TABLE IF NOT EXISTS _clock (t INTEGER NOT NULL, rid INTEGER NOT NULL, c INTEGER NOT NULL, ver INTEGER NOT NULL,"
    " wr INTEGER NOT NULL, n INTEGER NOT NULL, stamp INTEGER NOT NULL, PRIMARY KEY (t, rid, c)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS _tombstone (t INTEGER NOT NULL, rid INTEGER NOT NULL, key TEXT NOT NULL, ver INTEGER NOT NULL,"
    " wr INTEGER NOT NULL, image BLOB NOT NULL, PRIMARY KEY (t, rid)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS _tombstone_key ON _tombstone (t, key)",
    "CREATE TABLE IF NOT EXISTS _conflict (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE,"
    " ver INTEGER NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL, columns TEXT NOT NULL, base BLOB, mine BLOB, theirs BLOB,"
    " rule TEXT NOT NULL, winner TEXT NOT NULL, open INTEGER NOT NULL, mine_node INTEGER NOT NULL,"
    " theirs_node INTEGER NOT NULL, at_ms INTEGER NOT NULL, decided_ms INTEGER, decided_node INTEGER, decided BLOB)",
    "CREATE INDEX IF NOT EXISTS _conflict_ver ON _conflict (ver)",
    "CREATE INDEX IF NOT EXISTS _conflict_row ON _conflict (tbl, key)",
    # the row that a conflict is about: a later row with its key is another one
    "CREATE TABLE IF NOT EXISTS _about (conflict BLOB PRIMARY KEY, rid INTEGER NOT NULL) WITHOUT ROWID",
    # snapshots (server/snapshot/)
    # scope: SHA-256 of the scope keys; ver: the version whose rows it holds
    "CREATE TABLE IF NOT EXISTS _snapshot (scope BLOB NOT NULL, schema INTEGER NOT NULL, ver INTEGER NOT NULL, name BLOB NOT NULL,"
    " bytes INTEGER NOT NULL, expanded INTEGER NOT NULL, found INTEGER NOT NULL, used_ms INTEGER NOT NULL,"
    " edge INTEGER NOT NULL DEFAULT 0,"
    " PRIMARY KEY (scope, schema, ver)) WITHOUT ROWID",
    # those being made: by which process, when it was last heard of, how far it is; failed: it could not, until that time
    "CREATE TABLE IF NOT EXISTS _building (scope BLOB NOT NULL, schema INTEGER NOT NULL, maker BLOB NOT NULL, heard_ms INTEGER NOT NULL,"
    " made INTEGER NOT NULL, total INTEGER NOT NULL, failed INTEGER NOT NULL, PRIMARY KEY (scope, schema)) WITHOUT ROWID",
    # what imports have brought (schema/importer/brought.py)
    brought.TABLE,
)

BOOKKEEPING = Bookkeeping("server", _TABLES)

READERS_MAX = 8

Place = Path | str
"""Where a server's database is: a file, or the URL of a PostgreSQL database."""


def _clock_ms() -> int:
    return int(time.time() * 1000)


class Database:
    """One server's database. Thread-safe; `writing` is exclusive. Its tables have dropped columns too (`Schema.centre`)."""

    def __init__(
        self,
        path: Place,
        schema: Schema,
        dialect: Dialect | None = None,
        *,
        clock_ms: Callable[[], int] = _clock_ms,
        place: Path | None = None,  # where it will lie, of a copy that is yet to take its place
        life: bytes | None = None,  # of a file that several processes serve: what the first of them drew
    ) -> None:
        require_there(path)
        self.path, self.schema, self.dialect = path, schema.centre, dialect or dialect_of(path)
        self._life = life or secrets.token_bytes(16)
        self._lock = threading.RLock()
        self._insists = threading.local()
        self._readers: SimpleQueue[Connection] = SimpleQueue()
        self._writer = connect(self.dialect, path)
        from server.upgrade import ServerKeeper  # it journals and releases, and what does that needs this module

        try:
            install(self._writer, self.dialect, self.schema, BOOKKEEPING, ServerKeeper(clock_ms))
            if isinstance(path, Path):
                revoked.reconcile(self._writer, self.dialect, place or path, is_in_place=place is None)
        except BaseException as error:
            self._writer.close()
            if isinstance(error, self.dialect.errors):
                raise_if_away_from(path, self.dialect, error)
            raise
        self.numbers = number_tables(self._writer, self.schema)
        self._store = Store(self._writer, self.dialect, self.schema, self.numbers)

    def life(self, store: Store) -> bytes:
        """Return the life that a snapshot is read in: what is read in one is of one history, for a copy can only be put back between."""
        return self.dialect.life(store.connection) or self._life

    @contextmanager
    def writing(self) -> Iterator[Store]:
        """Run a block as one transaction, alone. Any exception undoes it whole."""
        with self._lock:
            try:
                self._begin_write()
                require_mine(self._writer, self.schema)
                yield self._store
                self._writer.commit()  # may fail too, on a full disk: the transaction must not stay open
            except BaseException:
                self._writer.rollback()
                raise

    @contextmanager
    def ahead_of_programs(self) -> Iterator[None]:
        """Let this thread's transactions wait, inside the block, for central programs that are at work on declared tables, and those that
        come later wait for them. Else programs that write to the same rows without a pause would have it undone each time.
        """
        self._insists.tables = [table.name for table in self.schema.tables]
        try:
            yield
        finally:
            self._insists.tables = []

    def _begin_write(self) -> None:
        """Begin, on a new connection where the old one was cut: nothing was under way on it."""
        ahead_of: list[str] = getattr(self._insists, "tables", [])
        try:
            self.dialect.begin_write(self._writer, ahead_of)
        except self.dialect.errors:
            if not self.dialect.is_cut(self._writer):
                raise
            self._writer = connect(self.dialect, self.path)
            self._store = Store(self._writer, self.dialect, self.schema, self.numbers)
            self.dialect.begin_write(self._writer, ahead_of)

    def _begin_read(self) -> Connection:
        """Return a connection on which a snapshot is open: one that was used before, unless it was cut, or a new one."""
        while True:
            try:
                connection, is_new = self._readers.get_nowait(), False
            except Empty:
                connection, is_new = connect(self.dialect, self.path), True
            try:
                self.dialect.begin_read(connection)
                return connection
            except self.dialect.errors:
                connection.close()
                if is_new or not self.dialect.is_cut(connection):
                    raise

    @contextmanager
    def reading(self) -> Iterator[Store]:
        """Run a block on one snapshot."""
        connection = self._begin_read()
        try:
            require_mine(connection, self.schema)
            yield Store(connection, self.dialect, self.schema, self.numbers, {})
            connection.commit()  # keeps temporary tables: undoing one makes SQLite read the whole schema and compile everything again
        finally:
            connection.rollback()
            if self._readers.qsize() < READERS_MAX and not self.dialect.is_cut(connection):
                self._readers.put(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._writer.close()
            while True:
                try:
                    self._readers.get_nowait().close()
                except Empty:
                    return


class NoDriver(UsError):
    """What speaks to PostgreSQL is not installed. Install it: pip install 'outpost-sync[postgres]'."""

    code = "database.driver"


def dialect_of(place: Place) -> Dialect:
    """Return the dialect of a database: PostgreSQL's for a URL, else SQLite's."""
    if isinstance(place, Path):
        return Sqlite(LARGE_CACHE_KIB)
    try:
        from schema.dialects.postgres import Postgres  # its driver is an extra: a centre in a file does without
    except ImportError as error:
        raise NoDriver from error
    return Postgres()


def connect(dialect: Dialect, place: Place) -> Connection:
    """Return a connection to a database. Raises DatabaseAway."""
    try:
        return dialect.open(place)
    except dialect.errors as error:
        if isinstance(place, Path):
            raise
        if not dialect.is_away(error):
            raise BadValue(f"{named(place)} cannot be opened: what stands before or behind that in the URL is not right.") from None
        raise DatabaseAway(f"The database {named(place)} cannot be reached: {dialect.words_of(error).strip()}") from error


def raise_if_away(dialect: Dialect, error: Exception) -> None:
    """Raise DatabaseAway or DatabaseFull where an error says that the database is; else do nothing."""
    if dialect.is_of_the_disk(error):
        raise DatabaseFull("The disk of the centre's database is full, or cannot be written.") from error
    if dialect.is_passing(error):
        raise DatabaseAway("Another program wrote to the same rows at this moment, and nothing was done here.") from error
    if dialect.is_away(error):
        words = " ".join(dialect.words_of(error).split())  # a driver's are lines and tabs
        raise DatabaseAway(f"The centre's database cannot be reached, or went away: {words}") from error


def raise_if_away_from(place: Place, dialect: Dialect, error: Exception) -> None:
    """The same for who works at the centre itself: a file is in the home, and what is wrong with that is said of the home."""
    if not isinstance(place, Path):
        raise_if_away(dialect, error)


def named(place: Place) -> str:
    """Return how a database is named to people: without user, password and settings, wherever in a URL those are."""
    if isinstance(place, Path) or "://" not in place:
        return str(place)
    scheme, _, rest = place.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def require_there(place: Place) -> None:
    """Check that there is something to open. Raises NotJoined, DatabaseAway."""
    if isinstance(place, Path):
        require_file(place)
        return
    dialect = dialect_of(place)
    with closing(connect(dialect, place)) as connection:
        if "_server" not in dialect.tables_there(connection):
            raise NotJoined(f"There is no server here yet ({named(place)}). Start one with: outpost server init --database URL")


def require_file(path: Path) -> None:
    """Check that there is a file to open. Raises NotJoined."""
    if not path.exists():
        raise NotJoined(cut_short(path) or f"There is no server here yet ({path}). Start one with: outpost server init")


def create(path: Place, schema: Schema, *, existing: bool = False) -> Database:
    """Create a server's database, or finish one whose creation was cut; with `existing` take one that is there. Raises AlreadyThere."""
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    dialect = dialect_of(path)
    with closing(connect(dialect, path)) as connection:
        is_new = not _is_there(connection, dialect, path) and _is_made(connection, dialect, schema)
        if not is_new and not existing:
            more = "" if isinstance(path, Path) else " To let this machine serve it too, say so: --existing"
            raise AlreadyThere(f"There is a server here already ({named(path)}).{more}")
    return Database(path, schema)


def _is_there(connection: Connection, dialect: Dialect, place: Place) -> bool:
    """Tell whether a database is a server's. Raises AlreadyThere where it is something else."""
    there = dialect.tables_there(connection)
    if "_server" in there:
        return connection.execute("SELECT 1 FROM _server").fetchone() is not None
    if there:
        raise AlreadyThere(f"There is another database here already ({named(place)}).")
    return False


def _is_made(connection: Connection, dialect: Dialect, schema: Schema) -> bool:
    """Make a server; tell whether it is ours, for another machine may do so at the same time."""
    install(connection, dialect, schema.centre, BOOKKEEPING)
    sql = "INSERT INTO _server (id, epoch, head, digest, schema, box_key) VALUES (1, 1, 0, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id"
    return connection.execute(sql, (bytes(32), schema.version, box.new_key())).fetchone() is not None
