"""Mapping: load one from TOML and check that every name it uses is there.

A mapping is data. Its words are the classes of vocabulary.py; this module says how they are written in TOML. Every
mistake raises MappingInvalid with file, key and reason before a line of input is read.
"""

import re
import tomllib
from collections.abc import Iterable
from collections.abc import Mapping as Table
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from string import Formatter
from typing import cast
from zoneinfo import ZoneInfo

from schema.importer.amounts import DecimalMark
from schema.importer.errors import MappingInvalid
from schema.importer.section import IDENTIFIER, Section
from schema.importer.vocabulary import (
    Cell,
    Column,
    Digest,
    Document,
    Field,
    FieldType,
    FileRole,
    Fold,
    Lookup,
    Mapping,
    Note,
    Origin,
    Part,
    Product,
    Rows,
    Scalar,
    Steps,
    Template,
    Typing,
    ValueMap,
    When,
)

SHIPPED = Path(__file__).parent / "mappings"
TYPES = ("text", "decimal", "e4", "milli", "minor", "whole", "time", "date")
DIRECTIVES = frozenset("YymdHMSf%")  # of date formats: numbers only, nothing that depends on a language
DELIMITERS = {"tab": "\t", ",": ",", ";": ";", "\t": "\t", "|": "|"}


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What [mapping] says for all fields."""

    currency: str
    zone: str
    null: tuple[str, ...]
    decimal: DecimalMark


def shipped_mappings() -> list[str]:
    """Return the names of the mappings that come with the program."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_mapping(name: str) -> Mapping:
    """Return the shipped mapping of this name, or the one in the TOML file at this path. Raises MappingInvalid."""
    path = SHIPPED / f"{name}.toml" if name in shipped_mappings() else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(shipped_mappings())
        raise MappingInvalid(f"{name}: neither a shipped mapping ({known}) nor a readable TOML file: {error}") from error
    return parse_mapping(text, path.name)


