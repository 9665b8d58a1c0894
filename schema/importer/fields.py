"""Fields: from the cells of one line to its typed values, as the mapping's file says.

A role's fields are made into functions once per file, when its header is known; the loop over lines only calls them.
What depends on one cell's text alone is remembered, since prices, dates and quantities repeat.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from schema.importer.amounts import E4_DIGITS, MILLI_DIGITS, minor_digits, multiply, parse_decimal, remainder, scaled
from schema.importer.errors import SourceUnreadable, ValueRejected
from schema.importer.vocabulary import (
    Cell,
    Digest,
    Field,
    FileRole,
    Product,
    Scalar,
    Steps,
    Template,
    Typing,
    ValueMap,
)

REMEMBERED = 16_384  # texts per field
DIGEST_BYTES = 6  # within one document, where equal ids are told apart by number
SHOWN_CHARACTERS = 40  # of a bad cell in a reason
_SHOWN_CHARS = 500  # of a first line

Value = Scalar | Decimal
Compute = Callable[[Sequence[Value]], Value]  # from the values of fields above
Convert = Callable[[str], Value]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Plan:
    """How the lines of one file become values. `stored` are the fields that outlive the line: all but decimals."""

    def __init__(
        self,
        role: FileRole,
        header: Sequence[str],
        maps: Mapping[str, ValueMap],
        lookups: Mapping[str, Mapping[Scalar, Scalar]],
    ) -> None:
        positions = {name.casefold(): position for position, name in reversed(list(enumerate(header)))}
        fields = in_order(role)
        self._header = header
        self._names = tuple(field.name for field in fields)
        self._columns = [_position(field, positions, header) for field in fields]
        self.stored = stored_fields(role)
        self._keep = _picker([place for place, name in enumerate(self._names) if name in self.stored])
        build = _Builder(self._names, maps, lookups)
        self._reads = [build.cell(field) for field in fields if isinstance(field.origin, Cell)]
        self._cells = _picker([len(header) if at is None else at for at in self._columns[: len(self._reads)]])
        self._computed = [_demanded(field, build.computed(field)) for field in fields[len(self._reads) :]]

    def values(self, cells: list[str]) -> tuple[Value, ...]:
        """Return the values of the stored fields. Raises ValueRejected with the column, the cell and the reason."""
        texts = self._cells([*cells, ""])  # the cell of an absent column
        try:
            values: list[Value] = [read(text) for read, text in zip(self._reads, texts, strict=False)]
        except ValueRejected:
            raise self._blamed(cells, texts) from None
        try:
            for compute in self._computed:
                values.append(compute(values))
        except ValueRejected as rejected:
            raise ValueRejected(f"{self._names[len(values)]}: {rejected}") from None
        return self._keep(values)[:-1]

    def value_of(self, name: str, cells: Sequence[str]) -> Value:
        """Return one field of a line that is no good otherwise, or None if it cannot be known either."""
        width = len(self._header)
        texts = self._cells([*cells[:width], *[""] * (width + 1 - len(cells[:width]))])
        values: list[Value] = [_or_none(read, text) for read, text in zip(self._reads, texts, strict=False)]
        for compute in self._computed:
            values.append(_or_none(compute, values))
        return values[self._names.index(name)]

    def _blamed(self, cells: Sequence[str], texts: Sequence[str]) -> ValueRejected:
        """Return the rejection of the first bad cell, with its column and text."""
        for read, text, column in zip(self._reads, texts, self._columns, strict=False):
            try:
                read(text)
            except ValueRejected as rejected:
                name = "an absent column" if column is None else self._header[column]
                shown = text.strip()
                shown = shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "…"
                return ValueRejected(f"{name} {shown!r}: {rejected}")
        raise AssertionError("a cell that was bad is good now")


def in_order(role: FileRole) -> list[Field]:
    """Return the fields as they are made: cells, which need no other field, then the rest as they stand."""
    return sorted(role.fields, key=lambda field: not isinstance(field.origin, Cell))


def stored_fields(role: FileRole) -> tuple[str, ...]:
    """Return the names of the fields that are kept after the line was read, in order."""
    return tuple(field.name for field in in_order(role) if field.typing.type != "decimal")


def _or_none(make: Callable[[Any], Value], of: Any) -> Value:
    try:
        return make(of)
    except ValueRejected:
        return None


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return what gives the values at these places and one more: with a single place, itemgetter would give no tuple."""
    return itemgetter(*places, 0)


