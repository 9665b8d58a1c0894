"""Images: open what the disk shows after a power loss and look for what was acknowledged before it.

Two machines lose power, each alone: the node, which must have every commit that was acknowledged on it, and the centre,
which must have everything that a node was told had arrived.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlcipher3 import dbapi2

from node import outbox
from node.database import Database
from schema.registry import load
from tests.faults.power.disk import Disk
from tests.faults.power.standing import Standing
from tests.faults.power.trace import Step, read
from tests.faults.workload import own_contact

INTEGRITY_EVERY: Final = 20
OPENED_EVERY: Final = 100
TRIES: Final = 6
MACHINES: Final = {"node": ("till", "node.db"), "centre": ("server", "server.db")}


@dataclass
class Told:
    """What has been acknowledged until now: on the node, and as arrived at the centre."""

    joined: bool = False
    here: set[str] = field(default_factory=set)
    arrived: set[str] = field(default_factory=set)

    def hear(self, line: str) -> None:
        """Note one mark of the recording."""
        if line == "joined":
            self.joined = True
        elif line == "synced":
            self.arrived |= self.here
        else:
            self.here.add(line)


@dataclass
class Found:
    """What the images of one recording showed."""

    images: int = 0
    unique: int = 0
    integrity: int = 0
    opened: int = 0
    standing: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Count another's images too."""
        self.images += other.images
        self.unique += other.unique
        self.integrity += other.integrity
        self.opened += other.opened
        self.standing += other.standing
        self.lost += other.lost


def examine(trace: Path, machine: str, count: int, seed: int, scratch: Path) -> Found:
    """Open `count` images of one machine, at moments and with losses drawn by the seed."""
    chance, found = random.Random(f"{seed} {machine}"), Found()
    folder, _ = MACHINES[machine]
    steps = list(read(trace))
    disk = Disk(f"{_under(steps)}/{folder}")
    ours = [at for at, step in enumerate(steps) if step.path.startswith(disk.folder) or step.path.endswith("/acks")]
    moments: dict[int, int] = {}
    for _ in range(count):
        at = chance.choice(ours)
        moments[at] = moments.get(at, 0) + 1
    told, seen, marks = Told(), set[Any](), set[Any]()
    looker = Looker(machine, scratch, found)
    for at, step in enumerate(steps):
        if step.path.endswith("/acks"):
            for line in step.data.decode().splitlines():
                told.hear(line)
        elif step.path == disk.folder or step.path.startswith(f"{disk.folder}/"):
            disk.do(step)
        for _ in range(moments.get(at, 0)):
            drawn = _new_image(disk, chance, seen, len(told.here))
            if drawn is None:
                continue  # all that the disk may show here has been looked at
            files, mark = drawn
            found.images += 1
            found.unique += mark not in marks
            marks.add(mark)
            error = looker.look(files, told)
            if error:
                found.lost.append(f"{machine}, seed {seed}, after step {at}: {error}")
    looker.standing.close()
    return found


def _new_image(disk: Disk, chance: random.Random, seen: set[Any], told: int) -> tuple[dict[str, bytes], Any] | None:
    """Return an image that was not looked at yet with as much acknowledged; None if none is found."""
    for _ in range(TRIES):
        files, mark = disk.image(chance)
        if (mark, told) not in seen:
            seen.add((mark, told))
            return files, mark
    return None


def _under(steps: Iterable[Step]) -> str:
    return next(step.path for step in steps if step.path.endswith("/acks")).rpartition("/")[0]


class Looker:
    """Looks at the images of one machine: most through a connection that stays open, every twentieth one in all ways."""

    def __init__(self, machine: str, scratch: Path, found: Found) -> None:
        self.machine, self.scratch, self.found = machine, scratch, found
        self.database = MACHINES[machine][1]
        self.standing = Standing(scratch.with_name(f"{scratch.name}-standing"), self.database)

    def look(self, files: dict[str, bytes], told: Told) -> str | None:
        """Return what one image lacks, None if it is whole."""
        is_node = self.machine == "node"
        expected = told.here if is_node else told.arrived
        begun = bool(expected) or told.joined
        if is_node and told.joined and not files.get("node.key"):
            return "the key of a node that had joined is gone"
        if self.database not in files:
            return "the database is gone" if begun else None
        if self.found.images % INTEGRITY_EVERY == 0:
            return self._open(files, expected, begun, thorough=True)
        if self._is_whole(files, expected):
            self.found.standing += 1
            return None
        error = self._open(files, expected, begun, thorough=False)
        if error is None:
            self.standing.vouch()
        return error

    def _is_whole(self, files: dict[str, bytes], expected: set[str]) -> bool:
        connection = self.standing.shows(files)
        try:
            return connection is not None and _lack(connection, expected) is None
        except dbapi2.DatabaseError:
            self.standing.close()
            return False

    def _open(self, files: dict[str, bytes], expected: set[str], begun: bool, *, thorough: bool) -> str | None:
        """Open an image anew, as after a power loss; `begun`: something must be there."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        for name, content in files.items():
            if name.startswith(self.database):
                (self.scratch / name).write_bytes(content)
        path = self.scratch / self.database
        try:
            error = self._read(path, expected, thorough)
            if error is None and self.machine == "node" and begun and self.found.images % OPENED_EVERY == 0:
                self.found.opened += 1
                _open_as_we_do(path)
        except dbapi2.DatabaseError as damaged:
            error = f"it cannot be read: {damaged}" if begun or "no such table" not in str(damaged) else None
        return error

    def _read(self, path: Path, expected: set[str], thorough: bool) -> str | None:
        # read only where that will do: closing then spares the checkpoint, a third of the time
        mode = "rw" if path.with_name(f"{path.name}-journal").exists() else "ro"
        with closing(dbapi2.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)) as connection:
            if thorough:
                self.found.integrity += 1
                said = connection.execute("PRAGMA integrity_check").fetchall()
                if said != [("ok",)]:
                    return f"integrity_check says {said[:3]}"
            return _lack(connection, expected)


def _lack(connection: Any, expected: set[str]) -> str | None:
    """Return what the database lacks of what was acknowledged, None if nothing."""
    sales = {row[0] for row in connection.execute("SELECT id FROM sale").fetchall()}
    counts = connection.execute(
        "SELECT (SELECT COUNT(*) FROM sale_line), (SELECT COUNT(*) FROM payment), (SELECT COUNT(*) FROM stock_move)"
    ).fetchone()
    if counts != (2 * len(sales), len(sales), len(sales)):
        return f"of {len(sales)} sales some are not whole: {counts}"
    missing = sorted(line[5:] for line in expected if line.startswith("sale ") and line[5:] not in sales)
    if missing:
        return f"{len(missing)} acknowledged sales are missing, the first {missing[0]}"
    return _edit_is_missing(connection, expected)


def _edit_is_missing(connection: Any, expected: set[str]) -> str | None:
    latest = max((int(line.split()[2]) for line in expected if " own " in line), default=None)
    if latest is None:
        return None
    row = connection.execute("SELECT phone FROM contact WHERE id = ?", (own_contact("till"),)).fetchone()
    return None if row and int(row[0]) >= latest else f"the acknowledged edit {latest} is missing: {row}"


def _open_as_we_do(path: Path) -> None:
    """Open a node's image with the program itself and seal what waits: what the next command does first."""
    with closing(Database(path, load(), lambda: time.time_ns() // 1_000_000)) as database, database.writing() as store:
        outbox.seal(store, database.clock_ms())
