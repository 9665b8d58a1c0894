"""Conflicts on the node: what was, what is mine, what is theirs, and deciding.

A decision is an ordinary write of this node that names the conflict; it is recorded even if it keeps the value that
stands, so that a concurrent write elsewhere cannot be unaware of it. Spec: PROTOCOL.md §6.5; RULES §2 (b).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from node.database import Database
from node.writer import Transaction, transaction
from schema.capture import Store
from schema.dialects.sqlite import quote
from schema.keys import cell_json, column_json, key_json, where_key
from schema.past import Column
from sync.errors import BadValue, NoSuch
from sync.limits import MESSAGE_BYTES_MAX
from sync.messages import ConflictNotice
from sync.rows import tuple_of
from sync.values import INT_MAX, INT_MIN, RawText
from sync.wire import unpack


def notices(store: Store) -> list[tuple[ConflictNotice, bool]]:
    """Return all conflicts known here, newest first, each with whether a decision of ours is on its way."""
    rows = store.connection.execute("SELECT body, deciding FROM _conflict ORDER BY open DESC, version DESC, id").fetchall()
    return [(unpack(ConflictNotice, row[0], MESSAGE_BYTES_MAX), bool(row[1])) for row in rows]


def listing(store: Store) -> list[dict[str, object]]:
    """Return conflicts for people and programs."""
    return [
        {
            "id": notice.id.hex(),
            "table": notice.table,
            "key": key_json(_key(notice)),
            "column": column_json(notice.columns),
            "base": cell_json(tuple_of(notice.base)),
            "mine": cell_json(tuple_of(notice.mine)),
            "theirs": cell_json(tuple_of(notice.theirs)),
            "mine_by": notice.mine_by,
            "theirs_by": notice.theirs_by,
            "rule": notice.rule,
            "winner": notice.winner,
            "open": notice.open and not deciding,
            "deciding": deciding,
            "at_ms": notice.at_ms,
            "why": notice.why,
        }
        for notice, deciding in notices(store)
    ]


def _key(notice: ConflictNotice) -> tuple[Any, ...]:
    return tuple_of(notice.key) or ()


@dataclass(frozen=True, slots=True)
class Take:
    """A decision: one of the sides, or another value (for a group: one text per column, in order)."""

    side: Literal["mine", "theirs"] | None = None
    values: tuple[str, ...] = ()


def resolve(database: Database, conflict_id: str, take: Take) -> dict[str, object]:
    """Decide a conflict as an ordinary write; return what was written. Raises NoSuch, BadValue; then nothing changed."""
    found = [notice for notice, _ in notices(database.store) if notice.id.hex().startswith(conflict_id.lower())] if conflict_id else []
    if len(found) != 1:
        raise NoSuch(
            f"There is no conflict {conflict_id} here." if not found else f"{conflict_id} fits {len(found)} conflicts; give more of the id."
        )
    notice = found[0]
    values = _decided(database, notice, take)
    with transaction(database) as writing:
        if not _write(database, writing, notice, values):
            raise BadValue("The row is not here any more, so there is nothing to decide on this node.")
        writing.decide(notice.id)
        writing.connection.execute("UPDATE _conflict SET deciding = 1 WHERE id = ?", (notice.id,))
    return {
        "id": notice.id.hex(),
        "table": notice.table,
        "key": key_json(_key(notice)),
        "column": column_json(notice.columns),
        "value": values,
    }


def _decided(database: Database, notice: ConflictNotice, take: Take) -> dict[str, Any] | None:
    """Return the columns to write, or None for a deletion."""
    table = database.schema.by_name[notice.table]
    if take.side is None:
        columns = [table.columns[table.position[name]] for name in notice.columns]
        if not columns or len(take.values) != len(columns):
            raise BadValue(
                f"This conflict takes {len(columns) or 'no'} value(s), one for each of: {', '.join(notice.columns) or 'mine or theirs'}"
            )
        return {column.name: typed(column, text) for column, text in zip(columns, take.values, strict=True)}
    side = tuple_of(notice.mine if take.side == "mine" else notice.theirs)
    if side is None:
        return None
    if any(isinstance(value, RawText) for value in side):
        raise BadValue("That side holds text that is not clean; type the value instead.")
    names = notice.columns or table.names
    if len(side) != len(names):
        raise BadValue("That side is only part of a row; change the row itself instead.")
    return {name: value for name, value in zip(names, side, strict=True) if name not in table.key}


def typed(column: Column, text: str) -> Any:
    """Return a text as a value of a column. Raises BadValue."""
    read: dict[str, Callable[[str], Any]] = {"integer": _integer, "real": _real, "text": str, "blob": bytes.fromhex}
    try:
        return read[column.type](text)
    except ValueError as error:
        raise BadValue(f"'{text}' is not a value for {column.name} ({column.type}).") from error


def _integer(text: str) -> int:
    """Return a whole number as a database holds it: plain digits, 64 bits. Raises ValueError."""
    number = int(text) if re.fullmatch("[+-]?[0-9]+", text) else None
    if number is None or not INT_MIN <= number <= INT_MAX:
        raise ValueError
    return number


def _real(text: str) -> float:
    """Return a finite number written in plain digits. Raises ValueError."""
    if not re.fullmatch("[-+.eE0-9]+", text) or not math.isfinite(float(text)):
        raise ValueError
    return float(text)


def _write(database: Database, writing: Transaction, notice: ConflictNotice, values: dict[str, Any] | None) -> bool:
    table = database.schema.by_name[notice.table]
    if values is None:
        where, parameters = where_key(table, _key(notice))
        return bool(writing.connection.execute(f"DELETE FROM {quote(table.name)} WHERE {where}", parameters).rowcount == 1)
    return bool(writing.update(notice.table, _key(notice), values, force=True))
