"""Run: one import from files to rows, in the order read, rows, documents.

    locate ─► gather ─► spool ─► rows ──────► writer ─► target
                             └─► documents ─►

Nothing is written before all files were read. Called by the `import` commands of node and server with their targets.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from schema.importer.documents import Assembler, Rejected, streams
from schema.importer.documents import shapes as document_shapes
from schema.importer.errors import BranchUnknown, ImportCut, ValueRejected
from schema.importer.gather import Gatherer, open_sources
from schema.importer.locate import display_names, locate
from schema.importer.report import ImportReport
from schema.importer.rows import branch_of, constant_units, file_rows
from schema.importer.rows import shapes as row_shapes
from schema.importer.spool import Spool
from schema.importer.target import ImportTarget
from schema.importer.vocabulary import Mapping, Rows, Scalar
from schema.importer.writer import Unit, Writer
from sync.errors import NewerFile

BRANCHES_TABLE = "branch"
PROGRESS_STEPS = 2_000  # between two calls of progress
REFERRED_BATCH = 1_000

Progress = Callable[[int, int], None]


def run_import(
    target: ImportTarget,
    mapping: Mapping,
    paths: Sequence[Path],
    *,
    writes: Callable[[str], bool],
    branch: str | None = None,
    dry_run: bool = False,
    bring_back: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Bring the files at these paths into the target's database and return what was done.

    `writes` says which tables this side writes; a document goes in only if all its tables are among them. With
    `branch` only that branch's rows go in, besides rows that belong to no branch (reference tables). `progress` is
    called with (steps done, all steps), the last time with both equal. The same files again change nothing: what was deleted since
    stays so, but for `bring_back`.
    Raises ImportFailed before anything is written; an error of the target passes through after its rollback.
    """
    report = ImportReport(mapping.name, branch, dry_run)
    files = locate(mapping, paths)
    sources = open_sources(mapping, files)
    names = display_names(path for role in files.values() for path in role)
    counted = _Counted(progress)
    with Spool() as spool:
        writer = Writer(target, report, bring_back=bring_back)
        run = _Run(writer, mapping, writes, branch, report, spool, counted.tick)
        lines = {role: sum(source.examined.lines for source in each) for role, each in sources.items()}
        counted.total = run.steps(lines)
        Gatherer(mapping, sources, names, report).gather(spool, counted.tick)
        run.check_branch()
        try:
            run.write_rows(list(names.values()))
            absent = {role: mapping.files[role].match[0] for role, each in files.items() if not each}
            run.write_documents(list(names.values()), absent)
            run.writer.finish()
        except NewerFile as error:  # at a begin, so whatever was counted is committed
            raise ImportCut({table: counts["new"] for table, counts in report.rows.items()}) from error
        except BaseException:
            run.writer.abandon()
            raise
        run.take_notes()
    counted.finish()
    return report


