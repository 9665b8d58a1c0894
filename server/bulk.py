"""The fast path of ingest: whole segments of new documents and events, as set statements.

Optimistic: a segment that holds nothing but inserts into tables whose rows never change and never move (sales, lines,
payments, stock moves), with every right and parent in order, is inserted column by column and indexed by extents (one
line of `_change` per scope key; SPIKE §3). On any doubt it does nothing and says so; the
slow path (server/merging/) then looks at each transaction. Both leave the same state: tests/contract/test_paths.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

from schema.capture import Store
from schema.declare import EVERYONE, By, Everyone, Table
from schema.dialects.base import ROW_ID, Displaced
from schema.dialects.sqlite import quote
from schema.lens import lens_between
from server import scopes, whole
from server.holding import Types, accepted
from server.merging.incoming import Pusher
from sync.limits import KEY_BYTES_MAX
from sync.segment import InsertBlock, OpenSegment

Keys = tuple[str, ...]


def take(store: Store, pusher: Pusher, segments: Sequence[OpenSegment], version: int, *, alone: bool = False) -> bool:
    """Insert all rows of the segments (the parts of one, or a whole one), or change nothing and return False.

    `alone`: the version consists of nothing else, so that it may be told whole to others (server/whole.py).
    """
    blocks = [block for segment in segments for block in segment.inserts]
    if any(segment.deletes or segment.updates or segment.decisions or segment.withdrawals for segment in segments):
        return False
    fixed = store.schema.fixed
    accepts = accepted(store, segments[0].schema)
    if any(block.table not in fixed or not _sound(store.schema.by_name[block.table], block, accepts) for block in blocks):
        return False
    if _waits(store, pusher, blocks):
        return False
    store.connection.execute("SAVEPOINT bulk")
    try:
        sealed_at = segments[0].schema if alone and segments[0].schema <= store.schema.version else 0
        done = _insert_all(store, pusher, blocks, version, sealed_at)
    except Displaced:
        done = False
    except store.dialect.errors as error:  # a key that is there already
        if not store.connection.in_transaction or not store.dialect.is_refusal(error):
            raise
        done = False
    if not done:
        store.connection.execute("ROLLBACK TO bulk")
    store.connection.execute("RELEASE bulk")
    return done


def divide(store: Store, segment: OpenSegment) -> tuple[OpenSegment, set[int]]:
    """Return the part of a segment that `take` may take, and the indexes of the transactions that are not in it: those
    with anything but new rows of tables whose rows never change or move, and those that bring a parent of what is in such a one,
    for it must be there before.
    """
    fixed = store.schema.fixed
    others = {each.transaction for each in segment.decisions} | {each.transaction for each in segment.withdrawals}
    movable = [block for block in segment.inserts if block.table not in fixed]
    for indexes in [block.transaction for blocks in (segment.deletes, segment.updates, movable) for block in blocks]:
        others.update(indexes)
    if not others:
        return segment, others
    while more := _parents_of(store, segment, others):
        others |= more
    inserts = [_without(block, others) for block in segment.inserts if block.table in fixed]
    kept = [block for block in inserts if block.count]
    return replace(segment, decisions=(), withdrawals=(), deletes=[], updates=[], inserts=kept), others


def _parents_of(store: Store, segment: OpenSegment, others: set[int]) -> set[int]:
    """Return the transactions, not among the others, that insert a document or event which an insert among the others names."""
    named: dict[str, set[Any]] = {}
    for block in segment.inserts:
        table = store.schema.by_name.get(block.table)
        for rule in table.parents if table else ():
            if rule.column in block.columns:
                values = zip(block.values[block.columns.index(rule.column)], block.transaction, strict=True)
                named.setdefault(rule.table, set()).update(value for value, index in values if index in others and type(value) is str)
    found: set[int] = set()
    for block in segment.inserts:
        wanted, table = named.get(block.table), store.schema.by_name.get(block.table)
        if wanted and table is not None and table.key[0] in block.columns:
            identities = block.values[block.columns.index(table.key[0])]
            found.update(
                index for identity, index in zip(identities, block.transaction, strict=True) if type(identity) is str and identity in wanted
            )
    return found - others


def _without(block: InsertBlock, others: set[int]) -> InsertBlock:
    keep = [index not in others for index in block.transaction]
    kept = [list(compress(column, keep)) for column in (block.transaction, block.base, block.since)]
    values = [list(compress(column, keep)) for column in block.values]
    return replace(block, count=sum(keep), transaction=kept[0], base=kept[1], since=kept[2], values=values)


def _sound(table: Table, block: InsertBlock, accepts: Types) -> bool:
    """Check columns and types as server/merging/ does, a column at a time."""
    if any(name not in table.position for name in block.columns) or any(name not in block.columns for name in table.key):
        return False
    given = dict(zip(block.columns, block.values, strict=True))
    for column in table.columns:
        values = given.get(column.name)
        if values is None:
            if not column.nullable and column.default is None:
                return False
            continue
        kinds = set(map(type, values))
        if column.nullable:
            kinds.discard(type(None))
        if not kinds <= accepts[column.type]:
            return False
    return all(set(map(type, given[name])) == {str} and _short(given[name]) for name in table.key)


def _short(keys: Sequence[Any]) -> bool:
    return max(map(len, keys)) * 4 <= KEY_BYTES_MAX or max(len(key.encode()) for key in keys) <= KEY_BYTES_MAX


def _waits(store: Store, pusher: Pusher, blocks: Sequence[InsertBlock]) -> bool:
    """Tell whether anything here may depend on held work of this node (RULES H9)."""
    rows = store.connection.execute("SELECT tbl, key FROM _held_row WHERE node = ?", (pusher.node,)).fetchall()
    if not rows:
        return False
    held = {key for _, key in rows}
    return any(not held.isdisjoint(column) for block in blocks for column in block.values if column and type(column[0]) is str)


def _insert_all(store: Store, pusher: Pusher, blocks: Sequence[InsertBlock], version: int, sealed_at: int) -> bool:
    parents: dict[str, dict[Any, Keys]] = {}
    found: list[tuple[Table, InsertBlock, list[Keys]]] = []
    needed = {rule.table for block in blocks for rule in store.schema.by_name[block.table].parents}
    for block in sorted(blocks, key=lambda block: store.schema.rank[block.table]):
        table = store.schema.by_name[block.table]
        keys = _scope_keys(table, block, parents)
        if keys is None or any(pusher.scope.isdisjoint(distinct) for distinct in set(keys)):
            return False
        if table.name in needed:
            identities = block.values[block.columns.index(table.key[0])]
            parents.setdefault(table.name, {}).update(zip(identities, keys, strict=True))
        found.append((table, block, keys))
    common = _common(store, found, sealed_at) if sealed_at else frozenset[str]()
    for table, block, keys in found:
        low, high = _insert_block(store, pusher, table, block, keys, version, dict.fromkeys(common, sealed_at))
        # parents come first, so what hangs below was here before: server/below.py; a key that was dead is a new life
        if scopes.has_descendants(store, table, low, high) or _has_graves(store, table, low, high):
            return False
    return True


def _common(store: Store, found: Sequence[tuple[Table, InsertBlock, list[Keys]]], version: int) -> frozenset[str]:
    """Return the scope keys that all rows of a segment have, if it is one to be told whole."""
    tables = {table.name for table, _, _ in found}
    complete = all(block.columns == lens_between(store.schema, version).tables[table.name].complete for table, block, _ in found)
    if len(tables) < len(found) or not complete or sum(block.count for _, block, _ in found) < whole.WHOLE_ROWS_MIN:
        return frozenset()
    return frozenset.intersection(*(frozenset(distinct) for _, _, keys in found for distinct in set(keys)))


def _scope_keys(table: Table, block: InsertBlock, parents: dict[str, dict[Any, Keys]]) -> list[Keys] | None:
    """Return each row's scope keys, or None if a parent is not among the rows here."""
    found: list[list[Keys]] = []
    for rule in table.scope:
        if isinstance(rule, Everyone):
            found.append([(EVERYONE,)] * block.count)
            continue
        values = _values(block, rule.column)
        if isinstance(rule, By):
            known: dict[Any, Keys] = {value: (f"{rule.prefix}:{value}",) if value is not None else () for value in set(values)}
        else:
            known = parents.get(rule.table, {})
        try:
            found.append(list(map(known.__getitem__, values)))
        except KeyError:
            return None
    if len(found) == 1:
        return found[0]
    pairs = list(zip(*found, strict=True))  # few of them differ: 0.2 µs a row instead of 2
    joined = {row: tuple(key for keys in row for key in keys) for row in set(pairs)}
    return list(map(joined.__getitem__, pairs))


