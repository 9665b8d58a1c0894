"""Spool: the typed lines of all files in a temporary database, to be read back grouped, with memory bounded.

The file lives in a temporary folder of its own and is removed at the end. It holds what the source files hold, in the
clear like them. SQLite keeps its cache small and sorts through the disk.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlcipher3

from schema.importer.vocabulary import Scalar, When

CACHE_KIB = 16_384
LOOKUP_ENTRIES_MAX = 1_000_000

Row = tuple[Any, ...]  # file number, line, then the fields asked for

FILE, LINE = 0, 1  # places in a Row
FIRST_FIELD = 2


class Spool:
    """A context manager over the temporary database."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="outpost-import-")
        self._db: Any = sqlcipher3.connect(str(Path(self._folder.name) / "spool.db"), isolation_level=None)
        for setting in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", f"cache_size=-{CACHE_KIB}"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.execute("CREATE TABLE bad (document INTEGER, key TEXT, file INTEGER, line INTEGER)")
        self._db.execute("CREATE TABLE elsewhere (name TEXT, id TEXT, PRIMARY KEY (name, id)) WITHOUT ROWID")
        self._db.execute("CREATE TABLE referred (name TEXT, id TEXT, PRIMARY KEY (name, id)) WITHOUT ROWID")

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()
        self._folder.cleanup()

    def create(self, role: str, fields: Sequence[str]) -> None:
        """Make room for the lines of a role."""
        columns = ", ".join(f"f_{name}" for name in fields)
        self._db.execute(f"CREATE TABLE lines_{role} (seq INTEGER PRIMARY KEY, file, line, {columns})")

    def add(self, role: str, rows: Sequence[Sequence[Scalar]]) -> None:
        """Keep lines: file number, line, fields in the order of `create`."""
        if rows:
            places = ", ".join("?" * len(rows[0]))
            self._insert(f"INSERT INTO lines_{role} VALUES (NULL, {places})", rows)

    def sorted(self, role: str, keys: Sequence[str], fields: Sequence[str], when: When = ()) -> Iterator[Row]:
        """Yield the lines whose keys are not null and that `when` lets through, by keys as text, then as they came."""
        asked = "".join(f", f_{name}" for name in fields)
        conditions = [f"f_{key} IS NOT NULL" for key in keys] + [_condition(name, texts) for name, texts in when]
        order = ", ".join(f"CAST(f_{key} AS TEXT)" for key in keys)
        sql = f"SELECT file, line{asked} FROM lines_{role} WHERE {' AND '.join(conditions)} ORDER BY {order}, seq"
        return iter(self._db.execute(sql, [text for _, texts in when for text in texts]))

    def lookup(self, role: str, key: str, value: str, least: str | None) -> dict[Scalar, Scalar]:
        """Return the lookup's table: for every key (as text) the value of its first line, or of that with the least."""
        order = f"f_{least} IS NULL, f_{least}, seq" if least else "seq"
        sql = f"""SELECT CAST(f_{key} AS TEXT), f_{value} FROM lines_{role}
                  WHERE f_{key} IS NOT NULL AND f_{value} IS NOT NULL ORDER BY {order}"""
        table: dict[Scalar, Scalar] = {}
        for each, found in self._db.execute(sql):
            table.setdefault(each, found)
            if len(table) > LOOKUP_ENTRIES_MAX:
                raise MemoryError(f"a lookup over {role} has more than {LOOKUP_ENTRIES_MAX} entries")
        return table

    def count_differing(self, role: str, each: str, differ: str, within: tuple[str, str] | None) -> int:
        """Return how many values of `each` have lines that differ in `differ`; `within` (field, value) touch that."""
        having, values = "", []
        if within:
            having, values = f" AND max(f_{within[0]} = ?) = 1", [within[1]]
        sql = f"""SELECT count(*) FROM (SELECT 1 FROM lines_{role} WHERE f_{each} IS NOT NULL
                  GROUP BY f_{each} HAVING count(DISTINCT f_{differ}) > 1{having})"""
        return int(self._db.execute(sql, values).fetchone()[0])

    def add_bad(self, rows: Sequence[tuple[int, str, int, int]]) -> None:
        """Keep that a line of a document (document number, its key, file, line) was rejected."""
        self._insert("INSERT INTO bad VALUES (?, ?, ?, ?)", rows)

    def bad(self, document: int) -> Iterator[Row]:
        """Yield (key, file, line) of the document's rejected lines by key."""
        sql = "SELECT key, file, line FROM bad WHERE document = ? ORDER BY key, rowid"
        return iter(self._db.execute(sql, [document]))

    def add_elsewhere(self, table: str, ids: Iterable[Scalar]) -> None:
        """Keep ids of rows that belong to another branch."""
        self._insert("INSERT OR IGNORE INTO elsewhere VALUES (?, ?)", [(table, each) for each in ids])

    def add_referred(self, table: str, ids: Iterable[Scalar]) -> None:
        """Keep ids that imported documents refer to."""
        self._insert("INSERT OR IGNORE INTO referred VALUES (?, ?)", [(table, each) for each in ids])

    def referred_elsewhere(self, table: str) -> int:
        """Return how many rows of other branches imported documents refer to."""
        sql = "SELECT count(*) FROM referred JOIN elsewhere USING (name, id) WHERE name = ?"
        return int(self._db.execute(sql, [table]).fetchone()[0])

    def _insert(self, sql: str, rows: Sequence[Sequence[Scalar]]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(sql, rows)
        self._db.execute("COMMIT")


def _condition(name: str, texts: Sequence[str]) -> str:
    return f"CAST(f_{name} AS TEXT) IN ({', '.join('?' * len(texts))})" if texts else f"f_{name} IS NOT NULL"