def _position(field: Field, positions: Mapping[str, int], header: Sequence[str]) -> int | None:
    """Return where the field's cell stands; None for a computed field or an absent optional column."""
    if not isinstance(field.origin, Cell):
        return None
    for name in field.origin.columns:
        if name.strip().casefold() in positions:
            return positions[name.strip().casefold()]
    if field.origin.optional:
        return None
    wanted = " or ".join(field.origin.columns)
    raise SourceUnreadable(f"there is no column {wanted}; the first line names: {_shown(header)}")


def _shown(header: Sequence[str]) -> str:
    """Return a header for people: of a file that is no table at all, its beginning."""
    text = ", ".join(header)
    seen = "".join(char if char.isprintable() else " " for char in text[:_SHOWN_CHARS])
    return seen if len(text) <= _SHOWN_CHARS else f"{seen}… (is it a table at all?)"


def _demanded(field: Field, compute: Compute) -> Compute:
    """Return the function, refusing null if the field is required."""
    if not field.required:
        return compute
    return lambda values: _present(compute(values))


def _present(value: Value) -> Value:
    if value is None:
        raise ValueRejected("is empty")
    return value


class _Builder:
    """Makes the function of a field; knows the fields' places, the maps and the lookups."""

    def __init__(
        self,
        names: Sequence[str],
        maps: Mapping[str, ValueMap],
        lookups: Mapping[str, Mapping[Scalar, Scalar]],
    ) -> None:
        self._at = {name: position for position, name in enumerate(names)}
        self._maps = maps
        self._lookups = lookups

    def cell(self, field: Field) -> Convert:
        """Return what reads the field's cell; remembered, since prices, dates and quantities repeat."""
        assert isinstance(field.origin, Cell)
        clean, convert = _cleaner(field.origin), self._converter(field.steps, field.typing) or _as_it_is

        @lru_cache(REMEMBERED)
        def read(text: str) -> Value:
            cleaned = clean(text)
            value = None if cleaned is None else convert(cleaned)
            return _present(value) if field.required else value

        return read

    def computed(self, field: Field) -> Compute:
        """Return what makes the field from those above it."""
        match field.origin:
            case Template():
                return self._template(field, field.origin)
            case Product():
                return self._product(field, field.origin)
            case Digest():
                return self._digest(field.origin)
            case Cell():
                raise AssertionError("a cell is read, not computed")

    def _template(self, field: Field, template: Template) -> Compute:
        convert = self._converter(field.steps, field.typing)
        fill = filler(template, self._at)
        if convert is None:
            return fill
        read = lru_cache(REMEMBERED)(convert)

        def compute(values: Sequence[Value]) -> Value:
            value = fill(values)
            return None if value is None else read(str(value))

        return compute

    def _product(self, field: Field, product: Product) -> Compute:
        pick = _picker([self._at[name] for name in (*product.factors, *product.less)])
        taken, digits = len(product.factors), _digits(field.typing)

        @lru_cache(REMEMBERED)
        def compute(*numbers: Decimal | None) -> Value:
            known = [number for number in numbers if number is not None]
            if len(known) < len(numbers):
                return None
            result = multiply([*known[:taken], *map(remainder, known[taken:])])
            return result if digits is None else scaled(result, digits)

        return lambda values: compute(*pick(values)[:-1])

    def _digest(self, digest: Digest) -> Compute:
        pick = _picker([self._at[name] for name in digest.fields])
        encode = msgspec.json.encode
        return lambda values: blake2b(encode(pick(values)[:-1]), digest_size=DIGEST_BYTES).hexdigest()

    def _converter(self, steps: Steps, typing: Typing) -> Convert | None:
        """Return what makes the value from the clean text; None where the text itself is the value."""
        step, convert = self._step(steps), _conversion(typing)
        if step is None or convert is None:
            return step or convert
        before, after = step, convert

        def both(text: str) -> Value:
            stepped = before(text)
            return None if stepped is None else after(str(stepped))

        return both

    def _step(self, steps: Steps) -> Convert | None:
        default = steps.default
        if steps.prefixes:
            prefixes = steps.prefixes
            return lambda text: next((value for prefix, value in prefixes if text.startswith(prefix)), default)
        if steps.map is not None:
            table = self._maps[steps.map]
            missing = table.default if default is None else default
            return lambda text: table.values.get(text, missing)
        if steps.lookup is not None:
            found = self._lookups[steps.lookup]
            return lambda text: found.get(text, default)
        return None


