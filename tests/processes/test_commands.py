"""The commands' manners: one JSON document whatever happens, exit statuses, where home is, words for people."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.processes.conftest import PROGRAM, ROOT, Centre, Node, foreign, run, warm


def outpost(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as typed."""
    everything = os.environ | environment
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=everything, timeout=60, check=False)


@pytest.mark.parametrize(
    "line",
    [
        "server nothing",
        "server invite",
        "server invite --name only",
        "server report",
        "server report weather",
        "server report sales --by colour",
        "server run --port 70000",
        "server rescope",
        "server rescope NAME",
        "server revoke",
        "server approve abc",
        "server held nothing",
        "server held hand 1",
        "server held withdraw abc",
        "server held export",
        "server init --nothing",
        "node nothing",
        "node join",
        "node join http://127.0.0.1",
        "node resolve",
        "node resolve 0123",
        "node resolve 0123 --take both",
        "node resolve 0123 --take mine --value x",
        "node held nothing",
        "node held correct 01",
        "node held withdraw",
        "node held export",
        "node import",
        "node import online_retail",
        "node sync --wait -1",
        "node sync --wait nan",
        "node sync --wait inf",
    ],
)
def test_wrong_usage_is_2(line: str, tmp_path: Path) -> None:
    part, *rest = line.split()
    done = run(part, tmp_path, *rest)
    assert (done.status, done.error) == (2, "cli.usage")
    assert not list(tmp_path.iterdir()), "nothing was made"


@pytest.mark.parametrize(
    "line", ["nodes", "conflicts", "held", "held hand 1 --to x", "held withdraw 1", "report sales", "revoke x", "approve 1", "run --port 0"]
)
def test_a_server_that_is_not_there(line: str, tmp_path: Path) -> None:
    done = run("server", tmp_path, *line.split())
    assert (done.status, done.error) == (1, "home.empty")


@pytest.mark.parametrize(
    "line", ["sync", "status", "conflicts", "held", "held correct 1 --set a=b", "held withdraw 1", "verify", "resolve 01 --take mine"]
)
def test_a_node_that_is_not_there(line: str, tmp_path: Path) -> None:
    done = run("node", tmp_path, *line.split())
    assert (done.status, done.error) == (1, "home.empty")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_bytes(b"these are not the rows you are looking for" * 100)
    done = run("node", tmp_path, "status")
    assert (done.status, done.error) == (1, "home.unusable")


def test_init_once(tmp_path: Path) -> None:
    assert run("server", tmp_path, "init").document == {"database": str(tmp_path / "server.db")}
    assert run("server", tmp_path, "init").error == "home.taken"


def test_an_init_that_was_cut_is_finished_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "server.db").touch()
    assert run("server", tmp_path, "init").status == 0
    assert run("server", tmp_path, "nodes").document == []


def test_init_takes_no_database_of_others(tmp_path: Path) -> None:
    foreign(tmp_path / "server.db", ("CREATE TABLE theirs (x)", []))
    assert run("server", tmp_path, "init").error == "home.taken"
    assert foreign(tmp_path / "server.db", ("SELECT name FROM sqlite_master", [])) == [["theirs"]]


def test_init_elsewhere_is_remembered(tmp_path: Path) -> None:
    elsewhere = tmp_path / "data" / "centre.db"
    assert run("server", tmp_path / "home", "init", "--database", f"sqlite:///{elsewhere}").status == 0
    assert run("server", tmp_path / "home", "invite", "--name", "n", "--scope", "branch:b").status == 0
    assert elsewhere.exists()
    assert not (tmp_path / "home" / "server.db").exists()


@pytest.mark.parametrize(
    "line",
    ["approve {}", "refuse {}", "held hand {} --to x", "held withdraw {}", "held --limit {}", "held --refused --limit {}"],
)
def test_numbers_that_no_database_holds_are_wrong_usage(line: str, tmp_path: Path) -> None:
    run("server", tmp_path, "init")
    for number in (2**63, 10**40):
        done = run("server", tmp_path, *line.format(number).split())
        assert (done.status, done.error) == (2, "cli.usage")
    assert run("server", tmp_path, *line.format(2**63 - 1).split()).status == (0 if "--limit" in line else 2)


