"""union: for a set of texts in one column (tags, languages spoken), as a JSON array."""

from collections.abc import Sequence

import msgspec

from sync.policy import Cell, CellValue, ColumnType, Decision, Difference, NoDifference, one_column, policy
from sync.values import Value


class Changes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A difference of two sets, as JSON: `{"add":[…],"del":[…]}`, both sorted by code point."""

    add: list[str]
    remove: list[str] = msgspec.field(name="del")


_texts = msgspec.json.Decoder(list[str])
_changes = msgspec.json.Decoder(Changes)  # made here, before threads begin (sync/wire.py)


def _check(types: Sequence[ColumnType]) -> str | None:
    return one_column(types, "text")


def members(value: CellValue) -> frozenset[str]:
    """Return the set a value stands for; NULL and '' are the empty one.

    A text that is no JSON array of strings, typed by hand or by another program, is the set of that one text. Raises
    NoDifference for what is not a clean text.
    """
    if value is None or value == "":
        return frozenset()
    if not isinstance(value, str):
        raise NoDifference(f"not a set of texts: {value!r}")
    try:
        return frozenset(_texts.decode(value))
    except msgspec.MsgspecError:
        return frozenset((value,))


def canonical(texts: frozenset[str]) -> str:
    """Return the set as compact JSON, sorted by code point.

    Escaped are only the quote, the backslash and what is below U+0020: five by letter (b, t, n, f, r), the others by
    four lower-case hexadecimal digits.
    """
    return msgspec.json.encode(sorted(texts)).decode()


def between(old: CellValue, new: CellValue) -> Value:
    """Return what was added and removed, as the JSON of Changes. Raises NoDifference as `members` does."""
    before, after = members(old), members(new)
    return msgspec.json.encode(Changes(sorted(after - before), sorted(before - after))).decode()


def onto(value: CellValue, difference: Value) -> Value:
    """Return the set with the removals taken out, then the additions put in: adding wins. Raises NoDifference."""
    if not isinstance(difference, str):
        raise NoDifference(f"not a difference of sets: {difference!r}")
    try:
        changes = _changes.decode(difference)
    except msgspec.MsgspecError as error:
        raise NoDifference(f"not a difference of sets: {error}") from error
    return canonical((members(value) - frozenset(changes.remove)) | frozenset(changes.add))


DIFFERENCE = Difference(between, onto)


@policy("union", check=_check, difference=DIFFERENCE)
def union(base: Cell, mine: Cell, theirs: Cell) -> Decision:
    """What either person added is in the list, and what either removed is gone; adding wins.

    theirs - (base - mine) + (mine - base). Where a side is a blob or not clean text, theirs stands and a person is
    asked.
    """
    return DIFFERENCE.decide(base, mine, theirs)
