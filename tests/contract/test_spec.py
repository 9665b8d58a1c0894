"""PROTOCOL.md against the code and the tests: tables equal, every rule covered or excused by name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from schema.declare import Kind
from sync import errors, limits, messages
from sync.columns import Column
from sync.policy import policies

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "sync" / "PROTOCOL.md").read_text(encoding="utf-8")
RULE = re.compile(r"\[([PC]-\d+(?:\.\d+)?)\] ")

NOT_TESTED_HERE = {
    "P-1.1": "a principle; P-6.17 is its rule",
    "P-1.2": "a principle; P-6.2, P-6.3 and P-7.11 are its rules",
    "P-1.3": "a principle; P-5.12, P-6.6, P-8.7 and P-8.12 are its rules",
    "P-1.5": "a principle; P-6.8 is its rule",
    "P-3.1": "an order of work; what it bounds is tested by P-3.2 and P-4.2",
    "P-5.11": "follows from P-6.3: a segment sealed anew would have another id",
    "P-10.1": "a promise over time",
    "P-11.2": "a promise over time; test_wire_is_frozen.py holds us to it",
}
"""Rules no test could fail by, each with the reason."""


# --- rules and tests ---------------------------------------------------------------------------------------------------


def rules() -> list[str]:
    """The ids of the rules, where they are stated."""
    return RULE.findall("\n".join(line for line in SPEC.splitlines() if line.startswith("- [")))


def covered() -> Iterator[tuple[str, str]]:
    """(rule, where) of every `covers` mark in tests/, found without importing them."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "covers":
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}: covers() takes plain texts"
                    yield str(argument.value), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_rule_has_two_meanings() -> None:
    assert sorted(set(rules())) == sorted(rules())
    assert len(rules()) > 100


def test_every_mark_names_a_rule() -> None:
    assert [entry for entry in covered() if entry[0] not in rules()] == []


def test_every_rule_is_covered_or_excused() -> None:
    marked = {rule for rule, _ in covered()}
    assert [rule for rule in rules() if rule not in marked and rule not in NOT_TESTED_HERE] == []
    assert [rule for rule in NOT_TESTED_HERE if rule in marked or rule not in rules()] == []


def test_every_rule_that_is_referred_to_is_stated() -> None:
    referred = re.findall(r"[PC]-\d+\.?\d*(?<!\.)", SPEC)
    assert {rule for rule in referred if "." in rule or rule.startswith("C")} <= set(rules())


def test_every_section_the_code_refers_to_exists() -> None:
    """ "PROTOCOL.md §6.4", and plain "§5.2" in messages and segments."""
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)*) ", SPEC, re.MULTILINE))
    wrong = []
    for package in ("sync", "schema", "node", "server"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for line in text.splitlines():
                if "PROTOCOL" in line:
                    wrong += [(path.name, found) for found in re.findall(r"§(\d+(?:\.\d+)*)", line) if found not in sections]
    assert wrong == []


# --- tables ------------------------------------------------------------------------------------------------------------


def table(first: str) -> list[list[str]]:
    """The rows of the first table after the line that starts with `first`, as cells."""
    lines = SPEC.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(first))
    at = next(i for i in range(at, len(lines)) if lines[i].startswith("|---"))
    rows = []
    while at + 1 < len(lines) and lines[at + 1].startswith("|"):
        at += 1
        rows.append([cell.strip().strip("`") for cell in lines[at].strip("|").split("|")])
    return rows


def test_the_limits_are_those_of_the_code() -> None:
    def shown(value: Any) -> str:
        if isinstance(value, tuple):
            return ", ".join(map(str, value))
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"

    coded = {name: shown(getattr(limits, name)) for name in vars(limits) if name.isupper()}
    assert {row[0]: row[1] for row in table("## 3 Limits")} == coded


