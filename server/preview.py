"""What a change of the declaration touches: versions of the centre and of its nodes, before anything is changed.

Reads the file as it is, whatever release wrote it, and upgrades nothing. Used by `outpost server schema`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schema import bookkeeping
from schema.dialects.base import Connection, Dialect
from schema.lens import ColumnLens, Lens
from schema.registry import Schema
from server.database import Place, dialect_of, named, require_there
from sync.errors import NotJoined


@dataclass(frozen=True, slots=True)
class Touched:
    """One node: its version as it last told, and what the declaration has that it has not, or has otherwise."""

    name: str
    version: int | None
    last_seen_ms: int | None
    unsynced: int | None
    changes: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """Return it as `--json` prints it."""
        return {
            "node": self.name,
            "version": self.version,
            "last_seen_ms": self.last_seen_ms,
            "unsynced": self.unsynced,
            "changes": list(self.changes),
        }


@dataclass(frozen=True, slots=True)
class Preview:
    """What upgrading a centre's file to a declaration would do: `stored` is the version of the file."""

    stored: int
    declared: int
    changes: tuple[str, ...]
    unconverted: int
    nodes: tuple[Touched, ...]

    def document(self) -> dict[str, object]:
        """Return it as `--json` prints it."""
        nodes = [node.document() for node in self.nodes]
        return {
            "stored": self.stored,
            "declared": self.declared,
            "changes": list(self.changes),
            "unconverted": self.unconverted,
            "nodes": nodes,
        }


def preview(place: Place, schema: Schema) -> Preview:
    """Return what a declaration means for a centre's database and its nodes. Raises NotJoined, NewerFile, OtherTables; changes nothing."""
    require_there(place)
    dialect = dialect_of(place)
    connection = dialect.open(place, readonly=True)
    try:
        written = bookkeeping.read(connection, dialect)
        if written is None:
            raise NotJoined(f"{named(place)} is no server's database.")
        bookkeeping.require_known(written, schema)
        bookkeeping.require_declared(connection, dialect, schema)
        nodes = tuple(_node(row, schema) for row in _nodes(connection, dialect))
        return Preview(written.schema, schema.version, changes(schema, written.schema), _unconverted(connection, dialect), nodes)
    finally:
        connection.close()


def _nodes(connection: Connection, dialect: Dialect) -> list[Any]:
    version = "schema" if "schema" in dialect.columns_of(connection, "_node") else "NULL"
    return connection.execute(
        f"SELECT name, {version}, COALESCE(last_push_ms, 0), COALESCE(last_pull_ms, 0), unsynced FROM _node"
        " WHERE revoked_ms IS NULL AND joined_ms IS NOT NULL ORDER BY name"
    ).fetchall()


def _node(row: Any, schema: Schema) -> Touched:
    name, version, last_push_ms, last_pull_ms, unsynced = row
    return Touched(name, version, max(last_push_ms, last_pull_ms) or None, unsynced, changes(schema, version or 1))


def _unconverted(connection: Connection, dialect: Dialect) -> int:
    if "_unconverted" not in dialect.tables_there(connection):
        return 0
    return int(connection.execute("SELECT COUNT(*) FROM _unconverted").fetchone()[0])


def changes(schema: Schema, version: int) -> tuple[str, ...]:
    """Return in words what changed in a declaration since an earlier version, by table and column."""
    lens = Lens(schema.at(version), schema)
    found = []
    for table in schema.tables:
        if table.name not in lens.tables:
            found.append(f"{table.name}: new table")
            continue
        found += [f"{table.name}.{words}" for column in lens.tables[table.name].columns if (words := _words(column)) is not None]
    return tuple(found)


def _words(column: ColumnLens) -> str | None:
    older, newer = column.older, column.newer
    if older is None:
        return None if newer is None else f"{newer.name}: new column"
    if newer is None:
        return f"{older.name}: dropped"
    if older.name != newer.name:
        retyped = f", {newer.type} instead of {older.type}" if column.changes else ""
        return f"{newer.name}: called {older.name} before{retyped}"
    return f"{newer.name}: {newer.type} instead of {older.type}" if column.changes else None
