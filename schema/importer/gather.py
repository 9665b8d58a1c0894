"""Gather: read all files, line by line, into the spool; report the lines that are no good.

A rejected line may belong to a document, which then must not go in without it: its key is kept where it can be known. Of rows that
a stray quote has run together it must be known, of every line: else nothing goes in.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from schema.importer import vocabulary
from schema.importer.documents import streams
from schema.importer.errors import SourceUnreadable, ValueRejected
from schema.importer.fields import Plan, stored_fields
from schema.importer.reader import Record, Rejection, Source, in_lines, open_source
from schema.importer.report import ImportReport
from schema.importer.rows import Tick
from schema.importer.spool import Spool
from schema.importer.swallowed import keys_in, swallows
from schema.importer.vocabulary import Scalar, ValueMap

BATCH_LINES = 2_000
DOCUMENTS_NAMED = 5  # of those that one rejected row belongs to


class Gatherer:
    """Reads the files of a mapping. `file_names` are the numbered files as the report calls them."""

    def __init__(
        self,
        mapping: vocabulary.Mapping,
        sources: Mapping[str, Sequence[Source]],
        names: Mapping[Path, str],
        report: ImportReport,
    ) -> None:
        self._mapping = mapping
        self._sources = sources
        self._names = names
        self._report = report
        self._numbers = {path: number for number, path in enumerate(names)}
        self._keys = {
            role: [(number, key) for number, each in enumerate(mapping.documents) for of, key in streams(each) if of == role]
            for role in mapping.files
        }

    def gather(self, spool: Spool, tick: Tick) -> None:
        """Read every file. Raises SourceUnreadable if one lacks a column."""
        lookups: dict[str, Mapping[Scalar, Scalar]] = {}
        for role in self._mapping.files.values():
            spool.create(role.name, stored_fields(role))
            for source in self._sources[role.name]:
                self._read(role, source, self._plan(role, source, lookups), spool, tick)
            for lookup in self._mapping.lookups.values():
                if lookup.role == role.name:
                    lookups[lookup.name] = spool.lookup(role.name, lookup.key, lookup.value, lookup.least)

    def _plan(self, role: vocabulary.FileRole, source: Source, lookups: Mapping[str, Mapping[Scalar, Scalar]]) -> Plan:
        maps: Mapping[str, ValueMap] = self._mapping.maps
        try:
            return Plan(role, source.header, maps, lookups)
        except SourceUnreadable as error:
            raise SourceUnreadable(f"{source.path}: {error}") from error

    def _read(self, role: vocabulary.FileRole, source: Source, plan: Plan, spool: Spool, tick: Tick) -> None:
        number, good = self._numbers[source.path], 0
        for batch in _batches(source.records()):
            rows: list[tuple[Scalar, ...]] = []
            for record in batch:
                values = _values(source, plan, record)
                if isinstance(values, Rejection):
                    self._reject(role, source, plan, spool, values)
                else:
                    rows.append((number, record.line, *values))
            spool.add(role.name, rows)
            good += len(rows)
            tick(len(batch))
        self._report.files[self._names[source.path]] = good

    def _reject(self, role: vocabulary.FileRole, source: Source, plan: Plan, spool: Spool, rejection: Rejection) -> None:
        """Report a row, with the documents it belongs to, and keep these from going in without it."""
        number, name = self._numbers[source.path], self._names[source.path]
        belongs: dict[str, None] = {}
        for document, key in self._keys[role.name]:
            table = self._mapping.documents[document].table
            bad = [(document, value, number, line) for line, value in self._keys_of(source, plan, key, table, rejection)]
            spool.add_bad(bad)
            belongs |= dict.fromkeys(f"{table} {value}" for _, value, _, _ in bad)
        self._report.reject(name, rejection.line, rejection.reason + _listed(list(belongs)))

    def _keys_of(self, source: Source, plan: Plan, key: str, table: str, rejection: Rejection) -> Iterator[tuple[int, str]]:
        """Yield the lines of a row and the documents they may belong to. Raises SourceUnreadable where it must be known, and is not."""
        if not rejection.texts:
            value = plan.value_of(key, rejection.cells)
            if value is not None:
                yield rejection.line, str(value)
            return
        for line, values in keys_in(source, plan, key, rejection.line, rejection.texts):
            if not values:
                raise SourceUnreadable(
                    f"{source.path}: line {line}: {rejection.reason}. Which {table} the line belongs to cannot be known, and it would go in"
                    " without it: nothing was imported. Mend the quotes there, then import the file again."
                )
            yield from ((line, value) for value in values)


def _values(source: Source, plan: Plan, row: Record | Rejection) -> Sequence[Any] | Rejection:
    """Return the values of a row, or why it is left out: with its lines, if these may be rows of their own."""
    if row.texts and row.cells and swallows(source, plan, row):
        reason = "a quote that is opened here takes in whole rows" + in_lines(row.line, len(row.texts))
        return Rejection(row.line, reason, (), row.texts)
    if isinstance(row, Rejection):
        return Rejection(row.line, row.reason, row.cells, () if row.cells else row.texts)
    try:
        return plan.values(row.cells)
    except ValueRejected as error:
        return Rejection(row.line, str(error) + in_lines(row.line, len(row.texts)), tuple(row.cells))


def _listed(documents: Sequence[str]) -> str:
    more = len(documents) - DOCUMENTS_NAMED
    return f" ({', '.join(documents[:DOCUMENTS_NAMED])}{f' and {more:,} more' if more > 0 else ''})" if documents else ""


def open_sources(mapping: vocabulary.Mapping, files: Mapping[str, Sequence[Path]]) -> dict[str, list[Source]]:
    """Return the files of every role, examined and with their headers read."""
    return {
        role.name: [open_source(path, encoding=role.encoding, delimiter=role.delimiter) for path in files[role.name]]
        for role in mapping.files.values()
    }


def _batches(records: Iterator[Record | Rejection]) -> Iterator[list[Record | Rejection]]:
    while batch := list(islice(records, BATCH_LINES)):
        yield batch
