"""`outpost server schema`: what a change would touch, read without changing anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import nodes
from server.preview import changes, preview
from sync.errors import NewerFile, NotJoined
from tests.skew.declarations import VERSIONS, declared
from tests.skew.test_versions import ANN
from tests.skew.world import SkewedWorld, insert

NEWEST = VERSIONS[-1]
ALL = (
    "person.loyalty: new column",
    "person.cell: called phone before",
    "person.fax: dropped",
    "person.weight: integer instead of text",
    "person.country: new column",
    "phone_call: new table",
    "slip.till: new column",
)

pytestmark = pytest.mark.sqlite_centre("a file is previewed")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SkewedWorld]:
    made = SkewedWorld(tmp_path, 3)
    for version in (1, 3, 5):
        made.node_of(version, f"k{version}").sync()
    yield made
    made.close()


def test_a_preview_tells_what_would_change_and_whom_it_touches(world: SkewedWorld) -> None:
    with world.database.writing() as store:
        nodes.invite(store, "never joined", ("branch:LON",), 1)
    insert(world.nodes["k1"], "person", ANN)
    world.nodes["k1"].link.lose = ["pull"]
    before = (world.folder / "server.db").read_bytes()
    found = preview(world.folder / "server.db", declared(NEWEST))
    assert (found.stored, found.declared, found.unconverted) == (3, NEWEST, 0)
    assert found.changes == (
        "person.cell: called mobile before",
        "person.fax: dropped",
        "phone_call.minutes: real instead of integer",
        "slip.till: new column",
    )
    assert [(node.name, node.version, node.unsynced) for node in found.nodes] == [("k1", 1, 0), ("k3", 3, 0), ("k5", 5, 0)]
    assert [node.changes for node in found.nodes] == [ALL, found.changes, ()]
    assert all(node.last_seen_ms for node in found.nodes)
    assert (world.folder / "server.db").read_bytes() == before


def test_changes_are_named_between_any_two_versions() -> None:
    assert [len(changes(declared(newer), older)) for older in VERSIONS for newer in VERSIONS if older == newer] == [0] * len(VERSIONS)
    assert set(changes(declared(NEWEST), 1)) == set(ALL)


def test_values_that_did_not_convert_are_counted(tmp_path: Path) -> None:
    world = SkewedWorld(tmp_path, 1)
    world.sql("INSERT INTO person (id, name, fax, weight) VALUES ('ann', 'Ann', '', 'heavy')")
    world.upgrade_centre(NEWEST)
    assert preview(tmp_path / "server.db", declared(NEWEST)).unconverted == 1
    world.close()


def test_a_preview_of_nothing_and_of_the_future_is_refused(world: SkewedWorld) -> None:
    with pytest.raises(NotJoined):
        preview(world.folder / "nothing.db", declared(NEWEST))
    with pytest.raises(NewerFile, match="version 3 of the tables; here are those of 1"):
        preview(world.folder / "server.db", declared(1))


GIFT = """
from typing import ClassVar
from sqlmodel import Field
from schema.declare import By, Kind, Sync, Synced

class Gift(Synced, table=True):
    __tablename__ = "gift"
    sync: ClassVar[Sync] = Sync(kind=Kind.RECORD, scope=(By("branch", "branch_id"),), since=2)
    id: str = Field(primary_key=True)
    branch_id: str | None = None
"""


def test_the_commands_tell_and_an_older_program_refuses_what_a_newer_one_opened(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "gift.py").write_text(GIFT, encoding="utf-8")
    outpost = Path(sys.executable).with_name("outpost")

    def run(*command: str, tables: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OUTPOST_TABLES": tables}
        line = [str(outpost), "server", *command, "--home", str(tmp_path / "home"), "--json"]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)

    run("init")
    newer = str(tmp_path / "tables")
    told = json.loads(run("schema", "preview", tables=newer).stdout)
    assert told == {"stored": 1, "declared": 2, "changes": ["gift: new table"], "unconverted": 0, "nodes": []}
    assert json.loads(run("schema").stdout)["stored"] == 1  # a preview changes nothing
    assert run("nodes", tables=newer).returncode == 0
    assert json.loads(run("schema", tables=newer).stdout)["stored"] == 2
    refused = run("nodes")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "home.newer"
