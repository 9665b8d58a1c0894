"""The node's database: an ordinary SQLite file that any program may read and write, and our bookkeeping beside it.

    tables people use  =  what the centre holds (at our cursor, in our scope)  +  our own work it does not cover yet

The first part needs no storage of its own: `_shadow` keeps the centre's row only where pending work hides it. Pending
work lies in `_segment` (sealed bytes on their way), `_op` (changes to replay over newer rows) and `_own` (which new
documents and events are ours). Spec: PROTOCOL.md §8.4; RULES §3.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schema.backup import cut_short
from schema.bookkeeping import Bookkeeping, require_mine
from schema.capture import Look, Store
from schema.dialects.base import Connection, Files
from schema.dialects.sqlite import Sqlite
from schema.files import to_disk
from schema.importer import brought
from schema.install import install, number_tables
from schema.registry import Schema
from sync.digest import BEGINNING
from sync.errors import AlreadyThere, NotJoined
from sync.messages import Point

_TABLES = (
    "CREATE TABLE IF NOT EXISTS _node (id INTEGER PRIMARY KEY, node TEXT NOT NULL, name TEXT NOT NULL, url TEXT NOT NULL,"
    " epoch INTEGER NOT NULL, incarnation BLOB NOT NULL, registered INTEGER NOT NULL, parent BLOB, parent_seq INTEGER,"
    " parent_digest BLOB, acked_seq INTEGER NOT NULL, acked_digest BLOB NOT NULL, cursor INTEGER NOT NULL,"
    " cursor_digest BLOB NOT NULL, highest INTEGER NOT NULL, highest_digest BLOB NOT NULL, next INTEGER NOT NULL, as_of_ms INTEGER,"
    " erase INTEGER NOT NULL DEFAULT 0, box_key BLOB NOT NULL, covered INTEGER NOT NULL DEFAULT 0, healing INTEGER NOT NULL DEFAULT 0,"
    # erase: rows that left may still be read in the write-ahead log; healing: see node/healing.py
    # tables of which this version shows more than the one they were told in: asked for with the next pull
    " afresh TEXT,"  # each with that version
    " recalled INTEGER NOT NULL DEFAULT 0,"  # node/recalling.py
    " shown INTEGER NOT NULL DEFAULT 0,"
    " edge INTEGER NOT NULL DEFAULT 0)",  # of the window (schema/window.py)
    # sealed work, oldest first; chain_seq and digest are its place in the current incarnation's chain
    "CREATE TABLE IF NOT EXISTS _segment (seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, first INTEGER NOT NULL,"
    " transactions INTEGER NOT NULL, part INTEGER NOT NULL, chain_seq INTEGER NOT NULL, digest BLOB NOT NULL,"
    " rechained INTEGER NOT NULL DEFAULT 0, version INTEGER, boxed INTEGER NOT NULL DEFAULT 0, hash BLOB NOT NULL, again BLOB,"
    " body BLOB NOT NULL)",  # last: what is asked of a segment must not read through its body
    "CREATE INDEX IF NOT EXISTS _segment_unsent ON _segment (seq, part, transactions) WHERE version IS NULL",
    # settled work, until a backup covers it; what the lost history of a restored centre held is offered again from here
    "CREATE TABLE IF NOT EXISTS _retained (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, first INTEGER NOT NULL,"
    " transactions INTEGER NOT NULL, part INTEGER NOT NULL, box BLOB NOT NULL, hash BLOB NOT NULL, version INTEGER NOT NULL,"
    " chain_seq INTEGER NOT NULL, digest BLOB NOT NULL, exceptions BLOB NOT NULL, floor INTEGER)",  # of restores it came again after
    # pages as they were pulled, likewise; pull: the same for all of one pull, which hold whole transactions together; lost: of a
    # history the centre lost (2: it cannot read the page yet, 3: too large to be offered); offered: the version at which it had it again
    "CREATE TABLE IF NOT EXISTS _kept_page (number INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER NOT NULL, pull INTEGER NOT NULL,"
    " box BLOB NOT NULL, rows INTEGER NOT NULL, lost INTEGER NOT NULL DEFAULT 0, offered INTEGER)",
    # points of the centre's history this node has passed; those of the centre's backups are not forgotten for others
    "CREATE TABLE IF NOT EXISTS _point (version INTEGER PRIMARY KEY, digest BLOB NOT NULL, backup INTEGER NOT NULL)",
    # which row numbers of documents and events are a segment's, while the cursor does not cover it
    "CREATE TABLE IF NOT EXISTS _own (tbl TEXT NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL, segment BLOB NOT NULL,"
    " PRIMARY KEY (tbl, lo)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS _own_segment ON _own (segment)",
    # pending changes of rows that can change, and of held documents: to be replayed over what the centre sends
    "CREATE TABLE IF NOT EXISTS _op (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER NOT NULL, segment BLOB NOT NULL,"
    " txn INTEGER NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS _op_row ON _op (tbl, key)",
    "CREATE INDEX IF NOT EXISTS _op_segment ON _op (segment, txn)",
    # the centre's row under pending changes; image NULL: the centre has none
    "CREATE TABLE IF NOT EXISTS _shadow (tbl TEXT NOT NULL, key TEXT NOT NULL, image BLOB, PRIMARY KEY (tbl, key)) WITHOUT ROWID",
    # transactions that were not plainly accepted
    "CREATE TABLE IF NOT EXISTS _txn (segment BLOB NOT NULL, txn INTEGER NOT NULL, verdict TEXT NOT NULL, version INTEGER NOT NULL,"
    " code TEXT NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (segment, txn)) WITHOUT ROWID",
    # held work that transactions of ours take back, or take the place of, while it is not known what became of it
    "CREATE TABLE IF NOT EXISTS _withdrawal (segment BLOB NOT NULL, txn INTEGER NOT NULL, by_segment BLOB NOT NULL,"
    " by_txn INTEGER NOT NULL, replaced INTEGER NOT NULL, PRIMARY KEY (segment, txn, by_segment, by_txn)) WITHOUT ROWID",
    # changes that left what people see; n: as in _op, 0 for what a repair put here
    "CREATE TABLE IF NOT EXISTS _quarantine (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER NOT NULL, segment BLOB NOT NULL,"
    " txn INTEGER NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL, code TEXT NOT NULL,"
    " reason TEXT NOT NULL, at_ms INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS _conflict (id BLOB PRIMARY KEY, version INTEGER NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL,"
    " body BLOB NOT NULL, open INTEGER NOT NULL, deciding INTEGER NOT NULL DEFAULT 0)",
    "CREATE INDEX IF NOT EXISTS _conflict_row ON _conflict (tbl, key)",
    # pages of a pull that is not complete yet
    "CREATE TABLE IF NOT EXISTS _stage (number INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)",
    # since when this node is known to hold what the centre holds (node/proof.py)
    "CREATE TABLE IF NOT EXISTS _proof (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, proven_ms INTEGER, differing INTEGER)",
    # rows that a full verify found to differ, if they are not too many (node/proof.py)
    "CREATE TABLE IF NOT EXISTS _differs (tbl TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (tbl, key)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS _adopted (segment BLOB PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS _series (branch TEXT NOT NULL, till TEXT NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (branch, till))",
    # up to which row number the sales here were looked at for numbers given elsewhere; the letters of a series of this database's own
    "CREATE TABLE IF NOT EXISTS _numbering (id INTEGER PRIMARY KEY, seen INTEGER NOT NULL, own TEXT)",
    # what imports have brought (schema/importer/brought.py)
    brought.TABLE,
)

BOOKKEEPING = Bookkeeping("node", _TABLES)


SOUND, OFFERING, RELOAD = range(3)
"""How far the node is with what a restored centre lost: nothing to do; offering it again; taking the centre's rows anew."""


