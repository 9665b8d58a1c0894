"""Work that waits, from the people's side: real commands, a real server, a foreign program that writes."""

from __future__ import annotations

import json
import os
import shlex
import stat
from pathlib import Path

from schema.console import moment
from tests.processes.conftest import Centre, warm
from tests.processes.test_journey import sale


def contact(identity: str, branch: str) -> tuple[str, list[object]]:
    return "INSERT INTO contact (id, kind, name, branch_id) VALUES (?, 'person', 'Ann', ?)", [identity, branch]


def test_correct_withdraw_hand_and_export(centre: Centre, tmp_path: Path) -> None:
    node = centre.node("salesman", "branch:LIS")
    for identity in ("c1", "c2", "c3"):
        node.write(contact(identity, "OPO"))
        node.sync()
    held = {each["key"]: each for each in node.ok("held")}
    at_centre = {each["key"]: each["id"] for each in centre.ok("held")}
    done = node.ok("held", "correct", held["c1"]["id"], "--set", "branch_id=LIS")
    assert done["values"] == {"branch_id": "LIS"}
    assert node.ok("held", "withdraw", held["c2"]["id"])["at_centre"] is True
    assert centre.ok("held", "hand", at_centre["c3"], "--to", "Anna", "--note", "ask them")["work"]["handed"]["to"] == "Anna"
    node.sync()
    assert centre.ok("held")[0]["transaction"] == held["c3"]["id"]
    (left,) = node.ok("held")
    assert (left["key"], left["reason"].endswith("handed to Anna: ask them")) == ("c3", True)
    assert sorted((each["key"], each["code"]) for each in node.ok("held", "--withdrawn")) == [("c1", "replaced"), ("c2", "withdrawn")]
    assert sorted((each["key"], each["by"]) for each in centre.ok("held", "--withdrawn")) == [("c1", "correction"), ("c2", "node")]
    for part, name in ((node, "here.json"), (centre, "there.json")):
        document = part.ok("held", "export", tmp_path / name)
        assert (document["held"], document["withdrawn"]) == (1, 2)
        assert json.loads((tmp_path / name).read_text(encoding="utf-8"))["format"] == "outpost-held-1"
        assert os.name == "nt" or stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        again = part.run("held", "export", tmp_path / name)
        assert (again.status, again.error) == (2, "usage.value")
    assert centre.ok("held", "withdraw", at_centre["c3"], "--note", "twice")["held"] == 0
    node.sync()
    assert node.ok("held") == []
    assert node.ok("verify")["equal"]


def test_what_was_refused_is_listed_on_both_sides_until_its_node_has_dealt_with_it(centre: Centre, tmp_path: Path) -> None:
    node = centre.node("refused", "branch:LIS")
    node.write(contact("r1", "OPO"))
    node.sync()
    (held,) = (each for each in centre.ok("held") if each["key"] == "r1")
    assert centre.run("refuse", held["id"], "--note", "x" * 501).status == 2
    assert centre.ok("refuse", held["id"], "--note", "not our town")["waiting"] is False
    node.sync()
    (here,) = node.ok("held")
    assert (here["verdict"], here["reason"]) == ("refused", "the central office refused it: not our town")
    (there,) = [each for each in centre.ok("held", "--refused") if each["key"] == "r1"]
    assert (there["transaction"], there["values"]["branch_id"], there["reason"]) == (here["id"], "OPO", here["reason"])
    assert centre.run("held", "--refused", "--withdrawn").status == 2
    assert node.ok("held", "withdraw", here["id"])["at_centre"] is False
    assert (node.ok("held"), node.ok("status")["refused"]) == ([], 0)
    assert [(each["key"], each["reason"]) for each in node.ok("held", "--withdrawn")] == [("r1", here["reason"])]
    assert centre.ok("held", "export", tmp_path / "refused.json")["refused"] >= 1
    assert "OPO" in (tmp_path / "refused.json").read_text(encoding="utf-8")
    assert node.run("held", "withdraw", here["id"]).status == 2