def parse_mapping(text: str, source: str) -> Mapping:
    """Return the mapping that the TOML says; `source` names it in errors. Raises MappingInvalid."""
    try:
        root = Section(source, "", tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise MappingInvalid(f"{source}: not TOML: {error}") from error
    head = root.table("mapping")
    title, defaults = head.text("title"), _defaults(head)
    maps = _maps(root.table("maps"))
    lookups = _lookups(root.table("lookups"))
    roles = {role.name: role for role in _roles(root.table("files"), defaults, maps, lookups)}
    if not roles:
        root.fail("names no file", "files")
    names = Names(source, roles)
    for lookup in lookups.values():
        names.check(f"lookups.{lookup.name}", lookup.role, (lookup.key, lookup.value, *filter(None, (lookup.least,))))
    rows = tuple(_rows(section, names) for section in root.tables("rows"))
    documents = tuple(_document(section, names) for section in root.tables("documents"))
    notes = tuple(_notes(root.table("notes"), names))
    root.close()
    ordered = _in_reading_order(source, roles, lookups)
    return Mapping(Path(source).stem, title, maps, lookups, ordered, rows, documents, notes)


def _defaults(head: Section) -> _Defaults:
    currency = head.optional_text("currency") or ""
    if currency and not re.fullmatch("[A-Z]{3}", currency):
        head.fail(f"{currency!r} is not an ISO 4217 code", "currency")
    defaults = _Defaults(currency, _zone(head, "UTC"), head.texts("null", ("",)), _decimal(head, "auto"))
    head.close()
    return defaults


def _zone(section: Section, default: str) -> str:
    zone = section.optional_text("zone") or default
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        section.fail(f"no time zone {zone!r} on this machine (where there are none, install the package tzdata)", "zone")
    return zone


def _decimal(section: Section, default: DecimalMark) -> DecimalMark:
    return cast("DecimalMark", section.choice("decimal", ("auto", ".", ","), default))


def _maps(section: Section) -> dict[str, ValueMap]:
    maps = {}
    for name in section.names():
        each = section.table(name)
        maps[name] = ValueMap(each.pairs("values"), each.optional_text("default"))
        each.close()
    return maps


def _lookups(section: Section) -> dict[str, Lookup]:
    lookups = {}
    for name in section.names():
        each = section.table(name)
        lookups[name] = Lookup(name, each.text("file"), each.text("key"), each.text("value"), each.optional_text("least"))
        each.close()
    return lookups


# Files and fields


def _roles(section: Section, defaults: _Defaults, maps: Table[str, ValueMap], lookups: Table[str, Lookup]) -> Iterable[FileRole]:
    for name in section.names():
        each = section.table(name)
        delimiter = each.optional_text("delimiter")
        if delimiter is not None and delimiter not in DELIMITERS:
            each.fail(f"{delimiter!r} is none of: {', '.join(sorted(DELIMITERS))}", "delimiter")
        match = each.texts("match")
        if not match:
            each.fail("is missing: the patterns of the file's name", "match")
        fields = tuple(_fields(each.table("fields"), defaults, maps, lookups))
        encoding = each.optional_text("encoding")
        each.close()
        yield FileRole(name, match, encoding, DELIMITERS[delimiter] if delimiter else None, fields)


def _fields(section: Section, defaults: _Defaults, maps: Table[str, ValueMap], lookups: Table[str, Lookup]) -> Iterable[Field]:
    before: dict[str, Field] = {}
    for name in section.names():
        if isinstance(section.raw(name), str):
            each = Section(section.source, section.where(name), {"column": section.raw(name)})
        else:
            each = section.table(name)
        field = _field(name, each, defaults, before)
        _check_steps(each, field, maps, lookups)
        each.close()
        before[name] = field
        yield field


def _field(name: str, each: Section, defaults: _Defaults, before: Table[str, Field]) -> Field:
    origin = _origin(each, defaults, before)
    steps = Steps(
        each.optional_text("map"),
        each.optional_text("lookup"),
        tuple(each.pairs("prefixes").items()),
        each.optional_text("default"),
    )
    kind = cast("FieldType", each.choice("type", TYPES, "text"))
    typing = Typing(kind, _decimal(each, defaults.decimal), _formats(each, kind), _zone(each, defaults.zone), defaults.currency)
    if kind == "minor" and not defaults.currency:
        each.fail("money needs [mapping] currency", "type")
    if isinstance(origin, Product) and kind not in ("decimal", "e4", "milli", "minor"):
        each.fail("a product is decimal, e4, milli or minor", "type")
    return Field(name, origin, steps, typing, each.flag("required"))


def _origin(each: Section, defaults: _Defaults, before: Table[str, Field]) -> Origin:
    kinds = [key for key in ("column", "field", "text", "multiply", "digest") if key in each]
    if len(kinds) != 1:
        each.fail("needs exactly one of: column, field, text, multiply, digest")
    if kinds == ["column"]:
        null = each.texts("null", defaults.null)
        return Cell(each.texts("column"), each.flag("optional"), null, each.texts("drop_prefix"), each.texts("drop_suffix"))
    if kinds == ["multiply"]:
        product = Product(each.texts("multiply"), each.texts("less"))
        _check_earlier(each, (*product.factors, *product.less), before, "decimal")
        return product
    if kinds == ["digest"]:
        digest = Digest(each.texts("digest"))
        _check_earlier(each, digest.fields, before)
        for name in digest.fields:
            if before[name].typing.type == "decimal":
                each.fail(f"uses the decimal field {name!r}; use one of type e4, milli or minor", "digest")
        return digest
    template = Template((("", each.text("field")),)) if kinds == ["field"] else _template(each, "text", each.text("text"))
    _check_earlier(each, template.fields, before)
    return template


def _check_earlier(each: Section, names: Iterable[str], before: Table[str, Field], kind: str | None = None) -> None:
    """Fields are computed in their order, so a field can use only those above it."""
    for name in names:
        if name not in before:
            each.fail(f"uses the field {name!r}, which is not defined above it")
        if kind and before[name].typing.type != kind:
            each.fail(f"uses the field {name!r}, which must have type {kind!r}")


def _check_steps(each: Section, field: Field, maps: Table[str, ValueMap], lookups: Table[str, Lookup]) -> None:
    steps = field.steps
    if sum(map(bool, (steps.map, steps.lookup, steps.prefixes))) > 1:
        each.fail("takes at most one of: map, lookup, prefixes")
    if steps.map is not None and steps.map not in maps:
        each.fail(f"no map is named {steps.map!r}", "map")
    if steps.lookup is not None and steps.lookup not in lookups:
        each.fail(f"no lookup is named {steps.lookup!r}", "lookup")


def _formats(each: Section, kind: FieldType) -> tuple[str, ...]:
    formats = each.texts("formats")
    if kind in ("time", "date") and not formats:
        each.fail('is missing: how the date is written, for example "%d.%m.%Y %H:%M"', "formats")
    for used in formats:
        unknown = set(re.findall("%(.?)", used)) - DIRECTIVES
        if unknown:
            each.fail(f"%{min(unknown)} is none of: {' '.join(f'%{one}' for one in sorted(DIRECTIVES))}", "formats")
    return formats


def _in_reading_order(source: str, roles: dict[str, FileRole], lookups: Table[str, Lookup]) -> dict[str, FileRole]:
    """Return the roles so that the file of a lookup comes before the files whose fields use it."""
    needs = {role.name: {lookups[field.steps.lookup].role for field in role.fields if field.steps.lookup} for role in roles.values()}
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise MappingInvalid(f"{source}: files: lookups go in a circle: {' → '.join(error.args[1])}") from error
    return {name: roles[name] for name in order}


# Rows, documents, notes


@dataclass(frozen=True, slots=True)
class Names:
    """The files and fields there are, to check a use of them."""

    source: str
    roles: dict[str, FileRole]

    def check(self, where: str, role: str, fields: Iterable[str]) -> None:
        """Raise MappingInvalid unless the file has these fields, of types that outlive the line."""
        if role not in self.roles:
            raise MappingInvalid(f"{self.source}: {where}: no file is named {role!r}")
        known = {field.name: field.typing.type for field in self.roles[role].fields}
        for field in fields:
            if field not in known:
                raise MappingInvalid(f"{self.source}: {where}: the file {role!r} has no field {field!r}")
            if known[field] == "decimal":
                raise MappingInvalid(f"{self.source}: {where}: {field!r} is decimal; a column needs a field of type e4, milli or minor")


def _rows(section: Section, names: Names) -> Rows:
    table, role, branch = _identifier(section, "table"), section.optional_text("file"), section.optional_text("branch")
    constants = tuple(_constants(each) for each in section.tables("list"))
    if (role is None) == (not constants):
        section.fail("needs either file or list")
    columns = _columns(section, names, role) if role is not None else ()
    if role is not None and (not columns[0].value or isinstance(columns[0].value, int)):
        section.fail("must be made of the file's fields", "columns.id")
    when = _when(section, names, role)
    if branch is not None and branch not in [column.name for column in columns]:
        section.fail(f"there is no column {branch!r}", "branch")
    section.close()
    return Rows(table, role, constants, columns, when, branch)


def _constants(each: Section) -> dict[str, Scalar]:
    row: dict[str, Scalar] = {}
    for name in each.names():
        value = each.raw(name)
        if not isinstance(value, str | int):
            each.fail("must be a text or a whole number", name)
        row[name] = value
    if "id" not in row:
        each.fail("is missing", "id")
    return {"id": row.pop("id"), **row}


def _document(section: Section, names: Names) -> Document:
    table, role, key = _identifier(section, "table"), section.text("file"), section.text("key")
    names.check(section.where("key"), role, [key])
    parts = tuple(_part(each, names, role) for each in section.tables("parts"))
    columns = _columns(section, names, role)
    present = {column.name for column in columns}
    branch, required, refers = section.optional_text("branch"), section.texts("required"), section.pairs("refers")
    for name in (*filter(None, [branch]), *required, *refers):
        if name not in present:
            section.fail(f"there is no column {name!r}")
    of_parts = {(part.table, column.name) for part in parts for column in part.columns}
    for column in columns:
        if column.fold == "total" and column.total_of not in of_parts:
            section.fail(f"no part has the column {'.'.join(column.total_of)}", f"columns.{column.name}")
    section.close()
    return Document(table, role, key, columns, parts, branch, required, tuple(refers.items()))


def _part(section: Section, names: Names, head: str) -> Part:
    table, parent = _identifier(section, "table"), _identifier(section, "parent")
    role, key = section.optional_text("file"), section.optional_text("key")
    if (role is None) != (key is None):
        section.fail("needs file and key, or neither for a row made from the document itself")
    if role is not None and key is not None:
        names.check(section.where("key"), role, [key])
    columns = _columns(section, names, role or head)
    if any(column.fold != "first" or column.by for column in columns):
        section.fail("a part is made from one line: no least, greatest, sum, total or by", "columns")
    part = Part(table, parent, role, key, columns, _when(section, names, role or head), section.flag("required"))
    section.close()
    return part


def _columns(section: Section, names: Names, role: str | None) -> tuple[Column, ...]:
    """Return the columns, id first."""
    table = section.table("columns")
    columns = {name: _column(name, table) for name in table.names()}
    if "id" not in columns:
        section.fail("is missing", "columns.id")
    for name, column in columns.items():
        names.check(table.where(name), role or "", _fields_of(column))
    return (columns.pop("id"), *columns.values())


def _fields_of(column: Column) -> tuple[str, ...]:
    fields = column.value.fields if isinstance(column.value, Template) else ()
    return (*fields, column.by) if column.by else fields


def _column(name: str, table: Section) -> Column:
    value = table.raw(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return Column(name, value=value)
    if isinstance(value, str):
        return Column(name, value=_template(table, name, value))
    each = table.table(name)
    folds = [key for key in ("value", "least", "greatest", "sum", "total") if key in each]
    if len(folds) != 1:
        each.fail("needs exactly one of: value, least, greatest, sum, total")
    text, by = each.text(folds[0]), each.optional_text("by")
    each.close()
    if folds == ["value"]:
        return Column(name, value=_template(each, "value", text), by=by)
    if by is not None:
        each.fail("goes with value only", "by")
    if folds == ["total"]:
        of_table, _, of_column = text.partition(".")
        return Column(name, "total", total_of=(of_table, of_column))
    return Column(name, cast("Fold", folds[0]), Template((("", text),)))


def _notes(section: Section, names: Names) -> Iterable[Note]:
    for name in section.names():
        each = section.table(name)
        note = Note(name, each.text("file"), each.text("each"), each.text("differ"), each.optional_text("branch"))
        names.check(each.where(), note.role, (note.each, note.differ, *filter(None, [note.branch])))
        each.close()
        yield note


def _when(section: Section, names: Names, role: str | None) -> When:
    table = section.table("when")
    when = tuple((name, () if table.raw(name) == "any" else table.texts(name)) for name in table.names())
    if when:
        names.check(section.where("when"), role or "", [name for name, _ in when])
    return when


def _identifier(section: Section, key: str) -> str:
    name = section.text(key)
    if not IDENTIFIER.fullmatch(name):
        section.fail(f"{name!r} is not a name of a-z, 0-9 and _", key)
    return name


def _template(section: Section, key: str, text: str) -> Template:
    """Return the template of a text with `{field}` holes; `{{` and `}}` are braces."""
    holes, before = [], ""
    try:
        for literal, name, spec, conversion in Formatter().parse(text):
            before += literal
            if name is not None:
                if spec or conversion or not IDENTIFIER.fullmatch(name):
                    section.fail(f"{text!r}: a hole is {{field}} and nothing else", key)
                holes.append((before, name))
                before = ""
    except ValueError as error:
        section.fail(f"{text!r}: {error}", key)
    return Template(tuple(holes), before)
