"""The test vectors of PROTOCOL.md §12, valid and invalid: what another implementation could be tested with, we pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sync import messages
from sync.box import open_box, public_key
from sync.builder import SegmentBuilder
from sync.change import Transaction
from sync.digest import BEGINNING, readable, row_digests, rows_digest, segment_point, version_point
from sync.encoding import encode_column
from sync.errors import OutpostError
from sync.ids import uuid7
from sync.merge import Lineage, Meta, merge_cell, seen
from sync.messages import Message, Values
from sync.policy import policies
from sync.rows import tuple_of
from sync.segment import read_segment, transactions
from sync.values import RawText, Value, value_order
from sync.wire import compress, decode, pack, unpack
from tests.vectors.making import VECTORS
from tests.vectors.making.segments import op_json, work_json
from tests.vectors.making.shown import message_json, value_of

FOLDER = Path(__file__).parents[1] / "vectors"


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return document


def each(entries: list[dict[str, Any]]) -> Callable[[Any], Any]:
    return pytest.mark.parametrize("vector", entries, ids=[entry["name"] for entry in entries])


COLUMNS, SEGMENTS, MESSAGES, CHAINS = map(load, ("columns.json", "segments.json", "messages.json", "chains.json"))
ROWS, MERGES, UUIDS, BOXES = map(load, ("rows.json", "merges.json", "uuid7.json", "boxes.json"))


def exact(values: Any) -> list[tuple[type, str]]:
    """What makes values the same: the type, and every bit."""
    return [(type(value), repr(value)) for value in values]


def refused(vector: dict[str, Any], work: Callable[[], object]) -> None:
    with pytest.raises(OutpostError) as refusal:
        work()
    assert refusal.value.code == vector["error"]


def test_no_vector_is_named_twice() -> None:
    for document in (COLUMNS, SEGMENTS, MESSAGES):
        for kind in ("valid", "invalid"):
            names = [entry["name"] for entry in document[kind]]
            assert sorted(set(names)) == sorted(names)


# --- columns -----------------------------------------------------------------------------------------------------------


def read_column(rows: int, column: str) -> Any:
    """A column as it comes in a message: with the number of its rows."""
    return tuple_of(decode(Values, b"\x92" + msgspec.msgpack.encode(rows) + bytes.fromhex(column)))


@pytest.mark.covers("P-7.21")
@pytest.mark.parametrize("vector", BOXES["valid"])
def test_a_box_opens_for_its_owner(vector: dict[str, str]) -> None:
    private = bytes.fromhex(BOXES["private"])
    assert public_key(private).hex() == BOXES["public"]
    assert open_box(private, bytes.fromhex(vector["box"])).hex() == vector["content"]


@pytest.mark.covers("P-7.21")
@each(BOXES["invalid"])
def test_what_is_no_box_for_its_owner_is_refused(vector: dict[str, str]) -> None:
    refused(vector, lambda: open_box(bytes.fromhex(BOXES["private"]), bytes.fromhex(vector["box"])))


@pytest.mark.covers("C-1", "P-5.5")
@each(COLUMNS["valid"])
def test_a_column_stands_for_its_values(vector: dict[str, Any]) -> None:
    values = list(map(value_of, vector["values"]))
    assert exact(read_column(vector["rows"], vector["column"])) == exact(values)
    again = msgspec.msgpack.encode(encode_column(values)).hex()
    assert exact(read_column(vector["rows"], again)) == exact(values)


@pytest.mark.covers("C-2", "C-3", "C-4", "C-5", "C-6", "C-7")
@each(COLUMNS["invalid"])
def test_a_malformed_column_is_refused(vector: dict[str, Any]) -> None:
    refused(vector, lambda: read_column(vector["rows"], vector["column"]))


def test_every_rule_of_columns_is_broken_once() -> None:
    assert {vector["rule"] for vector in COLUMNS["invalid"]} == {"C-1", "C-2", "C-3", "C-4", "C-5", "C-6"}


# --- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-4.1", "P-4.2")
@each(MESSAGES["valid"])
def test_a_message_is_its_bytes(vector: dict[str, Any]) -> None:
    type_: type[Message] = getattr(messages, vector["type"])
    message = unpack(type_, bytes.fromhex(vector["frame"]))
    assert message_json(message) == vector["fields"]
    assert msgspec.msgpack.encode(message).hex() == vector["msgpack"]
    assert decode(type_, bytes.fromhex(vector["msgpack"])) == message
    assert unpack(type_, pack(message)) == message


@pytest.mark.covers("P-4.2", "P-4.4", "P-4.5", "P-3.2")
@each(MESSAGES["invalid"])
def test_a_malformed_message_is_refused(vector: dict[str, Any]) -> None:
    refused(vector, lambda: unpack(getattr(messages, vector["type"]), bytes.fromhex(vector["frame"])))


@pytest.mark.covers("P-4.4")
@each(MESSAGES["valid"])
def test_elements_behind_the_last_are_ignored(vector: dict[str, Any]) -> None:
    elements = msgspec.msgpack.decode(bytes.fromhex(vector["msgpack"]))
    longer = compress(msgspec.msgpack.encode([*elements, "new", [1]]))
    assert message_json(unpack(getattr(messages, vector["type"]), longer)) == vector["fields"]


@pytest.mark.covers("P-4.4")
@each(MESSAGES["valid"])
def test_a_message_may_end_before_fields_that_came_later(vector: dict[str, Any]) -> None:
    type_: type[Message] = getattr(messages, vector["type"])
    later = [field for field in msgspec.structs.fields(type_) if not field.required]
    elements = msgspec.msgpack.decode(bytes.fromhex(vector["msgpack"]))
    earlier = unpack(type_, compress(msgspec.msgpack.encode(elements[: len(elements) - len(later)])))
    assert [getattr(earlier, field.name) for field in later] == [field.default for field in later]


# --- segments ----------------------------------------------------------------------------------------------------------


def works_of(body: str) -> list[Transaction]:
    return transactions(read_segment(bytes.fromhex(body)), {name: tuple(key) for name, key in SEGMENTS["keys"].items()})


@pytest.mark.covers("P-5.8", "P-5.10")
@each(SEGMENTS["valid"])
def test_a_segment_holds_its_transactions(vector: dict[str, Any]) -> None:
    opened = read_segment(bytes.fromhex(vector["body"]))
    assert [opened.id.hex(), opened.schema, opened.first, opened.part] == [vector[name] for name in ("id", "schema", "first", "part")]
    works = works_of(vector["body"])
    assert list(map(work_json, works)) == vector["transactions"]
    builder = SegmentBuilder()
    for work in works:
        builder.begin(work.wall, work.base)
        for op in work.ops:
            builder.add(work.index, op)
        for conflict in work.decisions:
            builder.decide(work.index, conflict)
        for withdrawn in work.withdrawals:
            builder.withdraw(work.index, withdrawn)
    again = builder.build(opened.id, opened.schema, opened.first, opened.part)
    assert list(map(work_json, works_of(again.hex()))) == vector["transactions"]


@pytest.mark.covers("P-5.12")
def test_parts_make_one_transaction() -> None:
    opened = [read_segment(bytes.fromhex(body)) for body in SEGMENTS["parts"]["bodies"]]
    assert [segment.part for segment in opened] == [1, 1, 2]
    assert len({segment.id for segment in opened}) == 3
    works = [works_of(body)[0] for body in SEGMENTS["parts"]["bodies"]]
    whole = SEGMENTS["parts"]["transaction"]
    assert [op_json(op) for work in works for op in work.ops] == whole["changes"]
    assert {(work.index, work.number) for work in works} == {(whole["index"], whole["number"])}


@pytest.mark.covers("P-3.2", "P-4.7", "P-4.8", "P-4.9", "P-4.10", "C-7")
@each(SEGMENTS["invalid"])
def test_a_malformed_segment_is_refused(vector: dict[str, Any]) -> None:
    refused(vector, lambda: read_segment(bytes.fromhex(vector["body"])))


# --- chains, rows, ids -------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-5.13")
def test_the_chain_of_segments() -> None:
    point = BEGINNING
    for entry in CHAINS["segments"]:
        point = segment_point(point, bytes.fromhex(entry["body"]))
        assert (point.number, point.digest.hex()) == (entry["number"], entry["digest"])


@pytest.mark.covers("P-6.7")
def test_the_chain_of_versions() -> None:
    point = BEGINNING
    for entry in CHAINS["versions"]:
        point = version_point(point, entry["kind"], bytes.fromhex(entry["content"]), entry["at_ms"])
        assert (point.number, point.digest.hex()) == (entry["number"], entry["digest"])


def row_of(entry: dict[str, Any]) -> list[Value]:
    return list(map(value_of, entry["values"]))


@pytest.mark.covers("P-9.12")
@pytest.mark.parametrize("entry", ROWS["rows"], ids=lambda entry: entry["digest"][:8])
def test_the_digest_of_a_row(entry: dict[str, Any]) -> None:
    count, digest = rows_digest(entry["table"], [row_of(entry)])
    assert (count, digest.hex()) == (1, entry["digest"])
    assert row_digests(entry["table"], [readable(row_of(entry))]) == [digest]


@pytest.mark.covers("P-9.12")
def test_the_digest_of_a_table_goes_by_the_order_of_keys() -> None:
    for table in ROWS["tables"]:
        rows = [row_of(ROWS["rows"][index]) for index in table["rows"]]
        assert [value_order(row[0]) for row in rows] == sorted(value_order(row[0]) for row in rows)
        assert rows_digest(table["table"], rows) == (table["count"], bytes.fromhex(table["digest"]))
        assert rows_digest(table["table"], rows[::-1])[1].hex() != table["digest"]


def test_a_row_s_digest_by_hand() -> None:
    """The one computed without our encoder: "contact_tag", a zero byte, fixarray 2, fixstr 2, fixstr 3."""
    import hashlib

    assert hashlib.sha256(b"contact_tag\0\x92\xa2c1\xa3vip").hexdigest() == ROWS["rows"][0]["digest"]
    raw = hashlib.sha256(b"t\0\x91\x81\xa3raw\xc4\x01\xff").digest()
    assert rows_digest("t", [[RawText(b"\xff")]]) == (1, raw)


@pytest.mark.parametrize("entry", UUIDS["valid"], ids=lambda entry: entry["id"])
def test_an_id(entry: dict[str, Any]) -> None:
    assert uuid7(entry["ms"], bytes.fromhex(entry["random"])) == entry["id"]


def test_the_id_of_the_rfc() -> None:
    assert UUIDS["valid"][0]["id"] == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


# --- merges ------------------------------------------------------------------------------------------------------------


@pytest.mark.covers("P-6.17")
@each(MERGES["seen"])
def test_what_a_writer_has_seen(vector: dict[str, Any]) -> None:
    lineage = Lineage({7: [(0, 99)]} if vector["own"] else {})
    meta = Meta(vector["version"], 7, vector["number"], 0, "node-a")
    assert seen(meta, vector["base"], vector["since"], lineage) is vector["seen"]


@pytest.mark.covers("P-2.12", "P-2.13", "P-2.14", "P-2.11", "P-6.19", "P-6.20", "P-6.21")
@each(MERGES["cells"])
def test_what_becomes_of_a_cell(vector: dict[str, Any]) -> None:
    old, new, standing = (tuple(map(value_of, vector[name])) for name in ("old", "new", "standing"))
    meta = Meta(5, 1, 1, vector["standing_stamp"], vector["standing_node"])
    outcome = merge_cell(policies()[vector["policy"]], old, new, vector["stamp"], vector["node"], standing, meta, vector["seen"])
    wanted = vector["outcome"]
    assert exact(outcome.value) == exact(map(value_of, wanted["value"]))
    assert (outcome.conflict, outcome.side if outcome.conflict else None, outcome.ask) == (
        wanted["conflict"],
        wanted["winner"],
        wanted["ask"],
    )
    assert outcome.write is (wanted["winner"] != "theirs")
    assert outcome.altered is (wanted["winner"] == "theirs")
    if outcome.write:
        assert outcome.stamp == wanted["stamp"]


def test_every_policy_has_vectors_seen_and_unseen() -> None:
    assert {(name, known) for name in policies() for known in (True, False)} == {(v["policy"], v["seen"]) for v in MERGES["cells"]}


def test_the_files_are_what_the_script_writes() -> None:
    """But for frames: another zstd may compress otherwise."""
    for name, make in VECTORS.items():
        if name not in ("segments.json", "messages.json"):
            assert load(name) == json.loads(json.dumps(make())), f"run scripts/make_vectors.py: {name}"
