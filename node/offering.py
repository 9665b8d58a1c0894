"""Offering: the exchange in which a restored centre gets the rows of others that its lost history held.

    healing.to_offer ─► pages in boxes ══offer══► the centre has them again: healing.offered
                                        └► too large: one by one; too large by itself: passed over, nothing else waits for it

Every step is durable before the next begins. Spec: PROTOCOL.md §7.7. Driven by node/cycle.py.
"""

from __future__ import annotations

from node import healing
from node.database import OFFERING, SOUND, Database, State, hear, read_state
from node.transport import Exchange
from sync.errors import Stale, TooLarge, UnknownTable
from sync.limits import PROTOCOL_VERSIONS
from sync.messages import Offered, OfferRequest, PushRequest


def offer(database: Database, exchange: Exchange) -> int:
    """Offer a restored centre what it may lack; return how many rows no request could carry. Raises what an exchange raises."""
    alone, too_large = False, 0
    while database.state().healing in (OFFERING, SOUND) and (pages := healing.to_offer(database.store, alone=alone)):
        try:
            _offer(database, exchange, pages)
        except UnknownTable:  # of a newer declaration than the centre has now: kept until it is upgraded again
            with database.writing() as store:
                healing.keep_back(store, [number for number, _ in pages])
        except TooLarge:
            alone = len(pages) > 1  # one by one until it is found, then together again
            if not alone:
                with database.writing() as store:
                    too_large += healing.pass_over(store, pages[0][0])
    return too_large


def _offer(database: Database, exchange: Exchange, pages: list[tuple[int, Offered]]) -> None:
    if not healing.fits(pages):
        raise TooLarge
    state = database.state()
    known = (state.epoch, state.incarnation, state.cursor, state.highest)
    offered = OfferRequest(PROTOCOL_VERSIONS[-1], *known, tuple(page for _, page in pages))
    reply = exchange.offer(offered)
    with database.writing() as store:
        require_life(read_state(store.connection), offered)
        healing.offered(store, [number for number, _ in pages], reply.head.number)
        hear(store, reply.head)


def require_life(state: State, request: PushRequest | OfferRequest) -> None:
    """Check that a reply answers this very life of the node: another process may have healed it meanwhile, and what the centre
    took in a history that it lost must not count as taken. Raises Stale.
    """
    if (state.epoch, state.incarnation) != (request.epoch, request.incarnation):
        raise Stale("another process of this node has begun a new history meanwhile")
