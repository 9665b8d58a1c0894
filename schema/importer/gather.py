"""Gather: read all files, line by line, into the spool; report the lines that are no good.

A rejected line may belong to a document, which then must not go in without it: its key is kept where it can be known.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from schema.importer import vocabulary
from schema.importer.documents import streams
from schema.importer.errors import SourceUnreadable, ValueRejected
from schema.importer.fields import Plan, stored_fields
from schema.importer.reader import Record, Rejection, Source, open_source
from schema.importer.report import ImportReport
from schema.importer.rows import Tick
from schema.importer.spool import Spool
from schema.importer.vocabulary import Scalar, ValueMap

BATCH_LINES = 2_000


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
                if isinstance(record, Rejection):
                    self._reject(role, plan, spool, number, record)
                    continue
                try:
                    rows.append((number, record.line, *plan.values(record.cells)))  # type: ignore[arg-type]
                except ValueRejected as error:
                    self._reject(role, plan, spool, number, Rejection(record.line, str(error), tuple(record.cells)))
            spool.add(role.name, rows)
            good += len(rows)
            tick(len(batch))
        self._report.files[self._names[source.path]] = good

    def _reject(self, role: vocabulary.FileRole, plan: Plan, spool: Spool, number: int, rejection: Rejection) -> None:
        """Report a line, with the documents it belongs to, and keep these from going in without it."""
        belongs = ""
        for document, key in self._keys[role.name]:
            value = plan.value_of(key, rejection.cells)
            if value is not None:
                spool.add_bad([(document, str(value), number, rejection.line)])
                belongs = f" ({self._mapping.documents[document].table} {value})"
        name = list(self._names.values())[number]
        self._report.reject(name, rejection.line, rejection.reason + belongs)


def open_sources(mapping: vocabulary.Mapping, files: Mapping[str, Sequence[Path]]) -> dict[str, list[Source]]:
    """Return the files of every role, examined and with their headers read."""
    return {
        role.name: [open_source(path, encoding=role.encoding, delimiter=role.delimiter) for path in files[role.name]]
        for role in mapping.files.values()
    }


def _batches(records: Iterator[Record | Rejection]) -> Iterator[list[Record | Rejection]]:
    while batch := list(islice(records, BATCH_LINES)):
        yield batch
