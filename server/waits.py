"""What held work waits for, and how the centre tells that it may have come: never by trying again and again.

Held work names the row it waits for, and keeps what it saw of that row when it was last tried. It is tried again when it would
see something else, and at no other time: so every try has a cause, and tries end when causes do. Spec: PROTOCOL.md §6.3.
"""

from __future__ import annotations

from collections.abc import Iterable

from schema.capture import Store
from schema.declare import Table
from schema.dialects.base import ROW_ID
from schema.dialects.sqlite import literal, quote
from schema.keys import key_text
from server.scope_sql import row_keys
from sync.change import Delete, Insert, Op, Update

_BETWEEN = "\x1f"
"""Between two values in one text."""

RIGHTS = ("right", "key")
"""Codes of work that waits for the node to be entitled to a row, or for the row to move or die."""

ROWS = ("parent", "row")
"""Codes of work that waits for a row to be there."""

DECLARED = ("schema", "type", "null", "check")
"""Codes of work that another version of the declaration may let pass."""


def candidates(store: Store, after: int, until: int, limit: int) -> list[int]:
    """Return the numbers of held work whose cause may have come, of those behind `after` up to `until`; at most `limit`, in order.

    One statement, however much is held: a node's push pays some microseconds for each, not queries.
    """
    moved = f"SELECT s.id FROM ({_now_sql(store)}) s LEFT JOIN _waits w ON w.held = s.id WHERE s.now <> COALESCE(w.saw, '')"
    rows = store.connection.execute(f"{moved} UNION ALL {_FREE} ORDER BY 1 LIMIT ?3", (after, until, limit))
    return [row[0] for row in rows]


def may_go(store: Store, held: int) -> bool:
    """Tell whether what held work waits for may have come."""
    sql = f"SELECT s.id FROM ({_now_sql(store, held)}) s LEFT JOIN _waits w ON w.held = s.id WHERE s.now <> COALESCE(w.saw, '')"
    return store.connection.execute(f"{sql} UNION ALL {_FREE}", (held - 1, held)).fetchone() is not None


def waiting_on(store: Store, rows: Iterable[tuple[str, str]], after: int, until: int, limit: int) -> list[int]:
    """Return the numbers of held work that waits for one of these rows, of those behind `after` up to `until`; at most `limit`."""
    sql = "SELECT id FROM _held WHERE wait_tbl = ? AND wait_key = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?"
    found: list[int] = []
    for table, key in rows:
        found += [row[0] for row in store.connection.execute(sql, (table, key, after, until, limit - len(found)))]
        if len(found) == limit:
            break
    return found


def note(store: Store, held: int) -> None:
    """Keep what held work sees now of what it waits for."""
    sql = (
        f"INSERT INTO _waits (held, saw) SELECT ?2, COALESCE((SELECT s.now FROM ({_now_sql(store, held)}) s), '') WHERE 1 = 1"
        " ON CONFLICT (held) DO UPDATE SET saw = excluded.saw"
    )
    store.connection.execute(sql, (held - 1, held))


_FREE = (
    "SELECT h.id FROM _held h WHERE h.id > ?1 AND h.id <= ?2 AND h.code = 'depends' AND NOT EXISTS"
    " (SELECT 1 FROM _held_row r WHERE r.node = h.node AND r.tbl = h.wait_tbl AND r.key = h.wait_key AND r.held < h.id)"
)

_ENTITLED = (
    f"CASE WHEN h.code IN {RIGHTS} THEN (SELECT COALESCE(MAX(since), 0) || ' ' || COALESCE(MAX(until), 0) || ' ' FROM _entitled e"
    " WHERE e.node = h.node) ELSE '' END"
)

_GONE = (
    "COALESCE((SELECT 'dead ' || MAX(ver) FROM _tombstone WHERE t = {t} AND key = h.wait_key),"
    " (SELECT 'refused' FROM _refused_key d WHERE d.node = h.node AND d.tbl = h.wait_tbl AND d.key = h.wait_key),"
    " (SELECT 'withdrawn' FROM _given_up g WHERE g.node = h.node AND g.tbl = h.wait_tbl AND g.key = h.wait_key), '')"
)