class _Counted:
    """Tells progress now and then."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0
        self._told = 0
        self.total = 0

    def tick(self, steps: int) -> None:
        """Count steps."""
        self._done += steps
        if self._progress and self._done - self._told >= PROGRESS_STEPS:
            self._told = self._done
            self._progress(min(self._done, self.total), self.total)

    def finish(self) -> None:
        """Say that all is done, also where some steps turned out not to be needed."""
        if self._progress:
            self._progress(self.total, self.total)


class _Run:
    """What the steps of one import share."""

    def __init__(
        self,
        writer: Writer,
        mapping: Mapping,
        writes: Callable[[str], bool],
        branch: str | None,
        report: ImportReport,
        spool: Spool,
        tick: Callable[[int], None],
    ) -> None:
        self._mapping = mapping
        self._branch = branch
        self._report = report
        self._spool = spool
        self._tick = tick
        self.writer = writer
        self._rows = [rows for rows in mapping.rows if writes(rows.table)]
        self._documents = [
            (number, document)
            for number, document in enumerate(mapping.documents)
            if all(writes(shape.table) for shape in document_shapes(document))
        ]
        for shape in [shape for rows in self._rows for shape in row_shapes(rows)]:
            self.writer.check(shape)
        for shape in [shape for _, document in self._documents for shape in document_shapes(document)]:
            self.writer.check(shape)

    def steps(self, lines: dict[str, int]) -> int:
        """Return how many steps there are at most: every line read, and once for each use of it."""
        uses = [rows.role for rows in self._rows if rows.role]
        uses += [role for _, document in self._documents for role, _ in streams(document)]
        return sum(lines.values()) + sum(lines[role] for role in uses)

    def check_branch(self) -> None:
        """Raise BranchUnknown if the branch is none of those that the mapping makes; if it makes none, any will do."""
        if self._branch is None:
            return
        known: list[str] = []
        for rows in self._mapping.rows:
            if rows.table == BRANCHES_TABLE:
                known += [str(each["id"]) for each in rows.constants]
                made = file_rows(rows, rows.role, self._spool, _no_tick) if rows.role else iter(())
                known += [str(values[0]) for _, _, values in made if not isinstance(values, ValueRejected)]
        if known and self._branch not in known:
            raise BranchUnknown(f"no branch {self._branch!r} in {self._mapping.name}; there are: {', '.join(known)}")

    def write_rows(self, file_names: Sequence[str]) -> None:
        """Write the rows that are no documents."""
        for rows in self._rows:
            if rows.role is None:
                for unit in constant_units(rows, self._mapping.name):
                    self.writer.add(unit)
            else:
                self._write_file_rows(rows, rows.role, file_names)

    def _write_file_rows(self, rows: Rows, role: str, file_names: Sequence[str]) -> None:
        shape, of_branch = row_shapes(rows)[0], branch_of(rows) if rows.branch else None
        elsewhere: list[Scalar] = []
        for file, line, values in file_rows(rows, role, self._spool, self._tick):
            if isinstance(values, ValueRejected):
                self._report.reject(file_names[file], line, f"{rows.table}: {values}")
            elif of_branch is None or self._is_ours(rows.table, of_branch(values)):
                self.writer.add(Unit(f"{rows.table} {values[0]}", file_names[file], line, ((shape, [values]),)))
            else:
                elsewhere.append(values[0])
        self._spool.add_elsewhere(rows.table, elsewhere)

    def _is_ours(self, table: str, branch: Scalar) -> bool:
        """Return whether a row of this branch goes in; count those that have none."""
        if branch is None:
            self._count_note(f"{table}_without_branch")
        return self._branch is None or branch == self._branch

    def write_documents(self, file_names: Sequence[str], absent: dict[str, str]) -> None:
        """Write the documents, each whole or not at all."""
        for number, document in self._documents:
            referred: defaultdict[str, set[Scalar]] = defaultdict(set)
            assembler = Assembler(document, number, file_names, absent, self._branch if document.branch else None)
            for made in assembler.documents(self._spool, self._tick):
                if isinstance(made, Rejected):
                    self._report.reject(file_names[made.file], made.line, made.reason)
                else:
                    self.writer.add(made.unit)
                    self._remember(referred, made.refers)
            for table, ids in referred.items():
                self._spool.add_referred(table, ids)

    def _remember(self, referred: defaultdict[str, set[Scalar]], refers: Iterable[tuple[str, Scalar]]) -> None:
        """Collect the ids that documents refer to; the spool takes them now and then."""
        for table, identity in refers:
            if identity is not None:
                referred[table].add(identity)
                if len(referred[table]) >= REFERRED_BATCH:
                    self._spool.add_referred(table, referred.pop(table))

    def take_notes(self) -> None:
        """Count what the mapping wants counted, and the references to rows that another branch brings."""
        for note in self._mapping.notes:
            within = (note.branch, self._branch) if note.branch and self._branch else None
            self._report.notes[note.name] = self._spool.count_differing(note.role, note.each, note.differ, within)
        for table in dict.fromkeys(table for _, document in self._documents for _, table in document.refers):
            if self._branch is not None:
                self._report.notes[f"{table}_of_another_branch"] = self._spool.referred_elsewhere(table)

    def _count_note(self, name: str) -> None:
        self._report.notes[name] = self._report.notes.get(name, 0) + 1


def _no_tick(steps: int) -> None:
    """Count nothing."""
