"""Small inputs that ask for much: what they cost is measured in a process of their own, one each.

python -m tests.fuzz.bombs          a line of JSON for each: name, bytes, seconds, mebibytes, what came of it
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from sync import wire
from sync.encoding import encode_column
from sync.errors import OutpostError
from sync.limits import MESSAGE_BYTES_MAX, SEGMENT_BLOCKS_MAX, SEGMENT_ROWS_MAX
from sync.messages import Page, Values
from sync.rows import rows_of
from tests.fuzz.decoders import read_whole_segment
from tests.fuzz.mutate import array, bomb


def bombs() -> Iterator[tuple[str, Callable[[bytes], object], bytes]]:
    """Yield (name, reader, small input that asks for much)."""
    size = MESSAGE_BYTES_MAX - 4096
    empty = msgspec.msgpack.encode(encode_column([]))
    nulls = b"\x91\0"
    numbers = msgspec.msgpack.encode(encode_column([0]))
    wide = msgspec.msgpack.encode([f"c{n}" for n in range(500)])

    def a_segment(deletes: bytes = b"\x90", inserts: bytes = b"\x90", updates: bytes = b"\x90", decisions: bytes = b"\x90") -> bytes:
        return b"\x9c\xc4\x10" + bytes(16) + b"\x01\x01\x01\0" + numbers + numbers + decisions + deletes + inserts + updates + b"\x90"

    def constant(rows: int, number: int = 0) -> bytes:
        return msgspec.msgpack.encode(encode_column([number] * rows))

    ints = constant(SEGMENT_ROWS_MAX)
    many = msgspec.msgpack.encode(SEGMENT_ROWS_MAX)
    columns = array(500) + nulls * 500
    block = b"\xa4sale" + wide + many + ints * 3 + columns
    yield "500 columns of nulls, 50,000 rows", read_whole_segment, wire.compress(a_segment(inserts=b"\x91\x97" + block))
    update = b"\xa4sale\xa1a" + wide + many + ints * 4 + columns * 3
    yield "updates of 500 columns, 50,000 rows", read_whole_segment, wire.compress(a_segment(updates=b"\x91\x9b" + update))
    thin = b"\x97\xa4sale" + msgspec.msgpack.encode(["c"]) + b"\0" + empty * 3 + b"\x91" + empty
    yield "empty blocks", read_whole_segment, wire.compress(a_segment(inserts=array(SEGMENT_BLOCKS_MAX) + thin * SEGMENT_BLOCKS_MAX))
    broad = b"\x97\xa4sale" + wide + b"\0" + empty * 3 + array(500) + empty * 500
    yield (
        "empty blocks of 500 columns",
        read_whole_segment,
        wire.compress(a_segment(inserts=array(SEGMENT_BLOCKS_MAX) + broad * SEGMENT_BLOCKS_MAX)),
    )
    for name, head, unit in (("texts", b"\x92\x04", b"\xa0"), ("blobs", b"\x92\x06", b"\xc4\0")):
        count = size // len(unit)
        yield f"{count:,} {name} in a column", lambda data: wire.unpack(Values, data), bomb(unit, count, b"\x92\1" + head + array(count))
    yield (
        "integers in a mixed column",
        lambda data: wire.unpack(Values, data),
        bomb(b"\0", size, b"\x92\1\x97\x07\xc4\0" + array(size), b"\x90\x90\x90\x90"),
    )
    yield "decisions", read_whole_segment, bomb(b"\xc0", size, a_segment()[:-5] + array(size))
    yield "a map of many", lambda data: wire.unpack(Values, data), bomb(b"\0", size, b"\xdf" + array(size // 2)[1:])
    yield "arrays in arrays", lambda data: wire.unpack(Page, data), bomb(b"\x91", size)
    yield (
        "a text of a message's size",
        lambda data: wire.unpack(Values, data),
        bomb(b"a", size, b"\x92\1\x92\x04\x91\xdb" + array(size)[1:]),
    )
    text = msgspec.msgpack.encode("a" * 2**20)
    yield (
        "one long text, 60,000 times",
        lambda data: rows_of([wire.unpack(Values, data).column], 60_000, 1),
        wire.compress(b"\x92\1\x94\x08\x01\x92\x04\x91" + text + b"\xc4\0"),
    )


SECONDS_MAX = 2.0
"""Of processor time: a second where nothing else runs; a machine that tests is seldom alone."""

MEMORY_MIB_MAX = 600


def costly(entry: dict[str, Any]) -> bool:
    """Tell whether a measured bomb did what it should not."""
    return bool(entry["seconds"] > SECONDS_MAX or entry["memory_mib"] > MEMORY_MIB_MAX or entry["result"].startswith(("crash", "died")))


def measure() -> Iterator[dict[str, Any]]:
    """Yield what each bomb cost."""
    for name, read, data in bombs():
        end, begin = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(begin, json.dumps({"name": name, "bytes": len(data), **_cost(read, data)}).encode())
            os._exit(0)
        os.close(begin)
        with os.fdopen(end, "rb") as told:
            answer = told.read()
        os.waitpid(child, 0)
        yield json.loads(answer) if answer else {"name": name, "bytes": len(data), "seconds": 0.0, "memory_mib": 0, "result": "died"}


def _cost(read: Callable[[bytes], object], data: bytes) -> dict[str, Any]:
    before, begin, result = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), "read"
    try:
        read(data)
    except OutpostError as error:
        result = error.code
    except BaseException as error:
        result = f"crash: {error!r}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    return {"seconds": round(time.process_time() - begin, 3), "memory_mib": grown, "result": result}


if __name__ == "__main__":
    for entry in measure():
        print(json.dumps(entry), flush=True)