def test_what_people_read(centre: Centre) -> None:
    node = centre.node("reader", "branch:LIS")
    node.write(contact("c9", "OPO"))
    node.sync()
    node.write(("INSERT INTO activity (id, contact_id) VALUES ('a9', 'c9')", []))
    node.sync()
    here = warm().run(["node", "--home", str(node.home), "held"])[1]
    assert "It belongs to a branch or owner this node does not write for." in here
    assert "or give it to a branch or owner you write for: outpost node --home" in here
    there = warm().run(["server", "--home", str(centre.home), "held"])[1]
    (at_node,) = [each["id"] for each in node.ok("held") if each["key"] == "c9"]
    assert f"of reader ({at_node} there), held since" in there
    assert "contact c9: insert kind person, name Ann, branch_id OPO" in there
    waits = next(each for each in centre.ok("held") if each["key"] == "a9")
    approved = warm().run(["server", "--home", str(centre.home), "approve", str(waits["id"])])[1]
    assert "still waits" in approved
    assert f"First to be decided: {waits['waits_for'][0]}" in approved
    assert "You can decide or correct what it builds on" in approved


def test_what_was_taken_back_says_when(centre: Centre) -> None:
    node = centre.node("regretful", "branch:LIS")
    node.write(contact("c10", "OPO"))
    node.sync()
    (held,) = [each["id"] for each in centre.ok("held") if each["key"] == "c10"]
    centre.ok("held", "withdraw", held)
    listed = warm().run(["server", "--home", str(centre.home), "held", "--withdrawn"])[1]
    (line,) = [line for line in listed.splitlines() if "of regretful" in line]
    (document,) = [each for each in centre.ok("held", "--withdrawn") if each["key"] == "c10"]
    assert f"withdrawn {moment(document['at_ms'])}, had been held since {moment(document['since_ms'])}" in line


def test_commands_suggested_to_programs_run_as_they_are(centre: Centre) -> None:
    node = centre.node("scripted", "branch:LIS")
    node.write(contact("c11", "OPO"))
    node.sync()
    (held,) = node.ok("held")
    (withdraw,) = [each["command"] for each in held["can"] if each["do"] == "withdraw"]
    assert warm().run(shlex.split(withdraw)[1:])[0] == 0
    assert node.ok("held")[0]["on_its_way"] == "withdrawal"


def test_an_id_that_is_not_there(centre: Centre) -> None:
    node = centre.node("nobody", "branch:LIS")
    for line in (("held", "correct", "abc", "--set", "a=b"), ("held", "withdraw", "abc")):
        assert node.run(*line).error == "usage.unknown"
    for line in (("held", "hand", 999, "--to", "x"), ("held", "withdraw", 999)):
        assert centre.run(*line).error == "usage.unknown"


def test_the_office_is_told_what_became_of_what_it_approved(centre: Centre) -> None:
    node = centre.node("approved", "branch:LIS")
    node.write(contact("goes in", "OPO"))
    node.sync()
    node.write(*sale("re-keyed", "OPO", 500))
    node.sync()
    node.ok("held", "correct", node.ok("held")[-1]["id"], "--set", "id=another")
    node.sync()
    first, second = sorted({each["id"] for each in centre.ok("held") if each["node"] == "approved"})
    done = centre.ok("approve", first)
    assert (done["waiting"], done["verdict"], done["code"]) == (False, "accepted", "")
    status, words, _ = warm().run(["server", "--home", str(centre.home), "approve", str(second)])
    assert status == 0
    assert "approved and in" not in words
    assert "could not go in and is refused: " in words
    assert f"outpost server --home {centre.home} held --refused" in words
    node.sync()
    assert {(each["verdict"], each["code"]) for each in node.ok("held")} == {("refused", "gone")}
