"""Composing: what several transactions of one node make together, one after the other, as if they had been one.

A correction takes the place of held work (PROTOCOL.md §6.7): the centre judges the two as one transaction. Changes of one row
become one change that knows as little as the least of them knew: it has the least base and the least since.

    insert, update ─► insert      update, update ─► update      delete, insert ─► delete, insert
    insert, delete ─► nothing     update, delete ─► delete      insert on a delete, delete ─► delete
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sync.change import NEVER, Delete, Edit, Insert, Key, Op, Transaction, Update
from sync.merge import replay
from sync.policy import Policy
from sync.values import Value

PolicyOf = Callable[[str, str], Policy]
"""Returns the policy of (table, cell)."""

Row = tuple[str, Key]


def compose(works: Sequence[Transaction], policy_of: PolicyOf) -> tuple[Transaction, set[Row]]:
    """Return what transactions, oldest first, make together, under the name of the last one; and the rows they gave up: those
    whose insert another of them took back.
    """
    rows: dict[Row, list[Op]] = {}
    given_up: set[Row] = set()
    for work in works:
        for op in map(_typed_under(work.number), work.ops):
            row = (op.table, op.key)
            made = rows.get(row, [])
            is_second_end = len(made) > 1 and isinstance(op, Delete)  # deleted, inserted, deleted: the first deletion says it all
            joined = _joined(made[-1], op, work.number, policy_of) if made and not is_second_end else [op]
            rows[row] = made[:1] if is_second_end else [*made[:-1], *joined]
            (given_up.add if made and not rows[row] else given_up.discard)(row)
    last = works[-1]
    base = min(work.base for work in works)
    decisions = list(dict.fromkeys(conflict for work in works for conflict in work.decisions))
    ops = [op for made in rows.values() for op in made]
    schema = max(work.schema for work in works)
    return Transaction(last.index, last.number, last.wall, base, ops, decisions, last.before, last.withdrawals, schema), given_up


def _typed_under(number: int) -> Callable[[Op], Op]:
    """Return what makes a change name its own number: in another transaction it would stand for another one."""

    def name(op: Op) -> Op:
        if isinstance(op, Insert):
            return replace(op, since=number if op.since == NEVER else op.since, number=number)
        if isinstance(op, Update):
            return replace(op, edits=[replace(edit, number=number) for edit in op.edits])
        return replace(op, number=number)

    return name


def _joined(first: Op, then: Op, number: int, policy_of: PolicyOf) -> list[Op]:
    """Return two changes of one row as one, or as two where the row began another life. `number`: of the second."""
    if isinstance(then, Delete):
        return [] if isinstance(first, Insert) and first.base == NEVER else [_deleted(first, then)]
    if isinstance(then, Insert):
        return [first, then] if isinstance(first, Delete) else [then]
    if isinstance(first, Insert):
        return [_inserted(first, then, number, policy_of)]
    return [_updated(first, then, policy_of)] if isinstance(first, Update) else [first, then]


def _deleted(first: Op, then: Delete) -> Delete:
    known = [(edit.base, edit.since) for edit in first.edits] if isinstance(first, Update) else [(first.base, first.since)]
    return replace(then, base=min(then.base, *(base for base, _ in known)), since=min(then.since, *(since for _, since in known)))


def _inserted(first: Insert, then: Update, number: int, policy_of: PolicyOf) -> Insert:
    values = dict(first.values)
    for edit in then.edits:
        standing = tuple(values.get(name, old) for name, old in zip(edit.columns, edit.old, strict=True))
        values.update(zip(edit.columns, replay(policy_of(then.table, edit.cell), edit.old, edit.new, standing), strict=True))
    return replace(first, values=values, later={**first.later, **{edit.cell: number for edit in then.edits}})


def _updated(first: Update, then: Update, policy_of: PolicyOf) -> Update:
    edits = list(first.edits)
    for edit in then.edits:
        place = next((place for place, each in enumerate(edits) if each.cell == edit.cell), None)
        if place is None:
            edits.append(edit)
        elif policy_of(then.table, edit.cell).differential:
            edits = _one_after_the_other(edits, edit)
        else:
            edits[place] = _edited(edits[place], edit)
    return Update(then.table, then.key, edits)


def _one_after_the_other(edits: Sequence[Edit], then: Edit) -> list[Edit]:
    """Return edits with one more of a cell whose differences do not make one: an element that was added and, when another had
    added it as well, taken out again is gone.
    """
    same = [edit for edit in [*edits, then] if edit.cell == then.cell]
    base, since = min(edit.base for edit in same), min(edit.since for edit in same)
    return [replace(edit, base=base, since=since) if edit.cell == then.cell else edit for edit in [*edits, then]]


def _edited(first: Edit, then: Edit) -> Edit:
    """Return two edits of a cell as one: each column from its first old to its last new value. After an upgrade the later may know
    columns of a group that the earlier did not, or the other way round.
    """
    columns = tuple(dict.fromkeys((*then.columns, *first.columns)))
    old = {**_named(then.columns, then.old), **_named(first.columns, first.old)}
    new = {**_named(first.columns, first.new), **_named(then.columns, then.new)}
    whole = replace(then, columns=columns, old=tuple(old[name] for name in columns), new=tuple(new[name] for name in columns))
    return replace(whole, base=min(first.base, then.base), since=min(first.since, then.since))


def _named(columns: Sequence[str], values: Sequence[Value]) -> dict[str, Value]:
    return dict(zip(columns, values, strict=True))
