"""Pieces of a page that no request could carry: each holds some of its rows and stands for itself, so that it can be offered alone.

    page ─► fits into a request? as it came
         └► its rows (those of whole segments too), parents first, then its deaths ─► halved until each piece fits

A page may be four times as large as a request: the centre sends what its programs wrote, and several segments at once. What a restored
centre takes from a page is rows and deaths, so pieces hold these alone. One row that fits no request is a piece too; healing passes
it over. Used by node/retained.py. Spec: PROTOCOL.md [P-7.31].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec import structs

from sync.encoding import encode_column
from sync.limits import BODY_BYTES_MAX
from sync.messages import Page, Removals, Rows
from sync.rows import entries_of, rows_of
from sync.segment import read_segment
from sync.wire import pack

PIECE_BYTES_MAX: Final = BODY_BYTES_MAX - 64 * 1024
"""Bytes of a page, or a box, that a request has room for beside everything else in it."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one table, or keys of rows that died, column by column."""

    table: str
    names: tuple[str, ...]  # none: keys
    columns: Sequence[Sequence[Any]]

    def cut(self, begin: int, end: int) -> _Part:
        return _Part(self.table, self.names, [column[begin:end] for column in self.columns])

    def __len__(self) -> int:
        return len(self.columns[0])


def pieces(page: Page, rank: Mapping[str, int], body: bytes | None = None) -> Iterator[tuple[bytes, int]]:
    """Yield a page in pieces, each as bytes and with the number of its rows and keys; in one where that fits a request.

    `rank`: of the tables, parents before children; a restored centre takes no child without its parent. `body`: the page as bytes, where
    they are there already. Raises what a page raises that cannot be read; one that was applied can.
    """
    body = body or pack(page)
    if len(body) <= PIECE_BYTES_MAX:
        yield body, entries_of(page)
        return
    parts = [_Part(block.table, block.columns, rows_of(block.values, block.count, len(block.columns))) for block in page.rows]
    for sealed in page.sealed:
        parts += [_Part(block.table, block.columns, block.values) for block in read_segment(sealed.body).inserts]
    parts.sort(key=lambda part: rank.get(part.table, 0))
    parts += [_Part(block.table, (), rows_of(block.key, block.count, len(block.key))) for block in page.deaths]
    bare = structs.replace(page, rows=(), sealed=(), removals=(), deaths=(), conflicts=(), segments=(), verdicts=(), points=(), proof=None)
    yield from _halved(bare, [part for part in parts if len(part)])


def _halved(bare: Page, parts: Sequence[_Part]) -> Iterator[tuple[bytes, int]]:
    """Yield parts in as many pieces as they need. The halves of a page of `PAGE_ROWS_MAX` rows end after sixteen times."""
    count = sum(map(len, parts))
    if count == 0:
        return
    body = pack(_piece(bare, parts))
    if len(body) <= PIECE_BYTES_MAX or count == 1:
        yield body, count
        return
    del body
    yield from _halved(bare, _between(parts, 0, count // 2))
    yield from _halved(bare, _between(parts, count // 2, count))


def _between(parts: Sequence[_Part], begin: int, end: int) -> list[_Part]:
    """Return the rows begin … end - 1, counted through all parts."""
    found, at = list[_Part](), 0
    for part in parts:
        low, high = max(begin - at, 0), min(end - at, len(part))
        if low < high:
            found.append(part.cut(low, high))
        at += len(part)
    return found


def _piece(bare: Page, parts: Sequence[_Part]) -> Page:
    encoded = [(part, tuple(encode_column(column) for column in part.columns)) for part in parts]
    rows = tuple(Rows(part.table, part.names, len(part), columns) for part, columns in encoded if part.names)
    deaths = tuple(Removals(part.table, len(part), columns) for part, columns in encoded if not part.names)
    return structs.replace(bare, rows=rows, deaths=deaths)