def _values(block: InsertBlock, column: str) -> list[Any]:
    return block.values[block.columns.index(column)] if column in block.columns else [None] * block.count


def _insert_block(
    store: Store, pusher: Pusher, table: Table, block: InsertBlock, keys: list[Keys], version: int, common: dict[str, int]
) -> tuple[int, int]:
    """Insert rows in the order they came in: sorted by scope, each key of the table's index would fall among earlier ones,
    which takes three times as long, here and on every node that pulls them. All rows of the segment have the `common` keys
    and all columns of the version that is given for each. Returns the number of the first and the last row.
    """
    rows = list(zip(*block.values, strict=True))
    low = store.dialect.insert(store.connection, table.name, store.numbers[table.name], block.columns, rows)
    runs = [
        scopes.Run(key, low + first, low + last, count < last - first + 1, common.get(key, 0))
        for key, (first, last, count) in _spans(keys).items()
    ]
    scopes.note_runs(store, table, runs, version, pusher.inc)
    return low, low + len(rows) - 1


def _spans(keys: list[Keys]) -> dict[str, tuple[int, int, int]]:
    """Return, per scope key, the first and the last of the rows that have it, and how many do."""
    back = keys[::-1]
    spans: dict[str, tuple[int, int, int]] = {}
    for row_keys, count in Counter(keys).items():
        first, last = keys.index(row_keys), len(keys) - 1 - back.index(row_keys)
        for key in set(row_keys):
            low, high, rows = spans.get(key, (first, last, 0))
            spans[key] = min(low, first), max(high, last), rows + count
    return spans


def _has_graves(store: Store, table: Table, low: int, high: int) -> bool:
    """Tell whether the key of any of the rows low … high belonged to a row that was deleted."""
    t = store.numbers[table.name]
    if store.connection.execute("SELECT 1 FROM _tombstone WHERE t = ? LIMIT 1", (t,)).fetchone() is None:
        return False
    sql = (
        f"SELECT 1 FROM {quote(table.name)} r CROSS JOIN _tombstone g ON g.t = ? AND g.key = r.{quote(table.key[0])}"
        f" WHERE r.{ROW_ID} BETWEEN ? AND ? LIMIT 1"
    )
    return len(table.key) > 1 or store.connection.execute(sql, (t, low, high)).fetchone() is not None
