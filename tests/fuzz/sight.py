"""Who may have seen what: worked out from the declarations alone, with nothing of server/scopes.py.

The centre's own values carry marks, a mark for every row and every writing of it. A node may have seen a mark if its row was in
a scope of the node at the end of any commit since; what shows another mark is a leak, however it came about. And two things no
request may do to a row whose scopes nobody was ever given: change it, or bring it into one that somebody was. Only somebody at
the centre may, by letting work pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from schema.declare import By, Everyone, Table
from schema.registry import Schema

_MARK = re.compile(rb"<mark \d{6}>")

All = Callable[..., list[Any]]
"""Runs SQL against the centre's tables and returns rows."""

Place = tuple[str, tuple[str, ...]]
"""Where a row is: table and key."""

Row = tuple[Any, ...]


class Sight:
    """What every node may have seen so far. `given` is what each was given, by node id."""

    def __init__(self, schema: Schema, rows: All) -> None:
        self.schema, self.rows = schema, rows
        self.given: dict[str, frozenset[str]] = {}
        self.places: dict[Place, list[str]] = {}
        self._seen: dict[str, set[str]] = {}
        self._ever: set[str] = set()  # scope keys that anybody was ever given
        self._had: dict[Place, set[str]] = {}  # scope keys that each row ever had
        self._hidden: dict[Place, Row | None] = {}  # rows that had none of those, as they stood
        self._count = 0

    def entitle(self, identity: str, scope: tuple[str, ...]) -> None:
        """Note what a node is given, from now on."""
        self.given[identity] = frozenset(scope)
        self._ever.update(scope)
        self._seen.setdefault(identity, set())
        self.look()

    def in_scope(self, scope: tuple[str, ...]) -> set[str]:
        """Return the marks of the rows that have one of these scope keys as they stand."""
        standing = _Standing(self.schema, self.rows, self.places)
        return {mark for place, marks in self.places.items() if not standing.keys(*place).isdisjoint(scope) for mark in marks}

    def shown(self, identity: str, marks: set[str]) -> None:
        """Note that a node may have seen marks between two versions of one commit."""
        self._seen[identity].update(marks)

    def mark(self, table: str, *key: str) -> str:
        """Return a mark that nothing has yet, for a value of a row. An element of a set has it in its key."""
        self._count += 1
        text = f"<mark {self._count:06}>"
        place = (table, key if len(key) == len(self.schema.by_name[table].key) else (*key, text))
        self.places.setdefault(place, []).append(text)
        return text

    def look(self) -> list[str]:
        """Note who can see what as it stands; tell what became of rows that nobody could see: changed, dead, or seen."""
        done, hidden = list[str](), dict[Place, Row | None]()
        standing = _Standing(self.schema, self.rows, self.places)
        for place, marks in self.places.items():
            keys = standing.keys(*place)
            for identity in [identity for identity, scope in self.given.items() if not scope.isdisjoint(keys)]:
                self._seen[identity].update(marks)
            row, before, had = standing.row(*place), self._hidden.get(place), self._had.setdefault(place, set())
            if not self._ever.isdisjoint(had | keys):
                is_it = any(mark in repr(row) for mark in marks)  # and not another row that took the key of a dead one
                done += [f"{place} came into a scope"] if place in self._hidden and self._ever.isdisjoint(had) and is_it else []
            else:
                hidden[place] = row
                done += [f"{place} was changed"] if before is not None and row != before else []
            had.update(keys)
        self._hidden = hidden
        return done

    def foreign(self, identity: str | None, told: bytes) -> set[str]:
        """Return the marks in something told to a node, or to nobody we know, that are of rows it never was entitled to."""
        return {mark.decode() for mark in _MARK.findall(told)} - self._seen.get(identity or "", set())


class _Standing:
    """Rows and their scope keys as they stand at one moment, each read once."""

    def __init__(self, schema: Schema, rows: All, places: Iterable[Place]) -> None:
        self.schema, self.rows = schema, rows
        self._rows: dict[Place, Row | None] = {}
        self._known: dict[Place, frozenset[str]] = {}
        wanted: dict[str, list[tuple[str, ...]]] = {}
        for name, key in places:
            wanted.setdefault(name, []).append(key)
            self._rows[name, key] = None
        for name, keys in wanted.items():
            table = schema.by_name[name]
            text = json.dumps(sorted({key[0] for key in keys}))
            for row in rows(f'SELECT {_columns(table)} FROM "{name}" WHERE "{table.key[0]}" IN (SELECT value FROM json_each(?))', text):
                self._rows[name, row[: len(table.key)]] = row

    def row(self, name: str, key: tuple[str, ...]) -> Row | None:
        """Return a row, or None if it is not there."""
        if (name, key) not in self._rows:
            table = self.schema.by_name[name]
            where = " AND ".join(f'"{column}" = ?' for column in table.key)
            self._rows[name, key] = next(iter(self.rows(f'SELECT {_columns(table)} FROM "{name}" WHERE {where}', *key)), None)
        return self._rows[name, key]

    def keys(self, name: str, key: tuple[str, ...]) -> frozenset[str]:
        """Return the scope keys of a row, none if it is not there."""
        if (name, key) not in self._known:
            row = self.row(name, key)
            self._known[name, key] = frozenset(self._keys_of(self.schema.by_name[name], row)) if row is not None else frozenset()
        return self._known[name, key]

    def _keys_of(self, table: Table, row: Row) -> Iterator[str]:
        for rule in table.scope:
            if isinstance(rule, Everyone):
                yield "*"
                continue
            value = row[table.position[rule.column]]
            if value is not None:
                yield from [f"{rule.prefix}:{value}"] if isinstance(rule, By) else self.keys(rule.table, (value,))


def _columns(table: Table) -> str:
    return ", ".join(f'"{name}"' for name in table.names)