RAW = b"caf\xe9".decode(errors="surrogateescape")
"""What a terminal set to Latin-1 sends."""


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("server", ["invite", "--name", RAW, "--scope", "branch:b"]),
        ("server", ["invite", "--name", "n", "--scope", f"branch:{RAW}"]),
        ("server", ["rescope", RAW, "--scope", "branch:b"]),
        ("server", ["revoke", RAW]),
        ("server", ["refuse", "1", "--note", RAW]),
        ("server", ["held", "hand", "1", "--to", RAW]),
        ("server", ["held", "hand", "1", "--to", "x", "--note", RAW]),
        ("server", ["held", "withdraw", "1", "--note", RAW]),
        ("node", ["join", "http://127.0.0.1:1", RAW]),
        ("node", ["resolve", "01", "--value", RAW]),
        ("node", ["held", "correct", "01", "--set", f"name={RAW}"]),
    ],
)
def test_text_that_is_not_utf_8_is_refused(part: str, line: list[str], tmp_path: Path) -> None:
    done = run(part, tmp_path, *line)
    assert (done.status, done.error) == (2, "usage.value")
    assert "not text in UTF-8" in done.document["error"]["message"]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_a_file_may_have_a_name_of_any_bytes(tmp_path: Path) -> None:
    home, backup = tmp_path / RAW, tmp_path / f"{RAW}.backup"
    assert run("server", home, "init").status == 0
    assert run("server", home, "backup", backup).document["file"] == str(backup)
    assert run("server", home, "backup", backup).error == "home.taken"
    assert run("server", home, "report", RAW).error == "cli.usage"


def test_a_folder_of_tables_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = outpost("server", "--home", tmp_path / "home", "init", "--json", OUTPOST_TABLES=str(tmp_path / "nowhere"))
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "usage.value")
    assert f"OUTPOST_TABLES names {tmp_path / 'nowhere'}" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_name_that_was_revoked_before_it_joined_is_not_invited_again(centre: Centre) -> None:
    centre.invite("never came", "branch:LIS")
    centre.ok("revoke", "never came")
    refused = centre.run("invite", "--name", "never came", "--scope", "branch:LIS")
    assert (refused.status, refused.error) == (1, "home.taken")
    assert "another name" in refused.document["error"]["message"]


def test_a_home_that_has_a_centre_is_not_given_another(tmp_path: Path) -> None:
    plain, noted = tmp_path / "plain", tmp_path / "noted"
    run("server", plain, "init")
    run("server", noted, "init", "--database", tmp_path / "noted.db")
    for home in (plain, noted):
        assert run("server", home, "invite", "--name", "n", "--scope", "branch:b").status == 0
        for more in ([], ["--database", tmp_path / "other.db"], ["--database", tmp_path / "noted.db"]):
            refused = run("server", home, "init", *more)
            assert (refused.status, refused.error) == (1, "home.taken")
        assert [each["name"] for each in run("server", home, "nodes").document] == ["n"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file() and path.suffix == ".db") == ["noted.db"]


