"""What a mapping can say: its words as frozen data. mapping.py makes them from TOML; nothing here does anything.

    files.<role>            which files; per file its fields: typed values made from the cells of one line
    maps.<name>             a fixed table of texts: country → branch
    lookups.<name>          a table found in another file: territory → region
    [[rows]]                rows of a table, one for each distinct id, folded from the lines that share it
    [[documents]]           a document (sale) with its parts (lines, payments), whole or not at all
    notes.<name>            a count for the report

The words of the TOML are read in mapping.py and shown in use by mappings/*.toml.
"""

from dataclasses import dataclass
from typing import Literal

from schema.importer.amounts import DecimalMark

Scalar = str | int | None

FieldType = Literal["text", "decimal", "e4", "milli", "minor", "whole", "time", "date"]
Fold = Literal["first", "least", "greatest", "sum", "total"]


@dataclass(frozen=True, slots=True)
class Template:
    """A text with `{field}` holes, as (text before, field) pairs and the text after the last hole.

    One hole and no text is the field's value itself, of whatever type. A template is null when one of its holes is.
    """

    holes: tuple[tuple[str, str], ...]
    tail: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields it needs."""
        return tuple(name for _, name in self.holes)


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a field begins: a column (the first present of these names, ignoring case), cleaned."""

    columns: tuple[str, ...]
    optional: bool = False  # the column may be absent; the field is then null
    null: tuple[str, ...] = ()  # cell texts that mean nothing
    drop_prefix: tuple[str, ...] = ()
    drop_suffix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Product:
    """The exact product of decimal fields, each of `less` as 1 − itself."""

    factors: tuple[str, ...]
    less: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Digest:
    """A short text made from the values of these fields: equal values, equal text."""

    fields: tuple[str, ...]


Origin = Cell | Template | Product | Digest


@dataclass(frozen=True, slots=True)
class Steps:
    """What happens to a text before its type: at most one of map, lookup and prefixes. Unknown texts: `default`."""

    map: str | None = None
    lookup: str | None = None
    prefixes: tuple[tuple[str, str], ...] = ()  # what the text starts with → value
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Typing:
    """How a text is read as a value."""

    type: FieldType = "text"
    decimal: DecimalMark = "auto"
    formats: tuple[str, ...] = ()  # of times and dates, tried in turn
    zone: str = "UTC"  # of local times: IANA name
    currency: str = ""  # of minor units


@dataclass(frozen=True, slots=True)
class Field:
    """One typed value of a line, made from its cells or from fields named before it."""

    name: str
    origin: Origin
    steps: Steps
    typing: Typing
    required: bool = False  # a line without it is rejected


@dataclass(frozen=True, slots=True)
class FileRole:
    """Files of one meaning. Several files of one role are read as if they were one."""

    name: str
    match: tuple[str, ...]  # patterns of file names, ignoring case and `.gz`
    encoding: str | None
    delimiter: str | None
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class ValueMap:
    """A fixed table of texts. A text that is not in it becomes `default`, or null."""

    values: dict[str, str]
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """A table found in a file: `key` field → `value` field, of the line with the least `least`, or the first."""

    name: str
    role: str
    key: str
    value: str
    least: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a row to be written.

    `fold` says which of the lines that share the row's id it comes from: `first` where the template is not null;
    `least` and `greatest` of the field; its `sum`; `total` of a column over a document's parts. With `by` the template
    is taken from the line with the least value of that field.
    """

    name: str
    fold: Fold = "first"
    value: Template | int | None = None
    by: str | None = None
    total_of: tuple[str, str] = ("", "")  # table, column


# Only lines where each of these fields is one of the texts, or not null where no texts are named.
When = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table: constants (`list`), or one for each distinct id among the lines of a file.

    Lines whose id is null make no row. `branch` names the column that holds the row's branch; --branch then keeps only
    that branch's rows. Each row is one sync transaction.
    """

    table: str
    role: str | None
    constants: tuple[dict[str, Scalar], ...] = ()
    columns: tuple[Column, ...] = ()
    when: When = ()
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that belong to a document: one for each line of a file whose `key` is the document's, or one from its head.

    The column named by `parent` gets the document's id. A part's id that repeats within its document gets `-2`, `-3`….
    """

    table: str
    parent: str
    role: str | None  # None: one row, from the head
    key: str | None
    columns: tuple[Column, ...]
    when: When = ()
    required: bool = False  # a document without such rows is rejected


@dataclass(frozen=True, slots=True)
class Document:
    """Documents of one table with their parts: each one sync transaction, whole or not at all.

    The lines of `role` that share `key` are one document. `required` columns must not be null. `refers` names columns
    that hold ids of another table's rows, for the count of references to another branch's rows.
    """

    table: str
    role: str
    key: str
    columns: tuple[Column, ...]
    parts: tuple[Part, ...]
    branch: str | None = None
    required: tuple[str, ...] = ()
    refers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """A count for the report: values of `each` whose lines differ in `differ`; with --branch, those that touch it."""

    name: str
    role: str
    each: str
    differ: str
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class Mapping:
    """A whole mapping, checked: every name it uses is there."""

    name: str
    title: str
    maps: dict[str, ValueMap]
    lookups: dict[str, Lookup]
    files: dict[str, FileRole]  # in the order in which they must be read: a lookup's file before its users
    rows: tuple[Rows, ...]
    documents: tuple[Document, ...]
    notes: tuple[Note, ...]
