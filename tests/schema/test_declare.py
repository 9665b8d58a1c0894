"""Declarations: what is refused and why, the order of tables, the ways along which rows get scope keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Field

from schema.declare import BadDeclaration, By, Everyone, Kind, Synced, Through, Tie
from schema.derive import table_of
from schema.past import Conversion, Renamed, Retyped, past
from schema.registry import Schema, ScopePath, build, load
from sync.errors import BadValue
from tests.declared import declare

NUMBERED = Conversion("numbered", str, int)

# --- one table -----------------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-2.1", "P-2.2", "P-2.9", "P-2.10")
def test_what_a_declaration_becomes() -> None:
    table = table_of(
        declare(
            key=("tenant", "id"),
            columns={"note": str, "pay": int, "rate": float, "photo": bytes, "turns": (int, 3), "street": str, "city": str},
            policies={"note": "ask", "place": "first", "pay": "add"},
            groups={"place": ("city", "street")},
            indexes=("note",),
        )
    )
    assert (table.key, table.names[:3]) == (("tenant", "id"), ("tenant", "id", "branch_id"))
    assert [(c.name, c.type, c.nullable, c.default) for c in table.columns[3:8]] == [
        ("note", "text", True, None),
        ("pay", "integer", True, None),
        ("rate", "real", True, None),
        ("photo", "blob", True, None),
        ("turns", "integer", False, 3),
    ]
    assert [(cell.name, cell.columns, cell.policy) for cell in table.cells] == [
        ("branch_id", ("branch_id",), "latest"),
        ("note", ("note",), "ask"),
        ("pay", ("pay",), "add"),
        ("rate", ("rate",), "latest"),
        ("photo", ("photo",), "latest"),
        ("turns", ("turns",), "latest"),
        ("place", ("city", "street"), "first"),
    ]
    assert table.cell_of["city"] is table.cell_of["street"] is table.cell_named["place"]
    assert (table.position["note"], table.values[0], table.immutable, table.parents) == (3, "branch_id", False, ())
    assert table.doc == "Declared by a test."


@pytest.mark.covers("P-2.9")
def test_every_column_outside_the_key_belongs_to_one_cell() -> None:
    for table in load(()).tables:
        assert sorted(column for cell in table.cells for column in cell.columns) == sorted(table.values)


BAD: dict[str, tuple[Callable[[], type[Synced]], str]] = {
    "no scope": (lambda: declare(scope=()), "outing: no scope"),
    "a scope of an unknown column": (lambda: declare(scope=(By("branch", "shop"),)), "unknown column shop"),
    "a tie of an unknown column": (lambda: declare(ties=(Tie("outing", "shop"),)), "unknown column shop"),
    "an index of an unknown column": (lambda: declare(indexes=("shop",)), "unknown column shop"),
    "a prefix with a colon": (lambda: declare(scope=(By("a:b", "branch_id"),)), "not a scope prefix"),
    "a prefix with a quote": (lambda: declare(scope=(By("o'", "branch_id"),)), "not a scope prefix"),
    "an empty prefix": (lambda: declare(scope=(By("", "branch_id"),)), "not a scope prefix"),
    "a type no column has": (lambda: declare(columns={"when": date}), "is not str, int, float or bytes"),
    "a truth": (lambda: declare(columns={"done": bool}), "is not str, int, float or bytes"),
    "an unknown policy": (lambda: declare(columns={"x": int}, policies={"x": "newest"}), "there is no policy newest; there are add, ask"),
    "a policy of an unknown column": (lambda: declare(policies={"x": "ask"}), "names x"),
    "a policy of a key": (lambda: declare(policies={"id": "ask"}), "names id"),
    "a policy of a column within a group": (
        lambda: declare(columns={"x": int, "y": int}, groups={"g": ("x", "y")}, policies={"x": "ask"}),
        "names x",
    ),
    "a group of an unknown column": (lambda: declare(groups={"g": ("x",)}), "names x"),
    "a group of a key": (lambda: declare(groups={"g": ("id",)}), "names id"),
    "a group of nothing": (lambda: declare(groups={"g": ()}), "group g has no columns"),
    "a group named as a column outside it": (
        lambda: declare(columns={"x": int, "y": int}, groups={"y": ("x",)}),
        "name of a column outside it",
    ),
    "a column in two groups": (lambda: declare(columns={"x": int}, groups={"g": ("x",), "h": ("x",)}), "outing.x: named twice"),
    "a column twice in a group": (lambda: declare(columns={"x": int}, groups={"g": ("x", "x")}), "outing.x: named twice"),
    "add of a text": (
        lambda: declare(columns={"x": str}, policies={"x": "add"}),
        "outing.x: policy add takes a column of type integer or real",
    ),
    "add of a blob": (lambda: declare(columns={"x": bytes}, policies={"x": "add"}), "not blob"),
    "union of a number": (lambda: declare(columns={"x": int}, policies={"x": "union"}), "takes a column of type text, not integer"),
    "max of a group": (
        lambda: declare(columns={"x": int, "y": int}, groups={"g": ("x", "y")}, policies={"g": "max"}),
        "policy max takes one column, not a group of 2",
    ),
    "min of a group": (lambda: declare(columns={"x": int, "y": int}, groups={"g": ("x", "y")}, policies={"g": "min"}), "takes one column"),
    "a group of ours": (lambda: declare(columns={"x": int}, groups={"_g": ("x",)}), "the engine's own"),
    "a table of ours": (lambda: declare("_visit"), "the engine's own"),
    "a name beyond all measure": (lambda: declare("outing" * 50), "longer than 200 bytes"),
    "a set with values": (lambda: declare(kind=Kind.SET), "outing.branch_id: all columns of a set are its key"),
    "a key that is a number": (lambda: declare(key=(), columns={"id": (int, Field(primary_key=True))}), "a key is text, not integer"),
    "a scope by a number": (lambda: declare(columns={"shop": int}, scope=(By("shop", "shop"),)), "outing.shop: a scope or tie runs"),
    "a parent named by a number": (lambda: declare(columns={"up": int}, scope=(Through("outing", "up"),)), "not integer: keys are text"),
    "a tie by a number": (lambda: declare(columns={"up": float}, ties=(Tie("outing", "up"),)), "not real: keys are text"),
    "a scope by what was a number": (
        lambda: declare(columns={"shop": (str, past(Retyped(2, int, NUMBERED), default="5"))}, scope=(By("shop", "shop"),)),
        "was another type before",
    ),
    "a default that a program makes": (lambda: declare(columns={"x": (str, Field(default_factory=str))}), "outing.x: default_factory"),
    "an id that a program makes": (
        lambda: declare(key=(), columns={"id": (str, Field(default_factory=str, primary_key=True))}),
        "outing.id: default_factory",
    ),
    "a default without an end": (lambda: declare(columns={"x": (float, float("inf"))}), "inf cannot be in the database"),
    "a default that is no number": (lambda: declare(columns={"x": (float, float("nan"))}), "nan cannot be in the database"),
    "a default of another type": (lambda: declare(columns={"x": (int, "many")}), "outing.x: the default 'many' is not an int"),
    "a fraction for an integer": (lambda: declare(columns={"x": (int, 0.5)}), "the default 0.5 is not an int"),
    "a truth for an integer": (lambda: declare(columns={"x": (int, True)}), "the default True is not an int"),
    "a number for a text": (lambda: declare(columns={"x": (str, 5)}), "the default 5 is not a str"),
    "a default beyond 64 bits": (lambda: declare(columns={"x": (int, 2**63)}), "9223372036854775808 is beyond 64 bits"),
    "a default of bytes": (lambda: declare(columns={"x": (bytes, b"x")}), "a column of bytes has no default"),
    "a default with a zero character": (lambda: declare(columns={"x": (str, "a\0b")}), "the default is no clean text"),
    "a default with half a character": (lambda: declare(columns={"x": (str, "\ud800")}), "the default is no clean text"),
    "a default longer than any value": (lambda: declare(columns={"x": (str, "x" * 1_048_577)}), "longer than 1048576 bytes"),
    "a default that was none": (
        lambda: declare(columns={"x": (str, past(Retyped(2, int, NUMBERED), default="many"))}),
        "its default does not convert to the type before",
    ),
    "a table of SQLite's": (lambda: declare("SQLite_x"), "'SQLite_x': names that begin with sqlite_"),
    "a table with a zero character": (lambda: declare("a\0b"), "a name is one line of text"),
    "a table with half a character": (lambda: declare("a\ud800"), "a name is one line of text"),
    "a column of two lines": (lambda: declare(columns={"a\nb": int}), "a name is one line of text"),
    "a key of more columns than a key has": (lambda: declare(key=tuple(f"k{i}" for i in range(101))), "a key of more than 100 columns"),
    "columns that differ by case": (lambda: declare(columns={"Name": str, "name": str}), "outing: Name and name are one name to SQLite"),
    "a column as another's name was": (
        lambda: declare(columns={"name": (str | None, past(Renamed(2, "Note"))), "note": str}),
        "its former name is, or was, another column's",
    ),
    "more columns than a table has": (lambda: declare(columns={f"c{i}": int for i in range(501)}), "more than 500 columns"),
}


@pytest.mark.covers("P-2.1", "P-2.2", "P-2.10", "P-2.15", "P-2.16", "P-2.17")
@pytest.mark.parametrize("name", BAD)
def test_a_declaration_that_cannot_work_is_refused(name: str) -> None:
    make, words = BAD[name]
    with pytest.raises(BadDeclaration, match=words.replace(".", r"\.")):
        build([make()])


@pytest.mark.covers("P-2.16")
def test_defaults_at_the_edges_of_their_types() -> None:
    columns = {"low": (int, -(2**63)), "high": (int, 2**63 - 1), "even": (float, 0), "small": (float, -1e-300), "says": (str, "o'clock")}
    table = table_of(declare(columns=columns))
    assert [column.default for column in table.columns[2:]] == [-(2**63), 2**63 - 1, 0, -1e-300, "o'clock"]


@pytest.mark.covers("P-2.15")
def test_names_in_any_script_and_with_quotes() -> None:
    """SQLite folds the letters A–Z alone, so does everything here."""
    table = table_of(declare("client's", columns={"Сума": int, "сума": int, 'in "inches"': int}))
    assert (table.name, table.values) == ("client's", ("branch_id", "Сума", "сума", 'in "inches"'))


@pytest.mark.parametrize("policy", ["latest", "first", "server", "ask"])
def test_a_group_may_have_any_policy_that_compares_no_values(policy: str) -> None:
    table = table_of(declare(columns={"x": int, "y": str}, groups={"g": ("x", "y")}, policies={"g": policy}))
    assert table.cell_named["g"].policy == policy


def test_a_group_may_have_the_name_of_one_of_its_columns() -> None:
    table = table_of(declare(columns={"x": int, "y": str}, groups={"x": ("x", "y")}))
    assert table.cell_named["x"].columns == ("x", "y")


def test_a_set_is_all_key() -> None:
    table = table_of(declare(kind=Kind.SET, key=("branch_id", "tag")))
    assert (table.values, table.cells) == ((), ())


# --- tables together -----------------------------------------------------------------------------------------------------


def through(parent: str, *, owned: bool = True) -> Through:
    return Through(parent, "up", owned)


def child(name: str, parent: str, **sync: Any) -> type[Synced]:
    return declare(name, columns={"up": str}, **{"scope": (through(parent),), **sync})


@pytest.mark.covers("P-2.8")
def test_parents_come_before_children_whatever_the_order() -> None:
    models = [child("c", "b"), child("b", "a"), declare("a"), declare("d", kind=Kind.EVENT, columns={"up": str}, ties=(Tie("c", "up"),))]
    for order in (models, models[::-1]):
        schema = build(order)
        assert [schema.rank[name] for name in "abcd"] == [0, 1, 2, 3]
    assert schema.by_name["c"].parents == (through("b"),)


def test_reference_tables_come_first_and_events_last() -> None:
    kinds = [Kind.EVENT, Kind.DOCUMENT, Kind.RECORD, Kind.REFERENCE]
    assert [table.kind for table in build([declare(f"t{i}", kind=kind) for i, kind in enumerate(kinds)]).tables] == kinds[::-1]


@pytest.mark.covers("P-2.8", "P-2.15")
@pytest.mark.parametrize(
    ("models", "words"),
    [
        pytest.param(lambda: [child("a", "nobody")], "unknown table nobody", id="unknown-parent"),
        pytest.param(lambda: [declare("a", ties=(Tie("nobody", "branch_id"),))], "unknown table nobody", id="unknown-tie"),
        pytest.param(lambda: [child("a", "a")], "circle", id="own-parent"),
        pytest.param(lambda: [child("a", "b"), child("b", "a")], "circle", id="circle-of-two"),
        pytest.param(lambda: [declare("a", key=("x", "y")), child("b", "a")], "a has a composite key", id="composite-parent"),
        pytest.param(
            lambda: [declare("a"), declare("b"), declare("d", kind=Kind.DOCUMENT, ties=(Tie("a", "branch_id"), Tie("b", "branch_id")))],
            "tied to one table at most",
            id="document-with-two-ties",
        ),
        pytest.param(lambda: [declare("Outing"), declare("outing")], "Outing and outing: two tables", id="names-that-differ-by-case"),
        pytest.param(lambda: [declare("outing"), declare("outing")], "outing and outing: two tables", id="one-name-twice"),
        pytest.param(lambda: [declare(f"t{i}") for i in range(501)], "501 tables are declared", id="more-than-a-message-names"),
    ],
)
def test_tables_that_cannot_be_put_together_are_refused(models: Callable[[], list[type[Synced]]], words: str) -> None:
    with pytest.raises(BadDeclaration, match=words):
        build(models())


@pytest.mark.covers("P-2.5", "P-2.8")
def test_the_ways_to_a_row_s_scope_keys() -> None:
    schema = build(
        [
            declare("a", scope=(By("branch", "branch_id"), By("owner", "branch_id"))),
            child("b", "a"),
            child("c", "b", scope=(through("b"), By("team", "branch_id"))),
            declare("e", scope=(Everyone(),)),
        ]
    )
    up = (("up", "b"), ("up", "a"))
    assert schema.paths["e"] == (ScopePath((), "", ""),)
    assert schema.paths["a"] == (ScopePath((), "branch", "branch_id"), ScopePath((), "owner", "branch_id"))
    assert schema.paths["b"] == tuple(ScopePath((("up", "a"),), prefix, "branch_id") for prefix in ("branch", "owner"))
    assert schema.paths["c"] == (
        *(ScopePath(up, prefix, "branch_id") for prefix in ("branch", "owner")),
        ScopePath((), "team", "branch_id"),
    )


@pytest.mark.covers("P-2.7")
def test_children_and_what_never_moves() -> None:
    schema = build(
        [
            declare("a", kind=Kind.DOCUMENT),
            child("b", "a", kind=Kind.DOCUMENT),
            declare("r"),
            child("s", "r", kind=Kind.EVENT),
            declare("t", columns={"up": str}, scope=(through("r", owned=False),)),
        ]
    )
    assert [(edge.table.name, edge.column, edge.owned) for edge in schema.children["r"]] == [("t", "up", False), ("s", "up", True)]
    assert schema.children["b"] == ()
    assert schema.fixed == {"a", "b"}


def test_a_digest_tells_declarations_apart() -> None:
    schemas = [build([declare("a")]), build([declare("a", columns={"x": int})]), build([declare("a", kind=Kind.EVENT)])]
    assert len({schema.digest for schema in schemas}) == 3
    assert schemas[0].digest == Schema(schemas[0].tables).digest


# --- found by listing a folder -------------------------------------------------------------------------------------------

FILE = '''
from typing import ClassVar

from sqlmodel import Field

from schema.declare import Everyone, Kind, Sync, Synced
from schema.tables.contact import Contact as Imported


class Shelf(Synced, table=True):
    """A shelf."""

    __tablename__ = "{name}"
    sync: ClassVar[Sync] = Sync(kind=Kind.REFERENCE, scope=(Everyone(),))
    id: str = Field(primary_key=True)
'''


def test_a_file_in_a_folder_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "shelf.py").write_text(FILE.format(name="shelf"))
    with_shelf, plain = load((str(tmp_path),)), load(())
    assert with_shelf.by_name.keys() - plain.by_name.keys() == {"shelf"}
    assert load.__wrapped__((str(tmp_path),)).by_name.keys() == with_shelf.by_name.keys()


def test_folders_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rack.py").write_text(FILE.format(name="rack"))
    monkeypatch.setenv("OUTPOST_TABLES", str(tmp_path))
    assert "rack" in load.__wrapped__().by_name
    monkeypatch.delenv("OUTPOST_TABLES")
    assert "rack" not in load.__wrapped__().by_name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Shelf(:", "invalid syntax"),
        ("import no_such_module_of_theirs", "no_such_module_of_theirs"),
        (FILE.format(name="client_code").replace("id: str = Field(primary_key=True)", "id: str"), "primary key"),
        (FILE.format(name="no_scope").replace("scope=(Everyone(),)", "scope=()"), "no scope"),
    ],
    ids=["no Python", "an import that fails", "no key", "no scope"],
)
def test_a_table_file_that_cannot_be_used_is_an_error_in_words(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(BadValue, match=words) as found:
        load.__wrapped__((str(tmp_path),))
    assert str(tmp_path) in str(found.value)
    assert "Nothing was opened" in str(found.value)


def test_a_table_file_that_failed_is_read_again(tmp_path: Path) -> None:
    """What a failed import leaves behind must not pass for the tables."""
    (tmp_path / "crate.py").write_text("import no_such_module_of_theirs")
    with pytest.raises(BadValue):
        load.__wrapped__((str(tmp_path),))
    (tmp_path / "crate.py").write_text(FILE.format(name="crate"))
    assert "crate" in load.__wrapped__((str(tmp_path),)).by_name


def test_the_shipped_tables_are_there() -> None:
    assert {"contact", "sale", "sale_line", "stock_move", "contact_tag"} <= load(()).by_name.keys()
    assert load(()).version == 1
