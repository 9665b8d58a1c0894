"""Offering: the exchange in which a restored centre gets the rows of others that its lost history held.

    healing.to_offer ─► pages in boxes ══offer══► the centre has them again: healing.offered
                                        ├► too large: one by one; too large by itself: passed over, nothing else waits for it
                                        └► not read whole: kept back, and offered again when the centre may know more

Every step is durable before the next begins. Spec: PROTOCOL.md §7.7. Driven by node/cycle.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from node import healing
from node.database import OFFERING, SOUND, Database, State, hear, read_state
from node.transport import Exchange
from sync.errors import Stale, TooLarge
from sync.limits import PROTOCOL_VERSIONS
from sync.messages import Offered, OfferRequest, PushRequest


@dataclass(slots=True)
class Offering:
    """What a restored centre could not be given of rows of others."""

    too_large: int = 0  # rows that no request can carry
    unread: int = 0  # pages with something that the centre does not know yet; they are offered again


def offer(database: Database, exchange: Exchange) -> Offering:
    """Offer a restored centre what it may lack. Raises what an exchange raises."""
    alone, done = False, Offering()
    while database.state().healing in (OFFERING, SOUND) and (pages := healing.to_offer(database.store, alone=alone)):
        try:
            done.unread += _offer(database, exchange, pages)
        except TooLarge:
            alone = len(pages) > 1  # one by one until it is found, then together again
            if not alone:
                with database.writing() as store:
                    done.too_large += healing.pass_over(store, pages[0][0])
    return done


def _offer(database: Database, exchange: Exchange, pages: list[tuple[int, Offered]]) -> int:
    """Offer pages; return how many of them the centre could not read whole."""
    if not healing.fits(pages):
        raise TooLarge
    state = database.state()
    known = (state.epoch, state.incarnation, state.cursor, state.highest)
    offered = OfferRequest(PROTOCOL_VERSIONS[-1], *known, tuple(page for _, page in pages))
    reply = exchange.offer(offered)
    with database.writing() as store:
        require_life(read_state(store.connection), offered)
        unread = {pages[place][0] for place in reply.unread if place < len(pages)}
        healing.offered(store, [number for number, _ in pages if number not in unread], reply.head.number)
        healing.keep_back(store, unread)
        if not unread and state.healing == SOUND:  # one that it could not read before
            healing.try_all_again(store)
        hear(store, reply.head)
    return len(unread)


def require_life(state: State, request: PushRequest | OfferRequest) -> None:
    """Check that a reply answers this very life of the node: another process may have healed it meanwhile, and what the centre
    took in a history that it lost must not count as taken. Raises Stale.
    """
    _require_same(state, (request.epoch, request.incarnation))


def require_same_life(state: State, before: State) -> None:
    """Check that this is the life of the node that something was asked in. Raises Stale."""
    _require_same(state, (before.epoch, before.incarnation))


def _require_same(state: State, life: tuple[int, bytes]) -> None:
    if (state.epoch, state.incarnation) != life:
        raise Stale("another process of this node has begun a new history meanwhile")
