"""A world whose centre and nodes run programs of different versions, and are upgraded in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import node.database
import server.database
from node.cycle import Cycle
from node.report import Report
from schema.lens import Lens
from schema.registry import Schema
from server import held as held_work
from server.service import Service
from tests.healing.copies import replace_centre
from tests.skew.declarations import VERSIONS, declared
from tests.world import Node, World

SIDES = {"node": "k1.db", "server": "server.db"}
"""The files of a node called k1 and of the centre."""


class SkewedWorld(World):
    """A world at one version of a declaration; nodes are made with one of their own."""

    def __init__(self, folder: Path, version: int, family: Schema | None = None) -> None:
        self.family = family or declared(VERSIONS[-1])
        super().__init__(folder, self.family.at(version))

    def node_of(self, version: int, name: str, *scope: str) -> Node:
        """Return a new node with a program of this version."""
        mine, self.schema = self.schema, self.family.at(version)
        try:
            return self.node(name, *(scope or ("branch:LON",)))
        finally:
            self.schema = mine

    def upgrade_centre(self, version: int, copy: Path | None = None) -> None:
        """Stop the centre and start a program of a version on the same file, or on a copy in its place."""
        self.database.close()
        self.schema = self.family.at(version)
        place = self.database.path if copy is None else replace_centre(self, copy)
        self.database = server.database.Database(place, self.schema, clock_ms=self.clock.read)
        self.service = Service(self.database)

    def upgrade(self, name: str, version: int) -> Node:
        """Close a node's program and open a newer one on the same file."""
        entry = self.nodes[name]
        clock_ms = entry.database.clock_ms
        entry.database.close()
        entry.database = node.database.Database(self.folder / f"{name}.db", self.family.at(version), clock_ms)
        return entry

    def held(self) -> list[str]:
        """Return the codes of all held work."""
        with self.database.reading() as store:
            return [held.code for held in held_work.waiting(store)]

    def centre_row(self, table: str, key: str) -> dict[str, Any] | None:
        return self._row(self.database, table, key)

    def row(self, name: str, table: str, key: str) -> dict[str, Any] | None:
        return self._row(self.nodes[name].database, table, key)

    def _row(self, database: Any, table: str, key: str) -> dict[str, Any] | None:
        connection = database.dialect.open(database.path)
        try:
            names = list(database.dialect.columns_of(connection, table))
            found = connection.execute(f"SELECT * FROM {table} WHERE id = ?", (key,)).fetchone()
            return None if found is None else {name: value for name, value in zip(names, found, strict=True) if name != "_rid"}
        finally:
            connection.close()


def opened(world: SkewedWorld, side: str, schema: Schema) -> Any:
    """Open one of `SIDES` by a program with these tables."""
    if side == "node":
        return node.database.Database(world.folder / SIDES[side], schema, world.clock.read)
    return server.database.Database(world.database.path, schema, clock_ms=world.clock.read)


def pulls(entry: Node) -> int:
    """Let a node pull only; return the rows that came."""
    report = Report()
    Cycle(entry.database, entry.link).pull(report)
    return report.pulled


def named(version: int, table: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return values by newest names as a program of a version has them; those it does not know are left out."""
    newest = declared(VERSIONS[-1])
    if version == newest.version:
        return {name: value for name, value in values.items() if name in newest.by_name[table].position}
    columns = Lens(declared(version), newest).tables[table].columns
    found = {}
    for column in columns:
        name = column.newer.name if column.newer is not None else column.older.name if column.older is not None else ""
        if name in values and column.older is not None:
            found[column.older.name] = column.down(values[name])
    return found


def insert(entry: Node, table: str, values: dict[str, Any]) -> None:
    """Insert a row by plain SQL, as any program does that was written for the node's version."""
    mine = named(entry.database.schema.version, table, values)
    entry.sql(f"INSERT INTO {table} ({', '.join(mine)}) VALUES ({', '.join('?' * len(mine))})", *mine.values())


def update(entry: Node, table: str, key: str, values: dict[str, Any]) -> None:
    """Change a row by plain SQL; what the node's version does not know stays unsaid."""
    mine = named(entry.database.schema.version, table, values)
    if mine:
        entry.sql(f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in mine)} WHERE id = ?", *mine.values(), key)
