"""The vectors of messages (PROTOCOL.md §4.5)."""

from __future__ import annotations

from typing import Any

from sync import messages
from sync.builder import SegmentBuilder
from sync.digest import BEGINNING, segment_point
from sync.messages import Message, Point
from sync.rows import columns_of, values_of
from sync.wire import compress, pack
from tests.vectors.making.segments import ADDRESS, VALID_SEGMENTS, encoded, sealed
from tests.vectors.making.shown import DIGEST, ID, NOW, SEGMENT_ID, encode, message_json

_TOLD = messages.Told(3, 1, 0, 2)
_CURSOR, _HIGHEST = Point(7, DIGEST), Point(9, DIGEST[::-1])


def valid_messages() -> list[tuple[str, Message]]:
    """Return messages of every kind that travels."""
    body = sealed(VALID_SEGMENTS[0][3])
    point = segment_point(BEGINNING, body)
    notice = messages.ConflictNotice(
        id=SEGMENT_ID,
        version=9,
        table="contact",
        key=messages.Values(1, encoded("c1")),
        columns=ADDRESS,
        base=values_of((None, None, "Köln", None)),
        mine=values_of(("Domplatz 1", "50667", "Köln", "DE")),
        theirs=None,
        rule="latest",
        winner="theirs",
        open=False,
        mine_by="k2",
        theirs_by="centre",
        at_ms=NOW,
        why="because",
    )
    exceptional = messages.Exceptional(1, "held", 9, "parent", "its contact c1 is not at the centre yet")
    push = messages.PushRequest(
        1, 1, SEGMENT_ID, None, _CURSOR, _HIGHEST, BEGINNING, (messages.Sealed(body, point.digest, None),), (), NOW, _TOLD
    )
    first_push = messages.PushRequest(
        1, 1, DIGEST[16:], messages.Parent(SEGMENT_ID, point), _CURSOR, _HIGHEST, BEGINNING, (), (SEGMENT_ID,), -NOW, _TOLD
    )
    rows = [("c1", "Анна", None), ("c2", "Ben", 5)]
    moves = SegmentBuilder()
    moves.begin_many(2, NOW, 7)
    moves.insert_rows("stock_move", ("id", "qty_milli"), [("m1", 1000), ("m2", -500)], [0, 1])
    sealed_rows = moves.build(SEGMENT_ID, 1, 1)
    page = messages.Page(
        epoch=1,
        incarnation=SEGMENT_ID,
        since=7,
        head=9,
        to=_HIGHEST,
        chain=point,
        position=None,
        rows=(messages.Rows("contact", ("id", "name", "credit_limit_minor"), 2, columns_of(rows, 3)),),
        sealed=(messages.SealedRows(2, sealed_rows),),
        removals=(messages.Removals("contact_tag", 1, columns_of([("c1", "vip")], 2)),),
        deaths=(messages.Removals("contact", 1, columns_of([("c9",)], 1)),),
        conflicts=(notice,),
        segments=(messages.Accepted(SEGMENT_ID, 8, 1, 1),),
        verdicts=(messages.LateVerdict(SEGMENT_ID, 0, "refused", 9, "refused", "the central office refused it"),),
        points=(_CURSOR,),
        covered=7,
        proof=messages.Proof((messages.TableDigest("contact", 2, DIGEST),), (SEGMENT_ID,)),
    )
    position = messages.Position(7, 9, 2, 8, 55, 3, 4)
    key = columns_of([("c1",), ("c2",), ("c3",)], 1)
    ranges = (messages.KeyRange("contact", None, values_of(["c5"]), 0), messages.KeyRange("contact", values_of(["c5"]), None, 100))
    digests = (messages.RangeDigest(1200, DIGEST, (), b""), messages.RangeDigest(1, DIGEST, columns_of([("c7",)], 1), DIGEST))
    some = messages.Rows("contact", ("id", "name", "credit_limit_minor"), 1, columns_of(rows[:1], 3))
    more = messages.Page(1, SEGMENT_ID, 7, 9, _HIGHEST, BEGINNING, position, (), (), (), (), (), (), (), (), -1, None)
    again = messages.Again(8, 7, True, (exceptional,))
    opened = messages.PushReply(2, _HIGHEST, (messages.SegmentVerdict(SEGMENT_ID, 9, 2, (exceptional,), body),))
    second_push = messages.PushRequest(
        1, 2, DIGEST[16:], None, _CURSOR, _HIGHEST, BEGINNING, (messages.Sealed(DIGEST, DIGEST, again),), (), NOW, _TOLD
    )
    return [
        ("a request to join", messages.JoinRequest((1,), "ABCD-EFGH-JKMN-PQRS", DIGEST, SEGMENT_ID)),
        ("a reply to a newcomer", messages.JoinReply(1, ID, "Москва", 1, 1, DIGEST)),
        ("a push of one segment", push),
        ("the first push of a new incarnation", first_push),
        ("a reply to a push", messages.PushReply(1, _HIGHEST, (messages.SegmentVerdict(SEGMENT_ID, 9, 2, (exceptional,), None),))),
        ("a push of what comes again", second_push),
        ("a reply with what was in the box", opened),
        ("points that a node remembers", messages.HealRequest(1, 1, SEGMENT_ID, (BEGINNING, _CURSOR, _HIGHEST))),
        ("what a restored server still has", messages.HealReply(2, _CURSOR, _HIGHEST, point)),
        ("pages of a lost history", messages.OfferRequest(1, 2, SEGMENT_ID, _CURSOR, _HIGHEST, (messages.Offered(9, DIGEST),))),
        ("what became of them", messages.OfferReply(_HIGHEST, 3, 1)),
        ("a pull", messages.PullRequest(1, 1, SEGMENT_ID, _CURSOR, _HIGHEST, None, 10_000, _TOLD)),
        ("a pull that goes on", messages.PullRequest(1, 1, SEGMENT_ID, _CURSOR, _HIGHEST, position, 0, _TOLD)),
        ("the last page", page),
        ("a page with more to come", more),
        ("a request for a snapshot", messages.SnapshotRequest(1, 1, SEGMENT_ID, BEGINNING, 1, None, 0)),
        ("a request for the rest of one", messages.SnapshotRequest(1, 1, SEGMENT_ID, BEGINNING, 1, DIGEST, 4)),
        ("a part of a snapshot", messages.SnapshotReply(messages.Snapshot(DIGEST, _CURSOR, 9, 4096, 2), 4, b"parts", 0, 0)),
        ("a snapshot that is being made", messages.SnapshotReply(None, 0, b"", 1000, 200_000)),
        ("a request to verify", messages.VerifyRequest(1, 1, SEGMENT_ID, _CURSOR, (), None)),
        ("digests of tables", messages.VerifyReply(9, (messages.TableDigest("contact", 2, DIGEST),), (), None)),
        ("a request for ranges", messages.VerifyRequest(1, 1, SEGMENT_ID, _CURSOR, ranges, None)),
        ("digests of ranges", messages.VerifyReply(9, (), digests, None)),
        (
            "a request to verify some columns",
            messages.VerifyRequest(1, 1, SEGMENT_ID, _CURSOR, (), None, 2, (messages.Compared("contact", ("id", "name")),)),
        ),
        ("a request for rows", messages.VerifyRequest(1, 1, SEGMENT_ID, _CURSOR, (), messages.Wanted("contact", 3, key))),
        ("rows that were asked for", messages.VerifyReply(9, (), (), messages.Found(bytes([0, 2, 1]), some))),
    ]


