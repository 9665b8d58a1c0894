"""The whole journey as a person makes it: invite, join, record offline, sync, decide, verify, hand over, revoke."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.processes.conftest import Centre, Done, Node, warm

EMPTY = {"accepted": 0, "merged": 0, "ask": 0, "held": 0, "refused": 0, "withdrawn": 0}

RETAIL = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,HEART HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536365,71053,METAL LANTERN,6,2010-12-01 08:26:00,3.39,17850.0,United Kingdom
C536379,D,Discount,-1,2010-12-01 09:41:00,27.5,14527.0,United Kingdom
536370,22728,ALARM CLOCK,24,2010-12-01 08:45:00,3.75,12583.0,France
536371,22728,ALARM CLOCK,many,2010-12-01 08:45:00,3.75,12583.0,France
"""


def contact(identity: str, branch: str, **values: Any) -> tuple[str, list[Any]]:
    row = {"id": identity, "kind": "person", "name": identity, "branch_id": branch, **values}
    return f"INSERT INTO contact ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values())


def sale(identity: str, branch: str, minor: int, *, lines: int = 2, kind: str = "sale") -> list[tuple[str, list[Any]]]:
    head = "INSERT INTO sale (id, number, kind, branch_id, sold_ms, business_date, currency, total_minor) VALUES (?,?,?,?,?,?,?,?)"
    line = "INSERT INTO sale_line (id, sale_id, product_id, qty_milli, unit_price_e4, amount_minor) VALUES (?,?,?,?,?,?)"
    script: list[tuple[str, list[Any]]] = [(head, [identity, identity, kind, branch, 1_760_000_000_000, "2025-10-09", "UAH", minor])]
    script += [(line, [f"{identity}-{n}", identity, f"p{n}", 1500, 100, minor // lines]) for n in range(lines)]
    return script


def set_(column: str, value: object, identity: str) -> tuple[str, list[Any]]:
    return f"UPDATE contact SET {column} = ? WHERE id = ?", [value, identity]


def own_status(node: Node) -> dict[str, int]:
    document = node.ok("status")
    return {name: document[name] for name in ("unsynced", "conflicts", "held")}


# --- recorded by a foreign program, synced ----------------------------------------------------------------------------


def test_what_a_foreign_program_records_reaches_the_centre_and_the_other_nodes(centre: Centre) -> None:
    till, office = centre.node("till", "branch:KYV"), centre.node("office", "branch:KYV")
    till.write(contact("Олена", "KYV"))
    till.write(*sale("s1", "KYV", 5_000))
    assert own_status(till) == {"unsynced": 2, "conflicts": 0, "held": 0}
    first = till.sync()
    assert (first["pushed"], first["unsynced"], first["verdicts"]) == (2, 0, EMPTY | {"accepted": 2})
    second = till.sync()
    when = {name: till.ok("status")[name] for name in ("as_of_ms", "identical_ms")}
    assert second == first | {"pushed": 0, "pulled": 0, "removed": 0, "verdicts": EMPTY, **when}
    assert office.sync()["pulled"] == 4
    assert office.write(("SELECT name FROM contact WHERE branch_id = 'KYV'", [])) == [["Олена"]]
    for node in (till, office):
        verified = node.ok("verify")
        assert verified["equal"] is True
        assert verified["tables"]["sale_line"]["rows"] == 2


def test_the_status_of_a_node_is_told(centre: Centre) -> None:
    document = centre.node("Чернігів", "branch:CHE").ok("status")
    assert document["node"] == "Чернігів"
    assert (document["cursor"], document["as_of_ms"]) == (0, None)


def test_held_work_is_seen_by_both_sides_and_can_be_approved(centre: Centre) -> None:
    node = centre.node("eager", "branch:EAG")
    node.write(("INSERT INTO branch (id, name) VALUES ('EAG', 'Їжачок')", []))
    node.write(contact("held-for-another", "OTHER"), contact("fine", "EAG"))
    report = node.sync()
    assert (report["verdicts"]["held"], report["verdicts"]["accepted"]) == (2, 1)
    held = node.ok("held")
    assert {(each["table"], each["key"]) for each in held} == {("branch", "EAG"), ("contact", "held-for-another")}
    assert all(each["reason"] for each in held)
    at_centre = {each["key"]: each for each in centre.ok("held") if each["node"] == "eager"}
    assert centre.ok("approve", at_centre["EAG"]["id"])["waiting"] is False
    assert centre.ok("refuse", at_centre["held-for-another"]["id"])["approved"] is False
    node.sync()
    assert [(each["key"], each["verdict"]) for each in node.ok("held")] == [("held-for-another", "refused")]
    assert own_status(node) == {"unsynced": 0, "conflicts": 0, "held": 0}
    assert node.ok("verify")["equal"] is True
    assert centre.run("approve", 999_999).error == "usage.unknown"


# --- concurrent changes -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(centre: Centre) -> tuple[Node, Node]:
    return centre.node("Львів-1", "branch:LVV"), centre.node("Львів-2", "branch:LVV")


def both_edit(pair: tuple[Node, Node], identity: str, one: dict[str, str], other: dict[str, str]) -> None:
    """Two nodes know a contact, then change it without knowing of each other; the first to sync is the first."""
    pair[0].write(contact(identity, "LVV"))
    for node in pair:
        node.sync()
    for node, values in zip(pair, (one, other), strict=True):
        node.write(*(set_(column, value, identity) for column, value in values.items()))
        node.sync()
    pair[0].sync()


def values(node: Node, identity: str, columns: str) -> list[Any]:
    return node.write((f"SELECT {columns} FROM contact WHERE id = ?", [identity]))[0]


def test_edits_of_different_columns_both_survive(pair: tuple[Node, Node]) -> None:
    both_edit(pair, "both", {"phone": "1"}, {"email": "e"})
    assert values(pair[0], "both", "phone, email") == values(pair[1], "both", "phone, email") == ["1", "e"]
    assert not [each for each in pair[0].ok("conflicts") if each["key"] == "both"]


def test_a_note_asks_and_the_answer_travels(centre: Centre, pair: tuple[Node, Node]) -> None:
    both_edit(pair, "asked", {"note": "дзвонити вранці"}, {"note": "дзвонити ввечері"})
    [seen] = [each for each in pair[1].ok("conflicts", "--open") if each["key"] == "asked"]
    assert {name: seen[name] for name in ("table", "key", "column", "base", "mine", "theirs", "rule", "open")} == {
        "table": "contact",
        "key": "asked",
        "column": "note",
        "base": None,
        "mine": "дзвонити ввечері",
        "theirs": "дзвонити вранці",
        "rule": "ask",
        "open": True,
    }
    assert seen["winner"] in ("mine", "theirs")
    assert own_status(pair[1])["conflicts"] >= 1
    assert [each for each in centre.ok("conflicts", "--open") if each["id"] == seen["id"]]
    assert pair[1].ok("resolve", seen["id"], "--value", "дзвонити в обід")["value"] == {"note": "дзвонити в обід"}
    for node in (pair[1], pair[0]):
        node.sync()
        assert values(node, "asked", "note") == ["дзвонити в обід"]
    assert [each["open"] for each in pair[0].ok("conflicts") if each["key"] == "asked"] == [False]
    assert [each["open"] for each in centre.ok("conflicts") if each["id"] == seen["id"]] == [False]


def test_the_loser_can_be_taken_back(pair: tuple[Node, Node]) -> None:
    both_edit(pair, "latest", {"name": "first"}, {"name": "second"})
    [seen] = [each for each in pair[0].ok("conflicts") if each["key"] == "latest"]
    loser = "theirs" if seen["winner"] == "mine" else "mine"
    pair[0].ok("resolve", seen["id"][:12], "--take", loser)
    for node in pair:
        node.sync()
        assert values(node, "latest", "name") == [seen[loser]]


def test_an_address_is_decided_as_one(pair: tuple[Node, Node]) -> None:
    both_edit(pair, "address", {"street": "Ринок 1", "city": "Львів"}, {"street": "Хрещатик 2", "city": "Київ"})
    [seen] = [each for each in pair[0].ok("conflicts") if each["key"] == "address"]
    assert seen["column"] == ["street", "postcode", "city", "country"]
    assert [seen["mine"], seen["theirs"]] == [["Ринок 1", None, "Львів", None], ["Хрещатик 2", None, "Київ", None]]
    assert pair[0].run("resolve", seen["id"], "--value", "only one").error == "usage.value"
    pair[0].ok("resolve", seen["id"], *(part for text in ("Площа 3", "79000", "Львів", "UA") for part in ("--value", text)))
    for node in pair:
        node.sync()
        assert values(node, "address", "street, postcode, city, country") == ["Площа 3", "79000", "Львів", "UA"]


def test_all_agree_in_the_end(pair: tuple[Node, Node]) -> None:
    for node in pair:
        node.sync()
    assert all(node.ok("verify")["equal"] for node in pair)


# --- import -----------------------------------------------------------------------------------------------------------


def test_import_on_both_sides(centre: Centre, tmp_path: Path) -> None:
    file = tmp_path / "sales.csv"
    file.write_text(RETAIL, encoding="utf-8")
    node = centre.node("UK", "branch:UK")
    dry = node.ok("import", "online_retail", file, "--branch", "UK", "--dry-run")
    assert dry["rows"]["sale"] == {"new": 2, "same": 0, "differs": 0, "deleted": 0}
    assert own_status(node)["unsynced"] == 0
    report = node.ok("import", "online_retail", file, "--branch", "UK")
    assert report["rows"] == dry["rows"]
    assert set(report["rows"]) == {"contact", "sale", "sale_line"}
    [rejected] = report["rejected"]
    assert (rejected["file"], rejected["line"]) == ("sales.csv", 6)
    assert rejected["reason"]
    central = centre.ok("import", "online_retail", file)
    assert set(central["rows"]) == {"branch", "product"}
    assert node.ok("import", "online_retail", file, "--branch", "UK")["rows"]["sale_line"] == {
        "new": 0,
        "same": 3,
        "differs": 0,
        "deleted": 0,
    }
    node.sync()
    assert node.write(("SELECT name FROM branch WHERE id = 'UK'", [])) == [["United Kingdom"]]
    sales = [each for each in centre.ok("report", "sales", "--by", "branch")["sales"] if each["key"] == "UK"]
    assert sales == [
        {
            "key": "UK",
            "name": "United Kingdom",
            "currency": "GBP",
            "receipts": 1,
            "returns": 1,
            "lines": 3,
            "qty_milli": 11_000,
            "total_minor": 1_530 + 2_034 - 2_750,
        }
    ]
    assert node.run("import", "nothing", file).error == "import.mapping"
    assert node.run("import", "online_retail", tmp_path / "absent.csv").error == "import.source"
    assert node.run("import", "online_retail", file, "--branch", "nowhere").error == "import.branch"


# --- what a central program writes ------------------------------------------------------------------------------------


def test_a_central_program_s_rows_reach_nodes_with_the_next_exchange(centre: Centre) -> None:
    node = centre.node("listener", "branch:LIS")
    centre.write(("INSERT INTO product (id, name) VALUES ('central', 'Чай')", []))
    assert node.sync()["pulled"] >= 1
    assert node.write(("SELECT name FROM product WHERE id = 'central'", [])) == [["Чай"]]


# --- entitlement ------------------------------------------------------------------------------------------------------


def test_rescope_brings_and_removes(centre: Centre) -> None:
    north, mover = centre.node("north", "branch:NOR"), centre.node("mover", "branch:NOR")
    south = centre.node("south", "branch:SOU")
    north.write(contact("in-the-north", "NOR"))
    south.write(contact("in-the-south", "SOU"))
    for node in (north, south, mover):
        node.sync()
    entry = centre.ok("rescope", "mover", "--scope", "branch:SOU", "--scope", "owner:e1")
    assert entry["scope"] == ["branch:SOU", "owner:e1"]
    moved = mover.sync()
    assert (moved["pulled"], moved["removed"]) == (1, 1)
    assert mover.write(("SELECT id FROM contact", [])) == [["in-the-south"]]
    assert mover.ok("verify")["equal"] is True
    assert north.sync()["pulled"] == south.sync()["pulled"] == 0


def test_revoke(centre: Centre) -> None:
    node = centre.node("stolen", "branch:STO")
    node.write(contact("unsent", "STO"))
    assert centre.ok("revoke", "stolen")["revoked"] is True
    refused = node.run("sync")
    assert (refused.status, refused.error) == (1, "auth.revoked")
    assert own_status(node)["unsynced"] == 1, "nothing of it is lost"
    assert [each["revoked"] for each in centre.ok("nodes") if each["name"] == "stolen"] == [True]
    assert centre.run("revoke", "nobody").error == "usage.unknown"


def test_the_board_of_nodes(centre: Centre) -> None:
    node = centre.node("board", "branch:BOA")
    node.write(contact("b1", "BOA"))
    before = {each["name"]: each for each in centre.ok("nodes")}["board"]
    assert (before["last_push_ms"], before["last_pull_ms"], before["unsynced"]) == (None, None, None)
    node.sync()
    after = {each["name"]: each for each in centre.ok("nodes")}["board"]
    assert after["last_push_ms"] > 0
    assert after["last_pull_ms"] >= after["last_push_ms"]
    assert (after["unsynced"], after["conflicts"], after["revoked"]) == (0, 0, False)


# --- joining ----------------------------------------------------------------------------------------------------------


def test_a_second_invitation_takes_the_place_of_the_first(centre: Centre) -> None:
    first = centre.ok("invite", "--name", "twice", "--scope", "branch:TWI")
    second = centre.ok("invite", "--name", "twice", "--scope", "branch:TWI")
    assert (first["replaces_code"], second["replaces_code"]) == (False, True)
    told = warm().run(["server", "--home", str(centre.home), "invite", "--name", "twice", "--scope", "branch:TWI"])[1]
    assert "The code printed for it before is good no more." in told
    assert Node(centre.folder / "twice").run("join", centre.url, first["code"]).error == "join.code"


def test_a_code_is_good_once(centre: Centre) -> None:
    code = centre.invite("once", "branch:ONC")
    Node(centre.folder / "once").ok("join", centre.url, code)
    assert Node(centre.folder / "again").run("join", centre.url, code).error == "join.code"
    assert Node(centre.folder / "once").run("join", centre.url, code).error == "home.taken"
    assert Node(centre.folder / "never").run("join", centre.url, "WRONG-CODE").error == "join.code"
    assert Node(centre.folder / "never").run("join", "not an address", "CODE").error == "usage.value"


def test_a_join_whose_reply_was_lost_is_repeated(centre: Centre) -> None:
    """The centre has registered the node; the node knows nothing of it but what it had shown."""
    code, node = centre.invite("lost-reply", "branch:LOS"), Node(centre.folder / "lost-reply")
    joined = node.ok("join", centre.url, code)
    lose_the_reply(node, code)
    assert node.ok("join", centre.url, code) == joined
    node.write(contact("after-all", "LOS"))
    assert node.sync()["verdicts"]["accepted"] == 1
    assert node.ok("verify")["equal"] is True
    assert not (node.home / "joining.json").exists()


def test_a_join_repeated_without_what_was_shown_is_refused(centre: Centre) -> None:
    """Another incarnation than the one registered could never sync; better told at once."""
    code, node = centre.invite("amnesia", "branch:AMN"), Node(centre.folder / "amnesia")
    node.ok("join", centre.url, code)
    lose_the_reply(node, code)
    (node.home / "joining.json").unlink()
    assert node.run("join", centre.url, code).error == "join.code"


def lose_the_reply(node: Node, code: str) -> None:
    """Put a home back to how it is after the request was sent and before its reply came."""
    from hashlib import sha256

    [[incarnation]] = node.write(("SELECT lower(hex(incarnation)) FROM _node", []))
    shown = {"asked": sha256(f"join\0{code}".encode()).hexdigest(), "incarnation": incarnation}
    (node.home / "joining.json").write_text(json.dumps({"attempts": [shown]}), encoding="utf-8")
    for path in node.home.glob("node.db*"):
        path.unlink()


# --- offline ----------------------------------------------------------------------------------------------------------


def test_offline_is_a_state(centre: Centre) -> None:
    node = centre.node("train", "branch:TRA")
    port = centre.port
    centre.stop()
    try:
        node.write(contact("met-on-the-train", "TRA"))
        offline = node.run("sync")
        assert (offline.status, offline.error) == (1, "net.offline")
        assert "safe" in offline.document["error"]["message"]
        assert "1 transaction waits" in offline.document["error"]["message"]
        assert node.run("verify").error == "net.offline"
        assert node.run("join", "http://127.0.0.1:9", "CODE").error == "home.taken"
        assert own_status(node)["unsynced"] == 1
    finally:
        centre.start(port)
    assert node.sync()["pushed"] == 1


def test_two_syncs_of_one_node_take_turns(centre: Centre) -> None:
    from schema.lock import exclusive

    node = centre.node("double", "branch:DOU")
    with exclusive(node.home / "node.lock", "held by the test"):
        busy = node.run("sync", "--wait", 0)
    assert (busy.status, busy.error) == (1, "home.busy")
    assert node.sync()["unsynced"] == 0


def test_a_home_is_served_once(centre: Centre) -> None:
    second: Done = centre.run("run", "--port", 0)
    assert (second.status, second.error) == (1, "home.busy")
