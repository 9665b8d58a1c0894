from pathlib import Path

import pytest

from schema.importer.errors import MappingInvalid
from schema.importer.mapping import load_mapping, parse_mapping, shipped_mappings

GOOD = """
[mapping]
title = "Test"
currency = "EUR"

[maps.kinds]
values = { a = "b" }

[lookups.names]
file = "things"
key = "code"
value = "name"

[files.things]
match = ["things.csv"]

[files.things.fields]
code = { column = "Code", required = true }
name = { column = ["Name", "Title"] }
price = { column = "Price", type = "decimal" }
price_minor = { column = "Price", type = "minor" }
made_on = { column = "Made", type = "date", formats = ["%d.%m.%Y"] }

[files.sales]
match = ["sales.csv"]

[files.sales.fields]
number = { column = "No", required = true }
thing = { column = "Thing" }
name = { field = "thing", lookup = "names" }

[[rows]]
table = "product"
file = "things"
columns = { id = "{code}", name = "{name}" }

[[documents]]
table = "sale"
file = "sales"
key = "number"
columns = { id = "{number}", total_minor = { total = "sale_line.amount_minor" } }

[[documents.parts]]
table = "sale_line"
parent = "sale_id"
file = "sales"
key = "number"
columns = { id = "{number}-{thing}", amount_minor = 1 }

[notes.many]
file = "sales"
each = "thing"
differ = "number"
"""


def test_the_shipped_mappings_load() -> None:
    assert shipped_mappings() == ["northwind", "online_retail"]
    assert [load_mapping(name).name for name in shipped_mappings()] == shipped_mappings()


def test_a_users_own_mapping_loads_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8")
    mapping = load_mapping(str(path))
    assert (mapping.name, mapping.title) == ("mine", "Test")
    assert list(mapping.files) == ["things", "sales"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('title = "Test"', "", "mapping.title: is missing"),
        ('title = "Test"', 'title = "Test"\nzone = "Mars/Base"', "mapping.zone: no time zone 'Mars/Base'"),
        ('"EUR"', '"Euro"', "mapping.currency: 'Euro' is not an ISO 4217 code"),
        ('currency = "EUR"', "", "files.things.fields.price_minor.type: money needs"),
        ('title = "Test"', 'title = "Test"\ncolour = 1', "mapping.colour: unknown key"),
        ("[notes.many]", "[surprise]\n[notes.many]", "surprise: unknown key"),
        ('match = ["things.csv"]', "", "files.things.match: is missing"),
        ('match = ["things.csv"]', 'match = ["a"]\ndelimiter = "~"', "files.things.delimiter: '~' is none of"),
        ('type = "decimal"', 'type = "float"', "files.things.fields.price.type: 'float' is none of"),
        ('type = "decimal"', 'type = "decimal", decimal = ";"', "files.things.fields.price.decimal: ';' is none of"),
        (', formats = ["%d.%m.%Y"]', "", "files.things.fields.made_on.formats: is missing"),
        ('"%d.%m.%Y"', '"%d %B"', "files.things.fields.made_on.formats: %B is none of"),
        (
            'column = "Code", required = true',
            'column = "Code", required = "yes"',
            "fields.code.required: must be true or",
        ),
        ('column = "Code", required', 'field = "x", column = "C", required', "fields.code: needs exactly one of"),
        (
            'field = "thing", lookup',
            'field = "other", lookup',
            "fields.name: uses the field 'other', which is not defined",
        ),
        ('lookup = "names"', 'lookup = "namez"', "files.sales.fields.name.lookup: no lookup is named 'namez'"),
        ('lookup = "names"', 'map = "kindz"', "files.sales.fields.name.map: no map is named 'kindz'"),
        ('lookup = "names"', 'map = "kinds", lookup = "names"', "fields.name: takes at most one of"),
        ('value = "name"', 'value = "nome"', "lookups.names: the file 'things' has no field 'nome'"),
        ('value = "name"', 'value = "price"', "lookups.names: 'price' is decimal"),
        ('file = "things"\ncolumns', 'file = "thongs"\ncolumns', "no file is named 'thongs'"),
        ('file = "things"\ncolumns', "columns", "rows[0]: needs either file or list"),
        ('id = "{code}", name', 'sku = "{code}", name', "rows[0].columns.id: is missing"),
        ('name = "{name}" }', 'name = "{nome}" }', "rows[0].columns.name: the file 'things' has no field 'nome'"),
        ('name = "{name}" }', 'name = "{name!r}" }', "a hole is {field} and nothing else"),
        ('name = "{name}" }', 'name = "{name" }', "rows[0].columns.name: '{name'"),
        ('name = "{name}" }', 'name = { most = "name" } }', "rows[0].columns.name: needs exactly one of"),
        ('table = "product"', 'table = "product; --"', "rows[0].table: 'product; --' is not a name"),
        ('"sale_line.amount_minor"', '"sale_line.sum"', "columns.total_minor: no part has the column sale_line.sum"),
        ("amount_minor = 1 }", 'amount_minor = { sum = "thing" } }', "parts[0].columns: a part is made from one line"),
        ('key = "number"\ncolumns = { id = "{number}-', 'columns = { id = "{number}-', "parts[0]: needs file and key"),
        ('differ = "number"', 'differ = "no"', "notes.many: the file 'sales' has no field 'no'"),
        ('name = { column = ["Name"', 'Name = { column = ["Name"', "fields.Name: a name is made of a-z"),
        ("[mapping]", "[mapping", "not TOML"),
    ],
)
def test_a_mistake_is_told_with_file_key_and_reason(old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    with pytest.raises(MappingInvalid) as raised:
        parse_mapping(GOOD.replace(old, new, 1), "mine.toml")
    assert str(raised.value).startswith("mine.toml: ")
    assert complaint in str(raised.value)


def test_lookups_in_a_circle_are_a_mistake() -> None:
    circle = GOOD.replace('name = { column = ["Name", "Title"] }', 'c = "C"\nname = { field = "c", lookup = "names" }')
    with pytest.raises(MappingInvalid, match="circle: things → things"):
        parse_mapping(circle, "mine.toml")


def test_an_unknown_name_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(MappingInvalid, match="northwind, online_retail"):
        load_mapping(str(tmp_path / "none.toml"))
