"""Names of tables and columns: what a declaration may call them.

A name stands in SQL as an identifier in quotes, in messages as a text, and in reports as one line. Used by schema/declare.py and
schema/registry.py. Spec: PROTOCOL.md §2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sync.limits import NAME_BYTES_MAX

_SURROGATES: Final = range(0xD800, 0xE000)
_CONTROLS: Final = frozenset([*range(0x20), 0x7F])
_UPPER_TO_LOWER: Final = {ord(letter): ord(letter) + 32 for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def folded(name: str) -> str:
    """Return a name as SQLite compares it: the letters A–Z are a–z, all others are themselves."""
    return name.translate(_UPPER_TO_LOWER)


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names that are one to SQLite, or None."""
    seen: dict[str, str] = {}
    for name in names:
        if folded(name) in seen:
            return seen[folded(name)], name
        seen[folded(name)] = name
    return None


def wrong_name(name: str) -> str | None:
    """Return why nothing can have this name, or None."""
    if not name or name.startswith("_"):
        return "names with _ are the engine's own"
    if any(ord(letter) in _CONTROLS or ord(letter) in _SURROGATES for letter in name):
        return "a name is one line of text: it holds no control characters and no halves of characters"
    if len(name.encode()) > NAME_BYTES_MAX:
        return f"the name is longer than {NAME_BYTES_MAX} bytes"
    return None


def wrong_table_name(name: str) -> str | None:
    """Return why no table can have this name, or None."""
    return "names that begin with sqlite_ are SQLite's own" if folded(name).startswith("sqlite_") else wrong_name(name)
