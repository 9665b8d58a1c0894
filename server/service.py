"""The engine behind the HTTP surface: each request of the protocol as one transaction on the server's database.

server/app.py checks form, size and signature and calls this; nothing is kept between requests but the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from schema.capture import Store
from server import absorbing, centre, filling, healing, ingest, journal, nodes, pulling, together, verify
from server.board import Board, Note
from server.database import Database, raise_if_away
from server.snapshot import answer as snapshots
from server.snapshot.making import Maker
from sync import box
from sync.errors import Diverged, without_frames
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
    SnapshotReply,
    SnapshotRequest,
    VerifyReply,
    VerifyRequest,
)

TRIES_MAX = 10
PATIENT_TRIES = 4
"""How often a request meets central programs on the same rows before it goes ahead of them (`Database.ahead_of_programs`)."""

log = logging.getLogger("outpost.server")

_WENT_BACK = (
    "this database's history went back: node %s remembers more of it than is here. A backup was put back, or a replica that lagged took"
    " over. Common to both is what came up to version %d; nodes offer the rest again as they sync. History number %d begins."
)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def again_where_others_wrote(method: Callable[Concatenate[Service, P], R]) -> Callable[Concatenate[Service, P], R]:
    """Let a request that met a central program on the same rows do its work again, on what is there then: nothing of it was kept."""

    @wraps(method)
    def tried(self: Service, /, *args: P.args, **kwargs: P.kwargs) -> R:
        dialect = self.database.dialect
        for number in range(1, TRIES_MAX + 1):
            try:
                with nullcontext() if number <= PATIENT_TRIES else self.database.ahead_of_programs():
                    return method(self, *args, **kwargs)
            except dialect.errors as error:
                if not dialect.is_passing(error) or number == TRIES_MAX:
                    raise_if_away(dialect, error)
                    raise
        raise AssertionError("the last try returns or raises")

    return tried


class Service:
    """One server's engine. Thread-safe."""

    def __init__(self, database: Database, maker: Maker | None = None) -> None:
        """Serve a database; without a `maker` nobody is told a snapshot."""
        self.database, self._maker = database, maker
        self._board = Board(self._noted)

    def key_of(self, node: str) -> bytes:
        """Return a node's public key. Raises UnknownNode, Revoked."""
        return _only(self.keys_of([node]))

    @again_where_others_wrote
    def keys_of(self, identities: Sequence[str]) -> list[bytes | Exception]:
        """Return the public keys of nodes; of one that may not speak why: UnknownNode, Revoked."""

        with self.database.reading() as store:
            return nodes.public_keys(store, identities)

    @again_where_others_wrote
    def join(self, request: JoinRequest, now_ms: int) -> JoinReply:
        """Use an invitation. Raises BadInvitation."""
        with self.database.writing() as store:
            identity, name = nodes.join(store, request.code, request.public_key, request.incarnation, now_ms)
            protocol = max(set(request.protocols) & set(PROTOCOL_VERSIONS))
            key = box.public_key(healing.box_key(store))
            return JoinReply(protocol, identity, name, journal.epoch(store), store.schema.version, key)

    def push(self, node: str, request: PushRequest, now_ms: int) -> PushReply:
        """Take a node's segments exactly once."""
        return _only(self.push_all([(node, request)], now_ms))

    def push_all(self, requests: Sequence[tuple[str, PushRequest]], now_ms: int) -> list[PushReply | Exception]:
        """Take the segments of several nodes, committed together."""

        def taking(node: str, request: PushRequest) -> Callable[[Store], PushReply]:
            return lambda store: self._push(store, node, request, now_ms)

        return self._written([taking(node, request) for node, request in requests], now_ms)

    def _push(self, store: Store, node: str, request: PushRequest, now_ms: int) -> PushReply:
        self._same_epoch(request.epoch, journal.epoch(store))
        return ingest.push(store, nodes.number_of(store, node), node, request, now_ms)

    def pull(self, node: str, request: PullRequest, now_ms: int) -> Page:
        """Return a page of a node's feed."""
        return _only(list(self.pull_all([(node, request)], now_ms)))

    def pull_all(self, requests: Sequence[tuple[str, PullRequest]], now_ms: int) -> Iterator[Page | Exception]:
        """Yield a page of the feed of each of several nodes, of one snapshot. After the last, what the board of nodes shows of them is
        committed, with that of other pulls that wait.
        """
        notes: list[Note] = []
        for asked in self._each_page(requests, now_ms):
            if isinstance(asked, Exception):
                yield asked
            else:
                page, note = asked
                notes += [note] if note is not None else []
                yield page
        self._board.show(notes)

    def _noted(self, note: Note) -> Exception | None:
        return self._written([note])[0]

    def _each_page(self, requests: Sequence[tuple[str, PullRequest]], now_ms: int) -> Iterator[tuple[Page, Note | None] | Exception]:
        """Yield pages, one at a time in memory; from where the database failed on, each by itself."""
        done = 0
        with suppress(*self.database.dialect.errors), absorbing.up_to_date(self.database, now_ms) as store:
            life = self.database.life(store)
            for node, request in requests:
                yield self._answered(store, node, request, life, now_ms)
                done += 1
        for node, request in requests[done:]:
            try:
                yield self._page_alone(node, request, now_ms)
            except Exception as error:
                yield without_frames(error)

    def _answered(self, store: Store, node: str, request: PullRequest, life: bytes, now_ms: int) -> tuple[Page, Note | None] | Exception:
        try:
            return self._page(store, node, request, life, now_ms)
        except self.database.dialect.errors:
            raise
        except Exception as error:
            return without_frames(error)

    @again_where_others_wrote
    def _page_alone(self, node: str, request: PullRequest, now_ms: int) -> tuple[Page, Note | None]:
        with absorbing.up_to_date(self.database, now_ms) as store:
            return self._page(store, node, request, self.database.life(store), now_ms)

    def _page(self, store: Store, node: str, request: PullRequest, life: bytes, now_ms: int) -> tuple[Page, Note | None]:
        self._same_epoch(request.epoch, journal.epoch(store))
        number = nodes.number_of(store, node)
        page = pulling.pull(store, number, request, life, now_ms)
        if page.position is None:
            return page, lambda store: nodes.note_pull(store, number, request, page.to.number, now_ms)
        if not nodes.is_unheard_of(store, number):
            return page, None
        return page, lambda store: nodes.note_first_page(store, number, request.told)  # the rest may take long: it was heard of

    def _written(self, works: Sequence[Callable[[Store], T]], engine_ms: int | None = None) -> list[T | Exception]:
        """Carry works out together; each by itself where the database refused them, or somebody else wrote meanwhile."""

        @again_where_others_wrote
        def alone(self: Service, work: Callable[[Store], T]) -> T:
            return _only(together.write(self.database, [work], engine_ms))

        dialect, found = self.database.dialect, together.write(self.database, works, engine_ms)
        for place, error in enumerate(found):
            if not isinstance(error, dialect.errors):
                continue
            try:
                if not dialect.is_passing(error):
                    raise_if_away(dialect, error)
                found[place] = alone(self, works[place])
            except Exception as own:
                found[place] = without_frames(own)
        return found

    @again_where_others_wrote
    def verify(self, node: str, request: VerifyRequest, now_ms: int) -> VerifyReply:
        """Return the digests of a node's scope at its cursor."""
        with absorbing.up_to_date(self.database, now_ms) as store:
            self._same_epoch(request.epoch, journal.epoch(store))
            return verify.verify(store, nodes.number_of(store, node), request)

    @again_where_others_wrote
    def snapshot(self, node: str, request: SnapshotRequest, now_ms: int) -> SnapshotReply:
        """Return a part of a file with all rows of a node's scope, or how far one is; neither where the node is to pull."""
        if self._maker is None:
            return snapshots.PULL
        with absorbing.up_to_date(self.database, now_ms) as store:
            self._same_epoch(request.epoch, journal.epoch(store))
            number = nodes.number_of(store, node)
            found = snapshots.answer(store, number, request, self._maker, now_ms)
        if found.notes:
            with self.database.writing() as store:
                self._same_epoch(request.epoch, journal.epoch(store))
                if not snapshots.note(store, number, found, now_ms):
                    return snapshots.PULL
        if found.wanted:
            self._maker.want(found.wish, found.wanted)
        return found.reply

    @again_where_others_wrote
    def heal(self, node: str, request: HealRequest, now_ms: int) -> HealReply:
        """Tell what this centre still has of the history a node remembers. Begins a new epoch if that is less than all."""
        with self.database.writing() as store, centre.engine_writes(store, now_ms):
            before = journal.epoch(store)
            reply = healing.heal(store, nodes.number_of(store, node), request, now_ms)
        if reply.epoch != before:
            log.warning(_WENT_BACK, node, reply.shared.number, reply.epoch)
        return reply

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
            if not absorbing.has_to_absorb(store):
                return
        absorbing.absorb(self.database, now_ms)

    @staticmethod
    def _same_epoch(theirs: int, ours: int) -> None:
        if theirs != ours:
            raise Diverged(f"The centre was restored: its history is number {ours}, this node knows number {theirs}.")


def _only(outcomes: Sequence[T | Exception]) -> T:
    """Return the one outcome, or raise it."""
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
