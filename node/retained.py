"""What the node keeps to offer again if the centre is restored from a backup: its own settled work and the pages it pulled,
until a backup covers them.

Kept in boxes that only the centre can open: rows in them may have left this node's scope since (RULES §4). Points of the
centre's history that the node has passed tell which of it a restored centre still has. Spec: PROTOCOL.md §7.7; RULES H11, H13.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from node.database import State, read_state
from node.pieces import pieces
from schema.capture import Store
from schema.images import pack_values, unpack_values
from sync import box
from sync.limits import POINTS_MAX
from sync.messages import Again, Exceptional, Page, Point

Verdicts = dict[int, list[Any]]
"""By transaction: verdict, version, code, reason. Of those that were not plainly accepted."""


def keep_segment(store: Store, segment: bytes) -> None:
    """Keep a segment that is being settled, unless a backup covers it already."""
    state = read_state(store.connection)
    sql = "SELECT seq, id, first, transactions, part, body, hash, version, chain_seq, digest, boxed, again FROM _segment WHERE id = ?"
    *columns, boxed, again = store.connection.execute(sql, (segment,)).fetchone()
    told = {**verdicts_of(store, segment), **disputed(again)}
    name = _name_of(store, segment)
    late, is_held = store.connection.execute(
        "SELECT COALESCE(MAX(version), 0), COALESCE(MAX(verdict = 'held'), 0) FROM _txn WHERE segment = ?", (name,)
    ).fetchone()
    was_held = name != segment and any(verdict[0] == "held" for verdict in _disputed_of(store, name).values())
    is_held = is_held or was_held or any(verdict[0] == "held" for verdict in told.values())
    if name != segment:
        columns[7] = max(columns[7], late)  # it goes with its last part, whatever becomes of that
    if max(columns[7], late) <= state.covered and not is_held:
        return
    if not boxed:
        columns[5] = box.close(state.box_key, columns[5])
    store.connection.execute(
        "INSERT OR REPLACE INTO _retained (seq, id, first, transactions, part, box, hash, version, chain_seq, digest, exceptions, floor)"
        f" VALUES ({', '.join('?' * 12)})",
        (*columns, pack_values(told), floor_of(again)),
    )


def _name_of(store: Store, segment: bytes) -> bytes:
    """Return the segment that a part's transaction is named by: its last part; any other segment itself."""
    sql = "SELECT l.id FROM _segment s JOIN _segment l ON l.first = s.first AND l.part = 2 AND l.seq > s.seq WHERE s.id = ? AND s.part = 1"
    row = store.connection.execute(f"{sql} ORDER BY l.seq LIMIT 1", (segment,)).fetchone()
    return row[0] if row else segment


def _disputed_of(store: Store, segment: bytes) -> Verdicts:
    return disputed(store.connection.execute("SELECT again FROM _segment WHERE id = ?", (segment,)).fetchone()[0])


def verdicts_of(store: Store, segment: bytes) -> Verdicts:
    """Return what is known of a segment's transactions that were not plainly accepted."""
    sql = "SELECT txn, verdict, version, code, reason FROM _txn WHERE segment = ? AND verdict <> 'accepted'"
    return {txn: list(verdict) for txn, *verdict in store.connection.execute(sql, (segment,)).fetchall()}


def floor_of(again: bytes | None) -> int | None:
    """Return the least version that a segment's history shared with the ones before it; None where it never came again."""
    return unpack_values(again)[1] if again is not None else None


def disputed(again: bytes | None) -> Verdicts:
    """Return what had become of a segment in an earlier life of the centre: once disputed, always disputed (RULES H14)."""
    return unpack_values(again)[2] if again is not None else {}


def judged(store: Store, segment: bytes, index: int, version: int) -> None:
    """Note the late verdict on a transaction of a segment that is kept: a backup must cover it too."""
    row = store.connection.execute("SELECT exceptions FROM _retained WHERE id = ?", (segment,)).fetchone()
    if row is None:
        return
    found = unpack_values(row[0])
    found.pop(index, None)
    found.update({txn: verdict for txn, verdict in verdicts_of(store, segment).items() if txn == index})
    sql = "UPDATE _retained SET version = MAX(version, ?), exceptions = ? WHERE id = ?"
    store.connection.execute(sql, (version, pack_values(found), segment))
    parts = "part = 1 AND first = (SELECT first FROM _retained WHERE id = ? AND part = 2)"  # a transaction in parts goes together
    store.connection.execute(f"UPDATE _retained SET version = MAX(version, ?) WHERE {parts}", (version, segment))


def begin_pull(store: Store) -> int:
    """Return what the pages of one pull are kept under, none of them being kept yet."""
    return int(store.connection.execute("SELECT COALESCE(MAX(number), 0) FROM _kept_page").fetchone()[0])


def keep_page(store: Store, state: State, page: Page, pull: int, body: bytes | None = None) -> None:
    """Keep a page (also as bytes, where it has them already) of a pull that is being applied, unless a backup covers it: in pieces that
    can be offered, for nobody here can open a box to divide it.
    """
    if page.head > state.covered:
        for piece, rows in pieces(page, store.schema.rank, body):
            values = (page.head, pull, box.close(state.box_key, piece), rows)
            store.connection.execute("INSERT INTO _kept_page (version, pull, box, rows) VALUES (?, ?, ?, ?)", values)


def pass_points(store: Store, points: Iterable[Point], *, backup: bool = False) -> None:
    """Remember points of the centre's history. Of too many the oldest are forgotten, those of backups apart from others."""
    store.connection.executemany(
        "INSERT INTO _point (version, digest, backup) VALUES (?, ?, ?) ON CONFLICT (version)"
        " DO UPDATE SET digest = excluded.digest, backup = max(backup, excluded.backup)",
        [(point.number, point.digest, backup) for point in points],
    )
    oldest = "SELECT version FROM _point WHERE backup = ? ORDER BY version DESC LIMIT 1 OFFSET ?"
    sql = f"DELETE FROM _point WHERE backup = ? AND version <= ({oldest})"
    store.connection.execute(sql, (backup, backup, POINTS_MAX // 2 - 2))


def points(store: Store) -> tuple[Point, ...]:
    """Return the points remembered, oldest first."""
    return tuple(Point(*row) for row in store.connection.execute("SELECT version, digest FROM _point ORDER BY version").fetchall())


def forget(store: Store, covered: int) -> None:
    """Drop what a backup covers, all but work that is still held, and all points before it but the last."""
    connection = store.connection
    held = "SELECT segment FROM _txn WHERE verdict = 'held'"
    parts = f"part = 1 AND first IN (SELECT first FROM _retained WHERE part = 2 AND id IN ({held}))"
    connection.execute(f"DELETE FROM _retained WHERE version <= ? AND id NOT IN ({held}) AND NOT ({parts})", (covered,))
    connection.execute("DELETE FROM _kept_page WHERE CASE WHEN lost THEN offered ELSE version END <= ?", (covered,))
    connection.execute("DELETE FROM _point WHERE version < (SELECT MAX(version) FROM _point WHERE version <= ?)", (covered,))
    connection.execute("UPDATE _node SET covered = MAX(covered, ?) WHERE id = 1", (covered,))


def message_of(again: bytes | None, boxed: bool) -> Again | None:
    """Return what goes with a segment when it is sent; reasons are for people, and there may be tens of thousands."""
    if again is None:
        return None
    version, floor, verdicts = unpack_values(again)
    exceptions = tuple(Exceptional(txn, verdict, heard, code, "") for txn, (verdict, heard, code, _) in sorted(verdicts.items()))
    return Again(version, floor, boxed, exceptions)
