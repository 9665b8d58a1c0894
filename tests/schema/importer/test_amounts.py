from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.importer.amounts import INTEGER_MAX, e4, milli, minor, multiply, parse_decimal, remainder, scaled
from schema.importer.errors import ValueRejected

NUMBERS = st.decimals(min_value=-(10**9), max_value=10**9, places=6, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("text", "mark", "value"),
    [
        ("2.55", "auto", "2.55"),
        ("-11062.06", "auto", "-11062.06"),
        ("+7", "auto", "7"),
        (".5", "auto", "0.5"),
        ("5.", "auto", "5"),
        ("1,5", "auto", "1.5"),
        ("0,125", "auto", "0.125"),
        ("-0,125", "auto", "-0.125"),
        ("1234,567", "auto", "1234.567"),
        ("1 768,50", "auto", "1768.50"),
        ("1\u00a0768,50", "auto", "1768.50"),
        ("1'768.50", "auto", "1768.50"),
        ("1,234.5", "auto", "1234.5"),
        ("1.234,5", "auto", "1234.5"),
        ("1,234,567", "auto", "1234567"),
        ("1.234", "auto", "1.234"),
        ("1,234", ".", "1234"),
        ("1,234", ",", "1.234"),
        ("1.234", ",", "1234"),
        ("\u22125", "auto", "-5"),
        ("1e-05", "auto", "0.00001"),
        ("  12  ", "auto", "12"),
    ],
)
def test_a_number_is_read_as_written(text: str, mark: str, value: str) -> None:
    assert parse_decimal(text, mark) == Decimal(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ".",
        "abc",
        "12a",
        "1.2.3",
        "1,2,3",
        "1,23.4",
        "NaN",
        "Infinity",
        "0x10",
        "1e999",
        "--5",
        "٣",
        "1" * 41,
        "1_000",
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueRejected):
        parse_decimal(text)


def test_thousands_or_decimals_are_not_guessed() -> None:
    with pytest.raises(ValueRejected, match="ambiguous"):
        parse_decimal("1,234")


@given(NUMBERS)
def test_every_decimal_is_read_back_exactly_with_either_mark(number: Decimal) -> None:
    text = format(number, "f")
    assert parse_decimal(text, ".") == number
    assert parse_decimal(text.replace(".", ","), ",") == number
    assert parse_decimal(text) == number


@given(NUMBERS, st.integers(0, 4))
def test_rounding_is_half_away_from_zero(number: Decimal, digits: int) -> None:
    with localcontext(prec=60):
        by_decimal = number.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    exact = abs(Fraction(number)) * 10**digits + Fraction(1, 2)
    by_fraction = exact.numerator // exact.denominator * (-1 if number < 0 else 1)
    assert scaled(number, digits) == by_decimal.scaleb(digits) == by_fraction


@given(st.lists(NUMBERS, min_size=1, max_size=4))
def test_products_are_exact(factors: list[Decimal]) -> None:
    expected = Fraction(1)
    for factor in factors:
        expected *= Fraction(factor)
    assert Fraction(multiply(factors)) == expected


@pytest.mark.parametrize(("value", "units"), [("0.005", 1), ("-0.005", -1), ("0.0049", 0), ("1.005", 101), ("-2.675", -268), ("2", 200)])
def test_money_is_rounded_at_the_end_only(value: str, units: int) -> None:
    assert minor(Decimal(value), "GBP") == units


def test_scales() -> None:
    assert e4(Decimal("2.55")) == 25_500
    assert milli(Decimal("-3")) == -3_000
    assert minor(Decimal("12"), "JPY") == 12
    assert minor(Decimal("1.2345"), "KWD") == 1_235


def test_a_number_that_no_column_holds_is_refused() -> None:
    assert scaled(Decimal(INTEGER_MAX), 0) == INTEGER_MAX
    with pytest.raises(ValueRejected, match="range"):
        scaled(Decimal(INTEGER_MAX + 1), 0)


@pytest.mark.parametrize("percent", ["15", "-0.1", "1.01"])
def test_a_discount_is_a_fraction(percent: str) -> None:
    with pytest.raises(ValueRejected, match="fraction"):
        remainder(Decimal(percent))
