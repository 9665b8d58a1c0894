"""Scopes: which scope keys a row has, what moves when they change, and what a node is entitled to.

A row's keys follow from its own columns and its parents' (server/scope_sql.py). Whenever a row is written, dies
or moves, a line per scope key goes into `_change`, the index the feed reads:

    STATE  the row was written while it had this key          ENTER  it was alive before and gained this key
    LEAVE  it lost this key and lives on elsewhere            DEAD   it was deleted while it had this key

Spec: PROTOCOL.md §8.1; RULES H2, H18.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from schema.capture import Row, Store, clean, read_rows
from schema.declare import EVERYONE, Everyone, Table
from schema.dialects.base import ROW_ID, News
from schema.dialects.sqlite import quote
from schema.keys import where_key, where_value
from server.scope_sql import row_keys, row_keys_sql
from sync.values import is_clean

STATE, ENTER, LEAVE, DEAD = range(4)


PRIVATE = "node#"
"""What the private scopes of nodes begin with."""


def node_scope(node: int) -> str:
    """Return the private scope through which one node is told about rows it put out of its own sight (RULES H2)."""
    return f"{PRIVATE}{node}"


def keys_of(store: Store, table: Table, rid: int) -> set[str]:
    """Return a living row's scope keys."""
    found = read_rows(store, row_keys_sql(store.schema, table.name), (rid,))
    return {key for key in found[0] if is_key(key)} if found else set()


def keys_of_rows_sql(store: Store, table: Table) -> str:
    """Return SQL, to be given a condition on rows r0, yielding number, first key column and, a column for each path, scope keys."""
    keys, joins = row_keys(store.schema, table.name)
    return f"SELECT r0.{ROW_ID}, {', '.join([f'r0.{quote(table.key[0])}', *keys])} FROM {quote(table.name)} r0{joins}"


def is_key(key: Any) -> bool:
    """Tell whether a value can be a scope key: what a central program wrote into a scope column need not be clean text."""
    return type(key) is str and is_clean(key)


def scope_columns(table: Table) -> frozenset[str]:
    """Return the columns that a row's scope keys depend on."""
    return frozenset(rule.column for rule in table.scope if not isinstance(rule, Everyone))


def rid_of(store: Store, table: Table, key: Sequence[Any]) -> int | None:
    """Return the row number of a living row, or None."""
    where, parameters = where_key(table, key)
    row = store.connection.execute(f"SELECT {ROW_ID} FROM {quote(table.name)} WHERE {where}", parameters).fetchone()
    return int(row[0]) if row else None


def note(store: Store, table: Table, keys: Iterable[str], version: int, rid: int, writer: int, op: int) -> None:
    """Write lines of the change index. Two writers in one version count as foreign to both (writer 0)."""
    t = store.numbers[table.name]
    store.connection.executemany(_NOTE, [(t, key, version, rid, op, rid, writer, False, 0) for key in keys])


class Run(NamedTuple):
    """The rows `low` … `high` of a table whose rows never change or move, under a scope key: with `part` only those of them that have it.

    `whole`: all rows of the version's segment have it, and all columns of the schema's version given (server/whole.py).
    """

    key: str
    low: int
    high: int
    part: bool = False
    whole: int = 0


def note_runs(store: Store, table: Table, runs: Iterable[Run], version: int, writer: int) -> None:
    """Write a STATE line for each run."""
    t = store.numbers[table.name]
    lines = [(t, run.key, version, run.low, STATE, run.high, writer, run.part, run.whole) for run in runs]
    store.connection.executemany(_NOTE, lines)


_NOTE = (
    "INSERT INTO _change (t, sc, ver, lo, op, hi, wr, part, whole) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (t, sc, ver, lo, op)"
    " DO UPDATE SET wr = CASE WHEN _change.wr = excluded.wr THEN excluded.wr ELSE 0 END,"
    " hi = CASE WHEN _change.hi > excluded.hi THEN _change.hi ELSE excluded.hi END,"
    " part = CASE WHEN _change.part > excluded.part THEN _change.part ELSE excluded.part END,"
    " whole = CASE WHEN _change.whole < excluded.whole THEN _change.whole ELSE excluded.whole END"
)


