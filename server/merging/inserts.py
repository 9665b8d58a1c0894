"""Inserting a row: a new life, or cells merged into a row that stands there already (RULES H10, H17)."""

from __future__ import annotations

from collections.abc import Iterable

from schema.capture import same
from schema.declare import Cell, Table
from schema.keys import key_text
from schema.lens import TableLens, lens_between
from server import below, conflicts, rows, scopes
from server.holding import Hold
from server.merging import cells, parents
from server.merging.incoming import Incoming, Standing, no_right
from sync.change import NEVER, Edit, Insert
from sync.merge import CENTRE, same_values
from sync.policy import policies


def insert(incoming: Incoming, op: Insert) -> None:
    """Insert a row. Raises Hold where its key is taken, a parent is missing, or the node may not; Refuse where a parent will not come."""
    table = incoming.store.schema.by_name[op.table]
    parents.require(incoming, table, op.values)
    row = incoming.standing(table, op.key)
    if row is None:
        _new_life(incoming, table, op)
        return
    is_others = row.keys.isdisjoint(incoming.scope(incoming.work.base)) and not incoming.approved
    if is_others and incoming.work.before == NEVER:
        raise Hold("key", f"the key {key_text(op.key)} is taken in {table.name}", (table.name, key_text(op.key)))
    if table.immutable:
        _recorded_again(incoming, row, op)
    elif is_others:
        _beside(incoming, row, op)
    else:
        _over(incoming, row, op)


def _recorded_again(incoming: Incoming, row: Standing, op: Insert) -> None:
    """Take a document or event for what stands if it is the same."""
    if any(not same(value, *row.named([name])) for name, value in op.values.items()):
        if incoming.work.before == NEVER:
            words = f"there is another {row.table.name} with the key {key_text(op.key)}"
            raise Hold("key", words, (row.table.name, key_text(op.key)))
        # a node gave it back before; somebody at the centre had corrected it
        mine = tuple(op.values.get(name) for name in row.table.names)
        incoming.record(row.table, op.key, (), None, mine, row.values, conflicts.RESTORED, "theirs", CENTRE)
    incoming.out_of_sight(row.table, row.rid, row.keys)


def _over(incoming: Incoming, row: Standing, op: Insert) -> None:
    """Merge an insert into a row that stands."""
    table, work = row.table, incoming.work
    edits = _edits(row, op, table.cells, op.base, work.number if op.since == NEVER else op.since, work.wall)
    if (table.name, op.key) in incoming.deleted:  # which lost: what stood when the new sum was typed is in it already
        edits = _without_sums(incoming, row, edits)
    altered = cells.edit(incoming, row, edits, insert=True)
    if not table.cells:  # a set's element added again: a later removal that has not seen this loses
        born = rows.metas(incoming.store, table, row.rid).get(rows.BIRTH)  # none: nobody wrote it through sync
        is_alone = born is None or born.version <= work.base or incoming.pusher.lineage.has(born.writer, born.sequence)
        incoming.stamp(table, row.rid, rows.BIRTH, incoming.now_stamp(work.wall), is_alone=is_alone)
    incoming.touch(row, CENTRE if altered else incoming.pusher.inc)


def _without_sums(incoming: Incoming, row: Standing, edits: list[Edit]) -> list[Edit]:
    """Put on record the sums and sets among the cells of an insert, where they differ from what stands; return the others."""
    found = []
    for edit in edits:
        if not _adds_up(row.table.cell_named[edit.cell]):
            found.append(edit)
        elif not same_values(edit.new, row.named(edit.columns)):
            incoming.record(row.table, row.key, edit.columns, None, edit.new, row.named(edit.columns), "edit wins", "theirs", CENTRE)
    return found


def _beside(incoming: Incoming, row: Standing, op: Insert) -> None:
    """Put an insert on record that the lost history had accepted, beside a row that is not the node's (any more): only what
    adds up is added.
    """
    sums = [cell for cell in row.table.cells if _adds_up(cell)]
    edits = _edits(row, op, sums, NEVER, incoming.work.number, incoming.work.wall)
    cells.edit(incoming, row, edits, insert=True)
    summed = {column for cell in sums for column in cell.columns}
    others = tuple(name for name in op.values if name not in summed)
    mine, theirs = tuple(op.values[name] for name in others), row.named(others)
    if any(not same(*sides) for sides in zip(mine, theirs, strict=True)):
        incoming.record(row.table, op.key, others, None, mine, theirs, conflicts.RESTORED, "theirs", CENTRE)
    incoming.touch(row, CENTRE)