def filler(template: Template, at: Mapping[str, int]) -> Callable[[Sequence[Value]], Value]:
    """Return the function that fills the template from values at these places."""
    places = [(before, at[name]) for before, name in template.holes]
    if not places:
        return lambda values: template.tail
    if len(places) == 1 and not places[0][0] and not template.tail:
        only = places[0][1]
        return lambda values: values[only]

    def fill(values: Sequence[Value]) -> Value:
        text = ""
        for before, place in places:
            value = values[place]
            if value is None:
                return None
            text += f"{before}{value}"
        return text + template.tail

    return fill


def _as_it_is(text: str) -> Value:
    return text


def _cleaner(cell: Cell) -> Callable[[str], str | None]:
    """Return what takes away blanks around the text, its dropped beginnings and ends, and texts that mean nothing."""
    null, prefixes, suffixes = frozenset(cell.null) | {""}, cell.drop_prefix, cell.drop_suffix

    def clean(text: str) -> str | None:
        text = text.strip()
        for prefix in prefixes:
            text = text.removeprefix(prefix).lstrip()
        for suffix in suffixes:
            text = text.removesuffix(suffix).rstrip()
        return None if text in null else text

    return clean


def _digits(typing: Typing) -> int | None:
    """Return the decimal digits of a scaled type; None for the others."""
    return {"e4": E4_DIGITS, "milli": MILLI_DIGITS, "minor": minor_digits(typing.currency)}.get(typing.type)


def _conversion(typing: Typing) -> Convert | None:
    """Return what reads a text as a value of the type; None for text."""
    mark, digits = typing.decimal, _digits(typing)
    if digits is not None:
        places = digits
        return lambda text: scaled(parse_decimal(text, mark), places)
    if typing.type == "decimal":
        return lambda text: parse_decimal(text, mark)
    if typing.type == "whole":
        return lambda text: _whole(parse_decimal(text, mark))
    if typing.type == "time":
        zone = ZoneInfo(typing.zone)
        return lambda text: local_ms(_parse_time(text, typing.formats), zone)
    if typing.type == "date":
        return lambda text: _parse_time(text, typing.formats).date().isoformat()
    return None


def _whole(value: Decimal) -> int:
    if value != value.to_integral_value():
        raise ValueRejected("not a whole number")
    return scaled(value, 0)


def _parse_time(text: str, formats: Sequence[str]) -> datetime:
    for used in formats:
        try:
            return datetime.strptime(text, used)
        except ValueError:
            continue
    raise ValueRejected(f"not a date in the form {' or '.join(formats)}")


def local_ms(local: datetime, zone: ZoneInfo) -> int:
    """Return the milliseconds UTC of a local time without zone.

    A time that occurs twice (clocks set back) is its first occurrence; a time that does not occur (clocks set forward)
    is read with the offset before the change, so 01:30 on that morning in London is 01:30 UTC. Always the same way.
    """
    return (local.replace(tzinfo=zone, fold=0) - _EPOCH) // _MILLISECOND
