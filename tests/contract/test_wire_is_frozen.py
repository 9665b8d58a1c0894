"""The wire and the declared tables do not change unnoticed: their hashes are kept beside their versions.

Before the first release a change is made with `python scripts/make_vectors.py --freeze`; afterwards only together with a
new version in sync/limits.py (PROTOCOL_VERSIONS) or schema/registry.py (SCHEMA_VERSION).
"""

from __future__ import annotations

import json
from pathlib import Path

from schema.registry import SCHEMA_VERSION, load
from scripts.make_vectors import message_digest, table_digest
from sync.limits import PROTOCOL_VERSIONS

FROZEN = json.loads((Path(__file__).parent / "frozen.json").read_text(encoding="utf-8"))
HINT = "changed without a new version: see the docstring of this file"


def test_the_messages_are_those_of_the_protocol_version() -> None:
    assert FROZEN["messages"].get(str(PROTOCOL_VERSIONS[-1])) == message_digest(), HINT


def test_the_tables_are_those_of_the_schema_version() -> None:
    assert FROZEN["tables"].get(str(SCHEMA_VERSION)) == table_digest(load(())), HINT


def test_only_versions_we_speak_are_frozen() -> None:
    assert sorted(map(int, FROZEN["messages"])) == sorted(PROTOCOL_VERSIONS)
