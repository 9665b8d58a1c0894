"""Brought: which documents and rows an import has brought into this database, so that none comes back that was deleted since.

`_imported` has 16 bytes for each, in the database they went into and in the same commit: it grows with what is imported, and
forgets nothing. A digest instead of the id, for an id may be somebody's tax number, and what leaves a node leaves its disk.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from schema.importer.target import Connection

TABLE = "CREATE TABLE IF NOT EXISTS _imported (id BLOB PRIMARY KEY) WITHOUT ROWID"

NAMES_PER_QUERY = 500
_NAME_BYTES = 16


def name_of(table: str, identity: object) -> bytes:
    """Return what a row is remembered by."""
    return blake2b(f"{table}\0{identity}".encode("utf-8", "surrogatepass"), digest_size=_NAME_BYTES).digest()


def among(connection: Connection, names: Sequence[bytes]) -> set[bytes]:
    """Return those of the names that were brought before."""
    found: set[bytes] = set()
    for start in range(0, len(names), NAMES_PER_QUERY):
        part = names[start : start + NAMES_PER_QUERY]
        sql = f"SELECT id FROM _imported WHERE id IN ({', '.join('?' * len(part))})"
        found.update(bytes(name) for (name,) in connection.execute(sql, part))
    return found


def remember(connection: Connection, names: Iterable[bytes]) -> None:
    """Keep names, inside the import's write transaction."""
    connection.executemany("INSERT INTO _imported (id) VALUES (?) ON CONFLICT DO NOTHING", [(name,) for name in names])
