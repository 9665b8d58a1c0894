"""Recalling: a node that was away for longer than the centre keeps deleted rows shows those that its work is about.

    row of a node that comes late ─► lives, or its last image is kept: nothing to do
                                  └► not known any more: its last image is kept again, as of a deletion at this version

What the node then pushes is judged as if the image had never gone: an edit brings the row back, on record, a new child its parent
(RULES H16, §2 a). Taken by server/filling.py, which opens the pages. Spec: PROTOCOL.md §8.6.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from schema.capture import Store
from schema.declare import EVERYONE, By, Everyone, Kind, Table
from server import journal, rows, scopes, skew
from server.holding import is_let, is_sound
from server.scopes import DEAD
from sync.errors import Malformed
from sync.merge import CENTRE
from sync.messages import Page

Row = tuple[Any, ...]


def recall(store: Store, node: int, page: Page, cursor: int, version: int) -> tuple[int, bool]:
    """Keep the last images of a page's rows again that are known no more, parents first; return how many, and whether the centre knows all
    tables and columns of the page. Rows that were never in the node's scope, and of tables that the centre alone writes, are left out.

    Of a node that is not late (any more: the centre may have been put back) nothing is: it knows of every deletion. Raises Malformed for a
    page that is not of the node's cursor.
    """
    if page.head != cursor:
        raise Malformed("a page of rows that work is about is not of the version that its node is at")
    if cursor >= journal.horizon(store):
        return 0, True
    found, is_whole = skew.rows_of_page(store, page)
    scope, recalled = scopes.entitled(store, node, 0), 0
    for lens, told in sorted(found, key=lambda entry: store.schema.rank[entry[0].newer.name]):
        recalled += _recall(store, lens.newer, lens.up_row(told), scope, version)
    return recalled, is_whole


def _recall(store: Store, table: Table, row: Row, scope: frozenset[str], version: int) -> bool:
    key = row[: len(table.key)]
    if table.kind is Kind.REFERENCE or scopes.rid_of(store, table, key) is not None or rows.grave(store, table, key) is not None:
        return False
    keys = _keys(store, table, row, scope)
    return bool(keys) and is_sound(store, table, row) and is_let(store, partial(_bury, store, table, row, keys, version))


def _bury(store: Store, table: Table, row: Row, keys: set[str], version: int) -> None:
    rid = rows.insert(store, table, dict(zip(table.names, row, strict=True)))  # for a number of its own
    rows.bury(store, table, rid, row, version, CENTRE)
    scopes.note(store, table, keys, version, rid, CENTRE, DEAD)


def _keys(store: Store, table: Table, row: Row, scope: frozenset[str]) -> set[str]:
    """Return those keys of a scope that a row had: by its own columns, and by a parent, alive or not."""
    found = set[str]()
    for rule in table.scope:
        if isinstance(rule, Everyone):
            found.add(EVERYONE)
            continue
        value = row[table.position[rule.column]]
        if type(value) is str:
            found |= {f"{rule.prefix}:{value}"} if isinstance(rule, By) else _keys_of_parent(store, rule.table, value, scope)
    return found & scope


def _keys_of_parent(store: Store, name: str, key: str, scope: frozenset[str]) -> set[str]:
    parent = store.schema.by_name[name]
    rid = scopes.rid_of(store, parent, (key,))
    if rid is not None:
        return scopes.keys_of(store, parent, rid)
    old = rows.grave(store, parent, (key,))
    return set() if old is None else {each for each in scope if scopes.died_in(store, parent, old.rid, frozenset([each]), old.version)}
