"""The picture of sales: bars lie within it, add up, and no odd month or amount upsets it."""

from __future__ import annotations

import pytest

from server.console.picture import BOTTOM, HEIGHT, LEFT, MONTHS_MAX, RIGHT, SERIES_MAX, TOP, WIDTH, Cell, Picture, draw
from server.words import money, quantity

TODAY = "2025-12"


def inside(picture: Picture) -> bool:
    return all(
        bar.x >= LEFT and bar.x + bar.width <= WIDTH - RIGHT and bar.y >= TOP - 0.1 and bar.y + bar.height <= HEIGHT - BOTTOM + 0.1
        for bar in picture.bars
    )


def test_columns_stack_without_gaps() -> None:
    picture = draw("UAH", [Cell("a", "2025-01", 300), Cell("b", "2025-01", 100)], TODAY)
    lower, upper = picture.bars
    assert upper.y + upper.height == pytest.approx(lower.y, abs=0.02)
    assert lower.height == pytest.approx(3 * upper.height, abs=0.05)
    assert lower.y + lower.height == pytest.approx(picture.zero, abs=0.02)
    assert inside(picture)


def test_what_was_given_back_hangs_below_the_line() -> None:
    picture = draw("UAH", [Cell("a", "2025-01", 300), Cell("b", "2025-01", -100)], TODAY)
    assert picture.bars[1].y == pytest.approx(picture.zero)
    assert any(mark.text.startswith("−") for mark in picture.up)
    assert inside(picture)


def test_months_without_sales_keep_their_place() -> None:
    picture = draw("UAH", [Cell("a", "2024-11", 1), Cell("a", "2025-02", 1)], TODAY)
    assert picture.months == ("2024-11", "2024-12", "2025-01", "2025-02")
    assert len(picture.bars) == 2


def test_many_branches_share_the_last_colour() -> None:
    picture = draw("UAH", [Cell(f"b{n}", "2025-01", 100 - n) for n in range(40)], TODAY)
    assert len(picture.series) == SERIES_MAX
    assert picture.series[-1].name == "35 others"
    assert sum(each.minor for each in picture.series) == sum(100 - n for n in range(40))


def test_only_the_newest_months_and_none_to_come() -> None:
    picture = draw("UAH", [Cell("a", f"{year}-06", 1) for year in range(1990, 2100)], TODAY)
    assert picture.months[-1] == "2025-06"
    assert len(picture.months) == MONTHS_MAX
    assert picture.is_cut
    assert draw("UAH", [Cell("a", "2099-01", 1)], TODAY).months == ("2099-01",)


@pytest.mark.parametrize("minor", [0, 1, -1, 7, 10**30, -(10**30)])
def test_any_amount_has_a_picture(minor: int) -> None:
    picture = draw("UAH", [Cell("a", "2025-01", minor)], TODAY)
    assert 2 <= len(picture.up) <= 8
    assert inside(picture)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(123_456_789, "UAH", "1,234,567.89"), (-5, "EUR", "−0.05"), (1_234, "JPY", "1,234"), (1_234, "KWD", "1.234"), (0, "UAH", "0.00")],
)
def test_money(minor: int, currency: str, text: str) -> None:
    assert money(minor, currency) == text


@pytest.mark.parametrize(("milli", "text"), [(1_000, "1"), (1_500, "1.5"), (-1, "−0.001"), (100_000, "100"), (0, "0")])
def test_quantity(milli: int, text: str) -> None:
    assert quantity(milli) == text
