"""Documents: a head and its parts from lines that share a key, whole or not at all.

The lines of every file that a document is made of come sorted by key, rejected ones too, and are merged; so one
document is in memory at a time. Lines of one document need not be neighbours in the file.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from schema.importer.amounts import INTEGER_MAX
from schema.importer.columns import Fold, Read, fields_used, finished, folder, places, reader, settles
from schema.importer.errors import ValueRejected
from schema.importer.present import Shape, Values
from schema.importer.spool import FILE, LINE, Row, Spool
from schema.importer.vocabulary import Column, Document, Part, Scalar
from schema.importer.writer import Unit

Stream = tuple[str, str]  # role, key field
Tick = Callable[[int], None]
_BAD = -1  # the stream of rejected lines


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document that cannot go in, at its first good line."""

    file: int
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Built:
    """A document ready to be written. `refers` are the ids it points to, by table."""

    unit: Unit
    refers: tuple[tuple[str, Scalar], ...]


def streams(document: Document) -> list[Stream]:
    """Return the files to be merged, the head's first, each once."""
    parts = [(part.role, part.key) for part in document.parts if part.role is not None and part.key is not None]
    return list(dict.fromkeys([(document.role, document.key), *parts]))


def shapes(document: Document) -> list[Shape]:
    """Return the tables and columns that are written, the head's first, then one for each part."""
    head = Shape(document.table, tuple(column.name for column in document.columns))
    return [head, *(_part_shape(part) for part in document.parts)]


def _part_shape(part: Part) -> Shape:
    return Shape(part.table, (*(column.name for column in part.columns), part.parent))


class Assembler:
    """Puts documents of one kind together.

    `absent` says which of its files were not given, by role; with `branch` other branches' documents are passed over.
    """

    def __init__(self, document: Document, number: int, file_names: Sequence[str], absent: Mapping[str, str], branch: str | None) -> None:
        self._document = document
        self._number = number
        self._names = file_names
        self._absent = absent
        self._branch = branch
        self._streams = streams(document)
        self._fields = {stream: self._fields_of(stream) for stream in self._streams}
        head = places(self._fields[self._streams[0]])
        self._head_shape, *_ = shapes(document)
        self._folds = [(column, folder(column, head)) for column in document.columns]
        self._parts = [_PartMaker(part, places(self._fields[self._stream_of(part)])) for part in document.parts]
        self._shared_head = any(self._stream_of(part) == self._streams[0] for part in document.parts if part.role)

    def documents(self, spool: Spool, tick: Tick) -> Iterator[Built | Rejected]:
        """Yield every document by key, built or rejected."""
        merged = heapq.merge(*self._sorted(spool))
        for key, group in groupby(merged, key=itemgetter(0)):
            lines = {stream: rows for _, stream, rows in group}
            tick(sum(len(rows) for stream, rows in lines.items() if stream != _BAD))
            result = self._one(key, lines)
            if result is not None:
                yield result

    def _sorted(self, spool: Spool) -> Iterator[Iterator[tuple[str, int, list[Row]]]]:
        bad = ((key, _BAD, list(rows)) for key, rows in groupby(spool.bad(self._number), key=itemgetter(0)))
        yield bad
        for number, (role, key) in enumerate(self._streams):
            fields = self._fields[role, key]
            lines = spool.sorted(role, [key], fields)
            yield map(partial(_numbered, number), groupby(lines, key=itemgetter(places(fields)[key])))

    def _one(self, key: str, lines: Mapping[int, list[Row]]) -> Built | Rejected | None:
        """Return the document, or why not; None if it is another branch's, or all its lines were rejected before."""
        first = next((rows[0] for stream, rows in sorted(lines.items()) if stream != _BAD), None)
        if first is None:
            return None
        name = f"{self._document.table} {key}"
        try:
            reason = self._incomplete(lines)
            if reason is None:
                return self._build(name, lines)
        except ValueRejected as rejected:
            reason = str(rejected)
        return Rejected(first[FILE], first[LINE], f"{name} is left out whole: {reason}")

    def _incomplete(self, lines: Mapping[int, list[Row]]) -> str | None:
        """Return what keeps the document from being whole, or None."""
        if _BAD in lines:
            _, file, line = lines[_BAD][0]
            return f"line {line} of {self._names[file]}, which belongs to it, was rejected"
        if 0 not in lines:
            return f"there is no {self._streams[0][0]} line for it"
        if len(lines[0]) > 1 and not self._shared_head:
            return f"it stands {len(lines[0])} times in {self._names[lines[0][0][FILE]]}"
        for part in self._document.parts:
            if part.required and self._streams.index(self._stream_of(part)) not in lines:
                return f"it has no {part.table}" + self._whereabouts(part)
        return None

    def _whereabouts(self, part: Part) -> str:
        role = part.role or ""
        return f": no file {self._absent[role]} was given" if role in self._absent else f" in {role}"

    def _build(self, name: str, lines: Mapping[int, list[Row]]) -> Built | None:
        heads = lines[0]
        columns = self._document.columns
        values = {column.name: finished(column, _folded(column, fold, heads)) for column, fold in self._folds}
        for column in columns:
            if column.name in self._document.required and values[column.name] is None and column.fold != "total":
                raise ValueRejected(f"its {column.name} is empty")
        if self._branch is not None and values.get(self._document.branch or "") != self._branch:
            return None
        blocks = self._part_blocks(values["id"], lines)
        for column in columns:
            if column.fold == "total":
                values[column.name] = _total(column.total_of, blocks)
        unit = Unit(
            name,
            self._names[heads[0][FILE]],
            heads[0][LINE],
            ((self._head_shape, [tuple(values.values())]), *blocks),
            is_document=True,
        )
        refers = tuple((table, values[column]) for column, table in self._document.refers)
        return Built(unit, refers)

    def _part_blocks(self, parent: Scalar, lines: Mapping[int, list[Row]]) -> list[tuple[Shape, list[Values]]]:
        repeated: dict[tuple[str, Scalar], int] = {}
        blocks = []
        for maker in self._parts:
            stream = self._streams.index(self._stream_of(maker.part))
            rows = lines.get(stream, []) if maker.part.role else lines[0][:1]
            made = [maker.make(row, parent, repeated) for row in rows if maker.wanted(row)]
            if made:
                blocks.append((maker.shape, made))
        return blocks

    def _stream_of(self, part: Part) -> Stream:
        return (part.role, part.key) if part.role and part.key else self._streams[0]

    def _fields_of(self, stream: Stream) -> tuple[str, ...]:
        parts = [part for part in self._document.parts if self._stream_of(part) == stream]
        columns = [column for part in parts for column in part.columns]
        tested = [name for part in parts for name, _ in part.when]
        if stream == self._streams[0]:
            columns += self._document.columns
        return fields_used(columns, stream[1], *tested)