@dataclass(frozen=True, slots=True)
class State:
    """Who this node is and how far it has come. `acked` is the end of its own chain that the centre has confirmed."""

    node: str
    name: str
    url: str
    epoch: int
    incarnation: bytes
    registered: bool
    parent: bytes | None
    parent_last: Point
    acked: Point
    cursor: Point
    highest: Point
    next: int
    as_of_ms: int | None
    box_key: bytes
    covered: int  # versions up to here are in a backup of the centre's
    healing: int  # node/healing.py
    afresh: Mapping[str, int]  # tables to ask for from the beginning, and the version of the declaration they were told in
    shown: int  # the centre's version when these were shown
    edge: int  # of the window: what rolls is here from then on (schema/window.py)
    recalled: int  # segments with a lower number are about rows that were shown to the centre (node/recalling.py); 0: none was asked for

    @property
    def begin(self) -> Point:
        """Return where the next pull begins: at the cursor, or at the beginning where everything is taken anew."""
        return BEGINNING if self.healing == RELOAD else self.cursor


class Database:
    """One node's database. One writer at a time; used by one process besides foreign programs."""

    def __init__(self, path: Path, schema: Schema, clock_ms: Callable[[], int], dialect: Files | None = None) -> None:
        if not path.exists():
            raise NotJoined(cut_short(path) or f"There is no node here yet ({path}). Join one with: outpost node join URL CODE")
        self.path, self.schema, self.clock_ms = path, schema, clock_ms
        self.dialect: Files = dialect or Sqlite()
        self._lock = threading.RLock()
        self.connection: Connection = self.dialect.open(path)
        if self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_node'").fetchone() is None:
            self.connection.close()
            raise NotJoined(
                f"{path} is no node's database, or an empty one. If one was here, put its backup back: outpost node restore FILE. Else move"
                " it away, then join with: outpost node join URL CODE"
            )
        from node.upgrade import NodeKeeper  # it seals, and what seals needs this module

        try:
            install(self.connection, self.dialect, schema, BOOKKEEPING, NodeKeeper(clock_ms))
        except BaseException:
            self.connection.close()
            raise
        self.store = Store(self.connection, self.dialect, schema, number_tables(self.connection, schema))

    @contextmanager
    def writing(self) -> Iterator[Store]:
        """Run a block of the engine's own bookkeeping as one transaction. Any exception undoes it whole."""
        with self._lock:
            self.dialect.begin_write(self.connection)
            try:
                require_mine(self.connection, self.schema)
                yield self.store
                self.connection.commit()  # may fail too, on a full disk: the transaction must not stay open
            except BaseException:
                self.connection.rollback()
                raise

    @contextmanager
    def reading(self) -> Iterator[Store]:
        """Run a block on one snapshot that no writer waits for. Only temporary tables may be written in it."""
        with self._lock:
            try:
                self.dialect.begin_read(self.connection)
                yield self.store
                self.connection.commit()  # keeps temporary tables, and with them the schema and all that is compiled
            finally:
                self.connection.rollback()

    def state(self) -> State:
        """Return who this node is and how far it has come."""
        return read_state(self.connection)

    def has_changes(self) -> bool:
        """Tell whether any program wrote something that is not sealed yet."""
        return bool(Look(self.store))

    def erase(self) -> None:
        """Empty the write-ahead log if rows left since the last time: their pages are overwritten in the file, not in there.

        While another program reads, the log stays; the next exchange tries again.
        """
        if not self.connection.execute("SELECT erase FROM _node WHERE id = 1").fetchone()[0]:
            return
        with self._lock:
            if self.dialect.empty_log(self.connection):
                self.connection.execute("UPDATE _node SET erase = 0 WHERE id = 1")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self.connection.close()