def _adds_up(cell: Cell) -> bool:
    return policies()[cell.policy].differential


def _edits(row: Standing, op: Insert, of: Iterable[Cell], base: int, since: int, wall: int) -> list[Edit]:
    """Return what an insert says of cells as edits of a row that stands; what it does not name stays."""
    found = []
    for cell in of:
        if any(name in op.values for name in cell.columns):
            new = tuple(op.values.get(name, *row.named([name])) for name in cell.columns)
            found.append(Edit(cell.name, cell.columns, tuple(None for _ in cell.columns), new, base, since, wall))
    return found


def _new_life(incoming: Incoming, table: Table, op: Insert) -> None:
    old = rows.grave(incoming.store, table, op.key)
    _check_below(incoming, table, op, old)
    values = incoming.buried.completed(table, op.values, _lens(incoming, table))
    rid = rows.insert(incoming.store, table, values)
    foreign = old is not None and old.writer != incoming.pusher.inc and old.version > incoming.work.base
    if old is not None and foreign and scopes.died_in(incoming.store, table, old.rid, incoming.scope(incoming.work.base), old.version):
        inserted = tuple(values.get(name) for name in table.names)
        incoming.record(table, op.key, (), None, inserted, old.values, "new life", "mine", old.writer)
    now = scopes.keys_of(incoming.store, table, rid)
    if now.isdisjoint(incoming.scope(incoming.work.base)) and not _may_be_elsewhere(incoming, table, op, old):
        if incoming.orphaned is not None:
            raise incoming.orphaned
        raise Hold("right", no_right(table, op.values), parents.first_named(table, op.values))
    if table.name not in incoming.store.schema.fixed:
        _stamp(incoming, table, rid, op)
    scopes.touch(incoming.store, table, rid, incoming.version, incoming.pusher.inc, None)
    if old is not None and old.writer != incoming.pusher.inc:
        scopes.note(incoming.store, table, now, incoming.version, rid, CENTRE, scopes.STATE)
    incoming.out_of_sight(table, rid, now)


def _lens(incoming: Incoming, table: Table) -> TableLens | None:
    """Return how the writer's version of the declaration has a table; None where that is later than the centre's."""
    schema, version = incoming.store.schema, incoming.work.schema
    return lens_between(schema, version).tables.get(table.name) if version <= schema.version else None


def _stamp(incoming: Incoming, table: Table, rid: int, op: Insert) -> None:
    """Note who wrote a new row: of a correction, what it left as it was is known to whoever knows the work it takes the place of.

    Which columns a cell has that is not declared here nobody can tell: then the whole row is the correction's.
    """
    at, is_known = incoming.now_stamp(incoming.work.wall), op.later.keys() <= table.cell_named.keys()
    incoming.stamp(table, rid, rows.BIRTH, at, number=op.number if is_known else None)
    for name, number in op.later.items() if is_known else ():
        incoming.stamp(table, rid, rows.cell_number(table, table.cell_named[name]), at, number=number)


def _may_be_elsewhere(incoming: Incoming, table: Table, op: Insert, old: rows.Grave | None) -> bool:
    """Tell whether a node may put a new row where it has no right."""
    was_deleted_now = old is not None and old.version == incoming.version and (table.name, op.key) in incoming.deleted
    return incoming.approved or was_deleted_now or parents.any_left(incoming, table, op.values)  # given away, as an update may


def _check_below(incoming: Incoming, table: Table, op: Insert, old: rows.Grave | None) -> None:
    """Check that nothing of others hangs under a key that is new, or was dead: it would come into the new row's scopes."""
    since = incoming.work.base if old is None else min(incoming.work.base, old.version - 1)
    if incoming.approved:
        return
    strange = below.of_others(incoming.store, table, op.key[0], incoming.scope(since), since, dead=old is not None)
    if strange is not None:
        raise Hold("key", f"rows that this node does not have belong to the {table.name} {key_text(op.key)}", strange)
