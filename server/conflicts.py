"""Conflicts: both values of every concurrent change, kept until someone decides and for ever after.

A conflict is open while it waits for a person (policy `ask`); one that a rule decided is on record, closed, and either
side can still be taken. A decision is an ordinary change that names the conflict (PROTOCOL.md §6.5).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from schema.capture import Store, read_among
from schema.declare import Table
from schema.images import pack_tuple, unpack_tuple
from schema.keys import cell_json, column_json, key_json, key_parts, key_text
from server import scopes
from server.draft import PAGE_BYTES
from sync.encoding import encode_column
from sync.limits import ROW_BYTES_MAX
from sync.messages import ConflictNotice, Values
from sync.rows import values_of

CENTRE_NODE = 0
RESTORED = "restored"
"""The rule of a conflict between what a node kept of a lost history and what stands at the restored centre (RULES H15)."""
_SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two sides of one cell (or, with no columns, of a whole row). None stands for a deletion."""

    table: str
    key: tuple[Any, ...]
    columns: tuple[str, ...]
    base: Sequence[Any] | None
    mine: Sequence[Any] | None
    theirs: Sequence[Any] | None
    rule: str
    winner: str
    open: bool
    mine_node: int
    theirs_node: int


def record(store: Store, conflict: Conflict, version: int, at_ms: int, seed: bytes) -> bool:
    """Keep a conflict; False if it is on record. Its id follows from what it is about, so that the same push records it once."""
    number = _id(seed, (conflict.table, conflict.key, conflict.columns))
    if store.connection.execute(_RECORD, _line(conflict, number, version, at_ms)).rowcount == 0:
        return False
    rid = scopes.rid_of(store, store.schema.by_name[conflict.table], conflict.key)
    if rid is not None:
        store.connection.execute(_ABOUT, (number, rid))
    return True


@dataclass(frozen=True, slots=True)
class Found:
    """A conflict, the `seed` of the transaction that it was found in, and the number of the row it is about, which is there."""

    conflict: Conflict
    seed: bytes
    rid: int


def record_many(store: Store, found: Sequence[Found], version: int, at_ms: int) -> None:
    """Keep conflicts, each about something else, as `record` does one by one."""
    named = [(each, _id(each.seed, (each.conflict.table, each.conflict.key, each.conflict.columns))) for each in found]
    there = {row[0] for row in read_among(store, "SELECT id FROM _conflict WHERE id", [], [number for _, number in named])}
    new = [(each, number) for each, number in named if number not in there]
    store.connection.executemany(_RECORD, [_line(each.conflict, number, version, at_ms) for each, number in new])
    store.connection.executemany(_ABOUT, [(number, each.rid) for each, number in new])


