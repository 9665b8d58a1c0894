"""What test_wire_is_frozen.py compares: hashes of messages and tables."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from schema.registry import Schema
from sync import columns, messages
from sync.messages import Message


def message_digest() -> str:
    """Return a hash of every message's fields and types, columns included."""
    (schemas, components) = msgspec.json.schema_components(every_message())
    return hashlib.sha256(json.dumps([schemas, components, _columns()], sort_keys=True).encode()).hexdigest()


def every_message() -> list[type[Message]]:
    """Return the messages, in the order of their names."""
    found = [value for value in vars(messages).values() if isinstance(value, type) and issubclass(value, Message) and value is not Message]
    return sorted(found, key=lambda message: message.__name__)


def _columns() -> list[Any]:
    forms = [value for value in vars(columns).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]
    tagged = [form for form in forms if form.__struct_config__.tag is not None]
    return sorted([form.__struct_config__.tag, [*form.__struct_fields__]] for form in tagged)


def table_digest(schema: Schema) -> str:
    """Return a hash of everything of the declared tables that both sides must agree on."""
    shown = [(t.name, str(t.kind), t.key, t.columns, t.cells, t.scope, t.ties) for t in sorted(schema.tables, key=lambda t: t.name)]
    return hashlib.sha256(repr(shown).encode()).hexdigest()


def shape_digest(schema: Schema) -> str:
    """Return a hash of what other versions of the declaration are read from: tables, columns and cells, without their rules."""
    shown = [
        (t.name, str(t.kind), t.key, t.columns, [(cell.name, cell.columns) for cell in t.cells])
        for t in sorted(schema.tables, key=lambda t: t.name)
    ]
    return hashlib.sha256(repr(shown).encode()).hexdigest()
