"""Proof: the end of every sync. Do we hold what the centre holds, of everything that changed since the last time?

The last page carries digests of the rows that were told or that our own work changed, as the centre has them (server/proof.py).
We compare them with ours in the commit that applies them. Whoever was equal before, and is equal in all that changed since, is
equal: the cost follows what changed. What does not agree, or was never compared, is for a full verify (node/cycle.py).
Spec: PROTOCOL.md P-8.17.
"""

from __future__ import annotations

from dataclasses import dataclass

from node import centre, changed, skew
from node.narrow import Narrowing
from node.pending import number_of_row
from schema.capture import Store
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import quote
from schema.digests import Part, digest_of_rows
from schema.keys import key_parts
from schema.lens import Lens
from sync.digest import RowsDigest
from sync.messages import Proof, TableDigest

NAMED_ROWS = 1_000
"""Rows known to differ that are remembered by name."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of this node against the centre. `differing`: rows that differ, None where that is not known."""

    version: int
    proven_ms: int | None  # when both were last seen to be identical
    differing: int | None

    def document(self) -> dict[str, object]:
        """Return it as `outpost node status --json` prints it."""
        return {"identical": self.is_proven, "identical_ms": self.proven_ms, "differing": self.differing}

    @property
    def is_proven(self) -> bool:
        """Tell whether the node holds exactly what the centre held at `version`."""
        return self.differing == 0 and self.proven_ms is not None


def standing(store: Store) -> Standing:
    """Return what is known."""
    row = store.connection.execute("SELECT version, proven_ms, differing FROM _proof WHERE id = 1").fetchone()
    return Standing(*row) if row else Standing(0, None, None)


def note(store: Store, version: int, differing: int | None, now_ms: int) -> None:
    """Note how a comparison at a version went."""
    store.connection.execute(
        "INSERT INTO _proof (id, version, proven_ms, differing) VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " version = excluded.version, proven_ms = COALESCE(excluded.proven_ms, proven_ms), differing = excluded.differing",
        (version, now_ms if differing == 0 else None, differing),
    )


def begin_at(store: Store, version: int) -> None:
    """Begin with what the centre held at a version, told as a file: equal, by the file's digest, but not seen to be so row by row."""
    store.connection.execute("INSERT OR REPLACE INTO _proof (id, version, proven_ms, differing) VALUES (1, ?, NULL, 0)", (version,))


def note_found(found: Narrowing, now_ms: int) -> None:
    """Note what a full verify found, with the names of the rows that differ if they are not too many."""
    with found.database.writing() as store:
        store.connection.execute("DELETE FROM _differs")
        store.connection.execute("INSERT INTO _differs (tbl, key) SELECT tbl, key FROM temp._difference LIMIT ?", (NAMED_ROWS,))
        note(store, found.state.cursor.number, found.count(), now_ms)


def check(store: Store, told: Proof | None, lens: Lens | None, since: int, version: int, now_ms: int) -> bool:
    """Compare what an apply changed with what the centre says of it, and note it; tell whether what differs is known.

    Rows that were known to differ and were told now differ no more, if all that was told agrees. The others still do, and are not
    looked at again. Where too many differ to know them by name, a change leads to a full verify. `lens`: how to read an older centre.
    """
    before = standing(store)
    known = before.differing if before.version == since else None
    if since == 0 and known is None:  # at the beginning, or when all is taken anew, nothing can differ yet
        known = 0
    if known and since and not changed.is_nothing(store):
        known = _still_differing(store, known)
    agrees = told is not None and known is not None and _agrees(store, told, lens)
    note(store, version, known if agrees else None, now_ms)
    return agrees


def _still_differing(store: Store, known: int) -> int | None:
    """Return how many of the rows that are known to differ were not told now, and forget the others; None if not all are known."""
    rows = store.connection.execute("SELECT tbl, key FROM _differs").fetchall()
    if len(rows) != known:
        return None
    told = [(name, key) for name, key in rows if name not in store.schema.by_name or _is_told(store, store.schema.by_name[name], key)]
    store.connection.executemany("DELETE FROM _differs WHERE tbl = ? AND key = ?", told)
    return known - len(told)


def _is_told(store: Store, table: Table, key: str) -> bool:
    place = (table.name, key)
    if store.connection.execute("SELECT 1 FROM temp._told_key WHERE tbl = ? AND key = ? LIMIT 1", place).fetchone():
        return True
    rid = number_of_row(store, table, key_parts(key, len(table.key)))
    runs = "SELECT 1 FROM temp._told_run WHERE tbl = ? AND ? BETWEEN lo AND hi LIMIT 1"
    return rid is not None and store.connection.execute(runs, (table.name, rid)).fetchone() is not None


