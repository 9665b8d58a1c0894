"""What can be told of a transaction before anything of it is applied: Hold says what it waits for (PROTOCOL.md §6.3)."""

from __future__ import annotations

from schema.capture import Store
from schema.declare import Kind
from schema.keys import key_text
from schema.lens import known_cells
from server import rows, scopes
from server.holding import BELOW, Hold, accepted, check_required, check_values, touched
from server.merging.incoming import Incoming
from sync.change import Delete, Insert, Op, Update
from sync.limits import KEY_BYTES_MAX
from sync.values import RawText


def judge(incoming: Incoming) -> None:
    """Raise Hold where a transaction cannot be applied as it is."""
    for op in incoming.work.ops:
        check(incoming.store, op, incoming.work.schema, approved=incoming.approved)
    _wait_for_held(incoming)
    for op in incoming.work.ops:
        _check_kind(incoming, op)


def check(store: Store, op: Op, version: int, *, approved: bool = False) -> None:
    """Check what can be told from the change alone, made under a version of the declaration: table, columns, types, and what the
    table's kind allows. Raises Hold.
    """
    table = store.schema.by_name.get(op.table)
    if table is None:
        raise Hold("schema", f"the centre has no table {op.table}")
    if isinstance(op, Insert) and not op.values.keys() >= set(table.key):
        raise Hold("schema", f"rows of {op.table} come without the key that the centre has")
    if len(op.key) != len(table.key) or any(type(part) is not str or len(part.encode()) > KEY_BYTES_MAX for part in op.key):
        raise Hold("text" if any(isinstance(part, RawText) for part in op.key) else "type", f"{op.table}: not a usable key")
    accepts = accepted(store, version)
    if isinstance(op, Insert):
        check_values(table, op.values, accepts)
        check_required(table, op.values)
    elif isinstance(op, Update):
        for edit in op.edits:
            cell = table.cell_named.get(edit.cell)
            if cell is None or (table.name, cell.name, edit.columns) not in known_cells(store.schema):
                raise Hold("schema", f"the centre has no {op.table}.{edit.cell}")
            check_values(table, dict(zip(edit.columns, edit.new, strict=True)), accepts)
    if table.kind is Kind.REFERENCE and not approved:
        raise Hold("reference", f"{table.name} is kept by the central office; this stands as a proposal")


def _check_kind(incoming: Incoming, op: Op) -> None:
    """Check that a document or event that is at the centre stays as it is; what is only held may still be corrected."""
    table = incoming.store.schema.by_name[op.table]
    if incoming.approved or not table.immutable or isinstance(op, Insert):
        return
    if scopes.rid_of(incoming.store, table, op.key) is not None or rows.grave(incoming.store, table, op.key) is not None:
        raise Hold("immutable", f"a {table.name} that was recorded is not changed; record a correction instead")


def _wait_for_held(incoming: Incoming) -> None:
    """Hold what shares a row with earlier held work of the same node, or hangs a child under it (RULES H9)."""
    found = incoming.store.connection.execute("SELECT 1 FROM _held_row WHERE node = ? LIMIT 1", (incoming.pusher.node,)).fetchone()
    if found is None:
        return
    sql = "SELECT 1 FROM _held_row WHERE node = ? AND tbl = ? AND key = ? AND held < ? LIMIT 1"
    for table, key in touched(incoming.store, incoming.work.ops) - _never_here(incoming):
        if incoming.store.connection.execute(sql, (incoming.pusher.node, table, key, incoming.held_id)).fetchone():
            raise Hold("depends", f"waits for held work on {table} {key}", (table, key))


def _never_here(incoming: Incoming) -> set[tuple[str, str]]:
    """Return the places under rows it deletes that never were here: what is held there waits for a row that will not come."""
    tables = incoming.store.schema.by_name
    gone = [op for op in incoming.work.ops if isinstance(op, Delete) and scopes.rid_of(incoming.store, tables[op.table], op.key) is None]
    return {(op.table + BELOW, key_text(op.key)) for op in gone if rows.grave(incoming.store, tables[op.table], op.key) is None}
