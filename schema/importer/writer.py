"""Writer: puts units into the target, each one sync transaction, and only those that are not there yet.

Units are collected; for a batch of them the database is asked at once what it has. Then each unit

    is not there          ─► is written whole; unless an earlier import had brought it: then it was deleted since, and stays so
    is there, the same    ─► is left
    is there, and differs ─► is left as it is and told: a row may have been edited by people since, and what they typed is not
                             undone by an old file; a document is never changed, nor added to: it is rejected
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from schema.importer import brought
from schema.importer.errors import MappingInvalid
from schema.importer.present import Shape, Values, difference, present
from schema.importer.report import ImportReport, Kind
from schema.importer.target import ImportTarget
from schema.importer.vocabulary import Scalar

BATCH_ROWS = 5_000  # asked for at once
COMMIT_ROWS = 20_000
COMMIT_TRANSACTIONS = 2_000

_GONE = (
    "it was imported before and is gone since: deleted, refused or taken back, or not in this computer's scope any more. To bring it"
    " back, import with --bring-back"
)
_BY_HAND = "If the file is right, change it by hand"
_RECORDED_ONCE = "What was recorded once is not changed: if the file is right, record a correction (a return) as something new"

State = Values | bool | None
"""Of one row: as it was written by this batch; whether what is there is the same; None: not there."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that go in together, as one sync transaction. `name` is for people."""

    name: str
    file: str
    line: int
    blocks: tuple[tuple[Shape, Sequence[Values]], ...]
    is_document: bool = False  # what was recorded once is not changed

    @property
    def remembered(self) -> bytes:
        """Return what it is remembered by: its first row."""
        shape, rows = self.blocks[0]
        return brought.name_of(shape.table, rows[0][0])


class Writer:
    """Takes units one by one; `finish` must be called at the end."""

    def __init__(self, target: ImportTarget, report: ImportReport, *, bring_back: bool = False) -> None:
        self._target = target
        self._report = report
        self._bring_back = bring_back
        self._rejected: set[bytes] = set()  # of the batch
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
        names = [unit.remembered for unit in self._waiting]
        earlier = brought.among(self._target.connection, names)
        there = self._there(expected=bool(earlier))
        for unit, name in zip(self._waiting, names, strict=True):
            self._put(unit, there, was_brought=name in earlier)
        if not self._report.dry_run and (new := set(names) - earlier):
            brought.remember(self._target.connection, new - self._rejected)
        self._rejected.clear()
        self._waiting, self._waiting_rows = [], 0
        if self._written_rows >= COMMIT_ROWS or self._announced >= COMMIT_TRANSACTIONS:
            self._commit()

    def _commit(self) -> None:
        if self._open:
            self._open = False
            self._target.commit()
        self._written_rows = self._announced = 0

    def _there(self, *, expected: bool) -> dict[str, dict[Scalar, State]]:
        """Return, by table and id, what the database has of the waiting units."""
        wanted: defaultdict[Shape, list[Values]] = defaultdict(list)
        for unit in self._waiting:
            for shape, rows in unit.blocks:
                wanted[shape] += rows
        there: defaultdict[str, dict[Scalar, State]] = defaultdict(dict)
        for shape, rows in wanted.items():
            there[shape.table].update(present(self._target, shape, rows, expected=expected))
        return there

    def _put(self, unit: Unit, there: dict[str, dict[Scalar, State]], *, was_brought: bool) -> None:
        states = [(shape, row, there[shape.table].get(row[0])) for shape, rows in unit.blocks for row in rows]
        absent = sum(state is None for _, _, state in states)
        differing = [(shape, row) for shape, row, state in states if state is not True and state != row]
        if absent == len(states):
            if was_brought and not self._bring_back:
                self._leave(unit, "deleted", f"{unit.name} is left out: {_GONE}")
            else:
                self._write(unit, there)
        elif absent:
            self._reject(unit, f"it was imported before with other content ({len(states) - absent} of {len(states)} rows)")
        elif not differing:
            self._count(unit, "same")
        elif unit.is_document:
            self._reject(unit, f"it is here with other content: {self._told(differing, with_row=True)}")
        else:
            self._leave(unit, "differs", f"{unit.name} stays as it is: {self._told(differing)}. {_BY_HAND}")

    def _write(self, unit: Unit, there: dict[str, dict[Scalar, State]]) -> None:
        self._count(unit, "new")
        for shape, block in unit.blocks:
            there[shape.table].update((row[0], row) for row in block)
            if not self._report.dry_run:
                self._target.connection.executemany(shape.insert(), block)
        if not self._report.dry_run:
            self._target.announce()
            self._announced += 1
            self._written_rows += sum(len(block) for _, block in unit.blocks)

    def _count(self, unit: Unit, kind: Kind) -> None:
        for shape, block in unit.blocks:
            self._report.count(shape.table, kind, len(block))

    def _leave(self, unit: Unit, kind: Kind, reason: str) -> None:
        self._count(unit, kind)
        self._report.leave(unit.file, unit.line, reason)

    def _reject(self, unit: Unit, reason: str) -> None:
        self._rejected.add(unit.remembered)
        self._report.reject(unit.file, unit.line, f"{unit.name} is left out: {reason}. {_RECORDED_ONCE}")

    def _told(self, differing: Sequence[tuple[Shape, Values]], *, with_row: bool = False) -> str:
        """Return in what the first of these rows differs, and how many others there are; in short where it will not be listed."""
        shape, row = differing[0]
        if self._report.is_full:
            return f"{shape.table} {row[0]}"
        what = difference(self._target, shape, row) or "twice in the file, with two contents"
        more = f" (and {len(differing) - 1} more of its rows)" if len(differing) > 1 else ""
        return (f"{shape.table} {row[0]}: " if with_row else "") + what + more
