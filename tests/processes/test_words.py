"""What people are told of work that left their tables, of nodes that were revoked, and with which commands they go on."""

from __future__ import annotations

from tests.processes.conftest import Centre, Node, warm
from tests.processes.test_held_commands import contact
from tests.processes.test_journey import sale


def told(part: str, of: Node | Centre, *line: str) -> str:
    """What people read of a command that succeeds."""
    status, out, errors = warm().run([part, "--home", str(of.home), *line])
    assert (status, errors) == (0, "")
    return out


def test_what_the_office_decided_is_told_when_it_comes(centre: Centre) -> None:
    node = centre.node("rep", "branch:LIS")
    for identity in ("w1", "w2", "w3", "w4", "w5"):
        node.write(contact(identity, "OPO"))
        assert node.sync()["late"] == {"refused": 0, "withdrawn": 0, "let_in": 0}
    assert "held 5, refused 0." in told("node", node, "status")
    numbers = {each["key"]: str(each["id"]) for each in centre.ok("held")}
    for identity in ("w1", "w2"):
        centre.ok("refuse", numbers[identity])
    centre.ok("held", "withdraw", numbers["w3"])
    centre.ok("approve", numbers["w4"])
    said = told("node", node, "sync")
    home = f"--home {node.home}"
    assert f"The central office refused 2 transactions; they are kept on this node: outpost node {home} held\n" in said
    assert "1 transaction was taken back and left this node's tables; it is kept" in said
    assert "1 transaction that had been held is in at the central office now." in said
    assert "0 rows" not in said.replace("Received 0 rows", "")
    assert "All synced" not in said
    assert node.write(("SELECT id FROM contact ORDER BY id", [])) == [["w5"]]
    status = node.ok("status")
    assert (status["refused"], status["held"], status["unsynced"]) == (2, 1, 0)
    said = told("node", node, "status")
    assert "held 1, refused 2." in said
    assert "2 transactions are not in the tables" in said
    assert "1 transaction held is not part of that." in said
    (first, second) = [each["id"] for each in node.ok("held") if each["verdict"] == "refused"]
    for identity in (first, second):
        node.ok("held", "correct", identity, "--set", "branch_id=LIS")
    assert node.ok("status")["refused"] == 0, "they were dealt with"
    assert node.sync()["late"] == {"refused": 0, "withdrawn": 0, "let_in": 0}


def test_a_sync_that_brings_verdicts_counts_them(centre: Centre) -> None:
    node = centre.node("rep two", "branch:SIN")
    for identity in ("v1", "v2", "v3"):
        node.write(contact(identity, "TUR"))
        node.sync()
    numbers = {each["key"]: each["id"] for each in centre.ok("held")}
    centre.ok("refuse", numbers["v1"])
    centre.ok("held", "withdraw", numbers["v2"])
    node.write(("UPDATE contact SET branch_id = 'SIN' WHERE id = 'v3'", []))
    report = node.sync()
    assert (report["late"], report["refused"]) == ({"refused": 1, "withdrawn": 1, "let_in": 0}, 1)
    assert "All synced" not in told("node", node, "sync")


def test_a_revoked_node_that_never_synced(centre: Centre) -> None:
    centre.invite("nobody yet", "branch:NOB")
    assert "It had not joined" in told("server", centre, "revoke", "nobody yet")
    centre.node("silent", "branch:SIL")
    said = told("server", centre, "revoke", "silent")
    assert "It has never synced" in said
    assert "last exchange" not in said
    quiet = centre.node("quiet", "branch:SIL")
    quiet.sync()
    assert "At its last exchange it had nothing unsent" in told("server", centre, "revoke", "quiet")


def test_a_revoked_node_joins_again_with_all_it_has(centre: Centre) -> None:
    """What it had sent is there once, what it had not sent is sent."""
    node, other = centre.node("laptop", "branch:REV"), centre.node("counter", "branch:REV")
    node.write(*sale("r1", "REV", 100))
    node.sync()
    node.write(*sale("r2", "REV", 200))
    node.write(contact("r3", "REV"))
    centre.ok("revoke", "laptop")
    refused = node.run("sync")
    assert refused.error == "auth.revoked"
    assert f"outpost node --home {node.home} rejoin CODE" in refused.document["error"]["message"]
    node.ok("rejoin", centre.invite("laptop again", "branch:REV"))
    node.write(*sale("r4", "REV", 400))
    assert node.sync()["unsynced"] == 0
    other.sync()
    for each in (node, other):
        assert each.write(("SELECT id FROM sale ORDER BY id", [])) == [["r1"], ["r2"], ["r4"]]
        assert each.write(("SELECT id FROM contact", [])) == [["r3"]]
        assert each.ok("verify")["equal"]
    (line,) = [line for line in centre.ok("report", "sales", "--by", "branch")["sales"] if line["key"] == "REV"]
    assert (line["receipts"], line["total_minor"]) == (3, 700)


def test_a_node_that_joins_again_for_another_branch_gives_up_the_first(centre: Centre) -> None:
    node = centre.node("mover", "branch:MV1")
    node.write(*sale("m1", "MV1", 100))
    node.sync()
    node.write(contact("m2", "MV1"))
    centre.ok("revoke", "mover")
    node.ok("rejoin", centre.invite("mover again", "branch:MV2"))
    node.sync()
    node.sync()
    assert node.write(("SELECT id FROM sale", [])) == []
    assert [(each["key"], each["verdict"]) for each in node.ok("held")] == [("m2", "held")], "typed, and kept in view"
    assert node.ok("verify")["equal"]
