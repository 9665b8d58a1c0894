"""What was made of the shipped declarations, kept beside their bytecode, so that a command need not load SQLModel to learn it again.

    schema/tables/*.py ─► table_of (schema/derive.py) ─► tables ─► __pycache__, under a hash of every file they follow from

Found again only while all these files are as they were, byte for byte; left out where the folder cannot be written. It is as much to be
trusted as the program itself, for it lies where the program lies. Tables of integrators (`OUTPOST_TABLES`) are always read anew: nobody
knows what else they follow from.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pickle
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from schema.declare import Table

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("schema/*.py", "schema/tables/*.py", "sync/*.py", "sync/policies/*.py")
_HASH_BYTES = 32


def sources() -> bytes:
    """Return a hash of the files that the shipped tables follow from; nothing where these are not there as files."""
    files = sorted(path for pattern in _SOURCES for path in _ROOT.glob(pattern))
    found = hashlib.sha256()
    for path in files:
        found.update(f"{path.relative_to(_ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    for library in ("sqlmodel", "pydantic", "sqlalchemy"):  # what they make of a class
        with contextlib.suppress(PackageNotFoundError):
            found.update(f"{library} {version(library)}\0".encode())
    return found.digest() if files else b""


def place() -> Path:
    """Return where it is kept: in the folder of the tables' bytecode, for this version of Python."""
    return Path(importlib.util.cache_from_source(str(_ROOT / "schema" / "tables" / "declared.py"))).with_suffix(".made")


def read(path: Path, made_of: bytes) -> tuple[Table, ...] | None:
    """Return the tables that were made of these sources, or None if no such are kept, or not whole."""
    try:
        kept = path.read_bytes()
    except OSError:
        return None
    head, body = kept[: 2 * _HASH_BYTES], kept[2 * _HASH_BYTES :]
    if not made_of or head != made_of + hashlib.sha256(body).digest():
        return None
    try:
        found: tuple[Table, ...] = pickle.loads(body)
    except Exception:  # of other versions of what it was made with: it is made anew
        return None
    return found


def keep(path: Path, made_of: bytes, tables: Sequence[Table]) -> None:
    """Keep what was made of these sources; nothing where it cannot be written, or holds what no file can (a function without a name)."""
    if not made_of:
        return
    try:
        body = pickle.dumps(tuple(tables))
    except (pickle.PicklingError, AttributeError, TypeError):
        return
    begun = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        begun.write_bytes(made_of + hashlib.sha256(body).digest() + body)
        begun.replace(path)  # whole, or not: others may be reading it, or writing the same
    except OSError:  # a folder that cannot be written: it is made anew each time
        with contextlib.suppress(OSError):
            begun.unlink(missing_ok=True)
