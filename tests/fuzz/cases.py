"""Requests that a centre may get: good ones, spoiled ones, and well formed ones that make no sense.

work() ─► segments of odd transactions ─► push() ─┐
points, positions, incarnations ─► pull(), verify() ─┴─► spoiled as a tree or as bytes, signed all the same ─► next()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from schema.declare import Kind, Table
from server.replies import MEDIA
from sync import box, wire
from sync.builder import SegmentBuilder
from sync.change import NEVER, Delete, Edit, Insert, Op, Update, Withdrawn
from sync.digest import segment_point
from sync.messages import (
    Again,
    Exceptional,
    HealRequest,
    JoinRequest,
    KeyRange,
    Message,
    Offered,
    OfferRequest,
    Page,
    Parent,
    Point,
    Position,
    PullRequest,
    PushRequest,
    Sealed,
    Segment,
    SnapshotRequest,
    Told,
    VerifyRequest,
    Wanted,
)
from sync.rows import columns_of, values_of
from tests.fuzz import corpus
from tests.fuzz.centre import Asked, Attacker, Centre, Headers
from tests.fuzz.decoders import value
from tests.fuzz.mutate import NUMBERS, TEXTS, Mutator

BRANCHES = ("LON", "EDI", "SEC", "VLT", "", "none", "LON" * 70)
PATHS = ("/v1/push", "/v1/pull", "/v1/verify", "/v1/heal", "/v1/offer", "/v1/snapshot", "/v1/join", "/v1/nonce", "/v1/health")
PAGES = ("/v1/health", "/", "/", "/console/console.css", "/console/icon.svg")
ODD_PATHS = ("/v1", "/v1/push/", "//v1/push", "/v2/push", "/console/../server.db", "/console/x.css", "/v1/push%00", "/docs", "/V1/PUSH")
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "BREW")
JSON = "application/json"
RARE = 0.04
"""How often one field of a request is odd: there are twenty of them, and most requests should come far."""


class Cases:
    """Draws requests to one centre. `kinds`: how often each kind came."""

    def __init__(self, centre: Centre) -> None:
        self.centre, self.random = centre, centre.random
        self.mutator = Mutator(self.random, corpus.frames(), corpus.trees())
        self.tables: Sequence[Table] = centre.world.schema.tables
        self.ours = [table for table in self.tables if table.kind is not Kind.REFERENCE]
        self.keys: dict[str, list[str]] = {}
        self.learn()
        self.sent: list[tuple[Attacker, PushRequest]] = []
        self.asked: list[Asked] = []

    def learn(self) -> None:
        """Take notice of the keys of all rows there are or were: an attacker may have come by any."""
        for table in self.tables:
            known = self.keys.setdefault(table.name, [])
            known += [key for key in self._ids(table) if key not in known]

    def _ids(self, table: Table) -> list[str]:
        found = [row[0] for row in self.centre.all(f'SELECT DISTINCT "{table.key[0]}" FROM "{table.name}" LIMIT 200')]
        found = [key for key in found if isinstance(key, str)]
        return [*found, *(f"{table.name}-{number}" for number in range(6))]

    def next(self) -> tuple[str, Asked]:
        """Return a kind of request and one of it."""
        kinds: tuple[tuple[int, str, Callable[[], Asked]], ...] = (
            (30, "push", self._push),
            (10, "push spoiled", self._push_spoiled),
            (6, "push of a spoiled segment", self._push_of_spoiled_segment),
            (5, "push again", self._push_again),
            (12, "pull", self._pull),
            (6, "pull spoiled", lambda: self._spoiled("/v1/pull", self._pull_request(self._who()))),
            (4, "verify", self._verify),
            (3, "verify spoiled", lambda: self._spoiled("/v1/verify", self._verify_request(self._who()))),
            (1, "heal", self._heal),
            (5, "offer", self._offer),
            (3, "snapshot", self._snapshot),
            (8, "join", self._join),
            (2, "nonce", lambda: Asked("POST", "/v1/nonce", [], self.mutator.flip(b"{}"))),
            (3, "page", lambda: Asked("GET", self.random.choice(PAGES), self._some_headers())),
            (8, "headers", self._headers),
            (4, "address", self._address),
            (1, "sent again as it was", self._replay),
        )
        draw = self.random.randrange(sum(share for share, _, _ in kinds))
        for share, name, make in kinds:
            draw -= share
            if draw < 0:
                asked = make()
                self.asked = [*self.asked[-30:], asked]
                return name, asked
        raise AssertionError("unreachable")

    def _who(self) -> Attacker:
        who = self.random.choice(self.centre.attackers)
        lives = [row[0] for row in self.centre.all("SELECT id FROM _incarnation WHERE node = ? ORDER BY inc DESC LIMIT 3", who.number)]
        return replace(who, incarnation=self.random.choice((lives[0], lives[0], *lives)))

    def _one_of(self, *often: Any, rare: Sequence[Any]) -> Any:
        return self.random.choice(rare) if self.random.random() < RARE else self.random.choice(often)

    # --- work --------------------------------------------------------------------------------------------------------------

    def work(self, first: int) -> bytes:
        """Return a segment of one to four transactions, most of which a till would not write."""
        random, builder = self.random, SegmentBuilder({} if self.random.random() < 0.5 else self.centre.world.schema.rank)
        head = self.centre.head().number
        part = self._one_of(0, 0, 0, rare=(1, 2))
        for _ in range(1 if part else random.choice((1, 1, 2, 4))):
            base = self._one_of(head, head, max(head - 2, 0), 0, rare=(NEVER, head + 1, 2**53, 2**62))
            wall = self._one_of(self.centre.world.clock.now, rare=(0, -(2**53), 2**53, 1))
            index = builder.begin(wall, base)
            for _ in range(random.choice((0, 1, 1, 2, 3, 6))):
                builder.add(index, self._op(min(base, head) if base >= 0 else base, wall))
            if random.random() < 0.2:
                builder.decide(index, self._conflict())
            if random.random() < 0.1:
                builder.withdraw(index, Withdrawn(*self._some_work(), random.random() < 0.5))
        name = random.choice(
            [row[0] for row in self.centre.all("SELECT segment FROM _journal WHERE segment IS NOT NULL LIMIT 50")] or [bytes(16)]
        )
        return builder.build(self._one_of(random.randbytes(16), rare=(bytes(16), name)), self._one_of(1, rare=(0, 2, 2**53)), first, part)

    def _some_work(self) -> tuple[bytes, int]:
        """Name a transaction: held, of anybody, or none."""
        held = self._sample("SELECT segment, txn FROM _held ORDER BY id LIMIT 50")
        return self._one_of(*(held or [(bytes(16), 0)]), rare=((self.random.randbytes(16), 0), (bytes(16), 2**53)))  # type: ignore[no-any-return]

    def _sample(self, sql: str) -> list[Any]:
        """Return up to three of some rows of the centre's."""
        found = self.centre.all(sql)
        return self.random.sample(found, min(3, len(found)))

    def _conflict(self) -> Any:
        """Return the id of a conflict: anybody's, or nobody's."""
        found = [row[0] for row in self.centre.all("SELECT id FROM _conflict ORDER BY ver DESC LIMIT 20")]
        return self._one_of(*(found or [bytes(16)]), rare=(bytes(16), self.random.randbytes(16)))

    def _op(self, base: int, wall: int) -> Op:
        random = self.random
        table = random.choice(self.tables if random.random() < 0.1 else self.ours)
        odd = random.choice(("no_such", "_node", "sqlite_master", "contact "))
        name = table.name if random.random() > 0.01 else f"{odd}{len(table.key)}"
        key = (
            self._one_of(*self.keys[table.name], rare=(*TEXTS[1:2], "k" * 513, "\u2028", 5, None, 1.5, b"k")),
            *(self._value("text", "tag", False) for _ in table.key[1:]),
        )
        known = self._one_of(base, rare=(NEVER, 0)) if base > 0 else base
        since = self._one_of(1, NEVER, rare=(0, 2**62, -5))
        match random.randrange(5 if not table.immutable or random.random() < 0.1 else 2):
            case 0 | 1:
                columns = [column for column in table.columns if column.name in table.key or not column.nullable or random.random() < 0.6]
                values = {column.name: self._value(column.type, column.name, column.nullable) for column in columns}
                values |= dict(zip(table.key, key, strict=True))
                if random.random() < 0.01:
                    values[self._one_of("no_such", rare=("_rid", "rowid"))] = 1
                if random.random() < 0.01:
                    values.pop(random.choice(list(values)))
                return Insert(name, key, values or {"id": "x"}, NEVER if random.random() < 0.8 else known, NEVER)
            case 2 | 3 if table.cells:
                edits = []
                for cell in random.sample(table.cells, min(len(table.cells), random.choice((1, 1, 2)))):
                    types = {column.name: (column.type, column.name, column.nullable) for column in table.columns}
                    old, new = (tuple(self._value(*types[column]) for column in cell.columns) for _ in range(2))
                    columns_ = cell.columns if random.random() < 0.99 else ("no_such",) * len(cell.columns)
                    called = cell.name if random.random() < 0.99 else f"no_such{len(cell.columns)}"
                    edits.append(Edit(called, columns_, old, new, known, since, wall))
                return Update(name, key, edits)
        return Delete(name, key, known, since)

    def _value(self, kind: str, column: str, nullable: bool) -> Any:
        """Return a value for a column: mostly of its type, mostly one that points somewhere."""
        random = self.random
        if random.random() < 0.004:
            return value(self.mutator)
        if random.random() < (0.15 if nullable else 0.004):
            return None
        if kind == "text":
            parent = column.removesuffix("_id")
            if column == "branch_id":
                return self._one_of("LON", "EDI", rare=BRANCHES)
            if column in ("owner_id", "employee_id"):
                return random.choice(("e0", "e1", "e2", "e9"))
            if parent in self.keys:
                return random.choice(self.keys[parent])
            return self._one_of("a", "b", '["x","y"]', rare=("x" * 3000, "", *TEXTS[3:5], "y" * 100_000))
        if kind == "integer":
            return self._one_of(1, 2, 500, rare=[number for number in NUMBERS if -(2**63) <= number < 2**63])
        return 1.5 if kind == "real" else b"blob"

    # --- push ----------------------------------------------------------------------------------------------------------------

    def push_request(self, who: Attacker, bodies: Sequence[bytes] | None = None) -> PushRequest:
        """Return a push that follows on from what the centre holds, or nearly."""
        random, head, end = self.random, self.centre.head(), self.centre.end(who.incarnation)
        before = self._one_of(
            end,
            rare=(
                Point(0, bytes(32)),
                self._own_point(who),
                Point(end.number + 1, end.digest),
                Point(end.number, bytes(32)),
                Point(-1, bytes(32)),
            ),
        )
        if bodies is None:
            first = self._one_of(1 + end.number * 3, rare=(0, 1, 2**53))
            bodies = [self.work(first + 10 * number) for number in range(random.choice((0, 1, 1, 1, 2, 4)))]
        at, segments = before, []
        for body in bodies:
            at = segment_point(Point(max(at.number, 0), at.digest), body)
            segments.append(Sealed(body, at.digest if random.random() < 0.98 else bytes(32), self._again(head)))
        if random.random() < 0.03:
            segments = segments[::-1] + segments[:1]
        incarnation, parent = who.incarnation, None
        if random.random() < 0.08:  # another life, rightly or wrongly come by
            parent = Parent(self._one_of(who.incarnation, rare=(bytes(16), self._who().incarnation)), self._own_point(who))
            incarnation = self._one_of(random.randbytes(16), rare=(bytes(16), self._who().incarnation))
            if random.random() < 0.5:
                at, parent_end = Point(0, bytes(32)), before
                segments = [Sealed(body, (at := segment_point(at, body)).digest, None) for body in bodies]
                before = Point(0, bytes(32)) if parent_end.number >= 0 else parent_end
        adopted = (
            tuple(row[0] for row in self._sample("SELECT segment FROM _chain ORDER BY inc DESC, seq DESC LIMIT 100"))
            if random.random() < 0.1
            else ()
        )
        return PushRequest(
            *(
                1,
                self._epoch(),
                incarnation,
                parent,
                self._point(head),
                self._point(head),
                before,
                tuple(segments),
                adopted,
            ),
            self._one_of(self.centre.world.clock.now, rare=(0, -(2**53), 2**53)),
            Told(self._one_of(0, rare=(2**53,)), 0, 0, 0),
        )

    def _own_point(self, who: Attacker) -> Point:
        sql = "SELECT c.seq, c.digest FROM _chain c JOIN _incarnation i USING (inc) WHERE i.id = ? ORDER BY c.seq"
        found = self.centre.all(sql, who.incarnation)
        return Point(*self.random.choice(found)) if found else Point(0, bytes(32))

    def _point(self, head: Point) -> Point:
        """Return a point of the centre's chain, or one that looks like it."""
        if self.random.random() < 0.96:
            return head
        number = self.random.choice((0, head.number, head.number - 1, head.number // 2, head.number + 1, -1, 2**62))
        found = self.centre.all("SELECT digest FROM _journal WHERE ver = ?", number)
        return Point(number, found[0][0] if found and self.random.random() < 0.9 else bytes(32))

    def _push(self) -> Asked:
        who = self._who()
        request = self.push_request(who)
        self.sent = [*self.sent[-40:], (who, request)]
        return self._signed(who, "/v1/push", request)

    def _push_again(self) -> Asked:
        """An old push, as it was, or its segments in another order, or under another name."""
        if not self.sent:
            return self._push()
        who, request = self.random.choice(self.sent)
        if self.random.random() < 0.5:
            bodies = [sealed.body for sealed in request.segments]
            self.random.shuffle(bodies)
            request = self.push_request(self._who(), bodies)
        return self._signed(who, "/v1/push", request)

    def _push_spoiled(self) -> Asked:
        return self._spoiled("/v1/push", self.push_request(self._who()))

    def _push_of_spoiled_segment(self) -> Asked:
        who, head = self._who(), self.centre.head().number
        plain = (
            wire.expand(self.work(1), 1 << 26)
            if self.random.random() < 0.7
            else wire.expand(corpus.segment(1, head, self.random.randbytes(16)), 1 << 26)
        )
        plain = self.mutator.packed(plain) if self.random.random() < 0.9 else self.random.choice(corpus.plains()[Segment])
        return self._signed(who, "/v1/push", self.push_request(who, [self.mutator.frame(plain)]))

    def _spoiled(self, path: str, request: Message) -> Asked:
        body = self.mutator.frame(self.mutator.packed(msgspec.msgpack.encode(request)))
        return self.centre.signed(self._who(), path, body)

    def _signed(self, who: Attacker, path: str, request: Message) -> Asked:
        return self.centre.signed(who, path, wire.pack(request))

    # --- pull, verify, join ----------------------------------------------------------------------------------------------------

    def _pull_request(self, who: Attacker) -> PullRequest:
        head = self.centre.head()
        position = None
        if self.random.random() < 0.3:
            near = (0, 1, 2, head.number - 1, head.number, head.number + 1, -1, 2**62)
            low, high, version, row = (self.random.choice(near) for _ in range(4))
            plan = int(self.centre.world.schema.centre.digest[:8], 16)  # another one begins the sweep anew (P-8.8)
            step, owed = self._one_of(0, 3, 40, rare=(2**53,)), self._one_of(0, 1, 7, rare=(2**53,))
            position = Position(max(low, -1), max(high, -1), step, max(version, -1), max(row, -1), self._one_of(plan, rare=(0,)), owed)
        cursor = self._one_of(self._point(head), rare=(Point(0, bytes(32)),))
        rows = self._one_of(0, 1, 3, 10_000, rare=(2**53, 60_001))
        return PullRequest(
            1,
            self._epoch(),
            self._any_incarnation(who),
            cursor,
            self._point(head),
            position,
            rows,
            Told(0, self._one_of(0, rare=(2**53,)), 0, 0),
        )

    def _epoch(self) -> Any:
        """Return which life of the centre this is, or another."""
        return self._one_of(self.centre.all("SELECT epoch FROM _server")[0][0], rare=(0, 1, 2, 2**53))

    def _any_incarnation(self, who: Attacker) -> Any:
        return self._one_of(who.incarnation, rare=(bytes(16), self._who().incarnation, self.random.randbytes(16)))

    def _pull(self) -> Asked:
        who = self._who()
        return self._signed(who, "/v1/pull", self._pull_request(who))

    def _verify_request(self, who: Attacker) -> VerifyRequest:
        random, ranges, wanted = self.random, list[KeyRange](), None
        while random.random() < 0.5:
            table = random.choice(self.tables)
            low, high = sorted(random.sample(self.keys[table.name], 2))
            bounds = [values_of([key, *"x" * (len(table.key) - 1)]) if random.random() < 0.8 else None for key in (low, high)]
            ranges.append(KeyRange(self._one_of(table.name, rare=("no_such",)), *bounds, self._one_of(0, 3, rare=(2**53,))))
        if random.random() < 0.3:
            table = random.choice(self.tables)
            some = (*self.keys[table.name], "")
            keys = [tuple(self._one_of(*some, rare=(5, None)) for _ in table.key) for _ in range(random.choice((0, 1, 5)))]
            wanted = Wanted(table.name, len(keys), columns_of(keys, len(table.key)))
        epoch, point = self._epoch(), self._point(self.centre.head())
        return VerifyRequest(1, epoch, self._any_incarnation(who), point, tuple(ranges), wanted)

    # --- after a restore ---------------------------------------------------------------------------------------------------------

    def _again(self, head: Point) -> Again | None:
        """Say of a segment that it comes again from a history that was lost, now and then; nobody restored anything."""
        if self.random.random() > 0.05:
            return None
        versions = (-1, 0, head.number, head.number + 5, 2**62)
        exceptions = (Exceptional(0, self.random.choice(("held", "refused", "accepted")), head.number, "right", "so it was"),)
        told = exceptions if self.random.random() < 0.3 else ()
        return Again(self.random.choice(versions), self.random.choice(versions), self.random.random() < 0.2, told)

    def _heal(self) -> Asked:
        who = self._who()
        points = tuple(self._point(self.centre.head()) for _ in range(self.random.choice((0, 1, 3))))
        return self._signed(who, "/v1/heal", HealRequest(1, self._epoch(), self._any_incarnation(who), points))

    def _snapshot(self) -> Asked:
        who, name = self._who(), self._one_of(None, rare=(self.random.randbytes(32),))
        epoch, life = self._epoch(), self._any_incarnation(who)
        highest, have = self._point(self.centre.head()), self._one_of(0, 1, 2**40, rare=(2**53,))
        return self._signed(who, "/v1/snapshot", SnapshotRequest(1, epoch, life, highest, self._one_of(1, 2, rare=(0, 99)), name, have))

    def _offer(self) -> Asked:
        """Pages of a history that never was, most of them well boxed."""
        who, key = self._who(), box.public_key(self.centre.all("SELECT box_key FROM _server")[0][0])
        pages = []
        for _ in range(self.random.choice((0, 1, 2))):
            plain = self.random.choice(corpus.plains()[Page])
            body = self.mutator.frame(self.mutator.packed(plain) if self.random.random() < 0.7 else plain)
            boxed = box.close(key, body)
            boxed = self.mutator.flip(boxed) if self.random.random() < 0.2 else boxed
            pages.append(Offered(self._one_of(1, 7, self.centre.head().number + 1, rare=(-1, 2**62)), boxed))
        known = (self._point(self.centre.head()), self._one_of(self.centre.head(), rare=(Point(0, bytes(32)),)))
        return self._signed(who, "/v1/offer", OfferRequest(1, self._epoch(), self._any_incarnation(who), *known, tuple(pages)))

    def _verify(self) -> Asked:
        who = self._who()
        return self._signed(who, "/v1/verify", self._verify_request(who))

    def _join(self) -> Asked:
        code = self._one_of("ABCD-EFGH-JKLM-NPQR", rare=("", "x" * 201, "ß" * 100, "\u0131" * 19, " " * 50))
        protocols = self._one_of((1,), (1, 2), rare=((), (2,), (2**53,), tuple(range(100))))
        plain = msgspec.msgpack.encode([protocols, code, self.random.randbytes(32), self.random.randbytes(16)])
        if self.random.random() < 0.5:
            text = wire.pack_json(JoinRequest((1,), "CODE", self.random.randbytes(32), self.random.randbytes(16)))
            return Asked("POST", "/v1/join", [("Content-Type", JSON)], self.mutator.flip(text) if self.random.random() < 0.8 else text)
        body = self.mutator.frame(self.mutator.packed(plain) if self.random.random() < 0.7 else plain)
        return Asked("POST", "/v1/join", [("Content-Type", MEDIA)], body)

    # --- headers, addresses ------------------------------------------------------------------------------------------------------

    def _some_headers(self) -> Headers:
        names = (
            "Host",
            "X-Forwarded-For",
            "Forwarded",
            "Accept",
            "Content-Encoding",
            "Cookie",
            "Range",
            "If-None-Match",
            "Accept-Encoding",
        )
        texts = ("localhost", "[::1]:1", "evil.example", "127.0.0.1", "::", "gzip", "bytes=0-", "a" * 500, "é\x7f")
        return [(self.random.choice(names), self.random.choice(texts)) for _ in range(self.random.choice((0, 0, 1, 2)))]

    def _headers(self) -> Asked:
        """A good request whose headers are spoiled."""
        who = self._who()
        path = self.random.choice(PATHS[:5])
        asked = self.centre.signed(who, path, wire.pack(self._pull_request(who)))
        headers = list(asked.headers)
        for _ in range(self.random.choice((1, 1, 2))):
            at = self.random.randrange(len(headers))
            name, text = headers[at]
            match self.random.randrange(6):
                case 0:
                    headers[at] = (name, _line(self.mutator.text(text)))
                case 1:
                    del headers[at]
                    headers = headers or [("X", "y")]
                case 2:
                    headers.insert(at, (name, text))
                case 3:
                    headers.append(
                        (
                            self.random.choice(("Content-Length", "Content-Encoding", "Content-Type")),
                            self.random.choice(("0", "-1", "9" * 30, "gzip", "²", "identity")),
                        )
                    )
                case 4:
                    headers[at] = (name, text + ", " + text)
                case _:
                    headers.append(("X-Long", "a" * self.random.choice((10, 5_000, 16_000, 20_000))))
        return Asked(asked.method, path, headers, self.mutator.flip(asked.body) if self.random.random() < 0.2 else asked.body)

    def _address(self) -> Asked:
        path, method = self.random.choice((*PATHS, *PAGES, *ODD_PATHS)), self.random.choice(METHODS)
        asked = self.centre.signed(self._who(), path, b"{}")
        return Asked(method, path, asked.headers, asked.body, self.random.choice(("", "", "a=1", "%00", "x" * 2000)))

    def _replay(self) -> Asked:
        return self.random.choice(self.asked) if self.asked else self._address()


def _line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