def invalid_messages() -> list[tuple[str, str, str, bytes, str]]:
    """Return (rule, name, type, frame, code) of messages no receiver takes."""
    pull = [1, 1, SEGMENT_ID, [7, DIGEST], [9, DIGEST], None, 10, [0, 0, 0, 0]]

    def frame(place: int, value: Any) -> bytes:
        return compress(encode([*pull[:place], value, *pull[place + 1 :]]))

    good = compress(encode(pull))
    return [
        ("P-4.2", "nothing", "PullRequest", b"", "wire.malformed"),
        ("P-4.2", "plain msgpack", "PullRequest", encode(pull), "wire.malformed"),
        ("P-4.2", "half a frame", "PullRequest", good[: len(good) // 2], "wire.malformed"),
        ("P-4.2", "something behind the frame", "PullRequest", good + b"\0", "wire.malformed"),
        ("P-4.2", "two frames", "PullRequest", good + good, "wire.malformed"),
        ("P-4.4", "an element too few", "PullRequest", compress(encode(pull[:-1])), "wire.malformed"),
        ("P-4.5", "not an array", "PullRequest", compress(encode({"protocol": 1})), "wire.malformed"),
        ("P-4.5", "a text for bytes", "PullRequest", frame(2, "0123456789abcdef"), "wire.malformed"),
        ("P-4.5", "a digest of 31 bytes", "PullRequest", frame(3, [7, DIGEST[1:]]), "wire.malformed"),
        ("P-4.5", "a version below -1", "PullRequest", frame(3, [-2, DIGEST]), "wire.malformed"),
        ("P-4.5", "a version beyond 2^62", "PullRequest", frame(3, [2**62 + 1, DIGEST]), "wire.malformed"),
        ("P-4.5", "a float for a count", "PullRequest", frame(6, 10.0), "wire.malformed"),
        ("P-4.5", "true for a count", "PullRequest", frame(6, True), "wire.malformed"),
        ("P-4.5", "a count beyond 2^53", "PullRequest", frame(6, 2**53 + 1), "wire.malformed"),
        ("P-4.5", "nesting without end", "PullRequest", compress(b"\x91" * 100_000 + b"\xc0"), "wire.malformed"),
        ("P-4.5", "a code that is empty", "JoinRequest", compress(encode([[1], "", DIGEST, SEGMENT_ID])), "wire.malformed"),
        ("P-4.5", "an unknown verdict", "LateVerdict", compress(encode([SEGMENT_ID, 0, "perhaps", 1, "", ""])), "wire.malformed"),
        (
            "P-3.2",
            "more segments than a push has",
            "PushRequest",
            compress(encode([1, 1, SEGMENT_ID, None, *[[0, bytes(32)]] * 3, [0] * 65])),
            "wire.malformed",
        ),
        (
            "P-3.2",
            "more versions than anybody speaks",
            "JoinRequest",
            compress(encode([[1] * 101, "A", DIGEST, SEGMENT_ID])),
            "wire.malformed",
        ),
    ]


def message_vectors() -> dict[str, Any]:
    """Return the vectors of PROTOCOL.md §4."""
    return {
        "about": "PROTOCOL.md 4. Messages as msgpack and as frames; fields with bytes and columns (their msgpack) in hexadecimal.",
        "valid": [
            {
                "name": name,
                "type": type(message).__name__,
                "msgpack": encode(message).hex(),
                "frame": pack(message).hex(),
                "fields": message_json(message),
            }
            for name, message in valid_messages()
        ],
        "invalid": [
            {"rule": rule, "name": name, "type": type_, "frame": frame.hex(), "error": error}
            for rule, name, type_, frame, error in invalid_messages()
        ],
    }
