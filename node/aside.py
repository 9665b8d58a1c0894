"""Aside: work that left what people see, refused or withdrawn, kept whole until somebody has dealt with it.

What was put aside in one life of the centre may wait again, or be let in, in another: then it is forgotten here.
"""

from __future__ import annotations

from node import pending
from schema.capture import Store

HELD, REFUSED, WITHDRAWN = "held", "refused", "withdrawn"

REPLACED = "replaced"
"""The code of withdrawn work whose place a correction has taken."""

BY_REPAIR = "verify"
"""The code of a row that a repair put aside as it was here."""


def put_aside(
    store: Store, name: tuple[bytes, int], code: str, reason: str, now_ms: int, successor: tuple[bytes, int] | None = None
) -> None:
    """Keep what was refused or withdrawn where it can be found; its changes go on in the successor, or leave what people see."""
    rows = store.connection.execute("SELECT tbl, key FROM _op WHERE segment = ? AND txn = ?", name).fetchall()
    store.connection.execute("DELETE FROM _quarantine WHERE segment = ? AND txn = ?", name)  # of an earlier life of the centre
    store.connection.execute(
        "INSERT INTO _quarantine (n, segment, txn, tbl, key, kind, body, code, reason, at_ms)"
        " SELECT n, segment, txn, tbl, key, kind, body, ?, ?, ? FROM _op WHERE segment = ? AND txn = ? ORDER BY n, id",
        (code, reason, now_ms, *name),
    )
    if successor is not None:
        store.connection.execute("UPDATE _op SET segment = ?, txn = ? WHERE segment = ? AND txn = ?", (*successor, *name))
    else:
        store.connection.execute("DELETE FROM _op WHERE segment = ? AND txn = ?", name)
    for table, key in rows:  # at once: work on the same row that is settled next builds on what people see
        pending.redraw(store, store.schema.by_name[table], key)


def is_aside(store: Store, segment: bytes, index: int) -> bool:
    """Tell whether all of a transaction was put aside before."""
    sql = "SELECT EXISTS (SELECT 1 FROM {} WHERE segment = ?1 AND txn = ?2)"
    aside, pending_here = (store.connection.execute(sql.format(name), (segment, index)).fetchone()[0] for name in ("_quarantine", "_op"))
    return bool(aside and not pending_here)


def bring_back(store: Store, segment: bytes, which: str) -> None:
    """Forget that work was put aside: that was in an earlier life of the centre, and in this one it waits again, or is in."""
    store.connection.execute(f"DELETE FROM _quarantine WHERE segment = ? AND {which}", (segment,))


def counted(store: Store) -> int:
    """Return how many refused transactions, and rows a repair put aside, are kept here that nobody has dealt with yet."""
    sql = "SELECT COUNT(*) FROM (SELECT DISTINCT segment, txn FROM _quarantine WHERE code NOT IN (?, ?))"
    return int(store.connection.execute(sql, (REPLACED, WITHDRAWN)).fetchone()[0])
