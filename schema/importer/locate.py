"""Locate: which of the given files and folders has which role in the mapping."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from schema.importer.errors import SourceUnreadable
from schema.importer.vocabulary import FileRole, Mapping


def locate(mapping: Mapping, paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files of every role, each once, in the order given; a folder's by name, not those of its subfolders.

    In a folder, files that match no role are left alone. A file named itself must have a role; where the mapping knows
    one role only, its name does not matter. Raises SourceUnreadable.
    """
    found: dict[str, list[Path]] = {name: [] for name in mapping.files}
    for path in _distinct(paths):
        role = _role(mapping, path)
        if role is None and path.is_file():
            raise SourceUnreadable(f"{path}: the name fits no file of the mapping {mapping.name}: {_patterns(mapping)}")
        for name, each in [(role, path)] if role and path.is_file() else _in_folder(mapping, path):
            if each not in found[name]:
                found[name].append(each)
    if not any(found.values()):
        raise SourceUnreadable(f"no file of the mapping {mapping.name} found; it looks for {_patterns(mapping)}")
    for files in found.values():
        _refuse_twins(files)
    return found


def display_names(files: Iterable[Path]) -> dict[Path, str]:
    """Return how each file is called in the report: its name, or its path where two files have one name."""
    files = list(files)
    names = [file.name for file in files]
    return {file: file.name if names.count(file.name) == 1 else str(file) for file in files}


def _distinct(paths: Sequence[Path]) -> list[Path]:
    seen: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise SourceUnreadable(f"{path}: no such file or folder")
        seen.setdefault(path.resolve(), path)
    return list(seen.values())


def _in_folder(mapping: Mapping, folder: Path) -> list[tuple[str, Path]]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [(role, path) for path in files if (role := _match(mapping.files.values(), path))]


def _role(mapping: Mapping, path: Path) -> str | None:
    only = next(iter(mapping.files)) if len(mapping.files) == 1 else None
    return _match(mapping.files.values(), path) or only


def _match(roles: Iterable[FileRole], path: Path) -> str | None:
    name = plain_name(path)
    return next((role.name for role in roles for one in role.match if fnmatchcase(name, one.casefold())), None)


def plain_name(path: Path) -> str:
    """Return the file's name as patterns see it: without `.gz` and case."""
    return path.name.casefold().removesuffix(".gz")


def _refuse_twins(files: Sequence[Path]) -> None:
    """The packed and the plain form of one file must not both go in."""
    seen: dict[tuple[Path, str], Path] = {}
    for file in files:
        twin = seen.setdefault((file.parent, plain_name(file)), file)
        if twin != file:
            raise SourceUnreadable(f"{file}: {twin.name} is there as well; name the one to import")


def _patterns(mapping: Mapping) -> str:
    return ", ".join(pattern for role in mapping.files.values() for pattern in role.match)
