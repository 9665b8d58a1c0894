"""Keys as one value: what bookkeeping tables, messages to people and `--json` call a row by."""

from __future__ import annotations

import json
from typing import Any


def key_text(key: tuple[Any, ...]) -> str:
    """Return a key as one text: the id itself, or the JSON array of a composite key."""
    if len(key) == 1 and isinstance(key[0], str):
        return key[0]
    return json.dumps([_plain(part) for part in key], ensure_ascii=False, separators=(",", ":"))


def key_parts(text: str, width: int) -> tuple[str, ...]:
    """Return the key a text stands for."""
    return (text,) if width == 1 else tuple(json.loads(text))


def key_json(key: tuple[Any, ...]) -> object:
    """Return a key for people and programs: the id, or the list of a composite key's parts."""
    parts = [_plain(part) for part in key]
    return parts[0] if len(parts) == 1 else parts


def _plain(value: Any) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    raw = value if isinstance(value, bytes) else value.raw
    return raw.decode("utf-8", "replace")
