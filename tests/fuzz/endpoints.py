"""Requests without number against one centre after the other, and what must hold after each, and after all.

After each: no 5xx (but a declared 503), a reply that its reader can read, a problem document with a code of the tree, and
where it was refused no commit. After all of one centre: nodes that behave still sync and are equal, a newcomer gets
everything, the journal's chain is whole, the commands still list what there is.

Meanwhile the centre writes, moves, deletes, gives, takes and decides. No node is told what never was in its scope, and no
request changes or shows a row that nobody was entitled to, unless it released work that the centre let pass (tests/fuzz/sight.py).
"""

from __future__ import annotations

import http.client
import json
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schema.console import as_text
from server import conflicts, held_list, nodes
from server.replies import MEDIA, PROBLEM
from sync import errors, wire
from sync.digest import BEGINNING, version_point
from sync.errors import OutpostError
from sync.messages import HealReply, JoinReply, Message, OfferReply, Page, PushReply, SnapshotReply, VerifyReply
from tests.fuzz import office
from tests.fuzz.cases import Cases
from tests.fuzz.centre import Answer, Asked, Centre
from tests.fuzz.chance import seeded
from tests.fuzz.run import memory_mib
from tests.world import Node

CASES = 1000
ACT_EVERY = 15
"""Requests after which somebody at the centre does something."""

LOOPBACK = 25
"""Of the cases of a seed, how many go over a real socket."""

SECONDS_MAX = 2.0
FINDINGS_MAX = 50
REPLIES: dict[str, type[Message]] = {"/v1/push": PushReply, "/v1/pull": Page, "/v1/verify": VerifyReply, "/v1/join": JoinReply}
REPLIES |= {"/v1/heal": HealReply, "/v1/offer": OfferReply, "/v1/snapshot": SnapshotReply}


def _codes(root: type[OutpostError]) -> frozenset[str]:
    return frozenset({root.code}).union(*(_codes(child) for child in root.__subclasses__()))


@dataclass
class Findings:
    """What came of the requests."""

    kinds: Counter[str] = field(default_factory=Counter)
    replies: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    def found(self, what: str) -> None:
        """Note a finding, the first fifty in full."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(what)

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON-able values."""
        return {
            **{"requests": sum(self.kinds.values()), "kinds": dict(self.kinds), "replies": dict(self.replies.most_common())},
            **{"verdicts": dict(self.verdicts), "held because": dict(self.held), "facts": dict(self.facts)},
            **{"slowest_seconds": round(self.slowest[0], 3), "slowest": self.slowest[1], "findings": self.findings},
        }


