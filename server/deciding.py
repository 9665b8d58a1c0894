"""Decisions: what a person decided of a conflict, and which side's value stands then (PROTOCOL.md §6.5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from schema.capture import Store, same
from schema.images import pack_tuple, unpack_tuple
from schema.keys import key_parts
from server import rows
from server.conflicts import living

Side = Sequence[Any] | None


def close(store: Store, conflict_id: bytes, version: int, node: int, at_ms: int) -> None:
    """Note that a person decided on a node whose edits took part. Deciding twice keeps the first decision; an unknown id, one of
    others' conflicts, or of a row that has made way for another with its key, is nobody's harm. What stands then is the winner, or is
    told if it is neither side's.
    """
    found = store.connection.execute(
        "SELECT tbl, key, columns, mine, theirs, winner, (SELECT rid FROM _about WHERE conflict = id) FROM _conflict"
        " WHERE id = ? AND decided_ms IS NULL AND (mine_node = ? OR theirs_node = ?)",
        (conflict_id, node, node),
    ).fetchone()
    if found is None or _is_of_an_earlier_life(store, found[0], found[1], found[6]):
        return
    columns, winner = json.loads(found[2]), found[5]
    standing, (mine, theirs) = _standing(store, found[0], found[1], columns), map(unpack_tuple, found[3:5])
    decided = None
    if standing is not None or not columns:
        is_side = _is_standing if columns else _is_row_of
        sides = [name for name, side, other in (("mine", mine, theirs), ("theirs", theirs, mine)) if is_side(standing, side, other)]
        winner, decided = (winner if winner in sides else sides[0], None) if sides else (winner, standing)
    store.connection.execute(
        "UPDATE _conflict SET open = 0, decided_ms = ?, decided_node = ?, ver = ?, winner = ?, decided = ? WHERE id = ?",
        (at_ms, node, version, winner, pack_tuple(decided), conflict_id),
    )


def _is_of_an_earlier_life(store: Store, name: str, key: str, about: int | None) -> bool:
    """Tell whether another row has the key now than the one that a conflict is about."""
    return living(store, name, key, None) is not None and living(store, name, key, about) is None


def _standing(store: Store, name: str, key: str, columns: Sequence[str]) -> tuple[Any, ...] | None:
    """Return what stands in the columns of a conflict, or in a whole row; None for a row that is gone."""
    table = store.schema.by_name[name]
    row = rows.load(store, table, key_parts(key, len(table.key)))
    return tuple(row[1][table.position[column]] for column in columns or table.names) if row else None


def _is_standing(standing: Side, side: Side, other: Side) -> bool:
    """Tell whether a side is what stands."""
    if standing is None or side is None:
        return standing is side
    return len(side) == len(standing) and all(map(same, side, standing))


def _is_row_of(standing: Side, side: Side, other: Side) -> bool:
    """Tell whether a row that stands, or is gone, is as a side wanted it: against a deletion that is that there is a row."""
    return _is_standing(standing, side, other) or (standing is not None and side is not None and other is None)
