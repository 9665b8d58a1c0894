"""Torture in small: kills at chosen system calls, a swarm, power losses. At length: scripts/torture.py."""

from __future__ import annotations

import random
import shutil
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2

from tests import foreign
from tests.faults import blows, kills, shim, strace, swarm
from tests.faults.checks import acknowledged
from tests.faults.power import images, record, trace
from tests.faults.power.disk import MODES, Disk
from tests.faults.power.standing import Standing
from tests.faults.processes import Centre, Starter

needs_shim = pytest.mark.skipif(shim.why_not() is not None, reason=str(shim.why_not()))


@needs_shim
def test_killed_at_chosen_calls(tmp_path: Path) -> None:
    life = kills.run(tmp_path / "life", seed=1, kills=10)
    at_calls = [label for label in life.known.labels if "at a moment" not in label]
    assert len(at_calls) >= 2, life.known.labels
    assert len(life.acknowledged()) > 200


@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
def test_killed_by_strace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is strace, every kill is at a system call as the kernel counts them."""
    monkeypatch.setattr(blows, "BY_SHIM", 0.0)
    monkeypatch.setattr(blows, "BY_STRACE", 1.0)
    life = kills.run(tmp_path / "life", seed=1, kills=2)
    assert life.kills() == 2


@needs_shim
def test_an_init_elsewhere_that_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    """At a dozen of its calls, the last ones among them: the home never fails to know a database that is taken."""
    starter = Starter(tmp_path, {"LD_PRELOAD": str(shim.compiled(tmp_path)), "OUTPOST_UNDER": f"{tmp_path}/"})

    def order(name: str) -> list[str]:
        return ["server", "--home", str(tmp_path / name), "init", "--database", f"sqlite:///{tmp_path / name}-data/centre.db"]

    page = shim.Page(tmp_path / "page")
    starter.ok(*order("whole"), watch=str(page.path))
    step = page.calls // 10
    for at in sorted({*range(step, page.calls, step), page.calls - 1, page.calls}):
        cut = shim.Page(tmp_path / f"{at}.page")
        cut.die_after(at)
        assert starter.wait(starter.start(*order(f"cut{at}"), "--json", watch=str(cut.path))) == -signal.SIGKILL
        status, said = starter.run(*order(f"cut{at}"))
        assert status == 0 or said["error"]["code"] == "home.taken"
        assert starter.ok("server", "--home", tmp_path / f"cut{at}", "nodes") == []
    starter.close()


@needs_shim
def test_a_restore_that_was_killed_takes_no_acknowledged_work(tmp_path: Path) -> None:
    """At each of its last calls: what was acknowledged is in the database or, whole, in the one that was set aside."""
    starter = Starter(tmp_path, {"LD_PRELOAD": str(shim.compiled(tmp_path)), "OUTPOST_UNDER": f"{tmp_path}/"})
    centre = Centre(starter, tmp_path)
    node, backup = centre.node("till", "branch:LON"), tmp_path / "backup.db"
    centre.kill()
    starter.ok("node", "--home", node.home, "backup", backup)
    writer = starter.start(node.home, node.name, 0, 1000, 1, call="write")
    while writer.said().count("\n") < 5:
        time.sleep(0.01)  # it writes until it is killed, which leaves its last work in the write-ahead log
    starter.kill(writer)
    assert (node.home / "node.db-wal").stat().st_size > 0
    wanted = {line[5:] for line in acknowledged(writer.said()) if line.startswith("sale ")}
    watched = shim.Page(tmp_path / "page")
    shutil.copytree(node.home, tmp_path / "whole")
    starter.ok("node", "--home", tmp_path / "whole", "restore", backup, "--anyway", watch=str(watched.path))
    labels = set()
    for at in range(watched.calls - 19, watched.calls + 1):
        home, page = tmp_path / f"cut{at}", shim.Page(tmp_path / f"{at}.page")
        shutil.copytree(node.home, home)
        page.die_after(at)
        order = ("node", "--home", home, "restore", backup, "--anyway", "--json")
        assert starter.wait(starter.start(*order, watch=str(page.path))) == -signal.SIGKILL
        labels.add(page.label.split()[0])
        there = [home / "node.db", *home.glob("node.db.before-restore-*[0-9]")]
        kept = [wanted <= {row[0] for row in foreign.rows(path, "SELECT id FROM sale")} for path in there if path.exists()]
        assert any(kept), (page.label, [path.name for path in home.iterdir()])
    assert "rename" in labels, labels
    starter.close()


def test_a_swarm_comes_to_rest(tmp_path: Path) -> None:
    lived = swarm.run(tmp_path / "swarm", seed=2, rounds=1)
    assert lived.counts["rounds"] == 1
    assert len(lived.members) == 5
    assert len(lived.acknowledged()) > 20


# --- power --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("power")
    return record.recorded(folder, seed=1, transactions=60)


def _disk(recording: Path, machine: str) -> Disk:
    return Disk(f"{recording.parent}/world/{images.MACHINES[machine][0]}")


@needs_shim
@pytest.mark.parametrize("machine", ["node", "centre"])
def test_no_power_loss_takes_what_was_acknowledged(recording: Path, machine: str, tmp_path: Path) -> None:
    found = images.examine(recording, machine, 150, 1, tmp_path / "scratch")
    assert found.lost == []
    assert found.images > 110
    assert found.unique > 80


@needs_shim
def test_with_less_care_a_power_loss_does(tmp_path: Path) -> None:
    """The control: at synchronous=NORMAL acknowledged rows are missing, so the checker sees what it looks for."""
    careless = record.recorded(tmp_path, seed=1, transactions=20, synchronous="NORMAL")
    found = images.examine(careless, "node", 60, 1, tmp_path / "scratch")
    assert found.lost


def _everything(connection: Any) -> dict[str, list[Any]]:
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
    return {name: sorted(connection.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr) for name in names}


def _fresh(folder: Path, files: dict[str, bytes], name: str) -> dict[str, list[Any]] | None:
    """Return all rows as a new connection sees them, None if it cannot read the image."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for each in (name, f"{name}-wal"):
        (folder / each).write_bytes(files[each])
    with closing(dbapi2.connect(str(folder / name), isolation_level=None)) as connection:
        try:
            return _everything(connection)
        except dbapi2.DatabaseError:
            return None


