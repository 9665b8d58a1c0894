"""The rows that a row hangs under: they must be there; those that were deleted come back (RULES H16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schema.declare import Table, Through
from server import rows, scopes, waits
from server.holding import Hold, Refuse
from server.merging.incoming import Incoming, Standing
from sync.merge import CENTRE
from sync.values import RawText


def require(incoming: Incoming, table: Table, values: dict[str, Any]) -> None:
    """Make sure the parents that the scope runs through are there; a deleted one comes back (RULES H16)."""
    for rule in table.parents:
        key = values.get(rule.column)
        if isinstance(key, str | RawText) and not _is_there(incoming, incoming.store.schema.by_name[rule.table], key):
            _missing(incoming, rule, key)


def _is_there(incoming: Incoming, parent: Table, key: str | RawText) -> bool:
    """Tell whether a parent is there, or could be brought back."""
    if scopes.rid_of(incoming.store, parent, (key,)) is not None:
        return True
    if rows.grave(incoming.store, parent, (key,)) is not None:
        revive(incoming, parent, (key,), CENTRE)
        incoming.raise_to("merged")
        return True
    return False


def _missing(incoming: Incoming, rule: Through, key: str | RawText) -> None:
    """Wait for a parent that is not there; of one that only a central program can write, a raw text, nothing is known to come."""
    parent = incoming.store.schema.by_name[rule.table]
    if isinstance(key, RawText):
        return
    if fate := waits.lost(incoming.store, incoming.pusher.node, parent.name, key):
        incoming.orphaned = Refuse("gone", f"its {parent.name} {key} was {fate}")
        if rule.owned:
            raise incoming.orphaned
        return  # it outlives its parent, where it has another right to be (§6.4.4)
    raise Hold("parent", f"its {parent.name} {key} is not at the centre yet", (parent.name, key))


def first_named(table: Table, values: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the first parent that a row names: where that goes, the row goes too."""
    named = ((rule.table, values.get(rule.column)) for rule in table.parents)
    return next(((name, key) for name, key in named if isinstance(key, str)), (None, None))


def any_left(incoming: Incoming, table: Table, values: dict[str, Any]) -> bool:
    """Tell whether a parent was in the node's scope when the row was written, and has left it since."""
    scope = incoming.scope(incoming.work.base)
    for rule in table.parents:
        parent = incoming.store.schema.by_name[rule.table]
        rid = scopes.rid_of(incoming.store, parent, (values.get(rule.column),))
        if rid is not None and scopes.left_since(incoming.store, parent, rid, scope, incoming.work.base):
            return True
    return False


def revive(incoming: Incoming, table: Table, key: Sequence[Any], writer: int, *, recorded: bool = False) -> Standing:
    """Bring a deleted row back as it was, and the parents it hung under."""
    old = rows.grave(incoming.store, table, key)
    assert old is not None
    require(incoming, table, dict(zip(table.names, old.values, strict=True)))
    rows.open_grave(incoming.store, table, old.rid)
    values = dict(zip(table.names, old.values, strict=True))
    rid = rows.insert(incoming.store, table, values, old.rid)
    if table.name in incoming.store.schema.fixed:  # it is not as it was pushed: server/whole.py
        incoming.stamp(table, rid, rows.BIRTH, incoming.now_stamp(incoming.work.wall))
    scopes.touch(incoming.store, table, rid, incoming.version, CENTRE, None)
    if not recorded:
        incoming.record(table, tuple(key), (), None, old.values, None, "child keeps parent", "mine", old.writer)
    return Standing(table, tuple(key), rid, old.values, scopes.keys_of(incoming.store, table, rid))
