"""Backups and restores as people make them: with the commands, while everything runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import foreign
from tests.processes.conftest import PROGRAM, ROOT, Centre, Node, run, warm
from tests.processes.test_journey import contact, sale

FULL = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_centre_is_restored_and_everybody_brings_back_what_it_lost(centre: Centre) -> None:
    till, office = centre.node("till", "branch:KYV"), centre.node("office", "branch:KYV")
    till.write(*sale("s1", "KYV", 100))
    till.sync()
    file = centre.folder / "centre.backup"
    made = centre.ok("backup", file)
    assert made["bytes"] == file.stat().st_size
    assert centre.run("backup", file).error == "home.taken"
    till.write(*sale("s2", "KYV", 200))
    till.write(contact("c1", "KYV"))
    till.sync()
    office.sync()
    late = centre.node("late", "branch:KYV")
    late.write(*sale("s3", "KYV", 400))
    late.sync()

    assert centre.run("restore", file).error == "home.busy"
    port = centre.port
    centre.stop()
    restored = centre.ok("restore", file)
    assert restored["version"] == made["version"]
    centre.start(port)

    looked = till.run("verify")  # it cannot be compared before it has healed; a sync heals
    assert looked.error == "history.diverged"
    assert "what the centre lost is sent again by itself" in looked.document["error"]["message"]
    assert office.sync()["centre_restored"]["offered_again"] == 0
    assert till.sync()["centre_restored"]["offered_again"] == 2
    refused = late.run("sync")
    assert refused.error == "auth.unknown_node"
    assert late.ok("status")["unsynced"] == 0
    late.ok("rejoin", centre.invite("late again", "branch:KYV"))
    assert late.sync()["centre_restored"]["offered_again"] == 1
    for node in (till, office, late):
        node.sync()
        assert node.ok("verify")["equal"]
        rows = "SELECT (SELECT GROUP_CONCAT(id, ',') FROM (SELECT id FROM sale ORDER BY id)), (SELECT COUNT(*) FROM contact)"
        assert node.write((rows, [])) == [["s1,s2,s3", 1]]
    (line,) = [line for line in centre.ok("report", "sales", "--by", "branch")["sales"] if line["key"] == "KYV"]
    assert (line["receipts"], line["total_minor"]) == (3, 700)


def test_a_till_is_put_back_and_says_what_came_back(centre: Centre) -> None:
    till = centre.node("till two", "branch:ODS")
    till.write(*sale("o1", "ODS", 100))
    till.sync()
    file = centre.folder / "till.backup"
    assert till.ok("backup", file)["unsynced"] == 0
    till.write(*sale("o2", "ODS", 100))
    till.sync()
    restored = till.ok("restore", file)
    assert restored["node"] == "till two"
    assert restored["aside"].startswith(str(till.home / "node.db.before-restore-"))
    till.write(*sale("o3", "ODS", 100))
    report = till.sync()
    assert (report["new_history"], report["came_back"], report["pushed"]) == (True, 1, 1)
    assert till.write(("SELECT COUNT(*) FROM sale WHERE branch_id = 'ODS'", [])) == [[3]]
    assert till.ok("verify")["equal"]
    assert till.run("restore", centre.folder / "nothing").error == "usage.value"
    wrong = centre.folder / "centre, not till.backup"
    centre.ok("backup", wrong)
    refused = till.run("restore", wrong)
    assert refused.error == "usage.value"
    assert f"{wrong} is a database, but no backup of this kind" in refused.document["error"]["message"]


def test_restore_refuses_while_a_program_has_the_database_open(centre: Centre, tmp_path: Path) -> None:
    till = centre.node("till three", "branch:ODS")
    nodes, server = tmp_path / "till.backup", tmp_path / "centre.backup"
    till.ok("backup", nodes)
    made = centre.ok("backup", server)
    port = centre.port
    centre.stop()
    try:
        for part, file, database in ((till, nodes, till.home / "node.db"), (centre, server, centre.home / "server.db")):
            foreign.run(database, "SELECT COUNT(*) FROM sale", connection="open", commit=False)
            refused = part.run("restore", file)
            foreign.close(database, "open")
            assert (refused.status, refused.error) == (1, "home.busy")
            assert "Close every program" in refused.document["error"]["message"]
            assert part.ok("restore", file)["aside"]
    finally:
        centre.start(port)
    assert centre.ok("nodes")[0]["uncovered"] >= 0
    assert made["version"] == centre.ok("backup", tmp_path / "next")["version"] - 1


def test_status_says_how_much_is_kept_for_a_restore(centre: Centre) -> None:
    till = centre.node("till four", "branch:KBP")
    till.write(*sale("k1", "KBP", 100))
    till.sync()
    found = till.ok("status")["kept"]
    assert set(found) == {"segments", "pages", "bytes", "covered"}
    assert (found["segments"], found["bytes"] > 0) == (1, True)


def test_rejoin_refuses_another_centre_and_changes_nothing(centre: Centre, tmp_path: Path) -> None:
    till = centre.node("till five", "branch:ODE")
    till.write(*sale("e1", "ODE", 100))
    till.sync()
    everything = "SELECT quote(node), name, quote(incarnation), registered, quote(box_key), acked_seq FROM _node"
    before = till.write((everything, []))
    other = Centre(tmp_path / "other", tmp_path)
    other.ok("init")
    port = centre.port
    centre.stop()
    other.start(port)
    try:
        refused = till.run("rejoin", other.invite("till five", "branch:ODE"))
    finally:
        other.stop()
        centre.start(port)
    assert (refused.status, refused.error) == (2, "usage.value")
    assert "Another centre" in refused.document["error"]["message"]
    assert till.write((everything, [])) == before
    assert till.sync()["unsynced"] == 0
    till.ok("rejoin", centre.invite("till five again", "branch:ODE"))
    till.sync()
    assert till.ok("verify")["equal"]


def test_a_restore_takes_no_unsent_work_from_sight_and_no_other_nodes_copy(centre: Centre) -> None:
    till, other = centre.node("the till put back", "branch:ODS"), centre.node("the other till", "branch:ODS")
    file = centre.folder / "till.five"
    till.ok("backup", file)
    other.ok("backup", centre.folder / "till.six")
    done = till.run("restore", centre.folder / "till.six")
    assert (done.status, done.error) == (2, "usage.value")
    assert "the other till" in done.document["error"]["message"]
    till.write(*sale("o9", "ODS", 100))
    assert till.run("restore", file).error == "usage.value"
    assert till.ok("status")["unsynced"] == 1
    assert till.ok("restore", file, "--anyway")["node"] == "the till put back"
    assert till.ok("status")["unsynced"] == 0


def test_a_restore_over_a_database_of_a_newer_declaration_refuses(centre: Centre, tmp_path: Path) -> None:
    till = centre.node("till of the future", "branch:ODS")
    till.ok("backup", tmp_path / "file")
    till.write(*sale("future", "ODS", 100))
    till.write(("UPDATE _bookkeeping SET schema = schema + 1", []))
    for more in ([], ["--anyway"]):
        refused = till.run("restore", tmp_path / "file", *more)
        assert (refused.status, refused.error) == (1, "home.newer")
    assert till.write(("SELECT id FROM sale", [])) == [["future"]]


def test_a_restore_over_a_database_that_a_program_is_writing_refuses(centre: Centre, tmp_path: Path) -> None:
    till = centre.node("till that is busy", "branch:ODS")
    till.ok("backup", tmp_path / "file")
    till.write(*sale("unsent", "ODS", 100))
    foreign.run(till.home / "node.db", "BEGIN IMMEDIATE", connection="busy", commit=False)
    for more in ([], ["--anyway"]):
        assert till.run("restore", tmp_path / "file", *more).error == "home.busy"
    foreign.close(till.home / "node.db", "busy")
    assert till.ok("status")["unsynced"] == 1


@pytest.mark.parametrize("damage", ["no database", "a page"])
def test_a_restore_over_a_damaged_database_says_that_unsent_work_may_be_in_it(damage: str, centre: Centre, tmp_path: Path) -> None:
    till = centre.node(f"till damaged in {damage}", "branch:ODS")
    till.ok("backup", tmp_path / "file")
    till.write(*sale(f"unsent in {damage}", "ODS", 100))
    path = till.home / "node.db"
    whole = path.read_bytes()
    path.write_bytes(b"x" * 5000 if damage == "no database" else whole[:8192] + b"x" * 4096 * 20 + whole[4096 * 22 :])
    size = path.stat().st_size
    refused = till.run("restore", tmp_path / "file")
    assert (refused.status, refused.error) == (2, "usage.value")
    words = refused.document["error"]["message"]
    assert all(part in words for part in ("cannot be read", "never sent", "--anyway", "kept aside"))
    aside = Path(till.ok("restore", tmp_path / "file", "--anyway")["aside"])
    assert (aside.stat().st_size, b"x" * 4096 in aside.read_bytes()) == (size, True)
    assert till.sync()["unsynced"] == 0


def test_after_a_wrong_restore_the_right_one_is_possible(centre: Centre, tmp_path: Path) -> None:
    till, other = centre.node("till restored twice", "branch:ODS"), centre.node("the wrong till", "branch:ODS")
    till.ok("backup", tmp_path / "right")
    other.ok("backup", tmp_path / "wrong")
    assert till.ok("restore", tmp_path / "wrong", "--anyway")["node"] == "the wrong till"
    refused = till.run("restore", tmp_path / "right")
    assert refused.error == "usage.value"
    assert "--anyway" in refused.document["error"]["message"]
    assert till.ok("restore", tmp_path / "right", "--anyway")["node"] == "till restored twice"
    assert till.sync()["new_history"] is False


def test_a_dead_disk_is_replaced_by_a_backup_in_another_folder_and_a_new_invitation(centre: Centre, tmp_path: Path) -> None:
    till = centre.node("till whose disk dies", "branch:DED")
    till.write(*sale("dead1", "DED", 100))
    till.sync()
    till.ok("backup", tmp_path / "file")
    till.write(*sale("dead2", "DED", 200))
    till.sync()
    new = Node(tmp_path / "new disk")
    words = warm().run(["node", "--home", str(new.home), "restore", str(tmp_path / "file")])[1]
    assert f"outpost node --home '{new.home}' rejoin CODE" in words
    refused = new.run("sync")
    assert (refused.status, refused.error) == (1, "home.key")
    assert "invitation under another name" in refused.document["error"]["message"]
    assert f"outpost node --home '{new.home}' rejoin CODE" in refused.document["error"]["message"]
    assert new.run("rejoin", "AAAA-AAAA-AAAA-AAAA").error == "join.code"
    refused = new.run("sync")  # with a key that the centre never saw
    assert refused.error == "auth.signature"
    assert "rejoin CODE" in refused.document["error"]["message"]
    new.ok("rejoin", centre.invite("till on a new disk", "branch:DED"))
    assert new.sync()["unsynced"] == 0
    centre.ok("revoke", "till whose disk dies")
    assert new.write(("SELECT id FROM sale ORDER BY id", [])) == [["dead1"], ["dead2"]]
    assert new.ok("verify")["equal"]
    (line,) = [line for line in centre.ok("report", "sales", "--by", "branch")["sales"] if line["key"] == "DED"]
    assert (line["receipts"], line["total_minor"]) == (2, 300)


@pytest.mark.parametrize("damaged", [b"", b"-----BEGIN PRIVATE KEY-----\nMC4CAQ"])
def test_a_damaged_key_is_said_to_be_one_and_a_new_join_replaces_it(damaged: bytes, centre: Centre, tmp_path: Path) -> None:
    till = centre.node(f"till with a damaged key of {len(damaged)}", "branch:ODS")
    key = till.home / "node.key"
    key.write_bytes(damaged)
    for line in (["sync"], ["verify"], ["rejoin", "AAAA-AAAA-AAAA-AAAA"]):
        refused = till.run(*line)
        assert (refused.status, refused.error) == (1, "home.key")
        assert "damaged" in refused.document["error"]["message"]
        assert "rejoin CODE" in refused.document["error"]["message"]
    assert key.read_bytes() == damaged
    fresh = Node(tmp_path)
    (fresh.home / "node.key").write_bytes(damaged)
    fresh.ok("join", centre.url, centre.invite(f"fresh {len(damaged)}", "branch:ODS"))
    assert fresh.sync()["unsynced"] == 0
    key.unlink()
    till.ok("rejoin", centre.invite(f"till with a new key {len(damaged)}", "branch:ODS"))
    assert till.sync()["unsynced"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_join_on_a_full_disk_leaves_no_partial_key(centre: Centre, tmp_path: Path) -> None:
    code = centre.invite("till on a full disk", "branch:ODS")
    join = [*PROGRAM, "node", "--home", str(tmp_path), "join", centre.url, code]
    done = subprocess.run([sys.executable, "-c", FULL, "30", *join], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "node.key").exists()
    node = Node(tmp_path)
    node.ok("join", centre.url, code)
    assert node.sync()["unsynced"] == 0


def test_the_backup_of_another_centre_is_not_restored(tmp_path: Path) -> None:
    here, other = Centre(tmp_path / "here", tmp_path), Centre(tmp_path / "other", tmp_path)
    for each in (here, other):
        each.ok("init")
        each.invite(f"node of {each.home.name}", "branch:ODS")
        each.ok("backup", tmp_path / f"{each.home.name}.backup")
    refused = here.run("restore", tmp_path / "other.backup")
    assert (refused.status, refused.error) == (2, "usage.value")
    assert "another centre" in refused.document["error"]["message"]
    assert [each["name"] for each in here.ok("nodes")] == ["node of here"]
    assert [path.name for path in here.home.iterdir() if "restor" in path.name] == []
    assert here.ok("restore", tmp_path / "here.backup")["aside"]
    (here.home / "server.db").write_bytes(b"damaged" * 1000)  # nobody can tell
    assert here.ok("restore", tmp_path / "other.backup")["aside"]
    (here.home / "server.db").unlink()
    here.ok("restore", tmp_path / "here.backup")
    assert [each["name"] for each in here.ok("nodes")] == ["node of here"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("limit", [4096, 100_000])
def test_a_backup_to_a_full_disk_says_so_and_leaves_no_file(limit: int, centre: Centre, tmp_path: Path) -> None:
    till = centre.node(f"till with {limit} bytes left", "branch:ODS")
    for part, home in (("node", till.home), ("server", centre.home)):
        line = [*PROGRAM, part, "--home", str(home), "backup", str(tmp_path / part), "--json"]
        command = [sys.executable, "-c", FULL, str(limit), *line]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "home.unusable")
        assert "disk's space" in json.loads(done.stdout)["error"]["message"]
        assert list(tmp_path.iterdir()) == []
        assert run(part, home, "backup", tmp_path / part).status == 0
        (tmp_path / part).unlink()


def test_a_damaged_database_is_said_to_be_one(centre: Centre, tmp_path: Path) -> None:
    till = centre.node("till that says it is damaged", "branch:ODS")
    path = till.home / "node.db"
    till.ok("backup", tmp_path / "file")
    ((page,),) = till.write(("SELECT rootpage FROM sqlite_master WHERE name = 'employee'", []))
    whole = path.read_bytes()
    path.write_bytes(b"x" * 5000)
    for line in (["status"], ["sync"], ["backup", tmp_path / "of damaged"]):
        refused = till.run(*line)
        assert (refused.status, refused.error) == (1, "home.unusable")
        words = refused.document["error"]["message"]
        assert f"The database in {till.home} is damaged" in words
        assert f"outpost node --home '{till.home}' restore FILE" in words
        assert "permissions" not in words
    path.write_bytes(whole[: 4096 * (page - 1)] + b"x" * 4096 + whole[4096 * page :])  # opened all the same
    refused = till.run("backup", tmp_path / "of damaged")
    assert (refused.status, refused.error) == (2, "usage.value")
    assert f"{path} is damaged" in refused.document["error"]["message"]
    assert not (tmp_path / "of damaged").exists()
