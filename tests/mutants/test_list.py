"""The list of deliberate bugs does not rot: every edit still applies, every test that is named is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.mutants import ROOT, Bug, Edit, load

BUGS = load()


def test_there_are_enough_of_them_and_no_name_twice() -> None:
    assert len(BUGS) >= 25
    assert len({bug.name for bug in BUGS}) == len(BUGS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_bug_can_be_switched_on(bug: Bug, tmp_path: Path) -> None:
    assert bug.tests or bug.seeds
    for edit in bug.edits:
        copy = tmp_path / edit.file
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text((ROOT / edit.file).read_text(encoding="utf-8"), encoding="utf-8")
        edit.apply(tmp_path)
        ast.parse(copy.read_text(encoding="utf-8"))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_what_should_catch_it_is_there(bug: Bug) -> None:
    for selection in bug.tests:
        file, _, name = selection.partition("::")
        source = (ROOT / file).read_text(encoding="utf-8")
        assert not name or f"def {name.partition('[')[0]}(" in source, selection


def test_an_edit_that_no_longer_fits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\none\n", encoding="utf-8")
    for old, new in (("two", "three"), ("one", "two"), ("one\none", "one\none")):
        with pytest.raises(ValueError, match="not once"):
            Edit("a.py", old, new).apply(tmp_path)