def every_error(root: type[errors.OutpostError] = errors.OutpostError) -> Iterator[type[errors.OutpostError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from every_error(child)


def test_the_error_codes_are_those_of_the_code() -> None:
    coded = [[e.code, str(e.status), "yes" if e.retry else "no", (e.__doc__ or "").strip().splitlines()[0]] for e in every_error()]
    assert sorted(table("## 10 Errors")) == sorted(coded)


def test_the_codes_of_held_work_are_those_of_the_code() -> None:
    found: dict[str, set[str]] = {"Hold": set(), "Refuse": set()}
    for path in sorted((ROOT / "server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in found:
                found[node.func.id] |= {part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)}
    assert {row[0] for row in table("### 6.2 Judging")} == found["Hold"]
    assert {row[0] for row in table("Refused, for good")} == found["Refuse"]


def test_the_policies_and_kinds_are_those_of_the_code() -> None:
    assert sorted(row[0] for row in table("A policy is called")) == sorted(policies())
    assert [row[0] for row in table("### 2.1 Kinds")] == [
        str(kind) for kind in (Kind.REFERENCE, Kind.RECORD, Kind.DOCUMENT, Kind.EVENT, Kind.SET)
    ]


NAMED = {
    "count": messages.Count,
    "version": messages.Version,
    "millis": messages.Millis,
    "id": messages.Id16,
    "digest": messages.Digest,
    "name": messages.Name,
    "words": messages.Words,
    "verdict": messages.VerdictName,
    "column": Column,
}


def type_text(hint: Any) -> str:
    """A type as the tables of PROTOCOL.md write it."""
    for name, named in NAMED.items():
        if hint == named:
            return name
    origin = get_origin(hint)
    if origin is Annotated:
        inner, meta = get_args(hint)
        return f"{type_text(inner)} ≤ {meta.max_length:,}"
    if origin is tuple:
        return f"[{type_text(get_args(hint)[0])}]"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint)).strip("`")
    if origin in (Union, UnionType):
        return " or ".join("nil" if arm is NoneType else type_text(arm) for arm in get_args(hint))
    if hint is bytes:
        return "bytes"
    if hint is bool:
        return "bool"
    assert issubclass(hint, messages.Message)
    return str(hint.__name__)


MESSAGES = [
    value
    for value in vars(messages).values()
    if isinstance(value, type) and issubclass(value, messages.Message) and value is not messages.Message
]


@pytest.mark.covers("P-4.1")
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_the_fields_of_a_message_are_those_of_the_code(message: type[messages.Message]) -> None:
    hints = get_type_hints(message, include_extras=True)
    coded = [[name, type_text(hints[name])] for name in message.__struct_fields__]
    assert [row[:2] for row in table(f"**{message.__name__}.**")] == coded
    assert message.__struct_config__.array_like


def test_the_bounds_of_the_types_are_as_stated() -> None:
    bounds = {name: (get_args(NAMED[name])[1] if get_origin(NAMED[name]) is Annotated else None) for name in NAMED}
    assert (bounds["count"].ge, bounds["count"].le) == (0, 2**53)
    assert (bounds["version"].ge, bounds["version"].le) == (-1, 2**62)
    assert (bounds["millis"].ge, bounds["millis"].le) == (-(2**53), 2**53)
    assert (bounds["id"].min_length, bounds["id"].max_length) == (16, 16)
    assert (bounds["digest"].min_length, bounds["digest"].max_length) == (32, 32)
    assert (bounds["name"].min_length, bounds["name"].max_length) == (1, 200)
    assert (bounds["words"].min_length, bounds["words"].max_length) == (None, 2000)
    assert set(get_args(NAMED["verdict"])) == {"accepted", "merged", "ask", "held", "refused", "withdrawn"}


def test_every_file_of_vectors_is_listed() -> None:
    listed = {row[0] for row in table("## 12 Test vectors")}
    assert listed == {path.name for path in (ROOT / "tests" / "vectors").glob("*.json")}