def _now_sql(store: Store, one: int | None = None) -> str:
    """Return SQL yielding (id, now): what held work sees; equal texts mean that trying again would end as it did. `one`: of one only.

    The texts never leave the database: scope columns that central programs wrote need not be clean.
    """
    sql = "SELECT DISTINCT wait_tbl FROM _held WHERE wait_tbl IS NOT NULL" if one is None else "SELECT wait_tbl FROM _held WHERE id = ?"
    tables = [
        table
        for (name,) in store.connection.execute(sql, () if one is None else (one,))
        if (table := store.schema.by_name.get(name or "")) is not None
    ]
    named = ", ".join(literal(table.name) for table in tables) or "''"
    here = "+h.id > ?1 AND +h.id <= ?2 AND" if one is None else "h.id = ?2 AND ?1 < ?2 AND"  # +: found by table, not by number
    parts = [f"SELECT h.id AS id, 'schema {store.schema.digest_number}' AS now FROM _held h WHERE {here} h.code IN {DECLARED}"]
    parts.append(
        f"SELECT h.id, {_ENTITLED} FROM _held h WHERE {here} h.code IN {RIGHTS} AND (h.wait_tbl IS NULL OR h.wait_tbl NOT IN ({named}))"
    )
    parts += [f"{_row_sql(store, table)} WHERE {here} h.wait_tbl = {literal(table.name)} AND h.code IN {RIGHTS + ROWS}" for table in tables]
    return " UNION ALL ".join(parts)


def _row_sql(store: Store, table: Table) -> str:
    """Return what work sees that waits for a row of a table: where that lives, when it died, or why it will not come."""
    keys, joins = row_keys(store.schema, table.name)
    where = f" || {literal(_BETWEEN)} || ".join(f"COALESCE({key}, '')" for key in keys)
    here = f"'here ' || r0.{ROW_ID} || ' ' || {where}"
    parts = ["h.wait_key"] if len(table.key) == 1 else [store.dialect.part_of("h.wait_key", place) for place in range(len(table.key))]
    found = " AND ".join(f"r0.{quote(name)} = {part}" for name, part in zip(table.key, parts, strict=True))
    gone = _GONE.format(t=store.numbers[table.name])
    return (
        f"SELECT h.id, {_ENTITLED} || CASE WHEN r0.{ROW_ID} IS NULL THEN {gone} ELSE {here} END"
        f" FROM _held h LEFT JOIN {quote(table.name)} r0 ON {found}{joins}"
    )


def lost(store: Store, node: int, table: str, key: str) -> str:
    """Return whether a row that never was at the centre will not come from this node: 'refused', 'withdrawn', or ''."""
    for fate, noted in _LOST:
        if store.connection.execute(f"SELECT 1 FROM {noted} WHERE node = ? AND tbl = ? AND key = ?", (node, table, key)).fetchone():
            return fate
    return ""


_LOST = (("refused", "_refused_key"), ("withdrawn", "_given_up"))
"""Where it is noted which rows will not come from a node."""


def made_anew(store: Store, node: int, ops: Iterable[Op]) -> None:
    """Forget that rows were refused or taken back which their node makes anew: what hangs under them may come with them."""
    for _, noted in _LOST:
        if store.connection.execute(f"SELECT 1 FROM {noted} WHERE node = ? LIMIT 1", (node,)).fetchone():
            made = [(node, op.table, key_text(op.key)) for op in ops if isinstance(op, Insert)]
            store.connection.executemany(f"DELETE FROM {noted} WHERE node = ? AND tbl = ? AND key = ?", made)


def give_up(store: Store, node: int, table: str, key: str) -> None:
    """Note that a node took back a row before the centre had it: what waits for it need not wait any more."""
    store.connection.execute("INSERT INTO _given_up (node, tbl, key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (node, table, key))


def stay(store: Store, node: int, ops: Iterable[Op], version: int) -> None:
    """Note which rows a node had hung under another parent when that was refused or taken back: they hang where they hung.

    Until it hears of it the node takes what is below the old parent for gone, so its delete of that has not seen them.
    """
    for op in ops:
        table = store.schema.by_name.get(op.table)
        if table is not None and not isinstance(op, Delete) and not _named(op).isdisjoint(rule.column for rule in table.parents):
            sql = (
                "INSERT INTO _not_moved (node, tbl, key, ver) VALUES (?, ?, ?, ?) ON CONFLICT (node, tbl, key)"
                " DO UPDATE SET ver = excluded.ver"
            )
            store.connection.execute(sql, (node, op.table, key_text(op.key), version))


def _named(op: Insert | Update) -> set[str]:
    """Return the columns a change names."""
    return set(op.values) if isinstance(op, Insert) else {name for edit in op.edits for name in edit.columns}


def is_back(store: Store, node: int, table: str, key: str, base: int) -> bool:
    """Tell whether a row did not move after all, and a change of its node with this base does not know it yet."""
    sql = "SELECT 1 FROM _not_moved WHERE node = ? AND tbl = ? AND key = ? AND ver > ?"
    return store.connection.execute(sql, (node, table, key, base)).fetchone() is not None
