"""Section: one table of a TOML file, read key by key; every complaint says file, key and reason."""

import re
from collections.abc import Iterator
from typing import NoReturn

from schema.importer.errors import MappingInvalid

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")


class Section:
    """The keys of one TOML table. What was not asked for by the time of `close` is a mistake."""

    def __init__(self, source: str, path: str, content: object) -> None:
        self.source = source
        self.path = path
        if not isinstance(content, dict):
            self.fail("must be a table")
        self._content: dict[str, object] = content
        self._asked: set[str] = set()

    def fail(self, reason: str, key: str = "") -> NoReturn:
        """Raise MappingInvalid for this section, or for one key of it."""
        raise MappingInvalid(f"{self.source}: {self.where(key)}: {reason}")

    def where(self, key: str = "") -> str:
        """Return the dotted path of the section, or of one of its keys."""
        return ".".join(filter(None, (self.path, key))) or "the mapping"

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def raw(self, key: str) -> object:
        """Return what stands under the key, or None."""
        self._asked.add(key)
        return self._content.get(key)

    def text(self, key: str) -> str:
        """Return a text that must be there."""
        value = self.optional_text(key)
        if value is None:
            self.fail("is missing", key)
        return value

    def optional_text(self, key: str) -> str | None:
        """Return a text, or None where there is none."""
        value = self.raw(key)
        if value is not None and not isinstance(value, str):
            self.fail("must be a text", key)
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        """Return one of the allowed texts."""
        value = self.optional_text(key) or default
        if value not in allowed:
            self.fail(f"{value!r} is none of: {', '.join(allowed)}", key)
        return value

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return a text or a list of texts as a tuple."""
        value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self.fail("must be a text or a list of texts", key)
        return tuple(value)

    def flag(self, key: str) -> bool:
        """Return a yes or no; no where nothing is said."""
        value = self.raw(key)
        if value is not None and not isinstance(value, bool):
            self.fail("must be true or false", key)
        return bool(value)

    def table(self, key: str) -> "Section":
        """Return the table under the key; empty where there is none."""
        value = self.raw(key)
        return Section(self.source, self.where(key), {} if value is None else value)

    def tables(self, key: str) -> "list[Section]":
        """Return the tables of the list under the key."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail("must be a list of tables", key)
        return [Section(self.source, f"{self.where(key)}[{number}]", each) for number, each in enumerate(value)]

    def names(self) -> Iterator[str]:
        """Yield the keys, each a name made of a-z, 0-9 and _."""
        for name in self._content:
            if not IDENTIFIER.fullmatch(name):
                self.fail("a name is made of a-z, 0-9 and _", name)
            yield name

    def pairs(self, key: str) -> dict[str, str]:
        """Return a table of texts; empty where there is none."""
        section = self.table(key)
        return {name: section.text(name) for name in section._content}

    def close(self) -> None:
        """Complain of the keys that no one asked for."""
        for name in self._content:
            if name not in self._asked:
                self.fail(f"unknown key; known are: {', '.join(sorted(self._asked))}", name)