def _agrees(store: Store, told: Proof, lens: Lens | None) -> bool:
    whole = frozenset(told.whole)
    if not all(_is_whole(store, segment) for segment in whole):
        return False
    theirs: dict[str, TableDigest] = {entry.table: entry for entry in told.tables}
    if not theirs.keys() <= store.schema.by_name.keys():
        return False
    if not told.tables and changed.is_nothing(store):
        return True
    for whole_table in store.schema.tables:
        nothing = TableDigest(whole_table.name, 0, RowsDigest(whole_table.name).digest())
        entry = theirs.get(whole_table.name, nothing)
        table = skew.as_compared(whole_table, lens, entry.columns) if entry.rows else whole_table
        if table is None or _changed(store, table, whole) != (entry.rows, entry.digest):
            return False
    return True


def _is_whole(store: Store, segment: bytes) -> bool:
    """Tell whether all rows of a segment that the centre has as it was pushed are here."""
    connection = store.connection
    runs = connection.execute("SELECT tbl, lo, hi FROM temp._told_run WHERE segment = ?", (segment,)).fetchall()
    for name, low, high in runs:
        sql = f"SELECT COUNT(*) FROM {quote(name)} WHERE {ROW_ID} BETWEEN ? AND ?"
        if connection.execute(sql, (low, high)).fetchone()[0] != high - low + 1:
            return False
    keys = "SELECT 1 FROM temp._told_key WHERE segment = ? LIMIT 1"
    return bool(runs) or connection.execute(keys, (segment,)).fetchone() is not None


def _changed(store: Store, table: Table, whole: frozenset[bytes]) -> tuple[int, bytes]:
    """Return the number and digest of the centre's rows among those that changed, but for those of whole segments."""
    connection = store.connection
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS _told_rid (rid INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM temp._told_rid")
    runs = connection.execute("SELECT lo, hi, segment FROM temp._told_run WHERE tbl = ?", (table.name,)).fetchall()
    for low, high, segment in runs:
        if segment not in whole:
            sql = f"INSERT OR IGNORE INTO temp._told_rid SELECT {ROW_ID} FROM {quote(table.name)} WHERE {ROW_ID} BETWEEN ? AND ?"
            connection.execute(sql, (low, high))
    has_keys = connection.execute("SELECT 1 FROM temp._told_key WHERE tbl = ? LIMIT 1", (table.name,)).fetchone()
    if not has_keys and not runs:
        return 0, RowsDigest(table.name).digest()
    connection.executemany("DELETE FROM temp._told_key WHERE tbl = ? AND segment = ?", [(table.name, segment) for segment in whole])
    _find_rows(store, table)
    visible, *under = centre.parts(store, store.schema.by_name[table.name])
    keys = f"r.{quote(centre.KEY)} IN (SELECT key FROM temp._told_key WHERE tbl = ?)"
    told = [Part(part.source, keys, (table.name,)) for part in under]
    return digest_of_rows(store, table, [visible], "temp._told_rid", told)


def _find_rows(store: Store, table: Table) -> None:
    """Put the numbers of the rows that were noted by key with the others: all at once, but for keys that are not clean text."""
    connection, fill = store.connection, "INSERT OR IGNORE INTO temp._told_rid"
    if len(table.key) == 1:  # the key is its own text
        odd, parts = "key >= char(0) AND key < char(1)", ["k.key"]
    else:
        odd, parts = "instr(key, '\\u0000') > 0", [f"json_extract(k.key, '$[{place}]')" for place in range(len(table.key))]
    on = " AND ".join(f"r.{quote(name)} = {part}" for name, part in zip(table.key, parts, strict=True))
    source = f"temp._told_key k CROSS JOIN {quote(table.name)} r ON {on}"
    connection.execute(f"{fill} SELECT r.{ROW_ID} FROM {source} WHERE k.tbl = ?", (table.name,))
    keys = connection.execute(f"SELECT DISTINCT key FROM temp._told_key WHERE tbl = ? AND {odd}", (table.name,)).fetchall()
    found = [number_of_row(store, table, key_parts(key, len(table.key))) for (key,) in keys]
    connection.executemany(f"{fill} (rid) VALUES (?)", [(rid,) for rid in found if rid is not None])
