"""Swallowed: lines that a stray quote has made part of another row.

    row of several lines ─► is one of them a good row by itself? ─► then the quote was none, and no cell of it can be trusted
    a row that cannot be trusted ─► whatever its lines may belong to, each read by itself ─► left out with it

A quoted field may have line breaks, so the reader cannot tell; a good row inside of one tells. Used by gather.py.
"""

from collections.abc import Iterator

from schema.importer.errors import ValueRejected
from schema.importer.fields import Plan
from schema.importer.reader import Record, Rejection, Source

WIDTH_MIN = 4
"""Columns from which on a line of text in a field is not taken for a row by chance."""


def swallows(source: Source, plan: Plan, row: Record | Rejection) -> bool:
    """Tell whether lines of a row are rows by themselves: complete, and good unless the row is no good either.

    Its last line looks like one where the field that runs over lines is the first: that says nothing.
    """
    if len(row.texts) < 2 or len(source.header) < WIDTH_MIN:
        return False
    is_first = len(next(source.cells_of(row.texts[0]), [])) < 2
    lines = row.texts[1:-1] if is_first else row.texts[1:]
    return any(_is_row(plan, cells, isinstance(row, Record)) for line in lines for cells in source.cells_of(line) if _fits(source, cells))


def _fits(source: Source, cells: list[str]) -> bool:
    return len(cells) == len(source.header) and any(cells)


def _is_row(plan: Plan, cells: list[str], must_be_good: bool) -> bool:
    if must_be_good:
        try:
            plan.values(cells)
        except ValueRejected:
            return False
    return True


def keys_in(source: Source, plan: Plan, key: str, first: int, texts: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield, for each of a row's lines that is not blank, its number and what `key` may be there; nothing where it cannot be known."""
    for number, line in enumerate(texts, first):
        readings = [cells for cells in source.cells_of(line) if any(cell.strip() for cell in cells)]
        if readings:
            values = (plan.value_of(key, cells) for cells in readings)
            yield number, tuple(dict.fromkeys(str(value) for value in values if value is not None))