_RECORD = (
    "INSERT INTO _conflict (id, ver, tbl, key, columns, base, mine, theirs, rule, winner, open, mine_node, theirs_node,"
    " at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)
_ABOUT = "INSERT INTO _about (conflict, rid) VALUES (?, ?)"


def _line(conflict: Conflict, number: bytes, version: int, at_ms: int) -> tuple[object, ...]:
    return (
        number,
        version,
        conflict.table,
        key_text(conflict.key),
        json.dumps(conflict.columns),
        pack_tuple(conflict.base),
        pack_tuple(conflict.mine),
        pack_tuple(conflict.theirs),
        conflict.rule,
        conflict.winner,
        int(conflict.open),
        conflict.mine_node,
        conflict.theirs_node,
        at_ms,
    )


def _id(seed: bytes, about: tuple[str, Sequence[Any], tuple[str, ...]]) -> bytes:
    return sha256(seed + repr(about).encode()).digest()[:16]


def came_back(store: Store, seed: bytes, about: tuple[str, Sequence[Any], tuple[str, ...]], version: int) -> None:
    """Tell of a value (table, key, columns) that was put on record beside nothing that it stands now."""
    store.connection.execute("UPDATE _conflict SET winner = 'mine', ver = ? WHERE id = ?", (version, _id(seed, about)))


def had_left(store: Store, table: Table, key: Sequence[Any], column: str, since: int) -> bool:
    """Tell whether it came on record after a version that a row, in a lost history of the centre, hung elsewhere by this column: who
    knew that history may not know that it hangs here.
    """
    sql = "SELECT columns FROM _conflict WHERE tbl = ? AND key = ? AND rule = ? AND ver > ?"
    found = store.connection.execute(sql, (table.name, key_text(tuple(key)), RESTORED, since)).fetchall()
    return any(column in json.loads(columns) for (columns,) in found)


_COLUMNS = (
    "c.id, c.ver, c.tbl, c.key, c.columns, c.base, c.mine, c.theirs, c.rule, c.winner, c.open, c.mine_node, c.theirs_node, c.at_ms,"
    " COALESCE(m.name, 'centre'), COALESCE(o.name, 'centre'), c.decided_ms, COALESCE(d.name, 'centre'),"
    " c.decided, a.rid"
)
_JOINS = (
    "LEFT JOIN _node m ON m.node = c.mine_node LEFT JOIN _node o ON o.node = c.theirs_node LEFT JOIN _node d ON d.node = c.decided_node"
    " LEFT JOIN _about a ON a.conflict = c.id"
)


def notices(
    store: Store, node: int, scope: frozenset[str], start: tuple[int, int], high: int, limit: int, room: int | None
) -> tuple[list[ConflictNotice], tuple[int, int], int, bool]:
    """Return what a node is told of conflicts its edits took part in, rows in its scope only: up to `limit` of them and `room`
    bytes of values (None: one at least), behind a place (`start`: version, number) up to version `high`. Also the place of the last
    that was looked at, the bytes, and whether there are more.
    """
    rows = store.connection.execute(
        f"SELECT {_COLUMNS}, c.number FROM _conflict c {_JOINS} WHERE c.ver >= ?1 AND c.ver <= ?2 AND (c.ver > ?1 OR c.number > ?3)"
        " AND (c.mine_node = ?4 OR c.theirs_node = ?4) ORDER BY c.ver, c.number LIMIT ?5",
        (start[0], high, start[1], node, limit + 1),
    )
    looked, size, more = _up_to(rows, limit, room)
    found = [_notice(store, row, node) for row in looked if _is_told(row) and _in_scope(store, row, scope)]
    return found, (looked[-1][1], looked[-1][-1]) if looked else start, size, more


def notices_of_row(
    store: Store, node: int, table: Table, key: tuple[Any, ...], span: tuple[int, int], limit: int, room: int | None
) -> tuple[list[ConflictNotice], int, int, bool]:
    """Return what a node is told again of a row that it may not have had for a while: up to `limit` conflicts and `room` bytes of
    values (None: one at least), behind a conflict's number and up to a version (`span`). Also the number of the last, the bytes, and
    whether there are more.
    """
    rows = store.connection.execute(
        f"SELECT {_COLUMNS}, c.number FROM _conflict c {_JOINS} WHERE c.tbl = ?1 AND c.key = ?2 AND c.number > ?3 AND c.ver <= ?4"
        " AND (c.mine_node = ?5 OR c.theirs_node = ?5) ORDER BY c.number LIMIT ?6",
        (table.name, key_text(key), *span, node, limit + 1),
    )
    looked, size, more = _up_to(rows, limit, room)
    found = [_notice(store, row, node) for row in looked if _is_told(row) and living(store, row[2], row[3], row[19]) is not None]
    return found, looked[-1][-1] if looked else span[0], size, more


def _up_to(rows: Iterable[Sequence[Any]], limit: int, room: int | None) -> tuple[list[Sequence[Any]], int, bool]:
    """Return the first conflicts that go into `limit` and `room` bytes (None: one at least), their bytes, and whether more follow."""
    taken, size = list[Sequence[Any]](), 0
    for each in rows:
        row = each if _bytes(each) <= ROW_BYTES_MAX else (*each[:5], None, *each[6:])  # both sides before what was before both
        more = _bytes(row) if _is_told(row) else 0
        if len(taken) == limit or (size + more > (PAGE_BYTES if room is None else room) and (taken or room is not None)):
            return taken, size, True
        taken.append(row)
        size += more
    return taken, size, False


def _bytes(row: Sequence[Any]) -> int:
    return sum(len(image) for image in row[5:8] if image is not None)


def _is_told(row: Sequence[Any]) -> bool:
    """Tell whether a page can hold a conflict at all."""
    return _bytes(row) <= ROW_BYTES_MAX


def disputed(store: Store, table: Table) -> bool:
    """Tell whether any row of a table was ever in conflict."""
    return bool(store.once("SELECT 1 FROM _conflict WHERE tbl = ? LIMIT 1", (table.name,)))


def _in_scope(store: Store, row: Sequence[Any], scope: frozenset[str]) -> bool:
    rid = living(store, row[2], row[3], row[19])
    return rid is not None and not scope.isdisjoint(scopes.keys_of(store, store.schema.by_name[row[2]], rid))


def _notice(store: Store, row: Sequence[Any], node: int) -> ConflictNotice:
    table = store.schema.by_name[row[2]]
    mine, theirs, winner = unpack_tuple(row[6]), unpack_tuple(row[7]), row[9]
    mine_by, theirs_by = row[14], row[15]
    if row[11] != node:
        mine, theirs, winner = theirs, mine, "theirs" if winner == "mine" else "mine"
        mine_by, theirs_by = theirs_by, mine_by
    return ConflictNotice(
        id=row[0],
        version=row[1],
        table=row[2],
        key=Values(len(table.key), encode_column(key_parts(row[3], len(table.key)))),
        columns=tuple(json.loads(row[4])),
        base=values_of(unpack_tuple(row[5])),
        mine=values_of(mine),
        theirs=values_of(theirs),
        rule=row[8],
        winner=winner,
        open=bool(row[10]),
        mine_by=mine_by,
        theirs_by=theirs_by,
        at_ms=row[13],
        why=why(store, table, row),
    )


def why(store: Store, table: Table, row: Sequence[Any]) -> str:
    """Say in words who wrote what and which rule decided."""
    mine_by, theirs_by, rule = row[14], row[15], row[8]
    stands = mine_by if row[9] == "mine" else theirs_by
    if row[16] is not None:
        neither = unpack_tuple(row[18])
        return f"decided by {row[17]}" + (f": {_shown(neither)}" if neither is not None else "")
    if rule == RESTORED:
        return f"the centre was restored, so nobody can tell which is later, {mine_by}'s or {theirs_by}'s: {stands}'s value stands"
    if row[10]:
        return f"{mine_by} and {theirs_by} changed it without knowing of each other; {stands}'s value stands until someone decides"
    return f"{mine_by} and {theirs_by} changed it without knowing of each other; rule '{rule}': {stands}'s value stands"


def _shown(values: Sequence[Any]) -> str:
    text = ", ".join("empty" if value in (None, "") else str(value) for value in values)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def waiting(store: Store, node: int | None = None) -> int:
    """Return how many conflicts wait for a person, of a node or of all: nobody is asked about a row that is gone."""
    sql = "SELECT c.tbl, c.key, a.rid FROM _conflict c LEFT JOIN _about a ON a.conflict = c.id WHERE c.open = 1"
    if node is not None:
        sql += " AND (c.mine_node = ?1 OR c.theirs_node = ?1)"
    rows = store.connection.execute(sql, () if node is None else (node,)).fetchall()
    return sum(living(store, *about) is not None for about in rows)


def living(store: Store, name: str, key: str, about: int | None) -> int | None:
    """Return the number of the row that a conflict is about, or None if it is gone: a later life of its key is another row.

    `about`: its number when the conflict was recorded; None: it was not there then, or nobody kept it, so any life is meant.
    """
    table = store.schema.by_name[name]
    rid = scopes.rid_of(store, table, key_parts(key, len(table.key)))
    return rid if about is None or rid == about else None


def listing(store: Store, only_open: bool = False) -> list[dict[str, object]]:
    """Return all conflicts for the centre, newest first: `mine` is the value pushed, `theirs` what stood; or those that wait for a
    person.
    """
    every = store.connection.execute(
        f"SELECT {_COLUMNS} FROM _conflict c {_JOINS} WHERE c.open >= ? ORDER BY c.ver DESC, c.id", (int(only_open),)
    ).fetchall()
    rows = [row for row in every if not only_open or living(store, row[2], row[3], row[19]) is not None]
    return [
        {
            "id": row[0].hex(),
            "version": row[1],
            "table": row[2],
            "key": key_json(key_parts(row[3], len(store.schema.by_name[row[2]].key))),
            "column": column_json(json.loads(row[4])),
            "base": cell_json(unpack_tuple(row[5])),
            "mine": cell_json(unpack_tuple(row[6])),
            "theirs": cell_json(unpack_tuple(row[7])),
            "mine_by": row[14],
            "theirs_by": row[15],
            "rule": row[8],
            "winner": row[9],
            "open": bool(row[10]),
            "at_ms": row[13],
            "why": why(store, store.schema.by_name[row[2]], row),
        }
        for row in rows
    ]