class _PartMaker:
    """Makes the rows of one part."""

    def __init__(self, part: Part, at: Mapping[str, int]) -> None:
        self.part = part
        self.shape = _part_shape(part)
        self._id, *self._reads = [reader(column, at) for column in part.columns]
        self._when: list[tuple[Read, tuple[str, ...]]] = [(itemgetter(at[name]), texts) for name, texts in part.when]

    def wanted(self, row: Row) -> bool:
        """Return whether the line makes a row."""
        for read, texts in self._when:
            value = read(row)
            if value is None or (texts and str(value) not in texts):
                return False
        return True

    def make(self, row: Row, parent: Scalar, repeated: dict[tuple[str, Scalar], int]) -> Values:
        """Return the row; the second of the same id within the document gets `-2`, the third `-3`."""
        identity = self._id(row)
        if identity is None:
            raise ValueRejected(f"line {row[LINE]} has no id")
        times = repeated[self.part.table, identity] = repeated.get((self.part.table, identity), 0) + 1
        return (identity if times == 1 else f"{identity}-{times}", *[read(row) for read in self._reads], parent)


def _folded(column: Column, fold: Fold, lines: Sequence[Row]) -> Any:
    state, settled = None, settles(column)
    for line in lines:
        state = fold(state, line)
        if settled and state is not None:
            break
    return state


def _numbered(number: int, group: tuple[Any, Iterator[Row]]) -> tuple[str, int, list[Row]]:
    key, rows = group
    return str(key), number, list(rows)


def _total(of: tuple[str, str], blocks: Sequence[tuple[Shape, list[Values]]]) -> int:
    table, column = of
    total = 0
    for shape, rows in blocks:
        if shape.table == table:
            place = shape.columns.index(column)
            total += sum(int(row[place] or 0) for row in rows)
    if abs(total) > INTEGER_MAX:
        raise ValueRejected("its total is out of range")
    return total
