"""Reader: one CSV file as a stream of records, whatever program wrote it.

Plain or `.gz`; UTF-8 with or without BOM, or windows-1251; `,` `;` or tab; any line ends; line breaks inside quotes.
A first pass over the bytes (`examine`) finds out what the file is and how long; the second parses. Memory is bounded: a
cell by the csv module's 131,072 characters, a line by 1 to 2 MiB, a row by ROW_CHARS_MAX. A row that cannot be used comes as a
Rejection in its place in the stream and the good ones go on.

A stray quote makes one row of many lines. What is read of it is never taken for less: text behind a closing quote is refused, and
a row of several lines comes with these, so that whoever knows what a good row is can look at each of them (schema/importer/swallowed.py).
"""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from schema.importer.errors import SourceUnreadable

CHUNK_BYTES = 1 << 20  # a chunk without a line end is a line too long
DELIMITERS = ",;\t"
FALLBACK_ENCODING = "cp1251"
ROW_CHARS_MAX = 8 << 20

_BROKEN_TEXT = dict.fromkeys(range(0xDC80, 0xDD00))  # what surrogateescape makes of bytes that do not decode


class Record(NamedTuple):
    """One good row: as many cells as the header has."""

    line: int  # where it begins in the file, from 1
    cells: list[str]
    texts: tuple[str, ...] = ()  # its lines as they stand in the file, if there are several


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row that is no good: where, why, and its cells as far as they are known, by position.

    Where its cells cannot be trusted, `texts` are its lines as they stand in the file: each may be a row of its own.
    """

    line: int
    reason: str
    cells: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Examined:
    """What the first pass over a file found."""

    encoding: str
    lines: int
    suspicious: bool  # it has NULs or bytes that do not decode: every row must be looked at


@dataclass(frozen=True, slots=True)
class Source:
    """A CSV file, examined, with its header read. `header` has names stripped, as written."""

    path: Path
    examined: Examined
    delimiter: str
    header: tuple[str, ...]

    def records(self) -> Iterator[Record | Rejection]:
        """Yield the rows after the header in file order. Blank lines, and lines of
        nothing but delimiters, are no rows."""
        with _text(self.path, self.examined.encoding) as lines:
            rows = _parse(self.path, lines, self.delimiter)
            next(rows, None)
            width, trusted = len(self.header), not self.examined.suspicious
            for row in rows:
                if isinstance(row, Rejection) or (trusted and len(row.cells) == width):
                    yield row
                elif reason := self._width_fault(row):
                    yield Rejection(row.line, reason, tuple(row.cells), row.texts)
                elif reason := _bad_text(row, self.examined.encoding):
                    yield Rejection(row.line, reason, tuple(row.cells))
                else:
                    yield row

    def rows(self) -> Iterator[tuple[Path, int, dict[str, str]] | Rejection]:
        """Yield (file, line, cells by header name), or a Rejection in the place of a bad row."""
        for row in self.records():
            yield (row if isinstance(row, Rejection) else (self.path, row.line, dict(zip(self.header, row.cells, strict=True))))

    def cells_of(self, line: str) -> Iterator[list[str]]:
        """Yield the cells of one line read by itself, in the two ways it can be meant: quotes as quotes, and as any character."""
        blanks = self.delimiter != "\t"
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            with suppress(csv.Error):  # a field too long
                yield next(csv.reader([line], delimiter=self.delimiter, skipinitialspace=blanks, quoting=quoting), [])

    def _width_fault(self, row: Record) -> str | None:
        """Return why a row of too few or too many fields cannot be used, or None."""
        if len(row.cells) == len(self.header):
            return None
        few_or_many = "few" if len(row.cells) < len(self.header) else "many"
        return f"too {few_or_many} fields: {len(row.cells)} instead of {len(self.header)}{in_lines(row.line, len(row.texts))}"


def open_source(path: Path, *, encoding: str | None = None, delimiter: str | None = None) -> Source:
    """Return the file, examined; encoding and delimiter are found out unless named. Raises SourceUnreadable."""
    try:
        examined = examine(path, encoding)
        with _text(path, examined.encoding) as lines:
            head = lines.readline()
            used = delimiter or _sniff(head)
            lines.seek(0)
            first = next(_parse(path, lines, used), None)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceUnreadable(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(first, Record):
        reason = first.reason if first else "the file is empty; the first line must name the columns"
        raise SourceUnreadable(f"{path}: {reason}")
    return Source(path, examined, used, tuple(name.strip() for name in first.cells))


def examine(path: Path, encoding: str | None = None) -> Examined:
    """Return the file's encoding (as named, or found out), its number of line ends and whether bytes are broken."""
    with _binary(path) as stream:
        start = stream.read(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SourceUnreadable(f"{path}: the file is UTF-16; save it as UTF-8")
    lines, nul, broken = _survey(path, encoding or "utf-8")
    if encoding is None and broken:
        named = "utf-8" if start.startswith(codecs.BOM_UTF8) or _mostly_utf8(path) else FALLBACK_ENCODING
        broken = named == "utf-8" or _survey(path, named)[2]
    else:
        named = encoding or "utf-8"
    return Examined("utf-8-sig" if named.lower() in ("utf-8", "utf8") else named, lines, nul or broken)


def _survey(path: Path, encoding: str) -> tuple[int, bool, bool]:
    """Return the number of line ends, whether there is a NUL, and whether bytes do not decode."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as error:
        raise SourceUnreadable(f"{path}: no encoding is named {encoding!r}") from error
    lines, nul, broken = 0, False, False
    with _binary(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            ends = chunk.count(b"\n") or chunk.count(b"\r")
            if not ends and len(chunk) == CHUNK_BYTES:
                raise SourceUnreadable(f"{path}: line {lines + 1} is longer than {CHUNK_BYTES} bytes: not a CSV file?")
            lines += ends
            nul = nul or b"\0" in chunk
            broken = broken or not _decodes(decoder, chunk)
    return lines, nul, broken or not _decodes(decoder, b"", final=True)


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def _mostly_utf8(path: Path) -> bool:
    """Return whether broken bytes are accidents in a UTF-8 file rather than the sign of another encoding.

    Text in windows-1251 hardly ever happens to be valid UTF-8, so lines that are, and are not ASCII, decide.
    """
    good = bad = 0
    with _binary(path) as stream:
        for line in stream:
            if not line.isascii():
                try:
                    line.decode("utf-8")
                    good += 1
                except UnicodeDecodeError:
                    bad += 1
    return good > bad


def _binary(path: Path) -> BinaryIO:
    """Open the file's content for reading, unpacked."""
    return cast("BinaryIO", gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _text(path: Path, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(_binary(path), encoding=encoding, errors="surrogateescape", newline="")


def _sniff(head: str) -> str:
    """Return the delimiter that cuts the header into most names; a header of one name leaves the comma."""
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([head], delimiter=mark), [])))


