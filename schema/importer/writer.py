"""Writer: puts units into the target, each one sync transaction, and only those that are not there yet.

Units are collected; for a batch of them the ids that the database already has are asked for at once, then each unit is
written whole or found to be there. Documents that are there in part are rejected: they are never changed.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from schema.importer.errors import MappingInvalid
from schema.importer.report import ImportReport
from schema.importer.target import ImportTarget
from schema.importer.vocabulary import Scalar

BATCH_ROWS = 5_000  # ids asked for at once
COMMIT_ROWS = 20_000
COMMIT_TRANSACTIONS = 2_000
IDS_PER_QUERY = 500

Values = tuple[Scalar, ...]  # one row, its id first


@dataclass(frozen=True, slots=True)
class Shape:
    """A table and the columns that are written, id first."""

    table: str
    columns: tuple[str, ...]

    def insert(self) -> str:
        """Return the statement that inserts one row."""
        return _insert(self.table, self.columns)


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that go in together, as one sync transaction. `name` is for people."""

    name: str
    file: str
    line: int
    blocks: tuple[tuple[Shape, Sequence[Values]], ...]


@lru_cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


class Writer:
    """Takes units one by one; `finish` must be called at the end."""

    def __init__(self, target: ImportTarget, report: ImportReport) -> None:
        self._target = target
        self._report = report
        self._waiting: list[Unit] = []
        self._waiting_rows = 0
        self._open = False
        self._written_rows = 0
        self._announced = 0

    def check(self, shape: Shape) -> None:
        """Raise MappingInvalid if the database lacks the table or a column."""
        try:
            self._target.connection.execute(f"SELECT {', '.join(shape.columns)} FROM {shape.table} WHERE 1 = 0")
        except Exception as error:  # the driver's own class; the text says what is missing
            raise MappingInvalid(f"the mapping writes {shape.table}({', '.join(shape.columns)}): {error}") from error
        self._report.count(shape.table, "new", 0)

    def add(self, unit: Unit) -> None:
        """Take a unit; write what has come together when it is enough."""
        self._waiting.append(unit)
        self._waiting_rows += sum(len(rows) for _, rows in unit.blocks)
        if self._waiting_rows >= BATCH_ROWS:
            self._flush()

    def finish(self) -> None:
        """Write what is left and commit."""
        self._flush()
        self._commit()

    def abandon(self) -> None:
        """Roll back what is not committed."""
        if self._open:
            self._open = False
            self._target.rollback()

    def _flush(self) -> None:
        if self._waiting and not self._open and not self._report.dry_run:
            self._target.begin()
            self._open = True
        present = self._present()
        for unit in self._waiting:
            self._put(unit, present)
        self._waiting, self._waiting_rows = [], 0
        if self._written_rows >= COMMIT_ROWS or self._announced >= COMMIT_TRANSACTIONS:
            self._commit()

    def _commit(self) -> None:
        if self._open:
            self._open = False
            self._target.commit()
        self._written_rows = self._announced = 0

    def _present(self) -> dict[str, set[Scalar]]:
        """Return, by table, which ids of the waiting units the database has."""
        wanted: defaultdict[str, list[Scalar]] = defaultdict(list)
        for unit in self._waiting:
            for shape, rows in unit.blocks:
                wanted[shape.table] += [row[0] for row in rows]
        return {table: self._known(table, ids) for table, ids in wanted.items()}

    def _known(self, table: str, ids: list[Scalar]) -> set[Scalar]:
        known: set[Scalar] = set()
        for start in range(0, len(ids), IDS_PER_QUERY):
            part = ids[start : start + IDS_PER_QUERY]
            sql = f"SELECT id FROM {table} WHERE id IN ({', '.join('?' * len(part))})"
            known.update(id for (id,) in self._target.connection.execute(sql, part))
        return known

    def _put(self, unit: Unit, present: dict[str, set[Scalar]]) -> None:
        rows = sum(len(rows) for _, rows in unit.blocks)
        there = sum(row[0] in present[shape.table] for shape, rows in unit.blocks for row in rows)
        if there not in (0, rows):
            reason = f"{unit.name} is left out: it was imported before with other content ({there} of {rows} rows)"
            self._report.reject(unit.file, unit.line, reason)
            return
        for shape, block in unit.blocks:
            self._report.count(shape.table, "same" if there else "new", len(block))
            present[shape.table].update(row[0] for row in block)
            if not there and not self._report.dry_run:
                self._target.connection.executemany(shape.insert(), block)
        if not there and not self._report.dry_run:
            self._target.announce()
            self._announced += 1
            self._written_rows += rows