def create(
    path: Path,
    schema: Schema,
    clock_ms: Callable[[], int],
    *,
    node: str,
    name: str,
    url: str,
    epoch: int,
    incarnation: bytes,
    box_key: bytes,
    rows: Path | None = None,
    begin: Callable[[Store], None] = lambda _store: None,
) -> Database:
    """Create the database of a node that has just joined, around the `rows` of a snapshot if it has one; `begin` notes what they are.

    Raises AlreadyThere. Killed at any point, it leaves no database, or a whole one.
    """
    if path.exists():
        raise AlreadyThere(f"There is a node here already ({path}). Name another folder by --home, or go on with: outpost node sync")
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = Sqlite().open(rows or path)
    install(connection, Sqlite(), schema, BOOKKEEPING)
    start = (BEGINNING.number, BEGINNING.digest)
    connection.execute(
        "INSERT INTO _node (id, node, name, url, epoch, incarnation, registered, acked_seq, acked_digest, cursor, cursor_digest, highest,"
        " highest_digest, next, box_key) VALUES (1, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, 1, ?)",
        (node, name, url, epoch, incarnation, *start, *start, *start, box_key),
    )
    if rows is not None:
        numbers = number_tables(connection, schema)
        begin(Store(connection, Sqlite(), schema, numbers))
        Sqlite().mark_all(connection, numbers)  # what came with the file is not this node's work
    connection.close()
    if rows is not None:
        to_disk(rows)
        rows.replace(path)
        to_disk(path.parent)
    return Database(path, schema, clock_ms)


_STATE = (
    "SELECT node, name, url, epoch, incarnation, registered, parent, parent_seq, parent_digest, acked_seq, acked_digest, cursor,"
    " cursor_digest, highest, highest_digest, next, as_of_ms, box_key, covered, healing, afresh, recalled, edge, shown"
    " FROM _node WHERE id = 1"
)


def read_state(connection: Connection) -> State:
    """Return the node's state. Raises NotJoined."""
    row: Any = connection.execute(_STATE).fetchone()
    if row is None:
        raise NotJoined("This database belongs to no node yet.")
    return State(
        node=row[0],
        name=row[1],
        url=row[2],
        epoch=row[3],
        incarnation=row[4],
        registered=bool(row[5]),
        parent=row[6],
        parent_last=Point(row[7] or 0, row[8] or bytes(32)),
        acked=Point(row[9], row[10]),
        cursor=Point(row[11], row[12]),
        highest=Point(row[13], row[14]),
        next=row[15],
        as_of_ms=row[16],
        box_key=row[17],
        covered=row[18],
        healing=row[19],
        afresh=json.loads(row[20]) if row[20] else {},
        recalled=row[21],
        edge=row[22],
        shown=row[23],
    )


def hear(store: Store, point: Point) -> None:
    """Remember the highest point of the centre's chain this node ever heard of (RULES H12)."""
    store.connection.execute(
        "UPDATE _node SET highest = ?, highest_digest = ? WHERE id = 1 AND highest < ?", (point.number, point.digest, point.number)
    )