def in_lines(first: int, count: int) -> str:
    """Return which lines a row takes, for the end of a reason; nothing where it is one."""
    return f" (lines {first} to {first + count - 1})" if count > 1 else ""


def _parse(path: Path, lines: io.TextIOWrapper, delimiter: str) -> Iterator[Record | Rejection]:
    """Yield every row that is not all blank, with the line it begins on; what csv refuses is a Rejection. Raises SourceUnreadable."""
    source = _Lines(path, lines)
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)
    while True:
        line = reader.line_num + 1
        source.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Rejection(line, _explain(error, source, line), (), tuple(source.taken))
            continue
        if any(cells):
            yield Record(line, cells, tuple(source.taken) if len(source.taken) > 1 else ())


class _Lines:
    """Lines that are remembered for as long as the row they belong to; and whether more were asked for in the middle of one."""

    def __init__(self, path: Path, lines: Iterable[str]) -> None:
        self._path, self._lines, self.ended = path, iter(lines), False
        self.taken: list[str] = []
        self._chars = 0

    def begin(self) -> None:
        """Forget the lines of the row before."""
        self.taken.clear()
        self._chars = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self._lines:
            self.taken.append(line)
            self._chars += len(line)
            if self._chars > ROW_CHARS_MAX:
                raise SourceUnreadable(
                    f"{self._path}: one row has more than {ROW_CHARS_MAX:,} characters, in {len(self.taken):,} lines; the last begins with"
                    f" {line[:40]!r}. A quote left open? Nothing was imported."
                )
            return line
        self.ended = True
        raise StopIteration


def _explain(error: csv.Error, source: _Lines, first: int) -> str:
    """Return csv's complaint for people; a quote that is never closed swallows lines until the limit, or the end."""
    where = in_lines(first, len(source.taken))
    if "field limit" in str(error):
        return f"a field is longer than {csv.field_size_limit()} characters{where}; a quote left open?"
    if source.ended:
        return f"a quote that is opened here is never closed{where}"
    return f"there is text behind a closing quote{where}; a quote too many? Inside a quoted field it is written twice"


def _bad_text(row: Record, encoding: str) -> str | None:
    """Return what is wrong with the characters of a row, or None."""
    text, where = "".join(row.cells), in_lines(row.line, len(row.texts))
    if "\0" in text:
        return f"NUL character{where}"
    if text.translate(_BROKEN_TEXT) != text:
        return f"bytes that are not {encoding.removesuffix('-sig')}{where}"
    return None
