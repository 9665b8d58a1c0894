"""Merging cells into a row that stands: the rules of sync/merge.py, and what comes of them for the row (RULES H2, H3, H15)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from schema.capture import Store
from schema.declare import Cell, Table
from schema.lens import complete, lens_between
from server import conflicts, rows
from server.holding import Hold, accepted, check_values
from server.merging.incoming import Incoming, Standing
from sync.change import NEVER, Edit, Key
from sync.merge import CENTRE, FILLED, Lineage, Meta, Outcome, merge_cell, same_values, seen
from sync.policy import policies

NOBODY = Meta(0, CENTRE, 0, 0, "")
"""Who wrote what has no clock."""


def edit(incoming: Incoming, row: Standing, edits: Sequence[Edit], *, insert: bool = False) -> bool:
    """Merge cells into a living row; tell whether any ended other than as pushed."""
    table, metas = row.table, incoming.metas(row.table, row.rid)
    altered = False
    now: dict[str, Any] = {}
    asked: set[str] = set()
    for place, pushed in enumerate(edits):
        if pushed.cell in asked:
            continue
        cell = table.cell_named[pushed.cell]
        number = rows.cell_number(table, cell)
        standing = tuple(now.get(name, stands) for name, stands in zip(cell.columns, row.named(cell.columns), strict=True))
        edit = _whole(incoming, table, complete(pushed, cell, standing), standing)
        meta = metas.get(number) or metas.get(rows.BIRTH) or NOBODY
        outcome = _outcome(incoming, table, edit, standing, meta, insert)
        if outcome.ask:  # one question of a cell: what was typed last is what its person wants now
            asked.add(pushed.cell)
            edit = _with_later(edit, edits[place + 1 :], cell, standing)
        if outcome.conflict:
            other = incoming.node_of(meta.writer)
            rule = conflicts.RESTORED if _is_in(incoming, meta) else cell.policy
            incoming.conflict(row, cell.columns, edit, standing, rule, outcome, other)
        if outcome.write:
            is_alone = True
            if policies()[cell.policy].differential:
                is_alone = seen(meta, pushed.base, pushed.since, incoming.pusher.lineage, insert=insert)
            now.update(zip(cell.columns, outcome.value, strict=True))
            incoming.stamp(table, row.rid, number, outcome.stamp, is_alone=is_alone, number=pushed.number)
        added = insert and not same_values(outcome.value, edit.new)  # the node takes an insert for what it names (P-8.13)
        altered = altered or outcome.altered or added
    rows.write(incoming.store, table, row.rid, now)
    return altered


def _whole(incoming: Incoming, table: Table, edit: Edit, standing: Key) -> Edit:
    """Return an edit of a group with what stands in the columns that an older node was shown otherwise, and left as they were."""
    if len(edit.columns) == 1 or incoming.work.schema >= incoming.store.schema.version:
        return edit
    lens = lens_between(incoming.store.schema, incoming.work.schema).tables.get(table.name)
    return edit if lens is None or lens.is_plain else lens.unrounded(edit, standing)


def _with_later(edit: Edit, later: Iterable[Edit], cell: Cell, standing: Key) -> Edit:
    """Return an edit of a cell as one with the edits of that cell that follow it in its transaction."""
    return replace(edit, new=[edit.new, *(complete(each, cell, standing).new for each in later if each.cell == cell.name)][-1])


def _is_in(incoming: Incoming, meta: Meta) -> bool:
    """Tell whether a value that was taken from a node's copy has this transaction in it already (RULES H15)."""
    return meta.writer == FILLED and NEVER < incoming.work.before <= meta.sequence


def _outcome(incoming: Incoming, table: Table, edit: Edit, standing: Key, meta: Meta, insert: bool) -> Outcome:
    policy = policies()[table.cell_named[edit.cell].policy]
    if _is_in(incoming, meta) and not policy.differential:
        empty = insert and all(value is None for value in edit.new)  # a new row's empty columns are nobody's word
        differs = not same_values(edit.new, standing) and not empty
        return Outcome(standing, meta.stamp, False, differs, "theirs", True, False)
    known = is_known(edit, meta, standing, incoming.pusher.lineage, incoming.work.number, insert=insert)
    at = incoming.now_stamp(edit.wall)
    outcome = merge_cell(policy, edit.old, edit.new, at, incoming.pusher.node_id, standing, meta, known)
    if policy.differential and outcome.write and not _fits(incoming.store, table, edit.columns, outcome.value):
        return Outcome(standing, outcome.stamp, False, True, "theirs", True, True)
    return outcome


def is_known(edit: Edit, meta: Meta, standing: Key, lineage: Lineage, number: int, *, insert: bool = False) -> bool:
    """Tell whether the writer of an edit, in its transaction of this number, knew what stands in the cell."""
    if seen(meta, edit.base, edit.since, lineage, insert=insert):
        return True
    is_untold = edit.base == NEVER and edit.since == number  # else it was typed on an insert of its own (P-5.16)
    return is_untold and not insert and same_values(edit.old, standing)  # not told of the cell, but shown what stands (P-11.8)


def _fits(store: Store, table: Table, columns: tuple[str, ...], value: Key) -> bool:
    """Tell whether a sum is of its column's type: it need not be where what stands, by a central program, is not."""
    try:
        check_values(table, dict(zip(columns, value, strict=True)), accepted(store))
    except Hold:
        return False
    return True
