"""Files: what is to be there after a power loss must be synced, and so must its name: the folder it lies in."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def to_disk(path: Path) -> None:
    """Make a file's content durable, or the names in a folder."""
    if os.name == "nt" and path.is_dir():
        return  # a folder cannot be opened there, and the file system keeps a journal of names
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_private(path: Path) -> None:
    """Create an empty file that only its owner may read, from its first moment on. Raises FileExistsError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def give_name(path: Path, name: Path) -> None:
    """Give a finished file a name that nothing has yet. Raises FileExistsError; a rename would replace what somebody put there.

    The file may keep its first name beside it: the caller removes that. Where the disk has no second names (FAT, exFAT, many
    shares) an empty file keeps the place until the rename; it stays if we are killed between the two.
    """
    try:
        os.link(path, name)
    except FileExistsError:
        raise
    except OSError:
        create_private(name)
        try:
            path.replace(name)
        except OSError:
            name.unlink()
            raise


def write_whole(path: Path, text: str, *, like: Path | None = None) -> None:
    """Write a small file, durably: whoever looks, now or after a power loss, sees all of it or what was there before. It belongs to
    whom the file `like` belongs to, as far as we may give it away, and has its permissions.
    """
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if like is not None and os.name != "nt":
            there = like.stat()
            with suppress(PermissionError):
                os.fchown(descriptor, there.st_uid, there.st_gid)
            os.fchmod(descriptor, there.st_mode & 0o777)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    to_disk(path.parent)