def test_a_home_whose_database_elsewhere_is_gone_says_what_to_do(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "disk" / "centre.db"
    run("server", home, "init", "--database", elsewhere)
    run("server", home, "backup", tmp_path / "backup")
    elsewhere.rename(tmp_path / "moved.db")
    for line in (["nodes"], ["schema"], ["init"], ["init", "--database", elsewhere], ["init", "--database", tmp_path / "other.db"]):
        refused = run("server", home, *line)
        assert (refused.status, refused.error) == (1, "home.empty")
        assert f"not where it was: {elsewhere}" in refused.document["error"]["message"]
        assert "restore FILE" in refused.document["error"]["message"]
    assert not elsewhere.exists()
    assert run("server", home, "restore", tmp_path / "backup").status == 0
    assert run("server", home, "nodes").document == []


@pytest.mark.parametrize(("url", "code"), [("postgresql://127.0.0.1:1/db", "server.database"), ("mysql://host/db", "usage.value")])
def test_a_database_of_another_kind(url: str, code: str, tmp_path: Path) -> None:
    done = run("server", tmp_path, "init", "--database", url)
    assert (done.status, done.error) == (2 if code.startswith("usage.") else 1, code)


def test_options_go_before_and_after(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert warm().run(["server", "init", "--home", home])[0] == 0
    for line in (
        ["server", "--home", home, "--json", "nodes"],
        ["server", "nodes", "--json", "--home", home],
        ["server", "--json", "nodes", "--home", home],
    ):
        assert warm().run(line) == (0, "[]\n", "")


def test_home_may_come_from_the_environment(tmp_path: Path) -> None:
    assert outpost("server", "init", OUTPOST_HOME=str(tmp_path / "here")).returncode == 0
    assert (tmp_path / "here" / "server.db").exists()


def test_home_is_the_platform_s_place_otherwise(tmp_path: Path) -> None:
    done = outpost("server", "init", "--json", HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path), OUTPOST_HOME="")
    assert done.returncode == 0
    path = Path(json.loads(done.stdout)["database"])
    assert path.is_relative_to(tmp_path)
    assert path.parts[-3:] == ("outpost", "server", "server.db")


@pytest.mark.parametrize("scope", ["LON", "branch:", ":x"])
def test_a_scope_key_has_a_prefix(scope: str, tmp_path: Path) -> None:
    run("server", tmp_path, "init")
    assert run("server", tmp_path, "invite", "--name", "n", "--scope", scope).error == "usage.value"


def test_a_port_in_use(centre: Centre, tmp_path: Path) -> None:
    run("server", tmp_path, "init")
    done = run("server", tmp_path, "run", "--port", centre.port)
    assert (done.status, done.error) == (1, "net.listen")


def test_people_are_told_in_words(centre: Centre) -> None:
    """Every command without --json: something is said, and nothing in it can steer the terminal."""
    node = centre.node("Шевченко \x1b[31m", "branch:WOR")
    node.write(
        ("INSERT INTO contact (id, kind, name, branch_id) VALUES ('\x1b[2J', 'person', 'x', 'WOR')", []),
        ("INSERT INTO branch (id, name) VALUES ('WOR', 'held')", []),
    )
    told = {}
    for line in ("status", "sync", "status", "held", "conflicts", "verify"):
        status, told[line], errors = warm().run(["node", "--home", str(node.home), *line.split()])
        assert (status, errors) == (0, "")
    for line in ("nodes", "held", "conflicts", "report sales", "report sales --by month"):
        status, told[f"server {line}"], errors = warm().run(["server", "--home", str(centre.home), *line.split()])
        assert (status, errors) == (0, "")
    assert "\x1b" not in "".join(told.values())
    assert "Equal" in told["verify"]
    assert "proposal" in told["held"]
    assert "unsynced 0" in told["status"]
    assert "Шевченко" in told["server nodes"]
    assert "for 1 of 1 node; 1 held transaction not in it" in told["server report sales"]


def test_people_are_told_what_failed(tmp_path: Path) -> None:
    done = outpost("node", "--home", tmp_path, "sync")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("outpost: There is no node here yet")
    assert f"outpost node --home {tmp_path} join" in done.stderr


def test_progress_is_not_for_pipes(centre: Centre) -> None:
    node: Node = centre.node("quiet", "branch:QUI")
    assert node.run("sync").errors == ""


def test_what_never_left_this_computer_is_not_said_to_be_at_the_office(centre: Centre) -> None:
    node = centre.node("far", "branch:OFF")
    node.write(
        ("INSERT INTO contact (id, kind, name, branch_id, note) VALUES (?, ?, ?, ?, ?)", ["c1", "person", "Ann", "OFF", "x" * 2_000_000])
    )
    told = outpost("node", "--home", node.home, "status").stdout
    assert "1 transaction waits on this computer only" in told
    assert "held by the central office" not in told
    assert node.ok("status")["withheld"] == 1
