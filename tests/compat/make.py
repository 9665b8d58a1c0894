"""Keep databases and traffic of today's code for the code to come: run once for each release, from its own tree.

    python tests/compat/make.py v2       writes tests/compat/v2/: server.db, k1.db, k2.db, traffic (zstd), about.json

What is kept holds every kind of work under way: sealed and unsent, sent without an answer, not captured yet, held, and a
conflict that waits for a person. A folder that was released is never made again; a new release adds its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import msgspec
import zstandard

from schema.registry import load
from sync.limits import MESSAGE_BYTES_MAX, PROTOCOL_VERSIONS
from sync.wire import pack, unpack
from tests.world import Link, Node, ReplyLost, World

LEVEL = 19
SALES = 12


class Recorder(Link):
    """A link that keeps every request with its reply."""

    kept: list[tuple[str, str, bytes, bytes]]

    def _carry(self, kind: str, request: Any, type_: Any, reply_type: Any) -> Any:
        body = pack(request)
        handle = getattr(self.world.service, kind)
        reply = pack(handle(self.identity, unpack(type_, body, MESSAGE_BYTES_MAX), self.world.clock.read()))
        self.kept.append((self.identity, kind, body, reply))
        if kind in self.lose:
            self.lose.remove(kind)
            raise ReplyLost(kind)
        return unpack(reply_type, reply, MESSAGE_BYTES_MAX)


def sell(node: Node, number: int) -> int:
    """Record a sale with a line and a payment by plain SQL; return its total."""
    total = 100 * number + 99
    key = f"{node.name}-{number}"
    node.sql(
        "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor) VALUES (?, ?, 'sale', 'LON', ?, 'GBP', ?)",
        key, key, 1_760_000_000_000 + number, total,
    )  # fmt: skip
    node.sql(
        "INSERT INTO sale_line (id, sale_id, name, qty_milli, unit_price_e4, amount_minor) VALUES (?, ?, 'tea', 1000, ?, ?)",
        f"{key}-1", key, total * 100, total,
    )  # fmt: skip
    return total


def work(world: World, kept: list[tuple[str, str, bytes, bytes]]) -> dict[str, Any]:
    """Let two nodes and the centre work; return what must be true once everything is synced."""
    k1, k2 = world.node("k1", "branch:LON"), world.node("k2", "branch:LON", "branch:MAN")
    for node in (k1, k2):
        node.link = Recorder(world, node.link.identity)
        node.link.kept = kept
    world.sql("INSERT INTO product (id, name) VALUES ('p1', 'Tea')")
    k1.sql("INSERT INTO contact (id, kind, name, note, city, branch_id) VALUES ('ann', 'person', 'Ann', 'first', 'York', 'LON')")
    total = sum(sell(k1, number) for number in range(SALES))
    world.settle()
    for node, note in ((k1, "from k1"), (k2, "from k2")):
        node.sql("UPDATE contact SET note = ? WHERE id = 'ann'", note)
        node.sync()
    k1.sql("INSERT INTO contact (id, kind, name, branch_id) VALUES ('far', 'person', 'Far away', 'MAN')")  # held: no right
    k1.sync()
    world.settle()
    assert k2.verify()
    assert k1.verify()
    total += sell(k1, SALES)  # sent, the answer is lost
    k1.link.lose = ["push"]
    try:
        k1.sync()
    except ReplyLost:
        total += sell(k1, SALES + 1)  # sealed, not sent
    with k1.database.writing() as store:
        from node import outbox

        outbox.seal(store, world.clock.read())
    total += sell(k1, SALES + 2)  # not captured yet
    k2.sql("UPDATE contact SET city = 'Leeds' WHERE id = 'ann'")
    world.sql("UPDATE product SET name = 'Green tea' WHERE id = 'p1'")
    return {"sales": SALES + 3, "total_minor": total, "city": "Leeds", "product": "Green tea", "held": 1, "open_conflicts": 1}


def main(name: str) -> None:
    """Write one folder of the series."""
    folder = Path(__file__).resolve().parent / name
    kept: list[tuple[str, str, bytes, bytes]] = []
    with tempfile.TemporaryDirectory() as scratch:
        world = World(Path(scratch))
        expected = work(world, kept)
        clock = world.clock.now
        nodes = {node.link.identity: node.name for node in world.nodes.values()}
        world.close()
        folder.mkdir(exist_ok=True)
        for file in ("server.db", "k1.db", "k2.db"):
            _write(folder / f"{file}.zst", (Path(scratch) / file).read_bytes())
        _write(folder / "traffic.zst", msgspec.msgpack.encode(kept))
    about = {
        "made": datetime.now(UTC).date().isoformat(),
        "protocol": PROTOCOL_VERSIONS[-1],
        "schema": load(()).version,
        "clock_ms": clock,
        "nodes": nodes,
        "messages": len(kept),
        "expected": expected,
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(zstandard.ZstdCompressor(level=LEVEL).compress(data))


if __name__ == "__main__":
    main(sys.argv[1])
