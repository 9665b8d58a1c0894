from datetime import UTC, datetime
from hashlib import blake2b
from zoneinfo import ZoneInfo

import pytest

from schema.importer.errors import SourceUnreadable, ValueRejected
from schema.importer.fields import Plan, Value, local_ms
from schema.importer.mapping import parse_mapping
from schema.importer.vocabulary import FileRole

LONDON = ZoneInfo("Europe/London")


def role(fields: str) -> FileRole:
    text = f"""
[mapping]
title = "Test"
currency = "EUR"
null = ["", "NULL"]
[maps.sexes]
default = "?"
values = {{ "м" = "m", "ж" = "f" }}
[lookups.towns]
file = "towns"
key = "code"
value = "name"
[files.towns]
match = ["towns.csv"]
[files.towns.fields]
code = "Code"
name = "Name"
[files.f]
match = ["*"]
[files.f.fields]
{fields}
"""
    return parse_mapping(text, "test.toml").files["f"]


def plan(fields: str, header: str) -> Plan:
    maps = parse_mapping("[mapping]\ntitle='T'\n[maps.sexes]\ndefault='?'\nvalues={'м'='m'}\n[files.f]\nmatch='f'", "t").maps
    return Plan(role(fields), header.split(","), maps, {"towns": {"7": "Львов"}})


def one(field: str, *cells: str, header: str = "A,B,C") -> Value:
    return plan(f"x = {field}", header).values([*cells, "", "", ""])[0]


@pytest.mark.parametrize(
    ("field", "cell", "value"),
    [
        ('"A"', "  text ", "text"),
        ('"a"', "names ignore case", "names ignore case"),
        ('"A"', "NULL", None),
        ('"A"', " ", None),
        ('{ column = "A", null = ["-"] }', "NULL", "NULL"),
        ('{ column = "A", drop_suffix = [".0"] }', "17850.0", "17850"),
        ('{ column = "A", drop_prefix = ["email:", "phone:"] }', "phone: 8-800", "8-800"),
        ('{ column = "A", drop_suffix = ["руб.", "₽"], type = "e4" }', "1919.00 ₽", 19_190_000),
        ('{ column = "A", drop_suffix = ["руб.", "₽"], type = "minor" }', "1768 руб.", 176_800),
        ('{ column = "A", type = "milli", decimal = "," }', "1.250,5", 1_250_500),
        ('{ column = "A", type = "whole" }', "12.0", 12),
        ('{ column = "A", type = "date", formats = ["%d.%m.%Y %H:%M"] }', "22.12.2019 15:10", "2019-12-22"),
        ('{ column = "A", type = "time", formats = ["%m/%d/%Y"] }', "7/4/1996", 836_438_400_000),
        ('{ column = "A", map = "sexes" }', "м", "m"),
        ('{ column = "A", map = "sexes" }', "unknown", "?"),
        ('{ column = "A", lookup = "towns" }', "7", "Львов"),
        ('{ column = "A", lookup = "towns" }', "8", None),
        ('{ column = "A", lookup = "towns", default = "?" }', "8", "?"),
        ('{ column = "A", prefixes = { C = "return" }, default = "sale" }', "C1", "return"),
        ('{ column = "A", prefixes = { C = "return" }, default = "sale" }', "A1", "sale"),
        ('{ column = ["Z", "A"] }', "second name", "second name"),
        ('{ column = "Z", optional = true }', "x", None),
    ],
)
def test_a_cell_becomes_a_value(field: str, cell: str, value: Value) -> None:
    assert one(field, cell) == value


@pytest.mark.parametrize(
    ("field", "cell", "reason"),
    [
        ('{ column = "A", type = "e4" }', "abc", "A 'abc': not a number"),
        ('{ column = "A", type = "whole" }', "1.5", "A '1.5': not a whole number"),
        ('{ column = "A", required = true }', " ", "A '': is empty"),
        (
            '{ column = "A", type = "date", formats = ["%Y-%m-%d"] }',
            "31.12.99",
            "A '31.12.99': not a date in the form %Y",
        ),
        ('{ column = "A", type = "e4" }', "x" * 100, "A 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…': not"),
        ('{ column = "A", type = "milli" }', "9" * 30, "number out of range"),
    ],
)
def test_a_bad_cell_is_told_with_its_column(field: str, cell: str, reason: str) -> None:
    with pytest.raises(ValueRejected) as raised:
        one(field, cell)
    assert reason in str(raised.value)


def test_a_missing_column_lists_those_there_are() -> None:
    with pytest.raises(SourceUnreadable, match="no column Z or Y; the first line names: A, B, C"):
        one('{ column = ["Z", "Y"] }', "x")


def test_fields_are_made_from_fields() -> None:
    made = plan(
        """
price = { column = "A", type = "decimal" }
quantity = { column = "B", type = "decimal" }
discount = { column = "C", type = "decimal" }
net = { multiply = ["price", "quantity"], less = ["discount"], type = "minor" }
label = { text = "{net}/{net}" }
empty = { text = "{missing}!" }
""".replace("empty =", 'missing = { column = "D", optional = true }\nempty ='),
        "A,B,C",
    )
    assert made.stored == ("missing", "net", "label", "empty"), "cells first, then what is made of them"
    assert made.values(["16.8", "15", "0.15"]) == (None, 21_420, "21420/21420", None)
    assert made.values(["", "15", "0.15"]) == (None, None, None, None)


def test_equal_content_has_an_equal_digest() -> None:
    made = plan('a = "A"\nn = { column = "B", type = "milli" }\nd = { digest = ["a", "n"] }', "A,B")
    digests = [made.values(cells)[2] for cells in (["x", "2.5"], [" x", "2,50"], ["x", "2.6"], ["", "2.5"], ["null", "2.5"])]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
    assert digests[0] == "90718f14b858", "ids of lines that were imported depend on it: it must never change"
    assert digests[0] == blake2b(b'["x",2500]', digest_size=6).hexdigest()


def test_one_field_of_a_bad_line_is_known_where_it_can_be() -> None:
    made = plan('n = { column = "A", required = true }\np = { column = "B", type = "e4", required = true }', "A,B,C")
    assert made.value_of("n", ["536365", "abc", "x", "too many"]) == "536365"
    assert made.value_of("n", ["536365"]) == "536365"
    assert made.value_of("n", []) is None
    assert made.value_of("p", ["536365", "abc"]) is None


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        pytest.param(datetime(2011, 1, 15, 12, 0), datetime(2011, 1, 15, 12, 0), id="winter"),
        pytest.param(datetime(2011, 7, 15, 12, 0), datetime(2011, 7, 15, 11, 0), id="summer"),
        pytest.param(datetime(2011, 10, 30, 1, 30), datetime(2011, 10, 30, 0, 30), id="occurs-twice-is-the-first"),
        pytest.param(datetime(2011, 3, 27, 1, 30), datetime(2011, 3, 27, 1, 30), id="does-not-occur-is-read-as-winter"),
    ],
)
def test_local_times_become_utc(local: datetime, utc: datetime) -> None:
    assert local_ms(local, LONDON) == utc.replace(tzinfo=UTC).timestamp() * 1000


def test_times_before_1970_and_fractions_are_whole_milliseconds() -> None:
    assert local_ms(datetime(1969, 12, 31, 23, 59, 59, 999_000), ZoneInfo("UTC")) == -1
