"""The project as a whole: its names are its own, and what is committed works on any machine."""

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("server", "node", "sync", "schema", "bench")

# Put together from pieces, so that this file does not find itself.
MACHINE_PATH = re.compile(rb"(?<![\w.~-])/(?:" + rb"|".join((rb"wo" rb"rk", rb"ro" rb"ot", rb"ho" rb"me/\w+")) + rb")/\w")
REGISTRY_HOST = re.compile(rb"pypi\." rb"org|pythonhosted\." rb"org|registry\." rb"npmjs|file:" rb"///")


def tracked() -> list[Path]:
    """The files that git keeps here; the test is skipped where there is no git or no repository."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_owns_our_names(package: str) -> None:
    """Top-level names this plain could collide: then an import would quietly take the other's module."""
    assert set(metadata.packages_distributions().get(package, ())) <= {"outpost-sync"}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_take_this_project_s_packages(package: str) -> None:
    module = __import__(package)
    assert Path(module.__file__ or "").resolve() == ROOT / package / "__init__.py"


def test_the_built_package_holds_all_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)


def test_every_dependency_has_an_exact_version() -> None:
    """A dependency missing in constraints.txt would be installed in whatever version is newest that day."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    wanted = {normal(re.split(r"[\[<>=~! ;]", each)[0]) for each in named}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {normal(line.split("==")[0]) for line in lines if "==" in line and not line.startswith("#")}
    assert wanted <= pinned


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_pattern_knows_a_machine_path() -> None:
    assert MACHINE_PATH.search(b"see /" + b"work/main")
    assert MACHINE_PATH.search(b'open("/' + b'home/ann/x")')
    assert not MACHINE_PATH.search(b"net" + b"work/main and sync/ro" + b"ot/x")


def test_no_tracked_file_names_a_machine_s_path_or_a_registry() -> None:
    named = [
        f"{path.relative_to(ROOT)}: {found[0]!r}"
        for path in tracked()
        for found in (MACHINE_PATH.search(path.read_bytes()), REGISTRY_HOST.search(path.read_bytes()))
        if found
    ]
    assert named == []
