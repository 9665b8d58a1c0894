"""Pull: one page of a node's feed, put together from what was found for it. Spec: PROTOCOL.md §8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from schema.capture import Store
from server import histories, horizon, journal, proof, windows
from server.feed import Feed
from server.skew import View
from sync.messages import Page, Point, PullRequest, Removals

Block = TypeVar("Block")


def pull(store: Store, node: int, request: PullRequest, life: bytes, now_ms: int) -> Page:
    """Return the next page for a node, on the caller's snapshot, with the `life` of the server that it is read in.

    Raises Diverged, UnknownIncarnation, TooLate, Malformed.
    """
    journal.require(store, request.cursor, request.highest)
    inc, chain = histories.find(store, node, request.incarnation)
    horizon.require_kept(store, node, request)
    # one edge for all pages: what a page has of a transaction, another must not leave out
    edge = windows.edge_of(store, node, request.edge, now_ms) if request.position is None else request.position.edge
    view = View.of(store, request.schema, edge)
    feed = Feed(store, node, inc, request.cursor.number, view, frozenset(request.afresh))
    draft, position = feed.page(request.position, request.rows)
    return Page(
        epoch=journal.epoch(store),
        incarnation=request.incarnation,
        since=request.cursor.number,
        head=feed.head.number,
        to=Point(feed.head.number, feed.head.digest),
        chain=chain,
        position=position,
        rows=tuple(_some(view.rows(store.schema.by_name[name], _unique(rows)) for name, rows in draft.rows.items() if rows)),
        sealed=tuple(draft.sealed),
        removals=_removals(view, draft.removals),
        deaths=_removals(view, draft.deaths),
        conflicts=view.conflicts(draft.conflicts),
        segments=tuple(draft.segments),
        verdicts=tuple(draft.verdicts),
        points=journal.backups(store, request.cursor.number) if position is None else (),
        covered=journal.covered(store),
        proof=proof.make(view, node, feed.scope, feed.cursor, feed.head.number) if position is None else None,
        schema=view.version,
        after=request.position,
        life=life,
        afresh=request.afresh,
        edge=view.edge,
    )


def _some(blocks: Iterable[Block | None]) -> Iterator[Block]:
    return (block for block in blocks if block is not None)


def _unique(rows: list[Any]) -> list[Any]:
    return list({row[-1]: row for row in rows}.values()) if len({row[-1] for row in rows}) != len(rows) else rows


def _removals(view: View, found: dict[str, dict[tuple[Any, ...], None]]) -> tuple[Removals, ...]:
    tables = [(view.store.schema.by_name[name], list(keys)) for name, keys in found.items() if keys]
    return tuple(_some(view.removals(table, keys) for table, keys in tables))
