"""Exact arithmetic for what is counted: money, prices, quantities. No float anywhere.

A text becomes a Decimal, Decimals are multiplied without loss, and only the last step rounds: half away from zero, to
an integer of minor units (money), ten-thousandths (e4: prices, fractions) or thousandths (milli: quantities).
"""

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from functools import reduce
from typing import Literal

from schema.importer.errors import ValueRejected

DecimalMark = Literal["auto", ".", ","]

DIGITS_MAX = 40  # of one number as written
EXPONENT_MAX = 30
INTEGER_MAX = 2**63 - 1  # what a column can hold

E4_DIGITS = 4
MILLI_DIGITS = 3
MINOR_DIGITS = 2

# ISO 4217: currencies whose minor unit is not the hundredth.
_NO_MINOR_UNIT = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THOUSANDTHS = "BHD IQD JOD KWD LYD OMR TND"
MINOR_DIGITS_OF = dict.fromkeys(_NO_MINOR_UNIT.split(), 0) | dict.fromkeys(_THOUSANDTHS.split(), 3)

# Wide enough that nothing made of a few numbers of DIGITS_MAX digits is ever rounded; if it were, Inexact would tell.
_EXACT = Context(prec=400, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
_ROUNDING = Context(prec=400, rounding=ROUND_HALF_UP, traps=[InvalidOperation, DivisionByZero, Overflow])
_UNITS = {digits: Decimal(1).scaleb(-digits) for digits in range(5)}

_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")
_SPACES = dict.fromkeys(map(ord, " \u00a0\u202f\u2009'\u2019"))  # used between groups of three
_GROUPS = {mark: re.compile(rf"[+-]?[0-9]{{1,3}}(?:\{mark}[0-9]{{3}})+") for mark in ".,"}


def minor_digits(currency: str) -> int:
    """Return how many decimal digits the currency's minor unit has (ISO 4217)."""
    return MINOR_DIGITS_OF.get(currency, MINOR_DIGITS)


def parse_decimal(text: str, mark: DecimalMark = "auto") -> Decimal:
    """Return the number that the text says, exactly as written.

    `mark` is the decimal mark. With `auto` the mark is the last of `.` and `,` where both stand, else the one that
    stands; `1,234` could be either and is refused, so that no amount is wrong by a thousand in silence.
    Spaces and apostrophes between digit groups are allowed, a typographic minus too. Raises ValueRejected.
    """
    plain = _without_groups(text.strip().replace("\u2212", "-"), mark)
    if len(plain) > DIGITS_MAX or not _PLAIN.fullmatch(plain):
        raise ValueRejected("not a number")
    value = Decimal(plain)
    if abs(value.adjusted()) > EXPONENT_MAX + DIGITS_MAX:
        raise ValueRejected("number out of range")
    return value


def _without_groups(text: str, mark: DecimalMark) -> str:
    """Return the text with a `.` as its decimal mark and nothing between its digit groups."""
    if text.isascii() and "," not in text and mark != "," and " " not in text and "'" not in text:
        return text  # the ordinary case
    text = text.translate(_SPACES)
    used = _mark_used(text) if mark == "auto" else mark
    grouping = "." if used == "," else ","
    whole, _, fraction = text.partition(used)
    if grouping in whole:
        if not _GROUPS[grouping].fullmatch(whole):
            raise ValueRejected("not a number")
        whole = whole.replace(grouping, "")
    return f"{whole}.{fraction}" if used in text else whole


def _mark_used(text: str) -> str:
    """Return which of `.` and `,` is the decimal mark of this text, or refuse to guess."""
    if "." in text and "," in text:
        return max(".,", key=text.rfind)
    if "," not in text:
        return "."
    if text.count(",") > 1:
        return "."  # several commas can only be grouping
    if _GROUPS[","].fullmatch(text) and not text.lstrip("+-").startswith("0"):
        raise ValueRejected("ambiguous: a decimal comma or thousands? say `decimal` in the mapping")
    return ","


def multiply(factors: Iterable[Decimal]) -> Decimal:
    """Return the exact product of one or more numbers."""
    return reduce(_EXACT.multiply, factors)


def remainder(fraction: Decimal) -> Decimal:
    """Return 1 − fraction, exactly. A fraction outside 0..1 is refused: it is a percentage or a mistake."""
    if not 0 <= fraction <= 1:
        raise ValueRejected("a discount must be a fraction between 0 and 1")
    return _EXACT.subtract(Decimal(1), fraction)


def scaled(value: Decimal, digits: int) -> int:
    """Return the value in units of 10^-digits (0 to 4), rounded half away from zero; within 64 bits."""
    whole = int(_ROUNDING.quantize(value, _UNITS[digits]).scaleb(digits, _ROUNDING))
    if not -INTEGER_MAX <= whole <= INTEGER_MAX:
        raise ValueRejected("number out of range")
    return whole


def e4(value: Decimal) -> int:
    """Return ten-thousandths: a price per unit, or a fraction."""
    return scaled(value, E4_DIGITS)


def milli(value: Decimal) -> int:
    """Return thousandths: a quantity."""
    return scaled(value, MILLI_DIGITS)


def minor(value: Decimal, currency: str) -> int:
    """Return minor units of the currency: money."""
    return scaled(value, minor_digits(currency))
