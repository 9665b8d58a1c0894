"""Standing: one connection that looks at one image after the other, because opening one costs more than looking at it.

A new connection parses the whole schema, triggers too: half of the time of an image. This one stays open. An image is written
into the files it has open, as another program would write them, and the head of the index of its log is made invalid, as
after a crash: so SQLite itself recovers the log of each image, and forgets the pages of the image before.

It may only acquit. Whatever seems wrong is opened anew by the caller, and so is every image whose schema is not, row by row,
one that an image opened anew was found whole with.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any, Final

from sqlcipher3 import dbapi2

INDEX_HEAD: Final = 136
"""Bytes at the beginning of the -shm file: both copies of the head, and where readers stand."""

SCHEMA: Final = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master"


class Standing:
    """A connection to the files of a folder, which change between looks."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database = folder, database
        self._files: dict[str, int] = {}
        self._connection: Any = None
        self._schemas: dict[int, list[Any]] = {}
        self._met: tuple[int, list[Any]] | None = None

    def shows(self, files: dict[str, bytes]) -> Any:
        """Return a connection that sees this image, None if only a new one can tell what it is worth."""
        self._met = None
        names = {name for name in files if name == self.database or name.startswith(f"{self.database}-")}
        if names != {self.database, f"{self.database}-wal"}:
            return None  # a hot journal, or no log
        try:
            if self._connection is None:
                self._open(files)
            for name in names:
                self._write(name, files[name])
            os.pwrite(self._files["-shm"], bytes(INDEX_HEAD), 0)
            return self._connection if self._is_known_schema() else None
        except (dbapi2.Error, OSError):
            self.close()
            return None

    def vouch(self) -> None:
        """Say that the image shown last was opened anew and is whole: its schema is one that can be relied on."""
        if self._met is not None:
            self._schemas.setdefault(*self._met)

    def close(self) -> None:
        """End the connection; the next image gets a new one."""
        if self._connection is not None:
            with contextlib.suppress(dbapi2.Error):
                self._connection.close()
        self._connection = None
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self, files: dict[str, bytes]) -> None:
        self.close()
        self.folder.mkdir(parents=True)
        for name in (self.database, f"{self.database}-wal"):
            self._files[name] = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)
            self._write(name, files[name])
        path = self.folder / self.database
        self._connection = dbapi2.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        self._connection.execute(SCHEMA).fetchall()
        self._files["-shm"] = os.open(f"{path}-shm", os.O_RDWR)

    def _write(self, name: str, content: bytes) -> None:
        os.ftruncate(self._files[name], len(content))
        os.pwrite(self._files[name], content, 0)

    def _is_known_schema(self) -> bool:
        """Tell whether the schema stands there as it did in a whole image with this number."""
        (number,) = self._connection.execute("PRAGMA schema_version").fetchone()
        there = self._connection.execute(SCHEMA).fetchall()
        self._met = number, there
        return self._schemas.get(number) == there
