"""Changed keys: what a row had that the writer's version of the declaration does not have goes with it to its new key.

A changed key comes as a delete and an insert in one transaction (PROTOCOL.md §5.1), and the insert of a node of another version
does not name every column. Spec: PROTOCOL.md §11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schema.declare import Table
from schema.images import pack_values
from schema.lens import TableLens

Row = Sequence[Any]


@dataclass(slots=True)
class Buried:
    """The rows that one transaction deleted, to be found by what an insert names of them."""

    _rows: dict[str, list[Row]] = field(default_factory=dict)
    _found: dict[tuple[str, tuple[str, ...]], dict[bytes, list[Row]]] = field(default_factory=dict)

    def add(self, table: Table, row: Row) -> None:
        """Note a row that was deleted."""
        self._rows.setdefault(table.name, []).append(row)

    def completed(self, table: Table, values: Mapping[str, Any], lens: TableLens | None) -> dict[str, Any]:
        """Return the values of an insert, with those of the one deleted row that it repeats in the columns that it does not name, and
        in those that its writer was shown otherwise than they stood. `lens`: how the writer's version has the table; None: it is later.
        """
        if table.name not in self._rows or (lens is not None and lens.is_plain):
            return dict(values)
        named = tuple(name for name in table.names if name in values and name not in table.key)
        rows = self._by(table, named, lens).get(pack_values([values[name] for name in named]), [])
        if len(rows) != 1:
            return dict(values)  # whose the values would be, nobody knows
        kept = dict(zip(table.names, rows[0], strict=True))
        return {**kept, **{name: values[name] for name in table.key}}

    def _by(self, table: Table, named: tuple[str, ...], lens: TableLens | None) -> dict[bytes, list[Row]]:
        """Return the deleted rows of a table by their values in some columns, as they stood and as the writer was shown them."""
        if (table.name, named) not in self._found:
            found = self._found[table.name, named] = {}
            for row in self._rows[table.name]:
                stood = dict(zip(table.names, row, strict=True))
                shown = {name: _shown(lens, name, stood[name]) for name in named}
                for side in {pack_values([each[name] for name in named]) for each in (stood, shown)}:
                    found.setdefault(side, []).append(row)
        return self._found[table.name, named]


def _shown(lens: TableLens | None, name: str, value: Any) -> Any:
    """Return what a value is to a writer whose version has its column otherwise, in the centre's type."""
    column = lens.by_newer.get(name) if lens is not None else None
    return value if column is None or column.older is None else column.up(column.down(value))
