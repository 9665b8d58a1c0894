"""The engine behind the HTTP surface: each request of the protocol as one transaction on the server's database.

server/app.py checks form, size and signature and calls this; nothing is kept between requests but the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from schema.capture import Look, Store
from server import centre, filling, healing, ingest, journal, nodes, pulling, verify
from server.database import Database, raise_if_away
from server.turns import Turns
from sync import box
from sync.errors import Diverged
from sync.limits import PROTOCOL_VERSIONS
from sync.messages import (
    HealReply,
    HealRequest,
    JoinReply,
    JoinRequest,
    OfferReply,
    OfferRequest,
    Page,
    PullRequest,
    PushReply,
    PushRequest,
    VerifyReply,
    VerifyRequest,
)

TRIES_MAX = 10

P = ParamSpec("P")
R = TypeVar("R")


def again_where_others_wrote(method: Callable[Concatenate[Service, P], R]) -> Callable[Concatenate[Service, P], R]:
    """Let a request that met a central program on the same rows do its work again, on what is there then: nothing of it was kept."""

    @wraps(method)
    def tried(self: Service, /, *args: P.args, **kwargs: P.kwargs) -> R:
        dialect = self.database.dialect
        for tries_left in reversed(range(TRIES_MAX)):
            try:
                return method(self, *args, **kwargs)
            except dialect.errors as error:
                if not dialect.is_passing(error) or not tries_left:
                    raise_if_away(dialect, error)
                    raise
        raise AssertionError("the last try returns or raises")

    return tried


class Service:
    """One server's engine. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._turns = Turns(database)

    @again_where_others_wrote
    def key_of(self, node: str) -> bytes:
        """Return a node's public key. Raises UnknownNode, Revoked."""
        with self.database.reading() as store:
            return nodes.public_key(store, node)

    @again_where_others_wrote
    def join(self, request: JoinRequest, now_ms: int) -> JoinReply:
        """Use an invitation. Raises BadInvitation."""
        with self.database.writing() as store:
            identity, name = nodes.join(store, request.code, request.public_key, request.incarnation, now_ms)
            protocol = max(set(request.protocols) & set(PROTOCOL_VERSIONS))
            key = box.public_key(healing.box_key(store))
            return JoinReply(protocol, identity, name, journal.epoch(store), store.schema.version, key)

    @again_where_others_wrote
    def push(self, node: str, request: PushRequest, now_ms: int) -> PushReply:
        """Take a node's segments exactly once."""

        def take(store: Store) -> PushReply:
            self._same_epoch(request.epoch, journal.epoch(store))
            return ingest.push(store, nodes.number_of(store, node), node, request, now_ms)

        return self._turns.exchange(take, now_ms)

    @again_where_others_wrote
    def pull(self, node: str, request: PullRequest, now_ms: int) -> Page:
        """Return a page of a node's feed."""
        with self._up_to_date(now_ms) as store:
            self._same_epoch(request.epoch, journal.epoch(store))
            number = nodes.number_of(store, node)
            page = pulling.pull(store, number, request, self.database.life(store))
            is_new = store.connection.execute("SELECT 1 FROM _node WHERE node = ? AND unsynced IS NULL", (number,)).fetchone() is not None
        if page.position is None:
            self._note_pull(number, request, page, now_ms)
        elif is_new:  # its first pull may take long: who has the first page was heard of
            sql = "UPDATE _node SET unsynced = ? WHERE node = ?"
            self._turns.write(lambda store: store.connection.execute(sql, (request.told.unsynced, number)))
        return page

    @again_where_others_wrote
    def verify(self, node: str, request: VerifyRequest, now_ms: int) -> VerifyReply:
        """Return the digests of a node's scope at its cursor."""
        with self._up_to_date(now_ms) as store:
            self._same_epoch(request.epoch, journal.epoch(store))
            return verify.verify(store, nodes.number_of(store, node), request)

    @again_where_others_wrote
    def heal(self, node: str, request: HealRequest, now_ms: int) -> HealReply:
        """Tell what this centre still has of the history a node remembers. Begins a new epoch if that is less than all."""
        with self.database.writing() as store, centre.engine_writes(store, now_ms):
            return healing.heal(store, nodes.number_of(store, node), request, now_ms)

    @again_where_others_wrote
    def offer(self, node: str, request: OfferRequest, now_ms: int) -> OfferReply:
        """Take what a node had pulled of a lost history."""
        with self.database.writing() as store, centre.engine_writes(store, now_ms):
            self._same_epoch(request.epoch, journal.epoch(store))
            reply = filling.offer(store, nodes.number_of(store, node), request, now_ms)
            ingest.release(store, now_ms)
            return reply

    @again_where_others_wrote
    def health(self) -> dict[str, object]:
        """Return the server's version and epoch."""
        with self.database.reading() as store:
            return {"version": journal.head(store).number, "epoch": journal.epoch(store)}

    @again_where_others_wrote
    def absorb(self, now_ms: int) -> None:
        """Journal what central programs wrote, if they wrote anything, and release what waited for it, or is due."""
        with self.database.reading() as store:
            if not _has_to_absorb(store):
                return
        self._absorb(now_ms)

    @contextmanager
    def _up_to_date(self, now_ms: int) -> Iterator[Store]:
        """Give a snapshot in which what central programs had written is journaled."""
        with self.database.reading() as store:
            if not _has_to_absorb(store):
                yield store
                return
        self._absorb(now_ms)
        with self.database.reading() as store:
            yield store

    def _absorb(self, now_ms: int) -> None:
        with self.database.writing() as store, centre.engine_writes(store, now_ms) as absorbed:
            if absorbed or ingest.due(store):
                ingest.release(store, now_ms)

    def _note_pull(self, node: int, request: PullRequest, page: Page, now_ms: int) -> None:
        told = request.told

        def note(store: Store) -> None:
            store.connection.execute(
                "UPDATE _node SET last_pull_ms = ?, unsynced = ?, conflicts = ?, held = ?, cursor = ?, schema = ? WHERE node = ?",
                (now_ms, told.unsynced, told.conflicts, told.held, page.to.number, request.schema, node),
            )
            store.connection.execute(
                "INSERT INTO _differing (node, rows, told_ms) VALUES (?, ?, ?) ON CONFLICT (node)"
                " DO UPDATE SET rows = excluded.rows, told_ms = excluded.told_ms",
                (node, told.differing, now_ms),
            )

        self._turns.write(note)

    @staticmethod
    def _same_epoch(theirs: int, ours: int) -> None:
        if theirs != ours:
            raise Diverged(f"The centre was restored: its history is number {ours}, this node knows number {theirs}.")


def _has_to_absorb(store: Store) -> bool:
    """Tell whether central programs wrote something that is not journaled, or held work is to be looked at."""
    return bool(Look(store)) or ingest.due(store)
