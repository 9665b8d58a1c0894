"""Defaults of columns: what a declaration may give a row that leaves a column out.

A default stands in the database, for any program that writes with plain SQL gets it there; so it is one value of the column's
type, known when the table is made. Used by schema/declare.py. Spec: PROTOCOL.md §2, [P-2.16].
"""

from __future__ import annotations

import math
from itertools import chain

from schema.past import Column, Retyped, as_of
from sync.limits import VALUE_BYTES_MAX

MADE_BY_A_PROGRAM = (
    "default_factory makes values in Python, and rows that other programs write never pass through Python."
    " Leave it out, and give the value where the row is written: an id, say, by str(uuid.uuid4())"
)
"""What is said of a default that cannot be in the database."""


def wrong_default(column: Column) -> str | None:
    """Return what is wrong with a column's default, or with what it was in an earlier version; None if nothing is."""
    try:
        before = [as_of(column, change.version - 1) for change in column.past if isinstance(change, Retyped)]
    except (ValueError, TypeError, ArithmeticError) as error:
        return f"its default does not convert to the type before ({error}); give a default that does"
    found = (_wrong(each) for each in chain([column], before) if each is not None and each.default is not None)
    return next((wrong for wrong in found if wrong is not None), None)


def _wrong(column: Column) -> str | None:
    value = column.default
    match column.type:
        case "text" if type(value) is str:
            return _wrong_text(value)
        case "integer" | "real" if type(value) is int:
            return None if -(2**63) <= value < 2**63 else f"the default {value} is beyond 64 bits; give a smaller one, or none"
        case "real" if type(value) is float:
            return None if math.isfinite(value) else f"the default {value} cannot be in the database; give a number, or none"
        case "blob":
            return "a column of bytes has no default; allow None, or give the bytes where the row is written"
    return f"the default {value!r} is not {_WANTED[column.type]}, as the column is; give one that is, or none"


_WANTED = {"text": "a str", "integer": "an int", "real": "a float or an int"}


def _wrong_text(text: str) -> str | None:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        return "the default is no clean text: no row with it could travel. Take out the zero characters and the halves of characters"
    return f"the default is longer than {VALUE_BYTES_MAX} bytes; give a shorter one" if len(text.encode()) > VALUE_BYTES_MAX else None