@needs_shim
@pytest.mark.parametrize("machine", ["node", "centre"])
def test_the_connection_that_stays_open_sees_each_image_as_a_new_one_does(recording: Path, machine: str, tmp_path: Path) -> None:
    disk, chance, name = _disk(recording, machine), random.Random(1), images.MACHINES[machine][1]
    standing, compared, contents = Standing(tmp_path / "standing", name), 0, set()
    for at, step in enumerate(trace.read(recording)):
        if step.path == disk.folder or step.path.startswith(f"{disk.folder}/"):
            disk.do(step)
        if at % 10 or not disk.is_unsure():
            continue
        files, _mark = disk.image(chance)
        connection = standing.shows(files)
        if connection is None:
            standing.vouch()
            continue
        fresh = _fresh(tmp_path / "fresh", files, name)
        assert _everything(connection) == fresh
        compared += 1
        contents.add(repr(fresh))
    standing.close()
    assert compared > 20
    assert len(contents) > 8  # the centre of this recording commits a dozen times


@needs_shim
def test_a_schema_that_is_not_as_it_was_is_not_acquitted(recording: Path, tmp_path: Path) -> None:
    disk = _disk(recording, "node")
    files = {path.name: path.read_bytes() for path in Path(disk.folder).iterdir() if not path.name.endswith("-shm")}
    files.setdefault("node.db-wal", b"")
    standing = Standing(tmp_path / "standing", "node.db")
    assert standing.shows(files) is None, "nothing is known yet"
    standing.vouch()
    assert standing.shows(files) is not None
    at = (
        files["node.db"].index(b"CREATE TABLE IF NOT EXISTS _adopted") if b"CREATE TABLE IF NOT EXISTS _adopted" in files["node.db"] else -1
    )
    at = at if at >= 0 else files["node.db"].index(b"CREATE TABLE _adopted")
    spoiled = files | {"node.db": files["node.db"][:at] + b"X" + files["node.db"][at + 1 :]}
    assert standing.shows(spoiled) is None
    assert standing.shows(files) is not None
    standing.close()


@needs_shim
@pytest.mark.parametrize("machine", ["node", "centre"])
def test_the_recording_is_of_everything_that_was_written(recording: Path, machine: str) -> None:
    """Replayed to its end, with nothing lost, it gives the very files that lie there."""
    disk = _disk(recording, machine)
    for step in trace.read(recording):
        if step.path == disk.folder or step.path.startswith(f"{disk.folder}/"):
            disk.do(step)
    there = {path.name: path.read_bytes() for path in Path(disk.folder).iterdir() if path.suffix not in (".strace",)}
    assert {name: content for name, content in there.items() if not name.endswith("-shm")} == disk.now()


@needs_shim
def test_what_a_join_shows_is_on_disk_before_it_is_sent(recording: Path) -> None:
    """Else a power loss after the centre has used the code leaves a newcomer that can never join."""
    disk, chance = _disk(recording, "node"), random.Random(1)
    for step in trace.read(recording):
        if step.kind == "c" and step.path.endswith("/node.db"):
            break
        if step.path == disk.folder or step.path.startswith(f"{disk.folder}/"):
            disk.do(step)
    for _ in range(20):
        files, _mark = disk.image(chance)
        assert files.get("node.key")
        assert files.get("joining.json")


def test_what_a_disk_may_show() -> None:
    """Synced writes always; of the others any part, torn ones too; a new name only once its folder was synced."""
    disk, chance = Disk("/f"), random.Random(1)
    for kind, path, offset, data in (
        ("c", "/f/a", 0, b""),
        ("w", "/f/a", 0, b"A" * 1024),
        ("s", "/f/a", 0, b""),
        ("s", "/f", 0, b""),
        ("w", "/f/a", 0, b"B" * 1024),
        ("c", "/f/b", 0, b""),
    ):
        disk.do(trace.Step(kind, path, offset, data))
    seen = {(files["a"], "b" in files) for files, _ in (disk.image(chance) for _ in range(400))}
    contents = {bytes(content[::512]) for content, _ in seen}
    assert contents == {b"AA", b"AB", b"BA", b"BB"}
    assert {has for _, has in seen} == {True, False}
    assert len(MODES) == 7
