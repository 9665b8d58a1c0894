"""A small world for tests: a server and nodes of real code on real files in one process, with a clock that only we move.

Messages go through the wire form both ways, so nothing is shared but bytes. Where HTTP itself matters, tests/processes
runs real processes instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import node.database
from node import conflicts, verdicts
from node import held as held_work
from node.cycle import Cycle
from node.report import Report as SyncReport
from node.verify import verify, verify_and_repair
from node.writer import transaction
from schema.registry import Schema, load
from server import nodes
from server.service import Service
from sync.errors import TooLarge
from sync.limits import BODY_BYTES_MAX, MESSAGE_BYTES_MAX
from sync.messages import (
    HealReply,
    HealRequest,
    JoinRequest,
    OfferReply,
    OfferRequest,
    Page,
    PullRequest,
    PushReply,
    PushRequest,
    SnapshotReply,
    SnapshotRequest,
    VerifyReply,
    VerifyRequest,
)
from sync.wire import pack, unpack
from tests import databases, foreign

START_MS = 1_760_000_000_000


class ReplyLost(Exception):
    """The request arrived and was carried out; its reply did not come back."""


@dataclass
class Clock:
    """Time that rises by one millisecond whenever it is read; `skew` makes a node's clock wrong."""

    now: int = START_MS

    def read(self, skew: int = 0) -> int:
        self.now += 1
        return self.now + skew


@dataclass
class Link:
    """An Exchange that calls the service through the wire form. `lose` names requests whose reply gets lost."""

    world: World
    identity: str
    lose: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _kind: None
    requests: list[tuple[str, bytes]] = field(default_factory=list)

    def _carry(self, kind: str, request: Any, type_: Any, reply_type: Any) -> Any:
        self.before(kind)
        body = pack(request)
        if len(body) > BODY_BYTES_MAX:  # as node/transport.py does, and server/app.py
            raise TooLarge
        self.requests.append((kind, body))
        if len(body) > BODY_BYTES_MAX:  # as server/app.py says it
            raise TooLarge(f"The body is larger than {BODY_BYTES_MAX} bytes.")
        handle = getattr(self.world.service, kind)
        reply = pack(handle(self.identity, unpack(type_, body, MESSAGE_BYTES_MAX), self.world.clock.read()))
        if kind in self.lose:
            self.lose.remove(kind)
            raise ReplyLost(kind)
        return unpack(reply_type, reply, MESSAGE_BYTES_MAX)

    def push(self, request: PushRequest) -> PushReply:
        return self._carry("push", request, PushRequest, PushReply)  # type: ignore[no-any-return]

    def pull(self, request: PullRequest) -> Page:
        return self._carry("pull", request, PullRequest, Page)  # type: ignore[no-any-return]

    def verify(self, request: VerifyRequest) -> VerifyReply:
        return self._carry("verify", request, VerifyRequest, VerifyReply)  # type: ignore[no-any-return]

    def snapshot(self, request: SnapshotRequest) -> SnapshotReply:
        return self._carry("snapshot", request, SnapshotRequest, SnapshotReply)  # type: ignore[no-any-return]

    def heal(self, request: HealRequest) -> HealReply:
        return self._carry("heal", request, HealRequest, HealReply)  # type: ignore[no-any-return]

    def offer(self, request: OfferRequest) -> OfferReply:
        return self._carry("offer", request, OfferRequest, OfferReply)  # type: ignore[no-any-return]


@dataclass
class Node:
    """A node with its database and its link."""

    name: str
    database: node.database.Database
    link: Link
    skew: list[int]

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Run plain SQL as any program would, committed at once."""
        return self.database.connection.execute(statement, values).fetchall()

    def write(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Insert rows as one transaction of our own code."""
        with transaction(self.database) as tx:
            for table, values in rows:
                tx.insert(table, values)

    def sync(self, rows: int = 10_000) -> SyncReport:
        return Cycle(self.database, self.link, rows=rows).sync()

    def verify(self) -> bool:
        return bool(verify(self.database, self.link)["equal"])

    def compared(self) -> dict[str, Any]:
        """What `outpost node verify --json` prints."""
        return verify(self.database, self.link)

    def repaired(self) -> dict[str, Any]:
        """What `outpost node verify --repair --json` prints."""
        return verify_and_repair(self.database, self.link)

    def conflicts(self) -> list[dict[str, Any]]:
        return conflicts.listing(self.database.store)

    def resolve(self, conflict: str, side: Any = None, *values: str) -> None:
        conflicts.resolve(self.database, conflict, conflicts.Take(side, values))

    def held(self, withdrawn: bool = False) -> list[dict[str, Any]]:
        return held_work.listing(self.database.store, withdrawn)

    def unsynced(self) -> int:
        return verdicts.counts(self.database.store)[0]


class World:
    """A server and its nodes in one folder."""

    def __init__(self, folder: Path, schema: Schema | None = None) -> None:
        self.folder, self.schema, self.clock = folder, schema or load(()), Clock()
        self.database = databases.centre(folder, self.schema)
        self.service = Service(self.database)
        self.nodes: dict[str, Node] = {}

    def node(self, name: str, *scope: str) -> Node:
        """Return a node, inviting and joining it the first time."""
        if name not in self.nodes:
            with self.database.writing() as store:
                code = nodes.invite(store, name, scope, self.clock.read())
            incarnation = os.urandom(16)
            reply = self.service.join(JoinRequest((1,), code, os.urandom(32), incarnation), self.clock.read())
            skew = [0]
            database = node.database.create(
                self.folder / f"{name}.db",
                self.schema,
                lambda: self.clock.read(skew[0]),
                node=reply.node,
                name=name,
                url="",
                epoch=reply.epoch,
                incarnation=incarnation,
                box_key=reply.box_key,
            )
            self.nodes[name] = Node(name, database, Link(self, reply.node), skew)
        return self.nodes[name]

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Run plain SQL at the centre as any central program would."""
        connection = self.database.dialect.open(self.database.path)
        try:
            return connection.execute(foreign.in_words(statement), values).fetchall()
        finally:
            connection.close()

    def forbid(self, name: str, table: str, when: str, words: str, what: str = "INSERT") -> None:
        """Let another program forbid new rows of a table at the centre, or edits or deletions, as its database does that."""
        if isinstance(self.database.path, Path):
            self.sql(f"CREATE TRIGGER {name} BEFORE {what} ON {table} WHEN {when} BEGIN SELECT RAISE(ABORT, '{words}'); END")
            return
        body = f"BEGIN IF {when} THEN RAISE EXCEPTION '{words}'; END IF; RETURN {'OLD' if what == 'DELETE' else 'NEW'}; END"
        self.sql(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS '{body.replace(chr(39), chr(39) * 2)}'")
        self.sql(f"CREATE TRIGGER {name} BEFORE {what} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")

    def allow(self, name: str, table: str) -> None:
        """Take back what another program had forbidden."""
        self.sql(f"DROP TRIGGER {name}" if isinstance(self.database.path, Path) else f"DROP TRIGGER {name} ON {table}")

    def rescope(self, name: str, *scope: str) -> None:
        with self.database.writing() as store:
            nodes.rescope(store, name, scope, self.clock.read())

    def settle(self, rounds: int = 4) -> None:
        """Let every node sync until nothing moves."""
        for _ in range(rounds):
            for entry in self.nodes.values():
                entry.sync()

    def agree(self) -> bool:
        """Tell whether every node verifies equal with the centre."""
        return all(entry.verify() for entry in self.nodes.values())

    def close(self) -> None:
        self.database.close()
        databases.drop(self.database.path)
        for entry in self.nodes.values():
            entry.database.close()