def fuzz_endpoints(
    folder: Path, seeds: range, *, cases: int, seconds: float | None = None, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Run seeds, a thousand requests each against a centre of its own, until there were enough; return the figures."""
    findings, started = Findings(), time.monotonic()
    for seed in seeds:
        left = cases - sum(findings.kinds.values())
        run_seed(folder, seed, findings, min(CASES, left))
        if progress is not None:
            progress(sum(findings.kinds.values()), cases)
        if left <= CASES or (seconds is not None and time.monotonic() - started > seconds):
            break
    return {**findings.document(), "seconds": round(time.monotonic() - started, 1), "memory_mib": memory_mib()}


def run_seed(folder: Path, seed: int, findings: Findings, cases: int = CASES) -> None:
    """Run one centre's requests, then ask the last questions."""
    place = folder / f"seed-{seed}"
    place.mkdir()
    with seeded(seed):
        centre = Centre(place, seed)
        try:
            _run(centre, seed, findings, cases)
        except Exception:
            findings.found(f"seed {seed}: {traceback.format_exc(limit=-4)}")
        finally:
            centre.close()
            shutil.rmtree(place, ignore_errors=True)


def _run(centre: Centre, seed: int, findings: Findings, cases: int) -> None:
    office.fill(centre)
    centre.world.settle(2)
    drawn = Cases(centre)
    for number in range(cases - min(LOOPBACK, cases // 2)):
        if number % ACT_EVERY == ACT_EVERY - 1:
            findings.facts.update(office.act(centre, number))
            drawn.learn()
        _one(centre, drawn, findings, f"seed {seed}, case {number}")
    with centre.over_loopback():
        for number in range(min(LOOPBACK, cases // 2)):
            _one(centre, drawn, findings, f"seed {seed}, case {number} over loopback")
    _afterwards(centre, findings, f"seed {seed}, afterwards")


def _one(centre: Centre, cases: Cases, findings: Findings, where: str) -> None:
    kind, asked = cases.next()
    findings.kinds[kind] += 1
    before, begin, watch = centre.changes(), time.process_time(), Watch(centre)
    try:
        answer = centre.ask(asked)
    except (OSError, http.client.HTTPException, ValueError):
        findings.replies["cut"] += 1
        answer = None
    took = time.process_time() - begin
    if took > findings.slowest[0]:
        findings.slowest = (took, f"{where}, {kind}")
    if took > SECONDS_MAX:
        findings.found(f"{where}, {kind}: took {took:.1f} s")
    try:
        moved = centre.changes() != before
        findings.facts["times that work let pass was released"] += watch.check()
        if answer is not None:
            plain = _check(asked, answer, findings)
            if answer.status >= 400 and moved:
                raise AssertionError("it was refused, and yet something was committed")
            _check_sight(centre, asked, plain)
    except Exception:
        findings.found(f"{where}, {kind} {asked.method} {asked.path}: {traceback.format_exc(limit=-2)} {answer!r:.500}\n{asked!r:.600}")


class Watch:
    """What a request does to rows that nobody was entitled to, from just before it."""

    def __init__(self, centre: Centre) -> None:
        self.centre, self.head = centre, centre.head().number
        self.passed = {segment + index.to_bytes(4, "big") for segment, index in centre.all("SELECT segment, txn FROM _held WHERE approved")}

    def check(self) -> bool:
        """Tell whether it released work that the centre had let pass before. Raises AssertionError if it did not, and did anything
        to such a row.
        """
        if self.centre.head().number == self.head:
            return False  # every change of a row has a version
        done = self.centre.sight.look()
        released = {row[0] for row in self.centre.all("SELECT body FROM _journal WHERE kind = 'release' AND ver > ?", self.head)}
        assert not done or released & self.passed, "; ".join(done)
        return bool(released & self.passed)


def _check_sight(centre: Centre, asked: Asked, plain: bytes) -> None:
    """Check that an answer shows only rows that its asker was entitled to. The centre's own pages are not for nodes."""
    if asked.path.startswith("/v1/"):
        names = {text for name, text in asked.headers if name.lower() == "outpost-node"}
        foreign = centre.sight.foreign(names.pop() if len(names) == 1 else None, plain)
        assert not foreign, f"it shows what is not in the node's scope: {foreign}"


def _check(asked: Asked, answer: Answer, findings: Findings) -> bytes:
    """Check that an answer is one of the protocol's; return all it says, out of its frames."""
    kind = answer.headers.get("content-type", "")
    if answer.status >= 400:
        assert kind == PROBLEM or asked.method == "HEAD", "a refusal without a problem document"
        document = json.loads(answer.body) if answer.body else {"code": str(answer.status), "status": answer.status}
        findings.replies[document["code"]] += 1
        assert answer.status < 500 or (answer.status == 503 and document["code"] == errors.TooBusy.code), "the server failed"
        assert document["status"] == answer.status
        assert not answer.body or document["code"] in _codes(OutpostError) | {"http.error"}
        return answer.body + repr(answer.headers).encode()
    findings.replies[f"{asked.path} {answer.status}"] += 1
    plain = answer.body + repr(answer.headers).encode()
    if kind == MEDIA:
        reply = wire.unpack(REPLIES[asked.path], answer.body)
        plain = wire.expand(answer.body, 1 << 26)
        if isinstance(reply, Page):
            plain += b"".join(wire.expand(sealed.body, 1 << 26) for sealed in reply.sealed)
        if isinstance(reply, PushReply):
            plain += b"".join(wire.expand(verdict.body, 1 << 26) for verdict in reply.verdicts if verdict.body is not None)
            _count(reply, findings)
    return plain


def _count(reply: PushReply, findings: Findings) -> None:
    for verdict in reply.verdicts:
        findings.verdicts["accepted"] += verdict.transactions - len(verdict.exceptions)
        for exception in verdict.exceptions:
            findings.verdicts[exception.verdict] += 1
            findings.held[exception.code or exception.verdict] += 1


def _afterwards(centre: Centre, findings: Findings, where: str) -> None:
    """Ask what must still hold. Raises AssertionError, or whatever went wrong."""
    world = centre.world
    assert centre.all("PRAGMA integrity_check") == [("ok",)], where
    point = BEGINNING
    for number, digest, kind, body, at_ms in centre.all("SELECT ver, digest, kind, body, at_ms FROM _journal ORDER BY ver"):
        point = version_point(point, kind, body, at_ms)
        assert (point.number, point.digest) == (number, digest), f"{where}: the journal's chain breaks at {number}"
    assert point == centre.head(), where
    for number, node in enumerate(centre.honest):
        node.write([("contact", {"id": f"honest-{number}", "kind": "person", "name": "Ann", "branch_id": ("LON", "EDI")[number]})])
        node.sql("UPDATE contact SET phone = '1' WHERE id LIKE '%c1'")
    world.settle(3)
    newcomer = centre.honest_node("newcomer", "branch:LON", "branch:EDI", "owner:e0", "owner:e2")
    world.settle(1)
    assert world.agree(), f"{where}: honest nodes are not equal with the centre"
    for name, node in world.nodes.items():
        assert node.unsynced() == 0, f"{where}: {name} has work that does not go"
    assert newcomer.sql("SELECT COUNT(*) FROM contact WHERE id LIKE 'honest-%'") == [(2,)], where
    findings.facts["centres where honest nodes agreed"] += 1
    for name in ("_held", "_conflict", "_tombstone", "_journal", "_refused_key", "_incarnation"):
        findings.facts[f"rows of {name}"] += centre.all(f"SELECT COUNT(*) FROM {name}")[0][0]
    _commands(centre)
    findings.facts.update(office.decide(centre))
    world.settle(2)
    assert world.agree(), f"{where}: not equal after the centre decided on held work"
    centre.sight.look()
    for node in world.nodes.values():
        foreign = centre.sight.foreign(node.link.identity, _everything(centre, node))
        assert not foreign, f"{where}: {node.name} has what is not in its scope: {foreign}"


def _everything(centre: Centre, node: Node) -> bytes:
    """Return all that a node's tables and its conflicts show."""
    rows = [node.sql(f'SELECT * FROM "{table.name}"') for table in centre.world.schema.tables]
    return repr((rows, node.conflicts(), node.held())).encode("utf-8", "backslashreplace")


def _commands(centre: Centre) -> None:
    """What people ask the centre and nodes for is still told."""
    with centre.world.database.reading() as store:
        for listing in (nodes.listing(store), held_list.listing(store), conflicts.listing(store)):
            as_text({"rows": listing})
    for node in centre.honest:
        as_text({"rows": [*node.conflicts(), *node.held()]})