def note_states(store: Store, table: Table, lines: Iterable[tuple[int, str]], version: int, writer: int) -> None:
    """Write a STATE line for each (row, scope key)."""
    t = store.numbers[table.name]
    store.connection.executemany(_NOTE, [(t, key, version, rid, STATE, rid, writer, 0, 0) for rid, key in lines])


def has_descendants(store: Store, table: Table, low: int, high: int) -> bool:
    """Tell whether the scope of any row runs through the rows low … high of a table."""
    below = [
        f"EXISTS (SELECT 1 FROM {quote(table.name)} r CROSS JOIN {quote(edge.table.name)} c"
        f" ON c.{quote(edge.column)} = r.{quote(table.key[0])} WHERE r.{ROW_ID} BETWEEN ?1 AND ?2)"
        for edge in store.schema.children[table.name]
    ]
    return bool(below) and store.connection.execute(f"SELECT 1 WHERE {' OR '.join(below)}", (low, high)).fetchone() is not None


def parents_of_known(store: Store, table: Table, low: int, high: int, news: News) -> list[int]:
    """Return the rows low … high of a table under which rows hang that were there before the look."""
    found: set[int] = set()
    for edge in store.schema.children[table.name]:
        sql = (
            f"SELECT DISTINCT r.{ROW_ID} FROM {quote(table.name)} r CROSS JOIN {quote(edge.table.name)} c"
            f" ON c.{quote(edge.column)} = r.{quote(table.key[0])} WHERE r.{ROW_ID} BETWEEN ? AND ?"
            f" AND {news.before(edge.table.name, f'c.{ROW_ID}')}"
        )
        found.update(row[0] for row in store.connection.execute(sql, (low, high)))
    return sorted(found)


def enter_below(store: Store, table: Table, rid: int, version: int) -> None:
    """Note that the rows below a new one gained its scope keys: they were there before it."""
    _descend(store, table, rid, version, set(), keys_of(store, table, rid))


def touch(store: Store, table: Table, rid: int, version: int, writer: int, before: set[str] | None) -> set[str]:
    """Note that a row was written, and what it and its descendants gained and lost if its keys were `before`.

    `before` None means the row was not there. Returns its keys now.
    """
    now = keys_of(store, table, rid)
    note(store, table, now, version, rid, writer, STATE)
    if before is None:
        _descend(store, table, rid, version, set(), now)
    elif before != now:
        note(store, table, now - before, version, rid, writer, ENTER)
        note(store, table, before - now, version, rid, writer, LEAVE)
        _descend(store, table, rid, version, before - now, now - before)
    return now


def bury(store: Store, table: Table, rid: int, key: Sequence[Any], version: int, writer: int, before: set[str]) -> None:
    """Note that a row died which had the keys `before`; descendants that live on lose them."""
    note(store, table, before, version, rid, writer, DEAD)
    _descend(store, table, rid, version, before, set(), key)


def _descend(
    store: Store, table: Table, rid: int, version: int, lost: set[str], gained: set[str], key: Sequence[Any] | None = None
) -> None:
    """Tell the rows whose scope runs through this one. A row's descendants have had every key it had."""
    edges = store.schema.children[table.name]
    if not edges or not (lost or gained):
        return
    parent_id = key[0] if key else _id_of(store, table, rid)
    for edge in edges:
        where, parameters = where_value(edge.column, parent_id)
        sql = f"SELECT {ROW_ID} FROM {quote(edge.table.name)} WHERE {where}"
        for (child,) in store.connection.execute(sql, parameters).fetchall():
            now = keys_of(store, edge.table, child)
            really_lost = lost - now
            note(store, edge.table, gained & now, version, child, 0, ENTER)
            note(store, edge.table, really_lost, version, child, 0, LEAVE)
            _descend(store, edge.table, child, version, really_lost, gained & now)


def _id_of(store: Store, table: Table, rid: int) -> Any:
    sql = f"SELECT {quote(table.key[0])} FROM {quote(table.name)} WHERE {ROW_ID} = ?"
    return clean(read_rows(store, sql, (rid,))[0][0])


# --- what a node may see ------------------------------------------------------------------------------------------------


