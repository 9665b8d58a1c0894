"""Everything that reads bytes of a peer, of a file or of our own bookkeeping, and what may come of it.

A target draws a case from a Mutator, reads it, and where it could be read writes it again: what comes back must be the
same. Whatever is raised must be an error of our tree; what reads only what we wrote ourselves may also say ValueError.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx
import msgspec

from node.transport import _Reply
from schema.images import pack_values, unpack_tuple, unpack_values
from schema.importer.errors import ImportFailed
from schema.importer.reader import open_source
from schema.keys import key_parts, key_text
from sync import signature, wire
from sync.builder import SegmentBuilder
from sync.change import Insert, Transaction, Update
from sync.encoding import encode_column
from sync.errors import OutpostError
from sync.limits import JOIN_BYTES_MAX, MESSAGE_BYTES_MAX
from sync.messages import (
    JoinRequest,
    Message,
    PushReply,
    Segment,
    Values,
)
from sync.policies.union import between, canonical, members, onto
from sync.policy import Cell, NoDifference, policies
from sync.rows import rows_of, tuple_of
from sync.segment import OpenSegment, read_segment, transactions
from sync.values import RawText, is_clean, text_value, value_order
from tests.fuzz import corpus
from tests.fuzz.mutate import BLOBS, FLOATS, NUMBERS, TEXTS, Mutator

MESSAGES: tuple[type[Message], ...] = tuple(type_ for type_ in corpus.plains() if type_ is not Segment)
"""Every message that travels, as the vectors name them."""
STORED = (OutpostError, ValueError, TypeError, RecursionError)
"""What reading our own bookkeeping may raise when somebody has damaged it."""


class Unfaithful(AssertionError):
    """What was read, written and read again is not the same."""


@dataclass(frozen=True)
class Target:
    """One decoder: `case` draws input, `read` reads it and, where it can, writes and reads it again."""

    name: str
    share: int  # of the executions, beside the others
    case: Callable[[Mutator], Any]
    read: Callable[[Any], object]
    allowed: tuple[type[BaseException], ...] = (OutpostError,)
    pool: Sequence[bytes] = ()


def same(one: object, other: object, what: str) -> None:
    if one != other:
        raise Unfaithful(f"{what}: {one!r:.200} came back as {other!r:.200}")


def exact(values: Sequence[Any]) -> list[tuple[type, str]]:
    return [(type(value), repr(value)) for value in values]


# --- messages ------------------------------------------------------------------------------------------------------------


def message(type_: type[Message], bytes_max: int) -> Iterator[Target]:
    """The frame with its message inside, and the message alone (ten times as many: no compression is between)."""
    plains = corpus.plains()[type_]
    frames = [wire.compress(plain) for plain in plains] + corpus.invalid_frames().get(type_, [])

    def frame(mutator: Mutator) -> bytes:
        if mutator.random.random() < 0.2:
            return mutator.flip(mutator.random.choice(frames))
        return mutator.frame(mutator.packed(mutator.random.choice(plains)))

    def read(data: bytes) -> None:
        again(type_, wire.unpack(type_, data, bytes_max))

    def read_plain(data: bytes) -> None:
        if type_.__name__.endswith("Request") and type_ is not JoinRequest:  # they begin with the protocol version
            wire.protocol_of(data)
        again(type_, wire.decode(type_, data))

    yield Target(f"frame of {type_.__name__}", 2, frame, read, pool=frames)
    yield Target(type_.__name__, 5, lambda mutator: mutator.packed(mutator.random.choice(plains)), read_plain, pool=plains)


def again(type_: type[Message], found: Message) -> None:
    data = msgspec.msgpack.encode(found)
    same(data, msgspec.msgpack.encode(wire.unpack(type_, wire.compress(data))), type_.__name__)


def read_json(data: bytes) -> None:
    found = wire.unpack_json(JoinRequest, data)
    same(found, wire.unpack_json(JoinRequest, wire.pack_json(found)), "JSON")


# --- columns, segments ---------------------------------------------------------------------------------------------------


def column_case(mutator: Mutator) -> tuple[int, bytes]:
    rows, column = mutator.random.choice(corpus.columns())
    if mutator.random.random() < 0.2:
        rows = mutator.random.choice((0, 1, rows + 1, max(rows - 1, 0), 8, 500, 501, 60_000))
    return rows, mutator.packed(column)


def read_column(case: tuple[int, bytes]) -> None:
    """As a few values, and as a column of a page."""
    rows, column = case
    few = wire.decode(Values, b"\x92" + msgspec.msgpack.encode(rows) + column)
    (values,) = rows_of([few.column], rows, 1)
    again_values = msgspec.msgpack.encode(encode_column(values))
    (back,) = rows_of([wire.decode(Values, b"\x92" + msgspec.msgpack.encode(rows) + again_values).column], rows, 1)
    same(exact(values), exact(back), "column")
    tuple_of(few)


def segment_case(mutator: Mutator) -> bytes:
    random = mutator.random
    if random.random() < 0.05:
        return mutator.flip(random.choice(corpus.invalid_frames()[Segment]))
    return mutator.frame(mutator.packed(random.choice(corpus.plains()[Segment])))


def read_whole_segment(data: bytes) -> None:
    """Read it, take its transactions one by one, seal them again."""
    segment = read_segment(data)
    keys = {block.table: block.columns[:1] for block in segment.inserts}
    works = transactions(segment, keys)
    if segment.transactions > 400 or not _uniform(segment):
        return
    builder = SegmentBuilder()
    for work in works:
        index = builder.begin(work.wall, work.base)
        for op in work.ops:
            builder.add(index, op)
        for conflict in work.decisions:
            builder.decide(index, conflict)
        for withdrawn in work.withdrawals:
            builder.withdraw(index, withdrawn)
    back = read_segment(builder.build(segment.id, segment.schema, segment.first, segment.part))
    for one, other in zip(works, transactions(back, keys), strict=True):
        same(_shape(one), _shape(other), "transaction")


def _uniform(segment: OpenSegment) -> bool:
    """Tell whether blocks agree on the columns of cells and the width of keys, as a declaration makes ours do."""
    cells: dict[Any, Any] = {}
    for updates in segment.updates:
        cells.setdefault((updates.table, updates.cell), set()).add((updates.columns, *{len(key) for key in updates.key}))
    for deletes in segment.deletes:
        cells.setdefault(deletes.table, set()).update(len(key) for key in deletes.key)
    return all(len(found) == 1 for found in cells.values() if found)


def _shape(work: Transaction) -> object:
    """What makes a transaction the same, whatever the order of its blocks."""
    ops = Counter()
    for op in work.ops:
        parts = [repr((op.table, op.key, edit)) for edit in op.edits] if isinstance(op, Update) else [repr(op)]
        ops.update(parts if not isinstance(op, Insert) else [repr((op.table, sorted(op.values.items()), op.base, op.since))])
    return (work.index, work.number, work.wall, work.base, sorted(work.decisions), work.withdrawals, ops)


# --- headers, values, policies ---------------------------------------------------------------------------------------------


def header_case(mutator: Mutator) -> list[tuple[str, str]]:
    vectors = corpus.load_once("signature.json")
    vector = mutator.random.choice(vectors["valid"] + vectors["invalid"])
    headers = [tuple(entry) for entry in vector["headers"]]
    for _ in range(mutator.random.choice((1, 1, 2))):
        at = mutator.random.randrange(len(headers) + 1)
        match mutator.random.randrange(5):
            case 0:
                headers[at : at + 1] = []
            case 1:
                headers[at:at] = headers[at : at + 1] * 2
            case _ if at < len(headers):
                headers[at] = (headers[at][0], mutator.text(headers[at][1]))
    return headers


def read_headers(headers: list[tuple[str, str]]) -> None:
    claim = signature.read(headers)
    assert signature.NODE.fullmatch(claim.node)
    assert signature.NONCE.fullmatch(claim.nonce)
    assert (len(claim.digest), len(claim.signature)) == (32, 64)
    signature.check(claim, bytes.fromhex(corpus.load_once("signature.json")["public_key"]), "POST", "/v1/push", b"hello")


def value(mutator: Mutator) -> Any:
    """Any value a cell may hold."""
    random = mutator.random
    match random.randrange(6):
        case 0:
            return None
        case 1:
            return max(-(2**63), min(random.choice(NUMBERS), 2**63 - 1))
        case 2:
            return next(found for found in iter(lambda: random.choice(FLOATS), None) if found == found)
        case 3:
            return random.choice(BLOBS)
        case 4:
            return text_value(mutator.flip(random.choice(("Ann", "Анна", '["a","b"]', '["é"]', "[1]", "")).encode()))
    return random.choice([text for text in TEXTS if is_clean(text)])


def read_text(data: bytes) -> None:
    found = text_value(data)
    same(data, found.raw if isinstance(found, RawText) else found.encode(), "text")
    value_order(found)


def policy_case(mutator: Mutator) -> tuple[str, list[Any]]:
    name = mutator.random.choice(sorted(policies()))
    wide = name in ("latest", "first", "server", "ask") and mutator.random.random() < 0.3
    return name, [(value(mutator), value(mutator)) if wide else value(mutator) for _ in range(3)]


def decide(case: tuple[str, list[Any]]) -> None:
    """Every policy decides about anything, and a set keeps its laws."""
    name, (base, mine, theirs) = case
    decision = policies()[name](Cell(base, 1, "a"), Cell(mine, 2, "b"), Cell(theirs, 3, "a"))
    assert decision.side in ("mine", "theirs", "both")
    if name == "union" and isinstance(mine, str) and isinstance(base, str):
        same(members(mine), members(canonical(members(mine))), "set")
        same(canonical(members(mine)), onto(base, between(base, mine)), "difference")


# --- the node's replies, our own bookkeeping, files ---------------------------------------------------------------------------

PROBLEM = (
    b'{"type":"urn:outpost:problem:history.forked","title":"t","status":409,"detail":"d","code":"history.forked","retry":false,"x":[1]}'
)


def reply_case(mutator: Mutator) -> tuple[int, str, bytes]:
    random = mutator.random
    if random.random() < 0.5:
        body = mutator.flip(PROBLEM) if random.random() < 0.7 else mutator.deep().replace(b"\x91", b"[").replace(b"\x81", b'{"a":')
        return random.choice((400, 401, 409, 500, 503, 200)), "application/problem+json", body
    kind = random.choice(("application/json", "text/html", "application/vnd.outpost.v1+msgpack+zstd"))
    return random.choice((200, 200, 302, 502)), kind, mutator.frame(mutator.packed(random.choice(corpus.plains()[PushReply])))


def read_reply(case: tuple[int, str, bytes]) -> None:
    status, kind, body = case
    reply = _Reply(status, httpx.Headers({"content-type": kind}), body)
    if kind == "application/json":
        reply.json()
    reply.message(PushReply)


def read_image(data: bytes) -> None:
    found = unpack_values(data)
    same(repr(found), repr(unpack_values(pack_values(found))), "image")
    unpack_tuple(data)


def read_key(case: tuple[str, int]) -> None:
    key = key_parts(*case)
    if all(isinstance(part, str | bytes | RawText) for part in key) and not any(isinstance(part, str) and "\0" in part for part in key):
        same(key, key_parts(key_text(key), len(key)), "key")


def key_case(mutator: Mutator) -> tuple[str, int]:
    parts = tuple(value(mutator) for _ in range(mutator.random.choice((1, 2, 3))))
    text = key_text(tuple(part if isinstance(part, str | bytes | RawText) else "k" for part in parts))
    return (mutator.text(text) if mutator.random.random() < 0.6 else text), len(parts)


CSV = (
    b'id,name,qty,price\r\n1,Ann,2,3.50\r\n2,"a ""b"", c",1,-4\r\n\r\n3,"two\nlines",5,\r\n',
    'id;имя;кол\n1;Анна;2\n2;"Б";3\n'.encode("cp1251"),
    "\ufeffid\tname\n1\té\n".encode(),
)


def csv_target(folder: Path) -> Target:
    plain, packed = folder / "fuzz.csv", folder / "fuzz.csv.gz"

    def case(mutator: Mutator) -> tuple[Path, bytes]:
        data = mutator.flip(mutator.random.choice(CSV))
        if mutator.random.random() < 0.2:
            zipped = gzip.compress(data, 1)
            return packed, mutator.flip(zipped) if mutator.random.random() < 0.7 else zipped
        return plain, data

    def read(case: tuple[Path, bytes]) -> None:
        path, data = case
        path.write_bytes(data)
        source = open_source(path)
        for row in source.records():
            assert row.line > 0
            assert len(row.cells) == len(source.header) or hasattr(row, "reason")

    return Target("CSV file", 1, case, read, (ImportFailed,), pool=CSV)


def all_targets(folder: Path) -> list[Target]:
    """Return every decoder. `folder` takes the CSV files."""
    found = [target for type_ in MESSAGES for target in message(type_, JOIN_BYTES_MAX if type_ is JoinRequest else MESSAGE_BYTES_MAX)]
    segments = corpus.plains()[Segment]
    as_json = [wire.pack_json(wire.decode(JoinRequest, plain)) for plain in corpus.plains()[JoinRequest]]
    images = [pack_values(values) for values in (("a", 1, None, b"x", RawText(b"\xff")), {"a": 1.5, "b": RawText(b"\0")}, ())]
    return [
        *found,
        Target("column", 20, column_case, read_column),
        Target("segment", 15, segment_case, read_whole_segment, pool=segments),
        Target("JSON request to join", 2, lambda mutator: mutator.flip(mutator.random.choice(as_json)), read_json, pool=as_json),
        Target("signature headers", 5, header_case, read_headers),
        Target("text of a cell", 3, lambda mutator: mutator.flip(mutator.random.choice(BLOBS)), read_text),
        Target("policies", 8, policy_case, decide, (NoDifference,)),
        Target("reply of a server", 4, reply_case, read_reply),
        Target("image in the bookkeeping", 4, lambda mutator: mutator.packed(mutator.random.choice(images)), read_image, STORED, images),
        Target("key in the bookkeeping", 4, key_case, read_key, STORED),
        csv_target(folder),
    ]


def mutator_for(target: Target, random: Random) -> Mutator:
    """Return a mutator that splices from the target's own inputs."""
    return Mutator(random, target.pool, corpus.trees())
