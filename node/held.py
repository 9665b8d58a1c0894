"""Held work as the people of a node see it: what waits, why, since when, what hangs on it, what can be done; and doing it.

    held at the centre ─┐
    withheld here       ├─ listing ─► correct · withdraw · export
    refused, withdrawn ─┘

A correction is an ordinary write of the held rows (node/withdrawing.py finds out what it takes the place of); of refused and
withdrawn work it is that work written anew. Spec: PROTOCOL.md §6.7, §8.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from node import outbox, pending
from node.aside import BY_REPAIR, HELD, REFUSED, REPLACED, WITHDRAWN, put_aside
from node.conflicts import typed
from node.database import Database
from node.group import Group
from node.sealing import Sealing
from node.verdicts import WAITING
from node.withdrawing import parents_named
from node.writer import Transaction, transaction
from schema import advice, kept
from schema.capture import Change, Store, mark_all, set_applying
from schema.declare import Table
from schema.dialects.base import Connection
from schema.dialects.sqlite import quote
from schema.keys import bound, cell_json, key_json, key_text, where_key
from schema.registry import Schema
from sync.change import Delete, Insert, Op, Update
from sync.change import Transaction as Sealed
from sync.compose import compose
from sync.errors import BadValue, NoSuch

Document = dict[str, Any]

WITHHELD_BY = "this node"

_ON_ITS_WAY = {None: "", 0: "withdrawal", 1: "correction"}
_OPPOSITE = {"correct": "withdrawal", "withdraw": "correction"}
_DONE = {"correct": "corrected", "withdraw": "withdrawn"}


@dataclass(slots=True)
class Work:
    """One transaction that is held, refused or withdrawn, as this node keeps it."""

    segment: bytes
    txn: int
    verdict: str
    code: str
    reason: str
    at_ms: int
    at_centre: bool = True  # else withheld here
    taking_back: str = ""  # what of ours is on its way: a correction, or a withdrawal
    ops: list[Op] = field(default_factory=list)

    @property
    def identity(self) -> str:
        """Return what people call it by."""
        return kept.identity(self.segment, self.txn)

    @property
    def is_elsewhere(self) -> bool:
        """Tell whether the centre has it and this disk has not: it was put back to before that was typed, or a copy typed it."""
        return not self.ops


def works(store: Store, low: bytes = b"", high: bytes = b"\xff" * 17) -> list[Work]:
    """Return the work that is held, refused or withdrawn, of segments from `low` to `high`: what waits first, oldest first."""
    found: dict[tuple[bytes, int, str], Work] = {}
    sql = (
        "SELECT x.segment, x.txn, x.verdict, x.code, x.reason, x.at_ms, x.version < ?, (SELECT MAX(w.replaced) FROM _withdrawal w"
        " WHERE w.segment = x.segment AND w.txn = x.txn AND w.by_segment NOT IN (SELECT id FROM _segment WHERE version > ?)),"
        " o.tbl, o.kind, o.body"
        " FROM _txn x LEFT JOIN _op o ON o.segment = x.segment AND o.txn = x.txn"
        " WHERE x.verdict IN ('held', 'refused', 'withdrawn') AND x.segment BETWEEN ? AND ? AND (x.verdict = 'held' OR o.id IS NOT NULL)"
        " ORDER BY o.n, o.id"
    )
    for segment, txn, verdict, code, reason, at_ms, at_centre, replaced, name, kind, body in store.connection.execute(
        sql, (WAITING, WAITING, low, high)
    ):
        new = Work(segment, txn, verdict, code, reason, at_ms, bool(at_centre), _ON_ITS_WAY[replaced])
        work = found.setdefault((segment, txn, verdict), new)
        if name is not None:
            work.ops.append(pending.unpack(name, kind, body))
    sql = "SELECT segment, txn, tbl, kind, body, code, reason, at_ms FROM _quarantine WHERE segment BETWEEN ? AND ? ORDER BY n, id"
    for segment, txn, name, kind, body, code, reason, at_ms in store.connection.execute(sql, (low, high)).fetchall():
        verdict = WITHDRAWN if code in (REPLACED, WITHDRAWN) else REFUSED
        work = found.setdefault((segment, txn, "aside"), Work(segment, txn, verdict, code, reason, at_ms))
        work.ops.append(pending.unpack(name, kind, body))
    return list(found.values())


def listing(store: Store, withdrawn: bool = False) -> list[Document]:
    """Return work the centre holds or refused, or this node withholds, row by row; or what was `withdrawn`."""
    every = works(store)
    return _rows(store, every, [work for work in every if (work.verdict == WITHDRAWN) == withdrawn])


def listed(store: Store, limit: int, withdrawn: bool = False) -> tuple[list[Document], int]:
    """Return the listing of the first `limit` transactions, and how many more there are."""
    every = works(store)
    meant = [work for work in every if (work.verdict == WITHDRAWN) == withdrawn]
    return _rows(store, every, meant[:limit]), len(meant) - limit


def _rows(store: Store, every: Sequence[Work], meant: Iterable[Work]) -> list[Document]:
    held = [work for work in every if work.verdict == HELD]
    heads = ((work, _head(store.schema, work, held)) for work in meant)
    return [{**head, **row} for work, head in heads for row in ([kept.row(op) for op in work.ops] or [kept.row(None)])]


def _head(schema: Schema, work: Work, held: Sequence[Work]) -> Document:
    return {
        "id": work.identity,
        "verdict": work.verdict,
        "code": work.code,
        "why": advice.WHY.get(work.code, work.reason),
        "reason": work.reason,
        "at_ms": work.at_ms,
        "by": "centre" if work.at_centre else WITHHELD_BY,
        "on_its_way": work.taking_back or None,
        "dependants": _dependants(schema, work, held) if work.verdict == HELD else [],
        "can": _advice(work),
    }


def _advice(work: Work) -> list[advice.Advice]:
    if work.code == REPLACED or work.taking_back:
        return []
    return advice.elsewhere(work.identity) if work.is_elsewhere else advice.for_node(work.identity, work.code, work.verdict)


def _dependants(schema: Schema, work: Work, held: Sequence[Work]) -> list[str]:
    """Return the held work that waits for this: it writes one of its rows later, or hangs a row under one."""
    rows = {(op.table, key_text(op.key)) for op in work.ops}
    after = held[held.index(work) + 1 :]
    return [other.identity for other in after if other.code in ("depends", "parent") and not rows.isdisjoint(_needs(schema, other.ops))]


def _needs(schema: Schema, ops: Sequence[Op]) -> set[tuple[str, str]]:
    """Return the rows that changes write, and the parents they name."""
    rows = {(op.table, op.key) for op in ops} | parents_named(schema, ops)
    return {(table, key_text(key)) for table, key in rows}


def export(store: Store) -> Document:
    """Return everything held, refused and withdrawn, as a document to keep: values for people, and exactly (`sealed`)."""
    exact = (kept.sealed(work.segment, work.txn, work.verdict, work.ops) for work in works(store))
    return {"format": kept.FORMAT, "held": iter(listing(store)), "withdrawn": iter(listing(store, withdrawn=True)), "sealed": exact}


# --- correcting ---------------------------------------------------------------------------------------------------------


def find(store: Store, identity: str) -> Work:
    """Return held, refused or withdrawn work by its id, or enough of its beginning. Raises NoSuch."""
    found = [work for work in works(store, *_segments(identity)) if work.code != REPLACED and work.identity.startswith(identity.lower())]
    exact = [work for work in found if work.identity == identity.lower()]
    if len(exact or found) != 1:
        raise NoSuch(
            f"There is no held work {identity} here. See: outpost node held"
            if not found
            else f"{identity} fits {len(found)} of them; give more of the id."
        )
    return (exact or found)[0]


def _segments(identity: str) -> tuple[bytes, bytes]:
    """Return the first and the last segment an id, or the beginning of one, may stand for; none fits what is no id."""
    digits = identity.lower().partition(".")[0]
    if not digits or len(digits) > 8 or not set(digits) <= set("0123456789abcdef"):
        return b"\xff", b""
    return bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))


def correct(database: Database, identity: str, changes: Sequence[str], row: str | None = None) -> Document:
    """Set columns of a row of held, refused or withdrawn work, and send it again; return what was written.

    `changes`: COLUMN=VALUE each, an empty VALUE being an empty text; `row`: TABLE or TABLE:KEY, where the work has several; without
    it the first new row is meant. Raises NoSuch, BadValue; then nothing changed.
    """
    work = _settled(database, identity, "correct")
    if work.is_elsewhere:
        raise BadValue(f"{work.identity} is not on this computer, so there is nothing to set. The central office has it whole.")
    work.ops = _net(database.store.schema, work.ops)
    if not work.ops:
        raise BadValue(
            f"There is nothing in {work.identity} to send again: it took back itself what it had brought, or it wrote only columns that"
            " are not in use any more. It is kept here. Withdraw it."
        )
    op = _chosen(work, row)
    if isinstance(op, Delete):
        raise BadValue(f"{work.identity} deletes that row, so there is nothing to set in it. Withdraw it, or write the row anew.")
    table = database.schema.by_name[op.table]
    values = _values(table, changes)
    if table.immutable and any(entry.segment != work.segment for entry in pending.of_row(database.store, table, op.key)):
        raise BadValue(
            f"A correction of this {table.name} goes with the next sync already, and then it is in the books or waits for a new reason."
            " Nothing was changed. Send it: outpost node sync"
        )
    with transaction(database) as writing:
        if work.verdict == HELD:
            _update(writing, table, op, values)
        else:
            _write_again(writing, database, work, op, values)
    return {"id": work.identity, "table": op.table, "key": key_json(op.key), "values": {n: cell_json([v]) for n, v in values.items()}}


def _settled(database: Database, identity: str, wish: Literal["correct", "withdraw"]) -> Work:
    """Return the work that is meant, once what any program wrote of it is sealed. Raises NoSuch; BadValue where the opposite of
    the wish is on its way: the centre takes the one that reaches it first, and the other would have no effect.
    """
    with database.writing() as store:
        outbox.seal(store, database.clock_ms())
    work = find(database.store, identity)
    if work.taking_back == _OPPOSITE[wish]:
        raise BadValue(
            f"A {work.taking_back} of {work.identity} is on its way already, so it cannot be {_DONE[wish]} now. Nothing was changed."
            " Sync first, then look at what became of it: outpost node sync"
        )
    return work


def _chosen(work: Work, row: str | None) -> Op:
    """Return the change of the row that is meant: the one named, the only one, or what all others hang on."""
    if row is None:
        inserts = [op for op in work.ops if isinstance(op, Insert)]
        return next(iter(inserts or work.ops))
    name, _, key = row.partition(":")
    found = [op for op in work.ops if op.table == name and (not key or key_text(op.key) == key)]
    if len({key_text(op.key) for op in found}) != 1:
        rows = ", ".join(f"{op.table}:{key_text(op.key)}" for op in work.ops[:10])
        raise BadValue(f"Name one of the rows of {work.identity} with --row: {rows}")
    return found[0]


def _values(table: Table, changes: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in table.position:
            raise BadValue(f"'{change}' is not COLUMN=VALUE with a column of {table.name}: {', '.join(table.names)}")
        values[name] = typed(table.columns[table.position[name]], text)
    return values


def _net(schema: Schema, ops: Sequence[Op]) -> list[Op]:
    """Return what changes make together, one of each row: a correction and what it had taken the place of are kept one by one.
    Of what an upgrade left without a column there is nothing to write (node/upgrade.py).
    """
    cells = {table.name: table.cell_named for table in schema.tables}
    known = [op for op in ops if not isinstance(op, Update) or any(edit.cell in cells[op.table] for edit in op.edits)]
    return compose([Sealed(0, 0, 0, 0, known)], schema.policy_of)[0].ops


def _update(writing: Transaction, table: Table, op: Op, values: Mapping[str, Any]) -> None:
    where, parameters = where_key(table, op.key)
    marks, given = bound(values.values())
    sets = ", ".join(f"{quote(name)} = {mark}" for name, mark in zip(values, marks, strict=True))
    done = writing.connection.execute(f"UPDATE {quote(table.name)} SET {sets} WHERE {where}", [*given, *parameters])
    if done.rowcount != 1:
        raise BadValue("That row is not on this node any more. Withdraw the work, or ask the central office to approve it.")


def _write_again(writing: Transaction, database: Database, work: Work, chosen: Op, values: Mapping[str, Any]) -> None:
    """Write refused or withdrawn work anew, as one transaction; the old one is kept as replaced. What it added is added to what
    stands now. Where a restored centre holds the old one again, it takes that back.
    """
    writing.withdraw(work.segment, work.txn)
    for op in work.ops:
        table = database.schema.by_name[op.table]
        mine = values if op is chosen else {}
        if isinstance(op, Insert):
            now = {**op.values, **mine}
            if pending.number_of_row(database.store, table, tuple(now[name] for name in table.key)) is not None:
                if work.code == BY_REPAIR:  # which may have put aside only what differed: what is set now is meant
                    _update(writing, table, op, mine)
                    continue
                raise BadValue(f"There is a {table.name} {key_text(op.key)} here already; change that one instead.")
            marks, given = bound(now.values())
            names = ", ".join(map(quote, now))
            writing.connection.execute(f"INSERT INTO {quote(table.name)} ({names}) VALUES ({', '.join(marks)})", given)
        elif isinstance(op, Update):
            image = pending.fold(table, pending.seen(database.store, table, op.key), op)
            if image is None:
                raise BadValue(f"The {table.name} {key_text(op.key)} is not on this node any more, so nothing was sent again. Withdraw it.")
            named = {name for edit in op.edits for name in edit.columns}
            _update(writing, table, op, {**{name: image[table.position[name]] for name in named}, **mine})
        else:
            where, parameters = where_key(table, op.key)
            writing.connection.execute(f"DELETE FROM {quote(table.name)} WHERE {where}", parameters)
    _set_code(writing.connection, work, REPLACED)


def _set_code(connection: Connection, work: Work, code: str) -> None:
    """Note what became of work that had been put aside."""
    connection.execute("UPDATE _quarantine SET code = ? WHERE segment = ? AND txn = ?", (code, work.segment, work.txn))


# --- withdrawing --------------------------------------------------------------------------------------------------------


def withdraw(database: Database, identity: str) -> Document:
    """Take held or refused work back: kept, listed as withdrawn, not applied. Raises NoSuch, BadValue.

    Held at the centre, it leaves what people see once the centre has taken it back; withheld here, at once. Refused work has
    left it already: it only leaves the list of what somebody must look at.
    """
    work = _settled(database, identity, "withdraw")
    if work.verdict == WITHDRAWN:
        raise BadValue(f"{work.identity} is withdrawn already: it is kept here and not applied.")
    with transaction(database) as writing:
        if work.verdict == REFUSED:
            _set_code(writing.connection, work, WITHDRAWN)
        elif work.at_centre:
            writing.withdraw(work.segment, work.txn)
        else:
            _give_up(database.store, work, database.clock_ms())
    return {"id": work.identity, "at_centre": work.verdict == HELD and work.at_centre, "here": not work.is_elsewhere}


def _give_up(store: Store, work: Work, now_ms: int) -> None:
    """Put aside what waits on this node, and let the centre know of its new rows that they will not come."""
    gone = [Change(store.schema.by_name[op.table], "delete", op.key, 0, None) for op in work.ops if isinstance(op, Insert)]
    if gone:
        sealing = Sealing(store, now_ms)
        sealing.add(Group(gone))
        sealing.finish()
    set_applying(store, True)
    put_aside(store, (work.segment, work.txn), WITHDRAWN, "it was withdrawn on this node", now_ms)
    store.connection.execute("DELETE FROM _txn WHERE segment = ? AND txn = ?", (work.segment, work.txn))
    mark_all(store)
    set_applying(store, False)
