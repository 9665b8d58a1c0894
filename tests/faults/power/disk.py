"""Disk: which files a disk may show after a power loss, given what was written, cut, renamed and synced until then.

A file keeps what was synced, and of what was not synced any part: nothing, everything, a beginning, any of the writes in
any combination, any of their sectors. A name that was given or taken away is sure once its folder was synced; until
then the changes of names of a folder survive up to some point, in their order, as on a file system with a journal.
Making folders is not recorded; they are taken to be there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.faults.power.trace import Step

SECTOR: Final = 512
MODES: Final = ("nothing", "everything", "beginning", "writes", "sectors", "all but one sector", "one write")


@dataclass
class File:
    """What is sure of a file, and what was done to it since: (offset, data) written, or (length, None) cut."""

    sure: bytearray = field(default_factory=bytearray)
    unsure: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        """Make everything sure."""
        for offset, data in self.unsure:
            _put(self.sure, offset, data)
        self.unsure.clear()


@dataclass
class Disk:
    """The files of one folder: those of one machine."""

    folder: str
    names: dict[str, File] = field(default_factory=dict)
    sure_names: dict[str, File] = field(default_factory=dict)
    unsure_names: list[tuple[str, File | None]] = field(default_factory=list)
    life: int = 0

    def do(self, step: Step) -> None:
        """Carry out one recorded step."""
        if step.path == self.folder:
            if step.kind == "s":
                self._sync_names()
            return
        name = step.path[len(self.folder) + 1 :]
        if step.kind == "c":
            self._name(name, File())
        elif step.kind == "u":
            self._name(name, None)
        elif step.kind == "r":
            file = self.names[name]
            self._name(step.data.decode()[len(self.folder) + 1 :], file)
            self._name(name, None)
        elif step.kind == "s":
            self.life += bool(self.names[name].unsure)
            self.names[name].sync()
        else:
            self.names[name].unsure.append((step.offset, step.data if step.kind == "w" else None))

    def is_unsure(self) -> bool:
        """Tell whether a power loss now could lose anything."""
        return bool(self.unsure_names) or any(file.unsure for file in self.names.values())

    def now(self) -> dict[str, bytes]:
        """Return the files as programs see them, whatever is sure of them."""
        found = {}
        for name, file in self.names.items():
            content = bytearray(file.sure)
            for piece in file.unsure:
                _put(content, *piece)
            found[name] = bytes(content)
        return found

    def image(self, chance: random.Random) -> tuple[dict[str, bytes], tuple[object, ...]]:
        """Return the files after a power loss now, and what tells this image from others of the same recording."""
        survived = chance.choice((0, len(self.unsure_names), chance.randint(0, len(self.unsure_names))))
        names = dict(self.sure_names)
        for name, file in self.unsure_names[:survived]:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
        mode, files, chosen = chance.choice(MODES), {}, list[object]()
        for name, file in names.items():
            content = bytearray(file.sure)
            for piece in _survivors(file.unsure, mode, chance):
                _put(content, *piece)
                chosen.append((name, piece[0], None if piece[1] is None else len(piece[1])))
            files[name] = bytes(content)
        return files, (self.life, len(self.sure_names), survived, tuple(chosen))

    def _name(self, name: str, file: File | None) -> None:
        self.unsure_names.append((name, file))
        if file is None:
            self.names.pop(name, None)
        else:
            self.names[name] = file

    def _sync_names(self) -> None:
        self.life += bool(self.unsure_names)
        self.unsure_names.clear()
        self.sure_names = dict(self.names)


Piece = tuple[int, bytes | None]


def _survivors(unsure: Sequence[Piece], mode: str, chance: random.Random) -> Iterator[Piece]:
    """Yield what of the unsynced operations reached the disk; the order is kept, which decides where they overlap."""
    if mode == "nothing" or not unsure:
        return
    if mode == "everything":
        yield from unsure
    elif mode == "beginning":
        last = chance.randrange(len(unsure))
        yield from unsure[:last]
        yield from (piece for piece in _sectors(unsure[last]) if chance.random() < 0.5)
    elif mode == "writes":
        yield from (piece for piece in unsure if chance.random() < 0.5)
    elif mode == "one write":
        yield chance.choice(unsure)
    else:
        pieces = [piece for operation in unsure for piece in _sectors(operation)]
        if mode == "sectors":
            yield from (piece for piece in pieces if chance.random() < 0.7)
        else:
            lost = chance.randrange(len(pieces))
            yield from pieces[:lost] + pieces[lost + 1 :]


def _sectors(piece: Piece) -> Iterator[Piece]:
    """Cut a write where its sectors end."""
    offset, data = piece
    if data is None:
        yield piece
        return
    low = 0
    while low < len(data):
        high = min(len(data), low + SECTOR - (offset + low) % SECTOR)
        yield offset + low, data[low:high]
        low = high


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write into a file's content, or cut it (`data` None); what lies between its end and a later write is zero."""
    if data is None:
        if offset < len(content):
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