def entitled(store: Store, node: int, since: int | None = None) -> frozenset[str]:
    """Return the scope keys a node has now, or those it had at any time after version `since` as well."""
    rows = entitlements(store, node)
    return frozenset([EVERYONE, *(scope for scope, _, until in rows if until is None or (since is not None and until > since))])


def entitlements(store: Store, node: int) -> list[Row]:
    """Return every scope key that a node has or had, with the version since which, and that up to which, it had it."""
    return store.once("SELECT scope, since, until FROM _entitled WHERE node = ? ORDER BY scope", (node,))


def has_sent(store: Store, node: int) -> bool:
    """Tell whether a node has ever sent work."""
    sql = "SELECT 1 FROM _incarnation WHERE node = ? AND seq > 0 LIMIT 1"
    return store.connection.execute(sql, (node,)).fetchone() is not None


def has_sent_by(store: Store, node: int, version: int) -> bool:
    """Tell whether work of a node was journaled up to a version."""
    sql = "SELECT 1 FROM _incarnation i JOIN _journal j ON j.inc = i.inc WHERE i.node = ? AND j.ver <= ? AND j.segment IS NOT NULL LIMIT 1"
    return store.connection.execute(sql, (node, version)).fetchone() is not None


def holds_from(store: Store, node: int, version: int) -> bool:
    """Tell whether a node was entitled to all that it is entitled to now at a version already."""
    later = "SELECT 1 FROM _entitled WHERE node = ? AND until IS NULL AND since > ? LIMIT 1"
    return store.connection.execute(later, (node, version)).fetchone() is None


def may_hold_from(store: Store, node: int, version: int) -> bool:
    """Tell whether a node that has sent nothing, and takes a snapshot of a version, holds from then on all that it is entitled to: it
    was entitled to the same then, or may count as if it had been, for it never was to anything else.
    """
    lost = "SELECT 1 FROM _entitled WHERE node = ? AND until IS NOT NULL LIMIT 1"
    return holds_from(store, node, version) or store.connection.execute(lost, (node,)).fetchone() is None


def hold_from(store: Store, node: int, version: int, scope: frozenset[str]) -> bool:
    """Let what a node is entitled to count from a version on: it is told no more of before. False, and nothing done, where it has been
    entitled to something else meanwhile than to `scope`, or has sent something.
    """
    if entitled(store, node) != scope or has_sent(store, node) or not may_hold_from(store, node, version):
        return False
    sql = "UPDATE _entitled SET since = ? WHERE node = ? AND until IS NULL AND since > ?"
    store.connection.execute(sql, (version, node, version))
    return True


def written(store: Store, table: Table, rid: int) -> tuple[int, int]:
    """Return at which version a living row was written last, and by whom: (0, 0) if that is not known. For rows without a clock;
    the newest lines of its scope keys are looked through until one covers it.
    """
    sql = "SELECT ver, wr FROM _change WHERE t = ? AND sc = ? AND op = ? AND lo <= ? AND hi >= ? ORDER BY ver DESC LIMIT 1"
    t = store.numbers[table.name]
    found = [store.connection.execute(sql, (t, key, STATE, rid, rid)).fetchone() for key in keys_of(store, table, rid)]
    return max((row for row in found if row is not None), default=(0, 0))


def died_in(store: Store, table: Table, rid: int, scopes: frozenset[str], version: int) -> bool:
    """Tell whether a row had one of these scope keys when it died."""
    sql = "SELECT 1 FROM _change WHERE t = ? AND sc = ? AND ver = ? AND lo = ? AND op = ? LIMIT 1"
    t = store.numbers[table.name]
    return any(store.connection.execute(sql, (t, scope, version, rid, DEAD)).fetchone() for scope in scopes)


def left_since(store: Store, table: Table, rid: int, scopes: frozenset[str], version: int) -> bool:
    """Tell whether a row left one of these scopes, or died in it, after a version."""
    sql = "SELECT 1 FROM _change WHERE t = ? AND sc = ? AND ver > ? AND lo = ? AND op >= ? LIMIT 1"
    t = store.numbers[table.name]
    return any(store.connection.execute(sql, (t, scope, version, rid, LEAVE)).fetchone() for scope in scopes)
