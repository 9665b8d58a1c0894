"""What is kept of the shipped declarations is what they say, and nothing that is not whole or not of now is taken for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from schema import made, registry
from schema.derive import table_of
from schema.past import Conversion, Retyped
from tests.declared import declare

FOLLOWS = b"s" * 32


def test_what_is_kept_is_what_the_declarations_say(tmp_path: Path) -> None:
    tables = tuple(table_of(model) for module in registry._shipped_modules() for model in registry._models(module))
    made.keep(tmp_path / "new" / "file", FOLLOWS, tables)
    kept = made.read(tmp_path / "new" / "file", FOLLOWS)
    assert kept == tables == registry.shipped()
    again, fresh = registry.together(kept), registry.together(tables)
    assert (again.digest, again.version, again.rank, again.fixed) == (fresh.digest, fresh.version, fresh.rank, fresh.fixed)


@pytest.mark.parametrize("spoil", [lambda kept: kept[:-1], lambda kept: kept[:40], lambda _: b"", lambda kept: b"x" * 32 + kept[32:]])
def test_what_is_not_whole_or_of_other_files_is_not_taken(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "file"
    made.keep(path, FOLLOWS, [table_of(declare())])
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    assert made.read(path, FOLLOWS) is None


def test_nothing_is_kept_or_taken_where_the_sources_are_not_there(tmp_path: Path) -> None:
    made.keep(tmp_path / "file", b"", [table_of(declare())])
    assert not (tmp_path / "file").exists()
    assert made.read(tmp_path / "file", FOLLOWS) is None


def test_what_cannot_be_kept_stops_nobody(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    made.keep(blocked / "below", FOLLOWS, [table_of(declare())])
    table = table_of(declare())
    way = Conversion("any", lambda value: value, lambda value: value)
    object.__setattr__(table.columns[-1], "past", (Retyped(2, int, way),))
    made.keep(tmp_path / "other", FOLLOWS, [table])
    assert not (tmp_path / "other").exists()


def test_a_node_syncs_without_what_only_declaring_needs() -> None:
    """Half of a command's memory, and of its time to begin, is in these."""
    registry.shipped()
    code = (
        "import sys; from schema.registry import load; load(()); import node.cycle, node.transport, node.joining, node.first;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'sqlmodel', 'sqlalchemy', 'pydantic', 'rich', 'pygments'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(made.__file__).parent.parent)
    assert done.stdout.strip() == ""
