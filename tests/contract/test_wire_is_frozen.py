"""The wire and the declared tables do not change unnoticed: their hashes are kept beside their versions.

Before the first release a change is made with `python scripts/make_vectors.py --freeze`; afterwards only together with a
new version in sync/limits.py (PROTOCOL_VERSIONS), or one named beside the column or table that changed (schema/past.py).
"""

from __future__ import annotations

import json
from pathlib import Path

from schema.registry import load
from sync.limits import PROTOCOL_VERSIONS
from tests.vectors.making.frozen import message_digest, shape_digest, table_digest

FROZEN = json.loads((Path(__file__).parent / "frozen.json").read_text(encoding="utf-8"))
HINT = "changed without a new version: see the docstring of this file"


def test_the_messages_are_those_of_the_protocol_version() -> None:
    assert FROZEN["messages"].get(str(PROTOCOL_VERSIONS[-1])) == message_digest(), HINT


def test_the_tables_are_those_of_the_schema_version() -> None:
    assert FROZEN["tables"].get(str(load(()).version)) == table_digest(load(())), HINT


def test_earlier_versions_of_the_tables_can_be_read_from_todays_declaration() -> None:
    """A change that does not say in which version it came would give older nodes columns they do not have."""
    now = load(())
    assert sorted(map(int, FROZEN["shapes"])) == list(range(1, now.version + 1)), HINT
    for version, digest in FROZEN["shapes"].items():
        assert digest == shape_digest(now.at(int(version))), f"version {version}: {HINT}"


def test_only_versions_we_speak_are_frozen() -> None:
    assert sorted(map(int, FROZEN["messages"])) == sorted(PROTOCOL_VERSIONS)
